//! Just enough of Rust's lexical rules to tell code from comments and strings, and to find paths.

/// The text with comments, strings and characters blanked out, line by line in place.
pub fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let end = match bytes[i] {
            b'/' if bytes[i..].starts_with(b"//") => find(bytes, i, b"\n"),
            b'/' if bytes[i..].starts_with(b"/*") => find(bytes, i + 2, b"*/") + 2,
            b'"' => string_end(bytes, i + 1),
            b'r' if !text[..i].ends_with(is_word) => match raw_string(bytes, i) {
                Some(end) => end,
                None => i,
            },
            b'\'' => char_end(bytes, i),
            _ => i,
        };
        let end = end.min(bytes.len());
        for byte in &mut code[i..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        i = end.max(i + 1);
    }
    String::from_utf8(code).expect("whole characters are blanked")
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> usize {
    let found = bytes[from.min(bytes.len())..]
        .windows(what.len())
        .position(|w| w == what);
    found.map_or(bytes.len(), |at| from + at)
}

fn string_end(bytes: &[u8], mut i: usize) -> usize {
    while i < bytes.len() && bytes[i] != b'"' {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    i + 1
}

/// The end of `r"..."` or `r#"..."#`, if one begins here.
fn raw_string(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|b| **b == b'#').count();
    let open = at + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    Some(find(bytes, open + 1, &close) + close.len())
}

/// The end of a character literal; a lifetime ends where it begins.
fn char_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at + 1) {
        Some(b'\\') => find(bytes, at + 3, b"'") + 1,
        Some(first) => {
            let width = first.leading_ones().max(1) as usize;
            if bytes.get(at + 1 + width) == Some(&b'\'') {
                at + width + 2
            } else {
                at
            }
        }
        None => at,
    }
}

/// First segments of the paths below `root::`, each with where it stands.
pub fn imports(code: &str, root: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let prefix = format!("{root}::");
    for (at, _) in code.match_indices(&prefix) {
        if code[..at].ends_with(|c: char| is_word(c) || c == ':' || c == '$') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            None => found.push((at, first_word(rest))),
            Some(group) => {
                found.extend(group_heads(group).into_iter().map(|head| (at, head)));
            }
        }
    }
    found
}

/// The first words of `a::b, c::{d, e}, f}`.
fn group_heads(group: &str) -> Vec<String> {
    let mut depth = 0_u32;
    let mut heads = vec![first_word(group.trim_start())];
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(first_word(group[i + 1..].trim_start())),
            _ => {}
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| is_word(*c)).collect()
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

pub fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = &code[..at];
        let after = &code[at + name.len()..];
        let path = after.starts_with("::") && !before.ends_with(|c: char| is_word(c) || c == ':');
        let import =
            before.trim_end().ends_with("use") && after.trim_start().starts_with([';', ' ']);
        path || import
    })
}

pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_no_code() {
        for quiet in [
            "\"x.unwrap()\"",
            "\"\\\"x.unwrap()\"",
            "r#\"\"x.unwrap()\"#",
            "/* x.unwrap() */",
            "// x.unwrap()",
            "('\"', \"x.unwrap()\")",
            "('\\'', \"x.unwrap()\")",
        ] {
            assert!(!code_of(quiet).contains("unwrap"), "{quiet}");
        }
        for loud in [
            "'\"'; x.unwrap()",
            "f::<'a>(\"\").unwrap()",
            "b\"\\\\\".unwrap()",
        ] {
            assert!(code_of(loud).contains("unwrap"), "{loud}");
        }
    }

    #[test]
    fn imports_are_found_in_groups_and_expressions() {
        let found = |code: &str| -> Vec<String> {
            imports(code, "crate")
                .into_iter()
                .map(|(_, module)| module)
                .collect()
        };
        assert_eq!(found("use crate::a::B; let x = crate::c::d();"), ["a", "c"]);
        assert_eq!(found("use crate::{\n  a::{B, C},\n  d,\n};"), ["a", "d"]);
        assert_eq!(found("$crate::a; my_crate::b; x::crate::c"), [""; 0]);
    }
}

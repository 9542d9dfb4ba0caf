//! Opaque texts that clients hand back: tokens of posts, and cursors of pages.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::problem::Problem;
use crate::time::Epoch;
use crate::view::RowPosition;

/// Says that an answer includes a post: the stream, and the position after its last record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) stream: String,
    pub(super) position: u64,
}

/// The place where the next page starts, pinned to an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) epoch: Epoch,
    /// Checksum of what was read: a cursor means nothing for another query or range.
    pub(super) scope: u32,
    pub(super) position: RowPosition,
}

/// The place where the next page of the changes between two epochs starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DiffCursor {
    pub(super) from: Epoch,
    pub(super) to: Epoch,
    /// Checksum of what was read.
    pub(super) scope: u32,
    /// How many changes were given out.
    pub(super) done: u64,
}

/// The place where a subscription goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resume {
    pub(super) run: u64,
    pub(super) epoch: Epoch,
    /// Checksum of what was subscribed to: what another query sent cannot be continued.
    pub(super) scope: u32,
}

const TOKEN: u8 = 1;
const CURSOR: u8 = 2;
const RESUME: u8 = 3;
const DIFF: u8 = 4;

impl Token {
    pub(super) fn encode(&self) -> String {
        seal(
            TOKEN,
            &[&self.position.to_le_bytes(), self.stream.as_bytes()],
        )
    }

    pub(super) fn decode(text: &str) -> Result<Token, Problem> {
        let read = || {
            let bytes = unseal(TOKEN, text)?;
            let (position, stream) = bytes.split_first_chunk()?;
            let stream = String::from_utf8(stream.to_vec()).ok()?;
            Some(Token {
                stream,
                position: u64::from_le_bytes(*position),
            })
        };
        read().ok_or_else(|| {
            Problem::parameter(
                "parameter 'after' is no token: use the `token` of a post's answer as it was given",
            )
        })
    }
}

impl Cursor {
    pub(super) fn encode(&self) -> String {
        let position = self.position.as_bytes();
        seal(
            CURSOR,
            &[
                &self.epoch.to_le_bytes(),
                &self.scope.to_le_bytes(),
                position,
            ],
        )
    }

    pub(super) fn decode(text: &str) -> Result<Cursor, Problem> {
        let read = || {
            let bytes = unseal(CURSOR, text)?;
            let (epoch, rest) = bytes.split_first_chunk()?;
            let (scope, position) = rest.split_first_chunk()?;
            Some(Cursor {
                epoch: u64::from_le_bytes(*epoch),
                scope: u32::from_le_bytes(*scope),
                position: RowPosition::from_bytes(position).ok()?,
            })
        };
        read().ok_or_else(no_cursor)
    }
}

impl DiffCursor {
    pub(super) fn encode(&self) -> String {
        let numbers = [self.from, self.to, self.done].map(u64::to_le_bytes);
        seal(DIFF, &[numbers.as_flattened(), &self.scope.to_le_bytes()])
    }

    pub(super) fn decode(text: &str) -> Result<DiffCursor, Problem> {
        let read = || {
            let bytes = unseal(DIFF, text)?;
            let (from, rest) = bytes.split_first_chunk()?;
            let (to, rest) = rest.split_first_chunk()?;
            let (done, scope) = rest.split_first_chunk()?;
            Some(DiffCursor {
                from: u64::from_le_bytes(*from),
                to: u64::from_le_bytes(*to),
                done: u64::from_le_bytes(*done),
                scope: u32::from_le_bytes(scope.try_into().ok()?),
            })
        };
        read().ok_or_else(no_cursor)
    }
}

fn no_cursor() -> Problem {
    Problem::parameter(
        "parameter 'cursor' is no cursor: use the `next` of an answer as it was given",
    )
}

impl Resume {
    pub(super) fn encode(&self) -> String {
        seal(
            RESUME,
            &[
                &self.run.to_le_bytes(),
                &self.epoch.to_le_bytes(),
                &self.scope.to_le_bytes(),
            ],
        )
    }

    /// Reads a token; `place` says where it stood.
    pub(super) fn decode(text: &str, place: &str) -> Result<Resume, Problem> {
        let read = || {
            let bytes = unseal(RESUME, text)?;
            let (run, rest) = bytes.split_first_chunk()?;
            let (epoch, rest) = rest.split_first_chunk()?;
            Some(Resume {
                run: u64::from_le_bytes(*run),
                epoch: u64::from_le_bytes(*epoch),
                scope: u32::from_le_bytes(rest.try_into().ok()?),
            })
        };
        read().ok_or_else(|| {
            Problem::parameter(format!(
                "{place} is no token of a subscription: use the `id` of an event as it was given, \
                 or none"
            ))
        })
    }
}

/// The kind, the parts and a checksum over both, as text for URLs.
fn seal(kind: u8, parts: &[&[u8]]) -> String {
    let mut bytes = vec![kind];
    for part in parts {
        bytes.extend_from_slice(part);
    }
    let check = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&check.to_le_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn unseal(kind: u8, text: &str) -> Option<Vec<u8>> {
    let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (content, check) = bytes.split_last_chunk()?;
    if crc32fast::hash(content) != u32::from_le_bytes(*check) || content.first() != Some(&kind) {
        return None;
    }
    bytes.truncate(bytes.len() - 4);
    bytes.remove(0);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_cursors_survive_the_round_trip() {
        let token = Token {
            stream: "clicks".into(),
            position: u64::MAX,
        };
        assert_eq!(Token::decode(&token.encode()), Ok(token));
        let position = RowPosition::from_bytes(&[7; 24]).unwrap();
        let cursor = Cursor {
            epoch: 42,
            scope: 7,
            position,
        };
        assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
        let diff = DiffCursor {
            from: 1,
            to: u64::MAX,
            scope: 7,
            done: 1000,
        };
        assert_eq!(DiffCursor::decode(&diff.encode()), Ok(diff));
        assert!(Cursor::decode(&diff.encode()).is_err());
        let resume = Resume {
            run: 3,
            epoch: u64::MAX,
            scope: 9,
        };
        assert_eq!(Resume::decode(&resume.encode(), "it"), Ok(resume));
    }

    #[test]
    fn any_changed_letter_is_found() {
        let text = Token {
            stream: "clicks".into(),
            position: 981,
        }
        .encode();
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert!(
                Token::decode(std::str::from_utf8(&other).unwrap()).is_err(),
                "letter {at}"
            );
        }
        for at in 0..text.len() {
            assert!(Token::decode(&text[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn no_kind_of_token_is_taken_for_another() {
        let position = RowPosition::from_bytes(&[7; 24]).unwrap();
        let cursor = Cursor {
            epoch: 42,
            scope: 7,
            position,
        }
        .encode();
        let token = Token {
            stream: "clicks".into(),
            position: 1,
        }
        .encode();
        let resume = Resume {
            run: 1,
            epoch: 2,
            scope: 3,
        }
        .encode();
        assert!(Token::decode(&cursor).is_err());
        assert!(Token::decode(&resume).is_err());
        assert!(Cursor::decode(&token).is_err());
        assert!(Cursor::decode(&resume).is_err());
        assert!(Resume::decode(&token, "it").is_err());
        assert!(Resume::decode(&cursor, "it").is_err());
    }
}

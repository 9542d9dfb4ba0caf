//! The commands that ask a running service and show its answer.

use std::io::Write;

use serde_json::Value;

use super::answers::{Pull, PulledRow, SinkInfo, StreamInfo};
use super::args::{QueryArgs, ServiceUrl};
use super::client::{Client, PullRequest};
use super::error::ClientError;
use super::print::{ABSENT, Grid, cells, date, harmless, plain, span};
use crate::view::CheckpointInfo;

/// Most rows the service gives at a time.
const PAGE_ROWS: usize = 10_000;

/// Shows a query's rows and what they are complete for.
pub fn show_query(args: &QueryArgs, out: &mut dyn Write) -> Result<(), ClientError> {
    let answer = pull(args)?;
    write_rows(&answer.rows, out)?;
    let (epoch, complete) = (answer.as_of, date(answer.complete_through));
    let stale = match answer
        .age_ms
        .map(|ms| i64::try_from(ms).unwrap_or(i64::MAX))
    {
        Some(age) => format!(", stale by {}", span(age)),
        None if answer.stale => ", stale".to_owned(),
        None => String::new(),
    };
    let count = match answer.rows.len() {
        1 => "1 row".to_owned(),
        count => format!("{count} rows"),
    };
    writeln!(
        out,
        "\n{count} as of epoch {epoch}, complete through {complete}{stale}"
    )?;
    if answer.next.is_some() {
        writeln!(
            out,
            "there are more: raise --limit, or narrow with --prefix"
        )?;
    }
    Ok(())
}

/// Asks page by page until the limit; returns all rows with the last page's labels.
fn pull(args: &QueryArgs) -> Result<Pull, ClientError> {
    let client = Client::new(&args.service)?;
    let most = args.limit as usize;
    let mut read = PullRequest {
        query: args.name.clone(),
        key: args.key.clone(),
        prefix: args.prefix.clone(),
        at: args.at,
        max_staleness: args.max_staleness.clone(),
        ..PullRequest::default()
    };
    let mut rows: Vec<PulledRow> = Vec::new();
    loop {
        let limit = (most - rows.len()).min(PAGE_ROWS) as u64;
        read.limit = args.key.is_none().then_some(limit);
        let mut answer = client.pull(&read)?;
        let is_empty = answer.rows.is_empty();
        rows.append(&mut answer.rows);
        if answer.next.is_none() || is_empty || rows.len() >= most {
            return Ok(Pull { rows, ..answer });
        }
        // A cursor is pinned to its epoch already.
        (read.cursor, read.at) = (answer.next, None);
    }
}

/// One column per part of the key and per field of the value.
fn write_rows(rows: &[PulledRow], out: &mut dyn Write) -> Result<(), ClientError> {
    let Some(first) = rows.first() else {
        return Ok(());
    };
    let parts = cells(&first.key).len();
    let fields: Vec<String> = match &first.value {
        Value::Object(fields) => fields.keys().cloned().collect(),
        _ => Vec::new(),
    };
    let with_final = rows.iter().any(|row| row.is_final.is_some());
    let mut headings: Vec<String> = vec!["KEY".to_owned()];
    headings.resize(parts, String::new());
    let side = |value: &Value| if value.is_number() { ">" } else { "" };
    if fields.is_empty() {
        headings.push(format!("{}VALUE", side(&first.value)));
    }
    for field in &fields {
        headings.push(format!(
            "{}{}",
            side(&first.value[field]),
            harmless(field).to_uppercase()
        ));
    }
    if with_final {
        headings.push("FINAL".to_owned());
    }
    let mut grid = Grid::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    for row in rows {
        let mut line = cells(&row.key);
        line.resize(parts, String::new());
        if fields.is_empty() {
            line.push(plain(&row.value));
        }
        line.extend(fields.iter().map(|field| plain(&row.value[field])));
        if with_final {
            line.push(
                if row.is_final == Some(true) {
                    "yes"
                } else {
                    "not yet"
                }
                .to_owned(),
            );
        }
        grid.row(line);
    }
    Ok(grid.write(out)?)
}

/// Shows, per query, what is answered and how fresh it is, per partition what is read, and per sink
/// what is sent.
///
/// Freshness is the age of the newest epoch by the service's own clock.
pub fn show_status(service: &ServiceUrl, out: &mut dyn Write) -> Result<(), ClientError> {
    let client = Client::new(service)?;
    let answer = client.queries()?;
    let mut grid = Grid::new(&[
        "QUERY",
        ">ROWS",
        "COMPLETE THROUGH",
        ">FRESH",
        ">LATE",
        ">REJECTED",
    ]);
    for query in &answer.queries {
        let upper = query.upper.and_then(|epoch| i64::try_from(epoch).ok());
        let age = upper.map(|epoch| (answer.now - epoch).max(0));
        grid.row(vec![
            harmless(&query.name),
            query.rows.to_string(),
            date(query.watermark),
            age.map_or(ABSENT.to_owned(), span),
            query.late.to_string(),
            query.rejected.to_string(),
        ]);
    }
    grid.write(out)?;
    for query in &answer.queries {
        if let Some(why) = &query.failed {
            writeln!(out, "{} failed: {}", harmless(&query.name), harmless(why))?;
        }
    }
    writeln!(out)?;
    write_streams(&client.streams()?.streams, out)?;
    write_sinks(&client.sinks()?.sinks, out)
}

fn write_streams(streams: &[StreamInfo], out: &mut dyn Write) -> Result<(), ClientError> {
    let headings = [
        "STREAM",
        "SOURCE",
        ">PARTITION",
        ">POSITION",
        ">LAG",
        "WATERMARK",
        "IDLE",
    ];
    let mut grid = Grid::new(&headings);
    for stream in streams {
        let source = stream.source.as_deref().map_or(ABSENT.to_owned(), harmless);
        let begin = [harmless(&stream.name), source];
        if stream.partitions.is_empty() {
            grid.row([&begin[..], &[(); 4].map(|()| ABSENT.to_owned())].concat());
        }
        for partition in &stream.partitions {
            let rest = [
                partition.partition.to_string(),
                partition.position.to_string(),
                partition.lag.to_string(),
                date(partition.watermark),
                if partition.idle { "idle" } else { "" }.to_owned(),
            ];
            grid.row([&begin[..], &rest].concat());
        }
    }
    grid.write(out)?;
    for stream in streams {
        let of_partitions = stream.partitions.iter().map(|partition| &partition.problem);
        let all = std::iter::once(&stream.problem).chain(of_partitions);
        for problem in all.flatten() {
            let (name, reason) = (harmless(&stream.name), harmless(&problem.reason));
            writeln!(out, "{name} cannot be read: {reason}")?;
        }
    }
    Ok(())
}

/// Shows how each sink fares; nothing where there are none.
fn write_sinks(sinks: &[SinkInfo], out: &mut dyn Write) -> Result<(), ClientError> {
    if sinks.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let headings = [
        "SINK",
        "QUERY",
        "TOPIC",
        "STATE",
        ">WAITING",
        ">LAG",
        ">COMMITTED",
    ];
    let mut grid = Grid::new(&headings);
    for sink in sinks {
        let [name, query, topic, state] =
            [&sink.name, &sink.query, &sink.topic, &sink.state].map(|text| harmless(text));
        grid.row(vec![
            name,
            query,
            topic,
            state,
            sink.waiting_messages.to_string(),
            sink.lag_ms.map_or(ABSENT.to_owned(), span),
            sink.committed_messages.to_string(),
        ]);
    }
    grid.write(out)?;
    for sink in sinks {
        if let Some(why) = &sink.reason {
            let [name, state, why] = [&sink.name, &sink.state, why].map(|text| harmless(text));
            writeln!(out, "{name} is {state}: {why}")?;
        }
    }
    Ok(())
}

/// Shows the checkpoints a running service keeps, newest first.
pub fn show_checkpoints(service: &ServiceUrl, out: &mut dyn Write) -> Result<(), ClientError> {
    let mut grid = Grid::new(&[">EPOCH", ">RUN", "PUBLISHED", ">ROWS", ">BYTES", "LABEL"]);
    let listed = Client::new(service)?.checkpoints()?;
    for checkpoint in listed.checkpoints {
        grid.row(vec![
            checkpoint.epoch.to_string(),
            checkpoint.run.to_string(),
            date(Some(checkpoint.published_at)),
            checkpoint.rows.to_string(),
            checkpoint.bytes.to_string(),
            checkpoint.label.unwrap_or_default(),
        ]);
    }
    grid.write(out)?;
    if let Some(problem) = listed.problem {
        writeln!(out, "the last checkpoint failed: {problem}")?;
    }
    Ok(())
}

/// Has a running service take a checkpoint now, and says which it is.
pub fn show_checkpoint_now(
    service: &ServiceUrl,
    label: Option<&str>,
    out: &mut dyn Write,
) -> Result<(), ClientError> {
    let CheckpointInfo {
        epoch, rows, bytes, ..
    } = Client::new(service)?.take_checkpoint(label)?;
    Ok(writeln!(
        out,
        "checkpoint of epoch {epoch} published: {rows} rows, {bytes} bytes"
    )?)
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::{at, serve};
    use super::*;

    fn shown(show: impl FnOnce(&mut dyn Write) -> Result<(), ClientError>) -> String {
        let mut out = Vec::new();
        show(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn query(url: &str, key: Option<&str>) -> QueryArgs {
        QueryArgs {
            name: "clicks_per_user".to_owned(),
            key: key.map(str::to_owned),
            at: Some(7),
            max_staleness: None,
            prefix: None,
            limit: 2,
            service: at(url),
        }
    }

    fn page(user: &str, is_final: bool, next: &str) -> (&'static str, String) {
        let row = format!(
            r#"{{"key":["{user}",{{"start":0,"end":300000}}],"value":1,"final":{is_final}}}"#
        );
        let labels = r#""as_of":7,"complete_through":295000,"stale":false"#;
        (
            "200 OK",
            format!(r#"{{{labels},"rows":[{row}],"next":{next}}}"#),
        )
    }

    #[test]
    fn a_query_is_shown_page_by_page_up_to_the_limit() {
        let (url, server) = serve(vec![page("u1", true, "\"c\""), page("u22", false, "\"d\"")]);
        let text = shown(|out| show_query(&query(&url, None), out));
        let window = "[1970-01-01T00:00:00Z, 1970-01-01T00:05:00Z)";
        let gap = " ".repeat(window.len());
        let expected = format!(
            "KEY  {gap}  VALUE  FINAL\n\
             u1   {window}      1  yes\n\
             u22  {window}      1  not yet\n\n\
             2 rows as of epoch 7, complete through 1970-01-01T00:04:55Z\n\
             there are more: raise --limit, or narrow with --prefix\n"
        );
        assert_eq!(text, expected);
        let lines = server.join().unwrap();
        assert_eq!(
            lines[0],
            "GET /v1/queries/clicks_per_user?limit=2&at=7 HTTP/1.1"
        );
        assert_eq!(
            lines[1],
            "GET /v1/queries/clicks_per_user?limit=1&cursor=c HTTP/1.1"
        );
    }

    #[test]
    fn a_key_is_looked_up() {
        let (url, server) = serve(vec![page("u1", true, "null")]);
        let text = shown(|out| show_query(&query(&url, Some("[\"u1\"]")), out));
        assert!(text.contains("1 row as of epoch 7"), "{text}");
        let line = "GET /v1/queries/clicks_per_user/key/%5B%22u1%22%5D?at=7 HTTP/1.1";
        assert_eq!(server.join().unwrap(), [line]);
    }

    #[test]
    fn the_fields_of_a_value_are_columns() {
        let row = PulledRow {
            key: "a".into(),
            value: serde_json::json!({"price": 5, "bidder": "b"}),
            is_final: None,
        };
        let text = shown(|out| write_rows(&[row], out));
        assert_eq!(text, "KEY  PRICE  BIDDER\na        5  b\n");
    }

    #[test]
    fn the_status_shows_queries_partitions_and_sinks() {
        let queries = r#"{"now":1200,"queries":[{"name":"page_views","rows":3,"upper":1000,
            "watermark":295000,"late":2,"rejected":0,"failed":"it panicked"}]}"#;
        let streams = r#"{"streams":[{"name":"visits","source":"log","partitions":[{"partition":0,
            "position":9,"lag":1,"watermark":295000,"idle":true}]},{"name":"clicks"}]}"#;
        let sinks = r#"{"sinks":[{"name":"s","query":"page_views","topic":"out","lag_ms":1500,
            "state":"retrying","reason":"no broker","waiting_messages":7,"waiting_bytes":70,
            "committed_messages":12}]}"#;
        let answers = [queries, streams, sinks].map(|body| ("200 OK", body.to_owned()));
        let (url, server) = serve(answers.to_vec());
        let text = shown(|out| show_status(&at(&url), out));
        let expected = "\
QUERY       ROWS  COMPLETE THROUGH       FRESH  LATE  REJECTED
page_views     3  1970-01-01T00:04:55Z  200 ms     2         0
page_views failed: it panicked

STREAM  SOURCE  PARTITION  POSITION  LAG  WATERMARK             IDLE
visits  log             0         9    1  1970-01-01T00:04:55Z  idle
clicks  -               -         -    -  -

SINK  QUERY       TOPIC  STATE     WAITING    LAG  COMMITTED
s     page_views  out    retrying        7  1.5 s         12
s is retrying: no broker
";
        assert_eq!(text, expected);
        assert_eq!(server.join().unwrap().len(), 3);
    }

    #[test]
    fn checkpoints_are_listed_and_taken() {
        let taken = r#"{"epoch":7,"run":1,"published_at":0,"bytes":10,"rows":2}"#;
        let (url, server) = serve(vec![
            ("200 OK", format!(r#"{{"checkpoints":[{taken}]}}"#)),
            ("200 OK", taken.to_owned()),
        ]);
        let service = at(&url);
        let listed = shown(|out| show_checkpoints(&service, out));
        assert!(
            listed.contains("7    1  1970-01-01T00:00:00Z     2     10"),
            "{listed}"
        );
        let now = shown(|out| show_checkpoint_now(&service, Some("a-b"), out));
        assert_eq!(now, "checkpoint of epoch 7 published: 2 rows, 10 bytes\n");
        assert_eq!(
            server.join().unwrap()[1],
            "POST /v1/checkpoints?label=a-b HTTP/1.1"
        );
    }
}

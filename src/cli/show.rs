//! The commands that ask a running service and show its answer.

use std::io::Write;

use serde_json::Value;

use super::args::{QueryArgs, ServiceUrl};
use super::client::{Client, ClientError, foreign, percent_encoded};
use super::print::{ABSENT, Grid, cells, harmless, instant, plain, span};

/// Most rows the service gives at a time.
const PAGE_ROWS: usize = 10_000;

/// Shows a query's rows and what they are complete for.
pub fn show_query(args: &QueryArgs, out: &mut dyn Write) -> Result<(), ClientError> {
    let (rows, last) = pull(args)?;
    write_rows(&rows, out)?;
    let epoch = plain(&last["as_of"]);
    let complete = instant(&last["complete_through"]);
    let stale = if last["stale"] == true { ", stale" } else { "" };
    let count = match rows.len() {
        1 => "1 row".to_owned(),
        count => format!("{count} rows"),
    };
    writeln!(
        out,
        "\n{count} as of epoch {epoch}, complete through {complete}{stale}"
    )?;
    if !last["next"].is_null() {
        writeln!(
            out,
            "there are more: raise --limit, or narrow with --prefix"
        )?;
    }
    Ok(())
}

/// Asks page by page until the limit; returns the rows and the last page's labels.
fn pull(args: &QueryArgs) -> Result<(Vec<Value>, Value), ClientError> {
    let client = Client::new(&args.service)?;
    let mut path = format!("/v1/queries/{}", percent_encoded(&args.name));
    if let Some(key) = &args.key {
        path = format!("{path}/key/{}", percent_encoded(key));
    }
    let most = args.limit as usize;
    let mut at = args.at.map(|epoch| epoch.to_string());
    let mut cursor: Option<String> = None;
    let mut rows: Vec<Value> = Vec::new();
    loop {
        let limit = (most - rows.len()).min(PAGE_ROWS).to_string();
        let limit = args.key.is_none().then_some(limit);
        let given = [
            ("limit", &limit),
            ("at", &at),
            ("prefix", &args.prefix),
            ("cursor", &cursor),
        ];
        let given: Vec<(&str, &str)> = given
            .iter()
            .filter_map(|(name, value)| value.as_deref().map(|value| (*name, value)))
            .collect();
        let mut answer = client.get(&path, &given)?;
        let Some(Value::Array(page)) = answer.get_mut("rows").map(Value::take) else {
            return Err(foreign(&path, "it has no rows"));
        };
        let is_empty = page.is_empty();
        rows.extend(page);
        cursor = answer
            .get("next")
            .and_then(Value::as_str)
            .map(str::to_owned);
        if cursor.is_none() || is_empty || rows.len() >= most {
            return Ok((rows, answer));
        }
        // A cursor is pinned to its epoch already.
        at = None;
    }
}

/// One column per part of the key and per field of the value.
fn write_rows(rows: &[Value], out: &mut dyn Write) -> Result<(), ClientError> {
    let Some(first) = rows.first() else {
        return Ok(());
    };
    let parts = cells(&first["key"]).len();
    let fields: Vec<String> = match &first["value"] {
        Value::Object(fields) => fields.keys().cloned().collect(),
        _ => Vec::new(),
    };
    let with_final = rows.iter().any(|row| !row["final"].is_null());
    let mut headings: Vec<String> = vec!["KEY".to_owned()];
    headings.resize(parts, String::new());
    let side = |value: &Value| if value.is_number() { ">" } else { "" };
    if fields.is_empty() {
        headings.push(format!("{}VALUE", side(&first["value"])));
    }
    for field in &fields {
        headings.push(format!(
            "{}{}",
            side(&first["value"][field]),
            harmless(field).to_uppercase()
        ));
    }
    if with_final {
        headings.push("FINAL".to_owned());
    }
    let mut grid = Grid::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    for row in rows {
        let mut line = cells(&row["key"]);
        line.resize(parts, String::new());
        if fields.is_empty() {
            line.push(plain(&row["value"]));
        }
        line.extend(fields.iter().map(|field| plain(&row["value"][field])));
        if with_final {
            line.push(
                if row["final"] == true {
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
    let answer = client.get("/v1/queries", &[])?;
    let now = answer["now"].as_i64();
    let queries = list(answer, "queries")?;
    let streams = list(client.get("/v1/streams", &[])?, "streams")?;
    let mut grid = Grid::new(&[
        "QUERY",
        ">ROWS",
        "COMPLETE THROUGH",
        ">FRESH",
        ">LATE",
        ">REJECTED",
    ]);
    for query in &queries {
        let age = now
            .zip(query["upper"].as_i64())
            .map(|(now, epoch)| (now - epoch).max(0));
        grid.row(vec![
            plain(&query["name"]),
            plain(&query["rows"]),
            instant(&query["watermark"]),
            age.map_or(ABSENT.to_owned(), span),
            plain(&query["late"]),
            plain(&query["rejected"]),
        ]);
    }
    grid.write(out)?;
    for query in queries.iter().filter(|query| query["failed"].is_string()) {
        writeln!(
            out,
            "{} failed: {}",
            plain(&query["name"]),
            plain(&query["failed"])
        )?;
    }
    writeln!(out)?;
    write_streams(&streams, out)?;
    write_sinks(&list(client.get("/v1/sinks", &[])?, "sinks")?, out)
}

fn write_streams(streams: &[Value], out: &mut dyn Write) -> Result<(), ClientError> {
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
        for partition in partitions(stream) {
            grid.row(vec![
                plain(&stream["name"]),
                plain(&stream["source"]),
                plain(&partition["partition"]),
                plain(&partition["position"]),
                plain(&partition["lag"]),
                instant(&partition["watermark"]),
                if partition["idle"] == true {
                    "idle"
                } else {
                    ""
                }
                .to_owned(),
            ]);
        }
    }
    grid.write(out)?;
    for stream in streams {
        let all =
            std::iter::once(stream).chain(stream["partitions"].as_array().into_iter().flatten());
        for problem in all.filter_map(|of| of["problem"]["reason"].as_str()) {
            writeln!(
                out,
                "{} cannot be read: {}",
                plain(&stream["name"]),
                harmless(problem)
            )?;
        }
    }
    Ok(())
}

/// Shows how each sink fares; nothing where there are none.
fn write_sinks(sinks: &[Value], out: &mut dyn Write) -> Result<(), ClientError> {
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
        grid.row(vec![
            plain(&sink["name"]),
            plain(&sink["query"]),
            plain(&sink["topic"]),
            plain(&sink["state"]),
            plain(&sink["waiting_messages"]),
            sink["lag_ms"].as_i64().map_or(ABSENT.to_owned(), span),
            plain(&sink["committed_messages"]),
        ]);
    }
    grid.write(out)?;
    for sink in sinks.iter().filter(|sink| sink["reason"].is_string()) {
        let (name, state) = (plain(&sink["name"]), plain(&sink["state"]));
        writeln!(out, "{name} is {state}: {}", plain(&sink["reason"]))?;
    }
    Ok(())
}

/// A stream's partitions; a stream that has none yet has one empty line.
fn partitions(stream: &Value) -> Vec<Value> {
    match &stream["partitions"] {
        Value::Array(list) if !list.is_empty() => list.clone(),
        _ => vec![Value::Null],
    }
}

/// Shows the checkpoints a running service keeps, newest first.
pub fn show_checkpoints(service: &ServiceUrl, out: &mut dyn Write) -> Result<(), ClientError> {
    let client = Client::new(service)?;
    let checkpoints = list(client.get("/v1/checkpoints", &[])?, "checkpoints")?;
    let mut grid = Grid::new(&[">EPOCH", ">RUN", "PUBLISHED", ">ROWS", ">BYTES"]);
    for checkpoint in &checkpoints {
        grid.row(vec![
            plain(&checkpoint["epoch"]),
            plain(&checkpoint["run"]),
            instant(&checkpoint["published_at"]),
            plain(&checkpoint["rows"]),
            plain(&checkpoint["bytes"]),
        ]);
    }
    Ok(grid.write(out)?)
}

/// Has a running service take a checkpoint now, and says which it is.
pub fn show_checkpoint_now(service: &ServiceUrl, out: &mut dyn Write) -> Result<(), ClientError> {
    let taken = Client::new(service)?.post("/v1/checkpoints")?;
    let (epoch, rows) = (plain(&taken["epoch"]), plain(&taken["rows"]));
    let bytes = plain(&taken["bytes"]);
    Ok(writeln!(
        out,
        "checkpoint of epoch {epoch} published: {rows} rows, {bytes} bytes"
    )?)
}

/// The list that stands under its name in an answer.
pub(super) fn list(mut answer: Value, name: &str) -> Result<Vec<Value>, ClientError> {
    match answer.get_mut(name).map(Value::take) {
        Some(Value::Array(items)) => Ok(items),
        _ => Err(foreign(
            &format!("/v1/{name}"),
            &format!("it has no list of {name}"),
        )),
    }
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
        let row = serde_json::json!({"key": "a", "value": {"price": 5, "bidder": "b"}});
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
        let now = shown(|out| show_checkpoint_now(&service, out));
        assert_eq!(now, "checkpoint of epoch 7 published: 2 rows, 10 bytes\n");
        assert_eq!(server.join().unwrap()[1], "POST /v1/checkpoints HTTP/1.1");
    }
}

//! `waterclock doctor`: what holds each query back, read from what the service says of itself.

use std::io::Write;
use std::process::ExitCode;

use serde_json::Value;

use super::args::ServiceUrl;
use super::client::{Client, ClientError};
use super::print::{instant, plain, span};
use super::show::list;

/// Says, query by query, how far it is complete and what it waits for. Fails if something is wrong,
/// as opposed to merely waiting.
pub fn show_doctor(service: &ServiceUrl, out: &mut dyn Write) -> Result<ExitCode, ClientError> {
    let client = Client::new(service)?;
    let answer = client.get("/v1/queries", &[])?;
    let (now, is_ready) = (answer["now"].as_i64().unwrap_or(0), answer["ready"] == true);
    let is_stale = answer["stale"] == true;
    let queries = list(answer, "queries")?;
    let streams = list(client.get("/v1/streams", &[])?, "streams")?;
    let sinks = list(client.get("/v1/sinks", &[])?, "sinks")?;
    let mut wrong = Vec::new();
    if !is_ready {
        wrong.push("not ready: what was shown before is being computed again".to_owned());
    } else if is_stale {
        wrong.push("answers are stale: no input can be taken; the log says why".to_owned());
    }
    let failed = queries.iter().filter(|query| query["failed"].is_string());
    wrong.extend(failed.map(|query| {
        format!(
            "query '{}' failed: {}",
            plain(&query["name"]),
            plain(&query["failed"])
        )
    }));
    wrong.extend(streams.iter().flat_map(|stream| troubles(stream, now)));
    let hindered = sinks.iter().filter(|sink| sink["reason"].is_string());
    wrong.extend(hindered.map(|sink| {
        let [name, state, reason] = ["name", "state", "reason"].map(|key| plain(&sink[key]));
        format!("sink '{name}' is {state}: {reason}")
    }));
    for query in &queries {
        let complete = &query["watermark"];
        let name = plain(&query["name"]);
        match complete.as_i64() {
            None => writeln!(out, "{name}: complete for nothing yet")?,
            Some(at) => {
                let age = span(now.saturating_sub(at).max(0));
                writeln!(
                    out,
                    "{name}: complete through {} ({age} ago)",
                    instant(complete)
                )?;
            }
        }
        writeln!(out, "  {}", held_back(query, &streams))?;
    }
    if wrong.is_empty() {
        writeln!(out, "\nnothing is wrong")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "\nwrong:")?;
    for what in &wrong {
        writeln!(out, "  {what}")?;
    }
    Ok(ExitCode::FAILURE)
}

fn partitions(stream: &Value) -> &[Value] {
    stream["partitions"].as_array().map_or(&[], Vec::as_slice)
}

/// What keeps a stream and its partitions from being read.
fn troubles(stream: &Value, now: i64) -> Vec<String> {
    let name = plain(&stream["name"]);
    let trouble = |of: &Value| {
        let reason = of["problem"]["reason"].as_str()?;
        let since = of["problem"]["since"].as_i64().unwrap_or(now);
        let long = span(now.saturating_sub(since).max(0));
        Some(format!("stream '{name}', for {long}: {reason}"))
    };
    let all = std::iter::once(stream).chain(partitions(stream));
    all.filter_map(trouble).collect()
}

/// Which partition of which stream a query's watermark waits for.
fn held_back(query: &Value, streams: &[Value]) -> String {
    let reads = query["streams"].as_array().map_or(&[][..], Vec::as_slice);
    let mine = streams
        .iter()
        .filter(|stream| reads.contains(&stream["name"]));
    // One without a watermark comes before all others.
    let Some(stream) = mine.min_by_key(|stream| stream["watermark"].as_i64()) else {
        return "it reads no stream".to_owned();
    };
    let name = plain(&stream["name"]);
    let active = partitions(stream)
        .iter()
        .filter(|partition| partition["idle"] != true);
    let slowest = active.min_by_key(|partition| partition["watermark"].as_i64());
    let Some(partition) = slowest else {
        return if partitions(stream).is_empty() {
            format!("waits for stream '{name}', of which no partition is known")
        } else {
            format!("waits for stream '{name}', of which every partition is idle")
        };
    };
    let id = plain(&partition["partition"]);
    let at = plain(&partition["position"]);
    let lag = match partition["lag"].as_u64() {
        None | Some(0) => "nothing more to read".to_owned(),
        Some(lag) => format!("{lag} to read"),
    };
    let watermark = match partition["watermark"].as_i64() {
        None => "no event yet".to_owned(),
        Some(_) => format!("watermark {}", instant(&partition["watermark"])),
    };
    let silent = match partition["silent_ms"].as_i64() {
        None | Some(0) => String::new(),
        Some(ms) => format!(", silent for {}", span(ms)),
    };
    let ahead = if partition["ahead"] == true {
        ", waits for slower partitions"
    } else {
        ""
    };
    format!(
        "waits for stream '{name}' partition {id}: {watermark}, at position {at}, {lag}{silent}\
         {ahead}"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::client::tests::{at, serve};
    use super::*;

    /// What is printed for one query of the streams, and whether all is well.
    fn shown(query: &Value, streams: Value) -> (String, bool) {
        shown_with(query, streams, json!([]))
    }

    fn shown_with(query: &Value, streams: Value, sinks: Value) -> (String, bool) {
        let list = json!({"now": 100_000, "ready": true, "queries": [query]}).to_string();
        let streams = json!({"streams": streams}).to_string();
        let sinks = json!({"sinks": sinks}).to_string();
        let answers = [list, streams, sinks].map(|body| ("200 OK", body));
        let (url, server) = serve(answers.to_vec());
        let mut out = Vec::new();
        let code = show_doctor(&at(&url), &mut out).unwrap();
        server.join().unwrap();
        let is_well = format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS);
        (String::from_utf8(out).unwrap(), is_well)
    }

    fn partition(id: u32, watermark: Option<i64>, idle: bool) -> Value {
        json!({"partition": id, "position": 7, "end": 9, "lag": 2, "watermark": watermark,
               "idle": idle, "ahead": false, "silent_ms": 4000, "problem": null})
    }

    #[test]
    fn the_slowest_partition_that_is_not_idle_is_named() {
        let partitions = [
            partition(0, Some(90_000), false),
            partition(1, Some(60_000), false),
            partition(2, Some(10_000), true),
        ];
        let streams = json!([
            {"name": "fast", "watermark": 95_000, "partitions": []},
            {"name": "slow", "watermark": 60_000, "partitions": partitions},
        ]);
        let query = json!({"name": "q", "streams": ["fast", "slow"], "watermark": 60_000});
        let (text, is_well) = shown(&query, streams);
        let expected = "\
q: complete through 1970-01-01T00:01:00Z (40.0 s ago)
  waits for stream 'slow' partition 1: watermark 1970-01-01T00:01:00Z, at position 7, 2 to read, \
silent for 4.0 s

nothing is wrong
";
        assert_eq!(text, expected);
        assert!(is_well);
    }

    #[test]
    fn a_stream_without_events_holds_before_all_others() {
        let streams = json!([
            {"name": "full", "watermark": 1, "partitions": [partition(0, Some(1), false)]},
            {"name": "empty", "watermark": null, "partitions": []},
        ]);
        let query = json!({"name": "q", "streams": ["full", "empty"], "watermark": null});
        let (text, _) = shown(&query, streams);
        assert!(text.starts_with("q: complete for nothing yet\n"), "{text}");
        assert!(
            text.contains("stream 'empty', of which no partition is known"),
            "{text}"
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_age() {
        let problem = json!({"reason": "no broker of 'b:1' can be reached", "since": 70_000});
        let streams = json!([{"name": "s", "watermark": null, "partitions": [],
                              "problem": problem}]);
        let query = json!({"name": "q", "streams": ["s"], "watermark": null,
                           "failed": "it panicked"});
        let sinks = json!([{"name": "out", "state": "stopped", "reason": "two rows"},
                           {"name": "well", "state": "running", "reason": null}]);
        let (text, is_well) = shown_with(&query, streams, sinks);
        let expected = "
wrong:
  query 'q' failed: it panicked
  stream 's', for 30.0 s: no broker of 'b:1' can be reached
  sink 'out' is stopped: two rows
";
        assert!(text.ends_with(expected), "{text}");
        assert!(!is_well);
    }
}

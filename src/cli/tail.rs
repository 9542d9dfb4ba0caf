//! `waterclock tail`: a query's answer and then each change of it, over restarts of the service.

use std::io::{BufReader, ErrorKind, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use serde_json::Value;

use super::args::TailArgs;
use super::client::{Client, ClientError, foreign, percent_encoded};
use super::events::{Event, Events};
use super::print::{Grid, cells, harmless, instant, plain};
use crate::time::{millis, seconds};

/// How long a service may say nothing: it tells its progress every second.
const SILENCE: Duration = seconds(10);
/// How long to wait before connecting again, at first and at most.
const PAUSES: (Duration, Duration) = (millis(250), seconds(10));
/// How many events may wait to be printed.
const WAITING: usize = 16;

/// What a connection or the terminal says.
enum Heard {
    /// From the connection with this number: an event, or why there are no more.
    Connection(u64, Result<Event, ClientError>),
    /// Ctrl-C.
    Stop,
}

/// Ends a tail.
pub struct Stop(SyncSender<Heard>);

impl Stop {
    /// Ends it after the event that is being printed.
    pub fn now(self) {
        // It may have ended by itself.
        self.0.send(Heard::Stop).ok();
    }
}

/// Prints a query's answer and each change of it to `out`, until it is stopped; what happens to
/// the connection goes to `notes`. `on_stop` is given what stops it.
pub fn tail(
    args: &TailArgs,
    out: &mut dyn Write,
    notes: &mut dyn Write,
    on_stop: impl FnOnce(Stop),
) -> Result<(), ClientError> {
    let (sender, inbox) = sync_channel(WAITING);
    on_stop(Stop(sender.clone()));
    let mut line = Line {
        client: Client::new(&args.service)?,
        path: format!("/v1/queries/{}/changes", percent_encoded(&args.name)),
        parameters: parameters(args),
        sender,
        number: 0,
        last_id: String::new(),
    };
    let outcome = follow(&mut line, &inbox, out, notes);
    match outcome {
        // Who read it has enough, as `head` has.
        Err(ClientError::Terminal(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

fn parameters(args: &TailArgs) -> Vec<(&'static str, String)> {
    let only_final = args.only_final.then(|| "true".to_owned());
    let given = [
        ("key", args.key.clone()),
        ("prefix", args.prefix.clone()),
        ("final", only_final),
    ];
    given
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// The connection to the service, one after the other.
struct Line {
    client: Client,
    path: String,
    parameters: Vec<(&'static str, String)>,
    sender: SyncSender<Heard>,
    /// Counts the connections: what an earlier one still says is not heard.
    number: u64,
    /// Where to go on.
    last_id: String,
}

impl Line {
    /// Connects on a thread of its own, which tells what it hears.
    fn connect(&mut self) -> std::io::Result<()> {
        self.number += 1;
        let (client, sender, number) = (self.client.clone(), self.sender.clone(), self.number);
        let (path, id) = (self.path.clone(), self.last_id.clone());
        let parameters = self.parameters.clone();
        let run = move || {
            let tell = |heard| sender.send(Heard::Connection(number, heard)).is_ok();
            let parameters: Vec<_> = parameters.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let body = match client.follow(&path, &parameters, &id) {
                Ok(body) => body,
                Err(error) => {
                    tell(Err(error));
                    return;
                }
            };
            let mut events = Events::new(BufReader::new(body));
            loop {
                let heard = match events.next() {
                    Ok(Some(event)) => Ok(event),
                    Ok(None) => Err("the service ended the subscription".to_owned()),
                    Err(error) => Err(error.to_string()),
                };
                let goes_on = heard.is_ok();
                if !tell(heard.map_err(|cause| client.unreachable(cause))) || !goes_on {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("events".to_owned());
        thread.spawn(run).map(drop)
    }
}

fn follow(
    line: &mut Line,
    inbox: &Receiver<Heard>,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), ClientError> {
    let mut has_heard = false;
    let mut pause = PAUSES.0;
    // Nothing is waited for while the connection is to be made again.
    let mut is_open = true;
    line.connect()?;
    loop {
        let trouble = match inbox.recv_timeout(if is_open { SILENCE } else { pause }) {
            Ok(Heard::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Ok(Heard::Connection(number, _)) if number != line.number => continue,
            Ok(Heard::Connection(_, Ok(event))) => {
                print(&event, &line.path, out, notes)?;
                if let Some(id) = event.id {
                    line.last_id = id;
                }
                (has_heard, pause) = (true, PAUSES.0);
                continue;
            }
            Ok(Heard::Connection(_, Err(error))) => match error {
                ClientError::Later(sentence) => sentence,
                ClientError::Unreachable { cause, .. } if has_heard => cause,
                error => return Err(error),
            },
            Err(RecvTimeoutError::Timeout) if is_open => {
                format!("the service said nothing for {} s", SILENCE.as_secs())
            }
            Err(RecvTimeoutError::Timeout) => {
                is_open = true;
                pause = (pause * 2).min(PAUSES.1);
                line.connect()?;
                continue;
            }
        };
        if is_open {
            writeln!(notes, "waterclock: {trouble}; connecting again")?;
        }
        is_open = false;
    }
}

/// Prints what an event says of the answer.
fn print(
    event: &Event,
    path: &str,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), ClientError> {
    let object: Value =
        serde_json::from_str(&event.data).map_err(|_| foreign(path, "an event is no JSON"))?;
    let list = |name: &str| object[name].as_array().map_or(&[][..], Vec::as_slice);
    let heading = || {
        let complete = instant(&object["complete_through"]);
        format!(
            "epoch {}, complete through {complete}",
            plain(&object["as_of"])
        )
    };
    match event.name.as_str() {
        "snapshot" => {
            let rows = list("rows");
            if object["start"] == true {
                let none = if rows.is_empty() { ": no rows" } else { "" };
                writeln!(out, "{}{none}", heading())?;
            }
            write_rows(rows.iter().map(|row| (" ", row)), out)?;
        }
        "changes" => {
            writeln!(out, "{}", heading())?;
            let changes = list("changes").iter();
            let sign = |change: &Value| if change["op"] == "-" { "-" } else { "+" };
            write_rows(changes.map(|change| (sign(change), change)), out)?;
        }
        "reset" => {
            let reason = object["reason"].as_str().unwrap_or_default();
            writeln!(notes, "waterclock: starting over: {}", harmless(reason))?;
        }
        _ => return Ok(()),
    }
    Ok(out.flush()?)
}

/// A line per row: what happened to it, its key part by part, its value.
fn write_rows<'a>(
    rows: impl Iterator<Item = (&'a str, &'a Value)>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let mut grid = Grid::new(&[]);
    for (sign, row) in rows {
        let mut line = vec![sign.to_owned()];
        line.extend(cells(&row["key"]));
        line.push(plain(&row["value"]));
        if row["expired"] == true {
            line.push("expired".to_owned());
        }
        grid.row(line);
    }
    grid.write(out)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::client::tests::{at, serve_and_keep};
    use super::*;

    fn args(url: &str) -> TailArgs {
        TailArgs {
            name: "q".to_owned(),
            key: None,
            prefix: Some("u 1".to_owned()),
            only_final: true,
            service: at(url),
        }
    }

    fn event(name: &str, id: &str, data: &str) -> String {
        format!("id: {id}\nevent: {name}\ndata: {data}\n\n")
    }

    #[test]
    fn it_goes_on_where_it_was_and_prints_what_it_hears() {
        let row = r#"{"key":["u1",{"start":0,"end":60000}],"value":3}"#;
        let head = r#""as_of":7,"complete_through":null"#;
        let first = event(
            "snapshot",
            "a",
            &format!(r#"{{{head},"start":true,"rows":[{row}]}}"#),
        ) + &event(
            "changes",
            "b",
            r#"{"as_of":8,"complete_through":0,"changes":[
                {"op":"-","key":"k","value":"x","expired":true},
                {"op":"+","key":"long","value":{"a":1}}]}"#
                .replace('\n', " ")
                .as_str(),
        ) + &event("progress", "c", r#"{"as_of":9,"complete_through":0}"#)
            + "id: d\nevent: half";
        let second = event("reset", "", r#"{"reason":"it is \u001b[2J gone"}"#)
            + &event(
                "snapshot",
                "e",
                &format!(r#"{{{head},"start":true,"rows":[]}}"#),
            );
        let problem = |words: &str| format!(r#"{{"detail":"{words}"}}"#);
        let (url, server) = serve_and_keep(
            vec![
                ("200 OK", first),
                ("503 Busy\r\nRetry-After: 1", problem("not now")),
                ("200 OK", second),
                ("404 Not Found", problem("it is no more")),
            ],
            |request| {
                let id = |line: &str| line.to_lowercase().starts_with("last-event-id");
                let id = request.lines().find(|line| id(line)).unwrap_or_default();
                format!("{} {}", request.lines().next().unwrap_or_default(), id)
            },
        );
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let error = tail(&args(&url), &mut out, &mut notes, drop).unwrap_err();
        assert_eq!(error.to_string(), "it is no more");
        let window = "[1970-01-01T00:00:00Z, 1970-01-01T00:01:00Z)";
        let expected = format!(
            "epoch 7, complete through -\n   u1  {window}  3\n\
             epoch 8, complete through 1970-01-01T00:00:00Z\n-  k     x        expired\n\
             +  long  {{\"a\":1}}\nepoch 7, complete through -: no rows\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let notes = String::from_utf8(notes).unwrap();
        let said: Vec<&str> = notes.lines().collect();
        assert_eq!(
            said,
            [
                "waterclock: the service ended the subscription; connecting again",
                "waterclock: not now; connecting again",
                "waterclock: starting over: it is \\u{1b}[2J gone",
                "waterclock: the service ended the subscription; connecting again",
            ]
        );
        let ids: Vec<String> = server.join().unwrap();
        let line = "GET /v1/queries/q/changes?prefix=u%201&final=true HTTP/1.1 ";
        let sent = ids
            .iter()
            .map(|id| id.strip_prefix(line).unwrap().to_lowercase());
        let expected = [
            "",
            "last-event-id: c",
            "last-event-id: c",
            "last-event-id: e",
        ];
        assert_eq!(sent.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn it_ends_when_it_is_told_to_and_when_nobody_is_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = format!("http://{}", listener.local_addr().unwrap());
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        tail(&args(&silent), &mut out, &mut notes, Stop::now).unwrap();
        drop(listener);
        let error = tail(&args(&silent), &mut out, &mut notes, drop).unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
        assert!(out.is_empty() && notes.is_empty());
    }
}

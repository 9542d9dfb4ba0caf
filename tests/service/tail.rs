//! `waterclock tail` at a terminal: it shows changes as they come, goes on after a restart, and
//! ends at Ctrl-C.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::service::{Client, Launch, PATIENCE, binary, signal};

fn click(user: &str) -> String {
    format!("{{\"user_id\":\"{user}\",\"click_time\":\"2022-01-01 10:00:00\"}}")
}

struct Tail {
    child: Child,
    lines: Receiver<String>,
}

impl Tail {
    fn start(args: &[&str]) -> Tail {
        let mut child = binary()
            .arg("tail")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary under test was built");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        let read = move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|l| sender.send(l))
        };
        let thread = std::thread::Builder::new().name("tail".to_owned());
        thread.spawn(read).expect("the test may have a thread more");
        Tail { child, lines }
    }

    /// Waits for a line with these words, and gives it.
    fn line(&self, words: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no line has '{words}'"));
            if line.contains(words) {
                return line;
            }
        }
    }
}

/// The service again, at the address that it had.
fn again(launch: &Launch, client: &Client) -> Launch {
    let address = client.url.trim_start_matches("http://");
    let elsewhere = launch.clone().without("127.0.0.1:0").without("--listen");
    elsewhere.args(&["--listen", address])
}

#[test]
fn a_tail_shows_changes_over_a_restart_until_it_is_ended() {
    let home = tempfile::tempdir().expect("a place for the test");
    let launch = Launch::new(home.path())
        .args(&["--queries", "clicks_per_user_tumbling"])
        .set("SNAPSHOT__INTERVAL", "1h");
    let service = launch.start_ready();
    service.token_of("clicks", &click("u1"));
    let query = "clicks_per_user_tumbling";
    let mut tail = Tail::start(&[query, "--prefix", "u1", "--url", &service.url]);
    tail.line("u1  [2022-01-01T10:00:00Z, 2022-01-01T10:05:00Z)  1");
    service.token_of("clicks", &format!("{}\n{}", click("u1"), click("u2")));
    assert!(tail.line("  1").starts_with("-  u1  "));
    assert!(tail.line("  2").starts_with("+  u1  "));
    let restarted = again(&launch, &service);
    service.kill();
    let service = restarted.start_ready();
    service.token_of("clicks", &click("u1"));
    assert!(tail.line("  2").starts_with("-  u1  "));
    assert!(tail.line("  3").starts_with("+  u1  "));
    signal("INT", tail.child.id());
    let status = tail.child.wait().expect("it is our child");
    let mut notes = String::new();
    let stderr = tail.child.stderr.as_mut().expect("it is piped");
    stderr.read_to_string(&mut notes).expect("it is text");
    assert!(status.success(), "{status}: {notes}");
    assert!(notes.contains("connecting again"), "{notes}");
    assert!(!notes.contains("starting over"), "{notes}");

    let mut tail = Tail::start(&["nothing", "--url", &service.url]);
    let status = tail.child.wait().expect("it is our child");
    assert_eq!(status.code(), Some(1));
}

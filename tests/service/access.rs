//! Clients from outside: over TLS, with tokens that allow this and not that, and in Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use waterclock::cli::{Client, ClientError, Pull, PullRequest, ServiceUrl};

use crate::service::{Launch, run, until};

const CLICK: &str = "{\"user_id\":\"u1\",\"click_time\":\"2022-01-01 10:00:00\"}";

fn certificate(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "tls", name]
        .iter()
        .collect()
}

/// A service over TLS that asks for tokens, and its clients: reading, posting, and all-powerful.
fn guarded(home: &Path) -> (Launch, [PathBuf; 3]) {
    let mut launch = Launch::new(home)
        .args(&["--queries", "clicks_per_user"])
        .set(
            "HTTP__TLS_CERTIFICATE",
            &certificate("certificate.pem").to_string_lossy(),
        )
        .set("HTTP__TLS_KEY", &certificate("key.pem").to_string_lossy());
    let files = ["read_token", "write_token", "token"].map(|name| {
        let file = home.join(name);
        fs::write(&file, format!("a-secret-of-{name}\n")).expect("the directory takes files");
        (name.to_uppercase(), file)
    });
    for (name, file) in &files {
        launch = launch.set(&format!("HTTP__{name}_FILE"), &file.to_string_lossy());
    }
    (launch, files.map(|(_, file)| file))
}

fn client(url: &str, token_file: Option<&Path>) -> Client {
    let service = ServiceUrl {
        url: url.to_owned(),
        token_file: token_file.map(Path::to_owned),
        ca_file: Some(certificate("certificate.pem")),
    };
    Client::new(&service).expect("the files are there")
}

fn refusal<T>(asked: Result<T, ClientError>) -> String {
    match asked {
        Err(ClientError::Refused(sentence)) => sentence,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was allowed"),
    }
}

/// Reads, also before the service is ready.
fn pulled(client: &Client, after: &str) -> Pull {
    let read = read(Some(after.to_owned()));
    until("the service to be ready", || match client.pull(&read) {
        Err(ClientError::Later(_)) => None,
        answer => Some(answer.expect("it may read")),
    })
}

fn read(after: Option<String>) -> PullRequest {
    PullRequest {
        query: "clicks_per_user".to_owned(),
        after,
        ..PullRequest::default()
    }
}

#[test]
fn tokens_allow_what_they_are_for_over_tls() {
    let home = tempfile::tempdir().expect("a place for the test");
    let (launch, files) = guarded(home.path());
    let service = launch.start();
    assert!(service.url.starts_with("https://"), "{}", service.url);
    let [reader, writer, admin] = files
        .each_ref()
        .map(|file| client(&service.url, Some(file)));

    let posted = writer
        .post("clicks", CLICK, Some("k1"))
        .expect("it may post");
    assert_eq!((posted.accepted, posted.rejected.len()), (1, 0));
    assert_eq!(
        writer.post("clicks", CLICK, Some("k1")).expect("again"),
        posted
    );
    let answer = pulled(&reader, &posted.token);
    assert_eq!(answer.rows.len(), 3);
    assert_eq!(answer.positions["clicks"][&0], 1);
    assert_eq!(answer.rows[0].is_final, Some(false));
    let together = reader.snapshot(&["clicks_per_user"]).expect("it may read");
    assert_eq!(together.queries["clicks_per_user"].rows, answer.rows);
    let other = CLICK.replace("u1", "u2");
    let token = writer
        .post("clicks", &other, None)
        .expect("it may post")
        .token;
    let later = pulled(&reader, &token);
    let diff = reader.diff("clicks_per_user", answer.as_of, later.as_of);
    assert_eq!(diff.expect("both are retained").changes.len(), 3);
    assert_eq!(reader.queries().expect("it may read").queries[0].rows, 6);
    assert!(admin.take_checkpoint(None).expect("it may").rows > 0);
    assert!(
        !reader
            .checkpoints()
            .expect("it may read")
            .checkpoints
            .is_empty()
    );
    assert!(admin.pull(&read(None)).is_ok() && admin.post("clicks", CLICK, None).is_ok());

    let (ca, token) = (certificate("certificate.pem"), files[0].to_string_lossy());
    let ca = ca.to_string_lossy();
    let status = [
        "status",
        "--url",
        &service.url,
        "--token-file",
        &token,
        "--ca-file",
        &ca,
    ];
    let status = run(&status);
    assert!(
        status.status.success(),
        "{}",
        String::from_utf8_lossy(&status.stderr)
    );
    assert!(service.stop().success());
    assert!(
        !launch.stderr().contains("a-secret-of"),
        "{}",
        launch.stderr()
    );
}

#[test]
fn who_may_not_is_told_so() {
    let home = tempfile::tempdir().expect("a place for the test");
    let (launch, files) = guarded(home.path());
    let service = launch.start();
    let [reader, writer, _] = files
        .each_ref()
        .map(|file| client(&service.url, Some(file)));
    assert!(refusal(reader.post("clicks", CLICK, None)).contains("does not allow to post"));
    assert!(refusal(reader.take_checkpoint(None)).contains("does not allow to change"));
    assert!(refusal(writer.pull(&read(None))).contains("does not allow to read"));
    assert!(refusal(client(&service.url, None).queries()).contains("asks for a token"));
    let stranger = Client::new(&ServiceUrl {
        url: service.url.clone(),
        token_file: None,
        ca_file: None,
    });
    let distrust = stranger.expect("nothing is asked yet").queries();
    assert!(matches!(distrust, Err(ClientError::Unreachable { .. })));
    let plain = service.url.replace("https://", "http://");
    let unanswered = client(&plain, Some(&files[0])).queries();
    assert!(matches!(unanswered, Err(ClientError::Unreachable { .. })));
}

#[test]
fn the_python_example_prints_what_it_posted() {
    let has_requests = Command::new("python3")
        .args(["-c", "import requests"])
        .output();
    if !has_requests.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: python3 with the package `requests` is not here");
        return;
    }
    let home = tempfile::tempdir().expect("a place for the test");
    let service = Launch::new(home.path()).start_ready();
    let example: PathBuf = [env!("CARGO_MANIFEST_DIR"), "examples", "client.py"]
        .iter()
        .collect();
    let output = Command::new("python3")
        .arg(&example)
        .arg(&service.url)
        .env("NO_PROXY", "*")
        .output()
        .expect("it is there");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(
        said.starts_with("['u1', {'start': 1641030960000, 'end': 1641031260000}] 1"),
        "{said}"
    );
}

//! The built binary as a child process: started on a free port, asked over HTTP, killed on drop.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::ops::Deref;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take before the test has failed; generous, because machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How to start a service.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Everything of the test: data directory, configuration, the service's standard error.
    pub home: PathBuf,
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    /// The largest file the service may write, in KiB.
    file_limit: Option<u32>,
    /// Where its standard error goes.
    stderr: PathBuf,
}

impl Launch {
    /// A service with its data below `home`, on a free port, without the demo.
    pub fn new(home: &Path) -> Launch {
        let launch = Launch {
            home: home.to_owned(),
            program: PathBuf::from(env!("CARGO_BIN_EXE_waterclock")),
            args: vec!["run".to_owned()],
            env: Vec::new(),
            file_limit: None,
            stderr: home.join("stderr"),
        };
        let data_dir = launch.data_dir();
        launch
            .args(&["--listen", "127.0.0.1:0", "--no-demo", "--data-dir"])
            .args(&[&data_dir.to_string_lossy()])
    }

    /// Adds flags.
    pub fn args(mut self, args: &[&str]) -> Launch {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Leaves a flag out.
    pub fn without(mut self, flag: &str) -> Launch {
        self.args.retain(|arg| arg != flag);
        self
    }

    /// Starts another program, which takes the same arguments.
    pub fn program(self, program: PathBuf) -> Launch {
        Launch { program, ..self }
    }

    /// Sets a key of the configuration by its variable: `SNAPSHOT__INTERVAL`.
    pub fn set(mut self, key: &str, value: &str) -> Launch {
        self.env
            .push((format!("WATERCLOCK_{key}"), value.to_owned()));
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: &str, value: &Path) -> Launch {
        let value = value.to_string_lossy().into_owned();
        self.env.push((name.to_owned(), value));
        self
    }

    /// Lets no file grow beyond this many KiB: what a full disk is to a file.
    pub fn file_limit(mut self, kib: u32) -> Launch {
        self.file_limit = Some(kib);
        self
    }

    /// Sends its standard error elsewhere.
    pub fn stderr_to(mut self, path: &str) -> Launch {
        self.stderr = PathBuf::from(path);
        self
    }

    /// Where the service keeps what must survive.
    pub fn data_dir(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Starts it, and returns as soon as it has printed its URL.
    pub fn start(&self) -> Service {
        self.spawn().ready_for_requests()
    }

    /// Starts it and reads until it serves.
    pub fn start_ready(&self) -> Service {
        let service = self.start();
        service.wait_ready();
        service
    }

    /// Starts it and waits for nothing.
    pub fn spawn(&self) -> Starting {
        let mut command = match self.file_limit {
            None => clean(Command::new(&self.program)),
            Some(kib) => {
                // Ignoring the signal is inherited, so that the write fails instead.
                let script = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$@\"", kib * 2);
                let mut shell = Command::new("sh");
                shell.args(["-c", &script, "sh"]).arg(&self.program);
                clean(shell)
            }
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.stderr)
            .expect("the test's directory takes files");
        let mut child = command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary under test was built");
        let stdout = child.stdout.take().expect("it is piped");
        let (sender, lines) = channel();
        std::thread::Builder::new()
            .name("stdout".to_owned())
            .spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            })
            .expect("the test may have one more thread");
        Starting {
            process: Process { child, lines },
            launch: self.clone(),
        }
    }

    /// What all services of this home wrote to standard error so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Runs it where it must refuse to start: its exit and its standard error.
    pub fn refused(&self) -> (ExitStatus, String) {
        let before = self.stderr().len();
        let status = self.spawn().process.wait();
        (status, self.stderr()[before..].to_owned())
    }
}

/// The binary under test.
pub fn binary() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_waterclock")))
}

/// Free of settings that the environment happens to have.
pub fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WATERCLOCK_")) {
        command.env_remove(name);
    }
    command
}

/// Runs a command of the binary to its end.
pub fn run(args: &[&str]) -> Output {
    let output = binary().args(args).stdin(Stdio::null()).output();
    output.expect("the binary under test was built")
}

/// A child process; it dies with this value.
struct Process {
    child: Child,
    /// What it prints; ends when it does.
    lines: Receiver<String>,
}

impl Process {
    fn wait(&mut self) -> ExitStatus {
        match self.lines.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Disconnected) => self.child.wait().expect("it is our child"),
            Err(RecvTimeoutError::Timeout) => panic!("it does not end"),
            Ok(line) => panic!("it goes on and prints '{line}'"),
        }
    }

    /// Kills it as a power switch would, and proves it.
    fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        let status = self.child.wait().expect("it is our child");
        assert_eq!(
            status.signal(),
            Some(9),
            "it ended by itself before: {status}"
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A service that has not told its URL yet.
pub struct Starting {
    process: Process,
    launch: Launch,
}

impl Starting {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// Kills it with signal 9.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Waits for its URL.
    pub fn ready_for_requests(self) -> Service {
        let stderr = self.launch.clone();
        self.url_or_end()
            .unwrap_or_else(|_| panic!("no URL was printed; it said:\n{}", stderr.stderr()))
    }

    /// Waits for its URL; how it ended where it did before that.
    pub fn url_or_end(mut self) -> Result<Service, ExitStatus> {
        let url = loop {
            let Ok(line) = self.process.lines.recv_timeout(PATIENCE) else {
                return Err(self.process.wait());
            };
            if let Some(url) = line.split(' ').find(|word| word.starts_with("http")) {
                break url.to_owned();
            }
        };
        let client = Client {
            url: url.trim_end_matches('/').to_owned(),
            agent: agent(),
            launch: self.launch,
        };
        Ok(Service {
            client,
            process: self.process,
        })
    }
}

/// A running service.
pub struct Service {
    client: Client,
    process: Process,
}

impl Deref for Service {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Who asks a service; any number of threads may.
#[derive(Clone)]
pub struct Client {
    /// `http://HOST:PORT`.
    pub url: String,
    agent: ureq::Agent,
    launch: Launch,
}

/// An answer, to the byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub content_type: String,
    pub bytes: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    /// The JSON of an answer that must be a success.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    /// The sentence of an answer that must be this refusal.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.content_type, "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        problem["detail"].as_str().expect("a sentence").to_owned()
    }
}

/// The service was gone before its answer was whole.
#[derive(Debug)]
pub struct Lost;

impl Client {
    /// Asks for a path; an error when the service is gone.
    pub fn try_get(&self, path: &str) -> Result<Reply, Lost> {
        read(self.agent.get(format!("{}{path}", self.url)).call())
    }

    /// Asks for a path.
    pub fn get(&self, path: &str) -> Reply {
        let said = |_| panic!("no answer to {path}; it said:\n{}", self.launch.stderr());
        self.try_get(path).unwrap_or_else(said)
    }

    /// Posts records; an error when the service is gone, and then they may be stored or not.
    pub fn try_post(&self, stream: &str, key: Option<&str>, body: &str) -> Result<Reply, Lost> {
        let url = format!("{}/v1/streams/{stream}", self.url);
        let request = self
            .agent
            .post(url)
            .header("Content-Type", "application/x-ndjson");
        let request = match key {
            Some(key) => request.header("Idempotency-Key", key),
            None => request,
        };
        read(request.send(body))
    }

    /// Posts records.
    pub fn post(&self, stream: &str, body: &str) -> Reply {
        let said = |_| panic!("no answer to a post; it said:\n{}", self.launch.stderr());
        self.try_post(stream, None, body).unwrap_or_else(said)
    }

    /// Posts records that are all taken; the token that reads them.
    pub fn token_of(&self, stream: &str, body: &str) -> String {
        let answer = self.post(stream, body).ok();
        assert_eq!(answer["rejected"], serde_json::json!([]), "{answer}");
        answer["token"].as_str().expect("a token").to_owned()
    }

    /// Posts to an address that takes no records.
    pub fn command(&self, path: &str) -> Reply {
        self.try_command(path).expect("the service is there")
    }

    /// Posts to an address that takes no records; an error when the service is gone.
    pub fn try_command(&self, path: &str) -> Result<Reply, Lost> {
        let url = format!("{}{path}", self.url);
        let request = self
            .agent
            .post(url)
            .header("Content-Type", "application/json");
        read(request.send("{}"))
    }

    /// Waits until it can be read.
    pub fn wait_ready(&self) {
        until("the service to be ready", || {
            (self.get("/readyz").status == 200).then_some(())
        });
    }

    /// The entry of a query in `/v1/queries`.
    pub fn query(&self, name: &str) -> Value {
        entry(&self.get("/v1/queries").ok()["queries"], name)
    }

    /// The entry of a stream in `/v1/streams`.
    pub fn stream(&self, name: &str) -> Value {
        entry(&self.get("/v1/streams").ok()["streams"], name)
    }

    /// Runs a command of the binary against this service.
    pub fn cli(&self, args: &[&str]) -> Output {
        run(&[args, &["--url", &self.url]].concat())
    }

    /// What was written to standard error so far.
    pub fn stderr(&self) -> String {
        self.launch.stderr()
    }
}

impl Service {
    /// Kills it with signal 9.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Asks it to stop, as a supervisor does.
    pub fn ask_to_stop(&self) {
        signal("TERM", self.process.child.id());
    }

    /// Asks it to stop, and how it ended.
    pub fn stop(mut self) -> ExitStatus {
        self.ask_to_stop();
        self.process.wait()
    }

    /// How it ended by itself.
    pub fn wait(mut self) -> ExitStatus {
        self.process.wait()
    }
}

/// Sends a signal to a process.
pub fn signal(name: &str, id: u32) {
    // `kill` is part of every shell; the standard library only knows signal 9.
    let script = format!("kill -{name} {id}");
    let sent = Command::new("sh").args(["-c", &script]).status();
    assert!(sent.expect("there is a shell").success());
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .proxy(None)
        .build()
        .into()
}

fn read(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Reply, Lost> {
    let answer = answer.map_err(|_| Lost)?;
    let content_type = answer.headers().get("content-type");
    let content_type = content_type
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let status = answer.status().as_u16();
    let mut bytes = Vec::new();
    let mut body = answer.into_body().into_reader();
    body.read_to_end(&mut bytes).map_err(|_| Lost)?;
    Ok(Reply {
        status,
        content_type,
        bytes,
    })
}

fn entry(list: &Value, name: &str) -> Value {
    let entries = list.as_array().expect("a list");
    let found = entries.iter().find(|entry| entry["name"] == name);
    found.unwrap_or_else(|| panic!("no {name}")).clone()
}

/// Looks again and again until there is something, for a bounded time.
#[allow(clippy::disallowed_methods, reason = "a test that hangs must end")]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// Small, seeded randomness: the same numbers in every run.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

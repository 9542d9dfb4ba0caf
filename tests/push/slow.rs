//! A thousand subscribers, of which ten never read and ten hardly do: memory stays bounded, and
//! everybody else gets everything.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::service::{Launch, Service};

const QUERY: &str = "clicks_per_user_tumbling";
/// Who follows a few keys.
const NARROW: usize = 960;
/// Who follows everything.
const WIDE: usize = 20;
const SILENT: usize = 10;
const SLOW: usize = 10;
const POSTS: usize = 50;
const USERS: usize = 800;
/// What the service may take altogether: a debug build, a thousand connections, the history.
const MAX_MIB: u64 = 400;

async fn subscribe(service: &str, parameters: &str, buffer: Option<u32>) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("the test may have sockets");
    if let Some(bytes) = buffer {
        socket.set_recv_buffer_size(bytes).expect("it may be small");
    }
    let address = service.parse().expect("an address");
    let mut stream = socket.connect(address).await.expect("it listens");
    let path = format!("/v1/queries/{QUERY}/changes?{parameters}");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it is read");
    stream
}

/// Reads until an event is of the last epoch, once that is known; gives how much that was. An
/// error where it ends before.
async fn follow(stream: TcpStream, last: Arc<AtomicU64>) -> Result<usize, usize> {
    let mut lines = BufReader::new(stream).lines();
    let mut bytes = 0;
    while let Ok(Some(line)) = lines.next_line().await {
        bytes += line.len();
        let as_of = line
            .strip_prefix("data: {\"as_of\":")
            .and_then(|rest| rest.split(',').next()?.parse().ok());
        let last = last.load(Ordering::Acquire);
        if last > 0 && as_of.is_some_and(|as_of: u64| as_of >= last) {
            return Ok(bytes);
        }
    }
    Err(bytes)
}

/// A line per user: each changes a row of everybody's answer.
fn clicks(post: usize) -> String {
    let line = |user: usize| {
        let name = format!("u{user:04}-{}", "x".repeat(60));
        format!(
            "{{\"user_id\":\"{name}\",\"click_time\":{}}}\n",
            1_641_031_200_000 + post
        )
    };
    (0..USERS).map(line).collect()
}

/// The most memory that the service ever had.
fn peak_mib(launch: &Launch) -> u64 {
    let lock = fs::read_to_string(launch.data_dir().join("lock")).expect("it is running");
    let id = lock
        .trim()
        .strip_prefix("process ")
        .expect("it names its process");
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("it is running");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("Linux says so") / 1024
}

/// Posts; whoever is slow reads a byte after each post.
fn ingest(service: &Service, runtime: &Runtime, slow: &mut [TcpStream]) -> u64 {
    let mut as_of = 0;
    for post in 0..POSTS {
        let token = service.token_of("clicks", &clicks(post));
        let path = format!("/v1/queries/{QUERY}?limit=1&after={token}");
        as_of = service.get(&path).ok()["as_of"].as_u64().expect("an epoch");
        for stream in &mut *slow {
            // It may have been cut off by now.
            drop(runtime.block_on(stream.read_u8()));
        }
    }
    as_of
}

#[test]
fn a_thousand_subscribers_of_whom_some_do_not_read_harm_nobody() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, most).expect("the test may open files");
    let home = tempfile::tempdir().expect("a place for the test");
    let launch = Launch::new(home.path()).args(&["--queries", QUERY]);
    let service = launch.start_ready();
    let address = service.url.trim_start_matches("http://").to_owned();
    let runtime = Runtime::new().expect("the test may have threads");
    let last = Arc::new(AtomicU64::new(0));
    let mut readers = JoinSet::new();
    let (mut silent, mut slow) = (Vec::new(), Vec::new());
    runtime.block_on(async {
        for n in 0..NARROW + WIDE {
            let prefix = format!("prefix=u{:04}", n % USERS);
            let parameters = if n < NARROW { prefix.as_str() } else { "" };
            let stream = subscribe(&address, parameters, None).await;
            readers.spawn(follow(stream, Arc::clone(&last)));
        }
        for _ in 0..SILENT {
            silent.push(subscribe(&address, "", Some(64 << 10)).await);
        }
        for _ in 0..SLOW {
            slow.push(subscribe(&address, "", Some(64 << 10)).await);
        }
    });
    let as_of = ingest(&service, &runtime, &mut slow);
    last.store(as_of, Ordering::Release);
    let read: Vec<Result<usize, usize>> = runtime.block_on(readers.join_all());
    let got = |read: &Result<usize, usize>| read.expect("whoever reads gets everything");
    let most = read.iter().map(got).max().expect("there were some");
    // What was compacted for those who did not read, or kept from them, is not sent.
    let late: Vec<Result<usize, usize>> = runtime.block_on(async {
        let late = silent.into_iter().chain(slow);
        let late: JoinSet<_> = late
            .map(|stream| follow(stream, Arc::clone(&last)))
            .collect();
        late.join_all().await
    });
    let until_the_end_or_cut_off = |read: Result<usize, usize>| read.unwrap_or_else(|cut| cut);
    let late = late.into_iter().map(until_the_end_or_cut_off).max();
    let late = late.expect("there were some");
    let peak = peak_mib(&launch);
    let told = format!(
        "{most} bytes were sent to one who read everything, {late} to one who did so later; the \
         service took {peak} MiB at most"
    );
    eprintln!("{told}");
    // How much less depends on how fast the others are served; a unit test holds what is compacted.
    assert!(late <= most, "{told}");
    assert!(peak < MAX_MIB, "{told}");
    assert!(service.stop().success());
}

//! A server of S3 on this machine: moto, which knows `If-None-Match`; and what stands between it
//! and a service, to fail when told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

const SERVE: &str = "
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
";

/// The bucket of all tests of a server.
pub const BUCKET: &str = "state";

/// A server of its own; it ends with this value, and in any case with this process.
pub struct S3 {
    child: Child,
    /// Where it listens itself.
    pub address: String,
}

impl S3 {
    /// Starts one with an empty bucket; nothing where there is no Python with moto. Where CI says
    /// that there must be, it is an error if not.
    #[allow(clippy::print_stdout, reason = "says that it did not run")]
    pub fn start() -> Option<S3> {
        let python = std::env::var("WATERCLOCK_TEST_PYTHON");
        let python = python.unwrap_or_else(|_| "python3".to_owned());
        let mut look = Command::new(&python);
        look.args(["-c", "import moto.server"])
            .stderr(Stdio::null());
        let found = look.status();
        if !found.is_ok_and(|status| status.success()) {
            let is_required =
                std::env::var("WATERCLOCK_TEST_MOTO").is_ok_and(|it| it == "required");
            assert!(!is_required, "'{python}' has no moto");
            println!("SKIPPED: there is no '{python}' with moto; WATERCLOCK_TEST_PYTHON names one");
            return None;
        }
        let mut child = Command::new(&python)
            .args(["-c", SERVE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it was just there");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped"))
            .read_line(&mut line)
            .expect("it says its port");
        let address = format!("127.0.0.1:{}", line.trim());
        let server = S3 { child, address };
        let made = server.ask("PUT", "", b"");
        assert!(made.starts_with(b"HTTP/1.1 200"), "a bucket can be made");
        Some(server)
    }

    /// One request, and its whole answer with the head. The server does not look at signatures.
    fn ask(&self, method: &str, key: &str, body: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let head = format!(
            "{method} /{BUCKET}{key} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, \
             SignedHeaders=host, Signature=0\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("it reads");
        stream.write_all(body).expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        answer
    }

    /// The keys below a prefix, in order.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let answer = self.ask("GET", &format!("?list-type=2&prefix={prefix}"), b"");
        let text = String::from_utf8_lossy(&answer).into_owned();
        let keys = text.split("<Key>").skip(1);
        let keys = keys.filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned()));
        keys.collect()
    }

    /// The bytes of an object.
    pub fn get(&self, key: &str) -> Vec<u8> {
        let answer = self.ask("GET", &format!("/{key}"), b"");
        let body = memchr::memmem::find(&answer, b"\r\n\r\n").expect("it has a head") + 4;
        answer[body..].to_vec()
    }

    /// Puts an object in place of what is there.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        let answer = self.ask("PUT", &format!("/{key}"), bytes);
        assert!(answer.starts_with(b"HTTP/1.1 200"), "it takes objects");
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What becomes of what a service sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It arrives.
    None,
    /// The connection is closed.
    Down,
    /// So many times the answer is 503.
    Busy(u32),
    /// So many times half of it arrives, and the connection is closed.
    Cut(u32),
    /// It is taken, and nothing comes back.
    Silent,
}

/// Stands before a server.
pub struct Proxy {
    pub url: String,
    state: Arc<Mutex<State>>,
}

struct State {
    fault: Fault,
    /// How often there was one.
    landed: u32,
}

impl Proxy {
    /// Stands before a server from here on.
    pub fn before(server: &S3) -> Proxy {
        Proxy::to(&server.address)
    }

    /// Stands before the server of an address.
    pub fn to(address: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let state = Arc::new(Mutex::new(State {
            fault: Fault::None,
            landed: 0,
        }));
        let (shared, address) = (Arc::clone(&state), address.to_owned());
        spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (state, address) = (Arc::clone(&shared), address.clone());
                spawn(move || carry(client, &address, &state));
            }
        });
        Proxy { url, state }
    }

    /// Fails like this from here on.
    pub fn fail(&self, fault: Fault) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fault = fault;
    }

    /// How often it failed so far.
    pub fn landed(&self) -> u32 {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .landed
    }
}

fn spawn(run: impl FnOnce() + Send + 'static) {
    let builder = thread::Builder::new().name("proxy".to_owned());
    builder
        .spawn(run)
        .expect("the test may have one more thread");
}

/// Carries one connection, a piece at a time, until somebody closes it or a fault does.
fn carry(mut client: TcpStream, address: &str, state: &Mutex<State>) {
    let Ok(mut server) = TcpStream::connect(address) else {
        return;
    };
    let (Ok(mut back), Ok(mut to)) = (server.try_clone(), client.try_clone()) else {
        return;
    };
    spawn(move || {
        drop(std::io::copy(&mut back, &mut to));
        drop(to.shutdown(Shutdown::Both));
    });
    let mut piece = vec![0; 1 << 16];
    while let Ok(n @ 1..) = client.read(&mut piece) {
        let fault = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let fault = state.fault;
            state.landed += u32::from(fault != Fault::None);
            state.fault = match fault {
                Fault::Busy(0 | 1) | Fault::Cut(0 | 1) => Fault::None,
                Fault::Busy(n) => Fault::Busy(n - 1),
                Fault::Cut(n) => Fault::Cut(n - 1),
                other => other,
            };
            fault
        };
        let goes_on = match fault {
            Fault::None => server.write_all(&piece[..n]).is_ok(),
            Fault::Silent => true,
            Fault::Down => false,
            Fault::Cut(_) => {
                drop(server.write_all(&piece[..n / 2]));
                false
            }
            Fault::Busy(_) => {
                let busy =
                    "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                drop(client.write_all(busy.as_bytes()));
                false
            }
        };
        if !goes_on {
            break;
        }
    }
    drop(client.shutdown(Shutdown::Both));
    drop(server.shutdown(Shutdown::Both));
}

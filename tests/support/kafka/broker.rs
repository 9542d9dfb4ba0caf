//! One node of Apache Kafka: started on a port of its own, stopped, killed, started again.

use std::fs;
use std::io::{self, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::artifacts::class_path;
use super::client::Client;
use super::java::{Java, java};
use super::tools::Tools;

/// How long anything may take before the test has failed; generous, because machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

const VARIABLE: &str = "WATERCLOCK_TEST_KAFKA";

/// Any 16 bytes in base64.
const CLUSTER_ID: &str = "V2F0ZXJjbG9ja1Rlc3RzMQ";

/// What makes a broker fit for tests. Topics are created with their settings, never by accident;
/// records with old timestamps are kept; what Kafka does now and then it does at once; anybody may
/// do anything that no rule denies.
const SETTINGS: &str = "
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
offsets.topic.segment.bytes=1048576
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
transaction.state.log.segment.bytes=1048576
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
group.min.session.timeout.ms=1000
log.retention.ms=-1
log.retention.check.interval.ms=500
log.initial.task.delay.ms=500
log.segment.bytes=16777216
log.segment.delete.delay.ms=500
log.index.size.max.bytes=1048576
log.cleaner.backoff.ms=200
log.cleaner.dedupe.buffer.size=4194304
num.network.threads=2
num.io.threads=2
background.threads=2
num.recovery.threads.per.data.dir=1
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
";

/// A broker of one node.
pub struct Broker {
    address: String,
    /// `None` for a broker that somebody else runs.
    node: Option<Node>,
    class_path: Option<String>,
}

/// A broker that is ours to start and stop.
struct Node {
    home: TempDir,
    java: Option<Java>,
    /// Holding these numbers for UDP keeps other tests from taking them for TCP while we restart.
    _ports: [UdpSocket; 2],
}

impl Broker {
    /// Starts a broker that this test may stop and kill; `None` where there is no Java or Maven.
    pub fn start() -> Option<Broker> {
        match class_path() {
            Ok(class_path) => Some(Broker::start_with(class_path)),
            Err(reason) if is_required() => panic!("no Kafka, which {VARIABLE} wants: {reason}"),
            Err(reason) => {
                // Past the capture of what passing tests print.
                let said = writeln!(io::stderr(), "SKIPPED, there is no Kafka: {reason}");
                said.expect("there is a standard error");
                None
            }
        }
    }

    /// The broker that all tests of this file share: each brings topics with names of its own.
    pub fn shared() -> Option<&'static Broker> {
        static SHARED: OnceLock<Option<Broker>> = OnceLock::new();
        let start = || named().map_or_else(Broker::start, |address| Some(Broker::named(address)));
        SHARED.get_or_init(start).as_ref()
    }

    fn named(address: String) -> Broker {
        let broker = Broker {
            address,
            node: None,
            class_path: class_path().ok(),
        };
        broker.client().wait_until_up(|| None);
        broker
    }

    fn start_with(class_path: String) -> Broker {
        let home = TempDir::with_prefix("waterclock-kafka-").expect("a directory for data");
        let (port, held) = free_port();
        let (controller, held_too) = free_port();
        let settings = format!(
            "{SETTINGS}\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             log.dirs={}\n",
            home.path().join("data").display()
        );
        let file = home.path().join("server.properties");
        fs::write(&file, settings).expect("the directory takes files");
        let formatted = java(&class_path, "kafka.tools.StorageTool")
            .args(["format", "--cluster-id", CLUSTER_ID, "--config"])
            .arg(&file)
            .output()
            .expect("java was found");
        let said = String::from_utf8_lossy(&formatted.stderr);
        assert!(formatted.status.success(), "{said}");
        let mut broker = Broker {
            address: format!("127.0.0.1:{port}"),
            node: Some(Node {
                home,
                java: None,
                _ports: [held, held_too],
            }),
            class_path: Some(class_path),
        };
        broker.start_again();
        broker
    }

    /// `HOST:PORT`; stays the same when it is started again.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Who asks it through librdkafka.
    pub fn client(&self) -> Client {
        Client::new(&self.address)
    }

    /// Kafka's own programs; `None` when the broker is somebody else's and Java is not here.
    pub fn tools(&self) -> Option<Tools> {
        let class_path = self.class_path.as_deref()?;
        Some(Tools::new(class_path, &self.address))
    }

    /// Starts it with the port and the data it had, and waits until it answers.
    pub fn start_again(&mut self) {
        let address = self.address.clone();
        let class_path = self.class_path.clone().expect("it was started from jars");
        let node = self.node_mut();
        assert!(node.java.is_none(), "the broker {address} runs");
        let log = node.home.path().join("log");
        let mut program = java(&class_path, "kafka.Kafka");
        program.arg(node.home.path().join("server.properties"));
        let mut java = Java::start(&program, node.home.path(), &log);
        Client::new(&address).wait_until_up(|| {
            let status = java.ended()?;
            Some(format!("{status}:\n{}", text(&log)))
        });
        node.java = Some(java);
    }

    /// Stops it in good order.
    pub fn stop(&mut self) {
        let mut java = self.take();
        java.ask_to_end();
        until("the broker to end", || java.ended());
    }

    /// Kills it with signal 9.
    pub fn kill(&mut self) {
        self.take().kill();
    }

    /// Stops it in good order and starts it again.
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// What it has logged: warnings and errors.
    pub fn log(&self) -> String {
        let node = self.node.as_ref().expect("the broker is ours");
        text(&node.home.path().join("log"))
    }

    fn take(&mut self) -> Java {
        self.node_mut().java.take().expect("the broker runs")
    }

    fn node_mut(&mut self) -> &mut Node {
        let node = self.node.as_mut();
        node.expect("only a shared broker is somebody else's, and nobody can change a shared one")
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn is_required() -> bool {
    std::env::var(VARIABLE).is_ok_and(|value| value == "required")
}

/// The broker that the environment names.
fn named() -> Option<String> {
    let value = std::env::var(VARIABLE).ok()?;
    (!value.is_empty() && value != "required").then_some(value)
}

/// A port that no other test has, held by its namesake for UDP. None of those that the system
/// gives to whoever asks for any, or it could be gone before the broker has it.
fn free_port() -> (u16, UdpSocket) {
    // Processes begin at different places, so that they rarely meet.
    let first = u16::try_from(std::process::id() * 16 % 10_000).expect("below 10000");
    (0..10_000)
        .map(|step| 20_000 + (first + step) % 10_000)
        .find_map(|port| {
            let lock = UdpSocket::bind(("127.0.0.1", port)).ok()?;
            TcpListener::bind(("127.0.0.1", port)).ok()?;
            Some((port, lock))
        })
        .expect("one of ten thousand ports is free")
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
        // What is waited for needs the processor.
        park_timeout(Duration::from_millis(10));
    }
}

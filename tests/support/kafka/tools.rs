//! Kafka's own command line programs: clients that share no code with librdkafka.

use std::io::{BufWriter, Write};
use std::process::{Command, Stdio};

use super::java::java;

/// Waits for a broker that restarts, and gives up late rather than lose a record.
const PATIENT: [&str; 5] = [
    "retries=2147483647",
    "delivery.timeout.ms=120000",
    "acks=all",
    "linger.ms=20",
    "batch.size=131072",
];

/// Runs Kafka's programs against one broker. Each takes a second to start.
#[derive(Clone, Debug)]
pub struct Tools {
    class_path: String,
    address: String,
}

impl Tools {
    pub(super) fn new(class_path: &str, address: &str) -> Tools {
        Tools {
            class_path: class_path.to_owned(),
            address: address.to_owned(),
        }
    }

    fn command(&self, class: &str, args: &[&str]) -> Command {
        let mut command = java(&self.class_path, &format!("org.apache.kafka.tools.{class}"));
        command
            .args(["--bootstrap-server", &self.address])
            .args(args);
        command
    }

    /// What a program of `org.apache.kafka.tools` prints; it must succeed.
    pub fn run(&self, class: &str, args: &[&str]) -> String {
        let output = self.command(class, args).stdin(Stdio::null()).output();
        let output = output.expect("java was found");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{class} {args:?}: {said}");
        String::from_utf8(output.stdout).expect("these programs print text")
    }

    /// Transactional ids and states of transactions that are neither committed nor aborted.
    pub fn open_transactions(&self) -> Vec<(String, String)> {
        let table = self.run("TransactionsCommand", &["list"]);
        let rows = table.lines().skip(1).map(|row| {
            let mut columns = row.split_whitespace();
            let id = columns.next().unwrap_or_default();
            (id.to_owned(), columns.last().unwrap_or_default().to_owned())
        });
        let is_over = |state: &str| matches!(state, "Empty" | "CompleteCommit" | "CompleteAbort");
        rows.filter(|(_, state)| !is_over(state)).collect()
    }

    /// The rows of partitions that wait for a transaction which no coordinator knows.
    pub fn hanging_transactions(&self) -> Vec<String> {
        let table = self.run("TransactionsCommand", &["find-hanging", "--broker-id", "1"]);
        table.lines().skip(1).map(str::to_owned).collect()
    }

    /// The identity of a topic: another one after it was deleted and created again.
    pub fn topic_id(&self, topic: &str) -> String {
        let text = self.run("TopicCommand", &["--describe", "--topic", topic]);
        let id = text.split("TopicId: ").nth(1);
        let id = id.and_then(|rest| rest.split_whitespace().next());
        id.expect("Kafka names the topic's id").to_owned()
    }

    /// Takes the right to read a topic from everybody; to write and to look at it stays allowed.
    pub fn revoke_reading(&self, topic: &str) {
        self.change_rules(topic, &["--add"]);
    }

    /// Gives it back.
    pub fn restore_reading(&self, topic: &str) {
        self.change_rules(topic, &["--remove", "--force"]);
    }

    /// What no rule names is allowed; what a rule names is allowed no further than it says.
    fn change_rules(&self, topic: &str, how: &[&str]) {
        let only = ["--allow-principal", "User:*", "--operation", "Write"];
        self.run("AclCommand", &[how, &only, &["--topic", topic]].concat());
    }

    /// Writes `KEY<TAB>VALUE` lines with Java's producer; it survives a restart of the broker.
    pub fn produce(&self, topic: &str, lines: impl IntoIterator<Item = String>) {
        let mut args = vec!["--topic", topic];
        args.extend(PATIENT.iter().flat_map(|one| ["--command-property", one]));
        args.extend(["--reader-property", "parse.key=true"]);
        let mut child = self
            .command("ConsoleProducer", &args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("java was found");
        let mut stdin = BufWriter::new(child.stdin.take().expect("it is piped"));
        for line in lines {
            writeln!(stdin, "{line}").expect("the producer reads to the end");
        }
        drop(stdin);
        let output = child.wait_with_output().expect("it is our child");
        // A record that it gives up is an error in its log, and does not stop it.
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("ERROR"), "{said}");
    }

    /// Reads the first `count` records with Java's consumer, as `KEY<TAB>VALUE` lines.
    pub fn read(&self, topic: &str, count: usize) -> Vec<String> {
        let count = count.to_string();
        let args = [
            "--topic",
            topic,
            "--from-beginning",
            "--isolation-level",
            "read_committed",
            "--max-messages",
            &count,
            "--timeout-ms",
            "60000",
            "--formatter-property",
            "print.key=true",
        ];
        let text = self.run("consumer.ConsoleConsumer", &args);
        text.lines().map(str::to_owned).collect()
    }
}

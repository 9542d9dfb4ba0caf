//! The driver over a sink in memory: whatever fails, and whenever the process ends, each message is
//! there once and in order.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Driver, Driving, Past, Progress, Sink, SinkError};
use crate::row::Row;
use crate::time::Epoch;
use crate::view::{
    History, Labels, Leaving, Message, Mode, Next, Outbox, QuerySpec, SinkSpec, Views, Writer,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a commit comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is done.
    Done,
    /// Nothing of it arrived.
    Lost,
    /// It arrived, and nobody was told.
    Unheard,
    /// It will not work.
    Refused,
}

/// A topic that outlives its writers.
#[derive(Default)]
struct Topic {
    messages: Vec<String>,
    progress: Option<Progress>,
    /// What the next commits come to; done where nothing is said.
    fates: Vec<Fate>,
    openings: usize,
}

/// A sink that sends to a topic in memory, all or nothing.
struct Memory {
    topic: Arc<Mutex<Topic>>,
    /// Hears of each commit that was tried.
    tried: Sender<Fate>,
}

impl Sink for Memory {
    fn open(&mut self) -> Result<Option<Progress>, SinkError> {
        let mut topic = self.topic.lock().unwrap();
        topic.openings += 1;
        Ok(topic.progress.clone())
    }

    fn commit(&mut self, messages: &[Message], progress: &Progress) -> Result<(), SinkError> {
        let mut topic = self.topic.lock().unwrap();
        let fate = if topic.fates.is_empty() {
            Fate::Done
        } else {
            topic.fates.remove(0)
        };
        if matches!(fate, Fate::Done | Fate::Unheard) {
            let written = messages
                .iter()
                .map(|m| format!("{} {}", m.key(), m.row.value()));
            topic.messages.extend(written);
            topic.progress = Some(progress.clone());
        }
        drop(topic);
        let _ = self.tried.send(fate);
        match fate {
            Fate::Done => Ok(()),
            Fate::Lost | Fate::Unheard => Err(SinkError::Retry("it broke".to_owned())),
            Fate::Refused => Err(SinkError::Stop("it is refused".to_owned())),
        }
    }
}

/// One process: it runs all epochs again, and its sink goes on from the topic's progress.
struct Process {
    views: Views,
    writer: Writer,
    outbox: Arc<Outbox>,
    driver: Driver,
    tried: Receiver<Fate>,
}

fn past(epochs: Epoch) -> Past {
    Past {
        run: 1,
        journalled: Arc::new((1..=epochs).map(|epoch| (epoch, 1)).collect()),
        fingerprint: "f".to_owned(),
        ..Past::default()
    }
}

impl Process {
    fn start(topic: &Arc<Mutex<Topic>>, past: Past) -> Process {
        let query = QuerySpec {
            name: "q".to_owned(),
            ..QuerySpec::default()
        };
        let views = Views::new(1, vec![query], Vec::new(), 1, History::default());
        let view = views.query("q").unwrap();
        let spec = SinkSpec {
            name: "s".to_owned(),
            query: "q".to_owned(),
            mode: Mode::Upsert,
            buffer_bytes: 1 << 20,
            ..SinkSpec::default()
        };
        let outbox = Arc::new(Outbox::new(spec, Arc::clone(view), 0, None));
        let (tell, tried) = channel();
        let memory = Memory {
            topic: Arc::clone(topic),
            tried: tell,
        };
        let driver = Driver::start(Driving {
            outbox: Arc::clone(&outbox),
            sink: Box::new(memory),
            past,
            interval: Duration::from_millis(1),
        });
        Process {
            writer: Writer::new(0, view, &[Arc::clone(&outbox)]),
            outbox,
            driver: driver.unwrap(),
            tried,
            views,
        }
    }

    /// Runs an epoch, in which key `k` gets its number.
    fn run(&mut self, epoch: Epoch) {
        let row = |value: Epoch| Row::new(&"k", &value, None).unwrap();
        let mut changes = vec![(row(epoch), 1)];
        if epoch > 1 {
            changes.push((row(epoch - 1), -1));
        }
        self.writer.apply(epoch, None, Leaving::OneByOne, changes);
        self.views.publish(Labels {
            epoch,
            ..Labels::default()
        });
        self.outbox.release(epoch, epoch);
    }

    /// Waits for a commit that was tried.
    fn tried(&self) -> Fate {
        self.tried.recv_timeout(PATIENCE).expect("it tries")
    }

    /// Waits until an epoch is committed.
    fn until_committed(&self, epoch: Epoch) {
        while self.outbox.status().epoch < Some(epoch) {
            match self.tried.recv_timeout(Duration::from_millis(10)) {
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("{:?}", self.outbox.status()),
            }
        }
    }

    /// Waits until the sink has stopped; says why.
    fn why_stopped(&self) -> String {
        while let Ok(_) | Err(RecvTimeoutError::Timeout) =
            self.tried.recv_timeout(Duration::from_millis(10))
        {}
        let status = self.outbox.status();
        assert_eq!(status.state, "stopped");
        status.reason.unwrap()
    }
}

fn once(epochs: Epoch) -> Vec<String> {
    (1..=epochs).map(|epoch| format!("\"k\" {epoch}")).collect()
}

#[test]
fn every_message_is_there_once_whatever_commits_come_to() {
    let topic = Arc::new(Mutex::new(Topic::default()));
    topic.lock().unwrap().fates = vec![
        Fate::Lost,
        Fate::Lost,
        Fate::Unheard,
        Fate::Done,
        Fate::Unheard,
        Fate::Lost,
    ];
    let mut process = Process::start(&topic, past(0));
    for epoch in 1..=20 {
        process.run(epoch);
        process.until_committed(epoch);
    }
    process.driver.stop();
    let topic = topic.lock().unwrap();
    assert_eq!(topic.messages, once(20));
    assert_eq!(topic.progress.as_ref().unwrap().epoch, 20);
    assert_eq!(topic.openings, 6, "once, and after each error");
}

#[test]
fn a_process_that_ends_at_any_commit_is_gone_on_from() {
    for fate in [Fate::Lost, Fate::Unheard, Fate::Done] {
        let topic = Arc::new(Mutex::new(Topic::default()));
        for end in 1..=10 {
            topic.lock().unwrap().fates = vec![fate];
            let mut process = Process::start(&topic, past(end - 1));
            for epoch in 1..=end {
                process.run(epoch);
            }
            // What it sent is not noted anywhere but in the topic.
            assert_eq!(process.tried(), fate);
            process.driver.stop();
        }
        let mut process = Process::start(&topic, past(10));
        for epoch in 1..=11 {
            process.run(epoch);
        }
        process.until_committed(11);
        process.driver.stop();
        assert_eq!(topic.lock().unwrap().messages, once(11), "{fate:?}");
    }
}

#[test]
fn while_it_fails_it_says_why_and_goes_on_by_itself() {
    let topic = Arc::new(Mutex::new(Topic::default()));
    topic.lock().unwrap().fates = vec![Fate::Lost; 3];
    let mut process = Process::start(&topic, past(0));
    process.run(1);
    assert_eq!(process.tried(), Fate::Lost);
    // The state is told after the commit.
    while process.outbox.status().state != "retrying" {
        std::thread::yield_now();
    }
    assert_eq!(process.outbox.status().reason.as_deref(), Some("it broke"));
    process.until_committed(1);
    assert_eq!(process.outbox.status().state, "running");
    process.driver.stop();
}

#[test]
fn a_sink_that_is_refused_stops_alone() {
    let topic = Arc::new(Mutex::new(Topic::default()));
    topic.lock().unwrap().fates = vec![Fate::Refused];
    let mut process = Process::start(&topic, past(0));
    process.run(1);
    assert_eq!(process.why_stopped(), "it is refused");
    process.run(2);
    let status = process.outbox.status();
    assert_eq!((status.waiting_messages, status.waiting_bytes), (0, 0));
    process.driver.stop();
}

#[test]
fn one_that_somebody_else_follows_stops() {
    let topic = Arc::new(Mutex::new(Topic::default()));
    let mut process = Process::start(&topic, past(0));
    process.run(1);
    process.until_committed(1);
    {
        let mut topic = topic.lock().unwrap();
        topic.progress.as_mut().unwrap().epoch = 9;
        topic.fates = vec![Fate::Lost];
    }
    process.run(2);
    assert!(process.why_stopped().contains("another process"));
    process.driver.stop();
}

#[test]
fn a_restart_sends_the_whole_answer_again() {
    let topic = Arc::new(Mutex::new(Topic::default()));
    let mut process = Process::start(&topic, past(0));
    process.run(1);
    process.run(2);
    process.until_committed(2);
    process.driver.stop();
    let changed = Past {
        fingerprint: "g".to_owned(),
        ..past(2)
    };
    let process = Process::start(&topic, changed.clone());
    assert!(process.why_stopped().contains("--restart-sink s"));
    process.driver.stop();
    let restarts = Past {
        restarts: true,
        ..changed
    };
    topic.lock().unwrap().fates = vec![Fate::Lost];
    let mut process = Process::start(&topic, restarts);
    process.run(1);
    process.run(2);
    process.until_committed(2);
    process.driver.stop();
    assert_eq!(topic.lock().unwrap().messages, [once(2), once(2)].concat());
}

#[test]
fn stopping_sends_what_may_be_sent() {
    let topic = Arc::new(Mutex::new(Topic::default()));
    let mut process = Process::start(&topic, past(0));
    process.run(1);
    process.until_committed(1);
    process.run(2);
    let outbox = Arc::clone(&process.outbox);
    process.driver.stop();
    assert_eq!(topic.lock().unwrap().messages, once(2));
    assert!(matches!(outbox.next(1, PATIENCE), Next::Closed));
}

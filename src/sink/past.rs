//! What a service that starts knows of epochs, and whether a sink can go on from there.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Progress;
use crate::time::Epoch;
use crate::view::Sent;

/// The epochs that can be run again, and what the state restored says of a sink.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// The run.
    pub run: u64,
    /// The epoch and run of the checkpoint restored; `None` where there was none.
    pub restored: Option<(Epoch, u64)>,
    /// The runs of the journal's epochs after it.
    pub journalled: Arc<BTreeMap<Epoch, u64>>,
    /// How far the sink had sent when the newest checkpoint was taken.
    pub sent: Option<Sent>,
    /// Identifies what the query answers now, and what of it is sent.
    pub fingerprint: String,
    /// Whether the sink is to send the whole answer again.
    pub restarts: bool,
}

impl Past {
    /// Up to and with which epoch the sink has everything, when it has come so far; otherwise why
    /// it cannot go on.
    pub fn judge(&self, sink: &str, found: Option<&Progress>) -> Result<Epoch, String> {
        if self.restarts {
            return Ok(0);
        }
        let again = || format!("to send the whole answer again: --restart-sink {sink}");
        let noted = self.sent.and_then(|sent| sent.committed);
        let Some(found) = found else {
            return match noted {
                None => Ok(0),
                Some(noted) => Err(format!(
                    "its progress is gone, which was epoch {} when the last checkpoint was taken; \
                     {}",
                    noted.epoch,
                    again()
                )),
            };
        };
        let epoch = found.epoch;
        if found.fingerprint != self.fingerprint {
            return Err(format!(
                "what is sent has changed since epoch {epoch}: the query, the streams it reads, \
                 their bounds, or the sink's mode or topic; {}",
                again()
            ));
        }
        if let Some(noted) = noted
            && epoch < noted.epoch
        {
            return Err(format!(
                "its progress went back, to epoch {epoch} from {}; {}",
                noted.epoch,
                again()
            ));
        }
        // What a checkpoint noted holds for what came after, too: nothing was to be sent between.
        let through = noted.and(self.sent).map_or(0, |sent| sent.through);
        if noted == Some(found.committed()) {
            return Ok(epoch.max(through));
        }
        if let Some((restored, _)) = self.restored
            && epoch < restored
        {
            return Err(format!(
                "it has come to epoch {epoch}, and the saved state begins at {restored}: what lies \
                 between cannot be sent any more; {}",
                again()
            ));
        }
        let is_restored = self.restored == Some((epoch, found.run));
        if is_restored || self.journalled.get(&epoch) == Some(&found.run) {
            return Ok(epoch.max(through));
        }
        Err(format!(
            "it has come to epoch {epoch} of run {}, which this service's journal does not know: \
             it is another service's, or its end was lost; {}",
            found.run,
            again()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Committed;

    fn progress(run: u64, epoch: Epoch) -> Progress {
        Progress {
            run,
            epoch,
            fingerprint: "f".to_owned(),
        }
    }

    /// Restored at 10 of run 1; 12 and 15 of run 1 and 20 of run 2 are journalled.
    fn past() -> Past {
        Past {
            run: 2,
            restored: Some((10, 1)),
            journalled: Arc::new([(12, 1), (15, 1), (20, 2)].into()),
            fingerprint: "f".to_owned(),
            ..Past::default()
        }
    }

    fn refusal(past: &Past, found: Option<&Progress>) -> String {
        past.judge("s", found).expect_err("it cannot go on")
    }

    #[test]
    fn a_known_epoch_is_gone_on_from() {
        for (run, epoch) in [(1, 10), (1, 12), (1, 15), (2, 20)] {
            assert_eq!(past().judge("s", Some(&progress(run, epoch))), Ok(epoch));
        }
        assert_eq!(past().judge("s", None), Ok(0), "a new sink");
    }

    #[test]
    fn an_unknown_one_stops_the_sink_and_says_the_way_out() {
        for (found, why) in [
            (progress(1, 9), "the saved state begins at 10"),
            (progress(1, 13), "does not know"),
            (progress(3, 15), "does not know"),
            (progress(1, 20), "does not know"),
            (progress(2, 21), "does not know"),
        ] {
            let refusal = refusal(&past(), Some(&found));
            assert!(refusal.contains(why), "{refusal}");
            assert!(refusal.contains("--restart-sink s"), "{refusal}");
        }
        let other = Progress {
            fingerprint: "g".to_owned(),
            ..progress(1, 12)
        };
        assert!(refusal(&past(), Some(&other)).contains("has changed"));
        let restarts = Past {
            restarts: true,
            ..past()
        };
        assert_eq!(restarts.judge("s", Some(&other)), Ok(0));
    }

    #[test]
    fn what_a_checkpoint_noted_of_it_counts() {
        let sent = |epoch, through| Past {
            sent: Some(Sent {
                committed: Some(Committed { run: 1, epoch }),
                through,
            }),
            ..past()
        };
        // Long before the checkpoint, and nothing was to be sent since.
        assert_eq!(sent(3, 11).judge("s", Some(&progress(1, 3))), Ok(11));
        assert_eq!(sent(3, 11).judge("s", Some(&progress(1, 12))), Ok(12));
        assert_eq!(sent(12, 13).judge("s", Some(&progress(1, 12))), Ok(13));
        assert!(refusal(&sent(12, 12), None).contains("is gone"));
        assert!(refusal(&sent(12, 12), Some(&progress(1, 10))).contains("went back"));
        // Of one that was not known yet nothing is concluded.
        let unknown = Past {
            sent: Some(Sent {
                committed: None,
                through: 10,
            }),
            ..past()
        };
        assert_eq!(unknown.judge("s", Some(&progress(1, 12))), Ok(12));
        assert_eq!(unknown.judge("s", None), Ok(0));
        // Another progress than the one noted proves nothing about what came before.
        assert!(refusal(&sent(3, 11), Some(&progress(1, 4))).contains("begins at 10"));
    }
}

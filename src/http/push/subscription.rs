//! One subscriber's place: what it has got, and so what it gets next. No clock, no connection.

use std::sync::{Arc, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::feed::{After, Feed};
use super::step::{Sent, Share, Step};
use super::wire::{AsOf, Format, Frame, PIECE, Part, one_line};
use crate::http::answer::Comma;
use crate::http::token::Resume;
use crate::time::{Epoch, Timestamp};
use crate::view::{KeyRange, Page, ReadError, RowPosition};

/// What is subscribed to.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) feed: Arc<Feed>,
    /// Which keys; all where nothing is said.
    pub(super) range: Option<KeyRange>,
    /// What the subscriber's tokens are for.
    pub(super) scope: u32,
    pub(super) format: Format,
}

/// One subscriber's place.
pub(super) struct Subscription {
    wanted: Wanted,
    /// What the subscriber has, once it has got all that is under way.
    at: AsOf,
    state: State,
    /// How much all that are behind may keep in memory.
    backlog: Arc<Semaphore>,
    /// Counts those who follow the whole query.
    _whole: Option<Arc<()>>,
}

enum State {
    /// Has to be told that what it has is void, and why.
    Reset(String),
    /// Has to be told why nothing more will come.
    Failed(String),
    /// Gets the answer, part by part.
    Snapshot(Option<RowPosition>),
    /// Gets changes, piece by piece.
    Changes(Held, Share, Sent),
    /// Has everything there was.
    Following,
    /// Gets nothing more.
    Ended,
}

/// A step while it is sent.
enum Held {
    /// The feed's. Where the feed lets go of it first, the subscriber was too slow.
    Feed(Weak<Step>),
    /// Its own; counted if it is long.
    Own {
        step: Arc<Step>,
        _counted: Option<OwnedSemaphorePermit>,
    },
}

impl Held {
    fn step(&self) -> Option<Arc<Step>> {
        match self {
            Held::Feed(step) => step.upgrade(),
            Held::Own { step, .. } => Some(Arc::clone(step)),
        }
    }
}

/// What there is to do for a subscriber.
#[derive(Debug)]
pub(super) enum Next {
    /// To send this.
    Frame(Frame),
    /// To read the views, which may take a while: see [`Subscription::job`].
    Read,
    /// To wait until the feed has moved.
    Wait,
    /// To close the connection.
    End,
}

/// What has to be read from the views.
pub(super) struct Job {
    wanted: Wanted,
    at: AsOf,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// The answer from here on.
    Part(Option<RowPosition>),
    /// The changes since.
    Changes,
}

/// What was read.
pub(super) enum Outcome {
    Part(Result<(Frame, Option<RowPosition>), ReadError>),
    Changes(Result<Step, ReadError>),
}

impl Subscription {
    /// Begins where a token says, or with a snapshot.
    pub(super) fn begin(
        wanted: Wanted,
        resume: Option<Resume>,
        backlog: &Arc<Semaphore>,
    ) -> Result<Subscription, ReadError> {
        let views = &wanted.feed.views;
        let newest = views.upper().ok_or(ReadError::NotReady)?;
        let newest = wanted.feed.as_of(&newest);
        let (at, state) = match resume {
            None => (newest, State::Snapshot(None)),
            Some(resume) => match place_of(&wanted, &resume) {
                Ok(at) => (at, State::Following),
                Err(reason) => (newest, State::Reset(reason)),
            },
        };
        let feed = &wanted.feed;
        let whole = wanted.range.is_none().then(|| Arc::clone(&feed.whole));
        Ok(Subscription {
            _whole: whole,
            wanted,
            at,
            state,
            backlog: Arc::clone(backlog),
        })
    }

    /// What there is to do now.
    pub(super) fn next(&mut self) -> Next {
        loop {
            match std::mem::replace(&mut self.state, State::Following) {
                State::Reset(reason) => {
                    self.state = State::Snapshot(None);
                    self.renew();
                    return Next::Frame(self.wanted.format.reset(&reason));
                }
                State::Failed(reason) => {
                    self.state = State::Ended;
                    return Next::Frame(self.wanted.format.reset(&reason));
                }
                State::Snapshot(position) => {
                    self.state = State::Snapshot(position);
                    return Next::Read;
                }
                State::Changes(held, share, sent) => {
                    let Some(step) = held.step() else {
                        // Half an event is no event: the subscriber has the token of the one
                        // before.
                        self.state = State::Ended;
                        return Next::End;
                    };
                    return Next::Frame(self.piece(&step, held, share, sent));
                }
                State::Following => match self.wanted.feed.after(self.at.epoch) {
                    After::Nothing => return Next::Wait,
                    After::Unread => return Next::Read,
                    After::Step(step) => {
                        let held = Held::Feed(Arc::downgrade(&step));
                        if let Some(frame) = self.take(&step, held) {
                            return Next::Frame(frame);
                        }
                    }
                    After::Failed(reason) => self.state = State::Failed(reason),
                },
                State::Ended => {
                    self.state = State::Ended;
                    return Next::End;
                }
            }
        }
    }

    /// What [`Next::Read`] asks to read; its outcome belongs into [`Subscription::read`].
    pub(super) fn job(&self) -> Job {
        let what = match &self.state {
            State::Snapshot(position) => What::Part(position.clone()),
            _ => What::Changes,
        };
        Job {
            wanted: self.wanted.clone(),
            at: self.at,
            what,
        }
    }

    /// Takes what was read; gives what can be sent of it at once.
    pub(super) fn read(&mut self, outcome: Outcome) -> Option<Frame> {
        match outcome {
            Outcome::Part(Ok((frame, next))) => {
                self.state = match next {
                    Some(position) => State::Snapshot(Some(position)),
                    None => State::Following,
                };
                return Some(frame);
            }
            Outcome::Changes(Ok(step)) => return self.own(step),
            Outcome::Part(Err(ReadError::Gone { at, since })) => {
                self.state = State::Reset(format!(
                    "epoch {at} went out of the history, which begins at {since}, before all its \
                     rows were sent: read faster, or subscribe to fewer keys"
                ));
            }
            Outcome::Changes(Err(ReadError::Gone { at, since })) => {
                self.state = State::Reset(too_old(at, since));
            }
            Outcome::Part(Err(error)) | Outcome::Changes(Err(error)) => {
                self.state = State::Failed(error.to_string());
            }
        }
        None
    }

    /// Says how far the answer is, where nothing changed. Who has not got all of it is told
    /// nothing: it could not go on from there.
    pub(super) fn progress(&self) -> Option<Frame> {
        let has_all = matches!(self.state, State::Following);
        has_all.then(|| self.wanted.format.progress(&self.at, &self.token()))
    }

    fn token(&self) -> String {
        self.wanted.feed.token(self.at.epoch, self.wanted.scope)
    }

    /// Begins again, at the newest epoch.
    fn renew(&mut self) {
        if let Some(newest) = self.wanted.feed.views.upper() {
            self.at = self.wanted.feed.as_of(&newest);
        }
    }

    /// Takes changes that only this subscriber needs.
    fn own(&mut self, step: Step) -> Option<Frame> {
        let bytes = step.event_bytes;
        let mut counted = None;
        if bytes > PIECE {
            let wanted = u32::try_from(step.bytes()).unwrap_or(u32::MAX);
            counted = Arc::clone(&self.backlog)
                .try_acquire_many_owned(wanted)
                .ok();
            if counted.is_none() {
                self.state = State::Reset(format!(
                    "{bytes} bytes of changes since epoch {} are more than is kept for subscribers \
                     that are behind",
                    step.from
                ));
                return None;
            }
        }
        let step = Arc::new(step);
        let held = Held::Own {
            step: Arc::clone(&step),
            _counted: counted,
        };
        self.take(&step, held)
    }

    /// Goes over a step; gives the first piece of what is wanted of it, and holds it for the rest.
    fn take(&mut self, step: &Step, held: Held) -> Option<Frame> {
        self.at = step.as_of;
        let share = match &self.wanted.range {
            None => (!step.is_empty()).then_some(Share::Whole),
            Some(range) => step.share(range, || self.token()),
        };
        Some(self.piece(step, held, share?, Sent::default()))
    }

    fn piece(&mut self, step: &Step, held: Held, share: Share, mut sent: Sent) -> Frame {
        let frame = step.next(&share, self.wanted.format, &mut sent);
        if !frame.is_last {
            self.state = State::Changes(held, share, sent);
        }
        frame
    }
}

impl Job {
    /// Reads; takes as long as it takes.
    pub(super) fn run(self) -> Outcome {
        let Wanted { feed, .. } = &self.wanted;
        match &self.what {
            What::Changes => Outcome::Changes(feed.catch_up(self.at.epoch)),
            What::Part(position) => Outcome::Part(self.part(position.as_ref())),
        }
    }

    fn part(
        &self,
        position: Option<&RowPosition>,
    ) -> Result<(Frame, Option<RowPosition>), ReadError> {
        let Wanted {
            feed,
            range,
            scope,
            format,
        } = &self.wanted;
        let all = KeyRange::all();
        let range = range.as_ref().unwrap_or(&all);
        let never = Timestamp(i64::MIN);
        let final_at = feed
            .only_final
            .then(|| self.at.complete_through.unwrap_or(never));
        let page = feed
            .view
            .read_bytes(self.at.epoch, range, position, PIECE as u64, final_at)?;
        let id = page
            .next
            .is_none()
            .then(|| feed.token(self.at.epoch, *scope));
        let part = Part {
            is_first: position.is_none(),
            rows: &rows(&page),
            id: id.as_deref(),
        };
        Ok((format.snapshot(&self.at, &part), page.next))
    }
}

/// The rows of a page as JSON, each as often as it occurs.
fn rows(page: &Page) -> Vec<u8> {
    let mut out = Vec::with_capacity(PIECE);
    let mut comma = Comma::default();
    for (row, times) in &page.rows {
        for _ in 0..*times {
            comma.write(&mut out);
            out.extend_from_slice(b"{\"key\":");
            one_line(&mut out, row.key());
            out.extend_from_slice(b",\"value\":");
            one_line(&mut out, row.value());
            out.push(b'}');
        }
    }
    out
}

/// What the subscriber with this token has; the error says why that cannot be continued.
fn place_of(wanted: &Wanted, resume: &Resume) -> Result<AsOf, String> {
    let views = &wanted.feed.views;
    if resume.run != views.run() {
        return Err(format!(
            "the token is of run {}, and this is run {}: the end of what the former had shown was \
             lost, or reads otherwise now",
            resume.run,
            views.run()
        ));
    }
    if resume.scope != wanted.scope {
        return Err("the token is of another query, key or prefix".to_owned());
    }
    match views.labels_at(resume.epoch) {
        Ok(labels) => Ok(AsOf {
            epoch: resume.epoch,
            ..wanted.feed.as_of(&labels)
        }),
        Err(ReadError::Gone { at, since }) => Err(too_old(at, since)),
        Err(error) => Err(error.to_string()),
    }
}

fn too_old(at: Epoch, since: Epoch) -> String {
    format!("epoch {at} is too old to go on from: the oldest that is kept is {since}")
}

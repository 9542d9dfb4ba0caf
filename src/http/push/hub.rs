//! Every subscription of the service: which feeds there are, and how much all may take.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::feed::{Feed, keep_up};
use crate::http::problem::{Kind, Problem};
use crate::time::Epoch;
use crate::view::{Labels, View, Views};

/// About how many bytes all subscribers that are behind may keep in memory.
const BACKLOG: usize = 64 << 20;

/// How many of them read the views at the same time: the others wait, and the workers do not.
const READING: usize = 2;

/// The shortest time between two steps of a feed.
const MIN_PACE: Duration = Duration::from_millis(2);

/// How much of a core's time subscribers may take at most, as a divisor: steps come so far apart
/// that all feeds together stay below it.
const SHARE: u32 = 2;

/// Which rows of which query a feed is of.
type FeedName = (String, bool);

/// Every subscription of the service.
pub(in crate::http) struct Hub {
    feeds: Mutex<BTreeMap<FeedName, Weak<Feed>>>,
    places: Arc<Semaphore>,
    most: usize,
    pub(super) reading: Arc<Semaphore>,
    pub(super) backlog: Arc<Semaphore>,
}

impl Hub {
    /// A hub for at most so many subscribers.
    pub(in crate::http) fn new(most: usize) -> Hub {
        let most = most.min(u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        Hub {
            feeds: Mutex::default(),
            places: Arc::new(Semaphore::new(most)),
            most,
            reading: Arc::new(Semaphore::new(READING)),
            backlog: Arc::new(Semaphore::new(BACKLOG)),
        }
    }

    /// How many subscribers there are.
    pub(in crate::http) fn subscribers(&self) -> usize {
        self.most - self.places.available_permits()
    }

    /// A place for one more subscriber.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            Problem::new(
                Kind::Overloaded,
                format!(
                    "{} subscriptions are open, and no more are let in: close some, or raise \
                     http.max_subscribers",
                    self.most
                ),
            )
        })
    }

    /// Waits until the last subscriber has gone; none is let in any more.
    pub(in crate::http) async fn ended(&self) {
        let all = u32::try_from(self.most).expect("it was cut to that when it was made");
        // Nobody closes it.
        self.places.acquire_many(all).await.ok();
    }

    /// The feed of a query, begun if it has no subscriber yet.
    pub(super) fn feed(
        self: &Arc<Hub>,
        views: &Arc<Views>,
        view: &Arc<View>,
        wanted: (bool, u32),
        newest: &Labels,
        shown: &watch::Receiver<Epoch>,
    ) -> Arc<Feed> {
        let (only_final, scope) = wanted;
        let name = (view.spec().name.clone(), only_final);
        let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(feed) = feeds.get(&name).and_then(Weak::upgrade) {
            return feed;
        }
        let feed = Arc::new(Feed::new(views, view, only_final, scope, newest));
        feeds.insert(name, Arc::downgrade(&feed));
        let hub = Arc::clone(self);
        let pace = move || hub.pace();
        tokio::spawn(keep_up(Arc::downgrade(&feed), shown.clone(), pace));
        feed
    }

    /// How long to wait between two steps of a feed.
    fn pace(&self) -> Duration {
        let feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        let feeds = feeds.values().filter_map(Weak::upgrade);
        let cost: Duration = feeds.map(|feed| feed.cost()).sum();
        MIN_PACE.max(cost.saturating_mul(SHARE))
    }
}

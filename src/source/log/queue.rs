//! The bounded queue between those who post and the appender thread.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::LogOptions;
use crate::view::{PostReply, PostRequest};

/// A group ends before the post that would make it larger, so that it is answered soon.
const GROUP_BYTES: usize = 8 << 20;

/// A post that waits for its turn.
pub(super) struct Post {
    /// Which of the log's streams.
    pub stream: usize,
    pub request: PostRequest,
    pub reply: PostReply,
}

/// What the appender does next.
#[derive(Default)]
pub(super) struct Work {
    pub posts: Vec<Post>,
    /// Streams, and the position before which no restart reads.
    pub releases: BTreeMap<usize, u64>,
    bytes: usize,
}

/// Why a post was not queued; the reply comes back.
pub(super) enum Refused {
    /// The bound is reached.
    Full(PostReply),
    /// No more posts are taken.
    Stopping(PostReply),
}

/// Waiting posts, bounded in number and bytes; those being written count too.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    ready: Condvar,
    max_posts: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct Waiting {
    posts: std::collections::VecDeque<(usize, Post)>,
    releases: BTreeMap<usize, u64>,
    /// Posts and bytes waiting or being written.
    count: usize,
    bytes: usize,
    stopping: bool,
}

impl Queue {
    pub fn new(options: &LogOptions) -> Queue {
        Queue {
            waiting: Mutex::default(),
            ready: Condvar::new(),
            max_posts: options.queue_posts,
            max_bytes: options.queue_bytes,
        }
    }

    /// Queues a post. A post larger than the whole bound is taken when nothing else waits.
    pub fn push(&self, post: Post) -> Result<(), Refused> {
        let bytes = size(&post.request);
        let mut waiting = self.lock();
        if waiting.stopping {
            return Err(Refused::Stopping(post.reply));
        }
        let fits = waiting.count < self.max_posts && waiting.bytes + bytes <= self.max_bytes;
        if waiting.count > 0 && !fits {
            return Err(Refused::Full(post.reply));
        }
        waiting.count += 1;
        waiting.bytes += bytes;
        waiting.posts.push_back((bytes, post));
        drop(waiting);
        self.ready.notify_one();
        Ok(())
    }

    /// Asks for a release; only the highest position per stream matters, so this is bounded.
    pub fn release(&self, stream: usize, position: u64) {
        let mut waiting = self.lock();
        let entry = waiting.releases.entry(stream).or_default();
        *entry = position.max(*entry);
        drop(waiting);
        self.ready.notify_one();
    }

    /// Waits for work; `None` once stopped and all that was queued is handed out.
    pub fn next(&self) -> Option<Work> {
        let mut waiting = self.lock();
        loop {
            if !waiting.posts.is_empty() || !waiting.releases.is_empty() {
                break;
            }
            if waiting.stopping {
                return None;
            }
            waiting = self
                .ready
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let mut work = Work {
            releases: std::mem::take(&mut waiting.releases),
            ..Work::default()
        };
        while let Some((bytes, post)) = waiting.posts.pop_front() {
            if !work.posts.is_empty() && work.bytes + bytes > GROUP_BYTES {
                waiting.posts.push_front((bytes, post));
                break;
            }
            work.bytes += bytes;
            work.posts.push(post);
        }
        Some(work)
    }

    /// Gives back the room of posts that are written.
    pub fn finish(&self, posts: usize, bytes: usize) {
        let mut waiting = self.lock();
        waiting.count -= posts;
        waiting.bytes -= bytes;
    }

    pub fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Takes no more posts; what is queued is still handed out.
    pub fn stop(&self) {
        self.lock().stopping = true;
        self.ready.notify_all();
    }

    /// Takes no more posts and hands back what nobody will write.
    pub fn close(&self) -> Vec<Post> {
        let mut waiting = self.lock();
        waiting.stopping = true;
        waiting.posts.drain(..).map(|(_, post)| post).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    /// Bytes of the posts, as the queue counts them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What a post occupies, with the room that small lines and the reply take.
fn size(request: &PostRequest) -> usize {
    let lines: usize = request.lines.iter().map(|line| line.capacity() + 32).sum();
    lines + request.idempotency_key.as_ref().map_or(0, String::len) + 128
}

//! The appender thread: takes what waits, writes it stream by stream with one fsync each, answers.

use std::sync::Arc;

use super::queue::{Post, Queue};
use super::stream::{Replies, StreamLog};
use crate::source::Clock;
use crate::view::IngestError;

/// Runs until the queue is stopped and empty.
pub(super) fn run(queue: Arc<Queue>, mut streams: Vec<StreamLog>, clock: Clock) {
    let _close = CloseOnExit(Arc::clone(&queue));
    while let Some(work) = queue.next() {
        let now = clock();
        for (stream, position) in &work.releases {
            streams[*stream].release(*position, now);
        }
        let (count, bytes) = (work.posts.len(), work.bytes());
        let mut replies = Replies::with_capacity(count);
        for Post {
            stream,
            request,
            reply,
        } in work.posts
        {
            streams[stream].take(request, reply, now, &mut replies);
        }
        for stream in &mut streams {
            stream.commit(now, &mut replies);
        }
        // Room first, then the answers: who posts again on an answer finds the room.
        queue.finish(count, bytes);
        for (reply, outcome) in replies {
            reply(outcome);
        }
    }
}

/// Answers what is left, also when the thread panics, so that nobody waits for ever.
struct CloseOnExit(Arc<Queue>);

impl Drop for CloseOnExit {
    fn drop(&mut self) {
        for post in self.0.close() {
            (post.reply)(Err(IngestError::Stopping));
        }
    }
}

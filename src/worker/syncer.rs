//! Syncs the journal off the coordinator's thread.

use std::sync::mpsc::{Sender, SyncSender, sync_channel};

use super::coordinator::Message;
use crate::state::{Journal, Unsynced};

/// The thread that syncs, one group at a time.
pub(super) struct Syncer {
    groups: SyncSender<Unsynced>,
    is_busy: bool,
}

impl Syncer {
    /// Starts its thread, which tells when a group is on disk.
    pub fn start(messages: Sender<Message>) -> std::io::Result<Syncer> {
        let (groups, inbox) = sync_channel::<Unsynced>(1);
        std::thread::Builder::new()
            .name("journal-sync".to_owned())
            .spawn(move || {
                for group in inbox {
                    if messages.send(Message::Synced(group.sync())).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Syncer {
            groups,
            is_busy: false,
        })
    }

    /// Begins to sync what is not on disk yet, unless a group is under way.
    pub fn sync(&mut self, journal: &Journal) {
        if !self.is_busy
            && let Some(group) = journal.unsynced()
        {
            self.is_busy = self.groups.try_send(group).is_ok();
        }
    }

    /// Says that the group under way was told.
    pub fn has_synced(&mut self) {
        self.is_busy = false;
    }
}

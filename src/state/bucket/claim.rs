//! Whose a prefix is.
//!
//! Objects `owner/NUMBER.json` are put one after another, each only if its number is free, and the
//! newest says who owns the prefix. Its owner puts the next one from time to time: that is the sign
//! of life. Who wants the prefix waits for a while, and puts the next one only where none came; the
//! former owner finds that number taken, and publishes nothing any more.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::connection::{Connection, New};
use crate::state::error::StateError;
use crate::state::files::{open_sealed, seal};

const FOLDER: &str = "owner/";
const VERSION: u64 = 1;
/// Signs of life in the time after which another may take over.
const SIGNS: u32 = 3;
/// How long the end of a service waits to say so.
const FAREWELL: Duration = Duration::from_secs(5);

/// What one of the objects says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    version: u64,
    /// In words.
    who: String,
    /// The data directory, as the system knows it until it is started again. Who has locked it
    /// knows that nobody else has.
    place: String,
    /// Tells one process from every other.
    token: u64,
    /// Whether it ended.
    left: bool,
}

/// What this process has of a prefix.
#[derive(Debug)]
pub(super) struct Claim {
    connection: Arc<Connection>,
    owner: Owner,
    takeover: Duration,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    number: u64,
    /// Who has it now, if it is not us any more.
    lost: Option<String>,
    left: bool,
}

impl Claim {
    /// Prepares to claim a prefix for the service of a data directory that this process has locked.
    pub fn new(
        connection: Arc<Connection>,
        data_dir: &Path,
        takeover: Duration,
    ) -> Result<Claim, StateError> {
        let failed = super::super::files::failed("read", data_dir);
        let (dir, id) = data_dir
            .canonicalize()
            .and_then(|dir| fs::metadata(&dir).map(|meta| (dir, (meta.dev(), meta.ino()))))
            .map_err(failed)?;
        let of = |file: &str| {
            fs::read_to_string(file)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let host = of("/proc/sys/kernel/hostname");
        let process = std::process::id();
        let boot = of("/proc/sys/kernel/random/boot_id");
        Ok(Claim {
            connection,
            owner: Owner {
                version: VERSION,
                who: format!(
                    "process {process} on '{host}' with the data directory '{}'",
                    dir.display()
                ),
                place: format!("{boot}:{}:{}", id.0, id.1),
                // Its keys are random.
                token: RandomState::new().hash_one(process),
                left: false,
            },
            takeover,
            held: Mutex::default(),
        })
    }

    fn name(number: u64) -> String {
        format!("{FOLDER}{number:020}.json")
    }

    /// The newest number, and what it says; 0 where there is none.
    async fn newest(&self) -> Result<(u64, Option<Owner>), StateError> {
        let names = self.connection.names(FOLDER).await?;
        let number = |name: &String| name.strip_suffix(".json")?.parse().ok();
        let Some(number) = names.iter().filter_map(number).max() else {
            return Ok((0, None));
        };
        match self.connection.bytes(&Claim::name(number)).await {
            Ok(bytes) => Ok((number, self.read(number, &bytes))),
            // Followed by another one meanwhile.
            Err(StateError::Io { .. }) => Ok((number, None)),
            Err(error) => Err(error),
        }
    }

    fn read(&self, number: u64, bytes: &[u8]) -> Option<Owner> {
        let name = self.connection.name_of(&Claim::name(number));
        open_sealed(Path::new(&name), bytes, VERSION).ok()
    }

    /// Makes the prefix ours, if nobody else lives there.
    pub async fn take(&self) -> Result<(), StateError> {
        let (mut number, owner) = self.newest().await?;
        let may_live = |owner: &Owner| !owner.left && owner.place != self.owner.place;
        if let Some(owner) = owner.filter(may_live) {
            tracing::warn!(
                "the checkpoints in {} are those of {}: waiting {:?} for a sign of life",
                self.connection.name_of(""),
                owner.who,
                self.takeover
            );
            tokio::time::sleep(self.takeover).await;
            let (now, owner) = self.newest().await?;
            if now != number {
                let who = owner.map(|owner| owner.who);
                return Err(self.taken(&who.unwrap_or_else(|| "another service".to_owned())));
            }
        }
        // Numbers that went meanwhile are not given again.
        number += 1;
        self.held.lock().await.number = number - 1;
        self.again().await?;
        self.check_conditions(number).await?;
        let older = self.connection.names(FOLDER).await?;
        let older = older.into_iter().map(|name| format!("{FOLDER}{name}"));
        let older: Vec<String> = older.filter(|name| *name < Claim::name(number)).collect();
        self.connection.delete(&older).await
    }

    /// That the server minds `If-None-Match`: without it two could own the prefix.
    async fn check_conditions(&self, number: u64) -> Result<(), StateError> {
        let name = Claim::name(number);
        match self.connection.put_new(&name, b"another".to_vec()).await? {
            New::Taken(_) => Ok(()),
            New::Put => Err(StateError::Bucket {
                doing: "use",
                object: self.connection.name_of(""),
                cause: "the server puts objects in place of others, told that it must not"
                    .to_owned(),
                way_out: "use one that knows If-None-Match",
            }),
        }
    }

    /// Claims it again, which fails once another has it.
    pub async fn again(&self) -> Result<(), StateError> {
        self.next(false).await
    }

    async fn next(&self, left: bool) -> Result<(), StateError> {
        let mut held = self.held.lock().await;
        if let Some(who) = &held.lost {
            return Err(self.taken(who));
        }
        let number = held.number + 1;
        let owner = Owner {
            left,
            ..self.owner.clone()
        };
        let body = serde_json::to_string(&owner).expect("text and numbers are JSON");
        let bytes = seal(&body).into_bytes();
        match self.connection.put_new(&Claim::name(number), bytes).await? {
            New::Put => {
                let former = std::mem::replace(&mut held.number, number);
                held.left = left;
                // What stays behind goes at the next start.
                drop(self.connection.delete(&[Claim::name(former)]).await);
                Ok(())
            }
            New::Taken(bytes) => {
                let owner = self.read(number, &bytes);
                if owner
                    .as_ref()
                    .is_some_and(|owner| owner.token == self.owner.token)
                {
                    held.number = number;
                    return Ok(());
                }
                let who = owner.map_or_else(|| "another service".to_owned(), |owner| owner.who);
                Err(self.taken(held.lost.insert(who)))
            }
        }
    }

    fn taken(&self, who: &str) -> StateError {
        StateError::Refused(format!(
            "the checkpoints in {} are those of {who}: stop it, or give each service a prefix of \
             its own (snapshot.store)",
            self.connection.name_of("")
        ))
    }

    /// Gives signs of life until it is left or lost.
    pub async fn renew(self: Arc<Self>) {
        let mut due = tokio::time::interval(self.takeover / SIGNS);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        due.tick().await;
        loop {
            due.tick().await;
            if self.held.lock().await.left {
                return;
            }
            match self.again().await {
                Ok(()) => {}
                Err(error @ StateError::Refused(_)) => {
                    tracing::error!(%error, "no checkpoint will be taken any more");
                    return;
                }
                Err(error) => tracing::warn!(%error, "cannot say that this service lives"),
            }
        }
    }

    /// Says that it is nobody's any more, as far as that can be said quickly.
    pub async fn leave(&self) {
        let is_ours = self.held.lock().await.lost.is_none();
        if is_ours {
            // Who comes next waits for a sign of life otherwise.
            drop(tokio::time::timeout(FAREWELL, self.next(true)).await);
        }
    }
}

//! The records our streams carry.

use serde::{Deserialize, Serialize};
use waterclock::prelude::*;

/// One click of a user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Click {
    pub user_id: Text,
    pub click_time: Timestamp,
}

impl Event for Click {
    const STREAM: &'static str = "clicks";
    fn time(&self) -> Timestamp {
        self.click_time
    }
}

/// What is known of a user from a time on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(
    clippy::struct_field_names,
    reason = "fields are called as in the stream"
)]
pub struct User {
    pub user_id: Text,
    pub country: Text,
    pub updated_at: Timestamp,
    /// The user is gone.
    #[serde(default)]
    pub deleted: bool,
}

impl Event for User {
    const STREAM: &'static str = "users";
    fn time(&self) -> Timestamp {
        self.updated_at
    }
}

impl Entity for User {
    type Key = Text;
    fn key(&self) -> Text {
        self.user_id.clone()
    }
    fn is_deleted(&self) -> bool {
        self.deleted
    }
}

/// One visit to a page: the stream the demo feeds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Visit {
    pub visitor: Text,
    pub page: Text,
    pub country: Text,
    pub at: Timestamp,
}

impl Event for Visit {
    const STREAM: &'static str = "visits";
    fn time(&self) -> Timestamp {
        self.at
    }
}

//! Waterclock: streaming analytics that serves its own answers.

pub mod http;
pub mod record;
pub mod row;
pub mod source;
pub mod time;
pub mod view;

//! Waterclock: streaming analytics that serves its own answers.

pub mod cli;
pub mod columns;
pub mod config;
pub mod record;
pub mod row;
pub mod source;
pub mod state;
pub mod time;
pub mod view;

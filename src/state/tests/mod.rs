//! The data directory on a real file system, with its files cut, flipped and left half done.

mod checkpoints;
mod codecs;
mod journal;
mod layers;
mod ownership;
mod retention;

use super::*;

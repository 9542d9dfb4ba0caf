//! Every fault survived: a crash before each call that changes a file, during recovery too; a loss
//! of power at each; errors of the disk at each; bytes that rot; a clock that steps back.
//!
//! The service under test is the one that ships, or the same with a query for each kind of state.
//! What stands between it and its disk is a layer that is preloaded into its process,
//! `faults/layer.c`: it numbers the calls, so that none can be forgotten, and writes down what it
//! did, so that no test can pass without its fault.
#![cfg(target_os = "linux")]

#[path = "faults/clock.rs"]
mod clock;
#[allow(dead_code, reason = "of the binary's commands two are used")]
#[path = "../src/commands/mod.rs"]
mod commands;
#[path = "faults/crashes.rs"]
mod crashes;
#[path = "faults/errors.rs"]
mod errors;
#[path = "faults/images.rs"]
mod images;
#[path = "faults/kinds.rs"]
mod kinds;
#[path = "faults/layer.rs"]
mod layer;
#[path = "faults/many.rs"]
mod many;
#[path = "faults/power.rs"]
mod power;
#[path = "faults/rot.rs"]
mod rot;
#[path = "faults/script.rs"]
mod script;
#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "support/service.rs"]
mod service;
#[path = "faults/soak.rs"]
mod soak;
#[path = "faults/stale.rs"]
mod stale;

//! The service as its users meet it: the built binary, its HTTP and its commands.

#[path = "service/access.rs"]
mod access;
#[path = "service/answers.rs"]
mod answers;
#[path = "service/commands.rs"]
mod commands;
#[path = "service/files.rs"]
mod files;
#[path = "service/full_disk.rs"]
mod full_disk;
#[path = "service/little_memory.rs"]
mod little_memory;
#[path = "service/refusals.rs"]
mod refusals;
#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "support/service.rs"]
mod service;
#[path = "service/tail.rs"]
mod tail;

//! How much memory is there, and what happens beyond it? The allocator of this program, and its
//! budget ([decision 0014](../../docs/decisions/0014-beyond-the-budget-is-a-file.md)).

mod hooks;

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};

use tikv_jemalloc_ctl::{background_thread, epoch, stats};
use tikv_jemallocator::Jemalloc;

/// Every allocation of this program, but not those of the C libraries it uses.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Why there is no budget.
#[derive(Debug, thiserror::Error)]
#[error("memory beyond the budget cannot be had: {0}")]
pub struct MemoryError(String);

/// Lets memory that is not used any more go back to the system within some seconds, also while
/// nobody allocates.
pub fn give_back() {
    // Without the thread it goes back as others allocate.
    let _ = background_thread::write(true);
}

/// From here on memory beyond `budget` bytes lies in `file`, which has at most `most` bytes; the
/// system takes it away and brings it back as it must. Nothing is done before the budget is
/// passed. The file must be empty, nobody else's, and on a disk: its space is taken as it is
/// needed. Once a process.
pub fn limit(budget: usize, file: File, most: usize) -> Result<(), MemoryError> {
    hooks::install(budget, file, most).map_err(MemoryError)
}

static IS_LEFT: AtomicBool = AtomicBool::new(false);

/// From here on state whose input has ended is left to the system as it is, not taken apart: for a
/// process that ends with its replay.
pub fn leave_to_system() {
    IS_LEFT.store(true, Ordering::Relaxed);
}

/// Whether state whose input has ended is left to the system.
pub fn is_left_to_system() -> bool {
    IS_LEFT.load(Ordering::Relaxed)
}

/// Bytes that are allocated now, file included; 0 if the allocator does not say.
pub fn allocated() -> usize {
    let now = epoch::advance().and_then(|_| stats::allocated::read());
    now.unwrap_or(0)
}

/// Bytes of memory that lie in the file.
pub fn in_file() -> usize {
    hooks::in_file()
}

/// Whether the budget and the file are used up: what is allocated now is memory that nobody
/// promised. Whoever takes input waits.
pub fn is_exhausted() -> bool {
    hooks::is_full()
}

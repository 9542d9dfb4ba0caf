//! Where the allocator's memory comes from once a budget is used up: a file.
//!
//! jemalloc asks hooks of ours for address space, some megabytes at a time, and gives back what it
//! does not need. As long as the budget lasts they take ordinary memory from the system. Beyond it
//! they hand out ranges of a file that is mapped as a whole: the system writes such pages to disk
//! and takes them away whenever it needs them, and a limit on memory ends nobody.
//!
//! The hooks run inside the allocator, under its locks: nothing here may allocate, panic or log.
#![allow(unsafe_code, reason = "the allocator is asked and answered through C")]

use std::ffi::{c_uint, c_void};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use tikv_jemalloc_ctl::raw;
use tikv_jemalloc_sys::extent_hooks_t;

/// What the hooks work with; written once, before they are installed.
struct Spill {
    budget: usize,
    file: BorrowedFd<'static>,
    base: usize,
    length: usize,
}

static SPILL: OnceLock<Spill> = OnceLock::new();
/// Bytes of ordinary memory that were handed out; they are kept for reuse, so it never falls.
static PLAIN: AtomicUsize = AtomicUsize::new(0);
/// Bytes of the file that were handed out; kept for reuse as well.
static TAKEN: AtomicUsize = AtomicUsize::new(0);
/// Bytes of the file that have space on disk now.
static HELD: AtomicUsize = AtomicUsize::new(0);
/// Whether the last request for space in the file failed.
static IS_FULL: AtomicBool = AtomicBool::new(false);

/// The most that is asked for at once, besides single allocations that are larger.
const STEP: usize = 8 << 20;

static mut HOOKS: extent_hooks_t = extent_hooks_t {
    alloc: Some(alloc),
    dalloc: Some(dalloc),
    destroy: None,
    commit: Some(commit),
    decommit: Some(decommit),
    purge_lazy: None,
    purge_forced: Some(purge),
    split: Some(split),
    merge: Some(merge),
};

/// Bytes of the file that have space on disk.
pub(super) fn in_file() -> usize {
    HELD.load(Ordering::Relaxed)
}

/// Whether the file had no room for what was last asked of it.
pub(super) fn is_full() -> bool {
    IS_FULL.load(Ordering::Relaxed)
}

/// From here on at most about `budget` bytes are ordinary memory, and what is beyond lies in a
/// file of at most `length` bytes. Once a process.
pub(super) fn install(budget: usize, file: File, length: usize) -> Result<(), String> {
    let length = length.next_multiple_of(STEP);
    let file: &'static File = Box::leak(Box::new(file));
    file.set_len(length as u64).map_err(|e| e.to_string())?;
    // Tried before it matters.
    fallocate(file, FallocateFlags::KEEP_SIZE, 0, STEP as u64)
        .and_then(|()| punch(file.as_fd(), 0, STEP))
        .map_err(|e| format!("its file system cannot reserve space: {e}"))?;
    // SAFETY: a new mapping at an address of the system's choice; nothing else uses the file.
    let base = unsafe {
        mmap(
            null_mut(),
            length,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::NORESERVE,
            file,
            0,
        )
    };
    let base = base.map_err(|e| format!("it cannot be mapped: {e}"))?;
    // Keys come as they please: what lies beside a page is not read with it.
    // SAFETY: advice about the mapping just made.
    unsafe { madvise(base, length, Advice::Random) }.map_err(|e| e.to_string())?;
    let base = base as usize;
    let spill = Spill {
        budget,
        file: file.as_fd(),
        base,
        length,
    };
    SPILL
        .set(spill)
        .map_err(|_| "there is one already".to_owned())?;
    // Large allocations have an arena of their own, which begins with the first of them.
    drop(std::hint::black_box(Vec::<u8>::with_capacity(16 << 20)));
    let said = |error: tikv_jemalloc_ctl::Error| format!("the allocator refuses: {error}");
    // SAFETY: the names exist in jemalloc 5.3 and have these types.
    unsafe {
        let arenas: c_uint = raw::read(b"arenas.narenas\0").map_err(said)?;
        for arena in 0..arenas {
            let name = format!("arena.{arena}.extent_hooks\0");
            raw::write(name.as_bytes(), &raw mut HOOKS).map_err(said)?;
            let name = format!("arena.{arena}.retain_grow_limit\0");
            raw::write(name.as_bytes(), STEP).map_err(said)?;
        }
    }
    Ok(())
}

/// Whether an address is in the file.
fn place(spill: &Spill, address: *mut c_void) -> Option<usize> {
    (address as usize)
        .checked_sub(spill.base)
        .filter(|place| *place < spill.length)
}

fn punch(file: BorrowedFd<'_>, at: usize, length: usize) -> rustix::io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(file, flags, at as u64, length as u64)
}

/// Takes space on disk now: a page that could not be written later would end the process.
fn reserve(spill: &Spill, at: usize, length: usize) -> bool {
    let flags = FallocateFlags::KEEP_SIZE;
    let is_there = fallocate(spill.file, flags, at as u64, length as u64).is_ok();
    IS_FULL.store(!is_there, Ordering::Relaxed);
    if is_there {
        HELD.fetch_add(length, Ordering::Relaxed);
    }
    is_there
}

unsafe extern "C" fn alloc(
    _: *mut extent_hooks_t,
    wanted: *mut c_void,
    size: usize,
    alignment: usize,
    zero: *mut bool,
    commit: *mut bool,
    _: c_uint,
) -> *mut c_void {
    let Some(spill) = SPILL.get().filter(|_| wanted.is_null()) else {
        return null_mut();
    };
    let is_within = PLAIN.load(Ordering::Relaxed).saturating_add(size) <= spill.budget;
    let mut found = null_mut();
    if !is_within {
        found = from_file(spill, size, alignment);
    }
    // Beyond the file is better than nowhere: whoever takes input asks whether it is full.
    if found.is_null() {
        found = plain(size, alignment);
    }
    if !found.is_null() {
        // SAFETY: jemalloc passes pointers to two bools; both kinds of memory begin as zeros.
        unsafe {
            *zero = true;
            *commit = true;
        }
    }
    found
}

fn from_file(spill: &Spill, size: usize, alignment: usize) -> *mut c_void {
    let take = |taken: usize| {
        let at = (spill.base + taken).checked_next_multiple_of(alignment)? - spill.base;
        let end = at.checked_add(size)?;
        (end <= spill.length).then_some((at, end))
    };
    let mut taken = TAKEN.load(Ordering::Relaxed);
    loop {
        let Some((at, end)) = take(taken) else {
            IS_FULL.store(true, Ordering::Relaxed);
            return null_mut();
        };
        match TAKEN.compare_exchange_weak(taken, end, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) if reserve(spill, at, size) => return (spill.base + at) as *mut c_void,
            Ok(_) => {
                // Given back unless another thread has taken more meanwhile.
                let (free, was) = (Ordering::Relaxed, Ordering::Relaxed);
                let _ = TAKEN.compare_exchange(end, taken, free, was);
                return null_mut();
            }
            Err(now) => taken = now,
        }
    }
}

fn plain(size: usize, alignment: usize) -> *mut c_void {
    let Some(room) = size.checked_add(alignment) else {
        return null_mut();
    };
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address of the system's choice.
    let mapped =
        unsafe { mmap_anonymous(null_mut(), room, ProtFlags::READ | ProtFlags::WRITE, flags) };
    let Ok(mapped) = mapped else {
        return null_mut();
    };
    let start = (mapped as usize).next_multiple_of(alignment);
    let before = start - mapped as usize;
    let after = room - before - size;
    // SAFETY: both ends are whole pages of the mapping just made, outside what is handed out.
    unsafe {
        if before > 0 {
            let _ = munmap(mapped, before);
        }
        if after > 0 {
            let _ = munmap((start + size) as *mut c_void, after);
        }
    }
    PLAIN.fetch_add(size, Ordering::Relaxed);
    start as *mut c_void
}

/// Address space is kept for reuse; what is in it goes by `decommit` or `purge`.
unsafe extern "C" fn dalloc(
    _: *mut extent_hooks_t,
    _: *mut c_void,
    _: usize,
    _: bool,
    _: c_uint,
) -> bool {
    true
}

unsafe extern "C" fn commit(
    _: *mut extent_hooks_t,
    address: *mut c_void,
    _: usize,
    offset: usize,
    length: usize,
    _: c_uint,
) -> bool {
    match SPILL
        .get()
        .and_then(|spill| Some((spill, place(spill, address)?)))
    {
        Some((spill, place)) => !reserve(spill, place + offset, length),
        None => false,
    }
}

unsafe extern "C" fn decommit(
    _: *mut extent_hooks_t,
    address: *mut c_void,
    _: usize,
    offset: usize,
    length: usize,
    _: c_uint,
) -> bool {
    let Some(spill) = SPILL.get() else {
        return true;
    };
    match place(spill, address) {
        Some(place) if punch(spill.file, place + offset, length).is_ok() => {
            HELD.fetch_sub(length, Ordering::Relaxed);
            IS_FULL.store(false, Ordering::Relaxed);
            false
        }
        _ => true,
    }
}

unsafe extern "C" fn purge(
    _: *mut extent_hooks_t,
    address: *mut c_void,
    _: usize,
    offset: usize,
    length: usize,
    _: c_uint,
) -> bool {
    if SPILL
        .get()
        .is_none_or(|spill| place(spill, address).is_some())
    {
        return true;
    }
    // SAFETY: jemalloc gives up what is in this range, which is of its own private memory.
    unsafe { madvise(address.byte_add(offset), length, Advice::LinuxDontNeed).is_err() }
}

unsafe extern "C" fn split(
    _: *mut extent_hooks_t,
    _: *mut c_void,
    _: usize,
    _: usize,
    _: usize,
    _: bool,
    _: c_uint,
) -> bool {
    false
}

/// Neighbours become one unless one is in the file and one is not.
unsafe extern "C" fn merge(
    _: *mut extent_hooks_t,
    a: *mut c_void,
    _: usize,
    b: *mut c_void,
    _: usize,
    _: bool,
    _: c_uint,
) -> bool {
    let in_file = |address| {
        SPILL
            .get()
            .and_then(|spill| place(spill, address))
            .is_some()
    };
    in_file(a) != in_file(b)
}

//! What the kernel gives a process that is another thing in every run: time, random bytes, and when a thread runs.
//!
//! ```text
//!  clock_gettime ─▶ the runtime's paused clock, over all lives of the server
//!  getrandom ─────▶ numbers of the seed
//!  threads ───────▶ the runtime has one for what blocks; it runs only while the runtime would sleep,
//!                   to its end, and the runtime sleeps until then:
//!
//!      tasks … tasks ─▶ nothing to do ─▶ gate open ─▶ what blocks, in order ─▶ gate shut ─▶ tasks …
//! ```
//!
//! These three symbols of the C library are defined here, so that the linker takes them for the whole test program:
//! ids, times, maps and files of the shipped crates follow from the seed without knowing of it. A thread that did
//! not [enter] gets the kernel's own.

#![allow(unsafe_code, reason = "only so can the C library's be stood in for; nothing that is shipped has it")]

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libc::{c_int, c_long, c_uint, c_void, clockid_t, pthread_attr_t, pthread_t, size_t, ssize_t, timespec};

/// When the simulated world begins, in seconds since 1970: 1 May 2026.
const BEGIN: u64 = 1_777_593_600;

const NANOS: u64 = 1_000_000_000;

thread_local! {
    /// Whether this thread lives in the simulated world, and whether its clock is that of the world, too.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static CLOCK: Cell<bool> = const { Cell::new(false) };
    /// Whether the time is being read: the runtime's clock may read the kernel's.
    static READING: Cell<bool> = const { Cell::new(false) };
}

static RANDOM: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds of the lives before this one.
static BEFORE: AtomicU64 = AtomicU64::new(0);

/// When this life began, on its runtime's clock.
static BEGUN: Mutex<Option<tokio::time::Instant>> = Mutex::new(None);

/// Threads for what blocks.
struct Gate {
    open: bool,
    started: u64,
    ended: u64,
}

static GATE: Mutex<Gate> = Mutex::new(Gate { open: false, started: 0, ended: 0 });
static CHANGED: Condvar = Condvar::new();

fn gate() -> MutexGuard<'static, Gate> {
    GATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From here on this thread is in the world of this seed.
pub(crate) fn enter(seed: u64) {
    RANDOM.store(seed ^ 0x5851_f42d_4c95_7f2d, Ordering::SeqCst);
    INSIDE.set(true);
    CLOCK.set(true);
}

/// A runtime of the world: paused clock, one thread for what blocks.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .max_blocking_threads(1)
        .thread_keep_alive(Duration::ZERO)
        .on_thread_start(|| {
            INSIDE.set(true);
            let mut gate = gate();
            while !gate.open {
                gate = CHANGED.wait(gate).unwrap_or_else(PoisonError::into_inner);
            }
        })
        .on_thread_stop(|| {
            gate().ended += 1;
            CHANGED.notify_all();
        })
        .on_thread_park(let_blocking_run)
        .build()
        .unwrap()
}

/// Lets everything that blocks run to its end.
pub(crate) fn let_blocking_run() {
    let mut gate = gate();
    gate.open = true;
    CHANGED.notify_all();
    while gate.ended < gate.started {
        gate = CHANGED.wait(gate).unwrap_or_else(PoisonError::into_inner);
    }
    gate.open = false;
}

/// A life begins; to be called inside of its runtime.
pub(crate) fn begin_life() {
    *BEGUN.lock().unwrap() = Some(tokio::time::Instant::now());
}

/// A life is over; `pause` passes before the next one.
pub(crate) fn end_life(pause: Duration) {
    let begun = BEGUN.lock().unwrap().take();
    let lasted = begun.map_or(Duration::ZERO, |begun| begun.elapsed()) + pause;
    BEFORE.fetch_add(nanos(lasted), Ordering::SeqCst);
}

/// How long the world exists.
pub(crate) fn elapsed() -> Duration {
    let before = BEFORE.load(Ordering::SeqCst);
    if READING.replace(true) {
        return Duration::from_nanos(before);
    }
    let begun = *BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
    let has_runtime = tokio::runtime::Handle::try_current().is_ok();
    let since = begun.filter(|_| has_runtime).map_or(Duration::ZERO, |begun| begun.elapsed());
    READING.set(false);
    Duration::from_nanos(before) + since
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The next random number (SplitMix64).
fn random() -> u64 {
    let mut z = RANDOM.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The C library's.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let is_date = matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE);
    // Who waits for a moment of the kernel's needs the kernel's time: threads for what blocks do.
    if time.is_null() || !INSIDE.get() || !(is_date || CLOCK.get()) {
        // SAFETY: the call that the caller meant.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as c_int;
    }
    let now = nanos(elapsed()) + if is_date { BEGIN * NANOS } else { 1000 * NANOS };
    let (seconds, rest) = (now / NANOS, now % NANOS);
    // SAFETY: the caller's own place for it, which is not null.
    unsafe { *time = timespec { tv_sec: seconds as libc::time_t, tv_nsec: rest as c_long } };
    0
}

/// The C library's.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getrandom(bytes: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    if !INSIDE.get() || bytes.is_null() {
        // SAFETY: the call that the caller meant.
        return unsafe { libc::syscall(libc::SYS_getrandom, bytes, length, flags) } as ssize_t;
    }
    // SAFETY: the caller's own place for that many bytes.
    let place = unsafe { std::slice::from_raw_parts_mut(bytes.cast::<u8>(), length) };
    for piece in place.chunks_mut(8) {
        piece.copy_from_slice(&random().to_le_bytes()[..piece.len()]);
    }
    length as ssize_t
}

type Start = unsafe extern "C" fn(
    *mut pthread_t,
    *const pthread_attr_t,
    extern "C" fn(*mut c_void) -> *mut c_void,
    *mut c_void,
) -> c_int;

/// The C library's.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pthread_create(
    thread: *mut pthread_t,
    attributes: *const pthread_attr_t,
    run: extern "C" fn(*mut c_void) -> *mut c_void,
    with: *mut c_void,
) -> c_int {
    if INSIDE.get() {
        gate().started += 1;
    }
    // SAFETY: the C library has this symbol, with this type.
    let start: Start = unsafe {
        let symbol = libc::dlsym(libc::RTLD_NEXT, c"pthread_create".as_ptr());
        std::mem::transmute::<*mut c_void, Start>(symbol)
    };
    // SAFETY: the call that the caller meant.
    unsafe { start(thread, attributes, run, with) }
}

//! The place itself.

/// The variable that names the file of lines.
pub const TRACE: &str = "PATCHYARD_CRASH_TRACE";

/// The variable that says at which numbers to die.
pub const AT: &str = "PATCHYARD_CRASH_AT";

/// Where a place is: just before a step, or just after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Nothing is done yet.
    Before,
    /// It is done, and nobody was told.
    After,
}

/// The server is at this place: it may die here. `what` names the step for people; it is asked only when
/// somebody listens.
#[cfg(debug_assertions)]
pub fn reached(side: Side, kind: &'static str, what: impl FnOnce() -> String) {
    crate::trace::note(side, kind, what);
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reached(_side: Side, _kind: &'static str, _what: impl FnOnce() -> String) {}

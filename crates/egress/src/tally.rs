//! What was decided and carried since the start, counted over all sandboxes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use protocol::egress::EgressCounts;
use protocol::network::DenyReason;

/// Counters that only grow.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    allowed: AtomicU64,
    denied: Mutex<BTreeMap<DenyReason, u64>>,
    up: AtomicU64,
    down: AtomicU64,
}

impl Tally {
    /// Counts a decision.
    pub(crate) fn decided(&self, reason: Option<DenyReason>) {
        match reason {
            None => {
                self.allowed.fetch_add(1, Ordering::Relaxed);
            }
            Some(reason) => {
                *self.denied.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
            }
        }
    }

    /// Counts what a connection carried.
    pub(crate) fn carried(&self, up: u64, down: u64) {
        self.up.fetch_add(up, Ordering::Relaxed);
        self.down.fetch_add(down, Ordering::Relaxed);
    }

    /// All of it, beside what is held and open now.
    pub(crate) fn counts(&self, sandboxes: usize, open: usize) -> EgressCounts {
        EgressCounts {
            sandboxes: sandboxes as u64,
            open: open as u64,
            allowed: self.allowed.load(Ordering::Relaxed),
            denied: self.denied.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            bytes_up: self.up.load(Ordering::Relaxed),
            bytes_down: self.down.load(Ordering::Relaxed),
        }
    }
}

//! How much a sandbox may send, and to how many names below a wildcard.
//!
//! ```text
//!   bytes up ─▶ host ─ over its budget? ─┐
//!            └▶ all ── over theirs? ─────┴▶ the connection ends; the next is refused: upload_budget
//!   a name that a wildcard allows ─▶ one too many of that wildcard? ─▶ refused: rate
//! ```
//!
//! Everything starts anew with the binding of a sandbox.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use policy::access::Access;
use policy::host::Host;
use protocol::egress::Budgets;
use tokio_util::sync::CancellationToken;

/// How many hosts are told apart; all others share what one may be sent.
const HOSTS: usize = 4096;

/// What of the budgets of one sandbox was used.
#[derive(Debug, Default)]
pub(crate) struct Used {
    all: Arc<AtomicU64>,
    hosts: Mutex<HashMap<Host, Arc<AtomicU64>>>,
    others: Arc<AtomicU64>,
    names: Mutex<HashMap<String, HashSet<Host>>>,
}

/// What one connection may still send.
#[derive(Debug)]
pub(crate) struct Spending {
    host: Arc<AtomicU64>,
    all: Arc<AtomicU64>,
    host_limit: u64,
    all_limit: u64,
    /// Ends the connection.
    end: CancellationToken,
}

impl Used {
    /// What may be sent to a host over a connection with this end.
    pub(crate) fn spending(
        &self,
        host: &Host,
        access: Access,
        limits: &Budgets,
        end: CancellationToken,
    ) -> Spending {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_host = match hosts.get(host) {
            Some(known) => Arc::clone(known),
            None if hosts.len() >= HOSTS => Arc::clone(&self.others),
            None => Arc::clone(hosts.entry(host.clone()).or_default()),
        };
        let host_limit = if access == Access::Read { limits.read_host_bytes } else { limits.host_bytes };
        let all = Arc::clone(&self.all);
        Spending { host: of_host, all, host_limit, all_limit: limits.session_bytes, end }
    }

    /// Whether a wildcard may stand for one more name, or does for this one already.
    pub(crate) fn may_name(&self, rule: &str, host: &Host, limits: &Budgets) -> bool {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let known = names.entry(rule.to_owned()).or_default();
        if known.contains(host) {
            return true;
        }
        if known.len() >= limits.names_of_wildcard as usize {
            return false;
        }
        known.insert(host.clone())
    }
}

impl Spending {
    /// One that ends nothing.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn unlimited() -> Self {
        let (host, all) = (Arc::default(), Arc::default());
        Self { host, all, host_limit: u64::MAX, all_limit: u64::MAX, end: CancellationToken::new() }
    }

    /// Whether nothing may be sent any more.
    pub(crate) fn is_over(&self) -> bool {
        self.host.load(Ordering::Relaxed) >= self.host_limit
            || self.all.load(Ordering::Relaxed) >= self.all_limit
    }

    /// Counts what was sent, and ends the connection where that was too much; whether it goes on.
    pub(crate) fn add(&self, bytes: usize) -> bool {
        self.host.fetch_add(bytes as u64, Ordering::Relaxed);
        self.all.fetch_add(bytes as u64, Ordering::Relaxed);
        let over = self.is_over();
        if over {
            self.end.cancel();
        }
        !over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Budgets =
        Budgets { read_host_bytes: 10, host_bytes: 100, session_bytes: 150, names_of_wildcard: 2 };

    fn host(name: &str) -> Host {
        Host::parse(name.as_bytes()).unwrap()
    }

    #[test]
    fn a_host_and_all_together_end_where_they_should() {
        let (used, end) = (Used::default(), CancellationToken::new());
        let spend = |name, access| used.spending(&host(name), access, &LIMITS, end.clone());
        assert!(spend("a.test", Access::Opaque).add(99));
        assert!(!end.is_cancelled() && !spend("a.test", Access::Opaque).is_over());
        assert!(spend("a.test", Access::Read).is_over(), "what is only read is sent less");
        assert!(!spend("a.test", Access::Opaque).add(1));
        assert!(end.is_cancelled() && spend("a.test", Access::Opaque).is_over());
        assert!(!spend("b.test", Access::Opaque).is_over());
        assert!(!spend("b.test", Access::Opaque).add(50));
        assert!(spend("c.test", Access::Opaque).is_over(), "all together");
    }

    #[test]
    fn a_wildcard_stands_for_so_many_names_and_others_for_theirs() {
        let used = Used::default();
        let may = |rule, name| used.may_name(rule, &host(name), &LIMITS);
        assert!(may("*.w.test", "a.w.test") && may("*.w.test", "b.w.test") && may("*.w.test", "a.w.test"));
        assert!(!may("*.w.test", "c.w.test"));
        assert!(may("*.v.test", "a.v.test"));
    }
}

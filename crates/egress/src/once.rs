//! Connections that a person allowed once.
//!
//! ```text
//!   allowed ─▶ waits, a minute ─┬─▶ taken by one connection
//!                               └─▶ lapsed
//! ```

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use policy::host::Host;
use protocol::egress::ONCE_SECONDS;

const WAITS: Duration = Duration::from_secs(ONCE_SECONDS);

/// The most that wait in one sandbox: a person decides each.
const MOST: usize = 64;

/// What may be taken, and until when.
#[derive(Debug, Default)]
pub(crate) struct Once(Mutex<HashMap<(Host, u16), Instant>>);

impl Once {
    /// Lets one connection wait for its beginning; false when too many wait already. Twice the same is
    /// one, which may take longer to come.
    pub(crate) fn allow(&self, host: Host, port: u16, now: Instant) -> bool {
        let mut waiting = self.waiting(now);
        let fits = waiting.len() < MOST || waiting.contains_key(&(host.clone(), port));
        if fits {
            waiting.insert((host, port), now + WAITS);
        }
        fits
    }

    /// Whether one could be taken.
    pub(crate) fn waits(&self, host: &Host, port: u16, now: Instant) -> bool {
        self.waiting(now).contains_key(&(host.clone(), port))
    }

    /// Takes it, so that nobody else does.
    pub(crate) fn take(&self, host: &Host, port: u16, now: Instant) -> bool {
        self.waiting(now).remove(&(host.clone(), port)).is_some()
    }

    /// All that did not lapse.
    fn waiting(&self, now: Instant) -> MutexGuard<'_, HashMap<(Host, u16), Instant>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, until| now < *until);
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Host {
        Host::parse(name.as_bytes()).unwrap()
    }

    #[test]
    fn one_is_taken_by_one_for_its_host_and_port_within_its_time() {
        let (once, start, evil) = (Once::default(), Instant::now(), host("evil.test"));
        assert!(once.allow(evil.clone(), 443, start) && once.allow(evil.clone(), 443, start));
        for (other, port) in [("evil.test", 80), ("x.evil.test", 443), ("test", 443)] {
            assert!(!once.waits(&host(other), port, start) && !once.take(&host(other), port, start));
        }
        assert!(once.waits(&evil, 443, start) && once.waits(&evil, 443, start));
        assert!(once.take(&evil, 443, start));
        assert!(!once.waits(&evil, 443, start) && !once.take(&evil, 443, start));
        once.allow(evil.clone(), 443, start);
        assert!(once.waits(&evil, 443, start + WAITS - Duration::from_millis(1)));
        assert!(!once.waits(&evil, 443, start + WAITS) && !once.take(&evil, 443, start + WAITS));
    }

    #[test]
    fn among_many_at_a_time_exactly_one_takes_it() {
        for _ in 0..50 {
            let (once, now) = (Once::default(), Instant::now());
            once.allow(host("evil.test"), 443, now);
            let taken = std::thread::scope(|scope| {
                let tries: Vec<_> =
                    (0..8).map(|_| scope.spawn(|| once.take(&host("evil.test"), 443, now))).collect();
                tries.into_iter().map(|one| one.join().unwrap()).filter(|took| *took).count()
            });
            assert_eq!(taken, 1);
        }
    }

    #[test]
    fn not_more_wait_than_a_person_would_decide() {
        let (once, now) = (Once::default(), Instant::now());
        let fit = (0..100).filter(|number| once.allow(host(&format!("h{number}.test")), 443, now)).count();
        assert_eq!(fit, MOST);
        assert!(once.allow(host("h0.test"), 443, now));
    }
}

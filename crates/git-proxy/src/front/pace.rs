//! How often something may happen.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many pushes a sandbox may begin in a [`WINDOW`].
const MOST: usize = 30;

const WINDOW: Duration = Duration::from_secs(60);

/// The last times.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<VecDeque<Instant>>);

impl Pace {
    /// Whether it may happen now; it is counted then.
    pub(super) fn may(&self, now: Instant) -> bool {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while times.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) {
            times.pop_front();
        }
        let may = times.len() < MOST;
        if may {
            times.push_back(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_a_while() {
        let (pace, start) = (Pace::default(), Instant::now());
        assert_eq!((0..50).filter(|_| pace.may(start)).count(), MOST);
        assert!(!pace.may(start + WINDOW / 2) && pace.may(start + WINDOW));
    }
}

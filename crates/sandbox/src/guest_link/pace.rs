//! How fast a guest may talk.
//!
//! ```text
//!   tokens:  BURST at the most ── one per message ──▶ none left: nothing is read for a while
//!               ▲ RATE per second                       (its messages wait in the socket, then it does)
//! ```
//!
//! Bytes are bounded by credits. Messages are not: one byte of output, or input "taken" by a command that
//! has just ended, costs the host as much as a large one. Who talks too much is not cut off, because a
//! program that writes single letters is no attack; it is slowed down.

use std::time::Duration;

use tokio::time::Instant;

/// Messages per second in the long run: a few hundredths of a core.
pub(super) const RATE: u32 = 20_000;

/// Messages at once.
pub(super) const BURST: u32 = 20_000;

/// The shortest wait that is worth it.
const PAUSE: Duration = Duration::from_millis(5);

/// The allowance of one link.
#[derive(Debug)]
pub(super) struct Pace {
    tokens: u32,
    filled: Instant,
}

impl Pace {
    /// A full one.
    pub(super) fn new() -> Self {
        Self { tokens: BURST, filled: Instant::now() }
    }

    /// Takes one message; says how long to wait before the next one is read.
    pub(super) fn take(&mut self) -> Option<Duration> {
        self.tokens = self.tokens.saturating_sub(1);
        if self.tokens > 0 {
            return None;
        }
        let passed = self.filled.elapsed();
        let came = u32::try_from(passed.as_micros() * u128::from(RATE) / 1_000_000).unwrap_or(BURST);
        if came == 0 {
            return Some(PAUSE);
        }
        self.filled += passed;
        self.tokens = came.min(BURST);
        // So much at a time that the clock is looked at seldom.
        (passed < PAUSE).then(|| PAUSE - passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn in_the_long_run_the_rate_holds_and_a_burst_is_free() {
        let mut pace = Pace::new();
        for _ in 1..BURST {
            assert_eq!(pace.take(), None);
        }
        let begun = Instant::now();
        for _ in 0..RATE {
            if let Some(pause) = pace.take() {
                tokio::time::sleep(pause).await;
            }
        }
        let took = begun.elapsed();
        assert!((0.9..1.2).contains(&took.as_secs_f64()), "{took:?}");
        // Silence earns a burst again, and no more than one.
        tokio::time::sleep(Duration::from_secs(100)).await;
        let mut free = 0;
        while pace.take().is_none() {
            free += 1;
        }
        assert!(free <= BURST + RATE / 100, "{free}");
    }
}

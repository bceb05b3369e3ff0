//! A bucket of tokens: so many at once, so many each second after that.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Tokens that come back with time.
#[derive(Debug)]
pub(crate) struct Bucket {
    most: f64,
    per_second: f64,
    state: Mutex<(f64, Instant)>,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(most: u32, per_second: u32) -> Self {
        let most = f64::from(most);
        Self { most, per_second: f64::from(per_second), state: Mutex::new((most, Instant::now())) }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&self) -> bool {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let came = now.saturating_duration_since(state.1).as_secs_f64() * self.per_second;
        let tokens = (state.0 + came).min(self.most);
        let taken = tokens >= 1.0;
        *state = (if taken { tokens - 1.0 } else { tokens }, now);
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn tokens_come_back_with_time_and_not_over_the_edge() {
        let bucket = Bucket::new(3, 10);
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!([0, 0, 0, 0].map(|millis| bucket.take_at(at(millis))), [true, true, true, false]);
        assert_eq!([50, 110, 110].map(|millis| bucket.take_at(at(millis))), [false, true, false]);
        assert_eq!((0..9).filter(|_| bucket.take_at(at(60_000))).count(), 3);
    }
}

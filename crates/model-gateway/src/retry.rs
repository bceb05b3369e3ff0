//! When a failed request is repeated, and how long to wait before.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// The longest wait that a server may ask for; longer ones count as this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// How often and how long. Time and randomness come from here, so that tests can set them.
#[derive(Clone)]
pub struct RetryPolicy {
    /// The most tries, the first included.
    pub attempts: u32,
    /// The upper bound of the first wait; doubled with each further one.
    pub base: Duration,
    /// The highest upper bound.
    pub cap: Duration,
    /// A number from 0 up to but without 1; the wait is this part of its upper bound.
    pub jitter: Arc<dyn Fn() -> f64 + Send + Sync>,
    /// The time now, to read `retry-after` dates by.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Default for RetryPolicy {
    /// Ten tries, 0.5 s doubled up to 32 s, full jitter.
    fn default() -> Self {
        Self {
            attempts: 10,
            base: Duration::from_millis(500),
            cap: Duration::from_secs(32),
            jitter: Arc::new(fastrand::f64),
            now: Arc::new(Timestamp::now),
        }
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy")
            .field("attempts", &self.attempts)
            .field("base", &self.base)
            .field("cap", &self.cap)
            .finish_non_exhaustive()
    }
}

impl RetryPolicy {
    /// The wait after the `attempt`-th try (from 1). What the server asked for is the least.
    #[must_use]
    pub fn delay(&self, attempt: u32, asked: Option<Duration>) -> Duration {
        let doubled = self.base.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
        let bound = doubled.min(self.cap);
        let own = bound.mul_f64((self.jitter)().clamp(0.0, 1.0));
        own.max(asked.unwrap_or_default().min(MAX_RETRY_AFTER))
    }

    /// Reads a `retry-after` header: seconds, or an HTTP date.
    #[must_use]
    pub fn parse_retry_after(&self, header: &str) -> Option<Duration> {
        let header = header.trim();
        if let Ok(seconds) = header.parse::<f64>() {
            return Duration::try_from_secs_f64(seconds).ok();
        }
        let date = rfc2822::DateTimeParser::new().parse_timestamp(header).ok()?;
        let wait = date.duration_since((self.now)());
        Some(wait.try_into().unwrap_or(Duration::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(jitter: f64) -> RetryPolicy {
        RetryPolicy {
            jitter: Arc::new(move || jitter),
            now: Arc::new(|| "2026-11-20T12:00:00Z".parse().unwrap()),
            ..RetryPolicy::default()
        }
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let waits: Vec<u64> =
            (1..=9).map(|n| policy(1.0).delay(n, None).as_millis().try_into().unwrap()).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 32_000, 32_000]);
        assert_eq!(policy(0.0).delay(5, None), Duration::ZERO);
    }

    #[test]
    fn the_servers_wish_is_the_least_and_is_capped() {
        assert_eq!(policy(0.0).delay(1, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(policy(1.0).delay(7, Some(Duration::from_secs(7))), Duration::from_secs(32));
        assert_eq!(policy(0.0).delay(1, Some(Duration::from_secs(86_400))), MAX_RETRY_AFTER);
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let policy = policy(0.0);
        for (header, seconds) in [
            ("12", Some(12.0)),
            ("0.5", Some(0.5)),
            ("Fri, 20 Nov 2026 12:00:30 GMT", Some(30.0)),
            ("Fri, 20 Nov 2026 11:00:00 GMT", Some(0.0)),
            ("soon", None),
            ("-3", None),
            ("", None),
        ] {
            let parsed = policy.parse_retry_after(header).map(|wait| wait.as_secs_f64());
            assert_eq!(parsed, seconds, "{header}");
        }
    }
}

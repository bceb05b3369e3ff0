//! One figure: many measurements of one thing, printed as a JSON line.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

/// Measurements of one thing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn add(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// Takes in those of another one.
    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The sample that `share` of all are not above, in milliseconds.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let index = (last as f64 * share).round() as usize;
        sorted.get(index).map_or(f64::NAN, |sample| sample.as_secs_f64() * 1000.0)
    }

    fn values(&self) -> Value {
        json!({ "p50_ms": round(self.percentile(0.5)), "p95_ms": round(self.percentile(0.95)), "runs": self.0.len() })
    }
}

/// Prints a figure without a peer.
pub(crate) fn print(name: &str, samples: &Samples, budget: &str) {
    line(&json!({ "figure": name, "ours": samples.values(), "budget": budget }));
}

/// Prints a figure beside a peer's of the same run.
pub(crate) fn print_beside(name: &str, samples: &Samples, peer: &str, theirs: &Samples, budget: &str) {
    line(&json!({
        "figure": name,
        "ours": samples.values(),
        "peer": peer,
        "theirs": theirs.values(),
        "ratio_p50": round(samples.percentile(0.5) / theirs.percentile(0.5)),
        "budget": budget,
    }));
}

/// Prints any line.
pub(crate) fn line(value: &Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{value}");
}

pub(crate) fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

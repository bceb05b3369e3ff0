//! Tokens and money.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// What one or more model requests used. Token counts as the Messages API reports them:
/// `input_tokens` does not include what was read from or written to the prompt cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Usage {
    /// Fresh input tokens.
    pub input_tokens: u64,
    /// Tokens that the model wrote.
    pub output_tokens: u64,
    /// Input tokens read from the prompt cache.
    pub cache_read_input_tokens: u64,
    /// Input tokens written to the prompt cache.
    pub cache_creation_input_tokens: u64,
    /// Model requests.
    pub requests: u64,
    /// Cost in millionths of a US dollar by the list price, 0 where the model has no known price.
    pub cost_micro_usd: u64,
}

impl Usage {
    /// Input tokens, however they came.
    #[must_use]
    pub fn input(&self) -> u64 {
        self.input_tokens + self.cache_read_input_tokens + self.cache_creation_input_tokens
    }

    /// The share of the input that was read from the prompt cache, in hundredths; nothing without input.
    #[must_use]
    pub fn cache_read_share(&self) -> Option<u64> {
        (100 * self.cache_read_input_tokens).checked_div(self.input())
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.cache_read_input_tokens += other.cache_read_input_tokens;
        self.cache_creation_input_tokens += other.cache_creation_input_tokens;
        self.requests += other.requests;
        self.cost_micro_usd += other.cost_micro_usd;
    }
}

/// Lines and files of a diff.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiffStat {
    /// Added lines; a binary file counts none.
    pub additions: u64,
    /// Deleted lines.
    pub deletions: u64,
    /// Files that differ.
    pub files_changed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_was_read_from_the_cache() {
        let usage = |input_tokens, cache_read_input_tokens, cache_creation_input_tokens| Usage {
            input_tokens,
            cache_read_input_tokens,
            cache_creation_input_tokens,
            ..Usage::default()
        };
        for (used, share) in [
            (usage(0, 0, 0), None),
            (usage(10, 0, 0), Some(0)),
            (usage(10, 80, 10), Some(80)),
            (usage(0, 5, 0), Some(100)),
        ] {
            assert_eq!(used.cache_read_share(), share, "{used:?}");
        }
    }
}

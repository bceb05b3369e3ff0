//! What a turn used, with all of its threads.

use std::sync::{Arc, Mutex, PoisonError};

use protocol::usage::Usage;

use crate::config::Caps;

/// Shared by the agent and those that it sends to work.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spent(Arc<Mutex<Usage>>);

impl Spent {
    /// A turn begins.
    pub(crate) fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Usage::default();
    }

    pub(crate) fn add(&self, usage: Usage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += usage;
    }

    /// Why nothing more may be spent, if so.
    pub(crate) fn exceeds(&self, caps: &Caps) -> Option<String> {
        let used = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tokens = used.input() + used.output_tokens;
        if let Some(limit) = caps.tokens.filter(|limit| tokens >= *limit) {
            return Some(format!(
                "the turn used {tokens} tokens, and may use {limit}; send a prompt to go on"
            ));
        }
        let limit = caps.cost_micro_usd.filter(|limit| used.cost_micro_usd >= *limit)?;
        let dollars = |micro: u64| format!("${}.{:02}", micro / 1_000_000, micro % 1_000_000 / 10_000);
        let (cost, limit) = (dollars(used.cost_micro_usd), dollars(limit));
        Some(format!("the turn cost {cost}, and may cost {limit}; send a prompt to go on"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_at_its_caps() {
        let (spent, caps) = (
            Spent::default(),
            Caps { tokens: Some(1_000), cost_micro_usd: Some(2_500_000), ..Caps::default() },
        );
        let use_it = |input_tokens, cost_micro_usd| {
            spent.add(Usage { input_tokens, cost_micro_usd, ..Usage::default() })
        };
        use_it(999, 2_499_999);
        assert_eq!(spent.exceeds(&caps), None);
        use_it(1, 0);
        assert!(spent.exceeds(&caps).unwrap().contains("1000 tokens"));
        spent.reset();
        use_it(0, 2_500_000);
        assert!(spent.exceeds(&caps).unwrap().contains("cost $2.50, and may cost $2.50"));
        assert_eq!(spent.exceeds(&Caps::default()), None);
    }
}

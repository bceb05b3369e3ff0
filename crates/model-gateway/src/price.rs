//! What tokens cost.
//!
//! List prices of the Claude API (its documentation's page "Pricing"), as of October 2026, in US dollars
//! per million tokens: base input, output, cache hits, and 5-minute cache writes, the kind that our
//! requests make. Batch, priority and regional surcharges are not counted.

use protocol::usage::Usage;

/// When the table was last compared with its source.
pub const PRICES_AS_OF: &str = "2026-10";

/// Thousandths of a US dollar per million tokens, which is nano-dollars per token.
struct Price {
    prefix: &'static str,
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
}

const fn price(prefix: &'static str, [input, output, cache_read, cache_write]: [u64; 4]) -> Price {
    Price { prefix, input, output, cache_read, cache_write }
}

/// By family; the longest prefix that fits wins.
const PRICES: &[Price] = &[
    price("claude-fable-5-1", [10_000, 50_000, 250, 12_500]),
    price("claude-fable-5", [10_000, 50_000, 1_000, 12_500]),
    price("claude-mythos-5-1", [10_000, 50_000, 250, 12_500]),
    price("claude-mythos-5", [10_000, 50_000, 1_000, 12_500]),
    price("claude-opus-5-5", [4_000, 20_000, 200, 5_000]),
    price("claude-opus-5", [5_000, 25_000, 500, 6_250]),
    price("claude-opus-4-8", [5_000, 25_000, 500, 6_250]),
    price("claude-opus-4-7", [5_000, 25_000, 500, 6_250]),
    price("claude-opus-4-6", [5_000, 25_000, 500, 6_250]),
    price("claude-opus-4-5", [5_000, 25_000, 500, 6_250]),
    price("claude-opus-4", [15_000, 75_000, 1_500, 18_750]),
    price("claude-sonnet-5-5", [2_000, 10_000, 100, 2_500]),
    price("claude-sonnet-5", [2_000, 10_000, 200, 2_500]),
    price("claude-sonnet-4", [3_000, 15_000, 300, 3_750]),
    price("claude-3-7-sonnet", [3_000, 15_000, 300, 3_750]),
    price("claude-haiku-5-5", [100, 500, 10, 125]),
    price("claude-haiku-4-5", [1_000, 5_000, 100, 1_250]),
    price("claude-3-5-haiku", [800, 4_000, 80, 1_000]),
];

/// Haiku 5.5 costs five times as much when the whole prompt is longer than this.
const HAIKU_5_5_LONG: (u64, Price) = (100_000, price("claude-haiku-5-5", [500, 2_500, 50, 625]));

/// The list price of one request in millionths of a US dollar, rounded half up; 0 for a model that
/// the table does not have.
#[must_use]
pub fn cost_micro_usd(model: &str, usage: &Usage) -> u64 {
    // Gateways and clouds put their own words in front: `anthropic/claude-…`, `eu.anthropic.claude-…`.
    let Some(start) = model.find("claude-") else { return 0 };
    let family = &model[start..];
    let best =
        PRICES.iter().filter(|price| family.starts_with(price.prefix)).max_by_key(|price| price.prefix.len());
    let Some(mut price) = best else { return 0 };
    let prompt = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens;
    if price.prefix == HAIKU_5_5_LONG.1.prefix && prompt > HAIKU_5_5_LONG.0 {
        price = &HAIKU_5_5_LONG.1;
    }
    let nano = [
        (usage.input_tokens, price.input),
        (usage.output_tokens, price.output),
        (usage.cache_read_input_tokens, price.cache_read),
        (usage.cache_creation_input_tokens, price.cache_write),
    ]
    .iter()
    .fold(0_u64, |sum, (tokens, each)| sum.saturating_add(tokens.saturating_mul(*each)));
    nano.saturating_add(500) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides_and_unknown_models_cost_nothing() {
        let usage = Usage {
            input_tokens: 1_000,
            output_tokens: 100,
            cache_read_input_tokens: 10_000,
            cache_creation_input_tokens: 2_000,
            requests: 1,
            cost_micro_usd: 0,
        };
        for (model, micro) in [
            ("claude-opus-5-5", 4_000 + 2_000 + 2_000 + 10_000),
            ("claude-opus-5-20260724", 5_000 + 2_500 + 5_000 + 12_500),
            ("claude-opus-4-1-20250805", 15_000 + 7_500 + 15_000 + 37_500),
            ("eu.anthropic.claude-sonnet-4-5-20250929-v1:0", 3_000 + 1_500 + 3_000 + 7_500),
            ("claude-haiku-5-5", 100 + 50 + 100 + 250),
            ("scripted-model", 0),
            ("claude-next-9", 0),
        ] {
            assert_eq!(cost_micro_usd(model, &usage), micro, "{model}");
        }
    }

    #[test]
    fn haiku_with_a_long_prompt_costs_the_higher_band() {
        let short = Usage { input_tokens: 100_000, ..Usage::default() };
        let long = Usage { input_tokens: 100_001, ..Usage::default() };
        assert_eq!(cost_micro_usd("claude-haiku-5-5", &short), 10_000);
        assert_eq!(cost_micro_usd("claude-haiku-5-5", &long), 50_001);
    }
}

//! What an answer cost, read while it passes.

use protocol::usage::Usage;
use serde::Deserialize;
use serde_json::Value;

use crate::assemble::count;
use crate::price::cost_micro_usd;
use crate::sse::{SseEvent, SseParser, SseTooLong};

/// The longest name of a model that is recorded.
const MAX_MODEL: usize = 200;

/// A token is taken to be so many bytes where the API did not come to tell.
const BYTES_OF_A_TOKEN: u64 = 3;

/// Counts one answer.
#[derive(Debug)]
pub(super) struct Meter {
    parser: SseParser,
    model: String,
    usage: Usage,
    /// Bytes that the model wrote.
    written: u64,
    complete: bool,
}

/// A delta, as far as its length matters.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Delta {
    text: String,
    thinking: String,
    partial_json: String,
}

impl Meter {
    /// Of an answer to a request that names this model.
    pub(super) fn new(model: String) -> Self {
        let usage = Usage { requests: 1, ..Usage::default() };
        Self { parser: SseParser::default(), model, usage, written: 0, complete: false }
    }

    /// Takes the next bytes of a stream. Whether the message is whole now.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<bool, SseTooLong> {
        for event in self.parser.push(bytes)? {
            self.take(&event);
        }
        Ok(self.complete)
    }

    fn take(&mut self, event: &SseEvent) {
        // Events that cannot be read are the client's to complain of.
        let Ok(mut data) = serde_json::from_str::<Value>(&event.data) else { return };
        match data["type"].as_str().unwrap_or(&event.name) {
            "message_start" => self.message(&data["message"]),
            "message_delta" => count(&mut self.usage, &data["usage"]),
            "content_block_delta" => {
                let delta: Delta = serde_json::from_value(data["delta"].take()).unwrap_or_default();
                self.written += (delta.text.len() + delta.thinking.len() + delta.partial_json.len()) as u64;
            }
            "message_stop" => self.complete = true,
            _ => {}
        }
    }

    /// Takes a whole answer.
    pub(super) fn whole(&mut self, bytes: &[u8]) {
        let message: Value = serde_json::from_slice(bytes).unwrap_or_default();
        self.message(&message);
        self.complete = true;
    }

    fn message(&mut self, message: &Value) {
        if let Some(model) = message["model"].as_str().filter(|model| !model.is_empty()) {
            self.model = model.chars().take(MAX_MODEL).collect();
        }
        count(&mut self.usage, &message["usage"]);
    }

    /// The model, and what it used. An answer that was left before its end is taken to have cost what
    /// had come of it.
    pub(super) fn counted(&self) -> (String, Usage) {
        let mut usage = self.usage;
        if !self.complete {
            usage.output_tokens = usage.output_tokens.max(self.written.div_ceil(BYTES_OF_A_TOKEN));
        }
        usage.cost_micro_usd = cost_micro_usd(&self.model, &usage);
        (self.model.clone(), usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\
        \"claude-sonnet-5\",\"usage\":{\"input_tokens\":100,\"cache_read_input_tokens\":7,\"output_tokens\":1}}}\n\n";
    const DELTA: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
        \"delta\":{\"type\":\"text_delta\",\"text\":\"thirty bytes of what it writes\"}}\n\n";
    const END: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":42}}\n\n\
        event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

    #[test]
    fn a_stream_tells_at_its_end_and_one_that_is_left_costs_what_had_come() {
        let mut meter = Meter::new("asked".into());
        assert_eq!(meter.counted().0, "asked");
        assert!(!meter.push(format!("{START}{DELTA}{DELTA}").as_bytes()).unwrap());
        let (model, left) = meter.counted();
        assert_eq!((model.as_str(), left.input_tokens, left.output_tokens), ("claude-sonnet-5", 100, 20));
        assert!(meter.push(END.as_bytes()).unwrap());
        let (_, usage) = meter.counted();
        assert_eq!((usage.input_tokens, usage.cache_read_input_tokens), (100, 7));
        assert_eq!((usage.output_tokens, usage.requests), (42, 1));
        assert!(usage.cost_micro_usd > 0);
    }

    #[test]
    fn a_whole_answer_tells_at_once_and_nonsense_counts_as_a_request() {
        let mut meter = Meter::new("asked".into());
        meter.whole(
            br#"{"model":"m","usage":{"input_tokens":3,"output_tokens":4,"cache_creation_input_tokens":5}}"#,
        );
        let (model, usage) = meter.counted();
        assert_eq!((model.as_str(), usage.input_tokens, usage.output_tokens), ("m", 3, 4));
        assert_eq!((usage.cache_creation_input_tokens, usage.requests), (5, 1));
        let mut meter = Meter::new("asked".into());
        meter.whole(b"\xff");
        assert_eq!(meter.counted(), ("asked".into(), Usage { requests: 1, ..Usage::default() }));
    }
}

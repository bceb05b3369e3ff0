//! What a turn comes to: the `result` at its end.

use std::collections::BTreeMap;
use std::time::Instant;

use protocol::agent_port::TurnEnd;
use protocol::event::{EventBody, ToolCall};
use protocol::status::{StopReason, TurnStatus};
use protocol::usage::Usage;
use serde_json::{Map, Value, json};

use crate::transcript::usage_fields;

/// What fits into a model, and what it may answer, where nobody says otherwise.
const WINDOW: u64 = 200_000;
const MAX_OUTPUT: u64 = 32_000;

/// Counts what happens in a turn.
pub(crate) struct Tally {
    began: Instant,
    /// Since when the model is waited for.
    asked: Instant,
    api_ms: u64,
    requests: u32,
    /// The newest message of the model, and its text.
    message: String,
    text: String,
    calls: Vec<ToolCall>,
    denials: Vec<Value>,
    usage: Usage,
    by_model: BTreeMap<String, Usage>,
    /// Of the whole run.
    cost_micro_usd: u64,
}

/// The end of a turn, as drivers read it.
pub(crate) struct Report {
    /// The line, without what all lines have.
    pub(crate) line: Value,
    /// What a reader of plain text gets.
    pub(crate) text: String,
    pub(crate) is_error: bool,
    /// Whether it was stopped from outside.
    pub(crate) interrupted: bool,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            asked: now,
            api_ms: 0,
            requests: 0,
            message: String::new(),
            text: String::new(),
            calls: Vec::new(),
            denials: Vec::new(),
            usage: Usage::default(),
            by_model: BTreeMap::new(),
            cost_micro_usd: 0,
        }
    }

    /// A turn begins; what it all cost goes on.
    pub(crate) fn begin(&mut self) {
        let (by_model, cost_micro_usd) = (std::mem::take(&mut self.by_model), self.cost_micro_usd);
        *self = Self { by_model, cost_micro_usd, ..Self::new() };
    }

    /// Notes what happened; `is_thread` says that it was with an agent that was sent.
    pub(crate) fn note(&mut self, bodies: &[EventBody], is_thread: bool) {
        for body in bodies {
            match body {
                EventBody::AgentMessage(block) if !is_thread => {
                    if self.message == block.message {
                        self.text.push('\n');
                    } else {
                        self.text.clear();
                        self.message.clone_from(&block.message);
                    }
                    self.text.push_str(&block.text);
                }
                EventBody::CommandRan(ran) => self.text = ran.output.clone().unwrap_or_default(),
                EventBody::ToolCall(call) => self.calls.push(call.clone()),
                EventBody::ToolResult(result) => {
                    self.asked = Instant::now();
                    let at = self.calls.iter().position(|call| call.call == result.call);
                    let call = at.map(|at| self.calls.swap_remove(at));
                    if let Some(call) = call.filter(|_| !result.detail["denied"].is_null()) {
                        self.denials.push(json!({
                            "tool_name": call.name, "tool_use_id": call.call, "tool_input": call.input,
                        }));
                    }
                }
                EventBody::Usage { model, usage } => {
                    self.usage += *usage;
                    *self.by_model.entry(model.clone()).or_default() += *usage;
                    self.cost_micro_usd += usage.cost_micro_usd;
                    if !is_thread {
                        self.requests += 1;
                        self.api_ms += milliseconds(self.asked);
                        self.asked = Instant::now();
                    }
                }
                _ => {}
            }
        }
    }

    /// The end of the turn.
    pub(crate) fn report(&self, end: &TurnEnd, waiting: usize) -> Report {
        let (subtype, terminal, is_error) = kind(end);
        let mut line = json!({
            "type": "result",
            "subtype": subtype,
            "is_error": is_error,
            "duration_ms": milliseconds(self.began),
            "duration_api_ms": self.api_ms,
            "num_turns": self.requests,
            "total_cost_usd": dollars(self.cost_micro_usd),
            "usage": usage_fields(&self.usage),
            "modelUsage": self.models(),
            "permission_denials": self.denials,
            "stop_reason": stop_reason(end),
            "terminal_reason": terminal,
            "queued_turn_count": waiting,
        });
        let said = end.message.clone().unwrap_or_default();
        let text = if subtype == "success" {
            // A failure is told where the answer is looked for.
            let text = if is_error || self.text.is_empty() { said } else { self.text.clone() };
            line["result"] = text.clone().into();
            text
        } else {
            line["errors"] = [said.clone()].into_iter().filter(|said| !said.is_empty()).collect();
            if said.is_empty() { "the turn was interrupted".to_owned() } else { said }
        };
        if terminal == "api_error" {
            line["api_error_status"] = Value::Null;
        }
        Report { line, text, is_error, interrupted: end.status == TurnStatus::Interrupted }
    }

    fn models(&self) -> Value {
        let one = |(model, usage): (&String, &Usage)| {
            let fields = json!({
                "inputTokens": usage.input_tokens,
                "outputTokens": usage.output_tokens,
                "cacheReadInputTokens": usage.cache_read_input_tokens,
                "cacheCreationInputTokens": usage.cache_creation_input_tokens,
                "webSearchRequests": 0,
                "costUSD": dollars(usage.cost_micro_usd),
                "contextWindow": WINDOW,
                "maxOutputTokens": MAX_OUTPUT,
            });
            (model.clone(), fields)
        };
        Value::Object(self.by_model.iter().map(one).collect::<Map<_, _>>())
    }
}

/// Subtype, terminal reason, and whether it is an error.
fn kind(end: &TurnEnd) -> (&'static str, &'static str, bool) {
    match (end.status, end.stop_reason) {
        (TurnStatus::Completed, _) => ("success", "completed", false),
        (TurnStatus::Interrupted, _) => ("error_during_execution", "aborted_tools", true),
        (TurnStatus::Limit, StopReason::MaxRequests) => ("error_max_turns", "max_turns", true),
        (TurnStatus::Limit, StopReason::Budget) => ("error_max_budget_usd", "max_budget", true),
        // It was refused for a reason, which is the answer.
        (TurnStatus::Failed, StopReason::Hook) => ("success", "completed", false),
        (
            TurnStatus::Failed,
            StopReason::ModelAuth
            | StopReason::ModelError
            | StopReason::ModelUnreachable
            | StopReason::Refusal,
        ) => ("success", "api_error", true),
        _ => ("error_during_execution", "error", true),
    }
}

fn stop_reason(end: &TurnEnd) -> Value {
    match (end.status, end.stop_reason) {
        (TurnStatus::Completed, _) => "end_turn".into(),
        (_, StopReason::Refusal) => "refusal".into(),
        (_, StopReason::MaxTokens) => "max_tokens".into(),
        (TurnStatus::Limit, StopReason::MaxRequests) => "tool_use".into(),
        _ => Value::Null,
    }
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn dollars(micro_usd: u64) -> f64 {
    // Exact up to nine billion dollars.
    #[expect(clippy::cast_precision_loss)]
    let micro = micro_usd as f64;
    micro / 1e6
}

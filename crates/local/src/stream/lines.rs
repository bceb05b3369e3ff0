//! Events as the lines that drivers of the command line read.

use std::collections::HashMap;

use protocol::event::{AgentBlock, EventBody, SessionError, ToolCall, ToolResult};
use protocol::usage::Usage;
use serde_json::{Value, json};

use crate::transcript::usage_fields;
use crate::uuid;

/// Makes lines; knows the calls that wait for their results.
pub(crate) struct Lines {
    session: String,
    calls: HashMap<String, ToolCall>,
    /// Tries of a request that failed, and how many there may be.
    attempt: u32,
    retries: u32,
}

impl Lines {
    pub(crate) fn new(session: &str, retries: u32) -> Self {
        Self { session: session.to_owned(), calls: HashMap::new(), attempt: 0, retries }
    }

    /// A line with what all lines have.
    pub(crate) fn line(&self, mut value: Value) -> Value {
        value["session_id"] = self.session.clone().into();
        value["uuid"] = uuid::fresh().into();
        value
    }

    /// The lines of events that came together; `parent` is the call of the agent that was sent and says them.
    pub(crate) fn of(&mut self, bodies: &[EventBody], model: &str, parent: Option<&str>) -> Vec<Value> {
        let used = |body: &EventBody| match body {
            EventBody::Usage { model, usage } => Some((model.clone(), *usage)),
            _ => None,
        };
        let used = bodies.iter().find_map(used);
        let model = used.as_ref().map_or(model, |(model, _)| model).to_owned();
        let usage = used.map(|(_, usage)| usage);
        bodies.iter().flat_map(|body| self.of_one(body, (&model, usage.as_ref()), parent)).collect()
    }

    fn of_one(
        &mut self,
        body: &EventBody,
        (model, usage): (&str, Option<&Usage>),
        parent: Option<&str>,
    ) -> Vec<Value> {
        let assistant = |message: &str, block: Value| {
            self.line(json!({
                "type": "assistant",
                "message": {
                    "id": message, "type": "message", "role": "assistant", "model": model, "content": [block],
                    "stop_reason": null, "stop_sequence": null,
                    "usage": usage_fields(usage.unwrap_or(&Usage::default())),
                },
                "parent_tool_use_id": parent,
            }))
        };
        match body {
            // What an agent that was sent says to itself stays with it.
            EventBody::AgentMessage(_) | EventBody::AgentThought(_) if parent.is_some() => Vec::new(),
            EventBody::AgentMessage(AgentBlock { message, text, raw }) => {
                let block = raw.clone().unwrap_or_else(|| json!({ "type": "text", "text": text }));
                let line = assistant(message, block);
                self.attempt = 0;
                vec![line]
            }
            EventBody::AgentThought(AgentBlock { message, raw, .. }) => {
                raw.iter().map(|raw| assistant(message, raw.clone())).collect()
            }
            EventBody::ToolCall(call) => {
                let block =
                    json!({ "type": "tool_use", "id": call.call, "name": call.name, "input": call.input });
                let line = assistant(&call.message, block);
                self.attempt = 0;
                self.calls.insert(call.call.clone(), call.clone());
                vec![line]
            }
            EventBody::ToolResult(result) => self.of_result(result, parent),
            EventBody::ContextCompacted(compaction) if compaction.summary.is_some() => {
                vec![self.line(json!({
                    "type": "system", "subtype": "compact_boundary",
                    "compact_metadata": {
                        "trigger": compaction.trigger, "pre_tokens": compaction.tokens_before,
                    },
                }))]
            }
            EventBody::Error(error) => vec![self.of_error(error)],
            EventBody::CommandRan(ran) => {
                let output = ran.output.iter().filter(|text| !text.is_empty());
                output.map(|text| self.synthetic(text)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Words that are ours, in the place of the model's.
    pub(crate) fn synthetic(&self, text: &str) -> Value {
        self.line(json!({
            "type": "assistant",
            "message": {
                "id": uuid::fresh(), "type": "message", "role": "assistant", "model": "<synthetic>",
                "content": [{ "type": "text", "text": text }], "stop_reason": "stop_sequence",
                "stop_sequence": "", "usage": usage_fields(&Usage::default()),
            },
            "parent_tool_use_id": null,
        }))
    }

    fn of_result(&mut self, result: &ToolResult, parent: Option<&str>) -> Vec<Value> {
        let call = self.calls.remove(&result.call);
        let denied = !result.detail["denied"].is_null();
        let mut lines = Vec::new();
        if let Some(call) = call.as_ref().filter(|_| denied) {
            let rule = !result.detail["denied"]["rule"].is_null();
            lines.push(self.line(json!({
                "type": "system", "subtype": "permission_denied",
                "tool_name": call.name, "tool_use_id": call.call,
                "decision_reason_type": if rule { "rule" } else { "other" },
                "decision_reason": result.detail["denied"]["rule"],
                "message": result.content,
            })));
        }
        let response = match &call {
            // The original gives the words of a failure.
            Some(_) if result.is_error => format!("Error: {}", result.content).into(),
            Some(call) => agent::tool_response(call, result),
            None => Value::Null,
        };
        let mut meta = json!({
            "id": result.call, "permission_decision": if denied { "deny" } else { "allow" },
        });
        if denied {
            meta["non_execution_kind"] = "permission_denied".into();
        }
        lines.push(self.line(json!({
            "type": "user",
            "message": { "role": "user", "content": [{
                "type": "tool_result", "tool_use_id": result.call, "content": result.content,
                "is_error": result.is_error,
            }] },
            "parent_tool_use_id": parent,
            "tool_use_result": response,
            "tool_result_meta": [meta],
        })));
        lines
    }

    fn of_error(&mut self, error: &SessionError) -> Value {
        let of_model = error.code.starts_with("model_") && error.code != "model_fallback";
        match error.retry_in_ms {
            Some(delay) if of_model && error.code != "model_output_limit" => {
                self.attempt += 1;
                self.line(json!({
                    "type": "system", "subtype": "api_retry", "attempt": self.attempt,
                    "max_retries": self.retries, "retry_delay_ms": delay, "error_status": null,
                    "error": error.code, "message": error.message,
                }))
            }
            _ => self.line(json!({
                "type": "system", "subtype": "informational", "level": "info", "content": error.message,
            })),
        }
    }
}

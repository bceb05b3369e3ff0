//! The conversation, folded out of the session's events.
//!
//! | event | becomes |
//! |---|---|
//! | `prompt.queued` | remembered by its `prompt` |
//! | `prompt.edited` | remembered instead |
//! | `prompt.delivered` | a user text: the remembered `text`, beside the results that go back |
//! | `turn.started` | a user text: the remembered `text`; calls that are still open get [`INTERRUPTED`] |
//! | `agent.message`, `agent.thought` | a block of the assistant: `raw` as it stands, else a text of `text` |
//! | `tool.call` | a `tool_use` block from `call`, `name` and `input` |
//! | `tool.result` | a `tool_result` from `call`, `content`, `is_error`, and the images of `detail` |
//! | `context.added` | a user text: its `text` |
//! | `context.compacted` | the conversation anew, a user text of its `summary`; or results left out of it |
//! | `command.ran` | the prompt is taken back; a user text: its `prompt` |
//! | `turn.ended` by a hook that refused the prompt | the prompt is taken back |
//! | `error` with the code [`CONTINUE_CODE`] | a user text: [`CONTINUE`] |
//!
//! Blocks with the same `message` are one message. Results wait until all calls of their message have
//! one, and then stand in the order of the calls, in one user message. The first user message begins
//! with the instructions of the repository, which the session gives anew after a restart. The live path
//! folds the very bodies that it appended, so that a restart rebuilds the same bytes.

use std::collections::{HashMap, HashSet};

use model_gateway::{Message, Role};
use protocol::event::{AgentBlock, Compaction, CompactionTrigger, EventBody, ToolCall, ToolResult};
use protocol::ids::{PromptId, TurnId};
use protocol::status::{StopReason, TurnStatus};
use protocol::usage::Usage;
use serde_json::{Value, json};

use crate::recap::Recap;
use crate::slash::{COMPACT, is_command};

/// The result of a call that never got one.
pub(crate) const INTERRUPTED: &str = "interrupted: the call was stopped before it had a result; \
                                      what it had done until then is not undone";

/// The code of the `error` event that says that an answer hit its token limit and is continued.
pub(crate) const CONTINUE_CODE: &str = "model_output_limit";

/// What the model is told then.
const CONTINUE: &str = "Your answer reached its token limit and was cut. Go on right where it stopped, \
                        without an apology or a summary, and in smaller steps.";

/// The source of what the model is told before it ends a turn with changes that nothing was run on.
pub(crate) const FINISH_CHECK: &str = "Finish check";

/// What stands where a result was left out to make room.
pub(crate) const LEFT_OUT: &str = "[left out to make room; call the tool again if you need this]";

/// A result that is shorter than this is not worth being left out.
const SMALL_RESULT: usize = 400;

/// Characters that an image counts for.
const IMAGE: usize = 6_400;

/// Characters of a token, about.
const CHARACTERS: usize = 4;

/// The conversation so far.
#[derive(Debug, Default)]
pub(crate) struct History {
    messages: Vec<Message>,
    /// The newest message of the assistant.
    message: Option<String>,
    /// Calls of that message, with their results as they come.
    open: Vec<(String, Option<Value>)>,
    /// Every call id that was ever used.
    calls: HashSet<String>,
    prompts: HashMap<PromptId, String>,
    turn: Option<TurnId>,
    opening: Option<String>,
    cwd: Option<String>,
    pub(crate) recap: Recap,
    /// Tokens of the newest request and its answer.
    tokens: u64,
    /// Characters that came since.
    since: usize,
    /// All that the model used.
    pub(crate) usage: Usage,
}

impl History {
    /// An empty conversation; `opening` stands before the first prompt.
    pub(crate) fn new(opening: Option<String>) -> Self {
        Self { opening, ..Self::default() }
    }

    /// The messages of the next request.
    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// What stands before the first prompt.
    pub(crate) fn opening(&self) -> Option<&str> {
        self.opening.as_deref()
    }

    /// The turn whose prompt was folded last.
    pub(crate) fn turn(&self) -> Option<TurnId> {
        self.turn
    }

    /// Where the shell was after the last `Bash`.
    pub(crate) fn cwd(&self) -> Option<&str> {
        self.cwd.as_deref()
    }

    /// Whether a call id is taken.
    pub(crate) fn has_call(&self, call: &str) -> bool {
        self.calls.contains(call)
    }

    /// How many calls there were.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.len() as u64
    }

    /// The agent's newest words.
    pub(crate) fn last_text(&self) -> String {
        let said = self.messages.iter().rev().find(|message| message.role == Role::Assistant);
        let texts =
            said.iter().flat_map(|message| &message.content).filter_map(|block| block["text"].as_str());
        texts.collect::<Vec<_>>().join("\n\n")
    }

    /// Calls without a result.
    pub(crate) fn open_calls(&self) -> Vec<String> {
        self.open.iter().filter(|(_, result)| result.is_none()).map(|(call, _)| call.clone()).collect()
    }

    /// The calls without a result, whole: id, name and input.
    pub(crate) fn open_tool_uses(&self) -> Vec<(String, String, Value)> {
        let open = self.open_calls();
        let blocks = self.messages.iter().rev().find(|message| message.role == Role::Assistant);
        let calls = blocks.iter().flat_map(|message| &message.content).filter_map(|block| {
            let (id, name) = (block["id"].as_str()?, block["name"].as_str()?);
            open.iter().any(|call| call == id).then(|| (id.into(), name.into(), block["input"].clone()))
        });
        calls.collect()
    }

    /// Whether the newest thing in the conversation is this prompt.
    pub(crate) fn ends_with(&self, prompt: &str) -> bool {
        let last = self.messages.last().filter(|last| last.role == Role::User);
        last.and_then(|last| last.content.last()).is_some_and(|block| block["text"] == prompt)
    }

    /// Whether the newest message is the agent's own, with nothing left to answer.
    pub(crate) fn has_last_word(&self) -> bool {
        self.open.is_empty() && self.messages.last().is_some_and(|last| last.role == Role::Assistant)
    }

    /// Adds the prompt of a turn.
    pub(crate) fn prompt(&mut self, turn: TurnId, text: &str) {
        self.turn = Some(turn);
        self.deliver(text);
    }

    /// Adds a prompt that was handed over in the middle of the turn.
    pub(crate) fn deliver(&mut self, text: &str) {
        self.close_open();
        self.user_text(text);
        self.recap.prompt(text);
    }

    /// How long the conversation is, in tokens: what the newest request had, and about what came since.
    pub(crate) fn size(&self) -> u64 {
        self.tokens + tokens(self.since)
    }

    /// The calls whose results are behind the newest `keep` tokens of results, and about how many tokens
    /// they are in all.
    pub(crate) fn old_results(&self, keep: u64) -> (Vec<String>, u64) {
        let (mut newer, mut old, mut gain) = (0, Vec::new(), 0);
        for block in self.messages.iter().rev().flat_map(|message| message.content.iter().rev()) {
            let Some(call) = block["tool_use_id"].as_str() else { continue };
            let length = length(block);
            let size = tokens(length);
            if newer + size <= keep {
                newer += size;
            } else if length > SMALL_RESULT {
                old.push(call.to_owned());
                gain += size;
            }
        }
        old.reverse();
        (old, gain)
    }

    /// The calls whose results show images to the model in the next request for the first time.
    pub(crate) fn newest_images(&self) -> Vec<String> {
        let last = self.messages.last().filter(|last| last.role == Role::User);
        let blocks = last.iter().flat_map(|last| &last.content);
        let with_images = blocks.filter(|block| block["content"].is_array());
        with_images.filter_map(|block| block["tool_use_id"].as_str().map(str::to_owned)).collect()
    }

    /// Folds one event in.
    pub(crate) fn apply(&mut self, turn: Option<TurnId>, body: &EventBody) {
        match body {
            EventBody::PromptQueued { prompt, text, .. } | EventBody::PromptEdited { prompt, text, .. } => {
                self.prompts.insert(*prompt, text.clone());
            }
            EventBody::PromptDelivered { prompt } => {
                if let Some(text) = self.prompts.remove(prompt) {
                    self.deliver(&text);
                }
            }
            EventBody::TurnStarted { prompt } => {
                self.close_open();
                self.turn = turn;
                if let Some(text) = self.prompts.remove(prompt) {
                    self.deliver(&text);
                }
            }
            EventBody::AgentMessage(block) | EventBody::AgentThought(block) => self.agent_block(block),
            EventBody::ToolCall(call) => {
                self.recap.call(call);
                self.tool_call(call);
            }
            EventBody::ToolResult(result) => {
                self.recap.result(result);
                self.tool_result(result);
            }
            EventBody::Plan { entries } => self.recap.plan.clone_from(entries),
            EventBody::Usage { usage, .. } => {
                self.tokens = usage.input() + usage.output_tokens;
                self.usage += *usage;
                self.since = 0;
            }
            EventBody::ThreadEnded(ended) => self.usage += ended.usage,
            EventBody::ContextCompacted(compaction) => self.compact(compaction),
            EventBody::CommandRan(ran) => {
                take_command(&mut self.messages, &ran.name, ran.prompt.as_deref());
                if ran.prompt.is_none() {
                    self.recap.take_command(&ran.name);
                }
            }
            EventBody::Error(error) if error.code == CONTINUE_CODE => {
                self.close_open();
                self.user_text(CONTINUE);
            }
            EventBody::ContextAdded { source, text } => {
                self.recap.unverified &= source != FINISH_CHECK;
                self.close_open();
                self.user_text(text);
            }
            EventBody::TurnEnded(end)
                if (end.status, end.stop_reason) == (TurnStatus::Failed, StopReason::Hook) =>
            {
                self.take_back();
            }
            _ => {}
        }
    }

    /// Notes the id of a call that is not part of the conversation any more: it is not used again.
    pub(crate) fn note_call(&mut self, body: &EventBody) {
        if let EventBody::ToolCall(call) = body {
            self.calls.insert(call.call.clone());
        }
    }

    /// Takes the newest prompt back, which nobody answered.
    pub(crate) fn take_back(&mut self) {
        self.recap.take_back();
        let Some(last) = self.messages.last_mut().filter(|last| last.role == Role::User) else { return };
        last.content.pop_if(|block| block["type"] == "text");
        if last.content.is_empty() {
            self.messages.pop();
        }
    }

    /// The messages without the newest prompt that is this command to the agent.
    pub(crate) fn without_command(&self, name: &str) -> Vec<Message> {
        let mut messages = self.messages.clone();
        take_command(&mut messages, name, None);
        messages
    }

    fn compact(&mut self, compaction: &Compaction) {
        self.close_open();
        if let Some(summary) = &compaction.summary {
            if compaction.trigger == CompactionTrigger::Manual {
                // The command that wanted it.
                self.recap.take_command(COMPACT);
            }
            self.messages.clear();
            self.message = None;
            self.user_text(summary);
        }
        let is_out = |block: &Value| {
            block["tool_use_id"]
                .as_str()
                .is_some_and(|call| compaction.left_out.iter().any(|out| out == call))
        };
        for block in self.messages.iter_mut().flat_map(|message| &mut message.content) {
            if is_out(block) {
                block["content"] = LEFT_OUT.into();
            }
        }
        let blocks = self.messages.iter().flat_map(|message| &message.content);
        (self.tokens, self.since) = (0, blocks.map(length).sum());
    }

    fn agent_block(&mut self, block: &AgentBlock) {
        let value = match &block.raw {
            Some(raw) => raw.clone(),
            None if block.text.trim().is_empty() => return,
            None => json!({ "type": "text", "text": block.text }),
        };
        self.assistant(&block.message, value);
    }

    fn tool_call(&mut self, call: &ToolCall) {
        let block = json!({ "type": "tool_use", "id": call.call, "name": call.name, "input": call.input });
        self.assistant(&call.message, block);
        self.calls.insert(call.call.clone());
        self.open.push((call.call.clone(), None));
    }

    fn tool_result(&mut self, result: &ToolResult) {
        if let Some(cwd) = result.detail["cwd"].as_str() {
            self.cwd = Some(cwd.to_owned());
        }
        let open = self.open.iter_mut().find(|(call, value)| *call == result.call && value.is_none());
        // A result for a call that was already closed says the same again.
        let Some((_, value)) = open else { return };
        let mut block = result_block(&result.call, &result.content, result.is_error);
        let images = result.detail["images"].as_array().into_iter().flatten().map(|image| {
            json!({ "type": "image", "source": { "type": "base64", "media_type": image["media_type"],
                "data": image["data"] } })
        });
        let images: Vec<Value> = images.collect();
        if !images.is_empty() {
            let text = [json!({ "type": "text", "text": result.content })];
            block["content"] = text.into_iter().chain(images).collect();
        }
        *value = Some(block);
        if self.open.iter().all(|(_, result)| result.is_some()) {
            self.close_open();
        }
    }

    /// Gives every open call a result and puts all results into the conversation.
    fn close_open(&mut self) {
        for (call, result) in std::mem::take(&mut self.open) {
            self.user(result.unwrap_or_else(|| result_block(&call, INTERRUPTED, true)));
        }
    }

    fn assistant(&mut self, message: &str, block: Value) {
        let same = self.message.as_deref() == Some(message);
        if !same {
            self.close_open();
            self.message = Some(message.to_owned());
        }
        match self.messages.last_mut() {
            Some(last) if last.role == Role::Assistant => last.content.push(block),
            // A conversation begins with the user; a log that does not is no conversation of ours.
            None => {}
            Some(_) => self.messages.push(Message { role: Role::Assistant, content: vec![block] }),
        }
    }

    fn user_text(&mut self, text: &str) {
        let text = if text.trim().is_empty() { "(an empty message)" } else { text };
        self.user(json!({ "type": "text", "text": text }));
    }

    fn user(&mut self, block: Value) {
        self.drop_trailing_thoughts();
        if self.messages.is_empty() {
            let opening = self.opening.iter().map(|text| json!({ "type": "text", "text": text }));
            self.messages.push(Message { role: Role::User, content: opening.collect() });
        }
        self.since += length(&block);
        match self.messages.last_mut() {
            Some(last) if last.role == Role::User => last.content.push(block),
            _ => self.messages.push(Message { role: Role::User, content: vec![block] }),
        }
    }

    /// The API refuses a message that ends in a thought, which a cut answer may do.
    fn drop_trailing_thoughts(&mut self) {
        let Some(last) = self.messages.last_mut().filter(|last| last.role == Role::Assistant) else { return };
        let is_thought =
            |block: &Value| matches!(block["type"].as_str(), Some("thinking" | "redacted_thinking"));
        while last.content.pop_if(|block| is_thought(block)).is_some() {}
        if last.content.is_empty() {
            self.messages.pop();
        }
    }
}

/// Characters of a block, about.
fn length(block: &Value) -> usize {
    if let Some(parts) = block["content"].as_array() {
        return parts.iter().map(length).sum();
    }
    if block["type"] == "image" {
        return IMAGE;
    }
    let text = block["text"].as_str().or(block["content"].as_str());
    text.map_or_else(|| block.to_string().len(), str::len)
}

fn tokens(characters: usize) -> u64 {
    (characters / CHARACTERS) as u64
}

/// Puts a text in place of the newest prompt that is this command, or takes it out. It need not be the newest of
/// all: several prompts may come at once.
fn take_command(messages: &mut Vec<Message>, name: &str, text: Option<&str>) {
    let Some(last) = messages.last_mut().filter(|last| last.role == Role::User) else { return };
    let is_it = |block: &Value| block["text"].as_str().is_some_and(|text| is_command(text, name));
    let Some(at) = last.content.iter().rposition(is_it) else { return };
    match text {
        Some(text) => last.content[at]["text"] = text.into(),
        None => drop(last.content.remove(at)),
    }
    if last.content.is_empty() {
        messages.pop();
    }
}

fn result_block(call: &str, content: &str, is_error: bool) -> Value {
    let mut block = json!({ "type": "tool_result", "tool_use_id": call, "content": content });
    if is_error {
        block["is_error"] = true.into();
    }
    block
}

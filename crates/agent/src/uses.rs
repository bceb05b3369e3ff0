//! One use of a tool, with the hooks around it.
//!
//! ```text
//!  PreToolUse ─▶ may it? ─▶ run ─▶ PostToolUse, or PostToolUseFailure ─▶ the result, with what they say
//! ```

use std::time::Duration;

use protocol::agent_port::PortError;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::gate::{Gate, Moment, Wish};
use crate::hooks::{Event, Said};
use crate::mcp;
use crate::outcome::Outcome;
use crate::response;
use crate::skills;
use crate::threads;
use crate::tools::{Call, Run, is_read_only, parse, run, title};

/// A call of the model, recorded and not yet run.
pub(crate) struct Planned {
    pub(crate) call: String,
    pub(crate) name: String,
    pub(crate) input: Value,
    /// The call, or why it cannot run.
    pub(crate) parsed: Result<Call, String>,
}

/// A use that is over.
pub(crate) struct Used {
    pub(crate) call: String,
    pub(crate) name: String,
    pub(crate) input: Value,
    pub(crate) outcome: Outcome,
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    /// Why a hook wants the turn to end.
    pub(crate) stop: Option<String>,
}

/// Uses a tool, if it may be used.
pub(crate) async fn use_tool(planned: Planned, gate: &Gate, moment: Moment<'_>) -> Result<Used, PortError> {
    let Planned { call, name, input, parsed } = planned;
    let (mut began, mut stop) = (Instant::now(), None);
    let outcome = match parsed {
        Err(reason) => Outcome::refused(reason),
        Ok(parsed) => {
            let mut user = User { gate, moment, call: &call, name: &name, input: input.clone(), stop: None };
            let outcome = user.go(parsed, &mut began).await?;
            stop = user.stop;
            outcome
        }
    };
    let took = began.elapsed();
    Ok(Used { call, name, input, outcome, began, took, stop })
}

struct User<'a> {
    gate: &'a Gate,
    moment: Moment<'a>,
    call: &'a str,
    name: &'a str,
    input: Value,
    stop: Option<String>,
}

impl User<'_> {
    async fn go(&mut self, mut parsed: Call, began: &mut Instant) -> Result<Outcome, PortError> {
        let before = self.hooks(Event::PreToolUse, json!({})).await?;
        if let Some(reason) = &before.stop {
            return Ok(Outcome::failed(format!("not run: a hook ended the turn: {reason}")));
        }
        let mut changed = before.input.is_some();
        if let Some(input) = before.input {
            match self.replace(input) {
                Ok(call) => parsed = call,
                Err(reason) => return Ok(Outcome::refused(reason)),
            }
        }
        let title = title(self.name, &self.input, &self.moment.bench.workspace);
        let wish = Wish {
            call: self.call,
            tool: self.name,
            title: &title,
            input: &self.input,
            read_only: is_read_only(&parsed)
                || matches!(
                    parsed,
                    Call::TodoWrite(_) | Call::TaskOutput(_) | Call::TaskStop(_) | Call::Agent(_)
                )
                || matches!(&parsed, Call::Skill(input) if skills::only_says(&self.moment.bench.library, input)),
        };
        match self.gate.pass(wish, before.decision, self.moment).await? {
            Ok(None) => {}
            Ok(Some(input)) => {
                changed = true;
                match self.replace(input) {
                    Ok(call) => parsed = call,
                    Err(reason) => return Ok(Outcome::refused(reason)),
                }
            }
            Err(outcome) => return Ok(outcome),
        }
        *began = Instant::now();
        let Moment { bench, port, stop, resumed, .. } = self.moment;
        let mut outcome = match parsed {
            Call::Skill(input) => skills::start(&input, self.gate, self.moment).await?,
            Call::Agent(input) => threads::run(input, self.call, self.gate, self.moment).await?,
            parsed => Box::pin(run(parsed, Run { bench, port, id: self.call, stop, resumed })).await,
        };
        let own = outcome.content.len();
        self.instruct(&mut outcome);
        if changed {
            outcome.detail["input"] = self.input.clone();
        }
        let duration = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let after = if outcome.is_error {
            let error = outcome.content.clone();
            let interrupted = stop.is_cancelled();
            let more = json!({ "error": error, "is_interrupt": interrupted, "duration_ms": duration });
            self.hooks(Event::PostToolUseFailure, more).await?
        } else {
            let response = response::of(self.name, &self.input, &outcome.content, &outcome.detail);
            self.hooks(Event::PostToolUse, json!({ "tool_response": response, "duration_ms": duration }))
                .await?
        };
        append(&mut outcome, self.name, &before.context, &after);
        if outcome.content.len() > own {
            outcome.detail["own_length"] = own.into();
        }
        Ok(outcome)
    }

    /// Adds the instructions about the file that it was about, the first time.
    fn instruct(&self, outcome: &mut Outcome) {
        let path =
            self.input["file_path"].as_str().filter(|_| matches!(self.name, "Read" | "Edit" | "Write"));
        let Some(path) = path.filter(|_| !outcome.is_error) else { return };
        let bench = self.moment.bench;
        let files = bench.instructions_about(path);
        if files.is_empty() {
            return;
        }
        for file in &files {
            outcome.content.push_str(&format!(
                "\n\n<system-reminder>\nContents of {}/{} (instructions of the repository for such files):\n\n{}\n\
                 </system-reminder>",
                bench.workspace,
                file.path,
                file.text.trim()
            ));
        }
        outcome.detail["instructions"] = files.iter().map(|file| file.path.as_str()).collect();
    }

    async fn hooks(&mut self, event: Event, more: Value) -> Result<Said, PortError> {
        let mut all = json!({
            "tool_name": self.name,
            "tool_input": absolute(self.name, &self.input, self.moment),
            "tool_use_id": self.call,
        });
        if let Some(server) = mcp::server_of(&self.moment.bench.servers, self.name) {
            all["mcp_server"] = server;
        }
        if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
            all.extend(more);
        }
        let said = self.gate.hooks(event, self.name, all, self.moment).await?;
        if self.stop.is_none() {
            self.stop.clone_from(&said.stop);
        }
        Ok(said)
    }

    /// Takes a hook's input in place of the model's.
    fn replace(&mut self, input: Value) -> Result<Call, String> {
        self.input = input;
        parse(self.name, &self.input)
            .map_err(|reason| format!("a hook replaced the input by one that does not fit: {reason}"))
    }
}

/// The input with paths as hooks know them.
fn absolute(name: &str, input: &Value, moment: Moment<'_>) -> Value {
    let mut input = input.clone();
    if matches!(name, "Read" | "Edit" | "Write")
        && let Some(path) = input["file_path"].as_str()
    {
        input["file_path"] = moment.bench.absolute(path).into();
    }
    input
}

/// Adds what the hooks say to what the model reads.
fn append(outcome: &mut Outcome, name: &str, before: &[String], after: &Said) {
    let event = if outcome.is_error { "PostToolUseFailure" } else { "PostToolUse" };
    let mut add = |event: &str, words: &str, text: &str| {
        outcome.content.push_str(&format!(
            "\n\n<system-reminder>\n{event}:{name} hook {words}: {text}\n</system-reminder>"
        ));
    };
    for text in before {
        add("PreToolUse", "additional context", text);
    }
    if let Some(reason) = &after.block {
        add(event, "blocking error", reason);
    }
    for text in &after.context {
        add(event, "additional context", text);
    }
}

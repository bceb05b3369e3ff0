//! Sees to what comes in while something else goes on.
//!
//! ```text
//!  input ─▶ prompt ─ a turn runs, `next` ─▶ into the turn · `now` ─▶ ends it, and is the next · else ─▶ queue
//!        ─▶ control request ─▶ answered at once
//!        ─▶ control response ─▶ who asked
//!        ─▶ SIGINT ─▶ ends the turn · SIGTERM ─▶ ends the run
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use agent::OWN_COMMANDS;
use policy::permissions::Mode;
use serde_json::{Value, json};

use crate::input::{Came, Input, Prompt, Said, Urgency};
use crate::model::Models;
use crate::options::Options;
use crate::port::LocalPort;
use crate::setup::Introduction;

/// Everything that comes in.
pub(crate) struct Desk {
    input: Input,
    port: Arc<LocalPort>,
    models: Models,
    /// Whether the mode without questions may be set.
    may_bypass: bool,
    queue: VecDeque<Prompt>,
    /// What the driver said of itself before the first prompt.
    pub(crate) introduction: Introduction,
    runs: bool,
    terminated: bool,
    /// How often Ctrl-C was pressed in this turn.
    interrupts: u32,
}

impl Desk {
    pub(crate) fn new(
        input: Input,
        port: Arc<LocalPort>,
        models: Models,
        options: &Options,
        first: Option<Prompt>,
    ) -> Self {
        let may_bypass = options.may_bypass || options.mode == Some(Mode::BypassPermissions);
        Self {
            input,
            port,
            models,
            may_bypass,
            queue: first.into_iter().collect(),
            introduction: Introduction::default(),
            runs: false,
            terminated: false,
            interrupts: 0,
        }
    }

    /// The next prompt; nothing at the end.
    pub(crate) async fn prompt(&mut self) -> Option<Prompt> {
        loop {
            if self.terminated {
                return None;
            }
            if let Some(prompt) = self.queue.pop_front() {
                return Some(prompt);
            }
            if !self.input.is_open() {
                return None;
            }
            match self.input.next().await {
                // Nothing runs that it could end.
                Came::Interrupt => return None,
                came => self.take(came),
            }
        }
    }

    /// Waits for a future, and sees to what comes in meanwhile.
    pub(crate) async fn attend<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                came = self.input.next() => self.take(came),
            }
        }
    }

    pub(crate) fn runs(&mut self, runs: bool) {
        self.runs = runs;
        self.interrupts = 0;
    }

    pub(crate) fn is_terminated(&self) -> bool {
        self.terminated
    }

    /// How many prompts wait.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Prompts that came too late for the turn they were for are the next ones.
    pub(crate) fn put_back(&mut self, prompts: VecDeque<Prompt>) {
        prompts.into_iter().rev().for_each(|prompt| self.queue.push_front(prompt));
    }

    fn take(&mut self, came: Came) {
        match came {
            Came::Said(Said::Prompt(prompt, urgency)) => self.take_prompt(prompt, urgency),
            Came::Said(Said::Request { id, request }) => {
                let answer = self.answer(&request);
                self.port.control.reply(&id, answer);
            }
            Came::Said(Said::Response(response)) => self.port.control.answered(&response),
            Came::Said(Said::Wrong(why)) => {
                self.port.tell(json!({
                    "type": "system", "subtype": "informational", "level": "warning", "content": why,
                }));
            }
            // Nobody answers any more what we ask; what is queued is still done.
            Came::End => self.port.control.close(),
            Came::Interrupt => {
                self.interrupts += 1;
                self.port.interrupt();
                if self.interrupts > 1 {
                    self.terminated = true;
                }
            }
            Came::Terminate => {
                self.terminated = true;
                self.port.interrupt();
            }
        }
    }

    fn take_prompt(&mut self, prompt: Prompt, urgency: Urgency) {
        prompt.stands(&self.port, "queued");
        match urgency {
            Urgency::Next if self.runs => self.port.deliver(prompt),
            Urgency::Now if self.runs => {
                self.queue.push_front(prompt);
                self.port.interrupt();
            }
            _ => self.queue.push_back(prompt),
        }
    }

    /// Answers a request of the driver.
    fn answer(&mut self, request: &Value) -> Result<Value, (String, &'static str)> {
        match request["subtype"].as_str() {
            Some("initialize") => {
                self.introduction = Introduction(request.clone());
                Ok(json!({
                    "commands": commands(),
                    "agents": [],
                    "models": [],
                    "output_style": "default",
                    "available_output_styles": ["default"],
                    "account": {},
                    "pid": std::process::id(),
                }))
            }
            Some("interrupt") => {
                self.port.interrupt();
                let waiting: Vec<&str> =
                    self.queue.iter().filter_map(|prompt| prompt.uuid.as_deref()).collect();
                Ok(json!({ "still_queued": waiting }))
            }
            Some("set_permission_mode") => self.set_mode(request),
            Some("set_model") => {
                let client = self.models.client(request["model"].as_str());
                let client = client.map_err(|error| (error.to_string(), "invalid_model"))?;
                let name = client.config().model.clone();
                self.port.steering.set_model(client);
                Ok(json!({ "model": name }))
            }
            Some("mcp_status") => Ok(json!({ "mcpServers": self.port.server_states() })),
            Some(other) => {
                let shown: String = other.chars().take(80).collect();
                Err((format!("the request `{shown}` is not known here"), "unsupported_request"))
            }
            None => Err(("a request without a subtype".into(), "unsupported_request")),
        }
    }

    fn set_mode(&self, request: &Value) -> Result<Value, (String, &'static str)> {
        let name = request["mode"].as_str().unwrap_or_default();
        let mode = Mode::parse(name).ok_or_else(|| {
            let shown: String = name.chars().take(80).collect();
            (format!("there is no mode `{shown}` here"), "invalid_mode")
        })?;
        if mode == Mode::BypassPermissions && !self.may_bypass {
            let why =
                "this mode has to be allowed when the run begins, by --allow-dangerously-skip-permissions";
            return Err((why.into(), "bypass_not_launched"));
        }
        self.port.steering.set_mode(mode);
        self.port.tell(json!({
            "type": "system", "subtype": "status", "status": null, "permissionMode": mode.name(),
        }));
        Ok(json!({ "mode": mode.name() }))
    }
}

/// Our own commands, as drivers are told of them; those of the repository are not read yet.
fn commands() -> Value {
    let one = |(name, about)| json!({ "name": name, "description": about, "argumentHint": "" });
    OWN_COMMANDS.into_iter().map(one).collect()
}

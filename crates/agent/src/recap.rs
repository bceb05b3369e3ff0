//! What a summary carries over word for word, however the model words the rest.
//!
//! ```text
//!  prompts · Edit and Write that went well · the plan ── fold ──▶ Recap ── text ──▶ below the summary
//! ```

use std::fmt::Write as _;

use protocol::event::{PlanEntry, PlanStatus, ToolCall, ToolResult};

/// Characters of prompts that are carried over, the newest first.
const MAX_PROMPTS: usize = 80_000;

/// Changed files that are named.
const MAX_FILES: usize = 200;

/// Folded out of the same events as the conversation.
#[derive(Debug, Default)]
pub(crate) struct Recap {
    prompts: Vec<String>,
    /// Changes that have no result yet: call and path.
    changing: Vec<(String, String)>,
    changed: Vec<String>,
    pub(crate) plan: Vec<PlanEntry>,
}

impl Recap {
    pub(crate) fn prompt(&mut self, text: &str) {
        self.prompts.push(text.to_owned());
        let mut length: usize = self.prompts.iter().map(String::len).sum();
        while length > MAX_PROMPTS && self.prompts.len() > 1 {
            length -= self.prompts.remove(0).len();
        }
    }

    /// The newest prompt is not the model's to know.
    pub(crate) fn take_back(&mut self) {
        self.prompts.pop();
    }

    pub(crate) fn call(&mut self, call: &ToolCall) {
        if let ("Edit" | "Write", Some(path)) = (call.name.as_str(), call.input["file_path"].as_str()) {
            self.changing.push((call.call.clone(), path.to_owned()));
        }
    }

    pub(crate) fn result(&mut self, result: &ToolResult) {
        let Some(at) = self.changing.iter().position(|(call, _)| *call == result.call) else { return };
        let (_, path) = self.changing.swap_remove(at);
        if !result.is_error && !self.changed.contains(&path) && self.changed.len() < MAX_FILES {
            self.changed.push(path);
        }
    }

    /// What stands below a summary: the prompts without the newest `commands`; `tasks` are the commands that run
    /// in the background.
    pub(crate) fn text(&self, commands: usize, tasks: &[String]) -> String {
        let mut text = String::new();
        let prompts = &self.prompts[..self.prompts.len().saturating_sub(commands)];
        let mut part = |title: &str, lines: &mut dyn Iterator<Item = String>| {
            let lines: Vec<String> = lines.collect();
            if !lines.is_empty() {
                let _ = write!(text, "\n\n{title}\n\n{}", lines.join("\n"));
            }
        };
        part(
            "What the person said, word for word, the newest last:",
            &mut prompts.iter().map(|prompt| quoted(prompt)),
        );
        part("Files that you changed:", &mut self.changed.iter().map(|path| format!("- {path}")));
        part("The list of steps:", &mut self.plan.iter().map(step));
        part("What runs in the background:", &mut tasks.iter().map(|task| format!("- {task}")));
        text
    }
}

fn quoted(prompt: &str) -> String {
    let short: String = prompt.chars().take(MAX_PROMPTS).collect();
    format!("<prompt>\n{short}\n</prompt>")
}

fn step(entry: &PlanEntry) -> String {
    let state = match entry.status {
        PlanStatus::Pending => "pending",
        PlanStatus::InProgress => "in progress",
        PlanStatus::Completed => "completed",
    };
    format!("- {} ({state})", entry.content)
}

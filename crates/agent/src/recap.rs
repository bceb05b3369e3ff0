//! What a summary carries over word for word, however the model words the rest.
//!
//! ```text
//!  prompts · Edit and Write that went well · the plan ── fold ──▶ Recap ── text ──▶ below the summary
//! ```

use std::fmt::Write as _;

use protocol::event::{PlanEntry, PlanStatus, ToolCall, ToolResult};

use crate::slash::is_command;

/// Characters of prompts that are carried over, the newest first.
const MAX_PROMPTS: usize = 80_000;

/// Changed files that are named.
const MAX_FILES: usize = 200;

/// Folded out of the same events as the conversation.
#[derive(Debug, Default)]
pub(crate) struct Recap {
    prompts: Vec<String>,
    /// Changes, with their paths, and commands that have no result yet.
    changing: Vec<(String, Option<String>)>,
    changed: Vec<String>,
    pub(crate) plan: Vec<PlanEntry>,
    /// Code was changed in this turn, and no command ran since.
    pub(crate) unverified: bool,
}

impl Recap {
    pub(crate) fn prompt(&mut self, text: &str) {
        self.unverified = false;
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

    /// The newest prompt that is this command is not the model's to know.
    pub(crate) fn take_command(&mut self, name: &str) {
        if let Some(at) = self.prompts.iter().rposition(|prompt| is_command(prompt, name)) {
            self.prompts.remove(at);
        }
    }

    pub(crate) fn call(&mut self, call: &ToolCall) {
        if let ("Edit" | "Write", Some(path)) = (call.name.as_str(), call.input["file_path"].as_str()) {
            self.changing.push((call.call.clone(), Some(path.to_owned())));
        } else if call.name == "Bash" {
            self.changing.push((call.call.clone(), None));
        }
    }

    pub(crate) fn result(&mut self, result: &ToolResult) {
        let Some(at) = self.changing.iter().position(|(call, _)| *call == result.call) else { return };
        let (_, path) = self.changing.swap_remove(at);
        let Some(path) = path else {
            self.unverified = false;
            return;
        };
        self.unverified |= !result.is_error && !is_prose(&path);
        if !result.is_error && !self.changed.contains(&path) && self.changed.len() < MAX_FILES {
            self.changed.push(path);
        }
    }

    /// What stands below a summary; `command` is the one that wanted it, and `tasks` are the commands that run in the
    /// background.
    pub(crate) fn text(&self, command: Option<&str>, tasks: &[String]) -> String {
        let mut text = String::new();
        let is_it = |prompt: &String| command.is_some_and(|command| is_command(prompt, command));
        let out = self.prompts.iter().rposition(is_it);
        let prompts = self.prompts.iter().enumerate().filter(|(at, _)| Some(*at) != out);
        let mut part = |title: &str, lines: &mut dyn Iterator<Item = String>| {
            let lines: Vec<String> = lines.collect();
            if !lines.is_empty() {
                let _ = write!(text, "\n\n{title}\n\n{}", lines.join("\n"));
            }
        };
        part(
            "What the person said, word for word, the newest last:",
            &mut prompts.map(|(_, prompt)| quoted(prompt)),
        );
        part("Files that you changed:", &mut self.changed.iter().map(|path| format!("- {path}")));
        part("The list of steps:", &mut self.plan.iter().map(step));
        part("What runs in the background:", &mut tasks.iter().map(|task| format!("- {task}")));
        text
    }
}

/// Files that no check of a project looks at.
fn is_prose(path: &str) -> bool {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    matches!(extension, "md" | "txt" | "rst" | "adoc")
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn use_tool(recap: &mut Recap, name: &str, path: &str, is_error: bool) {
        let call = "c".to_owned();
        recap.call(&ToolCall {
            message: "m".into(),
            call: call.clone(),
            name: name.into(),
            title: String::new(),
            input: json!({ "file_path": path }),
        });
        let (content, detail) = (String::new(), json!({}));
        recap.result(&ToolResult { call, content, is_error, duration_ms: 0, detail, full_output: None });
    }

    #[test]
    fn code_is_unverified_until_a_command_runs() {
        let mut recap = Recap::default();
        for (name, path, is_error, unverified) in [
            ("Read", "a.rs", false, false),
            ("Edit", "a.rs", true, false),
            ("Write", "README.md", false, false),
            ("Edit", "a.rs", false, true),
            ("Read", "a.rs", false, true),
            ("Bash", "", false, false),
            ("Write", "b.rs", false, true),
        ] {
            use_tool(&mut recap, name, path, is_error);
            assert_eq!(recap.unverified, unverified, "{name} {path}");
        }
        recap.prompt("and now?");
        assert!(!recap.unverified, "of this turn only");
        let text = recap.text(None, &["task 1: make".into()]);
        assert!(text.contains("- README.md\n- a.rs\n- b.rs") && text.contains("- task 1: make"), "{text}");
    }

    #[test]
    fn the_newest_prompts_are_carried_over() {
        let mut recap = Recap::default();
        for number in 0..5 {
            recap.prompt(&format!("{number}{}", "x".repeat(MAX_PROMPTS / 3)));
        }
        recap.prompt("/compact the tests");
        recap.prompt("later");
        let text = recap.text(Some("compact"), &[]);
        assert_eq!(text.matches("<prompt>").count(), recap.prompts.len() - 1);
        assert!(text.len() < MAX_PROMPTS + 1_000 && text.contains("\n4x"), "{}", text.len());
        assert!(text.contains("later") && !text.contains("/compact"));
        recap.take_command("compact");
        assert_eq!(recap.text(None, &[]), text);
    }
}

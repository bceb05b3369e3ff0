//! What a session does, shown while one waits.
//!
//! On a terminal one line that moves (`⠹ 12 s  Bash cargo test`) below the agent's words; in a pipe
//! plain lines, one per fact.

use std::time::{Duration, Instant};

use protocol::event::{Event, EventBody};
use protocol::view::SessionView;

use crate::output::{is_terminal, note, plain, raw_note};

const FRAMES: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// How often the moving line moves.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Shows one session.
pub(crate) struct Progress {
    view: SessionView,
    started: Instant,
    terminal: bool,
    frame: usize,
}

impl Progress {
    /// From the session as it was when following began.
    pub(crate) fn new(view: SessionView) -> Self {
        Self { view, started: Instant::now(), terminal: is_terminal(), frame: 0 }
    }

    /// Takes the next event in and shows what is worth a line.
    pub(crate) fn event(&mut self, event: &Event) {
        if event.seq > self.view.last_seq {
            self.view.apply(event);
        }
        let Some(line) = line_of(&event.body) else { return };
        self.clear();
        note(&plain(&line));
    }

    /// Moves the line.
    pub(crate) fn tick(&mut self) {
        if !self.terminal {
            return;
        }
        self.frame = (self.frame + 1) % FRAMES.len();
        let activity = if self.view.activity.is_empty() {
            self.view.status.as_str().to_owned()
        } else {
            plain(&self.view.activity).replace('\n', " ")
        };
        let activity: String = activity.chars().take(60).collect();
        let seconds = self.started.elapsed().as_secs();
        raw_note(&format!("\r\x1b[2K{} {seconds} s  {activity}", FRAMES[self.frame]));
    }

    /// Takes the moving line away.
    pub(crate) fn clear(&self) {
        if self.terminal {
            raw_note("\r\x1b[2K");
        }
    }
}

/// What stays on the screen of an event.
fn line_of(body: &EventBody) -> Option<String> {
    match body {
        EventBody::StepFinished { step, duration_ms, error: None, detail } => {
            let step = match step {
                protocol::event::Step::Sandbox => "sandbox ready",
                protocol::event::Step::Workspace => "workspace ready",
                protocol::event::Step::Setup => "setup script done",
                protocol::event::Step::Cache => "prepared state kept",
                protocol::event::Step::Hooks => "SessionStart hooks done",
                protocol::event::Step::Mcp => "MCP servers started",
            };
            let detail = detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
            Some(format!("✓ {step} ({duration_ms} ms){detail}"))
        }
        EventBody::StepFinished { error: Some(error), .. } => Some(format!("✗ {error}")),
        EventBody::StepOutput { text, .. } => Some(text.trim_end().to_owned()),
        EventBody::AgentMessage(block) => Some(format!("\n{}\n", block.text.trim())),
        EventBody::ToolCall(call) => Some(format!("● {} {}", call.name, first_line(&call.title))),
        EventBody::ToolResult(result) if result.is_error => {
            Some(format!("  ✗ {}", first_line(&result.content)))
        }
        EventBody::QuestionAsked(question) => {
            let options: Vec<_> =
                question.options.iter().map(|option| format!("{} ({})", option.id, option.label)).collect();
            Some(format!(
                "? {} Answer with `patchyard sessions answer`: {}",
                question.text,
                options.join(", ")
            ))
        }
        EventBody::ContextAdded { source, text } => Some(format!("  {source}: {}", first_line(text))),
        EventBody::ThreadStarted(started) => {
            Some(format!("  ↳ {}: {}", started.agent, first_line(&started.description)))
        }
        EventBody::ThreadEvent(inner) => match &*inner.event {
            // Its words come back as the result.
            EventBody::AgentMessage(_) => None,
            body => line_of(body).map(|line| format!("    {line}")),
        },
        EventBody::ContextCompacted(compaction) => Some(match compaction.summary {
            Some(_) => "  the conversation was summed up to make room".to_owned(),
            None => format!("  {} old results were left out to make room", compaction.left_out.len()),
        }),
        EventBody::CommandRan(ran) => Some(match &ran.output {
            Some(output) => format!("\n{}\n", output.trim()),
            None => format!("  /{}", ran.name),
        }),
        EventBody::Error(error) => Some(format!("! {}", error.message)),
        EventBody::DiffStat(stat) => {
            Some(format!("+{} −{} in {} files", stat.additions, stat.deletions, stat.files_changed))
        }
        EventBody::TurnEnded(ended) => ended.message.clone().map(|message| format!("! {message}")),
        _ => None,
    }
}

fn first_line(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.chars().take(120).collect()
}

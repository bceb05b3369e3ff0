//! What the model reads in place of a command of the repository.
//!
//! ```text
//!  body in pieces ─▶ text as it is · commands, if they may run, in the sandbox · files that are named ─▶ one text
//! ```

use protocol::agent_port::PortError;
use serde_json::json;

use crate::gate::{Gate, Moment, Wish};
use crate::library::{Command, Piece, Places};
use crate::stream_text::capped;
use crate::tools::{read_whole, say};

/// Characters of what one command says, and of one file.
const MAX_PIECE: usize = 30_000;

/// Characters of it all.
const MAX_ALL: usize = 150_000;

/// Fills a command in; the tools that it allows are allowed from here to the end of the turn.
pub(crate) async fn expand(
    command: &Command,
    words: &str,
    gate: &Gate,
    moment: Moment<'_>,
) -> Result<String, PortError> {
    gate.grant(command);
    let workspace = moment.bench.workspace.as_str();
    let mut text = String::new();
    if let Some(folder) = command.place(workspace) {
        text.push_str(&format!("Base directory for this skill: {folder}\n\n"));
    }
    for piece in command.fill(words, Places { workspace, session: gate.session() }) {
        match piece {
            Piece::Text(more) => text.push_str(&more),
            Piece::Command(script) => text.push_str(&said(&script, gate, moment).await?),
            Piece::File(path) => text.push_str(&content(&path, gate, moment).await?),
        }
    }
    Ok(capped(&text, MAX_ALL, "").text)
}

/// What a command says, or why it was not run.
async fn said(script: &str, gate: &Gate, moment: Moment<'_>) -> Result<String, PortError> {
    if gate.runs_no_commands() {
        return Ok("[not run: settings say that commands inside of skills and commands do not run]".into());
    }
    let input = json!({ "command": script });
    let wish = Wish { call: "", tool: "Bash", title: script, input: &input, read_only: false };
    Ok(match gate.pass(wish, None, moment).await? {
        Ok(_) => capped(&say(script, moment.bench, moment.stop).await, MAX_PIECE, "").text,
        Err(outcome) => format!("[{}]", outcome.content),
    })
}

/// The content of a file of the workspace; nothing where there is none, or where it leads out.
async fn content(path: &str, gate: &Gate, moment: Moment<'_>) -> Result<String, PortError> {
    let bench = moment.bench;
    if path.starts_with('~') {
        return Ok(String::new());
    }
    let full = if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", bench.workspace) };
    let full = bench.absolute(&full);
    let input = json!({ "file_path": full });
    let title = bench.shown(&full);
    let wish = Wish { call: "", tool: "Read", title, input: &input, read_only: true };
    if !gate.is_inside(&full, bench).await {
        return Ok(String::new());
    }
    Ok(match gate.pass(wish, None, moment).await? {
        Ok(_) => match read_whole(bench, &full).await {
            Some(text) => {
                format!("\n\nContents of {full}:\n\n{}\n", capped(&text, MAX_PIECE, "").text.trim_end())
            }
            None => String::new(),
        },
        Err(outcome) => format!("\n\n[{}]", outcome.content),
    })
}

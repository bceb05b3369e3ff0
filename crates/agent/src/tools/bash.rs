//! `Bash`: a command in a new shell.
//!
//! ```text
//!  sh -c:  exec 2>&1; trap 'note the folder in a file' EXIT; the hooks' variables; the command as it stands
//! ```
//!
//! Standard error is merged by the shell, so that the order is that of the writes. The folder is
//! carried over as data: the shell writes it to a file with the execution's id when it exits, whatever
//! the command printed; a command that replaces the trap or the shell merely does not move.

use std::fmt::Write as _;
use std::time::Duration;

use protocol::agent_port::AgentPort;
use protocol::event::LiveDelta;
use protocol::hands::{Exceeded, ExecSpec, HandsError};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::bench::Workbench;
use super::call::BashInput;
use super::command::{Ended, attend};
use super::run::Run;
use crate::outcome::Outcome;
use crate::stream_text::{Output, capped, plain};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);
const MAX_TIMEOUT: Duration = Duration::from_secs(600);

/// Characters that the model reads of a success, and of a failure.
const MAX_OK: usize = 30_000;
const MAX_FAILED: usize = 10_000;

/// The most bytes that are shown live of one command; the result has the rest.
const MAX_LIVE: usize = 1024 * 1024;

const SIGKILL: i32 = 9;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

pub(super) async fn run(input: BashInput, with: Run<'_>) -> Outcome {
    let bench = with.bench;
    if input.command.trim().is_empty() {
        return Outcome::refused("the command is empty");
    }
    let shell = shell(bench).await;
    if input.run_in_background {
        // A background task has no folder to carry over.
        let script = format!("exec 2>&1; {}{}", prelude(bench), input.command);
        let spec = bench.spec_of(with.id, vec![shell.into(), "-c".into(), script]);
        return bench.tasks.start(with, spec, &input.command).await;
    }
    let limit = input.timeout.map_or(DEFAULT_TIMEOUT, Duration::from_millis).min(MAX_TIMEOUT);
    let cwd_file = format!("{}/shell-folder", bench.scratch);
    let mut spec = bench.spec_of(with.id, Vec::new());
    let id = spec.exec.to_string();
    spec.argv = vec![shell.into(), "-c".into(), script(&input.command, bench, &cwd_file, &id)];
    spec.timeout = Some(limit);
    let (ended, output) = match execute(spec, with).await {
        Ok(done) => done,
        // The folder that the last command left is gone; the next one starts where there is one.
        Err(HandsError::NotFound { path }) if path == bench.cwd() && path != bench.workspace => {
            bench.reset_cwd();
            return Outcome::failed(format!(
                "the working directory {path} no longer exists; the next command starts in {}",
                bench.workspace
            ));
        }
        Err(error) => return Outcome::hands(&error),
    };
    let outside = carry_folder(bench, &cwd_file, &id).await;
    let mut outcome = compose(bench, &ended, &output, limit, &id).await;
    if let Some(outside) = outside {
        let _ = write!(
            outcome.content,
            "\n[the shell left the workspace for {outside} and was set back to {}]",
            bench.workspace
        );
    }
    outcome.detail["cwd"] = bench.cwd().into();
    outcome
}

/// What a command says that a file of the repository holds, both outputs merged; with its exit code where it
/// failed.
pub(crate) async fn say(command: &str, bench: &Workbench, stop: &CancellationToken) -> String {
    let script = format!("exec 2>&1; {}{command}", prelude(bench));
    let mut spec = bench.spec(vec![shell(bench).await.into(), "-c".into(), script]);
    spec.timeout = Some(DEFAULT_TIMEOUT);
    let mut output = Output::default();
    let mut take = |bytes: &[u8], _is_error: bool| output.push(bytes);
    let ended = match bench.hands.start(spec).await {
        Ok(mut execution) => attend(execution.as_mut(), stop, &mut take).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(ended) if ended.end.is_success() => output.plain().trim_end().to_owned(),
        Ok(ended) => {
            let code = exit_code(&ended).map_or_else(|| "none".to_owned(), |code| code.to_string());
            format!("{}\n[`{command}` failed, exit code {code}]", output.plain().trim_end())
        }
        Err(error) => format!("[`{command}` could not run: {error}]"),
    }
}

async fn shell(bench: &Workbench) -> &'static str {
    let probe = || async {
        match bench.hands.stat("/bin/bash").await {
            Ok(_) => "bash",
            Err(_) => "sh",
        }
    };
    bench.shell.get_or_init(probe).await
}

/// The text that the shell runs. Nothing stands after the command, so that an unfinished quote or a
/// comment at its end is the command's own affair; no line before it, so that line numbers in errors
/// are the command's.
fn script(command: &str, bench: &Workbench, cwd_file: &str, id: &str) -> String {
    let (scratch, file) = (quoted(&bench.scratch), quoted(cwd_file));
    let note = format!("{{ mkdir -p {scratch} && {{ echo {id}; pwd -P; }} >{file}; }} 2>/dev/null");
    format!("exec 2>&1; trap {} EXIT; {}{command}", quoted(&note), prelude(bench))
}

/// Reads the file that hooks leave variables in. What it prints is not the command's.
fn prelude(bench: &Workbench) -> String {
    match &bench.env_file {
        Some(file) => {
            let file = quoted(file);
            format!("if [ -r {file} ]; then set -a; . {file} >/dev/null 2>&1; set +a; fi; ")
        }
        None => String::new(),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

async fn execute(spec: ExecSpec, with: Run<'_>) -> Result<(Ended, Output), HandsError> {
    let mut execution = with.begin(spec).await?;
    let mut output = Output::default();
    let mut live = LiveOutput::new(with.port, with.id);
    let mut take = |bytes: &[u8], _is_error: bool| {
        output.push(bytes);
        live.push(bytes);
    };
    let ended = attend(execution.as_mut(), with.stop, &mut take).await?;
    Ok((ended, output))
}

/// Takes over the folder that the command ended in; gives it back when it is outside.
async fn carry_folder(bench: &Workbench, cwd_file: &str, id: &str) -> Option<String> {
    let chunk = bench.hands.read_file(cwd_file, 0, 8_192).await.ok()?;
    let text = String::from_utf8(chunk.bytes).ok()?;
    // An older note is of another command.
    let folder = text.strip_prefix(id)?.strip_prefix('\n')?.strip_suffix('\n')?;
    if bench.set_cwd(folder) {
        return None;
    }
    bench.reset_cwd();
    Some(folder.to_owned())
}

async fn compose(bench: &Workbench, ended: &Ended, output: &Output, limit: Duration, id: &str) -> Outcome {
    let end = ended.end;
    let is_error = ended.interrupted || !end.is_success();
    let text = output.plain();
    let text = text.trim_end();
    let cap = if is_error { MAX_FAILED } else { MAX_OK };
    let mut outcome = Outcome { is_error, ..Outcome::default() };
    let mut body = capped(text, cap, "");
    if body.left_out > 0 {
        let (full, more) = output.full();
        outcome.full_output = Some((full.to_vec(), more));
        let file = format!("{}/output-{id}.txt", bench.scratch);
        if bench.hands.write_file(&file, text.as_bytes()).await.is_ok() {
            body = capped(text, cap, &format!("; the whole output is in {file}"));
        }
    }
    let code = exit_code(ended);
    let mut content = String::new();
    if is_error && let Some(code) = code {
        let _ = writeln!(content, "Exit code {code}");
    }
    content.push_str(&body.text);
    for remark in remarks(ended, limit) {
        if !content.is_empty() && !content.ends_with('\n') {
            content.push('\n');
        }
        content.push_str(&remark);
    }
    if content.is_empty() {
        content.push_str("(the command printed nothing)");
    }
    outcome.content = content.trim_end().to_owned();
    outcome.detail = detail(ended, code, output);
    outcome
}

/// The code as a shell shows it; unknown for a command that was given up.
fn exit_code(ended: &Ended) -> Option<i32> {
    let end = ended.end;
    match (end.code, end.signal) {
        _ if end.timed_out => Some(128 + SIGTERM),
        (Some(code), _) => Some(code),
        (None, Some(signal)) => Some(128 + signal),
        (None, None) => None,
    }
}

fn remarks(ended: &Ended, limit: Duration) -> Vec<String> {
    let end = ended.end;
    let killed = end.signal == Some(SIGKILL) || end.code == Some(128 + SIGKILL);
    let mut remarks = Vec::new();
    if ended.interrupted {
        remarks.push("[interrupted by the user]".into());
        if end.code.is_none() && end.signal.is_none() {
            remarks.push("[the command did not end within 10 s of being killed]".into());
        }
    } else if end.timed_out {
        remarks.push(format!(
            "[the command timed out after {} s and was stopped; give a longer timeout, or run it in the \
             background]",
            limit.as_secs_f64()
        ));
    } else if let Some(exceeded) = end.exceeded.filter(|_| !end.is_success()) {
        remarks.push(match exceeded {
            Exceeded::Memory(_) => format!("[killed: {exceeded}]"),
            Exceeded::Disk(_) => format!("[disk full: {exceeded}; remove files to go on]"),
            Exceeded::Processes(_) => format!("[no further process: {exceeded}; end some to go on]"),
        });
    } else if killed {
        remarks.push("[killed by SIGKILL; the usual reason is the memory limit of the sandbox]".into());
    } else if let Some(signal) = end.signal.filter(|signal| *signal != SIGINT) {
        remarks.push(format!("[ended by signal {signal}]"));
    }
    if let Some(exceeded) = end.exceeded.filter(|_| end.is_success()) {
        remarks.push(match exceeded {
            Exceeded::Memory(_) => format!("[a process was killed while this ran: {exceeded}]"),
            _ => format!("[something ran into a limit while this ran: {exceeded}]"),
        });
    }
    remarks
}

fn detail(ended: &Ended, code: Option<i32>, output: &Output) -> Value {
    let end = ended.end;
    let mut detail = json!({
        "exit_code": code,
        "timed_out": end.timed_out,
        "interrupted": ended.interrupted,
    });
    if let Some(exceeded) = end.exceeded {
        detail["exceeded"] = exceeded.to_string().into();
    }
    if let Some(signal) = end.signal {
        detail["signal"] = signal.into();
    }
    if output.has_terminal_codes() {
        let raw = output.raw_tail();
        if raw != plain(&raw) {
            detail["output_ansi"] = raw.into();
        }
    }
    detail
}

/// Shows output while it comes, characters whole.
struct LiveOutput<'a> {
    port: &'a dyn AgentPort,
    call: &'a str,
    /// Bytes of a character that is not complete yet.
    rest: Vec<u8>,
    shown: usize,
}

impl<'a> LiveOutput<'a> {
    fn new(port: &'a dyn AgentPort, call: &'a str) -> Self {
        Self { port, call, rest: Vec::new(), shown: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.shown >= MAX_LIVE {
            return;
        }
        self.rest.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.rest) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.rest.len(),
        };
        if whole == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&self.rest[..whole]).into_owned();
        self.rest.drain(..whole);
        self.shown += whole;
        self.port.live(LiveDelta::ToolOutput { call: self.call.to_owned(), text });
    }
}

//! `patchyard -p`: our agent on this machine, for scripts and for programs that drive it.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Read as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;
use local::{Asked, Conversation, Format, Options};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use policy::permissions::Mode;

use crate::args::print::{InputFormat, Print, PrintFormat, rules, without_passed_over};
use crate::error::{Failure, chain};
use crate::output::{note, plain};

/// The most text of standard input.
const MAX_INPUT: u64 = 10 * 1024 * 1024;

/// How long standard input may be silent where there is a task without it, in milliseconds.
const SILENCE: u16 = 3_000;

/// What the program is called with to be the hands of a run.
const HANDS: [&str; 2] = ["internal", "hands"];

/// The words after those that make this process the hands of a run.
pub(crate) fn hands(words: &[OsString]) -> Option<Vec<&str>> {
    let words: Vec<&str> = words.iter().skip(1).map(|word| word.to_str()).collect::<Option<_>>()?;
    words.strip_prefix(&HANDS).map(<[&str]>::to_vec)
}

/// One run; the exit code says how it ended.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    let (words, left_out) = without_passed_over(words);
    for option in left_out {
        say(&format!("{option} changes nothing here, and is passed over"));
    }
    let print = match Print::try_parse_from(words) {
        Ok(print) => print,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    match begin(print) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            say(&chain(&failure));
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    note(&plain(&format!("patchyard: {}", text.replace('\n', " "))));
}

fn begin(print: Print) -> Result<u8, Failure> {
    let options = options(print)?;
    let exe = std::env::current_exe().map_err(|error| Failure::Internal(error.to_string()))?;
    let program = std::iter::once(exe.to_string_lossy().into_owned());
    let program = program.chain(HANDS.map(str::to_owned)).collect();
    // One thread: it mostly waits.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Internal(error.to_string()))?;
    let mut remark = |text: &str| say(text);
    let run = Box::pin(local::run(options, program, &mut remark));
    runtime.block_on(run).map_err(|error| Failure::Failed(chain(&error)))
}

fn options(print: Print) -> Result<Options, Failure> {
    let stream_input = print.input_format == InputFormat::StreamJson;
    let format = match print.output_format {
        PrintFormat::Text => Format::Text,
        PrintFormat::Json => Format::Json,
        PrintFormat::StreamJson => Format::Stream,
    };
    if format == Format::Stream && !print.verbose {
        return Err(usage("--output-format stream-json needs --verbose with -p"));
    }
    if stream_input && format != Format::Stream {
        return Err(usage("--input-format stream-json needs --output-format stream-json"));
    }
    let mode = mode(&print)?;
    let conversation = match (print.go_on, print.resume) {
        (true, _) => Conversation::Newest,
        (false, Some(id)) if id.is_empty() => {
            return Err(usage("--resume needs the id of a conversation here"));
        }
        (false, Some(id)) => Conversation::Of(id),
        (false, None) => Conversation::New,
    };
    let prompt = if stream_input { None } else { Some(prompt(print.prompt)?) };
    Ok(Options {
        prompt,
        stream_input,
        format,
        partial_messages: print.include_partial_messages,
        replay_prompts: print.replay_user_messages,
        model: print.model,
        fallback_model: print.fallback_model,
        system_prompt: words(print.system_prompt, print.system_prompt_file)?,
        append_system_prompt: words(print.append_system_prompt, print.append_system_prompt_file)?,
        allowed: rules(&print.allowed_tools),
        disallowed: rules(&print.disallowed_tools),
        tools: print.tools.map(|lists| rules(&lists)).filter(|tools| tools != &["default"]),
        mode,
        may_bypass: print.dangerously_skip_permissions || print.allow_dangerously_skip_permissions,
        asked: match print.permission_prompt_tool {
            None => Asked::Nobody,
            Some(tool) if tool == "stdio" => Asked::Driver,
            Some(tool) => Asked::Tool(tool),
        },
        max_turns: print.max_turns,
        max_budget_usd: print.max_budget_usd,
        folders: print.add_dir,
        mcp_config: print.mcp_config,
        strict_mcp_config: print.strict_mcp_config,
        settings: print.settings,
        setting_sources: print.setting_sources.map(|list| rules(&[list])),
        agents: print.agents,
        session_id: print.session_id,
        conversation,
        fork: print.fork_session,
        forget: print.no_session_persistence,
    })
}

fn usage(text: &str) -> Failure {
    Failure::Usage(text.to_owned())
}

fn mode(print: &Print) -> Result<Option<Mode>, Failure> {
    let mode = match (print.dangerously_skip_permissions, &print.permission_mode) {
        (true, _) => Some(Mode::BypassPermissions),
        (false, None) => None,
        (false, Some(name)) => Some(Mode::parse(name).ok_or_else(|| {
            usage("--permission-mode is one of default, acceptEdits, plan, dontAsk, bypassPermissions")
        })?),
    };
    let in_sandbox = std::env::var("IS_SANDBOX").is_ok_and(|set| set == "1");
    if mode == Some(Mode::BypassPermissions) && nix::unistd::geteuid().is_root() && !in_sandbox {
        return Err(usage(
            "as root nothing runs without questions, unless this is a sandbox: then set IS_SANDBOX=1",
        ));
    }
    Ok(mode)
}

fn words(text: Option<String>, file: Option<PathBuf>) -> Result<Option<String>, Failure> {
    let Some(file) = file else { return Ok(text) };
    let read = std::fs::read_to_string(&file);
    read.map(Some).map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))
}

/// The task, and behind it what standard input has.
fn prompt(given: Option<String>) -> Result<String, Failure> {
    let given = given.filter(|text| !text.trim().is_empty());
    let piped = piped(given.is_some())?;
    match (given, piped.filter(|text| !text.trim().is_empty())) {
        (Some(given), Some(piped)) => Ok(format!("{given}\n{piped}")),
        (Some(text), None) | (None, Some(text)) => Ok(text),
        (None, None) => Err(usage("give a task, as an argument or on standard input")),
    }
}

/// What standard input has. Where there is a task without it, one that stays silent is not waited for.
fn piped(may_do_without: bool) -> Result<Option<String>, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Ok(None);
    }
    if may_do_without {
        let mut waited = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut waited, PollTimeout::from(SILENCE)), Ok(ready) if ready > 0) {
            return Ok(None);
        }
    }
    let mut text = String::new();
    let read = stdin.lock().take(MAX_INPUT + 1).read_to_string(&mut text);
    read.map_err(|error| Failure::Failed(format!("standard input: {error}")))?;
    if text.len() as u64 > MAX_INPUT {
        return Err(Failure::Failed("standard input is longer than 10 MiB; name a file instead".into()));
    }
    Ok(Some(text))
}

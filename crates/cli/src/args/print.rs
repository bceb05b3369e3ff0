//! The command line of `patchyard -p`: that of `claude -p`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Options that there are elsewhere, and that change nothing here; whether they take a value.
const PASSED_OVER: [(&str, bool); 13] = [
    ("--include-hook-events", false),
    ("--forward-subagent-text", false),
    ("--enable-auth-status", false),
    ("--session-mirror", false),
    ("--debug", false),
    ("--debug-file", true),
    ("--betas", true),
    ("--task-budget", true),
    ("--thinking", true),
    ("--thinking-display", true),
    ("--max-thinking-tokens", true),
    ("--name", true),
    ("--effort", true),
];

/// Whether these arguments are of a run without a terminal: `-p`, or a driver's streams, and no command.
pub(crate) fn is_meant(words: &[OsString]) -> bool {
    let words: Vec<&str> = words.iter().skip(1).map_while(|word| word.to_str()).collect();
    let is =
        |names: &[&str]| words.iter().any(|word| names.contains(&word.split('=').next().unwrap_or(word)));
    words.first().is_some_and(|word| word.starts_with('-'))
        && is(&["-p", "--print", "--input-format"])
        && !is(&["--remote", "--cloud"])
}

/// Takes out what changes nothing here, and says what it was.
pub(crate) fn without_passed_over(words: &[OsString]) -> (Vec<OsString>, Vec<&'static str>) {
    let (mut kept, mut left_out, mut words) = (Vec::new(), Vec::new(), words.iter());
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if text == "--" {
            kept.push(word.clone());
            kept.extend(words.cloned());
            break;
        }
        let name = text.split('=').next().unwrap_or_default();
        match PASSED_OVER.iter().find(|(known, _)| *known == name) {
            Some((known, takes_value)) => {
                left_out.push(*known);
                if *takes_value && !text.contains('=') {
                    words.next();
                }
            }
            None => kept.push(word.clone()),
        }
    }
    (kept, left_out)
}

/// Work on a task here, on this machine, and print the answer
#[derive(Debug, Parser)]
#[command(name = "patchyard -p", bin_name = "patchyard -p", version)]
#[command(
    after_help = "Exit codes: 0 done, also where a use of a tool was refused; 1 the task failed, or the options \
    make no sense; 130 interrupted; 143 told to end."
)]
pub(crate) struct Print {
    /// The task; what standard input has stands behind it
    pub(crate) prompt: Option<String>,
    /// Print the answer and end
    #[arg(short, long)]
    pub(crate) print: bool,
    /// What is printed
    #[arg(long, value_enum, default_value_t = PrintFormat::Text)]
    pub(crate) output_format: PrintFormat,
    /// What is read from standard input
    #[arg(long, value_enum, default_value_t = InputFormat::Text)]
    pub(crate) input_format: InputFormat,
    /// Everything that happens; stream-json needs it
    #[arg(long)]
    pub(crate) verbose: bool,
    /// With stream-json: the model's words while they grow, too
    #[arg(long)]
    pub(crate) include_partial_messages: bool,
    /// With stream-json: prompts again, as they are taken
    #[arg(long)]
    pub(crate) replay_user_messages: bool,
    /// The model: its name, or opus, sonnet, haiku [default: ANTHROPIC_MODEL, else `model` of settings]
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// The model for when that one is overloaded
    #[arg(long, value_name = "MODEL")]
    pub(crate) fallback_model: Option<String>,
    /// Words to the model, in place of ours
    #[arg(long, value_name = "TEXT")]
    pub(crate) system_prompt: Option<String>,
    /// The same, from a file
    #[arg(long, value_name = "FILE", conflicts_with = "system_prompt")]
    pub(crate) system_prompt_file: Option<PathBuf>,
    /// Words to the model, behind ours
    #[arg(long, value_name = "TEXT")]
    pub(crate) append_system_prompt: Option<String>,
    /// The same, from a file
    #[arg(long, value_name = "FILE", conflicts_with = "append_system_prompt")]
    pub(crate) append_system_prompt_file: Option<PathBuf>,
    /// Rules that allow, such as "Bash(git *) Edit"
    #[arg(long, visible_alias = "allowedTools", value_name = "RULES", num_args = 1..)]
    pub(crate) allowed_tools: Vec<String>,
    /// Rules that deny
    #[arg(long, visible_alias = "disallowedTools", value_name = "RULES", num_args = 1..)]
    pub(crate) disallowed_tools: Vec<String>,
    /// The only tools, besides those of MCP servers; "" for none, "default" for all
    #[arg(long, value_name = "TOOLS", num_args = 1..)]
    pub(crate) tools: Option<Vec<String>>,
    /// default, acceptEdits, plan, dontAsk or bypassPermissions
    #[arg(long, value_name = "MODE")]
    pub(crate) permission_mode: Option<String>,
    /// Run everything that no rule denies or asks about
    #[arg(long)]
    pub(crate) dangerously_skip_permissions: bool,
    /// Let that mode be set later
    #[arg(long)]
    pub(crate) allow_dangerously_skip_permissions: bool,
    /// Who decides about what would be asked: an MCP tool, or stdio for whoever drives this
    #[arg(long, value_name = "TOOL")]
    pub(crate) permission_prompt_tool: Option<String>,
    /// Requests to the model of one turn
    #[arg(long, value_name = "N")]
    pub(crate) max_turns: Option<u32>,
    /// Dollars of one turn, by the list price
    #[arg(long, value_name = "DOLLARS")]
    pub(crate) max_budget_usd: Option<f64>,
    /// Folders to work in besides this one
    #[arg(long, value_name = "FOLDERS", num_args = 1..)]
    pub(crate) add_dir: Vec<PathBuf>,
    /// MCP servers: files, or JSON
    #[arg(long, value_name = "CONFIGS", num_args = 1..)]
    pub(crate) mcp_config: Vec<String>,
    /// No MCP servers but those
    #[arg(long)]
    pub(crate) strict_mcp_config: bool,
    /// Settings: a file, or JSON
    #[arg(long, value_name = "FILE|JSON")]
    pub(crate) settings: Option<String>,
    /// Whose settings are read: user, project, local
    #[arg(long, value_name = "SOURCES")]
    pub(crate) setting_sources: Option<String>,
    /// Agents that can be sent: JSON
    #[arg(long, value_name = "JSON")]
    pub(crate) agents: Option<String>,
    /// The id of the new conversation, a UUID
    #[arg(long, value_name = "UUID")]
    pub(crate) session_id: Option<String>,
    /// Go on with the conversation of this id
    #[arg(short, long, value_name = "ID", num_args = 0..=1, default_missing_value = "")]
    pub(crate) resume: Option<String>,
    /// Go on with the newest conversation of this folder
    #[arg(short = 'c', long = "continue", conflicts_with = "resume")]
    pub(crate) go_on: bool,
    /// With these: as a conversation of its own
    #[arg(long)]
    pub(crate) fork_session: bool,
    /// Write nothing down
    #[arg(long)]
    pub(crate) no_session_persistence: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrintFormat {
    /// The last words
    Text,
    /// One JSON object
    Json,
    /// A JSON line for everything that happens
    StreamJson,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    /// Text
    Text,
    /// JSON lines: prompts and control messages
    StreamJson,
}

/// The rules of lists that are parted by commas or blanks, but not within parentheses.
pub(crate) fn rules(lists: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    for list in lists {
        let (mut rule, mut depth) = (String::new(), 0_usize);
        for character in list.chars() {
            match character {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                ',' | ' ' if depth == 0 => {
                    all.push(std::mem::take(&mut rule));
                    continue;
                }
                _ => {}
            }
            rule.push(character);
        }
        all.push(rule);
    }
    all.retain(|rule| !rule.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        std::iter::once("patchyard").chain(line.split_whitespace()).map(OsString::from).collect()
    }

    #[test]
    fn a_run_is_told_from_a_command() {
        for (line, meant) in [
            ("-p hello", true),
            ("--print --model x hello", true),
            ("--output-format stream-json --verbose --input-format stream-json", true),
            ("--output-format=stream-json --input-format=stream-json", true),
            ("serve -p", false),
            ("sessions list", false),
            ("--remote fix -p", false),
            ("--help", false),
            ("", false),
        ] {
            assert_eq!(is_meant(&words(line)), meant, "{line}");
        }
    }

    /// Section 9.1: lists of tools are parted by commas or blanks.
    #[test]
    fn rules_are_parted_outside_of_parentheses() {
        let lists = ["Bash(git log *),Edit Read".to_owned(), "mcp__a__b".to_owned(), String::new()];
        assert_eq!(rules(&lists), ["Bash(git log *)", "Edit", "Read", "mcp__a__b"]);
    }

    #[test]
    fn what_changes_nothing_is_taken_out_with_its_value() {
        let line = "-p --effort high --betas=x --include-hook-events --model m -- --effort";
        let (kept, left_out) = without_passed_over(&words(line));
        assert_eq!(kept, words("-p --model m -- --effort"));
        assert_eq!(left_out, ["--effort", "--betas", "--include-hook-events"]);
    }
}

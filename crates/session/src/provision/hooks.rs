//! `SessionStart` hooks of the repository, and the variables that they leave.
//!
//! ```text
//!  .claude/settings.json at the base commit ─▶ hooks.SessionStart[] ─ matcher: startup | resume ─▶ commands
//!  each: sh -c COMMAND, JSON on its standard input, CLAUDE_ENV_FILE ─▶ that file is read before every
//!                                                                       later command of our agent
//! ```
//!
//! They run in the sandbox, with every new sandbox, after the setup. Their failure is told and fails
//! nothing. Other agents bring hooks of their own.

use std::time::Duration;

use serde_json::{Value, json};

/// Where hooks leave variables, outside of the workspace.
pub(crate) const ENV_FILE: &str = "/var/lib/patchyard/session-env";

/// The file in the repository.
pub(crate) const SETTINGS: &str = ".claude/settings.json";

/// The largest such file that is read.
pub(crate) const MAX_SETTINGS: u64 = 256 * 1024;

/// How long a hook may take that says nothing about it.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long any hook may take.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);

/// Hooks of one repository at the most.
const MAX_HOOKS: usize = 20;

/// How a session starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// For the first time.
    Startup,
    /// In a new sandbox, after turns.
    Resume,
}

impl Source {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Resume => "resume",
        }
    }
}

/// One command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hook {
    pub(crate) command: String,
    pub(crate) timeout: Duration,
}

/// The hooks that apply, in order. Settings that cannot be read are told; what is unknown in them is
/// left out.
pub(crate) fn of(settings: &[u8], source: Source) -> Result<Vec<Hook>, String> {
    let settings: Value = serde_json::from_slice(settings)
        .map_err(|error| format!("{SETTINGS} is no JSON ({error}); its hooks do not run"))?;
    if settings["disableAllHooks"] == true {
        return Ok(Vec::new());
    }
    let groups = settings["hooks"]["SessionStart"].as_array().map_or(&[][..], Vec::as_slice);
    let hooks = groups
        .iter()
        .filter(|group| matches(&group["matcher"], source))
        .flat_map(|group| group["hooks"].as_array().map_or(&[][..], Vec::as_slice))
        .filter(|hook| hook["type"] == "command")
        .filter_map(|hook| {
            let seconds = hook["timeout"].as_f64().filter(|seconds| seconds.is_finite() && *seconds > 0.0);
            let timeout = seconds.map_or(DEFAULT_TIMEOUT, |seconds| {
                Duration::from_secs_f64(seconds.min(MAX_TIMEOUT.as_secs_f64()))
            });
            Some(Hook { command: hook["command"].as_str()?.to_owned(), timeout })
        });
    Ok(hooks.take(MAX_HOOKS).collect())
}

/// `startup|resume` names alternatives; nothing and `*` match all.
fn matches(matcher: &Value, source: Source) -> bool {
    match matcher.as_str() {
        None => matcher.is_null(),
        Some("" | "*") => true,
        Some(names) => names.split('|').any(|name| name.trim() == source.name()),
    }
}

/// What a hook reads.
pub(crate) fn input(session: &str, cwd: &str, source: Source) -> Vec<u8> {
    let input = json!({
        "session_id": session,
        "transcript_path": "",
        "cwd": cwd,
        "hook_event_name": "SessionStart",
        "source": source.name(),
    });
    format!("{input}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_whose_matcher_fits_run_in_order() {
        let settings = json!({ "hooks": { "SessionStart": [
            { "hooks": [{ "type": "command", "command": "one" }, { "type": "http", "url": "x" }] },
            { "matcher": "resume", "hooks": [{ "type": "command", "command": "two", "timeout": 5 }] },
            { "matcher": "startup|resume", "hooks": [{ "type": "command", "command": "three", "timeout": 9999 }] },
            { "matcher": "clear", "hooks": [{ "type": "command", "command": "never" }] },
            { "matcher": 7, "hooks": [{ "type": "command", "command": "never" }] },
            { "hooks": "none" }, 5
        ], "Stop": [{ "hooks": [{ "type": "command", "command": "never" }] }] } });
        let names = |source| -> Vec<String> {
            let hooks = of(settings.to_string().as_bytes(), source).unwrap();
            hooks.into_iter().map(|hook| hook.command).collect()
        };
        assert_eq!(names(Source::Startup), ["one", "three"]);
        assert_eq!(names(Source::Resume), ["one", "two", "three"]);
        let hooks = of(settings.to_string().as_bytes(), Source::Resume).unwrap();
        let timeouts: Vec<u64> = hooks.iter().map(|hook| hook.timeout.as_secs()).collect();
        assert_eq!(timeouts, [60, 5, 600]);
    }

    #[test]
    fn settings_without_hooks_or_without_sense_start_nothing() {
        for text in ["{}", "[]", "7", r#"{"hooks":[]}"#, r#"{"hooks":{"SessionStart":{}}}"#] {
            assert_eq!(of(text.as_bytes(), Source::Startup), Ok(Vec::new()), "{text}");
        }
        let disabled = r#"{"disableAllHooks":true,"hooks":{"SessionStart":[{"hooks":[{"type":"command","command":"x"}]}]}}"#;
        assert_eq!(of(disabled.as_bytes(), Source::Startup), Ok(Vec::new()));
        assert!(of(b"{", Source::Startup).unwrap_err().contains("no JSON"));
    }
}

//! Hooks as settings name them.
//!
//! ```text
//!  "hooks": { "PreToolUse": [ { "matcher": "Bash|Edit", "hooks": [ { "type": "command", "command": "…" } ] } ] }
//! ```

use std::time::Duration;

use policy::permissions::{Form, Runs, Script};
use regex::Regex;
use serde_json::{Map, Value};

/// Handlers of one event at the most.
const MAX_HANDLERS: usize = 50;

/// How long any handler may take.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);

/// The longest expression of a matcher.
const MAX_MATCHER: usize = 1_000;

/// The moments at which hooks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A session begins in a sandbox, or goes on in a new one.
    SessionStart,
    /// A prompt is about to be worked on.
    UserPromptSubmit,
    /// A tool is about to be used.
    PreToolUse,
    /// The person is about to be asked about a use.
    PermissionRequest,
    /// A tool did its work.
    PostToolUse,
    /// A tool failed at its work.
    PostToolUseFailure,
    /// The agent is about to end its turn.
    Stop,
    /// An agent that was sent begins to work.
    SubagentStart,
    /// An agent that was sent is about to end.
    SubagentStop,
    /// The conversation is about to be summed up.
    PreCompact,
    /// The conversation was summed up.
    PostCompact,
    /// A session on a machine of one's own is over.
    SessionEnd,
}

impl Event {
    const ALL: [Self; 12] = [
        Self::SessionStart,
        Self::UserPromptSubmit,
        Self::PreToolUse,
        Self::PermissionRequest,
        Self::PostToolUse,
        Self::PostToolUseFailure,
        Self::Stop,
        Self::SubagentStart,
        Self::SubagentStop,
        Self::PreCompact,
        Self::PostCompact,
        Self::SessionEnd,
    ];

    /// Its name in settings and in what hooks read.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SessionStart => "SessionStart",
            Self::UserPromptSubmit => "UserPromptSubmit",
            Self::PreToolUse => "PreToolUse",
            Self::PermissionRequest => "PermissionRequest",
            Self::PostToolUse => "PostToolUse",
            Self::PostToolUseFailure => "PostToolUseFailure",
            Self::Stop => "Stop",
            Self::SubagentStart => "SubagentStart",
            Self::SubagentStop => "SubagentStop",
            Self::PreCompact => "PreCompact",
            Self::PostCompact => "PostCompact",
            Self::SessionEnd => "SessionEnd",
        }
    }

    fn default_timeout(self) -> Duration {
        match self {
            Self::UserPromptSubmit => Duration::from_secs(30),
            // Nobody sees the session yet, and a sandbox waits.
            Self::SessionStart => Duration::from_secs(60),
            // The person has turned away.
            Self::SessionEnd => Duration::from_millis(1500),
            _ => MAX_TIMEOUT,
        }
    }

    fn has_matcher(self) -> bool {
        !matches!(self, Self::UserPromptSubmit | Self::Stop)
    }
}

/// One command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// The shell's text, or the program where there are arguments.
    pub command: String,
    /// Arguments of the program, `None` for a shell's text.
    pub args: Option<Vec<String>>,
    /// How long it may take.
    pub timeout: Duration,
    /// A rule that a use must fit: `Bash(git *)`.
    condition: Option<String>,
    /// The name of one that lives with the agent's driver, and is no command.
    callback: Option<String>,
    /// The file that it stands in.
    pub source: String,
}

/// All handlers of all files.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    groups: Vec<(Event, Matcher, Vec<Handler>)>,
}

#[derive(Debug, Clone)]
enum Matcher {
    All,
    Names(Vec<String>),
    Expression(Regex),
}

impl Hooks {
    /// The handlers of an event about this subject: a tool's name, a source. Each is there once.
    #[must_use]
    pub fn of(&self, event: Event, subject: &str) -> Vec<&Handler> {
        let mut found: Vec<&Handler> = Vec::new();
        for (_, matcher, handlers) in self.groups.iter().filter(|(of, ..)| *of == event) {
            if event.has_matcher() && !matcher.matches(subject) {
                continue;
            }
            for handler in handlers {
                let same = |other: &&Handler| other.command == handler.command && other.args == handler.args;
                if found.len() < MAX_HANDLERS && !found.iter().any(same) {
                    found.push(handler);
                }
            }
        }
        found
    }

    /// Adds hooks that live with the agent's driver, `{Event: [{matcher, hookCallbackIds, timeout}]}`; what is wrong
    /// with them, a sentence each.
    pub fn add_callbacks(&mut self, value: &Value) -> Vec<String> {
        let (mut remarks, events) = (Vec::new(), value.as_object());
        for (name, groups) in events.into_iter().flatten() {
            let Some(event) = Event::ALL.into_iter().find(|event| event.name() == name) else {
                remarks.push(format!("hooks of `{}` do not run here", crate::stream_text::plain(name)));
                continue;
            };
            for group in groups.as_array().into_iter().flatten() {
                let matcher = match Matcher::parse(group.get("matcher")) {
                    Ok(matcher) => matcher,
                    Err(why) => {
                        remarks.push(format!("a group of hooks of {name}: {why}; left out"));
                        continue;
                    }
                };
                let seconds =
                    group["timeout"].as_f64().filter(|seconds| seconds.is_finite() && *seconds > 0.0);
                let timeout = seconds.map_or(event.default_timeout(), |seconds| {
                    Duration::from_secs_f64(seconds.min(MAX_TIMEOUT.as_secs_f64()))
                });
                let ids = group["hookCallbackIds"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let handler = |id: &str| Handler {
                    command: format!("callback {id}"),
                    args: None,
                    timeout,
                    condition: None,
                    callback: Some(id.to_owned()),
                    source: "the driver of this session".into(),
                };
                self.groups.push((event, matcher, ids.take(MAX_HANDLERS).map(handler).collect()));
            }
        }
        remarks
    }
}

impl Handler {
    /// The name of one that lives with the agent's driver.
    pub(crate) fn callback(&self) -> Option<&str> {
        self.callback.as_deref()
    }

    /// The program and its arguments, in a workspace.
    #[must_use]
    pub fn argv(&self, project: &str) -> Vec<String> {
        let Some(args) = &self.args else {
            return vec!["sh".to_owned(), "-c".to_owned(), self.command.clone()];
        };
        let known = |text: &String| text.replace("${CLAUDE_PROJECT_DIR}", project);
        std::iter::once(&self.command).chain(args).map(known).collect()
    }

    /// Whether its `if` fits a use; a command that cannot be read fits.
    pub(crate) fn fits(&self, tool: &str, input: &Value) -> bool {
        let Some(condition) = &self.condition else { return true };
        let (name, argument) = match condition.split_once('(') {
            Some((name, rest)) => (name, rest.strip_suffix(')').unwrap_or(rest)),
            None => (condition.as_str(), "*"),
        };
        if name != tool {
            return false;
        }
        let pattern = policy::local::CommandPattern::parse(argument);
        if tool == "Bash" {
            let script = Script::parse(input["command"].as_str().unwrap_or_default());
            let runs = Runs::of(&script);
            let fits = |form: &Form| pattern.matches(&form.text().0);
            return runs.unclear.is_some() || runs.forms.iter().any(fits);
        }
        let path = input["file_path"].as_str().or(input["path"].as_str()).unwrap_or_default();
        argument == "*" || pattern.matches(path)
    }
}

impl Matcher {
    fn parse(value: Option<&Value>) -> Result<Self, String> {
        let text = match value {
            None | Some(Value::Null) => return Ok(Self::All),
            Some(Value::String(text)) => text,
            Some(_) => return Err("its matcher is no text".into()),
        };
        if text.is_empty() || text == "*" {
            return Ok(Self::All);
        }
        if text.len() > MAX_MATCHER {
            return Err(format!("its matcher is longer than {MAX_MATCHER} bytes"));
        }
        if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_- ,|".contains(&byte)) {
            let names = text.split(['|', ',']).map(str::trim).filter(|name| !name.is_empty());
            return Ok(Self::Names(names.map(str::to_owned).collect()));
        }
        // No look-around and no back-references, which have no bound on their time.
        Regex::new(text)
            .map(Self::Expression)
            .map_err(|_| "its matcher is no expression that is known here".into())
    }

    fn matches(&self, subject: &str) -> bool {
        match self {
            Self::All => true,
            Self::Names(names) => {
                names.iter().any(|name| name == subject || (name == "Task" && subject == "Agent"))
            }
            Self::Expression(expression) => expression.is_match(subject),
        }
    }
}

/// Reads `hooks` of a file into what there is; what is wrong with it, a sentence each.
/// `ends` says that there is an end here that hooks can run at.
pub(crate) fn read(value: &Value, source: &str, ends: bool, hooks: &mut Hooks) -> Vec<String> {
    let mut remarks = Vec::new();
    let Value::Object(events) = value else {
        return vec![format!("{source}: `hooks` is no object; left out")];
    };
    for (name, groups) in events {
        let shown: String = name.chars().filter(|character| !character.is_control()).take(60).collect();
        let there = |event: &Event| event.name() == name && (ends || *event != Event::SessionEnd);
        let Some(event) = Event::ALL.into_iter().find(there) else {
            remarks.push(format!("{source}: hooks of `{shown}` do not run here"));
            continue;
        };
        let Value::Array(groups) = groups else {
            remarks.push(format!("{source}: the hooks of {name} are no list; left out"));
            continue;
        };
        for group in groups {
            match group_of(group, event, source) {
                Ok((matcher, handlers, told)) => {
                    remarks.extend(
                        told.into_iter().map(|told| format!("{source}: a hook of {name}: {told}; left out")),
                    );
                    hooks.groups.push((event, matcher, handlers));
                }
                Err(why) => remarks.push(format!("{source}: a group of hooks of {name}: {why}; left out")),
            }
        }
    }
    remarks
}

type Group = (Matcher, Vec<Handler>, Vec<String>);

fn group_of(group: &Value, event: Event, source: &str) -> Result<Group, String> {
    let Value::Object(group) = group else { return Err("it is no object".into()) };
    let matcher = Matcher::parse(group.get("matcher"))?;
    let Some(Value::Array(entries)) = group.get("hooks") else {
        return Err("its `hooks` are no list".into());
    };
    let (mut handlers, mut told) = (Vec::new(), Vec::new());
    for entry in entries.iter().take(MAX_HANDLERS) {
        let handler = entry.as_object().ok_or_else(|| "it is no object".to_owned());
        match handler.and_then(|entry| handler_of(entry, event, source)) {
            Ok(handler) => handlers.push(handler),
            Err(why) => told.push(why),
        }
    }
    if entries.len() > MAX_HANDLERS {
        told.push(format!("there are more than {MAX_HANDLERS}"));
    }
    Ok((matcher, handlers, told))
}

fn handler_of(entry: &Map<String, Value>, event: Event, source: &str) -> Result<Handler, String> {
    match entry.get("type").and_then(Value::as_str) {
        Some("command") => {}
        Some(kind @ ("http" | "prompt" | "agent" | "mcp_tool")) => {
            return Err(format!("hooks of the type `{kind}` do not run here"));
        }
        _ => return Err("its type is not known".into()),
    }
    let command = entry.get("command").and_then(Value::as_str).filter(|command| !command.trim().is_empty());
    let command = command.ok_or("it has no command")?.to_owned();
    let args = match entry.get("args") {
        None => None,
        Some(Value::Array(args)) => {
            let args: Option<Vec<String>> = args.iter().map(|arg| arg.as_str().map(str::to_owned)).collect();
            Some(args.ok_or("its arguments are no texts")?)
        }
        Some(_) => return Err("its `args` are no list".into()),
    };
    let seconds = entry.get("timeout").and_then(Value::as_f64);
    let seconds = seconds.filter(|seconds| seconds.is_finite() && *seconds > 0.0);
    let timeout = seconds.map_or(event.default_timeout(), |seconds| {
        Duration::from_secs_f64(seconds.min(MAX_TIMEOUT.as_secs_f64()))
    });
    let condition = entry.get("if").and_then(Value::as_str).map(str::to_owned);
    Ok(Handler { command, args, timeout, condition, callback: None, source: source.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hooks(value: &Value) -> (Hooks, Vec<String>) {
        let mut hooks = Hooks::default();
        let remarks = read(value, "s", false, &mut hooks);
        (hooks, remarks)
    }

    fn names(hooks: &Hooks, event: Event, subject: &str) -> Vec<String> {
        hooks.of(event, subject).into_iter().map(|handler| handler.command.clone()).collect()
    }

    fn command(command: &str) -> Value {
        json!({ "type": "command", "command": command })
    }

    /// Section 4.1, "Matcher".
    #[test]
    fn a_matcher_is_names_or_an_expression() {
        for (matcher, subject, matches) in [
            (json!(null), "Bash", true),
            (json!(""), "Bash", true),
            (json!("*"), "Bash", true),
            (json!("Bash"), "Bash", true),
            (json!("Bash"), "BashOutput", false),
            (json!("Edit|Write, Bash"), "Write", true),
            (json!("Edit|Write, Bash"), "Bash", true),
            (json!("mcp__x"), "mcp__x__tool", false),
            (json!("mcp__x__.*"), "mcp__x__tool", true),
            (json!("^Ba"), "Bash", true),
            (json!("as.$"), "Bash", true),
            (json!("Task"), "Agent", true),
        ] {
            let (hooks, remarks) =
                hooks(&json!({ "PreToolUse": [{ "matcher": matcher, "hooks": [command("x")] }] }));
            assert_eq!(remarks, Vec::<String>::new());
            assert_eq!(
                !names(&hooks, Event::PreToolUse, subject).is_empty(),
                matches,
                "{matcher} on {subject}"
            );
        }
    }

    /// Section 4.1: identical handlers run once; events without a matcher ignore it.
    #[test]
    fn handlers_run_once_and_in_order() {
        let (hooks, _) = hooks(&json!({
            "Stop": [{ "matcher": "never", "hooks": [command("a"), command("b")] }, { "hooks": [command("a")] }],
            "PreToolUse": [{ "hooks": [{ "type": "command", "command": "x", "args": ["1"] }, command("x")] }],
        }));
        assert_eq!(names(&hooks, Event::Stop, ""), ["a", "b"]);
        assert_eq!(names(&hooks, Event::PreToolUse, "Bash"), ["x", "x"]);
        assert_eq!(names(&hooks, Event::PostToolUse, "Bash"), Vec::<String>::new());
    }

    #[test]
    fn what_cannot_run_is_told_alone() {
        let (hooks, remarks) = hooks(&json!({
            "Nonsense": [],
            "Stop": {},
            "PreToolUse": [
                5,
                { "matcher": 7, "hooks": [command("never")] },
                { "matcher": "(?=x)", "hooks": [command("never")] },
                { "hooks": "none" },
                { "hooks": [{ "type": "http", "url": "x" }, { "type": "new" }, command(" "), 7,
                    { "type": "command", "command": "x", "args": [1] }, command("good")] },
            ],
        }));
        assert_eq!(remarks.len(), 11, "{remarks:#?}");
        assert_eq!(names(&hooks, Event::PreToolUse, "Bash"), ["good"]);
    }

    #[test]
    fn timeouts_have_defaults_and_a_cap() {
        let entry =
            |timeout: Value| json!({ "type": "command", "command": timeout.to_string(), "timeout": timeout });
        let all =
            json!([{ "hooks": [entry(json!(5)), entry(json!(0.5)), entry(json!(9999)), entry(json!(-1))] }]);
        let (hooks, _) = hooks(&json!({ "Stop": all, "UserPromptSubmit": all }));
        let timeouts = |event| -> Vec<u128> {
            hooks.of(event, "").iter().map(|handler| handler.timeout.as_millis()).collect()
        };
        assert_eq!(timeouts(Event::Stop), [5_000, 500, 600_000, 600_000]);
        assert_eq!(timeouts(Event::UserPromptSubmit), [5_000, 500, 600_000, 30_000]);
    }

    /// Section 4.1, `if`: one rule; a command that cannot be read fits.
    #[test]
    fn a_condition_is_a_rule() {
        for (condition, tool, input, fits) in [
            ("Bash(git *)", "Bash", json!({ "command": "ls; git push" }), true),
            ("Bash(git *)", "Bash", json!({ "command": "ls" }), false),
            ("Bash(git *)", "Bash", json!({ "command": "ls '" }), true),
            ("Bash(git *)", "Edit", json!({}), false),
            ("Edit(*.ts)", "Edit", json!({ "file_path": "/w/a.ts" }), true),
            ("Edit(*.ts)", "Edit", json!({ "file_path": "/w/a.rs" }), false),
            ("Edit", "Edit", json!({}), true),
        ] {
            let entry = json!({ "type": "command", "command": "x", "if": condition });
            let (hooks, _) = hooks(&json!({ "PreToolUse": [{ "hooks": [entry] }] }));
            let handler = hooks.of(Event::PreToolUse, tool)[0];
            assert_eq!(handler.fits(tool, &input), fits, "{condition} on {tool} {input}");
        }
    }
}

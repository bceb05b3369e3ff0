//! Permission rules, taken apart.
//!
//! ```text
//!  Tool   Tool(*)                 every use
//!  Bash(npm run *)   Bash(ls:*)   commands
//!  Read(./secrets/**)  Edit(…)    files
//!  WebFetch(domain:*.a.org)       hosts
//!  mcp__srv   mcp__srv__*         tools of a server
//!  Agent(type)   Skill(name *)    by name
//!  Tool(field:value)              by an input, where it denies or asks
//! ```

use crate::local::{CommandPattern, DomainRule};

/// What a rule says about the uses that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// They do not happen.
    Deny,
    /// The person decides.
    Ask,
    /// They need no question.
    Allow,
}

/// A rule without its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToolRule {
    pub(super) tool: ToolPattern,
    pub(super) about: About,
}

/// Which tools a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ToolPattern {
    Named(String),
    /// `mcp__srv`: all of a server.
    Server(String),
    /// With `*` in it.
    Glob(CommandPattern),
}

/// Which uses of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum About {
    All,
    Command(CommandPattern, String),
    /// The path as it is written.
    Read(String),
    Edit(String),
    Domain(DomainRule),
    /// A field of the input, and its value.
    Field(String, CommandPattern),
}

/// Fields of `Bash` that are not its command.
const FIELDS_OF_BASH: [&str; 4] =
    ["timeout", "description", "run_in_background", "dangerouslyDisableSandbox"];

impl ToolRule {
    /// Takes a rule apart, or says why it is none.
    pub(super) fn parse(text: &str, effect: Effect) -> Result<Self, String> {
        let text = text.trim();
        let (name, argument) = match text.split_once('(') {
            None => (text, None),
            Some((name, rest)) => {
                let argument = rest.strip_suffix(')').ok_or("its parenthesis is not closed")?;
                (name, Some(argument.trim()))
            }
        };
        if name.is_empty()
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_*-.".contains(&byte))
        {
            return Err("it names no tool".into());
        }
        let name = if name == "Task" { "Agent" } else { name };
        let tool = tool_pattern(name, effect)?;
        let Some(argument) = argument.filter(|argument| !argument.is_empty() && *argument != "*") else {
            return Ok(Self { tool, about: About::All });
        };
        Ok(Self { tool, about: about(name, argument, effect)? })
    }
}

fn tool_pattern(name: &str, effect: Effect) -> Result<ToolPattern, String> {
    if let Some(server) = name.strip_prefix("mcp__") {
        let literal = server.split('*').next().unwrap_or_default();
        if effect == Effect::Allow && name.contains('*') && !literal.contains("__") {
            return Err("a rule that allows must name the server".into());
        }
        if !server.contains("__") && !server.contains('*') {
            return Ok(ToolPattern::Server(format!("{name}__")));
        }
    }
    if !name.contains('*') {
        return Ok(ToolPattern::Named(name.to_owned()));
    }
    if effect == Effect::Allow && !name.starts_with("mcp__") {
        return Err("a rule that allows must name the tool".into());
    }
    Ok(ToolPattern::Glob(CommandPattern::parse(name)))
}

fn about(name: &str, argument: &str, effect: Effect) -> Result<About, String> {
    let field = argument.split_once(':').filter(|(field, _)| {
        field.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
            && field.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    });
    match (name, field) {
        ("Bash", Some((field, value))) if FIELDS_OF_BASH.contains(&field) && effect != Effect::Allow => {
            Ok(About::Field(field.into(), CommandPattern::parse(value)))
        }
        ("Bash", _) => {
            let middle = argument.strip_suffix(":*").unwrap_or(argument);
            if middle.contains(":*") {
                return Err("`:*` has a meaning at its end only".into());
            }
            Ok(About::Command(CommandPattern::parse(argument), literal_start(argument)))
        }
        ("Read", _) => Ok(About::Read(argument.into())),
        ("Edit", _) => Ok(About::Edit(argument.into())),
        ("Write" | "NotebookEdit" | "MultiEdit", None) if effect == Effect::Deny => {
            Ok(About::Edit(argument.into()))
        }
        ("Write" | "NotebookEdit" | "MultiEdit", None) => {
            Err("paths that are written are named by Edit(…)".into())
        }
        ("Glob" | "Grep", None) => Err("paths that are read are named by Read(…)".into()),
        ("WebFetch", Some(("domain", host))) => {
            host.trim().parse().map(About::Domain).map_err(|error| format!("{error}"))
        }
        ("WebFetch", _) => Err("hosts are named as WebFetch(domain:…)".into()),
        ("Agent", None) => Ok(About::Field("subagent_type".into(), CommandPattern::parse(argument))),
        ("Skill", None) => Ok(About::Field("skill".into(), CommandPattern::parse(argument))),
        (_, Some((field, value))) if effect != Effect::Allow => {
            Ok(About::Field(field.into(), CommandPattern::parse(value.trim())))
        }
        (_, Some(_)) => Err("a rule about a field can deny or ask, not allow".into()),
        (_, None) => Err("this tool has nothing that its argument could be about".into()),
    }
}

/// What a command must begin with to be meant.
fn literal_start(pattern: &str) -> String {
    let stem = pattern.strip_suffix(" *").or_else(|| pattern.strip_suffix(":*")).unwrap_or(pattern);
    stem.split('*').next().unwrap_or_default().to_owned()
}

impl ToolPattern {
    pub(super) fn matches(&self, tool: &str) -> bool {
        match self {
            Self::Named(name) => name == tool,
            Self::Server(prefix) => tool.starts_with(prefix.as_str()),
            Self::Glob(pattern) => pattern.matches(tool),
        }
    }
}

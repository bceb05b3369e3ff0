//! A rule of a file, and whether it is about a use.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::command::{Form, Runs, Touches, files, touches};
use super::decide::{Reason, ToolUse};
use super::rule::{About, ToolRule};
use super::shell::Script;
use super::word::Word;
use crate::host::Host;
use crate::local::{DomainRule, Matcher};

/// A rule with where it stands.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) written: String,
    pub(super) source: String,
    pub(super) rule: ToolRule,
    /// Of a rule about files.
    pub(super) path: Option<Matcher>,
    /// The same, for those who look themselves.
    pub(super) glob: Option<String>,
}

/// How certainly a rule is about a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meant {
    Surely,
    /// It cannot be known before it runs.
    Perhaps,
}

/// A command's text, read once.
pub(super) struct Command {
    pub(super) script: Script,
    pub(super) runs: Runs,
}

impl Command {
    pub(super) fn of(asked: &ToolUse<'_>) -> Self {
        let text = asked.input["command"].as_str().unwrap_or_default();
        let script = Script::parse(text);
        let runs = Runs::of(&script);
        Self { script, runs }
    }

    /// The files that rules may be about, seen from where the shell stands and from where it moves to.
    fn files(&self, cwd: &Path, home: &Path) -> Vec<(PathBuf, bool)> {
        let begin = cwd;
        let mut cwd = cwd.to_owned();
        let mut found = Vec::new();
        for simple in &self.script.commands {
            for redirection in simple.redirections.iter().filter(|redirection| !redirection.target.dynamic) {
                let path = absolute(&cwd, &redirection.target.text, home);
                if redirection.reads {
                    found.push((path.clone(), false));
                }
                if redirection.writes {
                    found.push((path, true));
                }
            }
            if simple.words.first().is_some_and(|word| word.text == "cd")
                && let Some(folder) = simple.words.get(1).and_then(Word::plain)
            {
                cwd = absolute(&cwd, folder, home);
            }
        }
        for form in &self.runs.forms {
            let Some(touches) = touches(&form.words) else { continue };
            for (text, _) in files(&form.words).filter(|(_, known)| *known) {
                for cwd in [begin, &cwd] {
                    let path = absolute(cwd, text, home);
                    found.push((path.clone(), false));
                    if touches == Touches::Writes {
                        found.push((path, true));
                    }
                }
            }
        }
        found
    }
}

impl Placed {
    pub(super) fn reason(&self, what: &str) -> Reason {
        Reason { rule: Some((self.written.clone(), self.source.clone())), what: what.to_owned() }
    }

    /// Whether a rule that denies or asks is about a use.
    pub(super) fn concerns(
        &self,
        asked: &ToolUse<'_>,
        command: Option<&Command>,
        home: &Path,
    ) -> Option<Meant> {
        let surely = |is: bool| is.then_some(Meant::Surely);
        match &self.rule.about {
            About::Read(_) | About::Edit(_) => {
                let edit = matches!(self.rule.about, About::Edit(_));
                if let Some(command) = command {
                    let files = command.files(asked.cwd, home);
                    return surely(files.iter().any(|(path, writes)| {
                        *writes == edit && self.is_about(std::slice::from_ref(path), false)
                    }));
                }
                let tools: &[&str] =
                    if edit { &["Edit", "Write", "NotebookEdit"] } else { &["Read", "Glob", "Grep"] };
                surely(tools.contains(&asked.tool) && self.is_about(asked.paths, false))
            }
            _ if !self.rule.tool.matches(asked.tool) => None,
            About::All => Some(Meant::Surely),
            About::Command(pattern, start) => {
                let command = command?;
                let mut perhaps = command.runs.unclear.is_some();
                for form in &command.runs.forms {
                    let (text, known) = form.text();
                    let written = form.written.as_deref().is_some_and(|text| pattern.matches(text));
                    if written || pattern.matches(text.trim_end()) {
                        return Some(Meant::Surely);
                    }
                    perhaps |= !known && (start.starts_with(&text) || text.starts_with(start.as_str()));
                }
                perhaps.then_some(Meant::Perhaps)
            }
            About::Domain(rule) => {
                surely(host_of(asked).is_none_or(|(host, port)| rule.concerns(&host, port)))
            }
            About::Field(field, pattern) => {
                let value = match &asked.input[field.as_str()] {
                    Value::String(text) => text.clone(),
                    Value::Null | Value::Array(_) | Value::Object(_) => return None,
                    scalar => scalar.to_string(),
                };
                surely(pattern.matches(&value))
            }
        }
    }

    /// Whether a rule that allows is about a use that is no command.
    pub(super) fn allows(&self, asked: &ToolUse<'_>) -> bool {
        match &self.rule.about {
            About::Read(_) => {
                matches!(asked.tool, "Read" | "Glob" | "Grep")
                    && !asked.paths.is_empty()
                    && self.is_about(asked.paths, true)
            }
            About::Edit(_) => {
                matches!(asked.tool, "Read" | "Glob" | "Grep" | "Edit" | "Write" | "NotebookEdit")
                    && !asked.paths.is_empty()
                    && self.is_about(asked.paths, true)
            }
            _ if !self.rule.tool.matches(asked.tool) => false,
            About::All => true,
            About::Domain(rule) => host_of(asked).is_some_and(|(host, port)| match rule {
                DomainRule::All => true,
                DomainRule::Hosts(pattern) => pattern.matches(&host, port),
            }),
            About::Field(field, pattern) => {
                asked.input[field.as_str()].as_str().is_some_and(|name| pattern.matches(name))
            }
            About::Command(..) => false,
        }
    }

    pub(super) fn allows_command(&self, form: &Form) -> bool {
        let About::Command(pattern, _) = &self.rule.about else { return false };
        let (text, known) = form.text();
        known
            && self.rule.tool.matches("Bash")
            && (pattern.matches(&text) || form.written.as_deref().is_some_and(|text| pattern.matches(text)))
    }

    /// Whether one of the paths, or all, are meant or lie below what is.
    pub(super) fn is_about(&self, paths: &[PathBuf], all: bool) -> bool {
        let Some(matcher) = &self.path else { return false };
        let meant = |path: &PathBuf| path.ancestors().any(|path| matcher.matches(path));
        if all { paths.iter().all(meant) } else { paths.iter().any(meant) }
    }
}

/// The host of a `url`; `None` when there is none, which every denial is about.
fn host_of(asked: &ToolUse<'_>) -> Option<(Host, u16)> {
    let url = url::Url::parse(asked.input["url"].as_str()?).ok()?;
    Some((Host::parse(url.host_str()?.as_bytes()).ok()?, url.port_or_known_default()?))
}

/// A path as a shell in a folder means it, by the letters alone.
pub(super) fn absolute(cwd: &Path, path: &str, home: &Path) -> PathBuf {
    use std::path::Component;
    let joined = match path.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => cwd.join(path),
    };
    let mut result = PathBuf::from("/");
    for component in joined.components() {
        match component {
            Component::Normal(part) => result.push(part),
            Component::ParentDir => drop(result.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    result
}

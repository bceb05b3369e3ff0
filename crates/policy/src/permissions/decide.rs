//! What becomes of a use of a tool.
//!
//! ```text
//!  deny rules ─▶ ask rules ─▶ mode ─▶ allow rules ─▶ what needs no question ─▶ ask
//! ```
//!
//! A rule that denies or asks holds in every mode.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::command::{Form, allowed_form, files};
use super::harmless::{changes_files, is_protected, only_looks};
use super::placed::{Command, Meant, Placed, absolute};
use super::rule::{About, Effect, ToolRule};
use super::shell::Simple;
use crate::local::{Bases, PathPattern};

/// How much is done without a question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// What only looks, and what a rule allows.
    #[default]
    Default,
    /// Changes of files in the workspace, too.
    AcceptEdits,
    /// Nothing is changed.
    Plan,
    /// What would be a question is refused.
    DontAsk,
    /// Everything that no rule denies or asks about.
    BypassPermissions,
}

impl Mode {
    /// The mode of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "default" | "manual" => Self::Default,
            "acceptEdits" => Self::AcceptEdits,
            "plan" => Self::Plan,
            "dontAsk" => Self::DontAsk,
            "bypassPermissions" => Self::BypassPermissions,
            _ => return None,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::AcceptEdits => "acceptEdits",
            Self::Plan => "plan",
            Self::DontAsk => "dontAsk",
            Self::BypassPermissions => "bypassPermissions",
        }
    }
}

/// The rules of one settings file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSource {
    /// How the file is called in what people read: `.claude/settings.json`.
    pub name: String,
    /// What its paths that begin with `/` start from.
    pub base: PathBuf,
    /// `permissions.deny`, `ask` and `allow`.
    pub deny: Vec<String>,
    pub ask: Vec<String>,
    pub allow: Vec<String>,
}

/// Where the tools work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// What `~` is.
    pub home: PathBuf,
    /// The workspace, absolute.
    pub workspace: PathBuf,
    /// Further folders that are worked in.
    pub additional: Vec<PathBuf>,
}

/// A use of a tool that wants to happen.
#[derive(Debug, Clone)]
pub struct ToolUse<'a> {
    /// `Bash`, `Edit`, `mcp__srv__tool`, …
    pub tool: &'a str,
    /// Its input as the model sent it.
    pub input: &'a Value,
    /// Where the shell stands.
    pub cwd: &'a Path,
    /// The file or folder that it is about, absolute: as it was named, and where links lead to.
    pub paths: &'a [PathBuf],
    /// Whether it changes nothing at all.
    pub read_only: bool,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It happens.
    Allow,
    /// The person is asked.
    Ask(Reason),
    /// It does not happen.
    Deny(Reason),
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The rule, as it is written, and the file that it stands in.
    pub rule: Option<(String, String)>,
    /// What it is about, or what is missing; a part of a sentence.
    pub what: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some((rule, source)) => write!(f, "the rule `{rule}` of {source} {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// All rules of a session, and its mode.
#[derive(Debug, Clone, Default)]
pub struct Permissions {
    deny: Vec<Placed>,
    ask: Vec<Placed>,
    allow: Vec<Placed>,
    mode: Mode,
    workspace: PathBuf,
    additional: Vec<PathBuf>,
    home: PathBuf,
}

impl Permissions {
    /// Takes the rules of all files together; what is no rule is told and left out.
    #[must_use]
    pub fn compile(sources: &[RuleSource], mode: Mode, places: &Places) -> (Self, Vec<String>) {
        let mut all = Self {
            mode,
            workspace: places.workspace.clone(),
            additional: places.additional.clone(),
            home: places.home.clone(),
            ..Self::default()
        };
        let mut remarks = Vec::new();
        for source in sources {
            let bases = Bases {
                home: places.home.clone(),
                working: places.workspace.clone(),
                source: source.base.clone(),
            };
            for (effect, rules) in
                [(Effect::Deny, &source.deny), (Effect::Ask, &source.ask), (Effect::Allow, &source.allow)]
            {
                for text in rules {
                    match ToolRule::parse(text, effect) {
                        Ok(rule) => {
                            let path = match &rule.about {
                                About::Read(path) | About::Edit(path) => {
                                    Some(PathPattern::of_rule(path, &bases, effect != Effect::Allow))
                                }
                                _ => None,
                            };
                            let placed = Placed {
                                written: text.clone(),
                                source: source.name.clone(),
                                rule,
                                glob: path.as_ref().map(PathPattern::absolute_glob),
                                path: path.map(|path| path.matcher()),
                            };
                            match effect {
                                Effect::Deny => all.deny.push(placed),
                                Effect::Ask => all.ask.push(placed),
                                Effect::Allow => all.allow.push(placed),
                            }
                        }
                        Err(why) => {
                            let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
                            remarks.push(format!("{}: the rule `{shown}` is left out: {why}", source.name));
                        }
                    }
                }
            }
        }
        (all, remarks)
    }

    /// The mode.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether a tool is denied whole, so that the model need not hear of it.
    #[must_use]
    pub fn removes(&self, tool: &str) -> bool {
        self.deny.iter().any(|placed| placed.rule.about == About::All && placed.rule.tool.matches(tool))
    }

    /// Whether any rule is about files, so that it matters where links lead to.
    #[must_use]
    pub fn looks_at_paths(&self) -> bool {
        self.mode != Mode::BypassPermissions
            || [&self.deny, &self.ask].into_iter().flatten().any(|placed| placed.path.is_some())
    }

    /// What searches must leave out: globs over absolute paths, whatever is below them too.
    #[must_use]
    pub fn hidden(&self) -> Vec<String> {
        let reads = self.deny.iter().filter(|placed| matches!(placed.rule.about, About::Read(_)));
        reads.filter_map(|placed| placed.glob.clone()).collect()
    }

    /// Decides.
    #[must_use]
    pub fn decide(&self, asked: &ToolUse<'_>) -> Verdict {
        let command = (asked.tool == "Bash").then(|| Command::of(asked));
        let found = |rules: &[Placed]| {
            let mut perhaps = None;
            for placed in rules {
                match placed.concerns(asked, command.as_ref(), &self.home) {
                    Some(Meant::Surely) => return Some((placed.clone(), Meant::Surely)),
                    Some(Meant::Perhaps) => drop(perhaps.get_or_insert(placed)),
                    None => {}
                }
            }
            perhaps.map(|placed| (placed.clone(), Meant::Perhaps))
        };
        let denied = found(&self.deny);
        if let Some((placed, Meant::Surely)) = denied {
            return Verdict::Deny(placed.reason("denies it"));
        }
        if let Some((placed, Meant::Surely)) = found(&self.ask) {
            return self.question(placed.reason("asks first"));
        }
        if let Some((placed, _)) = denied.or_else(|| found(&self.ask)) {
            let why = command.as_ref().and_then(|command| command.runs.unclear);
            let what = match why {
                Some(why) => format!("may be about it, which cannot be known before it runs ({why})"),
                None => "may be about it, which cannot be known before it runs".to_owned(),
            };
            return self.question(placed.reason(&what));
        }
        self.by_mode(asked, command.as_ref())
    }

    fn by_mode(&self, asked: &ToolUse<'_>, command: Option<&Command>) -> Verdict {
        let edits = matches!(asked.tool, "Edit" | "Write" | "NotebookEdit");
        match self.mode {
            Mode::BypassPermissions => return Verdict::Allow,
            Mode::Plan if edits => {
                return Verdict::Deny(Reason::plain("nothing is changed in the mode `plan`".into()));
            }
            _ => {}
        }
        if edits && asked.paths.iter().any(|path| is_protected(self.below(path))) {
            return self.question(Reason::plain(
                "other programs trust or run this file, so that a change of it is always asked about".into(),
            ));
        }
        if edits && self.mode == Mode::AcceptEdits && self.all_inside(asked.paths) {
            return Verdict::Allow;
        }
        if let Some(command) = command {
            return self.command(asked, command);
        }
        let allowed = self.allow.iter().any(|placed| placed.allows(asked));
        let reads = matches!(asked.tool, "Read" | "Glob" | "Grep");
        if allowed || (reads && self.all_inside(asked.paths)) || (asked.read_only && !reads) {
            return Verdict::Allow;
        }
        self.question(Reason::plain(format!("no rule allows {} here", asked.tool)))
    }

    /// Every command of the text must be allowed, and everything must be known of it.
    fn command(&self, asked: &ToolUse<'_>, command: &Command) -> Verdict {
        if self.allow.iter().any(|placed| placed.rule.tool.matches("Bash") && placed.rule.about == About::All)
        {
            return Verdict::Allow;
        }
        if let Some(why) = command.script.unclear {
            return self
                .question(Reason::plain(format!("the command cannot be checked before it runs: {why}")));
        }
        let mut moved = false;
        for simple in &command.script.commands {
            if let Some(what) = self.not_allowed(asked, simple, moved) {
                return self.question(Reason::plain(what));
            }
            moved |= simple
                .words
                .first()
                .is_some_and(|word| matches!(word.text.as_str(), "cd" | "pushd" | "popd"));
        }
        Verdict::Allow
    }

    /// Why one simple command needs a question.
    fn not_allowed(&self, asked: &ToolUse<'_>, simple: &Simple, moved: bool) -> Option<String> {
        let shown: String = simple.written.chars().take(200).collect();
        for redirection in
            simple.redirections.iter().filter(|redirection| redirection.target.text != "/dev/null")
        {
            let path = redirection
                .target
                .plain()
                .filter(|_| !moved)
                .map(|path| absolute(asked.cwd, path, &self.home));
            let fine = path.is_some_and(|path| {
                let paths = [path];
                let rule = |placed: &Placed| {
                    matches!(placed.rule.about, About::Edit(_)) && placed.is_about(&paths, true)
                };
                let free = self.mode == Mode::AcceptEdits || !redirection.writes;
                self.all_inside(&paths)
                    && !is_protected(self.below(&paths[0]))
                    && (free || self.allow.iter().any(rule))
            });
            if !fine {
                return Some(format!("no rule allows `{shown}` to write or read by a redirection"));
            }
        }
        if simple.words.is_empty() {
            return simple
                .assignments
                .iter()
                .any(|(_, value)| value.dynamic)
                .then(|| "an assignment cannot be checked before it runs".to_owned());
        }
        if simple.words.iter().any(|word| word.dynamic) {
            return Some(format!("`{shown}` cannot be checked before it runs"));
        }
        let not = || Some(format!("no rule allows `{shown}`"));
        let Some((words, unwrapped)) = allowed_form(simple) else { return not() };
        let form = Form { words: words.to_vec(), written: (!unwrapped).then(|| simple.written.clone()) };
        if self.allow.iter().any(|placed| placed.allows_command(&form)) || only_looks(words) {
            return None;
        }
        if words[0].text == "cd" {
            let target = words.get(1).map(|word| absolute(asked.cwd, &word.text, &self.home));
            return if target.is_some_and(|path| self.all_inside(&[path])) { None } else { not() };
        }
        if self.mode == Mode::AcceptEdits && changes_files(words) && !moved {
            let inside = files(words).all(|(path, _)| {
                let path = absolute(asked.cwd, path, &self.home);
                !is_protected(self.below(&path)) && self.all_inside(&[path])
            });
            if inside {
                return None;
            }
        }
        not()
    }

    fn question(&self, reason: Reason) -> Verdict {
        if self.mode == Mode::DontAsk { Verdict::Deny(reason) } else { Verdict::Ask(reason) }
    }

    fn all_inside(&self, paths: &[PathBuf]) -> bool {
        let inside = |path: &PathBuf| {
            path.starts_with(&self.workspace) || self.additional.iter().any(|folder| path.starts_with(folder))
        };
        paths.iter().all(inside)
    }

    /// The path without the folder that the work is in, whose own name protects nothing.
    fn below<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.workspace).unwrap_or(path)
    }
}

impl Reason {
    fn plain(what: String) -> Self {
        Self { rule: None, what }
    }
}

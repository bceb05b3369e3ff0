//! A command or skill of a repository.

use super::frontmatter::Frontmatter;

/// The longest description that is listed, with `when_to_use`.
const MAX_DESCRIPTION: usize = 1_536;

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A file of `.claude/commands`.
    Command,
    /// A folder of `.claude/skills`, by its path in the repository.
    Skill(String),
}

/// One that can be run, `/name words`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its name: that of the file or folder, with `:` for folders between.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What it is for, for the model; the first line of the body where it says nothing.
    pub description: String,
    /// Words about its arguments, for people.
    pub hint: Option<String>,
    /// Names of its arguments, in order.
    pub(super) arguments: Vec<String>,
    /// Rules that allow tools while it is worked on.
    pub allowed_tools: Vec<String>,
    /// Whether the model may start it.
    pub by_model: bool,
    /// Whether the person may.
    pub by_person: bool,
    pub(super) body: String,
}

impl Command {
    pub(super) fn read(name: String, kind: Kind, text: &str) -> Self {
        let (head, body) = Frontmatter::split(text);
        let first = || {
            let line = body.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
            line.trim_start_matches('#').trim().chars().take(200).collect()
        };
        let mut description = head.text("description").unwrap_or_else(first);
        if let Some(when) = head.text("when_to_use").or_else(|| head.text("when-to-use")) {
            description.push_str(" - ");
            description.push_str(&when);
        }
        let description = description.split_whitespace().collect::<Vec<_>>().join(" ");
        Self {
            name,
            kind,
            description: description.chars().take(MAX_DESCRIPTION).collect(),
            hint: head.text("argument-hint"),
            arguments: head.list("arguments").unwrap_or_default(),
            allowed_tools: head.list("allowed-tools").unwrap_or_default(),
            by_model: !head.flag("disable-model-invocation").unwrap_or(false),
            by_person: head.flag("user-invocable").unwrap_or(true),
            body: body.trim().to_owned(),
        }
    }

    /// Where a skill is, by its full path; one of the person's own is outside of the workspace.
    #[must_use]
    pub fn place(&self, workspace: &str) -> Option<String> {
        let folder = self.folder()?;
        Some(if folder.starts_with('/') { folder.to_owned() } else { format!("{workspace}/{folder}") })
    }

    /// Where its own files are, in the repository.
    #[must_use]
    pub fn folder(&self) -> Option<&str> {
        match &self.kind {
            Kind::Skill(folder) => Some(folder),
            Kind::Command => None,
        }
    }
}

//! Which files of a repository are read, and what becomes of them.

use std::collections::BTreeMap;

use super::command::{Command, Kind};
use super::subagent::Subagent;

/// Files that are read at the most.
const MAX_FILES: usize = 500;

/// The longest name.
const MAX_NAME: usize = 128;

/// All that a repository keeps for agents.
#[derive(Debug, Clone)]
pub struct Library {
    commands: BTreeMap<String, Command>,
    subagents: BTreeMap<String, Subagent>,
}

/// What a path of the repository is to us.
enum Place {
    Command(String),
    Skill { name: String, folder: String },
    Agent,
}

/// The paths that are to be read, out of all of the repository, at most 500.
pub fn wanted<'a>(paths: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    paths.into_iter().filter(|path| place(path).is_some()).take(MAX_FILES).map(str::to_owned).collect()
}

fn place(path: &str) -> Option<Place> {
    if let Some(rest) = path.strip_prefix(".claude/commands/") {
        return Some(Place::Command(rest.strip_suffix(".md")?.replace('/', ":")));
    }
    if let Some(rest) = path.strip_prefix(".claude/skills/") {
        let name = rest.strip_suffix("/SKILL.md").filter(|name| !name.contains('/'))?;
        return Some(Place::Skill { name: name.to_owned(), folder: format!(".claude/skills/{name}") });
    }
    (path.starts_with(".claude/agents/") && path.ends_with(".md")).then_some(Place::Agent)
}

/// Whether it can be typed after a slash, and leads nowhere else when it is taken for a path.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-:.".contains(&byte);
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(plain)
        && !name.split(':').any(|part| part.starts_with('.') || part.is_empty())
}

impl Default for Library {
    fn default() -> Self {
        let ours = Subagent::ours().into_iter().map(|agent| (agent.name.clone(), agent));
        Self { commands: BTreeMap::new(), subagents: ours.collect() }
    }
}

impl Library {
    /// Reads files, by their paths in the repository, and says what cannot be used, a sentence each. Of a skill and
    /// a command of one name the skill counts.
    #[must_use]
    pub fn read(files: &[(String, Vec<u8>)]) -> (Self, Vec<String>) {
        let (mut library, mut remarks) = (Self::default(), Vec::new());
        for (path, bytes) in files {
            if let Err(why) = library.add(path, bytes) {
                let shown: String =
                    path.chars().filter(|character| !character.is_control()).take(120).collect();
                remarks.push(format!("{shown}: {why}; it is left out"));
            }
        }
        (library, remarks)
    }

    /// The same, with what a person keeps for all of their work in `base`, which stands as `.claude` in the paths.
    /// What the repository has of the same name counts more.
    #[must_use]
    pub fn read_with_own(
        own: &[(String, Vec<u8>)],
        base: &str,
        files: &[(String, Vec<u8>)],
    ) -> (Self, Vec<String>) {
        let (mut library, mut remarks) = Self::read(own);
        for command in library.commands.values_mut() {
            if let Kind::Skill(folder) = &mut command.kind {
                *folder = folder.replacen(".claude", base, 1);
            }
        }
        let (theirs, told) = Self::read(files);
        remarks.extend(told);
        library.commands.extend(theirs.commands);
        library.subagents.extend(theirs.subagents);
        (library, remarks)
    }

    /// Adds kinds of agents that the person names for this run, `{name: {description, prompt, …}}`; what cannot be
    /// used is said, a sentence each.
    pub fn add_agents(&mut self, value: &serde_json::Value) -> Vec<String> {
        let mut remarks = Vec::new();
        for (name, agent) in value.as_object().into_iter().flatten() {
            match Subagent::given(name, agent) {
                Ok(agent) => drop(self.subagents.insert(name.clone(), agent)),
                Err(why) => remarks.push(format!("the agent `{name}` is left out: {why}")),
            }
        }
        remarks
    }

    fn add(&mut self, path: &str, bytes: &[u8]) -> Result<(), &'static str> {
        let Some(place) = place(path) else { return Ok(()) };
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no text")?;
        let (name, kind) = match place {
            Place::Command(name) => (name, Kind::Command),
            Place::Skill { name, folder } => (name, Kind::Skill(folder)),
            Place::Agent => {
                let agent = Subagent::read(text)?;
                self.subagents.insert(agent.name.clone(), agent);
                return Ok(());
            }
        };
        if !is_name(&name) {
            return Err("its name has characters that a command cannot have");
        }
        if kind == Kind::Command && self.commands.get(&name).is_some_and(|other| other.kind != Kind::Command)
        {
            return Err("a skill has the same name");
        }
        self.commands.insert(name.clone(), Command::read(name, kind, text));
        Ok(())
    }

    /// A command or skill of this name.
    #[must_use]
    pub fn command(&self, name: &str) -> Option<&Command> {
        self.commands.get(name)
    }

    /// A kind of agent of this name.
    #[must_use]
    pub fn subagent(&self, name: &str) -> Option<&Subagent> {
        self.subagents.get(name)
    }

    /// All kinds of agents, by name.
    pub fn subagents(&self) -> impl Iterator<Item = &Subagent> {
        self.subagents.values()
    }

    /// All commands and skills, by name.
    pub fn commands(&self) -> impl Iterator<Item = &Command> {
        self.commands.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> (Library, Vec<String>) {
        let files: Vec<_> =
            files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
        Library::read(&files)
    }

    /// Section 1: where commands and skills are, and how they are called.
    #[test]
    fn names_follow_paths() {
        let paths = [
            ".claude/commands/fix.md",
            ".claude/commands/ns/hey.md",
            ".claude/commands/notes.txt",
            ".claude/skills/pdf/SKILL.md",
            ".claude/skills/pdf/deep/SKILL.md",
            ".claude/skills/SKILL.md",
            "docs/commands/no.md",
        ];
        let found = wanted(paths);
        assert_eq!(found, [paths[0], paths[1], paths[3]]);
        let files: Vec<(&str, &str)> = found.iter().map(|path| (path.as_str(), "Do it.")).collect();
        let (library, remarks) = read(&files);
        assert_eq!(remarks, Vec::<String>::new());
        let names: Vec<&str> = library.commands().map(|command| command.name.as_str()).collect();
        assert_eq!(names, ["fix", "ns:hey", "pdf"]);
        assert_eq!(library.command("pdf").unwrap().folder(), Some(".claude/skills/pdf"));
    }

    #[test]
    fn what_cannot_be_used_is_told_alone() {
        let (library, remarks) = read(&[
            (".claude/commands/../../etc/passwd.md", "x"),
            (".claude/commands/a b.md", "x"),
            (".claude/commands/.hidden.md", "x"),
            (".claude/skills/two/SKILL.md", "the skill"),
            (".claude/commands/two.md", "the command"),
            (".claude/commands/fine.md", "x"),
        ]);
        assert_eq!(remarks.len(), 4, "{remarks:#?}");
        assert_eq!(library.commands().count(), 2);
        assert_eq!(library.command("two").unwrap().description, "the skill");
        let (library, remarks) = Library::read(&[(".claude/commands/bad.md".into(), vec![0xff])]);
        assert_eq!((library.commands().count(), remarks.len()), (0, 1));
    }

    #[test]
    fn the_head_says_who_may_start_it() {
        let text = "---\ndescription: Fixes it\nwhen_to_use: when broken\ndisable-model-invocation: true\n\
                    user-invocable: false\nallowed-tools: Bash(git *)\n---\nBody";
        let (library, _) =
            read(&[(".claude/commands/fix.md", text), (".claude/commands/plain.md", "# Title\n\nMore")]);
        let fix = library.command("fix").unwrap();
        assert_eq!((fix.by_model, fix.by_person), (false, false));
        assert_eq!(fix.description, "Fixes it - when broken");
        assert_eq!(fix.allowed_tools, ["Bash(git *)"]);
        assert_eq!(library.command("plain").unwrap().description, "Title");
    }
}

//! A kind of agent that the agent may send to work.

use policy::permissions::Mode;

use super::frontmatter::Frontmatter;

/// The tools of those that only look.
const LOOKING: &[&str] = &["Read", "Glob", "Grep"];

/// Tools that change nothing outside of the thread itself.
const HARMLESS: &[&str] = &["Read", "Glob", "Grep", "TodoWrite"];

/// The longest description.
const MAX_DESCRIPTION: usize = 1_024;

/// Requests of a thread at the most.
const MAX_TURNS: u32 = 1_000;

/// A kind of agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subagent {
    /// Its name.
    pub name: String,
    /// What it is for, for the model.
    pub description: String,
    /// Its tools; all that there are without.
    pub tools: Option<Vec<String>>,
    pub(crate) without: Vec<String>,
    /// How much it does without a question, where that narrows.
    pub(crate) mode: Option<Mode>,
    /// Requests at the most.
    pub(crate) max_turns: Option<u32>,
    /// What it is told of itself.
    pub(crate) prompt: String,
}

impl Subagent {
    pub(super) fn read(text: &str) -> Result<Self, &'static str> {
        let (head, body) = Frontmatter::split(text);
        let name = head.text("name").ok_or("it has no name")?;
        let description = head.text("description").ok_or("it has no description")?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-:.".contains(&byte);
        if name.len() > 64 || !name.bytes().all(plain) {
            return Err("its name has characters that an agent's cannot have");
        }
        let tools =
            head.list("tools").filter(|tools| !tools.is_empty() && !tools.iter().any(|tool| tool == "*"));
        let mode = head.text("permissionMode").and_then(|mode| Mode::parse(&mode));
        let description = description.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Self {
            name,
            description: description.chars().take(MAX_DESCRIPTION).collect(),
            tools,
            without: head.list("disallowedTools").unwrap_or_default(),
            // As with settings: a repository narrows for its own sake, and never widens.
            mode: mode.filter(|mode| matches!(mode, Mode::Plan | Mode::DontAsk)),
            max_turns: head
                .text("maxTurns")
                .and_then(|turns| turns.parse().ok())
                .map(|turns: u32| turns.clamp(1, MAX_TURNS)),
            prompt: body.trim().to_owned(),
        })
    }

    /// One that the person names for this run, as `{description, prompt, tools, disallowedTools, maxTurns}`.
    pub(super) fn given(name: &str, value: &serde_json::Value) -> Result<Self, &'static str> {
        let text = |field: &str| value[field].as_str().map(str::to_owned);
        let list = |field: &str| {
            let all = value[field].as_array()?;
            Some(all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect::<Vec<_>>())
        };
        let mode = text("permissionMode").and_then(|mode| Mode::parse(&mode));
        Ok(Self {
            name: name.to_owned(),
            description: text("description").ok_or("it has no description")?,
            tools: list("tools").filter(|tools| !tools.is_empty() && !tools.iter().any(|tool| tool == "*")),
            without: list("disallowedTools").unwrap_or_default(),
            mode: mode.filter(|mode| matches!(mode, Mode::Plan | Mode::DontAsk)),
            max_turns: value["maxTurns"]
                .as_u64()
                .map(|turns| u32::try_from(turns).unwrap_or(MAX_TURNS).clamp(1, MAX_TURNS)),
            prompt: text("prompt").ok_or("it has no prompt")?,
        })
    }

    /// Those that there always are; a repository's own of the same name stands in their place.
    pub(super) fn ours() -> [Self; 3] {
        let looking = Some(LOOKING.iter().map(|tool| (*tool).to_owned()).collect::<Vec<_>>());
        let one = |name: &str, description: &str, tools: Option<Vec<String>>, prompt: &str| Self {
            name: name.into(),
            description: description.into(),
            tools,
            without: Vec::new(),
            mode: None,
            max_turns: None,
            prompt: prompt.into(),
        };
        [
            one(
                "general-purpose",
                "For any piece of work with several steps that stands by itself. Has all tools.",
                None,
                "You do one piece of work for another agent, alone and to its end. Change only what it asks for.",
            ),
            one(
                "Explore",
                "Finds its way through code: where something is done, what uses it, how parts hang together. Only looks.",
                looking.clone(),
                "You look things up in a repository for another agent, and change nothing. Search broadly first, then \
                 read what matters. Look at several places at once where you can.",
            ),
            one(
                "Plan",
                "Works out how a change is to be made: steps, files, risks. Only looks.",
                looking,
                "You plan a change to a repository for another agent, and change nothing. Read the code that matters, \
                 then give the steps in order, with the files of each, what could go wrong, and how to verify it.",
            ),
        ]
    }

    /// Whether it has a tool.
    pub(crate) fn has(&self, tool: &str) -> bool {
        let is_it = |name: &str| {
            // A server's name stands for all of its tools.
            let server = name.strip_suffix("__*").unwrap_or(name);
            let of_server = server.starts_with("mcp__") && !server["mcp__".len()..].contains("__");
            name == tool
                || (of_server && tool.strip_prefix(server).is_some_and(|rest| rest.starts_with("__")))
        };
        let named = |list: &[String]| list.iter().any(|name| name.split('(').next().is_some_and(is_it));
        self.tools.as_deref().is_none_or(named) && !named(&self.without)
    }

    /// Whether nothing that it can do changes anything, so that several may work at the same time.
    pub(crate) fn only_looks(&self) -> bool {
        let has = |tool: &String| {
            tool.split('(').next().is_some_and(|name| HARMLESS.contains(&name) || !self.has(name))
        };
        self.mode == Some(Mode::Plan) || self.tools.as_ref().is_some_and(|tools| tools.iter().all(has))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Result<Subagent, &'static str> {
        Subagent::read(&format!("---\n{head}\n---\nYou review."))
    }

    /// Section 7.2: fields; without name or description it is none.
    #[test]
    fn fields_say_what_it_may() {
        let all = read(
            "name: review\ndescription: Reviews\ntools: Read, Grep, Bash(git *)\ndisallowedTools: [Grep]\npermissionMode: plan\nmaxTurns: 3",
        );
        let agent = all.unwrap();
        assert_eq!(["Read", "Grep", "Bash", "Write"].map(|tool| agent.has(tool)), [true, false, true, false]);
        assert_eq!(
            (agent.mode, agent.max_turns, agent.prompt.as_str()),
            (Some(Mode::Plan), Some(3), "You review.")
        );
        let plain = read("name: a\ndescription: b\npermissionMode: bypassPermissions\nmaxTurns: 0").unwrap();
        assert_eq!((plain.has("Write"), plain.mode, plain.max_turns), (true, None, Some(1)));
        for bad in ["name: a", "description: b", "name: a b\ndescription: c", "name: ../a\ndescription: c"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_servers_name_stands_for_its_tools() {
        for (tools, has) in [
            ("mcp__db", [true, true, false]),
            ("mcp__db__*", [true, true, false]),
            ("mcp__db__read", [true, false, false]),
            ("Read", [false, false, false]),
        ] {
            let agent = read(&format!("name: a\ndescription: d\ntools: {tools}")).unwrap();
            let all = ["mcp__db__read", "mcp__db__write", "mcp__db2__read"];
            assert_eq!(all.map(|tool| agent.has(tool)), has, "{tools}");
        }
    }

    #[test]
    fn those_that_only_look_are_known() {
        let looks = |head: &str| read(&format!("name: a\ndescription: b\n{head}")).unwrap().only_looks();
        assert!(
            looks("tools: Read, Grep")
                && looks("tools: Read, Bash\ndisallowedTools: Bash")
                && looks("permissionMode: plan")
        );
        assert!(!looks("tools: Read, Bash") && !looks("disallowedTools: Bash") && !looks("tools: '*'"));
        assert_eq!(Subagent::ours().map(|agent| agent.only_looks()), [false, true, true]);
    }
}

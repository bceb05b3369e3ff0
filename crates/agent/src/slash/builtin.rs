//! Commands of our own.
//!
//! | | |
//! |---|---|
//! | `/context`, `/cost`, `/status`, `/permissions`, `/mcp`, `/help` | answered from what the agent knows |
//! | `/clear`, `/model`, `/config` and those of a terminal | say where that is done here |
//! | `/init`, `/review` | prompts to the model |

use std::fmt::Write as _;

use protocol::usage::Usage;

use crate::agent::PatchyardAgent;
use crate::mcp;

/// Those that are told of, without the slash, each with what it is for.
pub const OWN: [(&str, &str); 8] = [
    ("compact", "Sum the conversation up, to make room"),
    ("context", "What fills the model's window"),
    ("cost", "What was used so far"),
    ("init", "Write instructions for agents"),
    ("mcp", "How MCP servers stand"),
    ("permissions", "What may run without a question"),
    ("review", "Review what changed"),
    ("status", "What this session works with"),
];

/// Commands that there are only at a terminal.
const ELSEWHERE: &[&str] = &[
    "add-dir",
    "agents",
    "bug",
    "doctor",
    "exit",
    "export",
    "hooks",
    "ide",
    "install-github-app",
    "login",
    "logout",
    "memory",
    "output-style",
    "plugin",
    "privacy-settings",
    "quit",
    "release-notes",
    "resume",
    "rewind",
    "sandbox",
    "statusline",
    "terminal-setup",
    "theme",
    "upgrade",
    "vim",
];

const INIT: &str = "Write instructions for coding agents that work on this repository, or improve those that it has. \
    They go into CLAUDE.md at its root; where there is an AGENTS.md and no CLAUDE.md, into that one.\n\n\
    Look around first: the README, build files, CI configuration, existing instructions of any tool, and enough of the \
    code to know how it hangs together. Then write down what somebody cannot see at a glance: the commands to build, \
    lint and test, also one single test; the architecture as far as it takes several files to understand; conventions \
    that differ from what is usual; traps. Leave out what the file tree shows, advice that holds everywhere, and \
    anything that you did not find here. Run the commands that you write down where that is cheap. Keep it under a \
    hundred lines.";

const REVIEW: &str = "Review the changes of this branch as an experienced colleague would, and change nothing. Look at \
    the diff against the commit that the branch began with, and read the code around it. Report what matters, the \
    worst first: bugs, with the input that shows them; behaviour that changed without being meant to; missing tests; \
    holes in security; what makes it hard to understand. Name file and line of each, say why it is a problem and what \
    would mend it. Say plainly when there is nothing to say. Do not report matters of taste.";

/// The answer to a command that needs no model.
pub(super) fn answer(agent: &PatchyardAgent, name: &str) -> Option<String> {
    Some(match name {
        "context" => context(agent),
        "cost" | "usage" => cost(&agent.history.usage),
        "status" => status(agent),
        "permissions" => {
            let held = agent.config.steering.now();
            agent.config.settings.steered(&held, false).describe_permissions()
        }
        "help" | "skills" => help(agent),
        "mcp" => mcp::describe(&agent.config.servers),
        "clear" | "reset" | "new" => "A conversation of this session stays as it is. Start a new session from the \
             sidebar; `/compact` makes this one shorter."
            .into(),
        "model" => format!(
            "This session works with `{}`. The model is picked in the server's configuration (`[model]`), and holds \
             for sessions that begin after that.",
            agent.config.model_now().config().model
        ),
        "config" | "settings" => "Settings of a repository are in `.claude/settings.json`, those of an environment in \
             the environment's own dialog, and those of the server in its configuration file. They hold for sessions \
             that begin after a change."
            .into(),
        name if ELSEWHERE.contains(&name) => format!("`/{name}` isn't available in this environment."),
        _ => return None,
    })
}

/// The prompt that a command stands for.
pub(super) fn prompt(name: &str, words: &str) -> Option<String> {
    let text = match name {
        "init" => INIT,
        "review" => REVIEW,
        _ => return None,
    };
    let more = if words.is_empty() { String::new() } else { format!("\n\nThe person adds: {words}") };
    Some(format!("{text}{more}"))
}

fn context(agent: &PatchyardAgent) -> String {
    let size = |texts: &mut dyn Iterator<Item = usize>| texts.sum::<usize>() as u64 / 4;
    let system = size(&mut agent.system.iter().map(String::len));
    let tools = size(
        &mut agent.tools.iter().map(|tool| tool.description.len() + tool.input_schema.to_string().len()),
    );
    let opening = size(&mut agent.history.opening().map(str::len).into_iter());
    let all = agent.history.size();
    let window = agent.threshold.window;
    let mut text = format!(
        "**Context: {} of {} tokens, {} %**\n\n| part | tokens, about |\n|---|---:|\n",
        short(all),
        short(window),
        100 * all / window
    );
    let talk = all.saturating_sub(system + tools + opening);
    for (part, tokens) in [
        ("System prompt", system),
        ("Tools", tools),
        ("Instructions, skills", opening),
        ("Conversation", talk),
    ] {
        let _ = writeln!(text, "| {part} | {} |", short(tokens));
    }
    match agent.threshold.limit {
        Some(limit) => {
            let _ = write!(text, "\nIt is made shorter at {} tokens; `/compact` does it now.", short(limit));
        }
        None => text.push_str("\nIt is never made shorter by itself; `/compact` does it now."),
    }
    text
}

fn cost(usage: &Usage) -> String {
    let share = usage.cache_read_share().map_or("–".to_owned(), |share| format!("{share} %"));
    let dollars = match usage.cost_micro_usd {
        0 => "not known for this model".to_owned(),
        micro => format!("${}.{:02} by the list price", micro / 1_000_000, micro % 1_000_000 / 10_000),
    };
    format!(
        "**Cost of this session: {dollars}**\n\n| | |\n|---|---:|\n| Model requests | {} |\n| Input tokens | {} |\n| of \
         these read from the cache | {share} |\n| Output tokens | {} |",
        usage.requests,
        short(usage.input()),
        short(usage.output_tokens),
    )
}

fn status(agent: &PatchyardAgent) -> String {
    let config = &agent.config;
    let files: Vec<&str> = config.memory.root.iter().map(|file| file.path.as_str()).collect();
    let files = if files.is_empty() { "none".to_owned() } else { files.join(", ") };
    format!(
        "| | |\n|---|---|\n| Version | patchyard {} |\n| Session | {} |\n| Model | {} |\n| Workspace | {} |\n| Branch | {} \
         |\n| Permission mode | {} |\n| Instructions | {files} |\n| Skills and commands | {} |\n| Background tasks | {} |",
        env!("CARGO_PKG_VERSION"),
        config.session,
        config.model_now().config().model,
        config.workspace,
        config.environment.branch,
        agent.mode(),
        config.library.commands().count(),
        agent.bench.tasks.running(),
    )
}

fn help(agent: &PatchyardAgent) -> String {
    let mut text = format!("Commands: {}", OWN.map(|(name, _)| format!("`/{name}`")).join(", "));
    let own: Vec<_> = agent.config.library.commands().filter(|command| command.by_person).collect();
    if !own.is_empty() {
        text.push_str("\n\nOf this repository:\n");
    }
    for command in own {
        let hint = command.hint.as_ref().map(|hint| format!(" {hint}")).unwrap_or_default();
        let _ = write!(text, "\n- `/{}{hint}`: {}", command.name, command.description);
    }
    let prompts = mcp::prompts(&agent.config.servers);
    if !prompts.is_empty() {
        text.push_str("\n\nOf MCP servers:\n");
    }
    for (name, about) in prompts {
        let _ = write!(text, "\n- `/{name}`: {about}");
    }
    text
}

/// `950`, `12.3k`, `1.2M`.
fn short(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{}.{}k", count / 1_000, count % 1_000 / 100),
        _ => format!("{}.{}M", count / 1_000_000, count % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_costs_are_said_as_people_say_them() {
        for (count, words) in
            [(0, "0"), (999, "999"), (1_000, "1.0k"), (12_345, "12.3k"), (1_250_000, "1.2M")]
        {
            assert_eq!(short(count), words);
        }
        let usage = Usage {
            input_tokens: 100,
            output_tokens: 2_000,
            cache_read_input_tokens: 900,
            requests: 3,
            cost_micro_usd: 1_239_999,
            ..Usage::default()
        };
        let text = cost(&usage);
        assert!(
            text.contains("$1.23 by") && text.contains("| 90 % |") && text.contains("| 1.0k |"),
            "{text}"
        );
        assert!(cost(&Usage::default()).contains("not known"));
    }
}

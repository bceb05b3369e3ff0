//! What the model is told of skills and commands.

use super::command::Command;
use super::read::Library;

/// Characters that all lines have together.
const BUDGET: usize = 15_000;

/// Those that are named at the most.
const MAX_NAMED: usize = 200;

/// One line for each that the model may start, within a budget: all names, and of each description an equal
/// share at the most. Nothing where there is none.
pub(crate) fn listing(library: &Library) -> Option<String> {
    let listed: Vec<&Command> =
        library.commands().filter(|command| command.by_model).take(MAX_NAMED).collect();
    let names: usize = listed.iter().map(|command| command.name.len() + "- : \n".len()).sum();
    let share = BUDGET.saturating_sub(names).checked_div(listed.len())?;
    let long: usize = listed.iter().map(|command| command.description.chars().count()).sum();
    let line = |command: &&Command| {
        let text = &command.description;
        if names + long <= BUDGET || text.chars().count() <= share {
            return format!("- {}: {text}", command.name);
        }
        let short: String = text.chars().take(share.saturating_sub(1)).collect();
        format!("- {}: {}…", command.name, short.trim_end())
    };
    Some(listed.iter().map(line).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(count: usize, length: usize) -> Library {
        let text = format!("---\ndescription: {}\n---\nBody", "x".repeat(length));
        let file =
            |number: usize| (format!(".claude/skills/s{number:03}/SKILL.md"), text.clone().into_bytes());
        Library::read(&(0..count).map(file).collect::<Vec<_>>()).0
    }

    #[test]
    fn descriptions_share_a_budget() {
        assert_eq!(listing(&Library::default()), None);
        assert_eq!(listing(&library(1, 1_000)).unwrap().len(), "- s000: ".len() + 1_000);
        let many = listing(&library(100, 1_000)).unwrap();
        assert!((13_000..BUDGET + 500).contains(&many.len()), "{}", many.len());
        assert_eq!(many.lines().count(), 100);
        assert_eq!(listing(&library(400, 10)).unwrap().lines().count(), MAX_NAMED);
        let hidden = ("---\ndisable-model-invocation: true\n---\nx", ".claude/commands/x.md");
        let (hidden, _) = Library::read(&[(hidden.1.into(), hidden.0.into())]);
        assert_eq!(listing(&hidden), None);
    }
}

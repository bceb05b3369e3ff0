//! The tool `Skill`: instructions of the repository, when the model asks for them.

use protocol::agent_port::PortError;
use serde_json::json;

use crate::gate::{Gate, Moment};
use crate::library::Library;
use crate::outcome::Outcome;
use crate::slash::expand;
use crate::tools::SkillInput;

/// Names that are told of when one is not known.
const NAMED: usize = 50;

/// Starts a skill: its text is the result.
pub(crate) async fn start(input: &SkillInput, gate: &Gate, moment: Moment<'_>) -> Result<Outcome, PortError> {
    let library = &moment.bench.library;
    let name = input.skill.trim().trim_start_matches('/');
    let Some(command) = library.command(name).filter(|command| command.by_model) else {
        let known = library.commands().filter(|command| command.by_model).take(NAMED);
        let known: Vec<&str> = known.map(|command| command.name.as_str()).collect();
        return Ok(Outcome::refused(format!("there is no skill `{name}`; there are: {}", known.join(", "))));
    };
    let words = input.args.as_deref().unwrap_or_default().trim();
    let text = expand(command, words, gate, moment).await?;
    let detail = json!({ "success": true, "commandName": name, "allowedTools": command.allowed_tools });
    Ok(Outcome::ok(format!("Launching skill: {name}\n\n{text}"), detail))
}

/// Whether starting it allows nothing; what runs inside of it is asked about by itself.
pub(crate) fn only_says(library: &Library, input: &SkillInput) -> bool {
    let name = input.skill.trim().trim_start_matches('/');
    library.command(name).is_some_and(|command| command.allowed_tools.is_empty())
}

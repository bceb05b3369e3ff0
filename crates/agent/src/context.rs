//! What the model is told before the conversation.
//!
//! ```text
//!  system: prompt.md (the same for all) │ facts of this session
//!  first user message: instructions of the repository │ the first prompt
//! ```

use crate::config::AgentConfig;

const PROMPT: &str = include_str!("prompt.md");

/// The blocks of the system prompt.
pub(crate) fn system(config: &AgentConfig) -> Vec<String> {
    let facts = &config.environment;
    vec![
        PROMPT.trim_end().to_owned(),
        format!(
            "# This session\n\n- Workspace: {}\n- Branch: {}\n- Platform: {}\n- The session began on {}.",
            config.workspace, facts.branch, facts.platform, facts.date
        ),
    ]
}

/// The block before the first prompt, where the repository has instructions.
pub(crate) fn opening(config: &AgentConfig) -> Option<String> {
    let mut files = config.memory.iter().filter(|file| !file.text.trim().is_empty()).peekable();
    files.peek()?;
    let mut text = String::from(
        "<system-reminder>\nThe repository holds instructions for agents. Follow them; they come before \
         your defaults, and what the person asks for comes before them.\n",
    );
    for file in files {
        text.push_str(&format!(
            "\nContents of {}/{} (instructions of the repository):\n\n{}\n",
            config.workspace,
            file.path,
            file.text.trim_end()
        ));
    }
    text.push_str("</system-reminder>");
    Some(text)
}

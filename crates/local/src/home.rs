//! Where things of the person are.
//!
//! ```text
//!  CLAUDE_CONFIG_DIR, else ~/.claude      settings.json, CLAUDE.md, rules, commands, skills, agents: read
//!  CLAUDE_CONFIG_DIR, else ~/.patchyard   projects/<folder>/<session>.jsonl: ours, written
//!  ~/.claude.json, or in that folder      which folders are trusted, MCP servers of the person: read
//! ```

use std::path::{Path, PathBuf};

/// The longest name of a folder for conversations.
const MAX_NAME: usize = 200;

/// The folders of one person.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    /// `~`.
    pub(crate) home: PathBuf,
    /// What the person set up.
    pub(crate) config: PathBuf,
    /// The file with trust and servers.
    pub(crate) facts: PathBuf,
    /// Where conversations are.
    projects: PathBuf,
}

impl Home {
    /// Those of whoever runs this.
    pub(crate) fn of_environment() -> Self {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
        let home = home.map_or_else(|| PathBuf::from("/"), PathBuf::from);
        match std::env::var_os("CLAUDE_CONFIG_DIR").filter(|folder| !folder.is_empty()) {
            Some(folder) => {
                let config = PathBuf::from(folder);
                Self { home, facts: config.join(".claude.json"), projects: config.join("projects"), config }
            }
            None => Self {
                config: home.join(".claude"),
                facts: home.join(".claude.json"),
                projects: home.join(".patchyard/projects"),
                home,
            },
        }
    }

    /// Where conversations about a folder are.
    pub(crate) fn conversations(&self, folder: &Path) -> PathBuf {
        self.projects.join(name_of(&folder.to_string_lossy()))
    }

    /// Where all conversations are.
    pub(crate) fn projects(&self) -> &Path {
        &self.projects
    }
}

/// A folder's path as one name: everything but letters and digits becomes `-`.
fn name_of(path: &str) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '-' };
    path.chars().map(plain).take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 1, "Transcripts".
    #[test]
    fn a_folder_has_one_name() {
        assert_eq!(name_of("/home/ann/my.project_2"), "-home-ann-my-project-2");
        assert_eq!(name_of(&"/é".repeat(300)).len(), MAX_NAME);
    }
}

//! What a repository and the operator say to our agent, read without a sandbox.
//!
//! ```text
//!  the session repository at the base commit ─▶ CLAUDE.md, AGENTS.md, .mcp.json · .claude/: settings, rules, … ───────┐
//!  the operator's folder ─▶ managed-settings.json, managed-settings.d/*.json, managed-mcp.json, CLAUDE.md ───────────┴▶ Project
//! ```
//!
//! From the base commit, so that nothing that the sandbox writes changes what holds in a running session.

use std::collections::HashMap;

use agent::mcp::Declared;
use agent::{Library, Managed, Memory, Scope, Settings, SettingsFile, library, memory};
use protocol::view::SessionView;

use crate::agents::OURS;
use crate::provision::workspace_path;
use crate::registry::Shared;

/// The files in the repository, the stronger first.
const FILES: [(&str, Scope); 2] =
    [(".claude/settings.local.json", Scope::Local), (".claude/settings.json", Scope::Project)];

/// The largest settings file that is read.
const MAX_FILE: u64 = 256 * 1024;

/// The largest file of instructions that is read.
const MAX_MEMORY_FILE: u64 = 1024 * 1024;

/// What `~` is in a sandbox.
pub(crate) const HOME: &str = "/root";

/// Instructions and settings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Project {
    pub(crate) memory: Memory,
    /// Instructions of the operator.
    pub(crate) managed_memory: Option<String>,
    pub(crate) settings: Settings,
    /// Commands, skills and the like.
    pub(crate) library: Library,
    /// MCP servers.
    pub(crate) servers: Declared,
    /// What is wrong with them, a sentence each.
    pub(crate) remarks: Vec<String>,
}

/// Reads what there is.
pub(crate) async fn read(shared: &Shared, facts: &SessionView) -> Result<Project, String> {
    // Agents of others read all of this themselves.
    if facts.agent != OURS {
        return Ok(Project::default());
    }
    let paths = shared.repositories.paths(facts.id, &facts.base).await.map_err(|error| error.to_string())?;
    let (memory, told) = read_memory(shared, facts, &paths).await?;
    let folder = shared.config.managed_settings.clone();
    let managed = tokio::task::spawn_blocking(move || Managed::read(&folder)).await;
    let managed = managed.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let mut files = managed.settings;
    let mut too_large = Vec::new();
    for (name, scope) in FILES {
        let read = shared.repositories.file(facts.id, &facts.base, name, MAX_FILE).await;
        match read.map_err(|error| error.to_string())? {
            Some(bytes) => files.push(SettingsFile { name: name.into(), scope, bytes }),
            None => too_large.extend(passed_over(&paths, name)),
        }
    }
    let (settings, mut remarks) = Settings::read(&files)?;
    remarks.extend(too_large);
    remarks.extend(settings.permissions(&workspace_path(facts), HOME, &[]).1);
    remarks.extend(told);
    let (library, told) = read_library(shared, facts, &paths).await?;
    remarks.extend(told);
    let (servers, told) = read_servers(shared, facts, &paths, (&settings, managed.servers)).await?;
    remarks.extend(told);
    let managed_memory =
        tokio::fs::read_to_string(shared.config.managed_settings.join("CLAUDE.md")).await.ok();
    Ok(Project { memory, managed_memory, settings, library, servers, remarks })
}

/// MCP servers, and what of them cannot be used.
async fn read_servers(
    shared: &Shared,
    facts: &SessionView,
    paths: &[String],
    (settings, operator): (&Settings, Option<Vec<u8>>),
) -> Result<(Declared, Vec<String>), String> {
    let name = ".mcp.json";
    let read = shared.repositories.file(facts.id, &facts.base, name, MAX_FILE).await;
    let repository = read.map_err(|error| error.to_string())?;
    let too_large = if repository.is_none() { passed_over(paths, name) } else { None };
    let only = settings.only_operators_servers();
    let (servers, mut remarks) = Declared::read(repository.as_deref(), operator.as_deref(), only)?;
    remarks.extend(too_large);
    Ok((servers, remarks))
}

/// Commands, skills and the like, and what of them cannot be used.
async fn read_library(
    shared: &Shared,
    facts: &SessionView,
    paths: &[String],
) -> Result<(Library, Vec<String>), String> {
    let wanted = library::wanted(paths.iter().map(String::as_str));
    let files = shared.repositories.files(facts.id, &facts.base, &wanted, MAX_FILE).await;
    let files = files.map_err(|error| error.to_string())?;
    let (library, mut remarks) = Library::read(&files);
    let missing = wanted.iter().filter(|path| !files.iter().any(|(read, _)| read == *path));
    remarks.extend(missing.map(|path| not_read(path)));
    Ok((library, remarks))
}

/// Instructions, and what of them cannot be used. Imports are known only when their file was read, so that it takes
/// as many rounds as they are deep.
async fn read_memory(
    shared: &Shared,
    facts: &SessionView,
    paths: &[String],
) -> Result<(Memory, Vec<String>), String> {
    let sources = memory::Sources::of(paths.iter().map(String::as_str));
    let mut known: HashMap<String, Option<String>> = HashMap::new();
    loop {
        let mut wanted = Vec::new();
        let read = sources.read(|path| match known.get(path) {
            Some(text) => text.clone(),
            None => {
                wanted.push(path.to_owned());
                None
            }
        });
        if wanted.is_empty() {
            return Ok(read);
        }
        let files = shared.repositories.files(facts.id, &facts.base, &wanted, MAX_MEMORY_FILE).await;
        known.extend(wanted.into_iter().map(|path| (path, None)));
        for (path, bytes) in files.map_err(|error| error.to_string())? {
            known.insert(path, String::from_utf8(bytes).ok());
        }
    }
}

fn not_read(path: &str) -> String {
    format!("{path}: it is a link, or larger than {MAX_FILE} bytes; none of it is used")
}

/// A file that is there and is not read must not pass for one that is not there.
fn passed_over(paths: &[String], name: &str) -> Option<String> {
    paths.iter().any(|path| path == name).then(|| not_read(name))
}

//! What the person, the operator and the repository say to our agent, read from this machine.
//!
//! ```text
//!  /etc/claude-code  ·  --settings  ·  .claude/ of the folder  ·  ~/.claude ─▶ settings ──┐
//!  CLAUDE.md and AGENTS.md of the folder, of those above, of ~/.claude ─▶ instructions ───┼─▶ Project + remarks
//!  commands, skills, agents of both ─▶ library  ·  .mcp.json, ~/.claude.json ─▶ servers ──┘
//! ```
//!
//! What a repository holds is taken as it is when the run begins. Everything is bounded: a folder may be anybody's.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use agent::mcp::Declared;
use agent::{Ground, Library, Managed, Memory, Scope, Settings, SettingsFile, library, memory};
use serde_json::Value;

use crate::error::LocalError;
use crate::home::Home;
use crate::options::Options;

/// The operator's folder.
const MANAGED: &str = "/etc/claude-code";

/// The largest file of settings or of the library, of instructions, and of what is known of the person.
const MAX_FILE: u64 = 2 * 1024 * 1024;
const MAX_MEMORY_FILE: u64 = 1024 * 1024;
const MAX_FACTS: u64 = 32 * 1024 * 1024;

/// Entries that are looked at for instructions of folders below, and how deep.
const MAX_ENTRIES: usize = 4_000;
const MAX_DEPTH: usize = 6;

/// Folders that hold what others made.
const PASSED_OVER: [&str; 8] =
    [".git", "node_modules", "target", ".venv", "venv", "dist", "build", "__pycache__"];

/// All of it.
pub(crate) struct Project {
    pub(crate) settings: Settings,
    pub(crate) memory: Memory,
    pub(crate) managed_memory: Option<String>,
    pub(crate) library: Library,
    pub(crate) servers: Declared,
    /// What is wrong with it, a sentence each.
    pub(crate) remarks: Vec<String>,
}

/// Reads what there is for work in this folder.
pub(crate) fn read(home: &Home, folder: &Path, options: &Options) -> Result<Project, LocalError> {
    let facts = facts(home);
    let ground = Ground::Machine { trusted: is_trusted(&facts, folder), user: home.config.clone() };
    let reads = |source: &str| {
        options.setting_sources.as_ref().is_none_or(|sources| sources.iter().any(|one| one == source))
    };
    let operator =
        Managed::read(Path::new(MANAGED)).map_err(|error| LocalError::Settings(error.to_string()))?;
    let mut files = operator.settings;
    files.extend(settings_files(home, folder, options, &reads)?);
    let (settings, mut remarks) = Settings::read_on(&files, ground).map_err(LocalError::Settings)?;
    let workspace = folder.to_string_lossy();
    remarks.extend(settings.permissions(&workspace, &home.home.to_string_lossy(), &[]).1);
    let own = if reads("user") { tree(&home.config, ".claude") } else { BTreeSet::new() };
    let theirs = if reads("project") { below(folder) } else { BTreeSet::new() };
    let (memory, told) = instructions(home, folder, (&own, &theirs), reads("project"));
    remarks.extend(told);
    let own_files = contents(&own, |path| home.config.join(path.strip_prefix(".claude/").unwrap_or(path)));
    let their_files = contents(&theirs, |path| folder.join(path));
    let base = home.config.to_string_lossy();
    let (library, told) = Library::read_with_own(&own_files, &base, &their_files);
    remarks.extend(told);
    let (servers, told) = servers(&facts, folder, options, (&settings, operator.servers))?;
    remarks.extend(told);
    let managed_memory = bytes(&Path::new(MANAGED).join("CLAUDE.md"), MAX_MEMORY_FILE)
        .and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(Project { settings, memory, managed_memory, library, servers, remarks })
}

fn facts(home: &Home) -> Value {
    bytes(&home.facts, MAX_FACTS).and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Whether the person trusts the folder, or one above it.
fn is_trusted(facts: &Value, folder: &Path) -> bool {
    folder
        .ancestors()
        .any(|folder| facts["projects"][folder.to_string_lossy().as_ref()]["hasTrustDialogAccepted"] == true)
}

/// Settings of this run, of the repository and of the person.
fn settings_files(
    home: &Home,
    folder: &Path,
    options: &Options,
    reads: &impl Fn(&str) -> bool,
) -> Result<Vec<SettingsFile>, LocalError> {
    let mut files = Vec::new();
    if let Some(given) = &options.settings {
        let bytes = said_or_read(given)?;
        files.push(SettingsFile { name: "--settings".into(), scope: Scope::CommandLine, bytes });
    }
    let others = [
        ("local", folder.join(".claude/settings.local.json"), ".claude/settings.local.json", Scope::Local),
        ("project", folder.join(".claude/settings.json"), ".claude/settings.json", Scope::Project),
        ("user", home.config.join("settings.json"), "~/.claude/settings.json", Scope::User),
    ];
    for (source, path, name, scope) in others {
        if reads(source)
            && let Some(bytes) = bytes(&path, MAX_FILE)
        {
            files.push(SettingsFile { name: name.into(), scope, bytes });
        }
    }
    Ok(files)
}

/// Instructions: of the person, of the folders above, of this one and those below.
fn instructions(
    home: &Home,
    folder: &Path,
    (own, theirs): (&BTreeSet<String>, &BTreeSet<String>),
    above: bool,
) -> (Memory, Vec<String>) {
    let sources = memory::Sources::of(theirs.iter().map(String::as_str));
    let (mut memory, mut remarks) = sources.read(|path| text_inside(folder, path));
    let mut outer = Vec::new();
    let mut add = |paths: Vec<String>, place: &dyn Fn(&str) -> PathBuf| {
        let sources = memory::Sources::of(paths.iter().map(String::as_str));
        let (read, told) = sources.read(|path| text(&place(path)));
        outer.extend(read.root.into_iter().map(|file| memory::MemoryFile {
            path: place(&file.path).to_string_lossy().into_owned(),
            ..file
        }));
        remarks.extend(told);
    };
    let of_person =
        own.iter().filter(|path| path.starts_with(".claude/rules/") || *path == ".claude/CLAUDE.md");
    add(of_person.cloned().collect(), &|path| {
        home.config.join(path.strip_prefix(".claude/").unwrap_or(path))
    });
    let mut folders: Vec<&Path> = folder.ancestors().skip(1).collect();
    folders.reverse();
    for folder in folders.into_iter().filter(|_| above) {
        let names = ["CLAUDE.md", "AGENTS.md", ".claude/CLAUDE.md", "CLAUDE.local.md"];
        let there = names.into_iter().filter(|name| {
            let path = folder.join(name);
            // Read already, as the person's own.
            is_ours(&path) && path.parent() != Some(&*home.config)
        });
        add(there.map(str::to_owned).collect(), &|path| folder.join(path));
    }
    outer.append(&mut memory.root);
    memory.root = outer;
    (memory, remarks)
}

/// Whether a file above is the person's or root's: a folder that all may write to is nobody's to instruct from.
fn is_ours(path: &Path) -> bool {
    let owner = fs::metadata("/proc/self").map_or(0, |about| about.uid());
    fs::metadata(path).is_ok_and(|about| about.is_file() && (about.uid() == owner || about.uid() == 0))
}

/// Files of the library and rules in a folder that stands as `name` in the paths.
fn tree(folder: &Path, name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if folder.join("CLAUDE.md").is_file() {
        found.insert(format!("{name}/CLAUDE.md"));
    }
    for part in ["rules", "commands", "skills", "agents"] {
        walk(&folder.join(part), &format!("{name}/{part}"), &mut |path| {
            found.insert(path);
        });
    }
    found
}

/// Files of the folder that matter: instructions at any depth, and what `.claude` holds.
fn below(folder: &Path) -> BTreeSet<String> {
    let mut found = tree(&folder.join(".claude"), ".claude");
    walk(folder, "", &mut |path| {
        let name = path.rsplit('/').next().unwrap_or_default();
        if matches!(name, "CLAUDE.md" | "AGENTS.md" | "CLAUDE.local.md") {
            found.insert(path);
        }
    });
    found
}

/// Visits files, folders near the top first, without following a link.
fn walk(root: &Path, name: &str, visit: &mut dyn FnMut(String)) {
    let mut open = VecDeque::from([(root.to_owned(), name.to_owned(), 0)]);
    let mut left = MAX_ENTRIES;
    while let Some((folder, name, depth)) = open.pop_front() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Some(rest) = left.checked_sub(1) else { return };
            left = rest;
            let Ok(own) = entry.file_name().into_string() else { continue };
            let path = if name.is_empty() { own.clone() } else { format!("{name}/{own}") };
            match entry.file_type() {
                Ok(kind) if kind.is_file() => visit(path),
                Ok(kind) if kind.is_dir() && depth < MAX_DEPTH && !PASSED_OVER.contains(&own.as_str()) => {
                    open.push_back((entry.path(), path, depth + 1));
                }
                _ => {}
            }
        }
    }
}

fn contents(paths: &BTreeSet<String>, place: impl Fn(&str) -> PathBuf) -> Vec<(String, Vec<u8>)> {
    let wanted = library::wanted(paths.iter().map(String::as_str));
    let read = |path: String| bytes(&place(&path), MAX_FILE).map(|bytes| (path, bytes));
    wanted.into_iter().filter_map(read).collect()
}

/// MCP servers of the operator, the folder, the person, and this run.
fn servers(
    facts: &Value,
    folder: &Path,
    options: &Options,
    (settings, operator): (&Settings, Option<Vec<u8>>),
) -> Result<(Declared, Vec<String>), LocalError> {
    let repository = bytes(&folder.join(".mcp.json"), MAX_FILE);
    let repository = repository.filter(|_| !options.strict_mcp_config);
    let only = settings.only_operators_servers();
    let (mut servers, mut remarks) =
        Declared::read(repository.as_deref(), operator.as_deref(), only).map_err(LocalError::Settings)?;
    if only {
        return Ok((servers, remarks));
    }
    if !options.strict_mcp_config {
        let here = &facts["projects"][folder.to_string_lossy().as_ref()]["mcpServers"];
        for (known, stronger) in [(&facts["mcpServers"], false), (here, true)] {
            if known.is_object() {
                let text = serde_json::json!({ "mcpServers": known }).to_string();
                remarks.extend(servers.add_own(text.as_bytes(), stronger));
            }
        }
    }
    for given in &options.mcp_config {
        let bytes = said_or_read(given)?;
        servers.add(&bytes).map_err(|why| LocalError::Usage(format!("--mcp-config: {why}")))?;
    }
    Ok((servers, remarks))
}

/// What an option says itself, or the file does that it names.
fn said_or_read(given: &str) -> Result<Vec<u8>, LocalError> {
    if given.trim_start().starts_with('{') {
        return Ok(given.as_bytes().to_vec());
    }
    fs::read(given).map_err(|source| LocalError::File { path: given.into(), source })
}

/// A text of the folder. A link that leads out of it is none: what it imports is sent to the model.
fn text_inside(folder: &Path, path: &str) -> Option<String> {
    let real = folder.join(path).canonicalize().ok()?;
    if real.starts_with(folder) { text(&real) } else { None }
}

fn text(path: &Path) -> Option<String> {
    String::from_utf8(bytes(path, MAX_MEMORY_FILE)?).ok()
}

/// A regular file that is not too large; a pipe in its place would be waited for without end.
fn bytes(path: &Path, most: u64) -> Option<Vec<u8>> {
    let about = fs::metadata(path).ok().filter(|about| about.is_file() && about.len() <= most)?;
    let mut bytes = Vec::with_capacity(usize::try_from(about.len()).ok()?);
    fs::File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

//! What the tools of one session share.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use protocol::event::EventBody;
use protocol::hands::{ExecSpec, Hands};
use protocol::ids::{ExecId, TurnId};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::tasks::Tasks;
use crate::config::AgentConfig;
use crate::library::Library;
use crate::mcp::{self, Servers};
use crate::memory::{Memory, MemoryFile};
use crate::threads::Threads;

/// The source of what the model is told of servers.
const MCP_SERVERS: &str = "MCP servers";

/// SHA-256 of a file's content.
pub(super) type ContentHash = [u8; 32];

/// The hands, and what was learnt while they worked.
pub(crate) struct Workbench {
    pub(crate) hands: Arc<dyn Hands>,
    pub(crate) workspace: String,
    pub(super) scratch: String,
    pub(super) guest_program: Vec<String>,
    tool_env: Vec<(String, String)>,
    /// What searches leave out, as globs over absolute paths.
    pub(super) hidden: Vec<String>,
    pub(super) env_file: Option<String>,
    /// Where the next shell starts.
    cwd: Mutex<String>,
    /// Files as the model last saw them.
    seen: Mutex<HashMap<String, ContentHash>>,
    pub(super) shell: OnceCell<&'static str>,
    pub(crate) tasks: Tasks,
    /// What the repository keeps for agents.
    pub(crate) library: Arc<Library>,
    memory: Arc<Memory>,
    /// MCP servers.
    pub(crate) servers: Arc<Servers>,
    /// What the model was told of them last.
    servers_told: Mutex<Option<String>>,
    pub(crate) threads: Threads,
    /// Instructions that the model was told with a result.
    told: Mutex<HashSet<String>>,
}

impl Workbench {
    pub(crate) fn new(config: &AgentConfig, hidden: Vec<String>) -> Self {
        let workspace = config.workspace.trim_end_matches('/').to_owned();
        Self {
            hands: Arc::clone(&config.hands),
            scratch: config.scratch.trim_end_matches('/').to_owned(),
            guest_program: config.guest_program.clone(),
            tool_env: config.settings.environment(&config.tool_env),
            hidden,
            env_file: config.env_file.clone(),
            cwd: Mutex::new(workspace.clone()),
            seen: Mutex::default(),
            shell: OnceCell::new(),
            tasks: Tasks::default(),
            library: Arc::clone(&config.library),
            memory: Arc::clone(&config.memory),
            servers: Arc::clone(&config.servers),
            servers_told: Mutex::default(),
            told: Mutex::default(),
            threads: Threads::new(config),
            workspace,
        }
    }

    /// Instructions about a file that the model was not told yet; from here on it was.
    pub(crate) fn instructions_about(&self, path: &str) -> Vec<&MemoryFile> {
        let path = self.absolute(path);
        let Some(inside) = path.strip_prefix(&self.workspace).and_then(|rest| rest.strip_prefix('/')) else {
            return Vec::new();
        };
        let mut told = lock(&self.told);
        self.memory.about(inside).into_iter().filter(|file| told.insert(file.path.clone())).collect()
    }

    /// Notes what an event of an earlier process, or of this one, tells of instructions.
    pub(crate) fn remember(&self, body: &EventBody) {
        self.threads.remember(body);
        match body {
            EventBody::ToolResult(result) => {
                let paths = result.detail["instructions"].as_array().into_iter().flatten();
                lock(&self.told).extend(paths.filter_map(|path| path.as_str().map(str::to_owned)));
            }
            // The results that held them may be gone.
            EventBody::ContextCompacted(_) => {
                lock(&self.told).clear();
                *lock(&self.servers_told) = None;
            }
            EventBody::ContextAdded { source, text } if source == MCP_SERVERS => {
                *lock(&self.servers_told) = Some(text.clone());
            }
            _ => {}
        }
    }

    /// What is to be told of servers that was not told yet.
    pub(crate) fn news_of_servers(&self) -> Option<EventBody> {
        let text = mcp::notice(&self.servers)?;
        let is_news = lock(&self.servers_told).as_ref() != Some(&text);
        is_news.then(|| EventBody::ContextAdded { source: MCP_SERVERS.into(), text })
    }

    /// Where what is too long for the model of a call's result is kept.
    pub(crate) fn scratch_file(&self, call: &str) -> String {
        format!("{}/output-{}.txt", self.scratch, exec_of(call))
    }

    /// Where hooks leave variables.
    pub(crate) fn env_file(&self) -> Option<&str> {
        self.env_file.as_deref()
    }

    pub(crate) fn cwd(&self) -> String {
        lock(&self.cwd).clone()
    }

    /// Sets where the next shell starts; a folder outside of the workspace is not taken.
    pub(crate) fn set_cwd(&self, folder: &str) -> bool {
        let inside = folder == self.workspace
            || folder.strip_prefix(&self.workspace).is_some_and(|rest| rest.starts_with('/'));
        if inside {
            folder.clone_into(&mut lock(&self.cwd));
        }
        inside
    }

    /// Sets the shell back to the workspace.
    pub(super) fn reset_cwd(&self) {
        self.workspace.clone_into(&mut lock(&self.cwd));
    }

    pub(super) fn seen(&self, path: &str) -> Option<ContentHash> {
        lock(&self.seen).get(path).copied()
    }

    pub(super) fn saw(&self, path: &str, hash: ContentHash) {
        lock(&self.seen).insert(path.to_owned(), hash);
    }

    /// The absolute form of a path that a model gave, `.` and `..` resolved.
    pub(crate) fn absolute(&self, path: &str) -> String {
        let base = if path.starts_with('/') { String::new() } else { self.cwd() };
        let mut parts: Vec<&str> = Vec::new();
        for part in base.split('/').chain(path.split('/')) {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        format!("/{}", parts.join("/"))
    }

    /// The path as people read it: relative to the workspace where it is inside.
    pub(crate) fn shown<'a>(&self, path: &'a str) -> &'a str {
        path.strip_prefix(&self.workspace).and_then(|rest| rest.strip_prefix('/')).unwrap_or(path)
    }

    /// The command of a call: kept, under an id that follows from the call's, so that it is found again
    /// after a crash.
    pub(super) fn spec_of(&self, call: &str, argv: Vec<String>) -> ExecSpec {
        ExecSpec { exec: exec_of(call), kept: true, ..self.spec(argv) }
    }

    /// The outcome of a call is durable: nobody will look for its command again.
    pub(crate) fn settle(&self, call: &str) {
        self.hands.release(exec_of(call));
    }

    /// A command in the shell's folder, with the session's variables.
    pub(crate) fn spec(&self, argv: Vec<String>) -> ExecSpec {
        ExecSpec { env: self.tool_env.clone(), ..ExecSpec::new(new_exec(), argv, self.cwd()) }
    }
}

/// The guard of a lock whose holder may have panicked: what it guards is replaced whole, never half.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The execution of a call.
pub(super) fn exec_of(call: &str) -> ExecId {
    let (time, random) = parts_of(call);
    ExecId::from_parts(time, random)
}

/// What stands for a turn in the thread of a call.
pub(crate) fn turn_of(call: &str) -> TurnId {
    let (time, random) = parts_of(call);
    TurnId::from_parts(time, random)
}

fn parts_of(call: &str) -> (u64, u128) {
    let digest: [u8; 32] = Sha256::digest(call).into();
    let number = u128::from_be_bytes(std::array::from_fn(|at| digest[at]));
    (u64::try_from(number >> 80).unwrap_or(0), number & ((1 << 80) - 1))
}

pub(crate) fn new_exec() -> ExecId {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ExecId::from_parts(u64::try_from(now.as_millis()).unwrap_or(0), fastrand::u128(..))
}

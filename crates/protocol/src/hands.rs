//! Hands: what runs an agent's tools.
//!
//! The sandbox's guest implements them over the guest wire; later the agent's local mode does so on
//! the user's own machine. Paths are absolute paths inside the place where the tools run.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::ids::ExecId;

/// Why hands could not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum HandsError {
    /// No such file or folder, or program.
    #[error("{path}: no such file or directory")]
    NotFound { path: String },
    /// It is there but is not to be had.
    #[error("{path}: permission denied")]
    Denied { path: String },
    /// It is not what the call needs: a folder for a file, a device, a file where a folder should be.
    #[error("{path}: {reason}")]
    WrongKind { path: String, reason: String },
    /// A cap of the sandbox or of the call was hit; says which.
    #[error("{0}")]
    Limit(String),
    /// The operating system's own words.
    #[error("{path}: {reason}")]
    Io { path: String, reason: String },
    /// The sandbox does not answer any more: dead, or never there.
    #[error("the sandbox is gone: {0}")]
    Gone(String),
}

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Chosen by the caller; unique.
    pub exec: ExecId,
    /// Program and arguments; a program without `/` is looked up in `PATH`.
    pub argv: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// Added to the sandbox's own environment.
    pub env: Vec<(String, String)>,
    /// Whether standard input is a pipe that the caller writes; else `/dev/null`.
    pub stdin: bool,
    /// After so long everything that the command started is killed.
    pub timeout: Option<Duration>,
    /// A terminal of its own for a person at the other end: both outputs come as one.
    pub terminal: Option<TerminalSize>,
    /// Whether what it starts may gain rights that it does not have, by setuid programs and the like.
    pub new_privileges: bool,
    /// Whether the hands journal what it says until it is [released](Hands::release), so that a caller
    /// that died can attach again. Its id is then never used for another command.
    pub kept: bool,
}

impl ExecSpec {
    /// A command without input, terminal and end of time, and with the sandbox's own environment.
    #[must_use]
    pub fn new(exec: ExecId, argv: Vec<String>, cwd: impl Into<String>) -> Self {
        Self {
            exec,
            argv,
            cwd: cwd.into(),
            env: Vec::new(),
            stdin: false,
            timeout: None,
            terminal: None,
            new_privileges: false,
            kept: false,
        }
    }
}

/// How large a terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// What a running command says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEvent {
    /// Bytes of standard output.
    Stdout(Vec<u8>),
    /// Bytes of standard error.
    Stderr(Vec<u8>),
    /// It ended; nothing follows.
    Exited(ExecEnd),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecEnd {
    /// Exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether its timeout did.
    pub timed_out: bool,
    /// The limit of the sandbox that something ran into while it ran.
    pub exceeded: Option<Exceeded>,
}

/// A limit that was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exceeded {
    /// The kernel killed something for memory; the limit in bytes.
    Memory(u64),
    /// The disk is full; its size in bytes.
    Disk(u64),
    /// No further process could be started; how many there may be.
    Processes(u32),
}

impl std::fmt::Display for Exceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory(bytes) => write!(f, "{} memory limit", Size(*bytes)),
            Self::Disk(bytes) => write!(f, "{} disk limit", Size(*bytes)),
            Self::Processes(count) => write!(f, "limit of {count} processes"),
        }
    }
}

/// Bytes as people say them: `16 GB`, `1.5 MB`.
struct Size(u64);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
        match UNITS.iter().find(|(unit, _)| self.0 >= *unit) {
            Some((unit, name)) => {
                let tenths = self.0 * 10 / unit;
                match tenths % 10 {
                    0 => write!(f, "{} {name}", tenths / 10),
                    tenth => write!(f, "{}.{tenth} {name}", tenths / 10),
                }
            }
            None => write!(f, "{} bytes", self.0),
        }
    }
}

impl ExecEnd {
    /// Exit code 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }
}

/// A signal that can be sent to a command and all that it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecSignal {
    /// SIGINT to the command's process group.
    Interrupt,
    /// SIGTERM to the command's process group.
    Terminate,
    /// SIGKILL to everything that the command started, also what it daemonised.
    Kill,
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChunk {
    /// The bytes, at most as many as were asked for.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// The whole file's size when it was read.
    pub size: u64,
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, where links are not followed.
    Symlink,
    /// A device, pipe or socket.
    Other,
}

/// Facts of a path, links followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStat {
    /// What it is.
    pub kind: FileKind,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Last change, unix milliseconds.
    pub modified_ms: i64,
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirEntry {
    /// Name without path; bytes that are no UTF-8 are replaced.
    pub name: String,
    /// What it is, links not followed.
    pub kind: FileKind,
}

/// The place where tools run.
#[async_trait]
pub trait Hands: Send + Sync {
    /// Starts a command. Its output waits inside until it is taken from the [`Execution`].
    async fn start(&self, spec: ExecSpec) -> Result<Box<dyn Execution>, HandsError>;

    /// Takes up a kept command that was started before, perhaps by a process that died: all that it
    /// said comes again. `NotFound` says that it never began; hands that keep nothing always say so.
    async fn attach(&self, exec: ExecId) -> Result<Box<dyn Execution>, HandsError> {
        Err(HandsError::NotFound { path: exec.to_string() })
    }

    /// Says that the outcome of a kept command is safe, and its journal is not needed any more.
    fn release(&self, _exec: ExecId) {}

    /// Reads at most `limit` bytes from `offset`. Follows links; refuses what is no regular file.
    async fn read_file(&self, path: &str, offset: u64, limit: u64) -> Result<FileChunk, HandsError>;

    /// Replaces a file's content in one step and keeps its permissions; makes missing folders.
    /// Follows links, so that the file behind a link changes and the link stays.
    async fn write_file(&self, path: &str, bytes: &[u8]) -> Result<(), HandsError>;

    /// Facts of a path, links followed.
    async fn stat(&self, path: &str) -> Result<FileStat, HandsError>;

    /// Entries of a folder, sorted by name, at most 10,000.
    async fn list(&self, path: &str) -> Result<Vec<DirEntry>, HandsError>;
}

/// A running command.
#[async_trait]
pub trait Execution: Send {
    /// The next thing that it says; [`ExecEvent::Exited`] is the last. Dropped before it is ready it
    /// loses nothing, so that it can be waited for beside a signal or a deadline.
    async fn next(&mut self) -> Result<ExecEvent, HandsError>;

    /// Writes to its standard input.
    async fn write_stdin(&mut self, bytes: &[u8]) -> Result<(), HandsError>;

    /// Closes its standard input.
    async fn close_stdin(&mut self) -> Result<(), HandsError>;

    /// Makes its terminal another size; nothing happens where it has none.
    async fn resize(&self, size: TerminalSize) -> Result<(), HandsError>;

    /// Sends a signal.
    async fn signal(&self, signal: ExecSignal) -> Result<(), HandsError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_said_as_people_say_them() {
        for (exceeded, words) in [
            (Exceeded::Memory(16_000_000_000), "16 GB memory limit"),
            (Exceeded::Memory(512 * 1024 * 1024), "536.8 MB memory limit"),
            (Exceeded::Disk(30_000_000_000), "30 GB disk limit"),
            (Exceeded::Disk(999), "999 bytes disk limit"),
            (Exceeded::Processes(4_096), "limit of 4096 processes"),
        ] {
            assert_eq!(exceeded.to_string(), words);
        }
    }
}

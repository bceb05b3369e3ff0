//! Hands for one's own machine.
//!
//! ```text
//!   LocalHands ── first use ──▶ a process of its own, with a socket as its standard input
//!       │                            │ commands, each a session of its own; files
//!       └── GuestLink ═══════════════╡
//!           dropped, or we die ──────┴─▶ it kills all that it started, and ends
//! ```
//!
//! The executor is that of a sandbox (`guest::machine`), over the same wire. Whether a command or a change of a file
//! may happen is decided before it comes here.

use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use protocol::hands::{DirEntry, ExecSpec, Execution, FileChunk, FileStat, Hands, HandsError};
use protocol::ids::ExecId;
use sandbox::guest_link::GuestLink;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long the process may take to kill what it started.
const ENDING: Duration = Duration::from_secs(6);

/// Variables that no command is given, nor anything else that a repository names: by these the agent asks the model.
pub(crate) const KEPT_BACK: [&str; 3] =
    ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS"];

/// Hands on this machine, begun when they are first needed.
pub struct LocalHands {
    /// The program that they are, and its arguments.
    program: Vec<String>,
    held: Mutex<Option<Held>>,
}

struct Held {
    link: GuestLink,
    child: Child,
}

impl LocalHands {
    /// Hands that are this program with these arguments.
    #[must_use]
    pub fn new(program: Vec<String>) -> Self {
        Self { program, held: Mutex::default() }
    }

    /// The link; hands that died are begun anew.
    async fn link(&self) -> Result<GuestLink, HandsError> {
        let mut held = self.held.lock().await;
        if let Some(Held { link, child }) = held.as_mut()
            && matches!(child.try_wait(), Ok(None))
        {
            return Ok(link.clone());
        }
        *held = None;
        let begun = self.begin().await?;
        Ok(held.insert(begun).link.clone())
    }

    async fn begin(&self) -> Result<Held, HandsError> {
        let failed = |error: std::io::Error| HandsError::Io {
            path: self.program.first().cloned().unwrap_or_default(),
            reason: format!("the process that runs commands cannot be started: {error}"),
        };
        let [program, arguments @ ..] = self.program.as_slice() else {
            return Err(HandsError::NotFound { path: String::new() });
        };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C at the terminal is for the agent, which says what becomes of commands.
            .process_group(0);
        for name in KEPT_BACK {
            command.env_remove(name);
        }
        let child = command.spawn().map_err(failed)?;
        // Closes our copy of their end, so that their death is seen.
        drop(command);
        let link = GuestLink::to_machine(UnixStream::from_std(ours).map_err(failed)?).await?;
        Ok(Held { link, child })
    }

    /// Ends everything that runs, and waits for it.
    pub async fn end(&self) {
        let Some(Held { link, mut child }) = self.held.lock().await.take() else { return };
        link.give_up("the session is over");
        drop(link);
        if timeout(ENDING, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
    }
}

/// There is no sandbox here that could be gone.
fn here<T>(outcome: Result<T, HandsError>) -> Result<T, HandsError> {
    outcome.map_err(|error| match error {
        HandsError::Gone(reason) => HandsError::Io {
            path: "the process that runs commands".into(),
            reason: format!("{reason}; what ran in it is gone, and the next call begins a new one"),
        },
        error => error,
    })
}

#[async_trait]
impl Hands for LocalHands {
    async fn start(&self, spec: ExecSpec) -> Result<Box<dyn Execution>, HandsError> {
        here(here(self.link().await)?.start(spec).await)
    }

    async fn attach(&self, exec: ExecId) -> Result<Box<dyn Execution>, HandsError> {
        here(here(self.link().await)?.attach(exec).await)
    }

    fn release(&self, exec: ExecId) {
        // Held only while hands begin, when there is nothing to release.
        if let Ok(held) = self.held.try_lock()
            && let Some(held) = held.as_ref()
        {
            held.link.release(exec);
        }
    }

    async fn read_file(&self, path: &str, offset: u64, limit: u64) -> Result<FileChunk, HandsError> {
        here(here(self.link().await)?.read_file(path, offset, limit).await)
    }

    async fn write_file(&self, path: &str, bytes: &[u8]) -> Result<(), HandsError> {
        here(here(self.link().await)?.write_file(path, bytes).await)
    }

    async fn stat(&self, path: &str) -> Result<FileStat, HandsError> {
        here(here(self.link().await)?.stat(path).await)
    }

    async fn list(&self, path: &str) -> Result<Vec<DirEntry>, HandsError> {
        here(here(self.link().await)?.list(path).await)
    }
}

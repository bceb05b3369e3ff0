//! Hands on a folder of this machine: real processes, real files.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use protocol::hands::{
    DirEntry, Exceeded, ExecEnd, ExecEvent, ExecSignal, ExecSpec, Execution, FileChunk, FileKind, FileStat,
    Hands, HandsError, TerminalSize,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc;

/// After the end of a command, so long without output is the end of its output.
const QUIET: Duration = Duration::from_millis(100);

type Spoil = fn(&[u8]) -> Vec<u8>;

#[derive(Default)]
pub(crate) struct LocalHands {
    /// Runs in place of `patchyard-guest`.
    pub(crate) guest: Option<PathBuf>,
    /// Makes every call answer that the sandbox is gone.
    pub(crate) gone: Mutex<bool>,
    /// Added to the end that a command reports.
    pub(crate) exceeded: Option<Exceeded>,
    /// Acts as an image without bash.
    pub(crate) no_bash: bool,
    /// Spoils what `write_file` is given.
    pub(crate) spoil: Option<Spoil>,
    pub(crate) started: Mutex<Vec<ExecSpec>>,
}

impl LocalHands {
    fn check(&self) -> Result<(), HandsError> {
        if *self.gone.lock().unwrap() { Err(HandsError::Gone("it was killed".into())) } else { Ok(()) }
    }
}

fn error(path: &str, error: &io::Error) -> HandsError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => HandsError::NotFound { path },
        io::ErrorKind::PermissionDenied => HandsError::Denied { path },
        _ => HandsError::Io { path, reason: error.to_string() },
    }
}

#[async_trait]
impl Hands for LocalHands {
    async fn start(&self, mut spec: ExecSpec) -> Result<Box<dyn Execution>, HandsError> {
        self.check()?;
        self.started.lock().unwrap().push(spec.clone());
        if !fs::exists(&spec.cwd).unwrap() {
            return Err(HandsError::NotFound { path: spec.cwd });
        }
        if let (true, Some(guest)) = (spec.argv[0].ends_with("/patchyard-guest"), &self.guest) {
            spec.argv[0] = guest.to_str().unwrap().to_owned();
        }
        let mut child = Command::new(&spec.argv[0])
            .args(&spec.argv[1..])
            .current_dir(&spec.cwd)
            .envs(spec.env.clone())
            .stdin(if spec.stdin { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|cause| error(&spec.argv[0], &cause))?;
        let group = Pid::from_raw(child.id().unwrap().try_into().unwrap());
        let stdin = child.stdin.take();
        let (sender, events) = mpsc::unbounded_channel();
        let out = tokio::spawn(pump(child.stdout.take().unwrap(), sender.clone(), ExecEvent::Stdout));
        let err = tokio::spawn(pump(child.stderr.take().unwrap(), sender.clone(), ExecEvent::Stderr));
        let exceeded = self.exceeded;
        tokio::spawn(async move {
            let limit = spec.timeout.unwrap_or(Duration::from_secs(3_600));
            let (status, timed_out) = match tokio::time::timeout(limit, child.wait()).await {
                Ok(status) => (status.unwrap(), false),
                Err(_) => {
                    let _ = killpg(group, Signal::SIGKILL);
                    (child.wait().await.unwrap(), true)
                }
            };
            // What left itself behind may hold the pipes; what was written before has arrived by then.
            for pump in [out, err] {
                let abort = pump.abort_handle();
                if tokio::time::timeout(QUIET, pump).await.is_err() {
                    abort.abort();
                }
            }
            let end = ExecEnd { code: status.code(), signal: status.signal(), timed_out, exceeded };
            let _ = sender.send(ExecEvent::Exited(end));
        });
        Ok(Box::new(LocalExecution { events, group, stdin }))
    }

    async fn read_file(&self, path: &str, offset: u64, limit: u64) -> Result<FileChunk, HandsError> {
        self.check()?;
        let fail = |cause| error(path, &cause);
        let metadata = fs::metadata(path).map_err(fail)?;
        if !metadata.is_file() {
            return Err(HandsError::WrongKind { path: path.into(), reason: "is a directory".into() });
        }
        let bytes = fs::read(path).map_err(fail)?;
        let from = usize::try_from(offset).unwrap().min(bytes.len());
        let to = (from + usize::try_from(limit).unwrap()).min(bytes.len());
        Ok(FileChunk { bytes: bytes[from..to].to_vec(), size: bytes.len() as u64 })
    }

    async fn write_file(&self, path: &str, bytes: &[u8]) -> Result<(), HandsError> {
        self.check()?;
        let bytes = self.spoil.map_or_else(|| bytes.to_vec(), |spoil| spoil(bytes));
        let fail = |cause| error(path, &cause);
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        fs::create_dir_all(real.parent().unwrap()).map_err(fail)?;
        let mode = fs::metadata(&real).map_or(0o644, |metadata| metadata.permissions().mode());
        let part = real.with_extension("part");
        fs::write(&part, bytes).map_err(fail)?;
        fs::set_permissions(&part, fs::Permissions::from_mode(mode)).map_err(fail)?;
        fs::rename(&part, &real).map_err(fail)
    }

    async fn stat(&self, path: &str) -> Result<FileStat, HandsError> {
        self.check()?;
        if self.no_bash && path == "/bin/bash" {
            return Err(HandsError::NotFound { path: path.into() });
        }
        let metadata = fs::metadata(path).map_err(|cause| error(path, &cause))?;
        let kind = if metadata.is_dir() { FileKind::Directory } else { FileKind::File };
        Ok(FileStat { kind, size: metadata.len(), mode: metadata.permissions().mode(), modified_ms: 0 })
    }

    async fn list(&self, path: &str) -> Result<Vec<DirEntry>, HandsError> {
        Err(HandsError::Limit(format!("{path}: no tool lists folders")))
    }
}

async fn pump(
    mut pipe: impl AsyncRead + Unpin,
    sender: mpsc::UnboundedSender<ExecEvent>,
    event: fn(Vec<u8>) -> ExecEvent,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        if sender.send(event(buffer[..count].to_vec())).is_err() {
            break;
        }
    }
}

struct LocalExecution {
    events: mpsc::UnboundedReceiver<ExecEvent>,
    group: Pid,
    stdin: Option<ChildStdin>,
}

#[async_trait]
impl Execution for LocalExecution {
    async fn next(&mut self) -> Result<ExecEvent, HandsError> {
        self.events.recv().await.ok_or_else(|| HandsError::Gone("no more events".into()))
    }

    async fn write_stdin(&mut self, bytes: &[u8]) -> Result<(), HandsError> {
        let Some(stdin) = &mut self.stdin else { return Err(HandsError::Limit("it takes no input".into())) };
        stdin.write_all(bytes).await.map_err(|cause| error("standard input", &cause))
    }

    async fn close_stdin(&mut self) -> Result<(), HandsError> {
        self.stdin = None;
        Ok(())
    }

    async fn resize(&self, _size: TerminalSize) -> Result<(), HandsError> {
        Ok(())
    }

    async fn signal(&self, signal: ExecSignal) -> Result<(), HandsError> {
        let signal = match signal {
            ExecSignal::Interrupt => Signal::SIGINT,
            ExecSignal::Terminate => Signal::SIGTERM,
            ExecSignal::Kill => Signal::SIGKILL,
        };
        let _ = killpg(self.group, signal);
        Ok(())
    }
}

impl Drop for LocalExecution {
    fn drop(&mut self) {
        let _ = killpg(self.group, Signal::SIGKILL);
    }
}

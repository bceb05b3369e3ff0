//! Starts one command.
//!
//! ```text
//!   fork ─▶ own session, own terminal where asked for · in a sandbox: root, as process 1 is not, no new rights,
//!           killed for memory before process 1, no tracing right · no descriptor but 0, 1, 2 ─▶ exec
//! ```

#![allow(unsafe_code)]

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::Pid;
use protocol::hands::{ExecSpec, HandsError};
use tokio::net::unix::pipe;

use crate::environment::{self, MARKER};
use crate::ground::Ground;
use crate::terminal::Terminal;

/// A command that runs, with our ends of its pipes.
#[derive(Debug)]
pub struct Spawned {
    /// Its main process, which leads its session and group.
    pub pid: Pid,
    /// Where to write its input, when it was asked for.
    pub stdin: Option<pipe::Sender>,
    /// Its output.
    pub stdout: pipe::Receiver,
    /// Its error output; on a terminal both are one.
    pub stderr: Option<pipe::Receiver>,
    /// Its terminal.
    pub terminal: Option<Terminal>,
}

/// Starts what the spec says, as commands are here. Never waits for more than the start itself.
pub fn spawn(spec: &ExecSpec, ground: Ground) -> Result<Spawned, HandsError> {
    let [program, arguments @ ..] = spec.argv.as_slice() else {
        return Err(HandsError::WrongKind { path: String::new(), reason: "no program given".into() });
    };
    check_folder(&spec.cwd)?;
    let io = |error: io::Error| HandsError::Io { path: program.clone(), reason: error.to_string() };
    let terminal = spec.terminal.map(Terminal::open).transpose().map_err(io)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(&spec.cwd)
        .env_clear()
        .envs(environment::base(ground))
        .envs(spec.env.iter().filter(|(name, _)| !name.is_empty() && !name.contains(['=', '\0'])).cloned())
        .env(MARKER, spec.exec.to_string())
        .stdin(if spec.stdin { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some((_, theirs)) = &terminal {
        let end = || theirs.try_clone().map(Stdio::from).map_err(io);
        command.env("TERM", "xterm-256color").stdin(end()?).stdout(end()?).stderr(end()?);
    }
    let (has_terminal, new_privileges) = (terminal.is_some(), spec.new_privileges);
    // SAFETY: between fork and exec, `in_child` only makes system calls on plain values: it takes no
    // lock and allocates nothing.
    unsafe { command.pre_exec(move || in_child(has_terminal, new_privileges, ground)) };
    let mut child = command.spawn().map_err(|error| refusal(program, &error))?;
    let pid = Pid::from_raw(child.id().cast_signed());
    if let Some((ours, _)) = terminal {
        let (stdin, stdout) = (Some(ours.input().map_err(io)?), ours.output().map_err(io)?);
        return Ok(Spawned { pid, stdin, stdout, stderr: None, terminal: Some(ours) });
    }
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(HandsError::Io { path: program.clone(), reason: "it has no output pipes".into() });
    };
    Ok(Spawned {
        pid,
        stdin: child
            .stdin
            .take()
            .map(|stdin| pipe::Sender::from_owned_fd(OwnedFd::from(stdin)))
            .transpose()
            .map_err(io)?,
        stdout: pipe::Receiver::from_owned_fd(stdout.into()).map_err(io)?,
        stderr: Some(pipe::Receiver::from_owned_fd(stderr.into()).map_err(io)?),
        terminal: None,
    })
}

/// Runs in the child. The standard library has reset the signal mask and SIGPIPE already.
fn in_child(has_terminal: bool, new_privileges: bool, ground: Ground) -> io::Result<()> {
    let check = |result: libc::c_int| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: plain system calls on plain values, safe between fork and exec.
    unsafe {
        check(libc::setsid())?;
        if has_terminal {
            check(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
        }
        ground.settle_command(new_privileges)?;
        // All descriptors close at the exec; at once they cannot, because the standard library
        // reports a failed exec through one of them.
        libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int);
    }
    Ok(())
}

fn check_folder(cwd: &str) -> Result<(), HandsError> {
    if !cwd.starts_with('/') {
        return Err(HandsError::WrongKind { path: cwd.to_owned(), reason: "not an absolute path".into() });
    }
    match std::fs::metadata(Path::new(cwd)) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(HandsError::WrongKind { path: cwd.to_owned(), reason: "not a directory".into() }),
        Err(error) => Err(refusal(cwd, &error)),
    }
}

/// The failure to start `path`, in the words of the contract.
fn refusal(path: &str, error: &io::Error) -> HandsError {
    let path = path.to_owned();
    match error.raw_os_error() {
        Some(libc::EAGAIN) => HandsError::Limit(
            "process limit reached: no further process fits into this sandbox; end some first".into(),
        ),
        Some(libc::ENOMEM) => HandsError::Limit(
            "memory limit reached: no memory for a further process; end some processes first".into(),
        ),
        Some(libc::E2BIG) => {
            HandsError::Limit("arguments and environment are too long; pass long text in a file".into())
        }
        Some(libc::EMFILE | libc::ENFILE) => HandsError::Limit(
            "too many commands run in this sandbox: no descriptor is left; end some first".into(),
        ),
        _ => match error.kind() {
            ErrorKind::NotFound => HandsError::NotFound { path },
            ErrorKind::PermissionDenied => HandsError::Denied { path },
            _ => HandsError::Io { path, reason: error.to_string() },
        },
    }
}

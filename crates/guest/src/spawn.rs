//! Starts one command.
//!
//! ```text
//!   fork ─▶ own session · killed for memory before process 1 · no tracing right · no descriptor
//!           but 0, 1, 2 ─▶ exec
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

/// How much sooner than process 1 the kernel kills a command when memory runs out.
const OOM_SCORE: &[u8] = b"500";

/// `CAP_SYS_PTRACE`: process 1 holds it to read every environment; commands do not get it.
const CAP_SYS_PTRACE: libc::c_ulong = 19;

/// A command that runs, with our ends of its pipes.
#[derive(Debug)]
pub struct Spawned {
    /// Its main process, which leads its session and group.
    pub pid: Pid,
    /// Where to write its input, when it was asked for.
    pub stdin: Option<pipe::Sender>,
    /// Its output.
    pub stdout: pipe::Receiver,
    /// Its error output.
    pub stderr: pipe::Receiver,
}

/// Starts what the spec says. Never waits for more than the start itself.
pub fn spawn(spec: &ExecSpec) -> Result<Spawned, HandsError> {
    let [program, arguments @ ..] = spec.argv.as_slice() else {
        return Err(HandsError::WrongKind { path: String::new(), reason: "no program given".into() });
    };
    check_folder(&spec.cwd)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(&spec.cwd)
        .env_clear()
        .envs(environment::base())
        .envs(spec.env.iter().filter(|(name, _)| !name.is_empty() && !name.contains(['=', '\0'])).cloned())
        .env(MARKER, spec.exec.to_string())
        .stdin(if spec.stdin { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // SAFETY: between fork and exec, `in_child` only makes system calls on constants: it takes no
    // lock and allocates nothing.
    unsafe { command.pre_exec(in_child) };
    let mut child = command.spawn().map_err(|error| refusal(program, &error))?;
    let io = |error: io::Error| HandsError::Io { path: program.clone(), reason: error.to_string() };
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(HandsError::Io { path: program.clone(), reason: "it has no output pipes".into() });
    };
    Ok(Spawned {
        pid: Pid::from_raw(child.id().cast_signed()),
        stdin: child
            .stdin
            .take()
            .map(|stdin| pipe::Sender::from_owned_fd(OwnedFd::from(stdin)))
            .transpose()
            .map_err(io)?,
        stdout: pipe::Receiver::from_owned_fd(stdout.into()).map_err(io)?,
        stderr: pipe::Receiver::from_owned_fd(stderr.into()).map_err(io)?,
    })
}

/// Runs in the child. The standard library has reset the signal mask and SIGPIPE already.
fn in_child() -> io::Result<()> {
    // SAFETY: plain system calls on constants, safe between fork and exec.
    unsafe {
        if libc::setsid() < 0 {
            return Err(io::Error::last_os_error());
        }
        let score = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if score >= 0 {
            // Raising needs no right; a failure leaves the command as likely to die as process 1.
            libc::write(score, OOM_SCORE.as_ptr().cast(), OOM_SCORE.len());
        }
        libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_PTRACE, 0, 0, 0);
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

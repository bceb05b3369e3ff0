//! Going into a user namespace.
//!
//! ```text
//!   we ── fork ─▶ child, outside: waits ─▶ newuidmap, newgidmap on us ─▶ says how it went, ends
//!    └─ unshare ──────────▶ go ──────────────┘                             │
//!    └─ waits ◀────────────────────────────────────────────────────────────┘
//!
//!   or: record of a living sandbox ─▶ its process 1 ─▶ its namespace ─▶ the parent that is below ours ─▶ in
//! ```
//!
//! A sandbox's namespace is a child of the one that its `sandbox-host` was in, and only who is in that,
//! or above, has rights over it. So a later `sandbox-host` goes into the same one.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pipe2, setgroups};
use serde_json::Value;

use super::User;
use super::account::Caller;
use super::missing::{AllMissing, Missing};
use super::ranges::{self, Hint, Run, SIZE};
use crate::host::record::Record;

/// `NS_GET_PARENT`: the namespace that one was made in.
const GET_PARENT: libc::c_ulong = 0xb702;

/// The most namespaces between ours and a sandbox's.
const DEPTH: usize = 8;

/// What writes the maps, with the file that it asks.
const PROGRAMS: [(&str, &str); 2] = [("newuidmap", "/etc/subuid"), ("newgidmap", "/etc/subgid")];

/// Goes into the namespace of the sandboxes of this data directory, or into one of our own.
pub(super) fn enter(data: &Path) -> Result<User, AllMissing> {
    let uid = nix::unistd::geteuid().as_raw();
    let caller = Caller::find().map_err(|missing| AllMissing::one(uid.to_string(), missing))?;
    let failed = |missing| AllMissing::one(format!("`{}`", caller.name), missing);
    let state = caller.state();
    let hint = Hint::of(&caller.name);
    match of_the_living(data, state.as_deref().ok()) {
        Some(namespace) => {
            let joined = namespace.and_then(|namespace| Ok(setns(namespace, CloneFlags::CLONE_NEWUSER)?));
            joined.map_err(|source| failed(Missing::Rejoin { source }))?;
        }
        None => {
            let [users, groups] = PROGRAMS.map(|(_, file)| ranges::of_user(file, &caller.name, uid));
            let programs = prepared(&caller, &users, &groups, &hint)?;
            make(&caller, &programs, [&users, &groups]).map_err(failed)?;
        }
    }
    // Groups of the user's would be rights that nothing here needs.
    let dropped = setgroups(&[]).map_err(io::Error::from);
    dropped.map_err(|source| failed(Missing::Io { what: "give up groups", source }))?;
    crate::mounts::enter_own_namespace().map_err(|source| failed(Missing::Mount { source }))?;
    let state = state.map_err(failed)?;
    Ok(User { uid, state, more: hint.to_string() })
}

/// Whether all is there that a namespace needs; the two programs.
fn prepared(caller: &Caller, users: &[Run], groups: &[Run], hint: &Hint) -> Result<[PathBuf; 2], AllMissing> {
    let mut missing = Vec::new();
    let programs = PROGRAMS.map(|(name, _)| find(name).ok_or(Missing::Program(name)));
    for ((_, file), runs) in PROGRAMS.iter().zip([users, groups]) {
        if runs.is_empty() {
            missing.push(Missing::Range { file, name: caller.name.clone(), hint: hint.clone() });
        }
    }
    if missing.is_empty() && ranges::room(users, groups) == 0 {
        missing.push(Missing::TooFew { name: caller.name.clone(), least: SIZE + 1, hint: hint.clone() });
    }
    match programs {
        [Ok(first), Ok(second)] if missing.is_empty() => Ok([first, second]),
        programs => {
            let mut all: Vec<_> = programs.into_iter().filter_map(Result::err).collect();
            // One package holds both.
            all.truncate(1);
            all.extend(missing);
            Err(AllMissing { who: format!("`{}`", caller.name), missing: all })
        }
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let folders = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin"];
    folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

/// Makes a namespace and has its maps written.
fn make(caller: &Caller, programs: &[PathBuf; 2], runs: [&[Run]; 2]) -> Result<(), Missing> {
    let io = |what| move |source: nix::Error| Missing::Io { what, source: source.into() };
    let (go, told) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(io("make a pipe"))?;
    let (answer, said) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(io("make a pipe"))?;
    let me = std::process::id();
    // SAFETY: this process has no other thread yet, so the child may do what any process may.
    match unsafe { fork() }.map_err(io("start a process"))? {
        ForkResult::Child => {
            drop((told, answer));
            let own = [caller.uid.as_raw(), caller.gid.as_raw()];
            let words = if File::from(go).read(&mut [0]).is_ok_and(|read| read == 1) {
                (0..2).find_map(|at| write_map(&programs[at], me, &ranges::map(own[at], runs[at])))
            } else {
                None
            };
            let _ = File::from(said).write_all(words.unwrap_or_default().as_bytes());
            // SAFETY: ends this process, at once and without what the parent has to do at its own end.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop((go, said));
            let made = unshare(CloneFlags::CLONE_NEWUSER);
            let mut words = String::new();
            if made.is_ok() {
                // A child that is dead says nothing below, which is looked at.
                let _ = File::from(told).write_all(&[1]);
                let _ = File::from(answer).read_to_string(&mut words);
            } else {
                drop(told);
            }
            let _ = waitpid(child, None);
            made.map_err(|source| Missing::Namespace { source: source.into() })?;
            if words.is_empty() && nix::unistd::geteuid().is_root() {
                Ok(())
            } else {
                Err(Missing::Map(words))
            }
        }
    }
}

/// Runs one of the two programs; its words when it fails.
fn write_map(program: &Path, process: u32, map: &[String]) -> Option<String> {
    let failed = |words: &dyn std::fmt::Display| Some(format!("{}: {words}", program.display()));
    let output = Command::new(program).arg(process.to_string()).args(map).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            failed(&words.lines().next().unwrap_or("it gave no reason"))
        }
        Err(error) => failed(&error),
    }
}

/// The namespace from which a living sandbox of this data directory was made.
fn of_the_living(data: &Path, state: Option<&Path>) -> Option<io::Result<OwnedFd>> {
    let folders = std::fs::read_dir(data.join("workspaces")).into_iter().flatten().flatten();
    let records: Vec<Record> = folders.filter_map(|folder| Record::read(&folder.path())).collect();
    let written = records.iter().find_map(|record| record.init().and(record.init));
    if let Some(init) = written {
        return Some(outermost(Pid::from_raw(init.pid)));
    }
    // One whose `sandbox-host` was killed before it could write that down lives all the same.
    let started = records.iter().filter_map(|record| Some(of_the_runtime(&state?.join("runtime"), record)));
    started.flatten().find_map(|pid| outermost(Pid::from_raw(pid)).ok()).map(Ok)
}

/// The numbers of processes that a runtime has written down for a sandbox, each in its own way; some may
/// be anybody's by now.
fn of_the_runtime(runtimes: &Path, record: &Record) -> Vec<i32> {
    let id = record.sandbox.to_string();
    let entries = std::fs::read_dir(runtimes.join(&record.runtime)).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().contains(&id));
    let files =
        ours.flat_map(|entry| [entry.path(), entry.path().join("status"), entry.path().join("state.json")]);
    let numbers = files.filter_map(|file| {
        let state: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        let pids = [&state["pid"], &state["init_process_pid"], &state["sandbox"]["pid"]];
        pids.into_iter().find_map(Value::as_i64)
    });
    numbers.filter_map(|number| i32::try_from(number).ok()).collect()
}

/// Of the namespaces around a process the one that lies directly in ours.
fn outermost(process: Pid) -> io::Result<OwnedFd> {
    let ours = std::fs::metadata("/proc/self/ns/user")?.ino();
    let mut namespace = OwnedFd::from(File::open(format!("/proc/{process}/ns/user"))?);
    for _ in 0..DEPTH {
        let around = parent(&namespace)?;
        if File::from(around.try_clone()?).metadata()?.ino() == ours {
            return Ok(namespace);
        }
        namespace = around;
    }
    Err(io::Error::other("it is too deep below ours"))
}

fn parent(namespace: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: an open descriptor, and a request that takes nothing.
    let fd: RawFd = unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), GET_PARENT) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

//! One command in the local sandbox, from the caller's side.

#![allow(unsafe_code)]

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, User, fork, geteuid, pipe2};
use policy::local::{LocalPolicy, UnixSockets};

use super::environment::environment;
use super::error::LocalError;
use super::filter::{self, Sockets};
use super::keeper::Keeper;
use super::person::Person;
use super::placeholders;
use super::plan::Plan;
use super::proxy::{Proxy, Serve};
use super::settings;
use super::signals::{FORWARDED, Signals, wait};
use super::stage::Stage;
use super::terminal::Terminal;

/// The most of a report that is read, in bytes.
const MAX_REPORT: u64 = 4096;

/// What is asked for.
#[derive(Debug)]
pub struct Request {
    /// A settings file besides the usual ones.
    pub settings: Option<PathBuf>,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// What serves its network.
    pub serve: Serve,
}

/// Runs the command; its exit status, 128 and the number for a signal. `tell` gets what the person
/// should know, line by line, before it starts and after it has ended.
///
/// Only from a process of one thread: namespaces and fork demand it.
///
/// # Errors
///
/// Why it was not run.
pub fn run(request: &Request, tell: &mut dyn FnMut(&str)) -> Result<u8, LocalError> {
    let working = env::current_dir()
        .and_then(fs::canonicalize)
        .map_err(LocalError::io("finding the working directory"))?;
    let home = home().ok_or_else(|| LocalError::Refused("there is no home folder; set HOME".into()))?;
    let (policy, remarks) = settings::load(request.settings.as_deref(), &home, &working)?;
    remarks.iter().for_each(|remark| tell(remark));
    let program = request.command.first().map_or(OsStr::new(""), OsString::as_os_str);
    if find(program).is_none() {
        return Err(LocalError::NoProgram(program.display().to_string()));
    }
    if let Some(pattern) = policy.excludes(&words(&request.command)) {
        tell(&format!("`{pattern}` is in sandbox.excludedCommands: this runs without a sandbox"));
        let error = Command::new(program).args(&request.command[1..]).exec();
        return Err(LocalError::Io { action: "running the command", source: error });
    }
    let bwrap = bwrap(&policy)?;
    no_folders()?;
    let mut plan = Plan::make(&policy, &working)?;
    plan.hide_sockets(&policy);
    plan.remarks.iter().for_each(|remark| tell(remark));
    let folder = placeholders::folder(&home);
    placeholders::prepare(&folder).map_err(LocalError::io("making a folder for records"))?;
    // A command that may write there could have itself cleaned up after early.
    let folder = fs::canonicalize(&folder).map_err(LocalError::io("finding the folder for records"))?;
    if plan.writable.iter().any(|root| folder.starts_with(root)) {
        plan.read_only.insert(folder.clone());
    }
    let sockets = Sockets {
        unix: policy.unix_sockets != UnixSockets::None,
        listening: policy.local_binding != Some(false),
    };
    let filter = filter::program(sockets).map_err(|error| LocalError::Stage(error.to_string()))?;
    let stage = Stage {
        environment: environment(&policy, Path::new("")),
        plan,
        folder,
        temporary: PathBuf::new(),
        bwrap,
        shares_proc: policy.weaker_nested,
        filter,
        command: request.command.clone(),
        has_terminal: false,
        proxy: None,
    };
    let proxy = |person, has_terminal| Proxy::new(request.serve, &policy, person, has_terminal);
    start(stage, proxy, tell)
}

fn start(
    mut stage: Stage,
    proxy: impl FnOnce(UnixStream, bool) -> Proxy,
    tell: &mut dyn FnMut(&str),
) -> Result<u8, LocalError> {
    let terminal = Terminal::open().map_err(LocalError::io("opening a terminal"))?;
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|errno| LocalError::io("making a pipe")(errno.into()));
    let (orders_end, orders) = pipe()?;
    let (report, report_end) = pipe()?;
    let held = FORWARDED.iter().copied().chain([Signal::SIGCHLD, Signal::SIGWINCH]);
    let signals = Signals::hold(held).map_err(|errno| LocalError::io("holding signals")(errno.into()))?;
    stage.has_terminal = terminal.is_some() && find(OsStr::new("setsid")).is_some();
    let (person, persons_end) = UnixStream::pair().map_err(LocalError::io("making a pair of sockets"))?;
    let proxy = proxy(persons_end, terminal.is_some());
    let (terminal, slave) = match terminal {
        Some((terminal, slave)) => (Some(terminal), Some((slave, io::stderr().is_terminal()))),
        None => (None, None),
    };
    // SAFETY: this process has one thread, as the caller promises.
    let keeper = match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => child,
        Ok(ForkResult::Child) => {
            drop((orders, report, person));
            let (orders, report) = (orders_end, report_end);
            let keeper = Keeper { stage, orders, report, terminal: slave, signals, proxy: Some(proxy) };
            let status = keeper.run();
            // The caller's terminal is the caller's to restore.
            std::mem::forget(terminal);
            // SAFETY: ends this process without anything of its parent's being run twice.
            unsafe { libc::_exit(status) }
        }
        Err(errno) => return Err(LocalError::io("starting a process")(errno.into())),
    };
    drop((orders_end, report_end, slave, proxy, stage));
    let mut person = Person::new(person);
    let status = attend(keeper, orders, terminal.as_ref(), &signals, &mut person);
    drop(terminal);
    person.remarks.iter().for_each(|remark| tell(remark));
    let mut reason = String::new();
    let _ = File::from(report).take(MAX_REPORT).read_to_string(&mut reason);
    match reason.as_str() {
        "" => Ok(status),
        reason if reason.starts_with("no user namespace") => Err(LocalError::Unavailable(reason.into())),
        reason => Err(LocalError::Stage(reason.into())),
    }
}

/// Passes signals on and joins the terminals until the keeper has ended; its exit status.
fn attend(
    keeper: Pid,
    orders: OwnedFd,
    terminal: Option<&Terminal>,
    signals: &Signals,
    person: &mut Person,
) -> u8 {
    let mut orders = File::from(orders);
    if let Some(terminal) = terminal {
        terminal.raw();
    }
    let input = io::stdin();
    let (mut takes, mut gives, mut hears) = (terminal.is_some(), terminal.is_some(), true);
    loop {
        let [signalled, from_command, from_caller, from_proxy] = wait([
            Some(signals.as_fd()),
            // While there is a question, the command's output waits.
            terminal.filter(|_| gives && !person.is_asked()).map(AsFd::as_fd),
            takes.then(|| input.as_fd()),
            hears.then(|| person.as_fd()),
        ]);
        if let Some(terminal) = terminal {
            if from_command {
                gives = terminal.give();
            }
            if from_caller {
                takes = if person.is_asked() { person.keys(terminal) } else { terminal.take() };
            }
        }
        if from_proxy {
            hears = person.hear(terminal);
        }
        while signalled && let Some(signal) = signals.next() {
            match signal {
                Signal::SIGCHLD => {}
                Signal::SIGWINCH => terminal.iter().for_each(|terminal| terminal.resize()),
                signal => {
                    let _ = orders.write_all(&[u8::try_from(signal as i32).unwrap_or(15)]);
                }
            }
        }
        let status = match waitpid(keeper, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => code,
            Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
            Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => 1,
        };
        // What the command has said is all in the terminal by now.
        while gives && let Some(terminal) = terminal {
            gives = terminal.give();
        }
        while hears {
            hears = person.hear(None);
        }
        return u8::try_from(status).unwrap_or(1);
    }
}

/// Why this machine cannot sandbox a command, as far as it can be told without one.
#[must_use]
pub fn why_not() -> Option<String> {
    bwrap(&LocalPolicy::default()).err().map(|error| error.to_string())
}

fn bwrap(policy: &LocalPolicy) -> Result<PathBuf, LocalError> {
    let named = policy.bwrap.as_deref().map_or(OsStr::new("bwrap"), Path::as_os_str);
    find(named).ok_or_else(|| {
        LocalError::Unavailable(format!(
            "{} is not found; install bubblewrap (Debian, Ubuntu: apt-get install bubblewrap)",
            named.display()
        ))
    })
}

/// A folder among the standard descriptors would be a door to all that is in it.
fn no_folders() -> Result<(), LocalError> {
    for number in 0..3 {
        if fs::metadata(format!("/proc/self/fd/{number}")).is_ok_and(|about| about.is_dir()) {
            return Err(LocalError::Refused(format!(
                "descriptor {number} is a folder; give a file or a pipe"
            )));
        }
    }
    Ok(())
}

/// A program, as a shell would find it.
fn find(program: &OsStr) -> Option<PathBuf> {
    let is_program = |path: &Path| {
        fs::metadata(path).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
    };
    if program.is_empty() {
        return None;
    }
    if program.as_encoded_bytes().contains(&b'/') {
        return Some(PathBuf::from(program)).filter(|path| is_program(path));
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    env::split_paths(&path).map(|folder| folder.join(program)).find(|path| is_program(path))
}

fn home() -> Option<PathBuf> {
    let named = env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    named.or_else(|| User::from_uid(geteuid()).ok().flatten().map(|user| user.dir))
}

fn words(command: &[OsString]) -> String {
    command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

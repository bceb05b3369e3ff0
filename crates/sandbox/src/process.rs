//! Programs that `sandbox-host` runs to their end, and processes that it watches and kills.

#![allow(unsafe_code)]

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug)]
pub(crate) struct Watched {
    fd: OwnedFd,
}

impl Watched {
    /// Takes hold of a process by its number.
    pub(crate) fn open(pid: i32) -> io::Result<Self> {
        // SAFETY: a system call on two integers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = RawFd::try_from(fd).map_err(|_| io::Error::other("a descriptor out of range"))?;
        // SAFETY: the kernel has just given this descriptor to us.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Takes hold of the process that had this number and began at this time; `None` once it is gone.
    pub(crate) fn find(pid: i32, start_time: u64) -> Option<Self> {
        let watched = Self::open(pid).ok()?;
        // Read after taking hold: from here on the number cannot pass to another process unseen.
        (self::start_time(pid) == Some(start_time) && !watched.wait(Duration::ZERO)).then_some(watched)
    }

    /// The process, for system calls that take one.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Kills it.
    pub(crate) fn kill(&self) {
        // SAFETY: an open descriptor, constants, and no signal information.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), libc::SIGKILL, 0, 0) };
    }

    /// Waits until it has ended; false when it has not within the time. For process 1 of a sandbox,
    /// the end of it is the end of all that ran there.
    pub(crate) fn wait(&self, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)], left) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
    }
}

/// When a process began, in clock ticks since boot.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, so fields are counted from its last parenthesis.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// How a program ended, and the end of what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// How.
    pub(crate) outcome: Outcome,
    /// Its last words.
    pub(crate) said: String,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With exit code 0.
    Success,
    /// Otherwise, with what a shell would call its status.
    Failure(i32),
    /// Not in time; it was killed.
    TimedOut,
}

/// The most of a program's output that is looked at.
const MAX_SAID: u64 = 4096;

/// Runs a program with no input, with `pass` as descriptor 3, and with its output in memory of its own.
///
/// A runtime gives its standard descriptors to the sandbox's root, by a change of owner: so they must
/// be nothing that anybody else uses, `/dev/null` least of all.
///
/// Not by the standard library, which cannot promise that descriptor 3 is free for us between fork
/// and exec.
pub(crate) fn run<S: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = S>,
    pass: Option<BorrowedFd<'_>>,
    at_most: Duration,
) -> io::Result<Ended> {
    let c_string = |text: &OsStr| CString::new(text.as_bytes());
    let mut words = vec![c_string(program.as_os_str())?];
    for argument in arguments {
        words.push(c_string(argument.as_ref())?);
    }
    let mut argv: Vec<*const libc::c_char> = words.iter().map(|word| word.as_ptr()).collect();
    argv.push(std::ptr::null());
    let path = c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let environment = [path.as_ptr(), std::ptr::null()];
    // Its other end closes here, so that the program reads the end of its input at once.
    let (input, _) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let output = nix::sys::memfd::memfd_create(c"output", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    // All are moved out of the way of the numbers that the child gives away.
    let [input, output] = [away(input.as_fd())?, away(output.as_fd())?];
    let pass = pass.map(away).transpose()?;
    let raw = [input.as_raw_fd(), output.as_raw_fd(), pass.as_ref().map_or(-1, AsRawFd::as_raw_fd)];
    let parent = nix::unistd::getpid().as_raw();
    // SAFETY: the child only makes system calls on values that were prepared above, then executes the
    // program or ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above; all pointers live, because the child has its own copy of this memory.
        unsafe { become_program(parent, raw, &argv, &environment) }
    }
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    drop((input, pass));
    let outcome = wait_for(Pid::from_raw(child), at_most)?;
    let output = std::fs::File::from(output);
    let length = output.metadata()?.len();
    let mut said = vec![0; usize::try_from(length.min(MAX_SAID)).unwrap_or(0)];
    output.read_exact_at(&mut said, length.saturating_sub(MAX_SAID))?;
    Ok(Ended { outcome, said: String::from_utf8_lossy(&said).into_owned() })
}

/// A copy of a descriptor with a higher number than any that a child is given.
fn away(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let raw = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(10))?;
    // SAFETY: the kernel has just given this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn wait_for(pid: Pid, at_most: Duration) -> io::Result<Outcome> {
    let watched = Watched::open(pid.as_raw())?;
    let in_time = watched.wait(at_most);
    if !in_time {
        watched.kill();
    }
    let status = waitpid(pid, None)?;
    Ok(match status {
        _ if !in_time => Outcome::TimedOut,
        WaitStatus::Exited(_, 0) => Outcome::Success,
        WaitStatus::Exited(_, code) => Outcome::Failure(code),
        WaitStatus::Signaled(_, signal, _) => Outcome::Failure(128 + signal as i32),
        _ => Outcome::Failure(-1),
    })
}

/// # Safety
///
/// Only in a forked child of `parent`, with open descriptors above 3 (the last one may be -1 for none), and with
/// arrays of valid strings that end in a null pointer.
unsafe fn become_program(
    parent: libc::pid_t,
    [input, output, pass]: [RawFd; 3],
    argv: &[*const libc::c_char],
    environment: &[*const libc::c_char],
) -> ! {
    // SAFETY: system calls on open descriptors and valid pointers.
    unsafe {
        // It does not outlive who runs it: gVisor's `run` that lost its parent half way waits for ever, and
        // holds the lock that the next `delete` of that container needs.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != parent {
            libc::_exit(127);
        }
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::dup2(input, 0);
        libc::dup2(output, 1);
        libc::dup2(output, 2);
        let first_free = if pass >= 0 { libc::dup2(pass, 3) + 1 } else { 3 };
        libc::close_range(first_free.cast_unsigned(), libc::c_uint::MAX, 0);
        libc::execve(argv[0], argv.as_ptr(), environment.as_ptr());
        libc::_exit(127)
    }
}

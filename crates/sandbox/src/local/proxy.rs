//! The process of the proxy: outside of the command's network, with the listeners in it.
//!
//! ```text
//!   keeper ── fork ─▶ waits for the listeners ─▶ serves (somebody else's code) ─▶ the keeper lets go ─▶ end
//!                                                  └─ questions, refusals ═▶ person, at the caller's
//! ```

#![allow(unsafe_code)]

use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork, getppid};
use policy::local::{DomainRule, LocalPolicy};
use protocol::egress::Door;
use protocol::local::ToPerson;
use protocol::network::NetworkRules;

use super::doors;

/// What serves the network of a command. Returns when `ended` reads its end, or with why it cannot go on.
/// Called in a process of its own, of one thread.
pub type Serve = fn(Network) -> Result<(), String>;

/// A command's network.
#[derive(Debug)]
pub struct Network {
    /// Its listeners.
    pub doors: Vec<(Door, OwnedFd)>,
    /// What may be reached.
    pub rules: NetworkRules,
    /// Hosts that are asked about although a rule allows them.
    pub asked: Vec<DomainRule>,
    /// Ports on this machine of proxies to go through: HTTP, SOCKS5.
    pub upstream: (Option<u16>, Option<u16>),
    /// The person, by [`protocol::local`].
    pub person: UnixStream,
    /// Whether somebody answers there.
    pub answers: bool,
    /// Ends when the command has.
    pub ended: UnixStream,
}

/// The proxy before it has listeners.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) serve: Serve,
    pub(crate) rules: NetworkRules,
    pub(crate) asked: Vec<DomainRule>,
    pub(crate) upstream: (Option<u16>, Option<u16>),
    pub(crate) person: UnixStream,
    pub(crate) answers: bool,
}

impl Proxy {
    /// As the settings say, for a person at the other end of this stream.
    pub(crate) fn new(serve: Serve, policy: &LocalPolicy, person: UnixStream, has_terminal: bool) -> Self {
        let answers = has_terminal && !policy.strict_allowlist;
        Self {
            serve,
            rules: policy.domains.rules(answers),
            asked: policy.domains.asked.clone(),
            upstream: (policy.http_proxy, policy.socks_proxy),
            person,
            answers,
        }
    }

    /// Starts it; with the stream that takes the listeners, and whose end is its end.
    pub(crate) fn start(self) -> io::Result<(Pid, UnixStream)> {
        let (stage, own) = UnixStream::pair()?;
        let keeper = nix::unistd::getpid();
        // SAFETY: this process has one thread.
        match unsafe { fork()? } {
            ForkResult::Parent { child } => Ok((child, stage)),
            ForkResult::Child => {
                only_standard_and([self.person.as_raw_fd(), own.as_raw_fd()]);
                let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
                if getppid() == keeper {
                    self.become_proxy(own);
                }
                // SAFETY: ends this process without anything of its parent's being run twice.
                unsafe { libc::_exit(0) }
            }
        }
    }

    fn become_proxy(self, stage: UnixStream) {
        let Self { serve, rules, asked, upstream, person, answers } = self;
        let Ok(mut to_person) = person.try_clone() else { return };
        let mut remark = |text: String| {
            if let Ok(mut line) = serde_json::to_vec(&ToPerson::Remark { text }) {
                line.push(b'\n');
                let _ = to_person.write_all(&line);
            }
        };
        let (doors, why_not) = match doors::take(&stage) {
            Ok(Some(taken)) => taken,
            Ok(None) => return,
            Err(error) => return remark(format!("the network stays closed: {error}")),
        };
        if let Some(why_not) = why_not {
            remark(format!(
                "programs that do not look at HTTPS_PROXY reach nobody: the kernel redirects nothing ({why_not})"
            ));
        }
        if let Err(reason) = serve(Network { doors, rules, asked, upstream, person, answers, ended: stage }) {
            remark(format!("the network was closed: {reason}"));
        }
    }
}

/// Closes what else the keeper has open: nothing of it is dropped in this process, which ends before.
fn only_standard_and(mut kept: [RawFd; 2]) {
    kept.sort_unstable();
    let mut first = 3;
    for kept in kept.map(i32::cast_unsigned) {
        if kept > first {
            close(first, kept - 1);
        }
        first = kept + 1;
    }
    close(first, libc::c_uint::MAX);
}

fn close(first: libc::c_uint, last: libc::c_uint) {
    // SAFETY: a system call on integers; whoever owns these descriptors is never run again here.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}

//! `patchyard sandbox`: one command on this machine, sandboxed, and the proxy of its network.
//!
//! ```text
//!   sandbox::local ─▶ the command, and a process that waits for its listeners ─▶ serve ─▶ egress
//! ```

use std::fs::File;
use std::process::ExitCode;

use egress::Upstream;
use egress::local::LocalConfig;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use sandbox::local::{Network, Request, run as run_local};
use tokio::io::AsyncReadExt as _;

use crate::args::Sandbox;
use crate::error::chain;
use crate::output::{note, plain};

/// Root's proxy becomes an id that owns nothing, beside those of root's command.
const PROXY_ID: u32 = 590_065_536;

/// Runs before there is a second thread: namespaces and fork demand it.
pub(crate) fn run(sandbox: Sandbox) -> ExitCode {
    let request = Request { settings: sandbox.settings, command: sandbox.command, serve };
    match run_local(&request, &mut |remark| say(remark)) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            say(&chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

fn say(text: &str) {
    note(&plain(&format!("patchyard sandbox: {}", text.replace('\n', " "))));
}

/// Serves the network of the command until that has ended. The only thread of its process.
fn serve(network: Network) -> Result<(), String> {
    let Network { doors, rules, asked, upstream: (http, socks), person, answers, ended } = network;
    let forgets =
        File::options().append(true).open("/dev/null").map_err(|error| format!("/dev/null: {error}"))?;
    give_up().map_err(|error| format!("the proxy cannot give up privileges: {error}"))?;
    egress::confine().map_err(|error| error.to_string())?;
    let upstream = Upstream { http, socks };
    let config = LocalConfig { doors, rules, asked, upstream, person, answers, forgets };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        ended.set_nonblocking(true).map_err(|error| error.to_string())?;
        let mut ended = tokio::net::UnixStream::from_std(ended).map_err(|error| error.to_string())?;
        let ended = async {
            let _ = ended.read(&mut [0]).await;
        };
        egress::local::run(config, ended).await.map_err(|error| error.to_string())
    })
}

/// What reads the command's bytes has no right that it does not need.
fn give_up() -> nix::Result<()> {
    // Root of a user namespace has no such id: there the caller's account is what it is.
    if Uid::effective().is_root() && setgroups(&[]).is_ok() {
        let settled = setgid(Gid::from_raw(PROXY_ID)).and_then(|()| setuid(Uid::from_raw(PROXY_ID)));
        settled.or_else(|error| if error == nix::Error::EINVAL { Ok(()) } else { Err(error) })?;
    }
    prctl::set_no_new_privs()?;
    prctl::set_dumpable(false)?;
    // After the change of ids, which would undo it.
    prctl::set_pdeathsig(Signal::SIGKILL)
}

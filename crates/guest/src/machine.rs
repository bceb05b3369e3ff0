//! The guest on somebody's own machine: the hands of a local agent.
//!
//! ```text
//!   standard input: a socket ══ hello ─▶ serving ── closed ──▶ everything that it started is killed ─▶ end
//! ```
//!
//! The same executor as in a sandbox, as a process of its own: so that orphans of commands come to it, and not to
//! the agent, and so that commands end also when the agent was killed.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

use tokio::net::UnixStream;
use tokio::task::LocalSet;

use crate::commands::Commands;
use crate::connection;
use crate::ground::Ground;
use crate::reaper::{self, Reaper};

/// Why the hands could not begin.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Started by hand.
    #[error("standard input is no socket ({0}); this program is started by a local agent")]
    NoSocket(#[source] io::Error),
    /// The event loop.
    #[error("could not start the event loop: {0}")]
    Runtime(#[source] io::Error),
}

/// Serves the agent at the other end of standard input until it is gone.
pub fn run() -> Result<(), MachineError> {
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(MachineError::NoSocket)?;
    let stream = std::os::unix::net::UnixStream::from(socket);
    stream.peer_addr().map_err(MachineError::NoSocket)?;
    stream.set_nonblocking(true).map_err(MachineError::NoSocket)?;
    // SAFETY: takes integers and touches no memory of ours. Without it orphans would be out of reach, which their
    // markers make up for.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(MachineError::Runtime)?;
    LocalSet::new().block_on(&runtime, serve(stream))
}

async fn serve(stream: std::os::unix::net::UnixStream) -> Result<(), MachineError> {
    let stream = UnixStream::from_std(stream).map_err(MachineError::Runtime)?;
    let reaper = Rc::new(Reaper::default());
    let signals = reaper::listen().map_err(MachineError::Runtime)?;
    tokio::task::spawn_local(reaper::run(Rc::clone(&reaper), signals));
    let commands = Rc::new(Commands::new(reaper, Ground::Machine));
    // However it ends, the agent is gone, and nobody is left to take what commands say.
    if let Ok(greeted) = connection::greet(stream).await {
        let _ = connection::serve(greeted, Rc::clone(&commands)).await;
    }
    commands.kill_all().await;
    Ok(())
}

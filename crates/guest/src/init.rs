//! The life of process 1.
//!
//! ```text
//!   set up ──▶ accept ──▶ hello ──▶ serve in the background ──┐
//!                ▲                                            │ the next greeted connection
//!                └────────────────────────────────────────────┘ replaces this one
//! ```
//!
//! It never ends on its own: the sandbox is destroyed from outside.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::task::LocalSet;

use crate::commands::Commands;
use crate::ground::Ground;
use crate::reaper::{self, Reaper};
use crate::relay::Doors;
use crate::{connection, environment};

/// The descriptor of the socket that the host bound and listens on.
const LISTENER: i32 = 3;

/// After a failed accept, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why process 1 could not begin.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Started by hand, or by a host that does not know how.
    #[error("descriptor {LISTENER} is no listening socket ({0}); this program is started by sandbox-host")]
    NoListener(#[source] io::Error),
    /// The socket could not be made.
    #[error("could not listen on {}: {source}", .path.display())]
    Bind {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A port of the sandbox's doors could not be had.
    #[error("could not open the doors of the sandbox: {0}")]
    Doors(#[source] io::Error),
    /// The event loop.
    #[error("could not start the event loop: {0}")]
    Runtime(#[source] io::Error),
}

/// What process 1 is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Where to make a socket, when none is handed in.
    bind: Option<PathBuf>,
    /// Whether containers may be made inside: commands may gain rights.
    nested: bool,
    /// The folder with the sockets of the doors, where nobody outside can open them in our network.
    doors: Option<PathBuf>,
}

impl Options {
    /// Reads arguments; nothing when they make no sense.
    #[must_use]
    pub fn read(arguments: &[&str]) -> Option<Self> {
        match arguments {
            [] => Some(Self::default()),
            ["--nested", rest @ ..] => Some(Self { nested: true, ..Self::read(rest)? }),
            ["--doors", folder, rest @ ..] => Some(Self { doors: Some(folder.into()), ..Self::read(rest)? }),
            ["--bind", path, rest @ ..] => Some(Self { bind: Some(path.into()), ..Self::read(rest)? }),
            _ => None,
        }
    }
}

/// Runs process 1; returns only when it could not begin. It listens on the socket that it was given, or
/// on one of its own, where the runtime cannot hand one in.
pub fn run(options: &Options) -> Result<(), InitError> {
    // Before anything else opens a descriptor, which could be the third.
    let listener = match options.bind.as_deref() {
        None => inherited_listener().map_err(InitError::NoListener)?,
        Some(path) => {
            own_listener(path).map_err(|source| InitError::Bind { path: path.to_owned(), source })?
        }
    };
    environment::hide_from_tools();
    environment::let_go_of_output();
    environment::loopback_up();
    let doors = options.doors.as_deref().map(Doors::bind).transpose().map_err(InitError::Doors)?;
    environment::become_guest().map_err(InitError::Runtime)?;
    // A change of user makes a process open to looks again.
    environment::hide_from_tools();
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(InitError::Runtime)?;
    LocalSet::new().block_on(&runtime, serve(listener, doors, options.nested))
}

async fn serve(
    listener: std::os::unix::net::UnixListener,
    doors: Option<Doors>,
    nested: bool,
) -> Result<(), InitError> {
    let listener = UnixListener::from_std(listener).map_err(InitError::Runtime)?;
    doors.map_or(Ok(()), Doors::open).map_err(InitError::Doors)?;
    let reaper = Rc::new(Reaper::default());
    let signals = reaper::listen().map_err(InitError::Runtime)?;
    tokio::task::spawn_local(reaper::run(Rc::clone(&reaper), signals));
    let commands = Rc::new(Commands::new(reaper, Ground::Sandbox { nested }));
    let mut current: Option<tokio::task::JoinHandle<_>> = None;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // A connection that fails is the host's to notice.
        let Ok(greeted) = connection::greet(stream).await else { continue };
        if let Some(old) = current.take() {
            old.abort();
            let _ = old.await;
        }
        current = Some(tokio::task::spawn_local(connection::serve(greeted, Rc::clone(&commands))));
    }
}

fn own_listener(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn inherited_listener() -> io::Result<std::os::unix::net::UnixListener> {
    // SAFETY: sets a flag of a descriptor; one that is not open gives an error.
    if unsafe { libc::fcntl(LISTENER, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, as was just seen, and by contract belongs to nobody else here.
    let socket = unsafe { OwnedFd::from_raw_fd(LISTENER) };
    let listener = std::os::unix::net::UnixListener::from(socket);
    listener.local_addr()?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

//! The doors of a sandbox whose network stack is its own.
//!
//! ```text
//!   program ── 127.0.0.1:3128 ─▶ here ─▶ <folder>/proxy ═▶ whoever listens outside
//!              127.0.0.1:3130          ─▶ <folder>/model
//!              127.0.0.1:3131          ─▶ <folder>/git
//! ```
//!
//! Bytes are carried as they are; who may do what is decided outside. While nobody listens there,
//! connections end as soon as they begin.
//!
//! Each side is read until it says that there is nothing more: gVisor tells of an end that comes with the
//! last bytes only that something came, and who takes a part of a buffer for all there is waits for ever.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use protocol::egress::RELAYED;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;

/// Connections at a time, of which each takes two descriptors: as many as `egress` takes of one sandbox.
const CONNECTIONS: usize = 256;

/// Of all descriptors that process 1 may have, connections get one in this many, in pairs.
const SHARE: u64 = 4;

/// What is read at a time, each way.
const BUFFER: usize = 32 * 1024;

/// After a connection could not be accepted, such as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The listeners, bound before anything else can take their ports.
#[derive(Debug)]
pub struct Doors(Vec<(StdListener, PathBuf)>);

impl Doors {
    /// Listens in front of the sockets in this folder.
    ///
    /// # Errors
    ///
    /// When a port cannot be had.
    pub fn bind(folder: &Path) -> io::Result<Self> {
        let bound = |(port, name): (u16, &str)| {
            let listener = StdListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
            listener.set_nonblocking(true)?;
            Ok((listener, folder.join(name)))
        };
        RELAYED.into_iter().map(bound).collect::<io::Result<_>>().map(Self)
    }

    /// Carries from now on, for as long as there is an event loop.
    ///
    /// # Errors
    ///
    /// Without one.
    pub fn open(self) -> io::Result<()> {
        let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(now, _)| now / (2 * SHARE));
        let places = usize::try_from(most).unwrap_or(CONNECTIONS).clamp(1, CONNECTIONS);
        let places = Rc::new(Semaphore::new(places));
        for (listener, socket) in self.0 {
            let listener = TcpListener::from_std(listener)?;
            tokio::task::spawn_local(accept(listener, socket.into(), Rc::clone(&places)));
        }
        Ok(())
    }
}

async fn accept(listener: TcpListener, socket: Rc<Path>, places: Rc<Semaphore>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (socket, places) = (Rc::clone(&socket), Rc::clone(&places));
                tokio::task::spawn_local(async move {
                    // One too many is closed at once: who waits could wait for ever.
                    if let Ok(_place) = places.try_acquire() {
                        carry(stream, &socket).await;
                    }
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Carries a connection until both sides are done with it. What goes wrong is for those at its ends to see.
async fn carry(inside: TcpStream, socket: &Path) {
    let _ = inside.set_nodelay(true);
    let Ok(outside) = UnixStream::connect(socket).await else { return };
    // From here on a stream like any other: it is read, written and ended.
    let inside = inside.into_std().and_then(|stream| UnixStream::from_std(OwnedFd::from(stream).into()));
    if let Ok(inside) = inside {
        // An error in one direction ends the other.
        let _ = tokio::try_join!(one_way(&inside, &outside), one_way(&outside, &inside));
    }
}

async fn one_way(from: &UnixStream, to: &UnixStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = || Ok(recv(from.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)?);
        let length = from.async_io(Interest::READABLE, read).await?;
        if length == 0 {
            return Ok(shutdown(to.as_raw_fd(), Shutdown::Write)?);
        }
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let write = || Ok(send(to.as_raw_fd(), rest, flags)?);
            rest = &rest[to.async_io(Interest::WRITABLE, write).await?..];
        }
    }
}

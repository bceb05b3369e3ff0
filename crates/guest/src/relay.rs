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

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use protocol::egress::RELAYED;
use tokio::io::copy_bidirectional_with_sizes;
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
async fn carry(mut inside: TcpStream, socket: &Path) {
    let Ok(mut outside) = UnixStream::connect(socket).await else { return };
    let _ = inside.set_nodelay(true);
    let _ = copy_bidirectional_with_sizes(&mut inside, &mut outside, BUFFER, BUFFER).await;
}

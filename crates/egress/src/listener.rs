//! A door's listener: TCP inside a sandbox's network, or the socket that its guest carries to.

use std::io;
use std::net::{TcpListener as StdTcpListener, TcpStream as StdTcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener as StdUnixListener;

use nix::sys::socket::{AddressFamily, SockaddrLike as _, SockaddrStorage, getsockname};
use tokio::net::{TcpListener, TcpStream, UnixListener};

/// What connections of a sandbox come in by.
#[derive(Debug)]
pub enum Listener {
    /// In its network.
    Tcp(TcpListener),
    /// Outside of it.
    Unix(UnixListener),
}

impl Listener {
    /// A listening socket of either kind.
    ///
    /// # Errors
    ///
    /// Of another kind, or one that the event loop does not take.
    pub fn of(socket: OwnedFd) -> io::Result<Self> {
        let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
        if address.family() == Some(AddressFamily::Unix) {
            let listener = StdUnixListener::from(socket);
            listener.set_nonblocking(true)?;
            return UnixListener::from_std(listener).map(Self::Unix);
        }
        let listener = StdTcpListener::from(socket);
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Self::Tcp)
    }

    /// The next connection. One that was carried here is a stream like any other: it is read, written and
    /// ended, and has no addresses.
    ///
    /// # Errors
    ///
    /// When none can be accepted now.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        match self {
            Self::Tcp(listener) => Ok(listener.accept().await?.0),
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                TcpStream::from_std(StdTcpStream::from(OwnedFd::from(stream.into_std()?)))
            }
        }
    }
}

//! The two namespaces, and the sockets in the one that is far away.

use std::fs::File;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, UdpSocket as StdUdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};
use tokio::net::{TcpListener, UdpSocket};

use crate::harness::Must as _;

/// Addresses of the internet.
const ADDRESSES: [&str; 6] = [
    "93.184.216.34/32",
    "93.184.216.35/32",
    "93.184.216.53/32",
    "93.184.216.66/32",
    "2606:2800:220:1::34/128",
    "2606:2800:220:1::66/128",
];

/// Blocks of which every address is the internet's, for listeners on all of them: `0.0.0.0`, `[::]`.
const BLOCKS: [&str; 2] = ["93.185.0.0/16", "2606:2800:221::/48"];

/// A public address of the test's own machine.
pub const OWN: &str = "93.184.216.99";

/// The other end of the cable.
#[derive(Debug)]
pub struct Internet {
    namespace: OwnedFd,
}

/// Runs a test on a thread whose network is such an internet and nothing else. Needs root.
///
/// # Panics
/// When the test does, and when there can be no namespaces.
pub fn alone<T, F>(test: T)
where
    T: FnOnce(Internet) -> F + Send + 'static,
    F: Future<Output = ()>,
{
    let thread = std::thread::spawn(|| {
        let internet = Internet::make().must("network namespaces; is `ip` installed, and is this root?");
        // On this thread: what it starts is in its namespace.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().must("a runtime");
        runtime.block_on(test(internet));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Internet {
    fn make() -> io::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let namespace: OwnedFd = File::open("/proc/thread-self/ns/net")?.into();
        ip("link set lo up")?;
        for address in ADDRESSES {
            let more = if address.contains(':') { " nodad" } else { "" };
            ip(&format!("address add {address} dev lo{more}"))?;
        }
        for block in BLOCKS {
            ip(&format!("route add local {block} dev lo"))?;
        }
        unshare(CloneFlags::CLONE_NEWNET)?;
        let own = File::open("/proc/thread-self/ns/net")?;
        ip("link set lo up")?;
        let other = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
        ip("link add near type veth peer name far")?;
        ip(&format!("link set dev far netns {other}"))?;
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        joined("far", 1)?;
        setns(&own, CloneFlags::CLONE_NEWNET)?;
        joined("near", 2)?;
        ip(&format!("address add {OWN}/32 dev lo"))?;
        ip("route add default via 10.99.0.1")?;
        ip("route add default via fd99::1")?;
        Ok(Self { namespace })
    }

    /// Listens there.
    ///
    /// # Panics
    /// When the address is none of the internet's.
    #[must_use]
    pub fn listen(&self, address: &str) -> TcpListener {
        let listener = self.inside(address, StdListener::bind);
        listener.set_nonblocking(true).must("a socket");
        TcpListener::from_std(listener).must("a listener")
    }

    /// Takes packets there.
    ///
    /// # Panics
    /// When the address is none of the internet's.
    #[must_use]
    pub fn packets(&self, address: &str) -> UdpSocket {
        let socket = self.inside(address, StdUdpSocket::bind);
        socket.set_nonblocking(true).must("a socket");
        UdpSocket::from_std(socket).must("a socket")
    }

    fn inside<T: Send>(&self, address: &str, open: impl FnOnce(SocketAddr) -> io::Result<T> + Send) -> T {
        let address: SocketAddr = address.parse().must("an address with a port");
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.namespace, CloneFlags::CLONE_NEWNET)?;
                open(address)
            });
            inside.join().must("a thread").must("an address of the internet")
        })
    }
}

fn joined(device: &str, number: u8) -> io::Result<()> {
    ip(&format!("address add 10.99.0.{number}/24 dev {device}"))?;
    ip(&format!("address add fd99::{number}/64 dev {device} nodad"))?;
    ip(&format!("link set dev {device} up"))
}

fn ip(words: &str) -> io::Result<()> {
    let output = Command::new("ip").args(words.split(' ')).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("ip {words}: {}", String::from_utf8_lossy(&output.stderr))))
}

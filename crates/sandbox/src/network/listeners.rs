//! The sockets, opened inside and held outside.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use protocol::egress::{CAPTURE_PORT, DNS_PORT, Door, GIT_PORT, Gateway, MODEL_PORT, PROXY_PORT};

use super::{nft, route};

/// Listeners, and what each is for.
pub(crate) type Doors = Vec<(Door, OwnedFd)>;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Prepares a network namespace and opens the listeners in it that `egress` holds. A holder from before
/// must have let go of its own.
pub(crate) fn open(namespace: BorrowedFd<'_>) -> io::Result<Doors> {
    within(namespace, || {
        let ipv6 = route::everything_is_local()?;
        nft::capture(CAPTURE_PORT, ipv6)?;
        doors(ipv6)
    })
}

/// Opens the listeners that the server holds, and changes nothing else but that `lo` is up.
pub(crate) fn open_gateways(namespace: BorrowedFd<'_>) -> io::Result<Vec<(Gateway, OwnedFd)>> {
    within(namespace, || {
        route::lo_is_up()?;
        let open = |(gateway, port)| Ok((gateway, bound(false, (Ipv4Addr::LOCALHOST, port).into())?));
        [(Gateway::Model, MODEL_PORT), (Gateway::Git, GIT_PORT)].into_iter().map(open).collect()
    })
}

/// Does something in a network namespace.
fn within<T: Send>(namespace: BorrowedFd<'_>, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    // A thread of its own: it never comes back from there.
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            act()
        });
        inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread inside panicked")))
    })
}

/// The same in the namespace of the caller. Where the kernel captures nothing, it says why, and what
/// knows of no proxy reaches nobody.
pub(crate) fn open_here() -> io::Result<(Doors, Option<io::Error>)> {
    let ipv6 = route::everything_is_local()?;
    let why_not = nft::capture(CAPTURE_PORT, ipv6).err();
    Ok((doors(ipv6)?, why_not))
}

fn doors(ipv6: bool) -> io::Result<Doors> {
    let loopback = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
    let any = [SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))];
    let wanted = [
        (Door::Proxy, loopback, PROXY_PORT),
        (Door::Capture, loopback, CAPTURE_PORT),
        (Door::DnsStream, loopback, DNS_PORT),
        // Questions to any resolver are answered, in the name of that.
        (Door::DnsPacket, any, DNS_PORT),
    ];
    let mut open = Vec::new();
    for (door, addresses, port) in wanted {
        for mut address in addresses.into_iter().take(if ipv6 { 2 } else { 1 }) {
            address.set_port(port);
            open.push((door, bound(door == Door::DnsPacket, address)?));
        }
    }
    Ok(open)
}

fn bound(packets: bool, address: SocketAddr) -> io::Result<OwnedFd> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
    socket_at(packets, address).map_err(named)
}

fn socket_at(packets: bool, address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = if packets { SockType::Datagram } else { SockType::Stream };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    if packets {
        // So that an answer can come from the address that was asked.
        if address.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
    } else {
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    if !packets {
        listen(&socket, Backlog::new(BACKLOG)?)?;
    }
    Ok(socket)
}

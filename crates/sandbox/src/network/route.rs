//! `lo` is up, and every address is its own.

use std::io;

use nix::sys::socket::SockProtocol;

use super::netlink::{ACK, Attributes, CREATE, Messages};

/// `RTM_NEWLINK`, `RTM_NEWROUTE`, `RTA_OIF`, from `linux/rtnetlink.h`.
const NEW_LINK: u16 = 16;
const NEW_ROUTE: u16 = 24;
const OUT: u16 = 4;

/// In every network namespace `lo` comes first.
const LO: u32 = 1;

/// `RT_TABLE_LOCAL`, `RTPROT_BOOT`, `RT_SCOPE_HOST`, `RTN_LOCAL`.
const TABLE: u8 = 255;
const PROTOCOL: u8 = 3;
const SCOPE: u8 = 254;
const LOCAL: u8 = 2;

/// Makes it so in the network namespace of this thread, and says whether that has IPv6.
pub(super) fn everything_is_local() -> io::Result<bool> {
    lo_is_up()?;
    let mut messages = Messages::default();
    messages.push(NEW_ROUTE, ACK | CREATE, &whole(nix::libc::AF_INET), &through_lo());
    messages.send(SockProtocol::NetlinkRoute)?;
    let mut messages = Messages::default();
    messages.push(NEW_ROUTE, ACK | CREATE, &whole(nix::libc::AF_INET6), &through_lo());
    Ok(messages.send(SockProtocol::NetlinkRoute).is_ok())
}

/// Brings `lo` up in the network namespace of this thread.
pub(super) fn lo_is_up() -> io::Result<()> {
    let mut messages = Messages::default();
    // struct ifinfomsg: family, type, index, flags and which of them change: IFF_UP.
    let up = [[0; 4], LO.to_ne_bytes(), 1_u32.to_ne_bytes(), 1_u32.to_ne_bytes()].concat();
    messages.push(NEW_LINK, ACK, &up, &Attributes::default());
    messages.send(SockProtocol::NetlinkRoute)
}

/// `struct rtmsg` of a route for all addresses of a family.
fn whole(family: i32) -> [u8; 12] {
    let family = u8::try_from(family).unwrap_or_default();
    [family, 0, 0, 0, TABLE, PROTOCOL, SCOPE, LOCAL, 0, 0, 0, 0]
}

fn through_lo() -> Attributes {
    Attributes::default().with(OUT, &LO.to_ne_bytes())
}

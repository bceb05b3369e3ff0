//! The rules that capture TCP.
//!
//! ```text
//!   table ip patchyard  { chain out { type nat hook output priority -100
//!                                     ip daddr 127.0.0.0/8 return
//!                                     meta l4proto tcp redirect to :3129 } }
//!   table ip6 patchyard { the same, with ::1 }
//! ```
//!
//! Numbers are those of the kernel's `linux/netfilter/nf_tables.h` and `nfnetlink.h`.

use std::io;

use nix::sys::socket::SockProtocol;

use super::netlink::{ACK, APPEND, Attributes, CREATE, Messages};

const TABLE: &str = "patchyard";
const CHAIN: &str = "out";

/// The part of netfilter that these messages are for, `NFNL_SUBSYS_NFTABLES`.
const NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;

/// `NF_INET_LOCAL_OUT`, and the usual place of destination NAT.
const OUTPUT: u32 = 3;
const PRIORITY: i32 = -100;

const VERDICT: u32 = 0;
const REGISTER: u32 = 1;
const NETWORK_HEADER: u32 = 1;
const L4PROTO: u32 = 16;
const TCP: u8 = 6;
const EQUAL: u32 = 0;
/// `NFT_RETURN`.
const RETURN: i32 = -5;

/// One family: its number, and where in its header what address is that of the sandbox itself.
struct Family {
    number: u8,
    offset: u32,
    own: &'static [u8],
}

/// The first byte is enough for 127/8.
const V4: Family = Family { number: 2, offset: 16, own: &[127] };
const V6: Family = Family { number: 10, offset: 24, own: &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1] };

/// Redirects all TCP that is not for the sandbox itself to this port, in the network namespace of this
/// thread. Rules of an earlier time are replaced.
pub(super) fn capture(port: u16, ipv6: bool) -> io::Result<()> {
    let mut batch = Messages::default();
    let whole = [0, 0, 0, u8::try_from(NFTABLES).unwrap_or_default()];
    batch.push(BATCH_BEGIN, 0, &whole, &Attributes::default());
    for family in [V4, V6].into_iter().take(if ipv6 { 2 } else { 1 }) {
        family.rules(&mut batch, port);
    }
    batch.push(BATCH_END, 0, &whole, &Attributes::default());
    batch.send(SockProtocol::NetlinkNetFilter)
}

impl Family {
    fn rules(&self, batch: &mut Messages, port: u16) {
        let mut push = |kind: u16, flags: u16, attributes: &Attributes| {
            batch.push(NFTABLES << 8 | kind, flags | ACK, &[self.number, 0, 0, 0], attributes);
        };
        let table = Attributes::default().text(1, TABLE);
        // Made, so that it can be removed, so that the new one is empty.
        push(NEW_TABLE, CREATE, &table);
        push(DELETE_TABLE, 0, &table);
        push(NEW_TABLE, CREATE, &table);
        let hook = Attributes::default().number(1, OUTPUT).number(2, PRIORITY.cast_unsigned());
        let chain = Attributes::default().text(1, TABLE).text(3, CHAIN).nested(4, &hook).text(7, "nat");
        push(NEW_CHAIN, CREATE, &chain);
        let rule = |expressions: Vec<Attributes>| {
            let list = expressions.iter().map(|one| Attributes::default().nested(1, one));
            Attributes::default().text(1, TABLE).text(2, CHAIN).nested(4, &Attributes::all(list))
        };
        push(NEW_RULE, CREATE | APPEND, &rule(vec![self.destination(), equals(self.own), verdict(RETURN)]));
        let to_port = Attributes::default().number(1, REGISTER).nested(2, &data(&port.to_be_bytes()));
        push(
            NEW_RULE,
            CREATE | APPEND,
            &rule(vec![
                expression("meta", &Attributes::default().number(1, REGISTER).number(2, L4PROTO)),
                equals(&[TCP]),
                expression("immediate", &to_port),
                expression("redir", &Attributes::default().number(1, REGISTER)),
            ]),
        );
    }

    /// Loads the beginning of the address that a packet goes to.
    fn destination(&self) -> Attributes {
        let length = u32::try_from(self.own.len()).unwrap_or_default();
        let load = Attributes::default()
            .number(1, REGISTER)
            .number(2, NETWORK_HEADER)
            .number(3, self.offset)
            .number(4, length);
        expression("payload", &load)
    }
}

fn expression(name: &str, what: &Attributes) -> Attributes {
    Attributes::default().text(1, name).nested(2, what)
}

fn equals(value: &[u8]) -> Attributes {
    let compare = Attributes::default().number(1, REGISTER).number(2, EQUAL).nested(3, &data(value));
    expression("cmp", &compare)
}

fn verdict(code: i32) -> Attributes {
    let verdict = Attributes::default().number(1, code.cast_unsigned());
    let data = Attributes::default().nested(2, &verdict);
    expression("immediate", &Attributes::default().number(1, VERDICT).nested(2, &data))
}

fn data(value: &[u8]) -> Attributes {
    Attributes::default().with(1, value)
}

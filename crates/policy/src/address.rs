//! Which addresses the platform may dial for a user.
//!
//! Only global unicast. The reserved blocks are those of the IANA special-purpose registries
//! (RFC 6890 and its successors); an operator may open private ones by naming host and block, but
//! never link-local ones and the metadata services of clouds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::Deserialize;

/// Why an address may not be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// This machine.
    #[error("is this machine")]
    Loopback,
    /// A private network.
    #[error("is in a private network")]
    Private,
    /// Link-local, where most metadata services are.
    #[error("is link-local, where clouds keep their metadata service")]
    LinkLocal,
    /// A metadata service.
    #[error("is a cloud's metadata service")]
    Metadata,
    /// Reserved for something else.
    #[error("is in a reserved block")]
    Reserved,
}

/// A block of addresses, `10.1.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    first: IpAddr,
    prefix: u8,
}

/// A text that is no block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address block; write one like 10.1.0.0/16 or fd00::/8")]
pub struct BadCidr(String);

impl FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let bad = || BadCidr(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let first: IpAddr = address.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        let bits = if first.is_ipv4() { 32 } else { 128 };
        if prefix > bits { Err(bad()) } else { Ok(Self { first, prefix }) }
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Cidr {
    /// Whether the block holds the address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.prefix);
                (first.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.prefix);
                (first.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// An exception of the operator: this host may resolve into this block.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressException {
    /// The host as it stands in the URL, in lower case.
    pub host: String,
    /// The block.
    pub cidr: Cidr,
}

/// The rules of one server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressRules {
    /// What the operator opened.
    pub exceptions: Vec<AddressException>,
}

impl AddressRules {
    /// Whether `host` may be dialled at `address`.
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), AddressError> {
        match classify(address) {
            Ok(()) => Ok(()),
            Err(error @ (AddressError::LinkLocal | AddressError::Metadata)) => Err(error),
            Err(error) => {
                let opened = self
                    .exceptions
                    .iter()
                    .any(|exception| exception.host == host && exception.cidr.contains(address));
                if opened { Ok(()) } else { Err(error) }
            }
        }
    }

    /// Whether any exception is about `host`.
    pub(crate) fn names(&self, host: &str) -> bool {
        self.exceptions.iter().any(|exception| exception.host == host)
    }
}

/// Whether an address is global unicast.
pub(crate) fn is_public(address: IpAddr) -> bool {
    classify(address).is_ok()
}

fn classify(address: IpAddr) -> Result<(), AddressError> {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

fn classify_v4(address: Ipv4Addr) -> Result<(), AddressError> {
    // Services that hand credentials to whoever asks from inside of a cloud: of most, of their
    // containers, of Alibaba, of Azure, of Oracle.
    let metadata = [
        [169, 254, 169, 254],
        [169, 254, 170, 2],
        [100, 100, 100, 200],
        [168, 63, 129, 16],
        [192, 0, 0, 192],
    ];
    if metadata.contains(&address.octets()) {
        return Err(AddressError::Metadata);
    }
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (127, ..) => Err(AddressError::Loopback),
        (169, 254, _) => Err(AddressError::LinkLocal),
        (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => Err(AddressError::Private),
        // 0/8, IETF protocols, documentation, 6to4 relays, benchmarks, multicast and above.
        (0, ..)
        | (192, 0, 0 | 2)
        | (192, 88, 99)
        | (198, 18..=19, _)
        | (198, 51, 100)
        | (203, 0, 113)
        | (224.., ..) => Err(AddressError::Reserved),
        _ => Ok(()),
    }
}

fn classify_v6(address: Ipv6Addr) -> Result<(), AddressError> {
    if let Some(inner) = embedded_v4(address) {
        // A private address stays private in any disguise; a public one has no need for one.
        classify_v4(inner)?;
        return Err(AddressError::Reserved);
    }
    let segments = address.segments();
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 1] => Err(AddressError::Loopback),
        // Amazon's and Google's services by IPv6.
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254] | [0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254] => {
            Err(AddressError::Metadata)
        }
        [0xfe80..=0xfebf, ..] => Err(AddressError::LinkLocal),
        [0xfc00..=0xfdff, ..] => Err(AddressError::Private),
        [0x2001, 0x0000..=0x01ff, ..] | [0x2001, 0x0db8, ..] | [0x3fff, 0x0000..=0x0fff, ..] => {
            Err(AddressError::Reserved)
        }
        // Only 2000::/3 is global unicast.
        [0x2000..=0x3fff, ..] => Ok(()),
        _ => Err(AddressError::Reserved),
    }
}

/// The IPv4 address inside a mapped, compatible, translated (RFC 6052, RFC 8215), or 6to4 address.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let last = || {
        let [.., a, b, c, d] = address.octets();
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, ..] => Some(last()),
        [0x2002, high, low, ..] => Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str) -> Result<(), AddressError> {
        AddressRules::default().check("git.example.org", address.parse().unwrap())
    }

    #[test]
    fn only_global_unicast_may_be_dialled() {
        use AddressError as E;
        for (address, wanted) in [
            ("93.184.216.34", Ok(())),
            ("2606:2800:220:1::1", Ok(())),
            ("127.0.0.1", Err(E::Loopback)),
            ("127.255.0.9", Err(E::Loopback)),
            ("::1", Err(E::Loopback)),
            ("10.0.0.1", Err(E::Private)),
            ("172.31.255.255", Err(E::Private)),
            ("172.32.0.1", Ok(())),
            ("192.168.1.1", Err(E::Private)),
            ("100.64.0.1", Err(E::Private)),
            ("fd00::1", Err(E::Private)),
            ("169.254.1.1", Err(E::LinkLocal)),
            ("169.254.169.254", Err(E::Metadata)),
            ("100.100.100.200", Err(E::Metadata)),
            ("168.63.129.16", Err(E::Metadata)),
            ("fd00:ec2::254", Err(E::Metadata)),
            ("fd20:ce::254", Err(E::Metadata)),
            ("fe80::1", Err(E::LinkLocal)),
            ("0.0.0.0", Err(E::Reserved)),
            ("::", Err(E::Reserved)),
            ("192.0.2.1", Err(E::Reserved)),
            ("198.19.0.1", Err(E::Reserved)),
            ("224.0.0.1", Err(E::Reserved)),
            ("255.255.255.255", Err(E::Reserved)),
            ("ff02::1", Err(E::Reserved)),
            ("2001:db8::1", Err(E::Reserved)),
            ("::ffff:127.0.0.1", Err(E::Loopback)),
            ("::ffff:169.254.169.254", Err(E::Metadata)),
            ("fec0::1", Err(E::Reserved)),
            ("::ffff:8.8.8.8", Err(E::Reserved)),
            ("::10.0.0.1", Err(E::Private)),
            ("64:ff9b::a00:1", Err(E::Private)),
            ("64:ff9b:1::a00:1", Err(E::Private)),
            ("2002:a00:1::", Err(E::Private)),
            ("2001::1", Err(E::Reserved)),
        ] {
            assert_eq!(check(address), wanted, "{address}");
        }
    }

    #[test]
    fn an_operator_opens_a_block_for_one_host_but_never_link_local() {
        let rules = AddressRules {
            exceptions: ["10.1.0.0/16", "169.254.0.0/16", "::1/128", "100.64.0.0/10"]
                .map(|cidr| AddressException { host: "git.corp".into(), cidr: cidr.parse().unwrap() })
                .into(),
        };
        let check = |host, address: &str| rules.check(host, address.parse().unwrap());
        assert_eq!(check("git.corp", "10.1.2.3"), Ok(()));
        assert_eq!(check("git.corp", "::1"), Ok(()));
        assert_eq!(check("git.corp", "10.2.2.3"), Err(AddressError::Private));
        assert_eq!(check("other.corp", "10.1.2.3"), Err(AddressError::Private));
        assert_eq!(check("git.corp", "100.64.0.1"), Ok(()));
        assert_eq!(check("git.corp", "169.254.0.1"), Err(AddressError::LinkLocal));
        assert_eq!(check("git.corp", "169.254.169.254"), Err(AddressError::Metadata));
        assert_eq!(check("git.corp", "100.100.100.200"), Err(AddressError::Metadata));
    }

    #[test]
    fn a_bad_block_is_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "::/129", "a/8", "10.0.0.0/-1"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
        assert!("0.0.0.0/0".parse::<Cidr>().unwrap().contains("8.8.8.8".parse().unwrap()));
    }
}

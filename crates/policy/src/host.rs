//! Hosts: the one value that a destination is matched, logged, resolved, dialled and compared by.
//!
//! ```text
//!  bytes ── Host::parse ──▶ Dns("api.example.org")   lower case, no dot at the end
//!               │           V4(93.184.216.34)        four plain numbers, nothing else
//!               │           V6(2606:2800::1)         with or without brackets, never with a zone
//!               └────────▶ HostError                 everything else: nothing is decoded or guessed
//!  bytes ── Authority::parse ──▶ host, port          "host", "host:443", "[2606:2800::1]:443"
//! ```
//!
//! Every known way past a list of names began with two parsers that read one text differently. So a
//! text is either in the plain form or refused: no percent signs, no user, no legacy spellings of
//! addresses, no control characters, and names outside of ASCII only as `xn--…`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};
use protocol::network::DenyReason;

/// The longest name that DNS has, in bytes and without a dot at its end.
const MAX_NAME: usize = 253;

/// The longest label that DNS has, in bytes.
const MAX_LABEL: usize = 63;

/// The longest text that is looked at: a name with its dot, or an IPv6 address in brackets.
const MAX_TEXT: usize = MAX_NAME + 1;

/// A host in its one form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name.
    Dns(DnsName),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address.
    V6(Ipv6Addr),
}

/// A DNS name in lower case, without a dot at its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DnsName(Box<str>);

/// A host and perhaps a port, as `CONNECT` and `Host:` write them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port, never 0.
    pub port: Option<u16>,
}

/// Why a text is no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Too long.
    #[error("a name has at most 253 characters")]
    TooLong,
    /// A label that is empty or too long, as between two dots.
    #[error("the parts between the dots have 1 to 63 characters")]
    Label,
    /// A label that begins or ends with a hyphen.
    #[error("the parts between the dots neither begin nor end with `-`")]
    Hyphen,
    /// A character that no name has.
    #[error("a name has letters, digits, `-`, `_` and dots only; others are written as xn--…")]
    Character,
    /// `xn--` and then something that is not what it says.
    #[error("a part that begins with `xn--` does not decode")]
    Punycode,
    /// An address in a short, octal, hexadecimal or otherwise legacy spelling.
    #[error("it ends in a number and is no address of four plain numbers like 192.0.2.1")]
    Numeric,
    /// Brackets or colons around something that is no IPv6 address.
    #[error("it is no IPv6 address, or has a zone")]
    V6,
    /// More than a host and a port.
    #[error("it has a scheme, a path, or a user")]
    Address,
    /// A port that is none.
    #[error("a port is a plain number from 1 to 65535")]
    Port,
}

impl HostError {
    /// The word for it.
    #[must_use]
    pub fn reason(self) -> DenyReason {
        match self {
            Self::Port => DenyReason::BadPort,
            _ => DenyReason::BadHost,
        }
    }
}

impl Host {
    /// The name right below the public suffix, which one owner has registered; the host itself where there
    /// is none.
    #[must_use]
    pub fn registrable(&self) -> String {
        let name = self.name().map(|name| psl::domain_str(name.as_str()).unwrap_or(name.as_str()));
        name.map_or_else(|| self.to_string(), str::to_owned)
    }

    /// Reads a host. IPv6 may stand in brackets; one dot at the end of a name is taken off.
    ///
    /// # Errors
    ///
    /// Everything that is not in the plain form.
    pub fn parse(bytes: &[u8]) -> Result<Self, HostError> {
        if bytes.is_empty() {
            return Err(HostError::Empty);
        }
        if bytes.len() > MAX_TEXT {
            return Err(HostError::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| HostError::Character)?;
        if let Some(rest) = text.strip_prefix('[') {
            return v6(rest.strip_suffix(']').ok_or(HostError::V6)?);
        }
        if text.contains(':') { v6(text) } else { name_or_v4(text) }
    }

    /// Its name, when it is one.
    #[must_use]
    pub fn name(&self) -> Option<&DnsName> {
        match self {
            Self::Dns(name) => Some(name),
            Self::V4(_) | Self::V6(_) => None,
        }
    }
}

fn v6(text: &str) -> Result<Host, HostError> {
    // The standard parser knows no zones and takes nothing but `inet_pton`'s form.
    text.parse().map(Host::V6).map_err(|_| HostError::V6)
}

fn name_or_v4(text: &str) -> Result<Host, HostError> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err(HostError::Label);
    }
    if name.len() > MAX_NAME {
        return Err(HostError::TooLong);
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Err(HostError::Character);
    }
    let name = name.to_ascii_lowercase();
    for label in name.split('.') {
        if !(1..=MAX_LABEL).contains(&label.len()) {
            return Err(HostError::Label);
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(HostError::Hyphen);
        }
        if label.starts_with("xn--") && !decodes(label) {
            return Err(HostError::Punycode);
        }
    }
    if is_number(name.rsplit('.').next().unwrap_or_default()) {
        // A dot behind an address means nothing, so that it is not an address's plain form.
        let address = if text.ends_with('.') { None } else { name.parse().ok() };
        return address.map(Host::V4).ok_or(HostError::Numeric);
    }
    Ok(Host::Dns(DnsName(name.into())))
}

/// Whether a C library would take this last label, and with it the whole text, for an address.
fn is_number(label: &str) -> bool {
    label.bytes().all(|byte| byte.is_ascii_digit())
        || label.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether the label stands for characters outside of ASCII, and is the one way to write them.
fn decodes(label: &str) -> bool {
    let read = Uts46::new().to_ascii(
        label.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::CheckFirstLast,
        DnsLength::VerifyAllowRootDot,
    );
    read.is_ok_and(|ascii| ascii == label)
}

impl DnsName {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands below its first dot, then below its second, and so on: `a.b.c` has `b.c` and `c`.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('.').map(|(dot, _)| &self.0[dot + 1..])
    }

    /// Whether it lies below `name` at any depth; no name lies below itself.
    #[must_use]
    pub fn is_below(&self, name: &str) -> bool {
        self.0.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => name.fmt(f),
            Self::V4(address) => address.fmt(f),
            Self::V6(address) => address.fmt(f),
        }
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        Self::parse(text.as_bytes())
    }
}

impl Authority {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
    ///
    /// # Errors
    ///
    /// What is no host, an IPv6 address without brackets, and a port that is not a plain number.
    pub fn parse(bytes: &[u8]) -> Result<Self, HostError> {
        if bytes.iter().any(|byte| b"/\\@?#".contains(byte)) {
            return Err(HostError::Address);
        }
        let end = match bytes {
            [b'[', ..] => bytes.iter().position(|byte| *byte == b']').ok_or(HostError::V6)? + 1,
            _ => bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len()),
        };
        let (host, rest) = bytes.split_at(end);
        let port = match rest {
            [] => None,
            [b':', digits @ ..] => Some(port(digits)?),
            _ => return Err(HostError::V6),
        };
        Ok(Self { host: Host::parse(host)?, port })
    }
}

/// A port without sign, spaces and leading zeros.
fn port(digits: &[u8]) -> Result<u16, HostError> {
    match digits {
        [b'1'..=b'9', ..] if digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or(HostError::Port)
        }
        _ => Err(HostError::Port),
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::V6(address) => write!(f, "[{address}]")?,
            host => host.fmt(f)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

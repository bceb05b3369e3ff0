//! Patterns of hosts: what lists of allowed and denied hosts are made of.
//!
//! ```text
//!  example.org          that host, ports 80 and 443        *.example.org    every host below it, not itself
//!  example.org:8443     that host at that port             *.example.org:22
//!  192.0.2.7  [2606:2800::1]:443                           an address; no pattern of names covers one
//! ```
//!
//! A `*` stands alone before the first dot, and never for a whole public suffix (`*.com`, `*.co.uk`).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::address;
use crate::host::{Authority, DnsName, Host, HostError};
use crate::special;

/// The ports of a pattern that names none.
const DEFAULT_PORTS: [u16; 2] = [80, 443];

/// What the lists hold, in its one form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    hosts: Hosts,
    port: Option<u16>,
}

/// Which hosts a pattern is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Hosts {
    /// This one.
    Exactly(Host),
    /// All below this name, at any depth.
    Below(DnsName),
}

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is no domain: {why}; write example.org, *.example.org, or example.org:8443")]
pub struct PatternError {
    /// As given, without control characters, cut to 80.
    pub pattern: String,
    /// What is wrong with it.
    pub why: PatternFault,
}

/// What is wrong with a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternFault {
    /// A star in the wrong place.
    #[error("a `*` may only stand alone before the first dot")]
    Star,
    /// Everything.
    #[error("`*` alone is everything, which the level full is for")]
    All,
    /// A whole registry of names.
    #[error("it is as wide as a public suffix, below which everybody can have a name")]
    PublicSuffix,
    /// IPv6 without brackets.
    #[error("an IPv6 address stands in brackets")]
    Brackets,
    /// Not a host.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// With the reason, for people.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        read(text).map_err(|why| PatternError {
            pattern: text.chars().filter(|c| !c.is_control()).take(80).collect(),
            why,
        })
    }

    /// Whether a connection to this host at this port is meant.
    #[must_use]
    pub fn matches(&self, host: &Host, port: u16) -> bool {
        self.covers(host) && self.has_port(port)
    }

    /// Whether the host is meant, at whatever port.
    #[must_use]
    pub fn covers(&self, host: &Host) -> bool {
        match &self.hosts {
            Hosts::Exactly(exact) => exact == host,
            Hosts::Below(name) => host.name().is_some_and(|host| host.is_below(name.as_str())),
        }
    }

    /// Whether the port is meant when the pattern allows.
    #[must_use]
    pub fn has_port(&self, port: u16) -> bool {
        self.port.map_or(DEFAULT_PORTS.contains(&port), |only| only == port)
    }

    /// Whether the port is meant when the pattern denies: without a port it denies all of them.
    #[must_use]
    pub fn denies_port(&self, port: u16) -> bool {
        self.port.is_none_or(|only| only == port)
    }

    /// Whether it stands for every host below a name.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        matches!(self.hosts, Hosts::Below(_))
    }

    /// What is allowed but worth a second look: a sentence without its end.
    #[must_use]
    pub fn caution(&self) -> Option<&'static str> {
        let private = "is closed at every level, unless the operator opened the host";
        match &self.hosts {
            Hosts::Exactly(Host::Dns(name)) | Hosts::Below(name) if special::class(name).is_some() => {
                Some(private)
            }
            Hosts::Exactly(Host::V4(address)) if !address::is_public((*address).into()) => Some(private),
            Hosts::Exactly(Host::V6(address)) if !address::is_public((*address).into()) => Some(private),
            Hosts::Below(name) if suffix(name).is_some() => {
                Some("covers hosts of everybody who is a customer there, not those of one owner")
            }
            Hosts::Exactly(_) | Hosts::Below(_) => None,
        }
    }

    /// Which hosts it is about.
    pub(crate) fn hosts(&self) -> &Hosts {
        &self.hosts
    }
}

fn read(text: &str) -> Result<Pattern, PatternFault> {
    if text.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) {
        return Err(PatternFault::Brackets);
    }
    if text == "*" || text.starts_with("*:") {
        return Err(PatternFault::All);
    }
    let (below, rest) = match text.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if rest.contains('*') {
        return Err(PatternFault::Star);
    }
    let Authority { host, port } = Authority::parse(rest.as_bytes())?;
    let hosts = match (below, host) {
        (false, host) => Hosts::Exactly(host),
        (true, Host::Dns(name)) if is_public_suffix(&name) => return Err(PatternFault::PublicSuffix),
        (true, Host::Dns(name)) => Hosts::Below(name),
        (true, Host::V4(_) | Host::V6(_)) => return Err(PatternFault::Star),
    };
    Ok(Pattern { hosts, port })
}

/// Whether anybody can register a name right below this one. Suffixes of companies that let their
/// customers have names (the private part of the public suffix list) are not meant: a whole cloud may
/// be wanted, and belongs to somebody.
fn is_public_suffix(name: &DnsName) -> bool {
    !name.as_str().contains('.') || suffix(name) == Some(psl::Type::Icann)
}

/// What kind of public suffix the name is as a whole, if it is one.
fn suffix(name: &DnsName) -> Option<psl::Type> {
    let suffix = psl::suffix(name.as_str().as_bytes())?;
    suffix.typ().filter(|_| suffix.as_bytes().len() == name.as_str().len())
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hosts {
            Hosts::Exactly(Host::V6(address)) => write!(f, "[{address}]")?,
            Hosts::Exactly(host) => host.fmt(f)?,
            Hosts::Below(name) => write!(f, "*.{name}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

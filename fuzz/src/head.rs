//! Heads of requests, as the proxy takes them in and as hosts get them.
//!
//! ```text
//!   input:  the first bytes of a connection
//!             └─▶ head ─▶ written anew ─▶ head: the same again
//! ```
//!
//! The `url` crate is the second reader of addresses. The second reader of fields is one that forgives
//! everything: whatever ends a line for anybody, it finds one host and one length at most.

use std::net::IpAddr;

use policy::host::{Authority, Host};

use crate::head::{Framing, Head, Target, end, read};
use crate::http::rewritten;

/// A head with more fields gets too many by those that are always written.
const MOST: usize = 96;

/// Takes one input; panics over a finding.
pub fn run(data: &[u8]) {
    let Some(at) = end(data) else { return };
    assert!(end(&data[..at]) == Some(at) && end(&data[..at - 1]).is_none(), "it ends in two places");
    let Ok(head) = read(&data[..at]) else { return };
    let said = forgiving(&data[..at]);
    assert!(said.hosts <= 1 && said.lengths <= 1, "{said:?} in what was read");
    let (host, port, path) = match head.target.clone() {
        Target::Tunnel { host, port } => {
            assert!(port != 0 && head.framing == Framing::Length(0), "{host}:{port}");
            return plain(&host);
        }
        Target::Absolute { host, port, path } => {
            same_address(&data[..at], &host, port);
            (host, port, path)
        }
        Target::Origin { host: Authority { host, port }, path } => (host, port.unwrap_or(80), path),
    };
    plain(&host);
    assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()), "{path:?}");
    again(&head, &host, port, &path);
}

/// Its text is one that reads as the same host.
fn plain(host: &Host) {
    let shown = host.to_string();
    assert_eq!(Host::parse(shown.as_bytes()).as_ref(), Ok(host), "{shown} reads as another host");
}

/// Others take the address for the same host and port, and see no user in it.
fn same_address(head: &[u8], host: &Host, port: u16) {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).unwrap_or_default();
    let target = line.split(' ').nth(1).unwrap_or_default();
    let Ok(url) = url::Url::parse(target) else { return };
    assert!(url.username().is_empty() && url.password().is_none(), "{target} has a user");
    assert_eq!(url.port_or_known_default(), Some(port), "{target}");
    let others = match url.host() {
        Some(url::Host::Ipv4(address)) => IpAddr::from(address).to_string(),
        Some(url::Host::Ipv6(address)) => IpAddr::from(address).to_string(),
        Some(url::Host::Domain(name)) => name.strip_suffix('.').unwrap_or(name).to_owned(),
        None => String::new(),
    };
    assert_eq!(host.to_string(), others, "{target}");
}

/// What a host gets reads as what was read.
fn again(head: &Head, host: &Host, port: u16, path: &str) {
    let written = rewritten(head, host, port, path);
    let shown = String::from_utf8_lossy(&written);
    assert_eq!(end(&written), Some(written.len()), "it ends early: {shown:?}");
    let said = forgiving(&written);
    assert_eq!((said.hosts, said.ends), (1, 1), "{said:?}: {shown:?}");
    assert!(said.lengths <= 1, "{said:?}: {shown:?}");
    if head.fields.len() > MOST {
        return;
    }
    let authority = Authority { host: host.clone(), port: (port != 80).then_some(port) };
    let target = Target::Origin { host: authority, path: path.to_owned() };
    assert_eq!(read(&written).as_ref(), Ok(&Head { target, ..head.clone() }), "{shown:?}");
}

/// What a reader that forgives everything finds in a head.
#[derive(Debug, Default)]
struct Said {
    /// Fields that name a host.
    hosts: usize,
    /// Fields that say how long the body is.
    lengths: usize,
    /// Fields that end the connection.
    ends: usize,
}

fn forgiving(head: &[u8]) -> Said {
    let mut said = Said::default();
    for line in head.split(|byte| matches!(byte, b'\r' | b'\n' | b'\0' | 0x0b | 0x0c)).skip(1) {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let name: String = name.iter().map(|byte| char::from(*byte)).collect();
        match name.trim().to_ascii_lowercase().as_str() {
            "host" => said.hosts += 1,
            "content-length" | "transfer-encoding" => said.lengths += 1,
            "connection" if line.ends_with(b": close") => said.ends += 1,
            _ => {}
        }
    }
    said
}

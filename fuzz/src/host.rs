//! Hosts and authorities, as the proxy takes them in.
//!
//! ```text
//!   input:  the text of a host or of an authority
//! ```
//!
//! The `url` crate is the second reader: it knows all the legacy spellings of addresses, so a text that
//! it takes for an address is that address here, or refused.

use std::net::IpAddr;

use policy::host::{Authority, Host};

/// Takes one input; panics over a finding.
pub(crate) fn run(data: &[u8]) {
    if let Ok(host) = Host::parse(data) {
        let shown = host.to_string();
        assert_eq!(Host::parse(shown.as_bytes()).as_ref(), Ok(&host), "{shown} reads as another host");
        plain(&host, &shown);
        let text = std::str::from_utf8(data).unwrap_or_default();
        for text in [text, shown.as_str(), text.trim_end_matches('.')] {
            if let Some(address) = address_of(text) {
                assert_eq!(literal(&host), Some(address), "{text:?} is {address} to others");
            }
        }
    }
    if let Ok(authority) = Authority::parse(data) {
        let shown = authority.to_string();
        assert_eq!(Authority::parse(shown.as_bytes()).as_ref(), Ok(&authority), "{shown}");
        assert!(authority.port != Some(0), "{shown}");
        let alone = data.strip_suffix(format!(":{}", authority.port.unwrap_or(0)).as_bytes()).unwrap_or(data);
        assert_eq!(Host::parse(alone).as_ref(), Ok(&authority.host), "{shown} without its port");
    }
}

/// What every host's text keeps to.
fn plain(host: &Host, shown: &str) {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.:".contains(&byte);
    assert!(shown.bytes().all(allowed), "{shown:?}");
    if let Host::Dns(name) = host {
        assert!(name.as_str().len() <= 253 && !shown.contains(':'), "{shown}");
        assert!(shown.split('.').all(|label| (1..=63).contains(&label.len())), "{shown}");
    }
}

fn literal(host: &Host) -> Option<IpAddr> {
    match host {
        Host::Dns(_) => None,
        Host::V4(address) => Some((*address).into()),
        Host::V6(address) => Some((*address).into()),
    }
}

/// The address that a browser would take the text for.
fn address_of(text: &str) -> Option<IpAddr> {
    match url::Host::parse(text) {
        Ok(url::Host::Ipv4(address)) => Some(address.into()),
        Ok(url::Host::Ipv6(address)) => Some(address.into()),
        Ok(url::Host::Domain(_)) | Err(_) => text.parse().ok(),
    }
}

//! Patterns of hosts, and the lists that are made of them.
//!
//! ```text
//!   input:  pattern '\n' authority
//! ```
//!
//! What a pattern says alone, what a list of it decides, and what plain text says of the two have to be
//! the same.

use policy::host::{Authority, Host};
use policy::network::{Decision, NetworkPolicy};
use policy::pattern::Pattern;
use protocol::environment::NetworkLevel;
use protocol::network::{DenyReason, NetworkRules, Rendering};

/// Takes one input; panics over a finding.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, target) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(pattern) = Pattern::parse(text) else { return };
    let shown = pattern.to_string();
    assert_eq!(Pattern::parse(&shown).as_ref(), Ok(&pattern), "{shown} reads as another pattern");
    let Ok(Authority { host, port: Some(port) }) = Authority::parse(target.as_bytes()) else { return };

    assert_eq!(pattern.matches(&host, port), said(&shown, &host, port), "{shown} and {host}:{port}");
    let allowing = [text.to_owned()].into();
    let custom = NetworkLevel::Custom { domains: allowing, include_default: false };
    let allowing = decide(&NetworkRules::of(custom, Rendering::Compatible), &host, port);
    let full = NetworkRules::of(NetworkLevel::Full {}, Rendering::Compatible);
    let open = matches!(decide(&full, &host, port), Decision::Allow(_));
    let allowed = matches!(allowing, Decision::Allow(_));
    assert_eq!(allowed, open && pattern.matches(&host, port), "a list of {shown} and {host}:{port}");

    let denying = decide(&NetworkRules { admin_deny: vec![shown.clone()], ..full }, &host, port);
    let denied = matches!(&denying, Decision::Deny(denial) if denial.reason == DenyReason::Denylist);
    let meant = pattern.covers(&host) && pattern.denies_port(port);
    assert_eq!(denied, open && meant, "a denial of {shown} and {host}:{port}");
}

fn decide(rules: &NetworkRules, host: &Host, port: u16) -> Decision {
    match NetworkPolicy::compile(rules) {
        Ok(policy) => policy.decide(host, port),
        Err(error) => panic!("a pattern that is one is none in a list: {error}"),
    }
}

/// What the pattern's text says of host and port, label by label from the top.
fn said(pattern: &str, host: &Host, port: u16) -> bool {
    let (name, only) = match pattern.rsplit_once(':') {
        Some((name, only)) if !name.starts_with('[') || name.ends_with(']') => (name, Some(only)),
        _ => (pattern, None),
    };
    let port_meant = only.map_or(port == 80 || port == 443, |only| only == port.to_string());
    let labels = |text: &str| text.rsplit('.').map(str::to_owned).collect::<Vec<_>>();
    let host_meant = match (name.strip_prefix("*."), host) {
        (None, host) => name.trim_matches(['[', ']']) == host.to_string(),
        (Some(above), Host::Dns(host)) => {
            let (above, host) = (labels(above), labels(host.as_str()));
            host.len() > above.len() && host.starts_with(&above)
        }
        (Some(_), Host::V4(_) | Host::V6(_)) => false,
    };
    port_meant && host_meant
}

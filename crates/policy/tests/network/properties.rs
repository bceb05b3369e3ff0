//! What holds for every text.

use std::net::IpAddr;

use policy::access::Access;
use policy::host::{Authority, Host};
use policy::network::{Decision, NetworkPolicy};
use policy::pattern::Pattern;
use proptest::prelude::*;
use protocol::network::NetworkRules;

use crate::{fixture, full};

/// Text that looks like a target, so that random bytes get past the first check.
fn target() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just("."),
        Just(":"),
        Just("*."),
        Just("["),
        Just("]"),
        Just("%"),
        Just("@"),
        Just("\0"),
        Just("-"),
        Just("0x7f"),
        Just("127"),
        Just("1"),
        Just("0"),
        Just("::"),
        Just("ffff"),
        Just("10"),
        Just("443"),
        Just("a"),
        Just("B"),
        Just("_"),
        Just("xn--"),
        Just("bcher-kva"),
        Just("wild"),
        Just("test"),
        Just("localhost"),
        Just("internal"),
        Just("ü"),
        Just("fe80"),
        Just("255"),
        Just(" "),
    ];
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat().into_bytes()),
        any::<[u8; 4]>().prop_map(|octets| IpAddr::from(octets).to_string().into_bytes()),
        any::<[u8; 16]>().prop_map(|octets| IpAddr::from(octets).to_string().into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn what_is_shown_reads_as_the_same_host(bytes in target()) {
        if let Ok(host) = Host::parse(&bytes) {
            let shown = host.to_string();
            prop_assert_eq!(Host::parse(shown.as_bytes()), Ok(host.clone()));
            prop_assert!(!shown.bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' ' || byte > b'~'));
            // A text that the standard library reads as an address is that address, and no other is one.
            let plain = std::str::from_utf8(&bytes).unwrap().trim_matches(['[', ']']);
            match plain.parse::<IpAddr>() {
                Ok(IpAddr::V4(address)) => prop_assert_eq!(host, Host::V4(address)),
                Ok(IpAddr::V6(address)) => prop_assert_eq!(host, Host::V6(address)),
                Err(_) => prop_assert!(matches!(host, Host::Dns(_))),
            }
        }
        if let Ok(authority) = Authority::parse(&bytes) {
            prop_assert_eq!(Authority::parse(authority.to_string().as_bytes()), Ok(authority));
        }
    }

    #[test]
    fn an_authority_is_its_host_and_its_port(bytes in target(), port in 1..=u16::MAX) {
        let bare_v6 = bytes.contains(&b':') && !bytes.starts_with(b"[");
        if let (false, Ok(host)) = (bare_v6, Host::parse(&bytes)) {
            let with_port = [&bytes[..], format!(":{port}").as_bytes()].concat();
            prop_assert_eq!(Authority::parse(&with_port), Ok(Authority { host, port: Some(port) }));
        }
    }

    #[test]
    fn a_pattern_reads_as_it_is_shown_and_never_matches_another_kind(bytes in target(), host in target()) {
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        let Ok(pattern) = Pattern::parse(&text) else { return Ok(()) };
        prop_assert_eq!(Pattern::parse(&pattern.to_string()), Ok(pattern.clone()));
        if let Ok(host) = Host::parse(&host) && pattern.matches(&host, 443) && pattern.to_string().starts_with('*') {
            prop_assert!(matches!(host, Host::Dns(_)));
        }
    }

    #[test]
    fn nothing_opens_what_is_closed(bytes in target(), port in 0..=u16::MAX, level in 0..2) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let everything = if Pattern::parse(&text).is_ok() { vec![text] } else { Vec::new() };
        let base = if level == 0 { full() } else { fixture() };
        let rules = NetworkRules { admin_allow: everything.clone(), session_allow: everything, ..base };
        let policy = NetworkPolicy::compile(&rules).unwrap();
        let Ok(host) = Host::parse(&bytes) else { return Ok(()) };
        if let Decision::Allow(grant) = policy.decide(&host, port) {
            prop_assert!(port != 0);
            prop_assert_eq!(grant.access, Access::Opaque);
            match &host {
                Host::V4(address) => prop_assert_eq!(policy.may_dial(&host, port, (*address).into()), Ok(())),
                Host::V6(address) => prop_assert_eq!(policy.may_dial(&host, port, (*address).into()), Ok(())),
                Host::Dns(name) => {
                    prop_assert!(name.as_str().contains('.'));
                    for closed in ["localhost", "internal", "local", "home.arpa"] {
                        prop_assert!(name.as_str() != closed && !name.is_below(closed));
                    }
                }
            }
        }
        // What the operator denies stays denied, however the list of allowances reads.
        let denying = NetworkRules { admin_deny: vec![denial_of(&host)], ..rules };
        let decision = NetworkPolicy::compile(&denying).unwrap().decide(&host, port);
        let refused_for_good = matches!(decision, Decision::Deny(denial) if !denial.askable);
        prop_assert!(refused_for_good);
    }
}

fn denial_of(host: &Host) -> String {
    Authority { host: host.clone(), port: None }.to_string()
}

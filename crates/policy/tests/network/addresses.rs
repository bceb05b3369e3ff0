//! R: addresses, before and after resolution.

use policy::network::NetworkPolicy;
use protocol::network::{DenyReason as R, NetworkRules, PrivateException};

use crate::{connect, denial, fixture, full, may_dial, rules};

#[test]
fn r07_legacy_spellings_of_addresses_are_no_hosts() {
    for rules in [fixture(), full(), rules(&["127.0.0.1"])] {
        for target in [
            "127.1:443",
            "2130706433:443",
            "0177.0.0.1:443",
            "0x7f.1:443",
            "0x7f000001:443",
            "127.0.0.1.:443",
            "127.0.0.0x1:443",
            "1.2.3.4.5:443",
            "127.0.0.01:443",
            "256.1.1.1:443",
            "a.0x:443",
            "x.08:443",
        ] {
            assert_eq!(connect(&rules, target), Err(R::BadHost), "{target}");
        }
        for target in ["[::ffff:7f00:1]:443", "[::ffff:127.0.0.1]:443"] {
            assert_eq!(connect(&rules, target), Err(R::AddrLoopback), "{target}");
        }
    }
}

#[test]
fn r01_to_r06_addresses_are_checked_after_resolution_at_every_level() {
    for rules in [fixture(), full()] {
        for (address, reason) in [
            ("127.0.0.1", R::AddrLoopback),
            ("127.9.9.9", R::AddrLoopback),
            ("10.0.0.1", R::AddrPrivate),
            ("172.16.0.1", R::AddrPrivate),
            ("192.168.0.1", R::AddrPrivate),
            ("100.64.0.1", R::AddrPrivate),
            ("169.254.169.254", R::AddrMetadata),
            ("169.254.7.7", R::AddrLinklocal),
            ("0.0.0.0", R::AddrReserved),
            ("::", R::AddrReserved),
            ("::1", R::AddrLoopback),
            ("fc00::1", R::AddrPrivate),
            ("fe80::1", R::AddrLinklocal),
            ("ff02::1", R::AddrReserved),
            ("::ffff:127.0.0.1", R::AddrLoopback),
            ("::ffff:7f00:1", R::AddrLoopback),
            ("64:ff9b::7f00:1", R::AddrLoopback),
        ] {
            assert_eq!(may_dial(&rules, "a.wild.test", address), Err(reason), "{address}");
        }
        assert_eq!(may_dial(&rules, "a.wild.test", "93.184.216.34"), Ok(()));
    }
}

#[test]
fn r11_names_of_this_machine_and_of_private_networks_are_closed_at_every_level() {
    let named = rules(&["localhost", "host.docker.internal", "a.local", "printer", "*.corp.internal"]);
    for rules in [full(), named] {
        for (host, reason) in [
            ("localhost", R::AddrLoopback),
            ("LOCALHOST.", R::AddrLoopback),
            ("x.localhost", R::AddrLoopback),
            ("host.docker.internal", R::AddrLoopback),
            ("metadata.google.internal", R::AddrMetadata),
            ("git.corp.internal", R::AddrPrivate),
            ("a.local", R::AddrPrivate),
            ("router.home.arpa", R::AddrPrivate),
            ("printer", R::AddrPrivate),
        ] {
            let denial = denial(&rules, &format!("{host}:443"));
            assert_eq!((denial.reason, denial.askable), (reason, false), "{host}");
        }
    }
    for host in ["notlocalhost.test", "localhost.test", "internal.test", "xlocal.test"] {
        assert!(connect(&full(), format!("{host}:443")).is_ok(), "{host}");
    }
}

#[test]
fn r12_full_is_every_public_address_and_every_port() {
    for target in ["8.8.8.8:443", "8.8.8.8:25", "example.org:22", "[2606:2800:220:1::1]:8080"] {
        assert_eq!(connect(&full(), target).unwrap(), "level full", "{target}");
    }
    for (target, reason) in [
        ("10.0.0.1:443", R::AddrPrivate),
        ("127.0.0.1:443", R::AddrLoopback),
        ("169.254.169.254:80", R::AddrMetadata),
        ("[::1]:443", R::AddrLoopback),
        ("[fd00::1]:443", R::AddrPrivate),
        ("[64:ff9b::808:808]:443", R::AddrReserved),
        ("224.0.0.1:443", R::AddrReserved),
        ("example.org:0", R::BadPort),
    ] {
        assert_eq!(connect(&full(), target), Err(reason), "{target}");
    }
}

#[test]
fn the_operator_opens_private_addresses_by_host_and_block_and_nothing_more() {
    let open = |host: &str, cidr: &str| PrivateException { host: host.into(), cidr: cidr.into() };
    let rules = NetworkRules {
        private: vec![
            open("git.corp.internal", "10.1.0.0/16"),
            open("Registry", "10.1.0.0/16"),
            open("10.1.2.3", "10.1.2.3/32"),
            open("a.wild.test", "169.254.0.0/16"),
        ],
        ..rules(&["*.corp.internal", "registry", "10.1.2.3:8080", "*.wild.test"])
    };
    assert!(connect(&rules, "git.corp.internal:443").is_ok());
    assert!(connect(&rules, "registry:443").is_ok());
    assert!(connect(&rules, "10.1.2.3:8080").is_ok());
    assert_eq!(connect(&rules, "other.corp.internal:443"), Err(R::AddrPrivate));
    assert_eq!(connect(&rules, "10.1.2.4:8080"), Err(R::AddrPrivate));
    for (host, address, wanted) in [
        ("git.corp.internal", "10.1.9.9", Ok(())),
        ("git.corp.internal", "10.2.0.1", Err(R::AddrPrivate)),
        ("a.wild.test", "10.1.9.9", Err(R::AddrPrivate)),
        ("a.wild.test", "169.254.169.254", Err(R::AddrMetadata)),
        ("a.wild.test", "169.254.1.1", Err(R::AddrLinklocal)),
        ("10.1.2.3", "10.1.2.3", Ok(())),
        ("8.8.8.8", "10.1.2.3", Err(R::RawIp)),
    ] {
        assert_eq!(may_dial(&rules, host, address), wanted, "{host} at {address}");
    }
    for (host, cidr, words) in [
        ("localhost", "127.0.0.0/8", "cannot be opened"),
        ("metadata.google.internal", "10.0.0.0/8", "cannot be opened"),
        ("*.corp.internal", "10.0.0.0/8", "name one host"),
        ("git.corp:22", "10.0.0.0/8", "name one host"),
        ("git.corp", "10.0.0.0", "no address block"),
    ] {
        let given = NetworkRules { private: vec![open(host, cidr)], ..full() };
        let error = NetworkPolicy::compile(&given).unwrap_err().to_string();
        assert!(error.contains(words), "{host}: {error}");
    }
}

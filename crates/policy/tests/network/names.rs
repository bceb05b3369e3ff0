//! N: names, ports and patterns.

use policy::host::{Authority, Host};
use policy::network::{Denial, NetworkPolicy, PolicyError, RuleList};
use policy::pattern::Pattern;
use protocol::network::{DenyReason as R, NetworkRules};

use crate::{connect, denial, fixture, full, rules};

#[test]
fn n01_what_no_rule_names_is_refused_and_may_be_asked() {
    let denial = denial(&fixture(), "evil.test:443");
    assert_eq!(denial, Denial { reason: R::NotAllowed, rule: None, askable: true });
}

#[test]
fn n02_empty_lists_allow_nothing_and_missing_ones_are_no_rules() {
    assert_eq!(connect(&rules(&[]), "api.allowed.test:443"), Err(R::NotAllowed));
    for text in ["", "{}", "null", r#"{"level":{"level":"full"}"#, r#"{"level":{"level":"full"}}"#] {
        assert!(serde_json::from_str::<NetworkRules>(text).is_err(), "{text}");
    }
}

#[test]
fn n04_a_nul_ends_no_name() {
    for target in [&b"evil.test\0.wild.test:443"[..], b"evil.test\0:443", b"\0.wild.test:443"] {
        assert_eq!(connect(&fixture(), target), Err(R::BadHost), "{target:?}");
    }
}

#[test]
fn n05_control_characters_and_spaces_are_in_no_name() {
    for byte in (0..=b' ').chain([0x7f, b'"', b'%', b'@', b'/', b'\\', b'#', b'?', b'*', b',', b'\'']) {
        for place in [0, 3, 11] {
            let mut target = b"a.b.wild.test:443".to_vec();
            target.insert(place, byte);
            assert_eq!(connect(&fixture(), &target), Err(R::BadHost), "{byte:#x} at {place}");
        }
    }
    assert_eq!(connect(&fixture(), b"api.allowed.test:443\r\nx"), Err(R::BadPort));
    assert_eq!(connect(&fixture(), b"api.allowed.test:443 "), Err(R::BadPort));
    assert_eq!(connect(&fixture(), "api.allowed\u{3002}test:443"), Err(R::BadHost));
    assert_eq!(connect(&fixture(), b"api\xff.wild.test:443"), Err(R::BadHost));
}

#[test]
fn n06_nothing_is_decoded() {
    for target in [
        "evil.test%00.wild.test:443",
        "evil.test%2e.wild.test:443",
        "%61pi.allowed.test:443",
        "a%2Ewild.test:1",
    ] {
        assert_eq!(connect(&fixture(), target), Err(R::BadHost), "{target}");
    }
}

#[test]
fn n07_a_dot_at_the_end_is_the_same_host() {
    let [dotted, plain] = ["api.allowed.test.", "api.allowed.test"].map(|text| text.parse::<Host>().unwrap());
    assert_eq!(dotted, plain);
    assert_eq!(connect(&fixture(), "api.allowed.test.:443").unwrap(), "environment: api.allowed.test");
    assert_eq!(connect(&fixture(), "api.allowed.test..:443"), Err(R::BadHost));
    let denying = NetworkRules { admin_deny: vec!["api.allowed.test".into()], ..fixture() };
    assert_eq!(connect(&denying, "api.allowed.test.:443"), Err(R::Denylist));
}

#[test]
fn n08_case_changes_neither_allowing_nor_denying() {
    assert_eq!(connect(&fixture(), "API.Allowed.TEST:443").unwrap(), "environment: api.allowed.test");
    assert_eq!(connect(&fixture(), "EVIL.test:443"), Err(R::NotAllowed));
    let denying = NetworkRules { admin_deny: vec!["Bad.WILD.test".into()], ..fixture() };
    assert_eq!(connect(&denying, "bAd.wild.TEST:443"), Err(R::Denylist));
}

#[test]
fn n09_names_are_compared_by_labels() {
    for target in [
        "evilwild.test:443",
        "api.allowed.test.evil.test:443",
        "wild.test:443",
        "xapi.allowed.test:443",
        "x.api.allowed.test:443",
        "allowed.test:443",
        "wild.test.evil.test:443",
    ] {
        assert_eq!(connect(&fixture(), target), Err(R::NotAllowed), "{target}");
    }
    for target in [".wild.test:443", "..wild.test:443", "-.wild.test:443", "a-.wild.test:443"] {
        assert_eq!(connect(&fixture(), target), Err(R::BadHost), "{target}");
    }
}

#[test]
fn n10_a_star_is_any_depth() {
    assert_eq!(connect(&fixture(), "a.b.c.wild.test:443").unwrap(), "environment: *.wild.test");
    assert_eq!(connect(&fixture(), "_dns.a_b.wild.test:80").unwrap(), "environment: *.wild.test");
}

#[test]
fn n11_a_user_is_no_part_of_a_target() {
    for target in ["api.allowed.test@evil.test:443", "http://api.allowed.test:443@evil.test/"] {
        assert!(connect(&fixture(), target).is_err(), "{target}");
        assert!(Authority::parse(target.as_bytes()).is_err(), "{target}");
    }
}

#[test]
fn n12_fragments_backslashes_and_queries_are_no_part_of_a_target() {
    for target in [
        "http://evil.test#@api.allowed.test/",
        "http://evil.test\\@api.allowed.test/",
        "evil.test?.wild.test:443",
        "evil.test#.wild.test:443",
        "evil.test/.wild.test:443",
        "evil.test\\.wild.test:443",
    ] {
        assert!(Authority::parse(target.as_bytes()).is_err(), "{target}");
    }
}

#[test]
fn n13_an_address_has_no_zone_and_no_suffix() {
    for target in [
        "[::ffff:1.2.3.4%x.wild.test]:443",
        "[fe80::1%25x.wild.test]:443",
        "[fe80::1%eth0]:443",
        "[::1].wild.test:443",
        "[::1]wild.test:443",
        "[wild.test]:443",
        "[1.2.3.4]:443",
        "[[::1]]:443",
        "[]:443",
        "[::1:443",
        "::1:443",
    ] {
        assert!(connect(&fixture(), target).is_err(), "{target}");
        assert!(connect(&full(), target).is_err(), "{target}");
    }
}

#[test]
fn n14_a_port_is_a_plain_number_and_has_its_own_rule() {
    assert_eq!(connect(&fixture(), "port.test:8443").unwrap(), "environment: port.test:8443");
    for port in ["443", "08443", "+8443", "73979", "8443:22", "0", "", "-1", "8443 ", "0x20fb", "８443"] {
        assert_eq!(connect(&fixture(), format!("port.test:{port}")), Err(R::BadPort), "{port:?}");
    }
    assert_eq!(connect(&fixture(), "port.test"), Err(R::BadPort));
    assert_eq!(connect(&fixture(), "api.allowed.test:80").unwrap(), "environment: api.allowed.test");
    assert_eq!(connect(&fixture(), "api.allowed.test:22"), Err(R::BadPort));
    let denial = denial(&fixture(), "port.test:443");
    assert_eq!(denial.rule.unwrap().to_string(), "environment: port.test:8443");
    assert!(denial.askable);
}

#[test]
fn n15_what_is_too_long_is_refused_without_a_look() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}.wild.test", "a".repeat(51));
    assert_eq!(longest.len(), 253);
    assert!(connect(&fixture(), format!("{longest}:443")).is_ok());
    assert!(connect(&fixture(), format!("{longest}.:443")).is_ok());
    for name in [
        format!("a{longest}"),
        format!("{}.wild.test", "a".repeat(64)),
        "a.".repeat(255),
        format!("{}.wild.test", "a.".repeat(35_000)),
    ] {
        assert_eq!(connect(&fixture(), format!("{name}:443")), Err(R::BadHost));
    }
}

#[test]
fn n16_wide_and_broken_patterns_are_refused_with_the_reason() {
    for (pattern, why) in [
        ("*", "level full"),
        ("*:443", "level full"),
        ("*.", "empty"),
        ("*.com", "public suffix"),
        ("*.test", "public suffix"),
        ("*.co.uk", "public suffix"),
        ("*.CO.UK", "public suffix"),
        ("*.co.uk:443", "public suffix"),
        ("*.ck", "public suffix"),
        ("*.anything.ck", "public suffix"),
        ("*.xn--55qx5d.cn", "public suffix"),
        ("foo*.test", "`*` may only"),
        ("a.*.test", "`*` may only"),
        ("*.*.example.org", "`*` may only"),
        ("**.example.org", "`*` may only"),
        ("*.1.2.3.4", "`*` may only"),
        ("*.[::1]", "`*` may only"),
        ("*example.org", "`*` may only"),
        ("https://x", "scheme"),
        ("x/", "scheme"),
        ("u@example.org", "scheme"),
        (" x ", "letters"),
        ("exam ple.org", "letters"),
        ("example.org\n", "letters"),
        ("bücher.example", "xn--"),
        ("::1", "brackets"),
        ("2001:db8::1", "brackets"),
        ("", "empty"),
        ("example..org", "1 to 63"),
        (".example.org", "1 to 63"),
        ("-a.org", "`-`"),
        ("xn--a.example", "decode"),
        ("xn--99999999.example", "decode"),
        ("a.1", "ends in a number"),
        ("10.1", "ends in a number"),
        ("example.org:0", "port"),
        ("example.org:", "port"),
        ("example.org:0443", "port"),
        ("example.org:*", "`*` may only"),
    ] {
        let error = Pattern::parse(pattern).expect_err(pattern).to_string();
        assert!(error.contains(why), "{pattern:?}: {error}");
        assert!(!error.contains('\n'));
        let given = NetworkRules { admin_allow: vec![pattern.into()], ..full() };
        let refused = NetworkPolicy::compile(&given).unwrap_err();
        assert!(matches!(refused, PolicyError::Pattern { list: RuleList::AdminAllow, .. }), "{pattern}");
    }
}

#[test]
fn n18_a_rule_for_a_name_covers_no_address() {
    for target in ["93.184.216.34:443", "[2606:2800:220:1::1]:443"] {
        let denial = denial(&fixture(), target);
        assert_eq!((denial.reason, denial.askable), (R::RawIp, true), "{target}");
        let own = rules(&[target]);
        assert!(connect(&own, target).is_ok(), "{target}");
        assert_eq!(connect(&own, target.replace("443", "80")), Err(R::BadPort));
    }
}

#[test]
fn a_pattern_is_shown_as_it_is_read() {
    for (given, shown) in [
        ("Example.ORG", "example.org"),
        ("*.example.org.", "*.example.org"),
        ("example.org:443", "example.org:443"),
        ("[2606:2800::0:1]:443", "[2606:2800::1]:443"),
        ("192.0.2.7", "192.0.2.7"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("a.b-c.d0", "a.b-c.d0"),
    ] {
        assert_eq!(Pattern::parse(given).unwrap().to_string(), shown);
    }
}

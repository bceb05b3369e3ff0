//! Levels and lists: which one counts.

use policy::host::Host;
use policy::network::{Decision, Denial, Grant, NetworkPolicy, RuleList};
use protocol::environment::NetworkLevel;
use protocol::network::{Access, DenyReason as R, NetworkRules, Rendering};

use crate::{connect, denial, fixture};

#[test]
fn at_level_none_no_list_allows_anything() {
    let everywhere = || vec!["api.allowed.test".to_owned()];
    let none = NetworkRules {
        admin_allow: everywhere(),
        session_allow: everywhere(),
        ..NetworkRules::of(NetworkLevel::None {}, Rendering::Compatible)
    };
    let denial = denial(&none, "api.allowed.test:443");
    assert_eq!(denial, Denial { reason: R::NotAllowed, rule: None, askable: false });
}

#[test]
fn denials_win_and_the_operators_come_first() {
    let list = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let mut rules = NetworkRules {
        admin_allow: list(&["*.evil.test", "a.wild.test"]),
        admin_deny: list(&["*.evil.test", "ssh.wild.test:22"]),
        session_allow: list(&["a.evil.test:443", "asked.test:8080"]),
        session_deny: list(&["*.evil.test", "no.wild.test"]),
        ..fixture()
    };
    for (target, wanted) in [
        ("a.evil.test:443", Err("admin deny list: *.evil.test")),
        ("a.evil.test:8443", Err("admin deny list: *.evil.test")),
        ("no.wild.test:80", Err("denied for this session: no.wild.test")),
        ("ssh.wild.test:22", Err("admin deny list: ssh.wild.test:22")),
        ("ssh.wild.test:443", Ok("environment: *.wild.test")),
        ("a.wild.test:443", Ok("admin allow list: a.wild.test")),
        ("asked.test:8080", Ok("allowed for this session: asked.test:8080")),
    ] {
        match wanted {
            Ok(rule) => assert_eq!(connect(&rules, target).as_deref(), Ok(rule), "{target}"),
            Err(rule) => {
                let denial = denial(&rules, target);
                assert_eq!((denial.reason, denial.askable), (R::Denylist, false), "{target}");
                assert_eq!(denial.rule.unwrap().to_string(), rule, "{target}");
            }
        }
    }
    rules.level = NetworkLevel::Full {};
    assert_eq!(connect(&rules, "a.evil.test:9999"), Err(R::Denylist));
}

/// The decision about a host that is written with its labels reversed, as the included list has them.
fn decide(rules: &NetworkRules, reversed: &str, port: u16) -> Result<Grant, Denial> {
    let host: Vec<&str> = reversed.rsplit('.').collect();
    let host: Host = host.join(".").parse().unwrap();
    match NetworkPolicy::compile(rules).unwrap().decide(&host, port) {
        Decision::Allow(grant) => Ok(grant),
        Decision::Deny(denial) => Err(denial),
    }
}

#[test]
fn the_included_list_is_the_level_trusted_and_a_part_of_custom_when_wanted() {
    let custom =
        |include_default| NetworkLevel::Custom { domains: vec!["example.org".into()], include_default };
    for (level, listed) in [
        (NetworkLevel::Trusted {}, true),
        (custom(true), true),
        (custom(false), false),
        (NetworkLevel::None {}, false),
    ] {
        let rules = NetworkRules::of(level.clone(), Rendering::Compatible);
        for host in ["io.crates.index", "org.npmjs.registry", "org.debian.deb", "com.amazonaws.s3.x"] {
            assert_eq!(decide(&rules, host, 443).is_ok(), listed, "{level:?} {host}");
        }
        let own = decide(&rules, "org.example", 443).is_ok();
        assert_eq!(own, matches!(level, NetworkLevel::Custom { .. }), "{level:?}");
    }
}

#[test]
fn the_included_list_is_at_its_ports_and_below_every_denial() {
    let trusted = NetworkRules::of(NetworkLevel::Trusted {}, Rendering::Compatible);
    let grant = decide(&trusted, "org.npmjs.registry", 443).unwrap();
    assert_eq!((grant.rule.list(), grant.access), (RuleList::Trusted, Access::Opaque));
    assert!(grant.rule.to_string().starts_with("trusted list: registry."), "{}", grant.rule);
    let denial = decide(&trusted, "com.github", 22).unwrap_err();
    assert_eq!((denial.reason, denial.askable), (R::BadPort, true));
    assert!(denial.rule.unwrap().to_string().starts_with("trusted list: "));

    let wide = format!("*.{}", ["amazonaws", "com"].join("."));
    let denying = NetworkRules { admin_deny: vec![wide], ..trusted };
    assert_eq!(decide(&denying, "com.amazonaws.s3.x", 443).unwrap_err().reason, R::Denylist);
}

#[test]
fn strictly_rendered_the_included_list_is_for_reading_and_ones_own_rules_are_not() {
    let mut rules = NetworkRules::of(NetworkLevel::Trusted {}, Rendering::Strict);
    let grant = decide(&rules, "org.npmjs.registry", 443).unwrap();
    assert_eq!(grant.access, Access::Read);
    assert!(grant.permits("GET", "/left-pad") && !grant.permits("PUT", "/left-pad"));
    rules.admin_allow = vec!["own.example.org".into()];
    assert_eq!(decide(&rules, "org.example.own", 443).unwrap().access, Access::Opaque);
    rules.level = NetworkLevel::Full {};
    assert_eq!(decide(&rules, "org.npmjs.registry", 443).unwrap().access, Access::Opaque);
}

//! Levels and lists: which one counts.

use policy::network::Denial;
use protocol::environment::NetworkLevel;
use protocol::network::{DenyReason as R, NetworkRules, Rendering};

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

//! Hosts as `WebFetch(domain:…)` rules and `network.allowedDomains` write them: patterns, and `*`.

use std::fmt;
use std::str::FromStr;

use protocol::environment::NetworkLevel;
use protocol::network::{NetworkRules, Rendering};

use crate::host::Host;
use crate::pattern::{Pattern, PatternError};

/// Some hosts, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainRule {
    /// `example.org`, `*.example.org`
    Hosts(Pattern),
    /// `*`
    All,
}

impl DomainRule {
    /// Whether the rule, which denies or asks, is about this host at this port.
    #[must_use]
    pub fn concerns(&self, host: &Host, port: u16) -> bool {
        match self {
            Self::Hosts(pattern) => pattern.covers(host) && pattern.denies_port(port),
            Self::All => true,
        }
    }
}

impl FromStr for DomainRule {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text == "*" { Ok(Self::All) } else { text.parse().map(Self::Hosts) }
    }
}

impl fmt::Display for DomainRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hosts(pattern) => pattern.fmt(f),
            Self::All => f.write_str("*"),
        }
    }
}

/// Which hosts are wished for and which are not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Domains {
    /// May be reached.
    pub allowed: Vec<DomainRule>,
    /// May be reached when a person says so each time, whatever the first list says.
    pub asked: Vec<DomainRule>,
    /// May not, whatever the other lists say.
    pub denied: Vec<DomainRule>,
}

impl Domains {
    /// The same as rules for the proxy. Without a person who could be asked, what would be asked about is
    /// denied.
    #[must_use]
    pub fn rules(&self, can_ask: bool) -> NetworkRules {
        let refused: Vec<&DomainRule> = if can_ask {
            self.denied.iter().collect()
        } else {
            self.denied.iter().chain(&self.asked).collect()
        };
        let level = if refused.contains(&&DomainRule::All) {
            NetworkLevel::None {}
        } else if self.allowed.contains(&DomainRule::All) {
            NetworkLevel::Full {}
        } else {
            NetworkLevel::Custom { domains: Vec::new(), include_default: false }
        };
        let texts = |rules: &mut dyn Iterator<Item = &DomainRule>| {
            rules.filter(|rule| **rule != DomainRule::All).map(ToString::to_string).collect()
        };
        NetworkRules {
            session_allow: texts(&mut self.allowed.iter()),
            session_deny: texts(&mut refused.into_iter()),
            ..NetworkRules::of(level, Rendering::Compatible)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Decision, NetworkPolicy};

    fn rules(list: &[&str]) -> Vec<DomainRule> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn allows(domains: &Domains, can_ask: bool, host: &str, port: u16) -> bool {
        let policy = NetworkPolicy::compile(&domains.rules(can_ask)).unwrap();
        matches!(policy.decide(&host.parse().unwrap(), port), Decision::Allow(_))
    }

    #[test]
    fn a_denial_wins_and_a_star_is_what_is_below() {
        let domains = Domains {
            allowed: rules(&["*.example.org", "API.test"]),
            denied: rules(&["bad.example.org"]),
            ..Domains::default()
        };
        for (host, port, allowed) in [
            ("a.example.org", 443, true),
            ("a.b.EXAMPLE.org", 80, true),
            ("a.example.org", 22, false),
            ("example.org", 443, false),
            ("evilexample.org", 443, false),
            ("bad.example.org", 443, false),
            ("api.test", 443, true),
            ("api.test.", 443, true),
        ] {
            assert_eq!(allows(&domains, false, host, port), allowed, "{host}:{port}");
        }
        assert!(!allows(&Domains::default(), false, "example.org", 443));
    }

    #[test]
    fn a_star_is_everything_and_denied_it_is_the_end() {
        let mut all =
            Domains { allowed: rules(&["*"]), denied: rules(&["example.org"]), ..Domains::default() };
        assert!(!allows(&all, false, "example.org", 8443) && allows(&all, false, "a.example.org", 8443));
        assert!(!allows(&all, false, "localhost", 80) && !allows(&all, false, "10.0.0.1", 80));
        all.denied = rules(&["*"]);
        assert!(!allows(&all, false, "a.example.org", 443));
    }

    #[test]
    fn what_would_be_asked_about_is_denied_where_nobody_can_be() {
        let domains =
            Domains { allowed: rules(&["*.a.test"]), asked: rules(&["x.a.test"]), ..Domains::default() };
        assert!(allows(&domains, true, "x.a.test", 443) && !allows(&domains, false, "x.a.test", 443));
        assert!(allows(&domains, false, "y.a.test", 443));
        assert!(domains.asked[0].concerns(&"x.a.test".parse().unwrap(), 8443));
    }

    #[test]
    fn what_names_no_host_is_refused() {
        for text in ["", ".", "*.", "*.com", "a..b", "-a.b", "http://a", "a:0", "a b", "*a.b", "ü.de"] {
            assert!(text.parse::<DomainRule>().is_err(), "{text:?}");
        }
    }
}

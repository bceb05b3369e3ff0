//! Hosts as `WebFetch(domain:…)` rules and `network.allowedDomains` write them: patterns, and `*`.

use std::str::FromStr;

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

impl FromStr for DomainRule {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text == "*" { Ok(Self::All) } else { text.parse().map(Self::Hosts) }
    }
}

/// Which hosts are wished for and which are not; the later proxy's input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Domains {
    /// May be reached.
    pub allowed: Vec<DomainRule>,
    /// May not, whatever the other list says.
    pub denied: Vec<DomainRule>,
}

impl Domains {
    /// Named, and not denied.
    #[must_use]
    pub fn allows(&self, host: &Host, port: u16) -> bool {
        let allowed = |rule: &DomainRule| match rule {
            DomainRule::Hosts(pattern) => pattern.matches(host, port),
            DomainRule::All => true,
        };
        let denied = |rule: &DomainRule| match rule {
            DomainRule::Hosts(pattern) => pattern.covers(host) && pattern.denies_port(port),
            DomainRule::All => true,
        };
        self.allowed.iter().any(allowed) && !self.denied.iter().any(denied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_wins_and_a_star_is_what_is_below() {
        let rules = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        let domains =
            Domains { allowed: rules(&["*.example.org", "API.test"]), denied: rules(&["bad.example.org"]) };
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
            assert_eq!(domains.allows(&host.parse().unwrap(), port), allowed, "{host}:{port}");
        }
        let any = "example.org".parse().unwrap();
        assert!(!Domains::default().allows(&any, 443));
        let all = Domains { allowed: rules(&["*"]), denied: rules(&["example.org"]) };
        assert!(!all.allows(&any, 8443) && all.allows(&"a.example.org".parse().unwrap(), 8443));
    }

    #[test]
    fn what_names_no_host_is_refused() {
        for text in ["", ".", "*.", "*.com", "a..b", "-a.b", "http://a", "a:0", "a b", "*a.b", "ü.de"] {
            assert!(text.parse::<DomainRule>().is_err(), "{text:?}");
        }
    }
}

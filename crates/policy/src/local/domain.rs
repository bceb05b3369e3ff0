//! Hosts by name, as `WebFetch(domain:…)` rules and `network.allowedDomains` write them.

use std::str::FromStr;

/// One name, or all below one, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainRule {
    /// `example.org`
    Exactly(String),
    /// `*.example.org`: every name below it, not itself
    Below(String),
    /// `*`
    All,
}

/// A text that names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no host; write example.org, *.example.org, or *")]
pub struct BadDomain(String);

impl FromStr for DomainRule {
    type Err = BadDomain;

    fn from_str(text: &str) -> Result<Self, BadDomain> {
        if text == "*" {
            return Ok(Self::All);
        }
        let bad = || BadDomain(text.chars().take(100).filter(|c| !c.is_control()).collect());
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let name = host(name).ok_or_else(bad)?;
        // A star right below the top would be the whole of it.
        match below {
            true if !name.contains('.') => Err(bad()),
            true => Ok(Self::Below(name)),
            false => Ok(Self::Exactly(name)),
        }
    }
}

impl DomainRule {
    /// Whether this host, as it was written in a request, is meant. What is no host name is not.
    #[must_use]
    pub fn matches(&self, asked: &str) -> bool {
        let Some(asked) = host(asked) else { return false };
        match self {
            Self::Exactly(name) => *name == asked,
            Self::Below(name) => asked.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.')),
            Self::All => true,
        }
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
    pub fn allows(&self, asked: &str) -> bool {
        self.allowed.iter().any(|rule| rule.matches(asked))
            && !self.denied.iter().any(|rule| rule.matches(asked))
    }
}

/// The one way to write a host name: lower case, plain ASCII, labels of 1 to 63, 253 in all.
fn host(text: &str) -> Option<String> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (text.len() <= 253 && text.split('.').all(is_label)).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_wins_and_a_star_is_what_is_below() {
        let rules = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        let domains =
            Domains { allowed: rules(&["*.example.org", "API.test"]), denied: rules(&["bad.example.org"]) };
        for (host, allowed) in [
            ("a.example.org", true),
            ("a.b.EXAMPLE.org", true),
            ("example.org", false),
            ("evilexample.org", false),
            ("bad.example.org", false),
            ("api.test", true),
            ("api.test.", false),
            ("api.test\0.evil", false),
            ("", false),
        ] {
            assert_eq!(domains.allows(host), allowed, "{host:?}");
        }
        assert!(!Domains::default().allows("example.org"));
    }

    #[test]
    fn what_names_no_host_is_refused() {
        for text in ["", ".", "*.", "*.com", "a..b", "-a.b", "a_b", "http://a", "a:80", "a b", "*a.b", "ü.de"]
        {
            assert!(text.parse::<DomainRule>().is_err(), "{text:?}");
        }
    }
}

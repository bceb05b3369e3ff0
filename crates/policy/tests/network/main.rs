//! The rows of the escape matrix that are decided before a byte is sent, each by its name.
//!
//! Allowed are `api.allowed.test`, `*.wild.test` and `port.test:8443`; nothing else is.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests do")]

mod addresses;
mod corpus;
mod lists;
mod names;
mod properties;

use policy::host::{Authority, HostError};
use policy::network::{Decision, Denial, NetworkPolicy};
use protocol::environment::NetworkLevel;
use protocol::network::{DenyReason as R, NetworkRules, Rendering};

pub(crate) fn rules(domains: &[&str]) -> NetworkRules {
    let domains = domains.iter().map(|&domain| domain.to_owned()).collect();
    NetworkRules::of(NetworkLevel::Custom { domains, include_default: false }, Rendering::Compatible)
}

pub(crate) fn fixture() -> NetworkRules {
    rules(&["api.allowed.test", "*.wild.test", "port.test:8443"])
}

pub(crate) fn full() -> NetworkRules {
    NetworkRules::of(NetworkLevel::Full {}, Rendering::Compatible)
}

/// The target of a `CONNECT`, or a host and a port as SOCKS5 and captured connections have them: the
/// rule by which it passes, or the reason why not.
pub(crate) fn connect(rules: &NetworkRules, target: impl AsRef<[u8]>) -> Result<String, R> {
    let policy = NetworkPolicy::compile(rules).unwrap();
    let Authority { host, port } = Authority::parse(target.as_ref()).map_err(HostError::reason)?;
    match policy.decide(&host, port.ok_or(R::BadPort)?) {
        Decision::Allow(grant) => Ok(grant.rule.to_string()),
        Decision::Deny(denial) => Err(denial.reason),
    }
}

pub(crate) fn denial(rules: &NetworkRules, target: &str) -> Denial {
    let Authority { host, port } = Authority::parse(target.as_bytes()).unwrap();
    match NetworkPolicy::compile(rules).unwrap().decide(&host, port.unwrap()) {
        Decision::Deny(denial) => denial,
        Decision::Allow(grant) => panic!("{target} is allowed by {}", grant.rule),
    }
}

pub(crate) fn may_dial(rules: &NetworkRules, host: &str, address: &str) -> Result<(), R> {
    let policy = NetworkPolicy::compile(rules).unwrap();
    policy.may_dial(&host.parse().unwrap(), 443, address.parse().unwrap())
}

//! What a person decided for one session, as its log tells it.
//!
//! ```text
//!   network.allowed, network.allowed, … ─ fold: the newest of a host and port counts ─▶ Decisions
//!   rules of the environment ─ over ─▶ rules of the session
//! ```

use std::collections::BTreeMap;

use policy::host::{Authority, Host};
use protocol::event::{Event, EventBody, NetworkAllowed};
use protocol::ids::SessionId;
use protocol::network::{NetworkRules, NetworkScope};
use store::{Store, StoreError};

const KIND: &str = "network.allowed";

/// By `host:port`: whether it is allowed or denied in this session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Decisions(BTreeMap<String, bool>);

impl Decisions {
    /// What holds for a session; nothing for one without a log.
    pub(super) async fn read(store: &Store, session: SessionId) -> Result<Self, StoreError> {
        Ok(Self::fold(&store.events_of_kind(session, KIND).await?))
    }

    fn fold(events: &[Event]) -> Self {
        events.iter().fold(Self::default(), |this, event| match &event.body {
            EventBody::NetworkAllowed(decided) => this.with(decided),
            _ => this,
        })
    }

    /// Adds what was decided last. What is no host changes nothing: it would spoil all rules.
    pub(super) fn with(mut self, NetworkAllowed { host, port, scope }: &NetworkAllowed) -> Self {
        let Ok(host) = Host::parse(host.as_bytes()) else { return self };
        let target = Authority { host, port: Some(*port) }.to_string();
        match scope {
            NetworkScope::Session => self.0.insert(target, true),
            NetworkScope::Deny => self.0.insert(target, false),
            // The environment has it from now on, and may take it away again.
            NetworkScope::Environment => self.0.remove(&target),
            NetworkScope::Once => None,
        };
        self
    }

    /// All but one.
    pub(super) fn without(mut self, target: &str) -> Self {
        self.0.remove(target);
        self
    }

    /// Whether this is denied.
    pub(super) fn denies(&self, target: &str) -> bool {
        self.0.get(target) == Some(&false)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Puts them over the rules of the environment.
    pub(super) fn over(&self, rules: NetworkRules) -> NetworkRules {
        let of = |wanted| {
            let of_it = self.0.iter().filter(move |(_, allowed)| **allowed == wanted);
            of_it.map(|(target, _)| target.clone()).collect()
        };
        NetworkRules { session_allow: of(true), session_deny: of(false), ..rules }
    }
}

#[cfg(test)]
mod tests {
    use NetworkScope as S;
    use protocol::environment::NetworkLevel;
    use protocol::network::Rendering;

    use super::*;

    fn folded(decided: &[(&str, u16, S)]) -> NetworkRules {
        let decisions = decided.iter().fold(Decisions::default(), |decisions, (host, port, scope)| {
            decisions.with(&NetworkAllowed { host: (*host).into(), port: *port, scope: *scope })
        });
        decisions.over(NetworkRules::of(NetworkLevel::Trusted {}, Rendering::Compatible))
    }

    #[test]
    fn the_newest_of_a_host_and_port_counts() {
        for (decided, allow, deny) in [
            (&[][..], &[][..], &[][..]),
            (&[("a.test", 443, S::Session)], &["a.test:443"], &[]),
            (&[("a.test", 443, S::Deny)], &[], &["a.test:443"]),
            (&[("a.test", 443, S::Once)], &[], &[]),
            (&[("a.test", 443, S::Deny), ("a.test", 443, S::Session)], &["a.test:443"], &[]),
            (&[("a.test", 443, S::Session), ("A.test.", 443, S::Deny)], &[], &["a.test:443"]),
            (&[("a.test", 443, S::Deny), ("a.test", 443, S::Environment)], &[], &[]),
            (&[("a.test", 443, S::Deny), ("a.test", 443, S::Once)], &[], &["a.test:443"]),
            (&[("a.test", 443, S::Deny), ("a.test", 80, S::Session)], &["a.test:80"], &["a.test:443"]),
            (
                &[("2001:db8::1", 22, S::Session), ("192.0.2.7", 22, S::Deny)],
                &["[2001:db8::1]:22"],
                &["192.0.2.7:22"],
            ),
            (&[("no host", 443, S::Session), ("*.test", 443, S::Session)], &[], &[]),
        ] {
            let rules = folded(decided);
            assert_eq!(
                (rules.session_allow, rules.session_deny),
                (strings(allow), strings(deny)),
                "{decided:?}"
            );
            assert_eq!(rules.level, NetworkLevel::Trusted {});
        }
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }
}

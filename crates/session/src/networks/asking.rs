//! A person decides about something that a session's network refuses.
//!
//! ```text
//!   host, port ─ weigh: could anybody allow it? ─┬─ once ────────▶ log ─▶ egress: one connection
//!                     └ no ─▶ refused            ├─ session, deny ▶ log ─▶ rules of the session
//!                                                └─ environment ─▶ its domains ─▶ log ─▶ rules of all its sessions
//! ```

use egress::client::EgressClientError;
use policy::host::{Authority, Host, HostError};
use policy::network::{Decision, NetworkPolicy, PolicyError};
use protocol::egress::ONCE_SECONDS;
use protocol::environment::{EditEnvironment, EnvironmentSettings, NetworkLevel};
use protocol::event::{EventBody, NetworkAllowed};
use protocol::ids::SessionId;
use protocol::network::{Access, DecideNetwork, DenyReason, NetworkScope, NetworkTest};
use store::StoredEnvironment;

use super::decisions::Decisions;
use crate::environments::EnvironmentError;
use crate::error::SessionError;
use crate::network;
use crate::provision::plan;
use crate::registry::Sessions;

/// The most hosts and ports that are decided about in one session.
const MOST: usize = 1000;

/// Tries to edit an environment that others edit, too.
const TRIES: usize = 5;

/// Why a decision cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AskingError {
    /// There is no such place.
    #[error("this is no host: {0}")]
    Host(#[from] HostError),
    /// Nobody may allow it.
    #[error("{target} cannot be allowed here: {}{by}", .reason.describe())]
    NotAskable { target: String, reason: DenyReason, by: String },
    /// The session's network is off.
    #[error("the network level of this session is `none`: nothing can be allowed in it")]
    NoNetwork,
    /// A denial of the session stands against it.
    #[error("{0} was denied for this session, and a denial holds against a single connection")]
    Denied(String),
    /// Too many.
    #[error("{0} hosts and ports are decided about in this session already")]
    TooMany(usize),
    /// The session has no environment any more.
    #[error("{0}")]
    NoEnvironment(String),
    /// The rules cannot be used.
    #[error("the session's network rules cannot be used: {0}")]
    Rules(#[from] PolicyError),
    /// A single connection needs the proxy right now.
    #[error("one connection could not be let through: {0}")]
    Egress(#[from] EgressClientError),
}

/// What is to be done about a decision that can be made.
#[derive(Debug, PartialEq, Eq)]
enum Weighed {
    /// It changes something.
    Decide,
    /// It is so already.
    Holds,
}

impl Sessions {
    /// Decides about a host and port for a session; what holds now.
    pub async fn decide_network(
        &self,
        session: SessionId,
        asked: DecideNetwork,
    ) -> Result<NetworkTest, SessionError> {
        let shared = &self.shared;
        let view = shared.store.session(session).await?;
        let host = Host::parse(asked.host.trim().as_bytes()).map_err(AskingError::Host)?;
        let place = Authority { host: host.clone(), port: Some(asked.port) };
        let target = place.to_string();
        let environment = plan::settings(shared, &view).await.map_err(AskingError::NoEnvironment)?;
        let rules = shared.config.network.rules(&environment.settings);
        let decisions = Decisions::read(&shared.store, session).await?;
        let base = decisions.clone().without(&target).over(rules.clone());
        let base = NetworkPolicy::compile(&base).map_err(AskingError::Rules)?;
        let found = base.decide(&place.host, asked.port);
        let off = matches!(rules.level, NetworkLevel::None {});
        let denied = decisions.denies(&target);
        if weigh(found, asked.decision, (&target, off, denied))? == Weighed::Holds {
            return Ok(network::answer(&base, &target));
        }
        let decided = NetworkAllowed { host: host.to_string(), port: asked.port, scope: asked.decision };
        if asked.decision == NetworkScope::Once {
            self.allow_once(session, decided).await?;
            return Ok(once(target));
        }
        let before = decisions.clone();
        let decisions = decisions.with(&decided);
        if decisions.count() > MOST {
            return Err(AskingError::TooMany(MOST).into());
        }
        let settings = match asked.decision {
            NetworkScope::Environment => self.add_to(environment, &place).await?,
            _ => environment.settings,
        };
        let now = decisions.over(shared.config.network.rules(&settings));
        let now = NetworkPolicy::compile(&now).map_err(AskingError::Rules)?;
        // Decided twice in the same way is decided once.
        if decisions != before || asked.decision == NetworkScope::Environment {
            self.handle(session).await?.note(EventBody::NetworkAllowed(decided)).await?;
            shared.networks.decided(session, &host.to_string(), asked.port).await;
        }
        Ok(network::answer(&now, &target))
    }

    async fn allow_once(&self, session: SessionId, decided: NetworkAllowed) -> Result<(), SessionError> {
        let networks = &self.shared.networks;
        let sandbox = networks.sandbox_of(session).ok_or(SessionError::NoSandbox(session))?;
        let (host, port) = (decided.host.clone(), decided.port);
        self.handle(session).await?.note(EventBody::NetworkAllowed(decided)).await?;
        networks.decided(session, &host, port).await;
        Ok(networks.egress.allow_once(sandbox, host, port).await.map_err(AskingError::Egress)?)
    }

    /// Adds a place to the domains of an environment, whoever else edits it meanwhile.
    async fn add_to(
        &self,
        mut environment: StoredEnvironment,
        place: &Authority,
    ) -> Result<EnvironmentSettings, SessionError> {
        let id = environment.id;
        let mut tries = TRIES;
        loop {
            let settings = with_domain(environment.settings, place);
            let edit = EditEnvironment { revision: environment.revision, settings };
            match self.edit_environment(id, edit).await {
                Ok(edited) => return Ok(edited.settings),
                Err(SessionError::Environment(EnvironmentError::Stale { .. })) if tries > 1 => tries -= 1,
                Err(error) => return Err(error),
            }
            environment = self.shared.store.environment(id).await?;
        }
    }
}

/// Whether a decision can be made about what the rules find without one.
fn weigh(
    found: Decision,
    scope: NetworkScope,
    (target, off, denied): (&str, bool, bool),
) -> Result<Weighed, AskingError> {
    match found {
        Decision::Deny(_) if off => Err(AskingError::NoNetwork),
        Decision::Deny(denial) if !denial.askable => {
            let by = denial.rule.map(|rule| format!(" (`{rule}`)")).unwrap_or_default();
            Err(AskingError::NotAskable { target: target.to_owned(), reason: denial.reason, by })
        }
        _ if denied && scope == NetworkScope::Once => Err(AskingError::Denied(target.to_owned())),
        Decision::Allow(_) if scope != NetworkScope::Deny && !denied => Ok(Weighed::Holds),
        Decision::Allow(_) | Decision::Deny(_) => Ok(Weighed::Decide),
    }
}

/// Settings whose own list names a place.
fn with_domain(mut settings: EnvironmentSettings, place: &Authority) -> EnvironmentSettings {
    // A pattern without a port is about these two.
    let port = place.port.filter(|port| ![80, 443].contains(port));
    let domain = Authority { host: place.host.clone(), port }.to_string();
    match &mut settings.network {
        NetworkLevel::Trusted {} => {
            settings.network = NetworkLevel::Custom { domains: vec![domain], include_default: true };
        }
        NetworkLevel::Custom { domains, .. } if !domains.contains(&domain) => domains.push(domain),
        // Everything is allowed, or somebody closed it in between.
        NetworkLevel::Custom { .. } | NetworkLevel::Full {} | NetworkLevel::None {} => {}
    }
    settings
}

fn once(target: String) -> NetworkTest {
    NetworkTest {
        message: format!("one connection to {target} passes if it comes within {ONCE_SECONDS} seconds"),
        target,
        allowed: true,
        rule: Some("allowed once".into()),
        access: Some(Access::Opaque),
        reason: None,
        askable: true,
    }
}

#[cfg(test)]
mod tests {
    use NetworkScope as S;
    use protocol::network::{NetworkRules, PrivateException, Rendering};

    use super::*;

    fn custom(domains: &[&str]) -> NetworkLevel {
        let domains = domains.iter().map(ToString::to_string).collect();
        NetworkLevel::Custom { domains, include_default: false }
    }

    #[test]
    fn only_what_nobody_closed_for_good_can_be_decided() {
        let rules = NetworkRules {
            admin_deny: vec!["*.bad.test".into()],
            private: vec![PrivateException { host: "git.corp.internal".into(), cidr: "10.0.0.0/8".into() }],
            ..NetworkRules::of(custom(&["good.test", "port.test:8443"]), Rendering::Compatible)
        };
        let policy = NetworkPolicy::compile(&rules).unwrap();
        let off = NetworkPolicy::compile(&NetworkRules { level: NetworkLevel::None {}, ..rules }).unwrap();
        let place = |text: &str| Authority::parse(text.as_bytes()).unwrap();
        let weighed = |policy: &NetworkPolicy, text: &str, scope, off, denied| {
            let place = place(text);
            let found = policy.decide(&place.host, place.port.unwrap());
            weigh(found, scope, (text, off, denied)).map_err(|error| error.to_string())
        };
        for scope in [S::Once, S::Session, S::Environment, S::Deny] {
            for text in ["evil.test:443", "port.test:443", "93.184.216.66:22", "git.corp.internal:443"] {
                assert_eq!(weighed(&policy, text, scope, false, false), Ok(Weighed::Decide), "{text}");
            }
            for text in
                ["x.bad.test:443", "127.0.0.1:80", "169.254.169.254:80", "10.0.0.1:80", "db.internal:80"]
            {
                let error = weighed(&policy, text, scope, false, false).unwrap_err();
                assert!(error.starts_with(&format!("{text} cannot be allowed here: ")), "{error}");
            }
            assert!(weighed(&off, "evil.test:443", scope, true, false).unwrap_err().contains("`none`"));
            let held = if scope == S::Deny { Weighed::Decide } else { Weighed::Holds };
            assert_eq!(weighed(&policy, "good.test:443", scope, false, false), Ok(held));
            let denied = weighed(&policy, "good.test:443", scope, false, true);
            assert_eq!(denied.is_err(), scope == S::Once, "{scope:?}");
        }
    }

    #[test]
    fn a_place_joins_the_domains_of_an_environment() {
        let with = |network, text: &str| {
            let settings = EnvironmentSettings { network, ..EnvironmentSettings::named("web") };
            with_domain(settings, &Authority::parse(text.as_bytes()).unwrap()).network
        };
        let included =
            |domain: &str| NetworkLevel::Custom { domains: vec![domain.into()], include_default: true };
        for (before, text, after) in [
            (NetworkLevel::Trusted {}, "evil.test:443", included("evil.test")),
            (NetworkLevel::Trusted {}, "evil.test:80", included("evil.test")),
            (NetworkLevel::Trusted {}, "evil.test:22", included("evil.test:22")),
            (NetworkLevel::Trusted {}, "[2001:db8::1]:443", included("[2001:db8::1]")),
            (custom(&["a.test"]), "evil.test:8443", custom(&["a.test", "evil.test:8443"])),
            (custom(&["evil.test"]), "evil.test:443", custom(&["evil.test"])),
            (NetworkLevel::Full {}, "evil.test:443", NetworkLevel::Full {}),
            (NetworkLevel::None {}, "evil.test:443", NetworkLevel::None {}),
        ] {
            assert_eq!(with(before, text), after, "{text}");
        }
    }
}

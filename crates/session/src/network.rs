//! What a session may reach: its environment's level under the operator's lists.
//!
//! ```text
//!  environment: level, rendering ─┐
//!  OperatorNetwork ───────────────┴─ rules ─▶ NetworkRules ─▶ the egress process, and the tester
//! ```

use policy::host::Authority;
use policy::network::{Decision, NetworkPolicy, PolicyError};
use protocol::egress::Budgets;
use protocol::environment::{EnvironmentSettings, MAX_DOMAINS, NetworkLevel};
use protocol::ids::EnvironmentId;
use protocol::network::{DenyReason, NetworkRules, NetworkTest, PrivateException, Rendering, TestNetwork};

use crate::environments::EnvironmentError;
use crate::error::SessionError;
use crate::registry::Sessions;

/// The port of a target that names none.
const USUAL_PORT: u16 = 443;

/// What the operator decides for all sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorNetwork {
    /// Patterns that are allowed at every level but none.
    pub allow: Vec<String>,
    /// Patterns that are denied, whatever an environment says.
    pub deny: Vec<String>,
    /// Private addresses that are open, by host and block.
    pub private: Vec<PrivateException>,
    /// Texts that may be sent nowhere.
    pub canaries: Vec<String>,
    /// How much a sandbox may send.
    pub budgets: Budgets,
}

impl OperatorNetwork {
    /// Whether all of it can be used.
    ///
    /// # Errors
    ///
    /// The first entry that cannot, with the reason.
    pub fn check(&self) -> Result<(), PolicyError> {
        let rules = self.with(NetworkLevel::Full {}, Rendering::default());
        NetworkPolicy::compile(&rules).map(drop)
    }

    /// The rules of a session that begins in an environment with these settings.
    #[must_use]
    pub fn rules(&self, settings: &EnvironmentSettings) -> NetworkRules {
        self.with(settings.network.clone(), settings.rendering)
    }

    fn with(&self, level: NetworkLevel, rendering: Rendering) -> NetworkRules {
        NetworkRules {
            admin_allow: self.allow.clone(),
            admin_deny: self.deny.clone(),
            private: self.private.clone(),
            ..NetworkRules::of(level, rendering)
        }
    }
}

impl Sessions {
    /// Whether a session of the environment could connect to a host, and by which rule.
    pub async fn test_network(
        &self,
        id: EnvironmentId,
        test: TestNetwork,
    ) -> Result<NetworkTest, SessionError> {
        let settings = self.shared.store.environment(id).await?.settings;
        let level = test.network.unwrap_or(settings.network);
        if let NetworkLevel::Custom { domains, .. } = &level
            && domains.len() > MAX_DOMAINS
        {
            return Err(EnvironmentError::TooManyDomains(domains.len()).into());
        }
        let rules = self.shared.config.network.with(level, test.rendering.unwrap_or(settings.rendering));
        let policy = NetworkPolicy::compile(&rules).map_err(EnvironmentError::Network)?;
        Ok(answer(&policy, test.target.trim()))
    }
}

pub(crate) fn answer(policy: &NetworkPolicy, target: &str) -> NetworkTest {
    let Authority { host, port } = match Authority::parse(target.as_bytes()) {
        Ok(authority) => authority,
        Err(error) => {
            let shown = target.chars().filter(|c| !c.is_control()).take(260).collect();
            return refused(shown, error.reason(), None, false, &error.to_string());
        }
    };
    let port = port.unwrap_or(USUAL_PORT);
    let decision = policy.decide(&host, port);
    let target = Authority { host, port: Some(port) }.to_string();
    match decision {
        Decision::Allow(grant) => {
            let rule = grant.rule.to_string();
            let reading =
                if grant.access == protocol::network::Access::Read { ", for reading only" } else { "" };
            NetworkTest {
                message: format!("{target} is allowed{reading}, by the rule `{rule}`"),
                target,
                allowed: true,
                rule: Some(rule),
                access: Some(grant.access),
                reason: None,
                askable: false,
            }
        }
        Decision::Deny(denial) => {
            let rule = denial.rule.map(|rule| rule.to_string());
            refused(target, denial.reason, rule, denial.askable, denial.reason.describe())
        }
    }
}

fn refused(
    target: String,
    reason: DenyReason,
    rule: Option<String>,
    askable: bool,
    why: &str,
) -> NetworkTest {
    let by = rule.as_ref().map(|rule| format!(" (`{rule}`)")).unwrap_or_default();
    NetworkTest {
        message: format!("{target} is refused: {why}{by}"),
        target,
        allowed: false,
        rule,
        access: None,
        reason: Some(reason),
        askable,
    }
}

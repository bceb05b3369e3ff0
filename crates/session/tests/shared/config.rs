//! Settings of sessions that are far away from everything: nothing waits in advance, nothing is resolved, forged or
//! read of an operator, and nobody is put away.

use std::path::Path;
use std::time::Duration;

use git_proxy::FetchRules;
use session::{
    CacheLimits, Caps, Deadlines, LfsLimits, OperatorNetwork, OperatorSecrets, SessionConfig,
    TrustedAuthorities,
};

/// Those with everything in this folder.
pub(crate) fn alone(dir: &Path) -> SessionConfig {
    SessionConfig {
        scratch: dir.to_owned(),
        audit: dir.join("audit"),
        audit_days: 90,
        fetch: FetchRules::default(),
        lfs: LfsLimits::default(),
        personal_tokens: true,
        push_branches: true,
        forges: Vec::new(),
        network: OperatorNetwork::default(),
        secrets: OperatorSecrets::new(),
        authorities: TrustedAuthorities::default(),
        caches: CacheLimits::default(),
        warm_sandboxes: 0,
        idle: None,
        checkpoint_every: Duration::from_secs(3600),
        managed_settings: dir.join("claude-code"),
        environment: Vec::new(),
        caps: Caps::default(),
        deadlines: Deadlines::default(),
    }
}

//! One sandbox: its rules, its names, its record, its connections.
//!
//! ```text
//!   Bind ─▶ binding ─ Rules ─▶ other policy; open connections are judged again, at once
//!             └─ Unbind, or the end of egress ─▶ listeners closed, connections ended
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use policy::access::Access;
use policy::host::Host;
use policy::network::{Decision, Grant, NetworkPolicy, PolicyError};
use protocol::egress::{Budgets, Ground, Notice};
use protocol::ids::{SandboxId, SessionId};
use protocol::network::{DenyReason, NetworkRules};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::authority::Signer;
use crate::bucket::Bucket;
use crate::budget::{Spending, Used};
use crate::host_tls::HostTls;
use crate::once::Once;
use crate::own::Own;
use crate::person::Person;
use crate::secrets::Secrets;
use crate::upstream::Upstream;
use crate::{names, resolve};

/// Connections of one sandbox at a time, and how many may begin.
const CONNECTIONS: usize = 256;
const BURST: u32 = 200;
const PER_SECOND: u32 = 50;

/// Questions for names.
const QUESTIONS: u32 = 100;

/// Everything about one sandbox.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) sandbox: SandboxId,
    pub(crate) session: SessionId,
    pub(crate) names: Mutex<names::Names>,
    pub(crate) audit: Audit,
    pub(crate) resolver: resolve::Names,
    pub(crate) own: Own,
    pub(crate) notices: broadcast::Sender<Notice>,
    /// Questions that may be asked.
    pub(crate) questions: Bucket,
    /// Connections that may begin.
    pub(crate) beginnings: Bucket,
    /// Connections that a person allowed once.
    pub(crate) once: Once,
    /// Ends everything of it.
    pub(crate) gone: CancellationToken,
    /// For hosts whose connections are opened: to the sandbox, and to them.
    pub(crate) signer: Signer,
    pub(crate) host_tls: HostTls,
    rules: RwLock<Rules>,
    used: Used,
    /// Who is asked while a connection waits; nobody, where a server is told instead.
    pub(crate) person: Option<Arc<Person>>,
    /// Proxies that connections go through.
    pub(crate) upstream: Upstream,
    places: Arc<Semaphore>,
    open: Mutex<HashMap<u64, Open>>,
    count: AtomicU64,
}

/// What decides.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) policy: Arc<NetworkPolicy>,
    pub(crate) secrets: Arc<Secrets>,
    budgets: Budgets,
}

impl Rules {
    /// Reads what the server hands over.
    pub(crate) fn of(ground: Ground) -> Result<Self, String> {
        let policy = NetworkPolicy::compile(&ground.rules).map_err(|error| error.to_string())?;
        Ok(Self {
            policy: Arc::new(policy),
            secrets: Arc::new(Secrets::of(ground.secrets, &ground.canaries)?),
            budgets: ground.budgets,
        })
    }

    /// Rules alone, without secrets and budgets.
    pub(crate) fn alone(rules: &NetworkRules) -> Result<Self, PolicyError> {
        let policy = Arc::new(NetworkPolicy::compile(rules)?);
        Ok(Self { policy, secrets: Arc::default(), budgets: Budgets::UNLIMITED })
    }
}

/// What all bindings of a process share.
#[derive(Debug, Clone)]
pub(crate) struct Outside {
    pub(crate) resolver: resolve::Names,
    pub(crate) own: Own,
    pub(crate) host_tls: HostTls,
    pub(crate) notices: broadcast::Sender<Notice>,
}

/// A connection that was let through.
#[derive(Debug)]
struct Open {
    host: Host,
    port: u16,
    /// How much was allowed; nothing where a person allowed it once against the rules.
    access: Option<Access>,
    end: CancellationToken,
}

impl Open {
    /// Whether it may go on under these rules.
    fn stands(&self, policy: &NetworkPolicy) -> bool {
        match policy.decide(&self.host, self.port) {
            // One that was not opened cannot be held to less.
            Decision::Allow(grant) => self.access.is_none_or(|access| access == grant.access),
            Decision::Deny(denial) => self.access.is_none() && denial.askable,
        }
    }
}

impl Binding {
    pub(crate) fn new(
        (sandbox, session): (SandboxId, SessionId),
        rules: Rules,
        audit: Audit,
        signer: Signer,
        outside: Outside,
    ) -> Self {
        let Outside { resolver, own, host_tls, notices } = outside;
        Self {
            sandbox,
            session,
            names: Mutex::default(),
            audit,
            resolver,
            own,
            notices,
            questions: Bucket::new(QUESTIONS, QUESTIONS),
            beginnings: Bucket::new(BURST, PER_SECOND),
            once: Once::default(),
            gone: CancellationToken::new(),
            signer,
            host_tls,
            rules: RwLock::new(rules),
            used: Used::default(),
            person: None,
            upstream: Upstream::default(),
            places: Arc::new(Semaphore::new(CONNECTIONS)),
            open: Mutex::default(),
            count: AtomicU64::new(0),
        }
    }

    /// The same with a person instead of a server.
    pub(crate) fn of_person(mut self, person: Arc<Person>, upstream: Upstream) -> Self {
        self.person = Some(person);
        self.upstream = upstream;
        self
    }

    /// The rules that are in force.
    pub(crate) fn policy(&self) -> Arc<NetworkPolicy> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner).policy)
    }

    /// The secrets that may be used.
    pub(crate) fn secrets(&self) -> Arc<Secrets> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner).secrets)
    }

    /// What may be sent over a connection with this end.
    pub(crate) fn spending(&self, host: &Host, access: Access, end: CancellationToken) -> Spending {
        self.used.spending(host, access, &self.budgets(), end)
    }

    /// Why a connection that the rules allow is one too many.
    pub(crate) fn budget(&self, host: &Host, grant: Option<&Grant>) -> Option<DenyReason> {
        let access = grant.map_or(Access::Opaque, |grant| grant.access);
        if self.spending(host, access, CancellationToken::new()).is_over() {
            return Some(DenyReason::UploadBudget);
        }
        let wildcard = grant.map(|grant| &grant.rule).filter(|rule| rule.is_wildcard())?;
        let may = self.used.may_name(&wildcard.to_string(), host, &self.budgets());
        (!may).then_some(DenyReason::Rate)
    }

    fn budgets(&self) -> Budgets {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).budgets
    }

    /// A place among the connections, if there is one.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// The number of the next attempt.
    pub(crate) fn next(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Counts a connection that was judged to have this access among the open ones; none under rules that came
    /// in between, or when another one took what was allowed once.
    pub(crate) fn begin(
        &self,
        number: u64,
        (host, port): (&Host, u16),
        judged: Access,
    ) -> Option<CancellationToken> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: whoever changes the rules looks at the open ones after that.
        let access = match self.policy().decide(host, port) {
            // It is carried as it was judged: unseen, where all was allowed.
            Decision::Allow(grant) if grant.access == judged => Some(grant.access),
            Decision::Allow(_) => return None,
            Decision::Deny(denial) if denial.askable && self.once.take(host, port, Instant::now()) => None,
            Decision::Deny(_) => return None,
        };
        let end = self.gone.child_token();
        open.insert(number, Open { host: host.clone(), port, access, end: end.clone() });
        Some(end)
    }

    /// How many connections are open.
    pub(crate) fn open_now(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Forgets a connection that ended.
    pub(crate) fn end(&self, number: u64) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }

    /// Puts other rules into force; how many connections end by it.
    pub(crate) fn change(&self, rules: Rules) -> u32 {
        let policy = Arc::clone(&rules.policy);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let forbidden = open.values().filter(|one| !one.stands(&policy));
        forbidden.map(|one| one.end.cancel()).count().try_into().unwrap_or(u32::MAX)
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        self.audit.settle(true);
    }
}

#[cfg(test)]
mod tests {
    use protocol::egress::Chain;
    use protocol::environment::NetworkLevel;
    use protocol::network::Rendering;
    use ulid::Ulid;

    use super::*;
    use crate::authorities::Authorities;
    use crate::authority::make_authority;

    /// Of the included list, and written to by anyone.
    const READ_ONLY: &str = "bucket.amazonaws.com";

    fn rules(deny: &[&str], level: NetworkLevel) -> Rules {
        let rules = NetworkRules {
            session_deny: deny.iter().map(ToString::to_string).collect(),
            ..NetworkRules::of(level, Rendering::Compatible)
        };
        Rules::of(Ground { rules, secrets: vec![], canaries: vec![], budgets: Budgets::default() }).unwrap()
    }

    fn binding() -> Binding {
        let who = (SandboxId::from(Ulid::from_parts(1, 1)), SessionId::from(Ulid::from_parts(1, 2)));
        let audit = Audit::new(who.1, who.0, tempfile::tempfile().unwrap(), Chain::default());
        let resolver = resolve::Names::of(&["192.0.2.53:53".parse().unwrap()]).unwrap();
        let (host_tls, notices) = (HostTls::new(&Authorities::default()).unwrap(), broadcast::Sender::new(1));
        let outside = Outside { resolver, own: Own::default(), host_tls, notices };
        let signer = Signer::new(who.1, &make_authority(who.1).unwrap()).unwrap();
        Binding::new(who, rules(&[], NetworkLevel::Trusted {}), audit, signer, outside)
    }

    #[tokio::test]
    async fn what_was_judged_to_be_unseen_does_not_begin_where_it_may_only_be_read() {
        let (binding, host) = (binding(), Host::parse(READ_ONLY.as_bytes()).unwrap());
        let rendered = |rendering| {
            let rules = NetworkRules::of(NetworkLevel::Trusted {}, rendering);
            Rules::of(Ground { rules, secrets: vec![], canaries: vec![], budgets: Budgets::default() })
                .unwrap()
        };
        let unseen = binding.begin(1, (&host, 443), Access::Opaque).unwrap();
        assert_eq!(binding.change(rendered(Rendering::Strict)), 1);
        assert!(unseen.is_cancelled());
        assert!(binding.begin(2, (&host, 443), Access::Opaque).is_none());
        assert!(binding.begin(3, (&host, 443), Access::Read).is_some());
    }

    #[tokio::test]
    async fn what_is_allowed_once_begins_once_and_lives_until_its_host_is_denied() {
        let (binding, evil) = (binding(), Host::parse(b"evil.test").unwrap());
        assert!(binding.begin(1, (&evil, 443), Access::Opaque).is_none());
        binding.once.allow(evil.clone(), 443, Instant::now());
        assert!(binding.begin(2, (&evil, 80), Access::Opaque).is_none());
        let begun: Vec<_> = std::thread::scope(|scope| {
            let tries: Vec<_> = (3..13)
                .map(|number| {
                    scope.spawn({
                        let (binding, evil) = (&binding, &evil);
                        move || binding.begin(number, (evil, 443), Access::Opaque)
                    })
                })
                .collect();
            tries.into_iter().filter_map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(begun.len(), 1);
        // Other rules that say nothing about it leave it alone.
        assert_eq!(binding.change(rules(&["other.test"], NetworkLevel::Trusted {})), 0);
        assert!(!begun[0].is_cancelled());
        assert_eq!(binding.change(rules(&["evil.test:443"], NetworkLevel::Trusted {})), 1);
        assert!(begun[0].is_cancelled());
        // A denial stands against what was allowed once, too.
        binding.once.allow(evil.clone(), 443, Instant::now());
        assert!(binding.begin(20, (&evil, 443), Access::Opaque).is_none());
        binding.change(rules(&[], NetworkLevel::None {}));
        assert!(binding.begin(21, (&evil, 443), Access::Opaque).is_none());
        binding.change(rules(&[], NetworkLevel::Trusted {}));
        assert!(binding.begin(22, (&evil, 443), Access::Opaque).is_some());
    }
}

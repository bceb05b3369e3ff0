//! From an attempt to a connection that may be made, or to a refusal that is on record.
//!
//! ```text
//!   attempt ─▶ host? ─▶ rules? ─▶ resolved ─▶ addresses? ─▶ judged ─▶ (TLS, HTTP looked at) ─▶ recorded ─▶ permit
//!                └────────┴──────────┴───────────┴─▶ refused, recorded, told
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use policy::access::Access;
use policy::host::Host;
use policy::network::{Decision, Grant};
use protocol::egress::{AuditEvent, Decided, Notice, Via};
use protocol::network::DenyReason;
use tokio_util::sync::CancellationToken;

use crate::authority::Signer;
use crate::binding::Binding;
use crate::dial::Addresses;
use crate::host_tls::HostTls;
use crate::relay::Counts;
use crate::secrets::Secrets;

/// The most characters of what a sandbox wrote that are recorded.
const SHOWN: usize = 200;

/// The rule of a connection that a person allowed once.
const ONCE: &str = "allowed once";

/// Something that a sandbox tries.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) via: Via,
    /// The host; what was given instead where that is none.
    pub(crate) host: Result<Host, Vec<u8>>,
    pub(crate) port: u16,
    /// Where a captured connection wanted to go.
    pub(crate) original: Option<SocketAddr>,
    /// Method and path of a plain request.
    pub(crate) request: Option<(String, String)>,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: DenyReason,
    /// The host as it is shown.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The rule that says so, where one does.
    pub(crate) rule: Option<String>,
    /// Whether a person may allow it.
    pub(crate) askable: bool,
}

/// What the rules allow, with addresses that may be dialled.
#[derive(Debug)]
pub(crate) struct Judged {
    binding: Arc<Binding>,
    number: u64,
    attempt: Attempt,
    pub(crate) host: Host,
    /// What the rules allow; nothing where a person allowed it once against them.
    grant: Option<Grant>,
    rule: String,
    addresses: Addresses,
}

/// A connection that may be made now, and is on record.
#[derive(Debug)]
pub(crate) struct Permit {
    binding: Arc<Binding>,
    number: u64,
    since: Instant,
    pub(crate) addresses: Addresses,
    /// Ends it from outside.
    pub(crate) end: CancellationToken,
    attempt: Attempt,
    host: Host,
    access: Access,
    /// Whether a person allowed it once against the rules.
    once: bool,
    rule: String,
}

/// Judges an attempt; a name is resolved only when the rules allow it.
pub(crate) async fn judge(binding: &Arc<Binding>, attempt: Attempt) -> Result<Judged, Refused> {
    let number = binding.next();
    let refuse = |reason, rule, askable| refused(binding, number, &attempt, None, (reason, rule, askable));
    let Ok(host) = attempt.host.clone() else { return Err(refuse(DenyReason::BadHost, None, false)) };
    if let Some(person) = &binding.person
        && let Err(reason) = person.consult(binding, &host, attempt.port).await
    {
        return Err(refuse(reason, None, false));
    }
    let grant = match binding.policy().decide(&host, attempt.port) {
        Decision::Allow(grant) => Some(grant),
        // Whoever is admitted first takes it.
        Decision::Deny(denial)
            if denial.askable && binding.once.waits(&host, attempt.port, Instant::now()) =>
        {
            None
        }
        Decision::Deny(denial) => {
            let rule = denial.rule.map(|rule| rule.to_string());
            return Err(refuse(denial.reason, rule, denial.askable));
        }
    };
    let rule = grant.as_ref().map_or_else(|| ONCE.to_owned(), |grant| grant.rule.to_string());
    if let Some(reason) = binding.budget(&host, grant.as_ref()) {
        return Err(refuse(reason, Some(rule), false));
    }
    if let Some(hop) = binding.upstream.hop(&host, attempt.port) {
        let addresses = Addresses::Behind(hop);
        return Ok(Judged { binding: Arc::clone(binding), number, host, grant, rule, addresses, attempt });
    }
    let Ok(found) = binding.resolver.addresses(&host).await else {
        return Err(refuse(DenyReason::DnsError, Some(rule), false));
    };
    let policy = binding.policy();
    let (mut addresses, mut why_not) = (Vec::new(), DenyReason::DnsError);
    for address in found {
        match policy.may_dial(&host, attempt.port, address) {
            Ok(()) if binding.own.has(address) => why_not = DenyReason::AddrSelf,
            Ok(()) => addresses.push(SocketAddr::new(address, attempt.port)),
            Err(reason) => why_not = reason,
        }
    }
    // One bad address among good ones is a name that somebody plays with.
    if addresses.is_empty() || why_not != DenyReason::DnsError {
        return Err(refuse(why_not, Some(rule), false));
    }
    let addresses = Addresses::Found(addresses);
    Ok(Judged { binding: Arc::clone(binding), number, host, grant, rule, addresses, attempt })
}

impl Judged {
    /// Where it goes.
    pub(crate) fn port(&self) -> u16 {
        self.attempt.port
    }

    /// How much is allowed.
    pub(crate) fn access(&self) -> Access {
        self.grant.as_ref().map_or(Access::Opaque, |grant| grant.access)
    }

    /// Whether a plain request with this method and path is allowed.
    pub(crate) fn permits(&self, method: &str, path: &str) -> bool {
        let path = path.split('?').next().unwrap_or_default();
        self.grant.as_ref().is_none_or(|grant| grant.permits(method, path))
    }

    /// Whether its requests have to be seen: for less than everything, and for secrets.
    pub(crate) fn is_to_be_opened(&self) -> bool {
        self.access().needs_interception() || self.binding.secrets().concern(&self.host, self.attempt.port)
    }

    /// Who signs for its host where it is opened.
    pub(crate) fn signer(&self) -> &Signer {
        &self.binding.signer
    }

    /// The secrets of its sandbox.
    pub(crate) fn secrets(&self) -> Arc<Secrets> {
        self.binding.secrets()
    }

    /// Refuses it after all, for what was sent over it.
    pub(crate) fn refuse(&self, reason: DenyReason, sni: Option<&[u8]>) -> Refused {
        refused(&self.binding, self.number, &self.attempt, sni, (reason, Some(self.rule.clone()), false))
    }

    /// Tells what is asked for in it.
    pub(crate) fn with_request(mut self, method: &str, path: &str) -> Self {
        self.attempt.request = Some((method.to_owned(), path.to_owned()));
        self
    }

    /// Puts it on record and lets it through, unseen or with the request that was seen.
    pub(crate) fn admit(self, sni: Option<&[u8]>) -> Result<Permit, Refused> {
        self.let_through(sni, false)
    }

    /// Puts it on record and lets it through, to be opened: each request is judged by itself.
    pub(crate) fn admit_opened(self, sni: Option<&[u8]>) -> Result<Permit, Refused> {
        self.let_through(sni, true)
    }

    fn let_through(self, sni: Option<&[u8]>, intercepted: bool) -> Result<Permit, Refused> {
        let Some(end) = self.binding.begin(self.number, (&self.host, self.attempt.port), self.access())
        else {
            // What was allowed once went to another one: a person may be asked again.
            let why = (DenyReason::NotAllowed, None, self.grant.is_none());
            return Err(refused(&self.binding, self.number, &self.attempt, sni, why));
        };
        let decided = Decided {
            resolved: self.addresses.found(),
            intercepted,
            lenient: !intercepted && self.grant.as_ref().is_some_and(|grant| grant.is_lenient),
            ..told(&self.attempt, sni, Some(self.rule.clone()), None, false)
        };
        if let Err(error) = self.binding.audit.decided(self.number, &decided) {
            tracing::error!(sandbox = %self.binding.sandbox, %error, "an allow cannot be recorded, so it is none");
            self.binding.end(self.number);
            return Err(self.refuse(DenyReason::ProxyDown, sni));
        }
        let access = self.access();
        Ok(Permit {
            number: self.number,
            since: Instant::now(),
            addresses: self.addresses,
            end,
            attempt: self.attempt,
            host: self.host,
            access,
            once: self.grant.is_none(),
            rule: self.rule,
            binding: self.binding,
        })
    }
}

impl Permit {
    /// Where it goes.
    pub(crate) fn port(&self) -> u16 {
        self.attempt.port
    }

    /// Counts what goes over it, within what may be sent.
    pub(crate) fn counts(&self) -> Counts {
        Counts::of(self.binding.spending(&self.host, self.access, self.end.clone()))
    }

    /// The secrets that may be used now.
    pub(crate) fn secrets(&self) -> Arc<Secrets> {
        self.binding.secrets()
    }

    /// How hosts are greeted.
    pub(crate) fn host_tls(&self) -> &HostTls {
        &self.binding.host_tls
    }

    /// Whether it is for reading only.
    pub(crate) fn is_read(&self) -> bool {
        self.access == Access::Read
    }

    /// Whether the rules of this moment allow a request.
    pub(crate) fn permits(&self, method: &str, path: &str) -> bool {
        match self.binding.policy().decide(&self.host, self.attempt.port) {
            Decision::Allow(grant) => grant.permits(method, path),
            Decision::Deny(denial) => self.once && denial.askable,
        }
    }

    /// Puts a request that is allowed on record, before it is sent on.
    pub(crate) fn record_request(&self, method: &str, path: &str) -> Result<(), Refused> {
        let attempt = self.asking(method, path);
        let decided =
            Decided { intercepted: true, ..told(&attempt, None, Some(self.rule.clone()), None, false) };
        self.binding.audit.decided(self.number, &decided).map(drop).map_err(|error| {
            tracing::error!(sandbox = %self.binding.sandbox, %error, "an allow cannot be recorded, so it is none");
            self.refuse_request(DenyReason::ProxyDown, method, path)
        })
    }

    /// Puts a request that is refused on record, and tells of it.
    pub(crate) fn refuse_request(&self, reason: DenyReason, method: &str, path: &str) -> Refused {
        let why = (reason, Some(self.rule.clone()), false);
        refused(&self.binding, self.number, &self.asking(method, path), None, why)
    }

    fn asking(&self, method: &str, path: &str) -> Attempt {
        Attempt { request: Some((method.to_owned(), path.to_owned())), ..self.attempt.clone() }
    }

    /// Puts the end on record.
    pub(crate) fn close(self, dialed: Option<SocketAddr>, counts: &Counts, reason: Option<DenyReason>) {
        let (up, down) = counts.both();
        let reason = reason.or_else(|| counts.reason());
        let duration = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let closed =
            AuditEvent::Closed { dialed, bytes_up: up, bytes_down: down, duration_ms: duration, reason };
        self.binding.audit.closed(self.number, closed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.binding.end(self.number);
    }
}

/// Puts a refusal on record, and tells of it.
pub(crate) fn refuse(binding: &Binding, attempt: &Attempt, reason: DenyReason) -> Refused {
    refused(binding, binding.next(), attempt, None, (reason, None, false))
}

fn refused(
    binding: &Binding,
    number: u64,
    attempt: &Attempt,
    sni: Option<&[u8]>,
    (reason, rule, askable): (DenyReason, Option<String>, bool),
) -> Refused {
    let decided = told(attempt, sni, rule, Some(reason), askable);
    let refused = Refused {
        reason,
        host: decided.host.clone(),
        port: decided.port,
        rule: decided.rule.clone(),
        askable,
    };
    match binding.audit.decided(number, &decided) {
        Ok(true) => {
            // Nobody may be watching.
            let _ =
                binding.notices.send(Notice { session: binding.session, sandbox: binding.sandbox, decided });
        }
        Ok(false) => {}
        Err(error) => tracing::error!(sandbox = %binding.sandbox, %error, "a denial could not be recorded"),
    }
    refused
}

fn told(
    attempt: &Attempt,
    sni: Option<&[u8]>,
    rule: Option<String>,
    reason: Option<DenyReason>,
    askable: bool,
) -> Decided {
    let host = match &attempt.host {
        Ok(host) => host.to_string(),
        Err(bytes) => shown(bytes),
    };
    let (method, path) = match &attempt.request {
        // What is asked for may hold a secret; where it is asked for rarely does.
        Some((method, path)) => {
            let path = path.split('?').next().unwrap_or_default();
            (Some(shown(method.as_bytes())), Some(shown(path.as_bytes())))
        }
        None => (None, None),
    };
    Decided {
        original: attempt.original,
        sni: sni.map(shown),
        method,
        path,
        rule,
        reason,
        askable,
        ..Decided::of(attempt.via, host, attempt.port)
    }
}

/// Bytes of a sandbox in a form that is safe to show: printable ASCII, the rest escaped, cut.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let text: String =
        bytes.iter().take(SHOWN).flat_map(|byte| std::ascii::escape_default(*byte)).map(char::from).collect();
    text.chars().take(SHOWN).collect()
}

//! Where a session may connect to.
//!
//! ```text
//!  NetworkRules ── compile ──▶ NetworkPolicy          every text is a pattern, or nothing starts
//!
//!  host, port ── decide:
//!    port 0 ─ level none ─ this machine, private names and addresses     refused, never asked
//!    admin deny ─ session deny                                           refused, never asked
//!    admin allow ─ environment ─ session allow ─ trusted list ─ full     allowed by that rule
//!    nothing of these                                                    refused, may be asked
//!
//!  host, port, address ── may_dial, once it is resolved: public, or opened by the operator
//! ```
//!
//! A rule that allows is about its ports (80 and 443 when it names none); one that denies and names
//! none is about every port.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use protocol::environment::NetworkLevel;
use protocol::network::{DenyReason, NetworkRules, PrivateException, Rendering};

use crate::access::{self, Access, Endpoints};
use crate::address::{AddressError, AddressException, AddressRules, BadCidr};
use crate::host::{Host, HostError};
use crate::pattern::{Pattern, PatternError};
use crate::special;
use crate::table::{Found, Table};
use crate::trusted;

/// The compiled rules of one session. There is none that allows by being empty.
#[derive(Debug, Clone)]
pub struct NetworkPolicy {
    level: Level,
    /// The first that names the host counts.
    denied: [Table<RuleRef>; 2],
    /// The first that allows the host at the port counts.
    allowed: [Table<RuleRef>; 3],
    addresses: AddressRules,
}

/// What is left of a level once its own list is in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    None,
    Listed,
    Trusted(Rendering),
    Full,
}

/// Why rules cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A text of a list is no pattern.
    #[error("{list}: {source}")]
    Pattern {
        /// Which list.
        list: RuleList,
        #[source]
        source: PatternError,
    },
    /// A private exception names no host.
    #[error("private exception for `{host}`: {source}; name one host, without pattern and port")]
    Host {
        /// As given.
        host: String,
        #[source]
        source: HostError,
    },
    /// A private exception for something that stays closed.
    #[error("private exception for `{host}`: {}; this cannot be opened", .reason.describe())]
    Closed {
        /// As given.
        host: String,
        /// Why.
        reason: DenyReason,
    },
    /// A private exception names no block.
    #[error("private exception for `{host}`: {source}")]
    Cidr {
        /// As given.
        host: String,
        #[source]
        source: BadCidr,
    },
}

/// The list that a rule stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleList {
    /// The operator's denials.
    AdminDeny,
    /// The operator's allowances.
    AdminAllow,
    /// What a person refused in this session.
    SessionDeny,
    /// What a person allowed in this session.
    SessionAllow,
    /// The environment's own list.
    Environment,
    /// The included list.
    Trusted,
    /// No list: the level.
    Full,
}

impl fmt::Display for RuleList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AdminDeny => "admin deny list",
            Self::AdminAllow => "admin allow list",
            Self::SessionDeny => "denied for this session",
            Self::SessionAllow => "allowed for this session",
            Self::Environment => "environment",
            Self::Trusted => "trusted list",
            Self::Full => "level full",
        })
    }
}

/// The rule that decided: `environment: *.example.org`, `level full`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RuleRef {
    list: RuleList,
    pattern: Option<Arc<Pattern>>,
}

impl RuleRef {
    /// The list that it stands on.
    #[must_use]
    pub fn list(&self) -> RuleList {
        self.list
    }

    /// Whether it stands for more names than one.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.pattern.as_ref().is_some_and(|pattern| pattern.is_wildcard())
    }

    /// A pattern of the included list.
    pub(crate) fn trusted(pattern: Arc<Pattern>) -> Self {
        Self { list: RuleList::Trusted, pattern: Some(pattern) }
    }
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            Some(pattern) => write!(f, "{}: {pattern}", self.list),
            None => self.list.fmt(f),
        }
    }
}

/// Yes or no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes, in this way.
    Allow(Grant),
    /// No, for this reason.
    Deny(Denial),
}

/// What is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// By which rule.
    pub rule: RuleRef,
    /// How much.
    pub access: Access,
    /// What of POST belongs to reading.
    pub endpoints: Endpoints,
    /// Whether strangers can write to the host and all is allowed: the strict rendering would allow less.
    pub is_lenient: bool,
}

impl Grant {
    /// Whether a request with this method, as sent, and this path, without its query, keeps to it.
    #[must_use]
    pub fn permits(&self, method: &str, path: &str) -> bool {
        access::permits(self.access, self.endpoints, method, path)
    }
}

/// What is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub reason: DenyReason,
    /// The rule that denies, or the one that allows the same host at other ports only.
    pub rule: Option<RuleRef>,
    /// Whether a person may allow it for the session.
    pub askable: bool,
}

impl NetworkPolicy {
    /// Reads all rules.
    ///
    /// # Errors
    ///
    /// The first text that is no rule, with its list.
    pub fn compile(rules: &NetworkRules) -> Result<Self, PolicyError> {
        let own: &[String] = match &rules.level {
            NetworkLevel::Custom { domains, .. } => domains,
            NetworkLevel::None {} | NetworkLevel::Trusted {} | NetworkLevel::Full {} => &[],
        };
        let level = match &rules.level {
            NetworkLevel::None {} => Level::None,
            NetworkLevel::Full {} => Level::Full,
            NetworkLevel::Trusted {} | NetworkLevel::Custom { include_default: true, .. } => {
                Level::Trusted(rules.rendering)
            }
            NetworkLevel::Custom { include_default: false, .. } => Level::Listed,
        };
        let denied = [
            table(RuleList::AdminDeny, &rules.admin_deny)?,
            table(RuleList::SessionDeny, &rules.session_deny)?,
        ];
        let allowed = [
            table(RuleList::AdminAllow, &rules.admin_allow)?,
            table(RuleList::Environment, own)?,
            table(RuleList::SessionAllow, &rules.session_allow)?,
        ];
        let exceptions = rules.private.iter().map(exception).collect::<Result<_, _>>()?;
        Ok(Self { level, denied, allowed, addresses: AddressRules { exceptions } })
    }

    /// Whether a connection to this host at this port may be made, before anything is resolved.
    #[must_use]
    pub fn decide(&self, host: &Host, port: u16) -> Decision {
        let final_no = |reason, rule| Decision::Deny(Denial { reason, rule, askable: false });
        if port == 0 {
            return final_no(DenyReason::BadPort, None);
        }
        if self.level == Level::None {
            return final_no(DenyReason::NotAllowed, None);
        }
        if let Some(reason) = self.closed(host) {
            return final_no(reason, None);
        }
        if let Some(rule) = self.denied.iter().find_map(|list| list.denies(host, port)) {
            return final_no(DenyReason::Denylist, Some(rule.clone()));
        }
        let mut elsewhere = None;
        for list in &self.allowed {
            match list.allows(host, port) {
                Found::Here(rule) => return opaque(rule.clone()),
                Found::OtherPort(rule) => elsewhere = elsewhere.or_else(|| Some(rule.clone())),
                Found::Nowhere => {}
            }
        }
        match self.level {
            Level::Full => return opaque(RuleRef { list: RuleList::Full, pattern: None }),
            Level::Trusted(rendering) => match trusted::list().allows(host, port) {
                Found::Here(entry) => return Decision::Allow(entry.grant(rendering)),
                Found::OtherPort(entry) => elsewhere = elsewhere.or_else(|| Some(entry.rule())),
                Found::Nowhere => {}
            },
            Level::Listed | Level::None => {}
        }
        let reason = match (host, &elsewhere) {
            (_, Some(_)) => DenyReason::BadPort,
            (Host::V4(_) | Host::V6(_), None) => DenyReason::RawIp,
            (Host::Dns(_), None) => DenyReason::NotAllowed,
        };
        Decision::Deny(Denial { reason, rule: elsewhere, askable: true })
    }

    /// Whether the host, which is allowed, may be dialled at this address that it was resolved into.
    ///
    /// # Errors
    ///
    /// The class of an address that is not public and was not opened for this host.
    pub fn may_dial(&self, host: &Host, port: u16, address: IpAddr) -> Result<(), DenyReason> {
        if port == 0 {
            return Err(DenyReason::BadPort);
        }
        // A literal is dialled as it stands, whatever a resolver made of it.
        if literal(host).is_some_and(|literal| literal != address) {
            return Err(DenyReason::RawIp);
        }
        self.addresses.check(&host.to_string(), address).map_err(reason)
    }

    /// Why nothing may open this host: its name is one of this machine or of a private network, or it is
    /// an address that is not public. The operator may have opened it.
    fn closed(&self, host: &Host) -> Option<DenyReason> {
        match host {
            Host::Dns(name) => special::class(name).filter(|_| !self.addresses.names(name.as_str())),
            Host::V4(_) | Host::V6(_) => {
                let address = literal(host)?;
                self.addresses.check(&host.to_string(), address).err().map(reason)
            }
        }
    }
}

fn opaque(rule: RuleRef) -> Decision {
    Decision::Allow(Grant { rule, access: Access::Opaque, endpoints: Endpoints::None, is_lenient: false })
}

fn literal(host: &Host) -> Option<IpAddr> {
    match host {
        Host::Dns(_) => None,
        Host::V4(address) => Some((*address).into()),
        Host::V6(address) => Some((*address).into()),
    }
}

fn reason(error: AddressError) -> DenyReason {
    match error {
        AddressError::Loopback => DenyReason::AddrLoopback,
        AddressError::Private => DenyReason::AddrPrivate,
        AddressError::LinkLocal => DenyReason::AddrLinklocal,
        AddressError::Metadata => DenyReason::AddrMetadata,
        AddressError::Reserved => DenyReason::AddrReserved,
    }
}

fn table(list: RuleList, texts: &[String]) -> Result<Table<RuleRef>, PolicyError> {
    let mut table = Table::default();
    for text in texts {
        let pattern = Pattern::parse(text).map_err(|source| PolicyError::Pattern { list, source })?;
        let pattern = Arc::new(pattern);
        table.add(Arc::clone(&pattern), RuleRef { list, pattern: Some(pattern) });
    }
    Ok(table)
}

fn exception(given: &PrivateException) -> Result<AddressException, PolicyError> {
    let shown = || given.host.chars().filter(|c| !c.is_control()).take(80).collect::<String>();
    let host: Host = given.host.parse().map_err(|source| PolicyError::Host { host: shown(), source })?;
    let class = host.name().and_then(special::class);
    if let Some(reason @ (DenyReason::AddrLoopback | DenyReason::AddrMetadata)) = class {
        return Err(PolicyError::Closed { host: shown(), reason });
    }
    let cidr = given.cidr.parse().map_err(|source| PolicyError::Cidr { host: shown(), source })?;
    Ok(AddressException { host: host.to_string(), cidr })
}

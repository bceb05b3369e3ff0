//! What the server may ask of `egress`, the process that everything from a sandbox's network goes
//! through, and what that records.
//!
//! ```text
//!  frame: u32 little-endian length │ JSON      one request, one answer, then the next
//!  Bind and its descriptors: the listeners, in the order of `doors`, then the audit segment
//!  Watch ─▶ Watching ─▶ Notice, Notice, …      as they happen
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{SandboxId, SessionId};
use crate::network::{DenyReason, NetworkRules};
use crate::secret::SecretUse;

/// The longest request, answer or notice.
pub const MAX_MESSAGE: usize = 1024 * 1024;

/// How long a connection that was allowed once may take to come, in seconds.
pub const ONCE_SECONDS: u64 = 60;

/// Where a sandbox finds the proxy: HTTP, CONNECT and SOCKS5.
pub const PROXY_PORT: u16 = 3128;

/// Where captured connections are redirected to.
pub const CAPTURE_PORT: u16 = 3129;

/// Where names are asked for.
pub const DNS_PORT: u16 = 53;

/// Where a sandbox finds the gateway to the model, at every level. The server itself holds it.
pub const MODEL_PORT: u16 = 3130;

/// Where a sandbox finds the git proxy, at every level. The server itself holds it.
pub const GIT_PORT: u16 = 3131;

/// In a sandbox whose network stack is its own nobody can listen for us: there the guest listens on these
/// ports, and carries each connection to the socket of that name outside.
pub const RELAYED: [(u16, &str); 3] = [(PROXY_PORT, "proxy"), (MODEL_PORT, "model"), (GIT_PORT, "git")];

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// HTTP, CONNECT and SOCKS5.
    Proxy,
    /// Whatever TCP went elsewhere.
    Capture,
    /// Names over TCP.
    DnsStream,
    /// Names over UDP.
    DnsPacket,
}

/// What a listener is for that the server itself holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gateway {
    /// The Messages API.
    Model,
    /// Repositories of forges.
    Git,
}

/// The most listeners of one sandbox that `egress` holds: each door, in IPv4 and in IPv6.
pub const MAX_DOORS: usize = 8;

/// A request of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum EgressRequest {
    /// Takes the listeners of a sandbox under these rules. Followed by one byte that carries them.
    Bind {
        sandbox: SandboxId,
        session: SessionId,
        ground: Ground,
        authority: AuthorityKey,
        doors: Vec<Door>,
        chain: Chain,
    },
    /// Other rules, at once; connections that they do not allow end.
    Rules { sandbox: SandboxId, ground: Ground },
    /// Lets go of a sandbox; done also when there was none.
    Unbind { sandbox: SandboxId },
    /// Lets one connection to this host and port pass that the rules would have a person asked about.
    AllowOnce { sandbox: SandboxId, host: String, port: u16 },
    /// The sandboxes whose listeners are held.
    List,
    /// What happens from now on.
    Watch,
    /// What happened so far.
    Count,
}

/// What decides about a sandbox's connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ground {
    /// What it may reach.
    pub rules: NetworkRules,
    /// What it may use there.
    pub secrets: Vec<SecretUse>,
    /// What it may send nowhere.
    pub canaries: Vec<String>,
    /// How much it may send.
    pub budgets: Budgets,
}

/// How much one sandbox may send, from its binding on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budgets {
    /// Bytes to one host that may only be read.
    pub read_host_bytes: u64,
    /// Bytes to any other host.
    pub host_bytes: u64,
    /// Bytes to all hosts together.
    pub session_bytes: u64,
    /// Names that one wildcard may stand for.
    pub names_of_wildcard: u32,
}

impl Budgets {
    /// As much as one likes.
    pub const UNLIMITED: Self = Self {
        read_host_bytes: u64::MAX,
        host_bytes: u64::MAX,
        session_bytes: u64::MAX,
        names_of_wildcard: u32::MAX,
    };
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            read_host_bytes: 10_000_000,
            host_bytes: 1_000_000_000,
            session_bytes: 5_000_000_000,
            names_of_wildcard: 200,
        }
    }
}

/// The authority that signs for the hosts whose connections are opened, one per session. Its sandboxes
/// trust it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityKey {
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its key, PKCS #8 as PEM; never inside a sandbox.
    pub key: String,
}

impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthorityKey(…)")
    }
}

/// An answer of `egress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum EgressAnswer {
    /// To [`EgressRequest::Bind`].
    Bound,
    /// To [`EgressRequest::Rules`].
    Changed {
        /// How many connections ended by it.
        closed: u32,
    },
    /// To [`EgressRequest::Unbind`].
    Unbound,
    /// To [`EgressRequest::AllowOnce`].
    AllowedOnce,
    /// To [`EgressRequest::List`].
    Sandboxes { sandboxes: Vec<SandboxId> },
    /// To [`EgressRequest::Watch`]; notices follow.
    Watching,
    /// To [`EgressRequest::Count`].
    Counts(EgressCounts),
    /// To any of them: what happened and why.
    Failed { message: String },
}

/// What `egress` has done since it was started, for all sandboxes together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressCounts {
    /// Sandboxes whose listeners are held now.
    pub sandboxes: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Attempts that were let through.
    pub allowed: u64,
    /// Attempts that were refused, by reason.
    pub denied: BTreeMap<DenyReason, u64>,
    /// Bytes from sandboxes, of connections that have ended.
    pub bytes_up: u64,
    /// Bytes to sandboxes, of the same.
    pub bytes_down: u64,
}

/// Something that a session's log tells of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Whose.
    pub session: SessionId,
    /// Behind which sandbox.
    pub sandbox: SandboxId,
    /// What was decided.
    pub decided: Decided,
}

/// How an attempt arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// `CONNECT` of the proxy.
    Connect,
    /// A plain request to the proxy.
    Http,
    /// SOCKS5.
    Socks5,
    /// A connection that was captured.
    Capture,
    /// A question for a name.
    Dns,
}

/// The end of a chain of audit records, on which the next one follows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// The number of the last record; 0 where there is none.
    pub seq: u64,
    /// SHA-256 of its line without the line's end, in hex; empty where there is none.
    pub previous: String,
}

/// One line of an audit segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditRecord {
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// Counts from 1 within a session.
    pub seq: u64,
    /// SHA-256 of the line before, in hex; empty for the first.
    pub previous: String,
    /// Whose.
    pub session: SessionId,
    /// Behind which sandbox.
    pub sandbox: SandboxId,
    /// Counts the attempts of a sandbox.
    pub connection: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: AuditEvent,
}

/// What an audit record tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum AuditEvent {
    /// An attempt was judged. An allow is written before anything is dialled.
    Decided(Decided),
    /// What was allowed ended.
    Closed {
        /// Where it went; nowhere, where no address answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
        dialed: Option<SocketAddr>,
        /// Bytes from the sandbox.
        bytes_up: u64,
        /// Bytes to the sandbox.
        bytes_down: u64,
        /// From the decision on.
        duration_ms: u64,
        /// Why it did not work or had to end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<DenyReason>,
    },
    /// Denials like this one were counted instead of written, up to now.
    Repeated {
        /// The host of them.
        host: String,
        /// Why.
        reason: DenyReason,
        /// How many.
        count: u64,
    },
}

/// Answer of `GET /sessions/{id}/network`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NetworkPage {
    /// In order.
    pub records: Vec<AuditRecord>,
    /// The newest record of the session.
    pub last_seq: u64,
    /// The last record before the first one that does not follow on it: somebody changed or cut the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken_after: Option<u64>,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Decided {
    /// How it arrived.
    pub via: Via,
    /// The canonical host, or what was given instead of one, escaped and cut to 200 characters.
    pub host: String,
    /// The port; 0 where there was none.
    pub port: u16,
    /// The address that the program dialled, where the connection was captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub original: Option<SocketAddr>,
    /// The name in the TLS greeting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// Whether TLS is opened here, so that requests are seen.
    #[serde(default, skip_serializing_if = "is_false")]
    pub intercepted: bool,
    /// Whether strangers can write to the host, and everything may be done there all the same: the strict
    /// rendering of the included list would let it be read only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub lenient: bool,
    /// The method of a request that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The path of a request that was seen, without its query, escaped and cut to 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The addresses that were found and may be dialled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub resolved: Vec<IpAddr>,
    /// By which rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why not; nothing for an allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DenyReason>,
    /// Whether a person may allow it.
    #[serde(default)]
    pub askable: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Decided {
    /// One of which nothing else is known: nobody said no.
    #[must_use]
    pub fn of(via: Via, host: String, port: u16) -> Self {
        Self {
            via,
            host,
            port,
            original: None,
            sni: None,
            intercepted: false,
            lenient: false,
            method: None,
            path: None,
            resolved: Vec::new(),
            rule: None,
            reason: None,
            askable: false,
        }
    }

    /// Whether it was let through.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.reason.is_none()
    }
}

//! What a session may reach: the rules that the server hands to the egress process, and its answers.
//!
//! ```text
//!  environment: level, rendering ─┐
//!  operator: allow, deny, private ┼─▶ NetworkRules ─▶ policy::network ─▶ allowed by a rule,
//!  person: allowed, denied ───────┘                                      or refused with a DenyReason
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::egress::Via;
use crate::environment::NetworkLevel;

/// How much of the included list may be written to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Rendering {
    /// Every method to every host of it; nothing is opened on the way.
    #[default]
    Compatible,
    /// Only reading where the list names hosts that anyone can write to.
    Strict,
}

/// How much a rule allows to be done with a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Only what reads: GET, HEAD, OPTIONS, and the endpoints that belong to it. The requests have to be
    /// seen.
    Read,
    /// Everything HTTP has; the requests have to be seen.
    Write,
    /// Everything, unseen.
    Opaque,
}

impl Access {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Opaque => "opaque",
        }
    }

    /// Whether TLS has to be opened to know that a request keeps to it.
    #[must_use]
    pub fn needs_interception(self) -> bool {
        self != Self::Opaque
    }
}

/// Everything that decides what one session may reach. What is not named is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkRules {
    /// The environment's level with its own list.
    pub level: NetworkLevel,
    /// How the included list is read.
    pub rendering: Rendering,
    /// Patterns that the operator allows at every level but none.
    pub admin_allow: Vec<String>,
    /// Patterns that the operator refuses, whatever else says.
    pub admin_deny: Vec<String>,
    /// Patterns that a person allowed for this session.
    pub session_allow: Vec<String>,
    /// Patterns that a person refused for this session.
    pub session_deny: Vec<String>,
    /// Private addresses that the operator opened.
    pub private: Vec<PrivateException>,
}

impl NetworkRules {
    /// The rules of a level, with nothing from operator and person.
    #[must_use]
    pub fn of(level: NetworkLevel, rendering: Rendering) -> Self {
        Self {
            level,
            rendering,
            admin_allow: Vec::new(),
            admin_deny: Vec::new(),
            session_allow: Vec::new(),
            session_deny: Vec::new(),
            private: Vec::new(),
        }
    }
}

/// This host may resolve into this block although it is not public.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivateException {
    /// One host, no pattern.
    pub host: String,
    /// `10.1.0.0/16`
    pub cidr: String,
}

/// What a person decides about a host and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum NetworkScope {
    /// One connection passes, if it comes soon.
    Once,
    /// It is allowed for this session.
    Session,
    /// It is allowed for this and all other sessions of the environment: it joins its domains.
    Environment,
    /// It stays closed for this session, and is not asked about again.
    Deny,
}

/// Body of `POST /sessions/{id}/network`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DecideNetwork {
    /// The host, no pattern.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What is decided.
    pub decision: NetworkScope,
}

/// Body of `POST /environments/{id}/network-test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TestNetwork {
    /// `host` or `host:port`; without a port, 443.
    pub target: String,
    /// A level that is not saved yet; the environment's own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkLevel>,
    /// A rendering that is not saved yet; the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rendering: Option<Rendering>,
}

/// Whether a session of an environment could connect, before the name is resolved and before anything
/// was allowed or denied for the session alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NetworkTest {
    /// `host:port` as every part of the server writes it; as given when it is none.
    pub target: String,
    /// Whether it passes.
    pub allowed: bool,
    /// The rule that allows or denies, or that allows the host at another port only; none when there is
    /// no such rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// How much is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Why it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DenyReason>,
    /// Whether a person could allow it for one session.
    pub askable: bool,
    /// All of it in a sentence.
    pub message: String,
}

macro_rules! deny_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $sentence:literal;)+) => {
        /// Why something was refused: the word of audit, of `x-deny-reason` and of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(rename_all = "snake_case")]
        pub enum DenyReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DenyReason {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its word.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// A sentence for the person: what stood in the way, and what to do where anything can be done.
            #[must_use]
            pub fn describe(self) -> &'static str {
                match self {
                    $(Self::$variant => $sentence,)+
                }
            }
        }
    };
}

deny_reasons! {
    /// No rule allows it.
    NotAllowed = "not_allowed",
        "no rule of this session allows the host; add it to the environment's domains, or allow it when asked";
    /// A list of denials names it.
    Denylist = "denylist", "the host is on a list of denied hosts";
    /// The host is not written as one.
    BadHost = "bad_host",
        "this is no host name; write plain ASCII labels, or an address in its full dotted or bracketed form";
    /// The port is none, or the host is allowed at other ports only.
    BadPort = "bad_port", "the host is not allowed at this port; a rule without a port means 80 and 443";
    /// An address instead of a name.
    RawIp = "raw_ip",
        "an address needs a rule of its own; rules for names do not cover the addresses behind them";
    /// This machine.
    AddrLoopback = "addr_loopback", "the host is the machine that runs the proxy itself";
    /// A private network.
    AddrPrivate = "addr_private",
        "the host is in a private network; the operator opens those by host and block in the server's \
         configuration";
    /// Link-local.
    AddrLinklocal = "addr_linklocal", "the host has a link-local address, which is never reachable";
    /// A cloud's metadata service.
    AddrMetadata = "addr_metadata",
        "the host is a cloud's metadata service, which holds credentials and is never reachable";
    /// A reserved block.
    AddrReserved = "addr_reserved",
        "the host has an address of a reserved block; the operator opens those by host and block in the \
         server's configuration";
    /// An address of the server.
    AddrSelf = "addr_self", "the host is this server itself";
    /// It does not resolve.
    DnsError = "dns_error", "the host's name cannot be resolved; check the spelling, or try again";
    /// TLS without a name.
    SniMissing = "sni_missing", "the TLS greeting names no host, so that no rule can be applied to it";
    /// TLS with another name.
    SniMismatch = "sni_mismatch", "the TLS greeting names another host than the connection was opened for";
    /// HTTP with another host.
    HostMismatch = "host_mismatch", "the request names another host than the connection was opened for";
    /// Something else than TLS.
    NotTls = "not_tls", "TLS is expected here, and something else was sent";
    /// A protocol by which names are asked for.
    Alpn = "alpn",
        "the TLS greeting asks for DNS over TLS; names are answered by the sandbox's own resolver, under its rules";
    /// An encrypted greeting.
    Ech = "ech", "the TLS greeting hides its host (ECH) where it has to be seen";
    /// A method that is not allowed.
    Method = "method", "the host may be read only; the method of this request writes";
    /// A path that is not allowed.
    Path = "path", "the rule for this host does not cover the path";
    /// A WebSocket.
    Websocket = "websocket", "WebSockets are not allowed to this host";
    /// Ambiguous or oversized framing.
    Framing = "framing", "the request is ambiguous or too large, and was not forwarded";
    /// Too many bytes up.
    UploadBudget = "upload_budget", "the session has sent as much to this host as it may";
    /// Too often.
    Rate = "rate", "too many connections in a short time; wait a moment and try again";
    /// A secret on its way out.
    Dlp = "dlp", "what was sent holds one of the session's secrets, or a canary of the operator's";
    /// A secret out of its scope.
    SecretScope = "secret_scope", "the secret may not be used for this host, port, method or path";
    /// A git ref that may not be pushed.
    GitRef = "git_ref", "this session may not push to the ref";
    /// Another repository.
    GitRepo = "git_repo", "this session may not reach the repository";
    /// The proxy is not there.
    ProxyDown = "proxy_down", "the proxy is not running; it is started again, try in a moment";
    /// A person was asked.
    Asked = "asked", "a person was asked; try again once it is allowed";
    /// Nobody answered.
    AskTimeout = "ask_timeout", "a person was asked and did not answer in time";
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Body of `network.denied`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NetworkDenied {
    /// The canonical host; what was given instead where that is none, escaped and cut.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How it was tried.
    pub via: Via,
    /// Why not.
    pub reason: DenyReason,
    /// The rule that says so, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Whether a person may allow it.
    pub askable: bool,
    /// The registrable domain of the host, where a person is asked: hosts with the same one are one question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// Body of `network.allowed`: the newest of a host and port counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NetworkAllowed {
    /// The canonical host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// For how long, and for whom; or that it stays closed.
    pub scope: NetworkScope,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_one_word_everywhere_and_one_plain_sentence() {
        assert_eq!(DenyReason::ALL.len(), 31);
        for reason in DenyReason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
            assert!(reason.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
            assert!(!reason.describe().contains('\n') && reason.describe().len() > 20);
        }
    }

    #[test]
    fn rules_that_miss_a_list_or_hold_an_unknown_one_are_refused() {
        let rules = NetworkRules::of(NetworkLevel::Trusted {}, Rendering::Strict);
        let json = serde_json::to_value(&rules).unwrap();
        assert_eq!(json["rendering"], "strict");
        for key in ["level", "rendering", "admin_allow", "admin_deny", "session_deny", "private"] {
            let mut without = json.clone();
            without.as_object_mut().unwrap().remove(key);
            assert!(serde_json::from_value::<NetworkRules>(without).is_err(), "{key}");
        }
        let mut more = json;
        more["allow_all"] = true.into();
        assert!(serde_json::from_value::<NetworkRules>(more).is_err());
    }
}

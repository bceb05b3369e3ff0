//! What can be wrong at a forge.

use std::net::IpAddr;

use policy::address::AddressError;

/// Why something at a forge could not be done: a sentence with what to do, without a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgeError {
    /// 401 with a token.
    #[error(
        "{host} did not accept the stored token: it is wrong, expired or revoked; set another one with \
         `patchyard web-setup --host {host}`"
    )]
    Token {
        /// The forge.
        host: String,
    },
    /// There is no token.
    #[error("this server has no token for {host}; set one with `patchyard web-setup --host {host}`")]
    NoToken {
        /// The forge.
        host: String,
    },
    /// 403.
    #[error(
        "the stored token for {host} may not {wanted} ({words}); give it that permission, or set another one with \
         `patchyard web-setup --host {host}`"
    )]
    Denied {
        /// The forge.
        host: String,
        /// What was tried.
        wanted: String,
        /// What the forge says.
        words: String,
    },
    /// 404.
    #[error(
        "{host} knows nothing to {wanted}: it was renamed or deleted, or the stored token may not see it; check \
         the address, and the token with `patchyard web-setup --host {host}`"
    )]
    NotFound {
        /// The forge.
        host: String,
        /// What was tried.
        wanted: String,
    },
    /// 409 or 422.
    #[error("{host} refused to {wanted}: {words}; change what it names and try again")]
    Refused {
        /// The forge.
        host: String,
        /// What was tried.
        wanted: String,
        /// What the forge says.
        words: String,
    },
    /// The limit of the token is used up.
    #[error("{host} takes no more requests with this token for {seconds} s; try again then")]
    Limited {
        /// The forge.
        host: String,
        /// For how long.
        seconds: u64,
    },
    /// Another status.
    #[error("{host} answered {status} when asked to {wanted}; try again later, or ask who runs it")]
    Status {
        /// The forge.
        host: String,
        /// What was tried.
        wanted: String,
        /// The number.
        status: u16,
    },
    /// No name.
    #[error("{host} does not resolve; check the address, or the name service of the server")]
    Resolve {
        /// The host.
        host: String,
    },
    /// An address that may not be dialled.
    #[error(
        "{host} resolves to {address}, which {reason}; an operator can open it in [[repositories.allow]]"
    )]
    Address {
        /// The host.
        host: String,
        /// Where it resolves to.
        address: IpAddr,
        /// Why not.
        reason: AddressError,
    },
    /// Nobody answers.
    #[error("{host} cannot be reached ({why}); check the address, or try again later")]
    Unreachable {
        /// The host.
        host: String,
        /// What the system says.
        why: String,
    },
    /// TLS.
    #[error(
        "the certificate of {host} is not valid ({why}); an authority of your own goes into `authorities` in \
         [network] of the server"
    )]
    Certificate {
        /// The host.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// It stopped, or took too long.
    #[error("{host} stopped answering; try again later")]
    Silent {
        /// The host.
        host: String,
    },
    /// It answered something else.
    #[error(
        "{host} does not answer as a forge does ({why}); check its base address in [[forges]] of the server"
    )]
    Strange {
        /// The host.
        host: String,
        /// What is odd.
        why: String,
    },
}

impl ForgeError {
    /// Whether the forge may have done it all the same.
    pub(crate) fn is_uncertain(&self) -> bool {
        match self {
            Self::Status { status, .. } => *status >= 500,
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Strange { .. } => true,
            _ => false,
        }
    }

    /// Whether it is the way to the forge, or the forge itself, that failed.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.is_uncertain() || matches!(self, Self::Resolve { .. } | Self::Certificate { .. })
    }
}

/// Words of a forge on one line, cut.
pub(crate) fn one_line(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

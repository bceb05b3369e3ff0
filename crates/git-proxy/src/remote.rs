//! The repository that a session came from, and what can be wrong with the way to it.

use std::net::IpAddr;

use policy::address::AddressError;
use policy::push::PushRules;
use policy::repository::RepositoryUrl;

use crate::credential::Credential;

/// What a session may reach.
#[derive(Debug, Clone)]
pub struct Remote {
    /// The stored address.
    pub url: RepositoryUrl,
    /// What its host is shown.
    pub credential: Option<Credential>,
    /// Where the session may push.
    pub push: PushRules,
}

impl Remote {
    /// The credential, where it may be sent: over nothing but TLS.
    pub(crate) fn shown(&self) -> Option<&Credential> {
        let secure = matches!(&self.url, RepositoryUrl::Http { url, .. } if url.starts_with("https://"));
        self.credential.as_ref().filter(|_| secure)
    }

    /// Its host, as people write it.
    pub(crate) fn host(&self) -> String {
        host_of(&self.url)
    }
}

/// `host`, or `host:port` where the port is not that of the scheme.
pub(crate) fn host_of(url: &RepositoryUrl) -> String {
    match url {
        RepositoryUrl::Http { url, .. } => {
            let behind = url.split_once("://").map_or(url.as_str(), |(_, behind)| behind);
            behind.split('/').next().unwrap_or_default().to_owned()
        }
        RepositoryUrl::File { .. } => "this machine".into(),
    }
}

/// A host of something else than a repository, as errors name it.
pub(crate) fn at_host(url: &reqwest::Url) -> RepositoryUrl {
    RepositoryUrl::Http {
        url: url.origin().ascii_serialization(),
        host: url.host_str().unwrap_or_default().to_owned(),
        port: url.port_or_known_default().unwrap_or_default(),
    }
}

/// Why a repository cannot be reached or used, a sentence each with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// 401 with a credential.
    #[error(
        "{host} did not accept the stored credential: it is wrong, expired or revoked; set another one with \
         `patchyard web-setup --host {host}`"
    )]
    Credential {
        /// The host.
        host: String,
    },
    /// 401 without one.
    #[error(
        "{host} wants a credential for {url}, and this server has none for it; set one with `patchyard \
         web-setup --host {host}`"
    )]
    NoCredential {
        /// The host.
        host: String,
        /// The repository.
        url: String,
    },
    /// 403.
    #[error(
        "{host} does not allow this at {url}; the stored credential needs permission to {wanted} this repository"
    )]
    Denied {
        /// The host.
        host: String,
        /// The repository.
        url: String,
        /// `read` or `write to`.
        wanted: &'static str,
    },
    /// 404.
    #[error(
        "{url} was not found; check the address, and that the credential for {host} may see this repository"
    )]
    NotFound {
        /// The host.
        host: String,
        /// The repository.
        url: String,
    },
    /// Another status.
    #[error("{host} answered {status} for {url}; try again later, or ask who runs it")]
    Status {
        /// The host.
        host: String,
        /// The repository.
        url: String,
        /// The number.
        status: u16,
    },
    /// A redirect that is not followed.
    #[error("{url} has moved to another address; begin a session with the new one")]
    Moved {
        /// The repository.
        url: String,
    },
    /// No address.
    #[error("{host} does not resolve; check the address, or the name service of the server")]
    Resolve {
        /// The host.
        host: String,
    },
    /// The address must not be dialled.
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
    /// It is no git server.
    #[error("{url} is no git repository over HTTP; check the address")]
    NotGit {
        /// The repository.
        url: String,
    },
    /// It stopped.
    #[error("{host} stopped answering; try again later")]
    Silent {
        /// The host.
        host: String,
    },
}

impl RemoteError {
    /// Of a status that is no success.
    pub(crate) fn of_status(remote: &Remote, status: u16, wanted: &'static str) -> Self {
        let (host, url) = (remote.host(), remote.url.to_string());
        match status {
            401 if remote.shown().is_some() => Self::Credential { host },
            401 => Self::NoCredential { host, url },
            403 => Self::Denied { host, url, wanted },
            404 | 410 => Self::NotFound { host, url },
            300..=399 => Self::Moved { url },
            status => Self::Status { host, url, status },
        }
    }

    /// What git's own words mean, where they are about the way to the repository.
    pub(crate) fn of_git(remote: &Remote, words: &str, wanted: &'static str) -> Option<Self> {
        let (host, url) = (remote.host(), remote.url.to_string());
        let status = words.split("returned error: ").nth(1).and_then(|rest| rest.get(..3)?.parse().ok());
        let has = |part: &str| words.contains(part);
        let why = || words.rsplit(": ").next().unwrap_or_default().chars().take(160).collect::<String>();
        if has("could not read Username") || has("could not read Password") || has("Authentication failed") {
            return Some(Self::of_status(remote, 401, wanted));
        }
        if has("Could not resolve host") {
            return Some(Self::Resolve { host });
        }
        if has("certificate") || has("SSL") {
            return Some(Self::Certificate { host, why: why() });
        }
        if has("Failed to connect") || has("Couldn't connect") || has("Connection refused") {
            return Some(Self::Unreachable { host, why: why() });
        }
        if has("unable to update url base from redirection") {
            return Some(Self::Moved { url });
        }
        if has("not valid: is this a git repository?") || has("invalid server response") {
            return Some(Self::NotGit { url });
        }
        if has("not found") && has("repository '") {
            return Some(Self::NotFound { host, url });
        }
        status.map(|status| Self::of_status(remote, status, wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(url: &str, credential: bool) -> Remote {
        Remote {
            url: RepositoryUrl::parse(url, &[]).unwrap(),
            credential: credential.then(|| Credential::new("me", "canary-0123456789")),
            push: PushRules::default(),
        }
    }

    #[test]
    fn what_git_says_of_the_way_is_said_in_a_line_with_what_to_do() {
        let with = remote("https://h.test:8443/o/r.git", true);
        let of = |words: &str| RemoteError::of_git(&with, words, "read").map(|error| error.to_string());
        for (words, said) in [
            (
                "Authentication failed for 'https://h.test/'",
                "h.test:8443 did not accept the stored credential",
            ),
            ("could not read Username for 'https://h.test': terminal prompts disabled", "did not accept"),
            ("repository 'https://h.test/o/r.git/' not found", "was not found"),
            ("unable to access 'https://x/': The requested URL returned error: 403", "permission to read"),
            ("unable to access 'https://x/': The requested URL returned error: 503", "answered 503"),
            ("unable to access 'https://x/': The requested URL returned error: 301", "has moved"),
            ("unable to access 'https://x/': Could not resolve host: h.test", "does not resolve"),
            (
                "unable to access 'https://x/': Failed to connect to h.test port 1: Connection refused",
                "(Connection refused)",
            ),
            (
                "unable to access 'https://x/': SSL certificate problem: unable to get local issuer certificate",
                "certificate of h.test:8443 is not valid (unable to get local",
            ),
            ("https://x/info/refs not valid: is this a git repository?", "is no git repository"),
        ] {
            let told = of(words).unwrap_or_default();
            assert!(told.contains(said), "{words}: {told}");
            assert!(!told.contains('\n') && !told.contains("canary"), "{told}");
        }
        assert_eq!(of("mismatched algorithms: client sha1; server sha256"), None);
        let without = remote("http://h.test/o/r.git", true);
        let told = RemoteError::of_git(&without, "could not read Username for", "read").unwrap().to_string();
        assert!(told.contains("has none for it"), "a credential never goes without TLS: {told}");
        assert!(!format!("{with:?}").contains("canary"));
    }
}

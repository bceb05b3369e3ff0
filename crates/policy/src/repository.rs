//! Which repositories the server may fetch.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use url::{Host, Url};

/// A repository's address that the server may try to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryUrl {
    /// Over the network.
    Http {
        /// The address, without user, password, query and fragment.
        url: String,
        /// Its host in canonical form: what is resolved, checked and dialled.
        host: String,
        /// Its port.
        port: u16,
    },
    /// A folder below one of the operator's roots.
    File {
        /// The folder as written; links in it are followed by the caller, who checks it again.
        path: PathBuf,
    },
}

/// Why a repository's address is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepositoryUrlError {
    /// It does not parse.
    #[error("`{0}` is not an address; give one like https://host/owner/name.git")]
    NotUrl(String),
    /// Another scheme.
    #[error(
        "`{0}:` addresses cannot be fetched; use http:, https:, or a file: path that the operator opened"
    )]
    Scheme(String),
    /// It holds a secret.
    #[error("the address holds a user or password; leave it out: secrets in addresses end up in logs")]
    Credentials,
    /// No host.
    #[error("the address names no host")]
    NoHost,
    /// A local folder that is not open.
    #[error(
        "{0} is below no folder that this server may read; the operator names such folders in the \
         configuration: [repositories] file_roots = [\"/srv/git\"]"
    )]
    OutsideRoots(String),
}

impl RepositoryUrl {
    /// Reads an address. `file_roots` are the folders that the operator opened.
    pub fn parse(text: &str, file_roots: &[PathBuf]) -> Result<Self, RepositoryUrlError> {
        let shown = || text.chars().take(200).collect::<String>();
        let mut url = Url::parse(text).map_err(|_| RepositoryUrlError::NotUrl(shown()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(RepositoryUrlError::Credentials);
        }
        match url.scheme() {
            "http" | "https" => {
                url.set_query(None);
                url.set_fragment(None);
                let host = match url.host() {
                    Some(Host::Domain(domain)) => domain.trim_end_matches('.').to_owned(),
                    Some(Host::Ipv4(address)) => address.to_string(),
                    Some(Host::Ipv6(address)) => address.to_string(),
                    None => return Err(RepositoryUrlError::NoHost),
                };
                let port = url.port_or_known_default().ok_or(RepositoryUrlError::NoHost)?;
                // One canonical host from here on: what is checked is what is dialled.
                if host.is_empty() || (url.domain().is_some() && url.set_host(Some(&host)).is_err()) {
                    return Err(RepositoryUrlError::NoHost);
                }
                Ok(Self::Http { url: url.to_string(), host, port })
            }
            "file" => {
                let path = url.to_file_path().map_err(|()| RepositoryUrlError::NotUrl(shown()))?;
                if below_any(&path, file_roots) {
                    Ok(Self::File { path })
                } else {
                    Err(RepositoryUrlError::OutsideRoots(path.display().to_string()))
                }
            }
            other => Err(RepositoryUrlError::Scheme(other.chars().take(20).collect())),
        }
    }

    /// The last component without `.git`: what a clone's folder would be called.
    #[must_use]
    pub fn name(&self) -> String {
        let path = match self {
            Self::Http { url, .. } => url.as_str(),
            Self::File { path } => path.to_str().unwrap_or_default(),
        };
        workspace_name(path)
    }
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { url, .. } => f.write_str(url),
            Self::File { path } => write!(f, "file://{}", path.display()),
        }
    }
}

/// A folder's name made from the last component of a path: letters, digits, `-`, `_` and `.` only,
/// at most 64, never empty, never hidden.
#[must_use]
pub fn workspace_name(path: &str) -> String {
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let last = last.strip_suffix(".git").unwrap_or(last);
    let name: String = last
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
        .take(64)
        .collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() { "repository".into() } else { name.to_owned() }
}

/// Whether the path lies below one of the roots, with no `..` in it.
#[must_use]
pub fn below_any(path: &Path, roots: &[PathBuf]) -> bool {
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    plain && path.is_absolute() && roots.iter().any(|root| root.is_absolute() && path.starts_with(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_or_refused_with_the_reason() {
        let roots = [PathBuf::from("/srv/git")];
        let parse = |text: &str| RepositoryUrl::parse(text, &roots);
        let RepositoryUrl::Http { url, host, port } = parse("https://Git.Example.org./o/n.git?x#y").unwrap()
        else {
            panic!("no http")
        };
        assert_eq!(
            (url.as_str(), host.as_str(), port),
            ("https://git.example.org/o/n.git", "git.example.org", 443)
        );
        assert!(
            matches!(parse("http://127.1/x"), Ok(RepositoryUrl::Http { host, .. }) if host == "127.0.0.1")
        );
        assert!(matches!(parse("file:///srv/git/a.git"), Ok(RepositoryUrl::File { .. })));
        for (text, wanted) in [
            ("not an address", "is not an address"),
            ("ssh://git@host/x", "a user or password"),
            ("ssh://host/x", "`ssh:` addresses"),
            ("ext::sh -c id", "`ext:` addresses"),
            ("https://token@host/x", "a user or password"),
            ("file:///etc", "below no folder"),
            ("file:///srv/git/../../etc", "below no folder"),
            ("file:///srv/gitx/a", "below no folder"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn a_workspace_name_is_a_plain_folder_name() {
        for (path, name) in [
            ("/home/u/my repo/", "my-repo"),
            ("https://host/o/n.git", "n"),
            ("/", "repository"),
            ("/x/..", "repository"),
            ("/x/.hidden", "hidden"),
            ("/x/a\u{202e}b", "a-b"),
        ] {
            assert_eq!(workspace_name(path), name, "{path}");
        }
    }
}

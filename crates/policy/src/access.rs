//! What a rule allows to be done with a host.
//!
//! ```text
//!  Opaque   any bytes, nothing is opened                    a rule that names a host
//!  Write    every HTTP method, the requests are seen        ┐ the included list,
//!  Read     GET, HEAD, OPTIONS, and the named endpoints     ┘ strictly rendered
//! ```

pub use protocol::network::Access;

/// Endpoints that are asked by POST and change nothing; the exception of [`Access::Read`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoints {
    /// None.
    None,
    /// Fetching over git's smart HTTP, LFS included.
    GitFetch,
    /// Known vulnerabilities of packages, as npm and yarn ask for them.
    Advisories,
}

impl Endpoints {
    /// Whether a POST to this path asks one of them.
    fn has(self, path: &str) -> bool {
        match self {
            Self::None => false,
            Self::GitFetch => {
                is_plain(path)
                    && (path.ends_with("/git-upload-pack") || path.ends_with("/info/lfs/objects/batch"))
            }
            Self::Advisories => [
                "/-/npm/v1/security/advisories/bulk",
                "/-/npm/v1/security/audits",
                "/-/npm/v1/security/audits/quick",
            ]
            .contains(&path),
        }
    }
}

/// Fields by which a request names another method than its own, and that many servers heed.
const OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// Whether a field of a request makes another method of it.
#[must_use]
pub fn overrides_method(field: &str) -> bool {
    OVERRIDES.iter().any(|one| field.eq_ignore_ascii_case(one))
}

/// Whether every server reads the path in the same way: nothing encoded, no step up, no empty part.
fn is_plain(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte))
        && path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."))
}

/// What of a request an access allows: its method as sent, its path without query.
pub(crate) fn permits(access: Access, endpoints: Endpoints, method: &str, path: &str) -> bool {
    match access {
        Access::Write | Access::Opaque => true,
        Access::Read => {
            matches!(method, "GET" | "HEAD" | "OPTIONS") || (method == "POST" && endpoints.has(path))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_is_three_methods_and_the_endpoints_that_are_named() {
        use Endpoints as E;
        for (endpoints, method, path, allowed) in [
            (E::None, "GET", "/x", true),
            (E::None, "HEAD", "/x", true),
            (E::None, "OPTIONS", "*", true),
            (E::None, "get", "/x", false),
            (E::None, "POST", "/o/r.git/git-upload-pack", false),
            (E::None, "PUT", "/x", false),
            (E::None, "DELETE", "/x", false),
            (E::None, "TRACE", "/x", false),
            (E::None, "CONNECT", "/x", false),
            (E::GitFetch, "POST", "/o/r.git/git-upload-pack", true),
            (E::GitFetch, "POST", "/o/r.git/info/lfs/objects/batch", true),
            (E::GitFetch, "POST", "/o/r.git/git-receive-pack", false),
            (E::GitFetch, "POST", "/o/r.git/%67it-upload-pack", false),
            (E::GitFetch, "POST", "/o/r.git/git-receive-pack/../git-upload-pack", false),
            (E::GitFetch, "POST", "/o//git-upload-pack", false),
            (E::GitFetch, "POST", "/o/git-receive-pack;/git-upload-pack", false),
            (E::GitFetch, "PUT", "/o/r.git/git-upload-pack", false),
            (E::Advisories, "POST", "/-/npm/v1/security/advisories/bulk", true),
            (E::Advisories, "POST", "/-/npm/v1/security/advisories/bulk/x", false),
            (E::Advisories, "PUT", "/-/npm/v1/security/audits", false),
        ] {
            assert_eq!(permits(Access::Read, endpoints, method, path), allowed, "{method} {path}");
        }
        assert!(permits(Access::Write, E::None, "DELETE", "/x"));
    }
}

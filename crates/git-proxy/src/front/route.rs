//! Which request of git's this is, and whether it is about the session's repository.
//!
//! ```text
//!   /git.example.org/team/thing.git/info/refs?service=git-upload-pack
//!    └ authority ───┘└ repository ─┘└ what is asked
//! ```
//!
//! The path says which repository the client means, and nothing else: what is asked for is built from the
//! session's stored address.

use axum::http::{Method, Uri};
use policy::repository::RepositoryUrl;

/// One of git's two services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// Fetching.
    UploadPack,
    /// Pushing.
    ReceivePack,
}

impl Service {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::UploadPack => "git-upload-pack",
            Self::ReceivePack => "git-receive-pack",
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Which refs there are, and what the server can do.
    Refs(Service),
    /// The service itself.
    Serve(Service),
    /// What is to be done with large files.
    Batch,
    /// Who keeps large files for himself.
    Locks,
}

/// A request that is one of git's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route<'a> {
    pub(crate) asked: Asked,
    /// The authority and the repository's path, as the client wrote them.
    pub(crate) repository: &'a str,
}

impl<'a> Route<'a> {
    /// Reads a request; nothing for what is none of git's smart protocol.
    pub(crate) fn of(method: &Method, uri: &'a Uri) -> Option<Self> {
        let path = uri.path().strip_prefix('/')?;
        let services = [Service::UploadPack, Service::ReceivePack];
        if let Some(repository) = path.strip_suffix("/info/refs") {
            let named = |service: &Service| uri.query() == Some(&format!("service={}", service.name()));
            let service = services.into_iter().find(named).filter(|_| *method == Method::GET)?;
            return Some(Self { asked: Asked::Refs(service), repository });
        }
        if let Some(repository) = path.strip_suffix("/info/lfs/objects/batch") {
            let fits = *method == Method::POST && uri.query().is_none();
            return fits.then_some(Self { asked: Asked::Batch, repository });
        }
        if let Some((repository, rest)) = path.split_once("/info/lfs/locks") {
            let fits = rest.is_empty() || rest.starts_with('/');
            return fits.then_some(Self { asked: Asked::Locks, repository });
        }
        let serves =
            |service: Service| Some((path.strip_suffix(service.name())?.strip_suffix('/')?, service));
        let (repository, service) = services.into_iter().find_map(serves)?;
        let fits = *method == Method::POST && uri.query().is_none();
        fits.then_some(Self { asked: Asked::Serve(service), repository })
    }

    /// Whether the client means this repository: byte for byte, but for a slash or `.git` at the end.
    pub(crate) fn means(&self, url: &RepositoryUrl) -> bool {
        place(url).is_some_and(|place| bare(self.repository) == bare(&place))
    }

    /// The real address of another repository of the same host, to which the client may turn by itself.
    pub(crate) fn elsewhere(&self, url: &RepositoryUrl) -> Option<String> {
        let root = root(url)?;
        let (_, authority) = root.split_once("://")?;
        let path = self.repository.strip_prefix(authority)?.strip_prefix('/')?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/+%@:".contains(&byte);
        let what = match self.asked {
            Asked::Refs(service) => format!("info/refs?service={}", service.name()),
            Asked::Batch => "info/lfs/objects/batch".to_owned(),
            Asked::Serve(_) | Asked::Locks => return None,
        };
        path.bytes().all(plain).then(|| format!("{root}/{path}/{what}"))
    }
}

/// The address of a host without anything behind it: `https://git.example.org`.
pub fn root(url: &RepositoryUrl) -> Option<String> {
    let RepositoryUrl::Http { url, .. } = url else { return None };
    let behind = url.find("://")? + 3;
    let end = url[behind..].find('/').map_or(url.len(), |at| behind + at);
    Some(url[..end].to_owned())
}

/// `git.example.org/team/thing.git`.
fn place(url: &RepositoryUrl) -> Option<String> {
    let RepositoryUrl::Http { url, .. } = url else { return None };
    url.split_once("://").map(|(_, place)| place.to_owned())
}

fn bare(place: &str) -> &str {
    let place = place.strip_suffix('/').unwrap_or(place);
    place.strip_suffix(".git").unwrap_or(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: &str, uri: &str) -> Option<(Asked, String)> {
        let uri = uri.parse().unwrap();
        let route = Route::of(&method.parse().unwrap(), &uri)?;
        Some((route.asked, route.repository.to_owned()))
    }

    fn url(text: &str) -> RepositoryUrl {
        RepositoryUrl::parse(text, &[]).unwrap()
    }

    /// Row G05 of the escape matrix.
    #[test]
    fn only_the_smart_protocol_is_served() {
        let upload = Service::UploadPack;
        let place = "/h.test/o/r.git";
        let refs = format!("{place}/info/refs?service=git-upload-pack");
        assert_eq!(route("GET", &refs), Some((Asked::Refs(upload), place[1..].into())));
        let serve = route("POST", &format!("{place}/git-receive-pack"));
        assert_eq!(serve, Some((Asked::Serve(Service::ReceivePack), place[1..].into())));
        let batch = route("POST", &format!("{place}/info/lfs/objects/batch"));
        assert_eq!(batch, Some((Asked::Batch, place[1..].into())));
        let locks = route("POST", &format!("{place}/info/lfs/locks/verify"));
        assert_eq!(locks, Some((Asked::Locks, place[1..].into())));
        for (method, uri) in [
            ("GET", "/info/refs"),
            ("GET", "/HEAD"),
            ("GET", "/objects/info/packs"),
            ("GET", "/objects/aa/bb"),
            ("GET", "/info/refs?service=git-upload-archive"),
            ("GET", "/info/refs?service=git-upload-pack&x=1"),
            ("GET", "/info/refs?x=1&service=git-upload-pack"),
            ("GET", "/info/refs?service=git%2dupload-pack"),
            ("POST", "/info/refs?service=git-upload-pack"),
            ("HEAD", "/info/refs?service=git-upload-pack"),
            ("GET", "/git-upload-pack"),
            ("POST", "/git-upload-pack?x"),
            ("POST", "/git-upload-archive"),
            ("PUT", "/git-receive-pack"),
            ("POST", "/xgit-receive-pack"),
            ("GET", "/info/lfs/objects/batch"),
            ("POST", "/info/lfs/objects/batch?x"),
            ("POST", "/info/lfs/objects"),
            ("POST", "/info/lfs/locksmith"),
            ("PROPFIND", "/"),
            ("GET", "/settings"),
        ] {
            assert_eq!(route(method, &format!("{place}{uri}")), None, "{method} {uri}");
        }
    }

    /// Row G04 of the escape matrix.
    #[test]
    fn no_spelling_of_another_repository_is_the_sessions() {
        let own = url("https://h.test/o/r.git");
        let means = |place: &str| {
            let uri: Uri = format!("/{place}/git-upload-pack").parse().unwrap();
            Route::of(&Method::POST, &uri).is_some_and(|route| route.means(&own))
        };
        for place in ["h.test/o/r.git", "h.test/o/r", "h.test/o/r/", "h.test/o/r.git/"] {
            assert!(means(place), "{place}");
        }
        for place in [
            "h.test/o/other.git",
            "h.test/o/r.git.git",
            "h.test/O/r.git",
            "H.test/o/r.git",
            "h.test//o/r.git",
            "h.test/o//r.git",
            "h.test/o/x/../r.git",
            "h.test/o/x/%2e%2e/r.git",
            "h.test/o%2fr.git",
            "h.test:443/o/r.git",
            "h.test:80/o/r.git",
            "evil.test/o/r.git",
            "h.test.evil.test/o/r.git",
            "h.test/o/r.git/x",
            "h.test/o/r.gitx",
            "h.test/o/",
            "o/r.git",
            "u@h.test/o/r.git",
        ] {
            assert!(!means(place), "{place}");
        }
        let other = url("http://127.0.0.1:8000/thing.git/");
        let uri: Uri = "/127.0.0.1:8000/thing/info/refs?service=git-upload-pack".parse().unwrap();
        assert!(Route::of(&Method::GET, &uri).unwrap().means(&other));
    }

    #[test]
    fn another_repository_of_the_host_is_elsewhere() {
        let own = url("https://h.test:8443/o/r.git");
        let elsewhere = |place: &str| {
            let uri: Uri = format!("/{place}/info/refs?service=git-upload-pack").parse().unwrap();
            Route::of(&Method::GET, &uri).unwrap().elsewhere(&own)
        };
        assert_eq!(
            elsewhere("h.test:8443/x/y.git").as_deref(),
            Some("https://h.test:8443/x/y.git/info/refs?service=git-upload-pack")
        );
        for place in ["h.test/x/y.git", "h.test:84433/x", "evil.test/x", "h.test:8443"] {
            assert_eq!(elsewhere(place), None, "{place}");
        }
    }
}

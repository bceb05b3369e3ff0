//! Where a forge is.
//!
//! ```text
//!   github.com            ─▶ https://api.github.com
//!   SUB.ghe.com           ─▶ https://api.SUB.ghe.com
//!   any other, configured ─▶ https://HOST/api/v3, or what the operator says
//! ```

use policy::repository::RepositoryUrl;
use reqwest::Url;

/// A forge: where its pages are, and where it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgeAddress {
    host: String,
    api: Url,
}

/// Why something is no forge's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgeAddressError {
    /// The host.
    #[error("`{0}` is no host of a forge; write one like ghe.example.org or ghe.example.org:8443")]
    Host(String),
    /// The base address.
    #[error("`{0}` is no base address of a forge; write one like https://ghe.example.org/api/v3")]
    Api(String),
}

impl ForgeAddress {
    /// The forge at a host that is known to be one.
    #[must_use]
    pub fn known(host: &str) -> Option<Self> {
        let api = match host {
            "github.com" => "https://api.github.com".to_owned(),
            _ if host.ends_with(".ghe.com") => format!("https://api.{host}"),
            _ => return None,
        };
        Some(Self { host: host.to_owned(), api: Url::parse(&api).ok()? })
    }

    /// The forge at a host that the operator names, asked at `api` or where GitHub Enterprise Server is.
    ///
    /// # Errors
    ///
    /// When one of the two is no address that a token may go to.
    pub fn configured(host: &str, api: Option<&str>) -> Result<Self, ForgeAddressError> {
        let bad_host = || ForgeAddressError::Host(host.to_owned());
        let page = Url::parse(&format!("https://{host}/")).map_err(|_| bad_host())?;
        let name = page.host_str().ok_or_else(bad_host)?;
        let canonical = page.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        if host.is_empty() || page.path() != "/" || page.query().is_some() || !page.username().is_empty() {
            return Err(bad_host());
        }
        let text = api.map_or_else(|| format!("https://{canonical}/api/v3"), ToOwned::to_owned);
        let bad = || ForgeAddressError::Api(text.clone());
        let api = Url::parse(&text).map_err(|_| bad())?;
        let plain = api.query().is_none() && api.fragment().is_none() && api.username().is_empty();
        if api.scheme() != "https" || !plain || api.password().is_some() {
            return Err(bad());
        }
        Ok(Self { host: canonical, api })
    }

    /// Its host, with the port where that is not 443: what credentials are kept under.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The address of an endpoint, each segment escaped.
    pub(crate) fn endpoint(&self, segments: &[&str]) -> Url {
        let mut url = self.api.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// The address of a page.
    pub(crate) fn page(&self, segments: &[&str]) -> Option<Url> {
        let mut url = Url::parse(&format!("https://{}/", self.host)).ok()?;
        url.path_segments_mut().ok()?.pop_if_empty().extend(segments);
        Some(url)
    }
}

/// A repository of a forge, as its addresses name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoName {
    /// Whose.
    pub owner: String,
    /// Its name, without `.git`.
    pub name: String,
}

impl RepoName {
    /// The repository that an address is of; nothing for one that names none.
    #[must_use]
    pub fn of(url: &RepositoryUrl) -> Option<Self> {
        let RepositoryUrl::Http { url, .. } = url else { return None };
        let url = Url::parse(url).ok()?;
        Self::parse(url.path().trim_matches('/'))
    }

    /// Reads `owner/name`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (owner, name) = text.split_once('/')?;
        let name = name.strip_suffix(".git").unwrap_or(name);
        let plain = |part: &str| {
            let letters = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            (1..=100).contains(&part.len()) && part.chars().all(letters) && !matches!(part, "." | "..")
        };
        (plain(owner) && plain(name)).then(|| Self { owner: owner.to_owned(), name: name.to_owned() })
    }
}

impl std::fmt::Display for RepoName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forges_are_asked_where_they_are() {
        let at =
            |address: ForgeAddress| address.endpoint(&["repos", "o", "r", "branches", "a/b c"]).to_string();
        let path = "repos/o/r/branches/a%2Fb%20c";
        assert_eq!(at(ForgeAddress::known("github.com").unwrap()), format!("https://api.github.com/{path}"));
        assert_eq!(at(ForgeAddress::known("x.ghe.com").unwrap()), format!("https://api.x.ghe.com/{path}"));
        assert_eq!(ForgeAddress::known("github.example.org"), None);
        let own = ForgeAddress::configured("GHE.example.org:8443", None).unwrap();
        assert_eq!(own.host(), "ghe.example.org:8443");
        assert_eq!(at(own), format!("https://ghe.example.org:8443/api/v3/{path}"));
        let base = ForgeAddress::configured("ghe.example.org", Some("https://api.example.org/ghe/")).unwrap();
        assert_eq!(at(base), format!("https://api.example.org/ghe/{path}"));
    }

    #[test]
    fn a_token_goes_nowhere_but_over_tls() {
        for (host, api) in [
            ("", None),
            ("a/b", None),
            ("u@h.test", None),
            ("h.test?x", None),
            ("h.test", Some("http://h.test/api/v3")),
            ("h.test", Some("https://u:p@h.test/api/v3")),
            ("h.test", Some("https://h.test/?x=1")),
            ("h.test", Some("no")),
        ] {
            assert!(ForgeAddress::configured(host, api).is_err(), "{host} {api:?}");
        }
    }

    #[test]
    fn a_repository_has_an_owner_and_a_name_and_nothing_else() {
        let of =
            |url: &str| RepoName::of(&RepositoryUrl::parse(url, &[]).unwrap()).map(|name| name.to_string());
        assert_eq!(of("https://github.com/o/r.git").as_deref(), Some("o/r"));
        assert_eq!(of("https://github.com/o/r/").as_deref(), Some("o/r"));
        assert_eq!(of("https://github.com/o"), None);
        assert_eq!(of("https://github.com/o/r/x"), None);
        assert_eq!(of("https://github.com/o/%2e%2e"), None);
    }
}

//! The way to the servers of repositories.
//!
//! ```text
//!   stored address ─ resolve ─▶ addresses ─ rules ─▶ dialled        credential: over TLS alone
//!   info/refs ─ 30x ─▶ the same host, three times at most, remembered for what follows
//! ```

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use policy::address::AddressRules;
use policy::repository::RepositoryUrl;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Method, Response, Url, redirect};

use super::route::Service;
use crate::remote::{Remote, RemoteError};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(15);

/// How long a server may be silent: it may check a large push before it says a word.
const SILENCE: Duration = Duration::from_secs(600);

/// How often a repository may have moved.
const MOVES: usize = 3;

/// Servers tell gits from browsers by this.
const AGENT: &str = concat!("git/2.47.3 (patchyard ", env!("CARGO_PKG_VERSION"), ")");

pub(crate) const GIT_PROTOCOL: HeaderName = HeaderName::from_static("git-protocol");

/// A client that dials what the rules allow.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) http: reqwest::Client,
    rules: Arc<AddressRules>,
}

/// What goes out besides the address and the credential.
pub(crate) struct Sent {
    pub(crate) body: reqwest::Body,
    pub(crate) length: Option<u64>,
    /// The body's, passed on as it came.
    pub(crate) encoding: Option<HeaderValue>,
    pub(crate) protocol: Option<HeaderValue>,
}

/// Why there can be no client.
#[derive(Debug, thiserror::Error)]
#[error("the way to repositories cannot be made")]
pub struct UpstreamError(#[from] reqwest::Error);

impl Upstream {
    /// `authorities` are the certificates of those that hosts may be signed by, PEM.
    pub(crate) fn new(rules: AddressRules, authorities: &str) -> Result<Self, UpstreamError> {
        let rules = Arc::new(rules);
        let trusted = reqwest::Certificate::from_pem_bundle(authorities.as_bytes())?;
        let http = reqwest::Client::builder()
            .user_agent(AGENT)
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .redirect(redirect::Policy::none())
            .referer(false)
            // Proxies are configured, not found in the environment.
            .no_proxy()
            .http1_only()
            .tls_certs_only(trusted)
            .dns_resolver(Arc::new(Resolver(Arc::clone(&rules))))
            .build()?;
        Ok(Self { http, rules })
    }

    /// Asks which refs there are; the answer, and where the repository has moved to if it has.
    pub(crate) async fn refs(
        &self,
        remote: &Remote,
        base: &Url,
        service: Service,
        protocol: Option<HeaderValue>,
    ) -> Result<(Response, Option<Url>), RemoteError> {
        let (mut base, mut moved) = (base.clone(), None);
        for _ in 0..=MOVES {
            let mut url = below(&base, "info/refs");
            url.set_query(Some(&format!("service={}", service.name())));
            let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("*/*"))]);
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            headers.extend(protocol.clone().map(|version| (GIT_PROTOCOL, version)));
            let request = self.http.request(Method::GET, url.clone()).headers(headers);
            let response = self.send(remote, request).await?;
            let status = response.status();
            if status.is_success() {
                return Ok((response, moved));
            }
            let next = status.is_redirection().then(|| next(&url, response.headers())).flatten();
            let Some(next) = next else {
                return Err(RemoteError::of_status(remote, status.as_u16(), wanted(service)));
            };
            base = next.clone();
            moved = Some(next);
        }
        Err(RemoteError::Moved { url: remote.url.to_string() })
    }

    /// Asks for the service.
    pub(crate) async fn serve(
        &self,
        remote: &Remote,
        base: &Url,
        service: Service,
        sent: Sent,
    ) -> Result<Response, RemoteError> {
        let kind = |what: &str| HeaderValue::from_str(&format!("application/x-{}-{what}", service.name()));
        let mut headers = HeaderMap::new();
        headers.extend(kind("request").ok().map(|kind| (CONTENT_TYPE, kind)));
        headers.extend(kind("result").ok().map(|kind| (ACCEPT, kind)));
        headers.extend(sent.encoding.map(|encoding| (CONTENT_ENCODING, encoding)));
        headers.extend(sent.protocol.map(|version| (GIT_PROTOCOL, version)));
        headers.extend(sent.length.map(|length| (CONTENT_LENGTH, HeaderValue::from(length))));
        let url = below(base, service.name());
        let request = self.http.request(Method::POST, url).headers(headers).body(sent.body);
        let response = self.send(remote, request).await?;
        let status = response.status();
        if status.is_success() {
            Ok(response)
        } else {
            Err(RemoteError::of_status(remote, status.as_u16(), wanted(service)))
        }
    }

    pub(crate) async fn send(
        &self,
        remote: &Remote,
        request: reqwest::RequestBuilder,
    ) -> Result<Response, RemoteError> {
        self.check(remote)?;
        let shown = remote.shown().and_then(|credential| HeaderValue::from_str(&credential.header()).ok());
        let request = match shown {
            Some(mut value) => {
                value.set_sensitive(true);
                request.header(AUTHORIZATION, value)
            }
            None => request,
        };
        request.send().await.map_err(|error| why(remote, &error))
    }

    /// An address that is no name is not resolved, so it is checked here.
    fn check(&self, remote: &Remote) -> Result<(), RemoteError> {
        let RepositoryUrl::Http { host, .. } = &remote.url else { return Ok(()) };
        self.check_host(host)
    }

    pub(crate) fn check_host(&self, host: &str) -> Result<(), RemoteError> {
        // As it stands in an address.
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let Ok(address) = bare.parse::<IpAddr>() else { return Ok(()) };
        let refused = |reason| RemoteError::Address { host: bare.to_owned(), address, reason };
        self.rules.check(bare, address).map_err(refused)
    }
}

fn wanted(service: Service) -> &'static str {
    match service {
        Service::UploadPack => "read",
        Service::ReceivePack => "write to",
    }
}

/// The address of a repository as one can ask below it.
pub(crate) fn base(remote: &Remote) -> Result<Url, RemoteError> {
    let odd = || RemoteError::NotGit { url: remote.url.to_string() };
    match &remote.url {
        RepositoryUrl::Http { url, .. } => Url::parse(url).map_err(|_| odd()),
        RepositoryUrl::File { .. } => Err(odd()),
    }
}

pub(crate) fn below(base: &Url, what: &str) -> Url {
    let mut url = base.clone();
    let path = format!("{}/{what}", base.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

/// Where a redirect leads, where it is one that may be followed: to `info/refs` of the same host.
fn next(from: &Url, headers: &HeaderMap) -> Option<Url> {
    let to = from.join(headers.get(LOCATION)?.to_str().ok()?).ok()?;
    let same = to.origin() == from.origin() && to.username().is_empty() && to.query() == from.query();
    let path = to.path().strip_suffix("/info/refs").filter(|path| same && !path.is_empty())?.to_owned();
    let mut base = to;
    base.set_path(&path);
    base.set_query(None);
    base.set_fragment(None);
    Some(base)
}

/// Names stand for what the rules allow, or for nothing.
struct Resolver(Arc<AddressRules>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = Arc::clone(&self.0);
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await;
            let found: Vec<SocketAddr> =
                found.map_err(|_| RemoteError::Resolve { host: host.clone() })?.collect();
            for address in found.iter().map(SocketAddr::ip) {
                let refused = |reason| RemoteError::Address { host: host.clone(), address, reason };
                rules.check(&host, address).map_err(refused)?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// What a failed request means.
pub(crate) fn why(remote: &Remote, error: &reqwest::Error) -> RemoteError {
    let host = remote.host();
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut last = String::new();
    while let Some(error) = cause {
        if let Some(ours) = error.downcast_ref::<RemoteError>() {
            return ours.clone();
        }
        last = error.to_string();
        cause = error.source();
    }
    let why: String = last.chars().map(|c| if c.is_control() { ' ' } else { c }).take(160).collect();
    if last.contains("certificate") {
        RemoteError::Certificate { host, why }
    } else if error.is_timeout() {
        RemoteError::Silent { host }
    } else {
        RemoteError::Unreachable { host, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_to_the_same_host_or_nowhere() {
        let from = Url::parse("https://h.test/o/r.git/info/refs?service=git-upload-pack").unwrap();
        let to = |location: &str| {
            let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_str(location).unwrap())]);
            next(&from, &headers).map(|url| url.to_string())
        };
        let query = "service=git-upload-pack";
        assert_eq!(to(&format!("/new/r.git/info/refs?{query}")).as_deref(), Some("https://h.test/new/r.git"));
        for location in [
            format!("https://evil.test/o/r.git/info/refs?{query}"),
            format!("http://h.test/o/r.git/info/refs?{query}"),
            format!("https://h.test:444/o/r.git/info/refs?{query}"),
            format!("https://u@h.test/o/r.git/info/refs?{query}"),
            "/o/r.git/info/refs?service=git-receive-pack".into(),
            "/login".into(),
            format!("/info/refs?{query}"),
        ] {
            assert_eq!(to(&location), None, "{location}");
        }
        assert_eq!(below(&Url::parse("https://h.test/o/r/").unwrap(), "x").as_str(), "https://h.test/o/r/x");
    }
}

//! One repository of one registry, over HTTP.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use sandbox::images::{Descriptor, Digest, Document, MAX_DOCUMENT, Manifest};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::access::Challenge;
use super::credentials::Login;
use super::error::RegistryError;
use super::reference::Reference;

/// How often something is tried that fails by the network's fault.
pub(super) const TRIES: u32 = 5;

/// The first pause between tries; the next are twice as long each.
const PAUSE: Duration = Duration::from_millis(250);

/// The longest pause, also when a registry asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a connection may take, and how long a registry may be silent.
const CONNECT: Duration = Duration::from_secs(15);
const SILENCE: Duration = Duration::from_secs(60);

/// How often a registry may send us on.
const REDIRECTS: usize = 5;

/// Forms of manifests that are understood.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// A repository, and how it lets us in.
pub(crate) struct Registry {
    http: Client,
    name: String,
    base: Url,
    /// Unencrypted connections are allowed, as the person said; those to this machine always are.
    insecure: bool,
    login: Option<Login>,
    /// What we are let in by, once it was asked for.
    authorization: Mutex<Option<String>>,
}

/// The answer of who gives tokens.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Registry {
    /// A registry by its name; nothing is sent yet.
    pub(crate) fn new(name: &str, login: Option<Login>, insecure: bool) -> Result<Self, RegistryError> {
        let wrong = |why| RegistryError::Reference { text: name.to_owned(), why };
        let is_here = Url::parse(&format!("http://{name}/")).is_ok_and(|url| is_loopback(&url));
        let scheme = if insecure || is_here { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{name}/v2/")).map_err(|_| wrong("its host is none"))?;
        let policy = Policy::custom(move |attempt| {
            if attempt.previous().len() > REDIRECTS {
                return attempt.error("it sends us on and on");
            }
            // The client forgets the authorization where this leads to another host.
            if may_follow(attempt.url(), insecure) {
                return attempt.follow();
            }
            attempt.error("it leads to an address that is not encrypted")
        });
        let mut client = Client::builder().redirect(policy).connect_timeout(CONNECT).read_timeout(SILENCE);
        if is_here {
            client = client.no_proxy();
        }
        let http = client.build().map_err(|source| unreachable(name, 0, source))?;
        let authorization = Mutex::new(None);
        Ok(Self { http, name: name.to_owned(), base, insecure, login, authorization })
    }

    /// Whether the registry lets us in at all.
    pub(crate) async fn check(&self) -> Result<(), RegistryError> {
        self.get("", "the login", None, "application/json").await.map(|_| ())
    }

    /// The manifest of an image for this machine, checked, with its digest and bytes.
    pub(crate) async fn manifest(
        &self,
        reference: &Reference,
    ) -> Result<(Digest, Vec<u8>, Manifest), RegistryError> {
        let mut wanted = reference.wanted();
        let mut expected = reference.digest;
        // One index may stand in another one, and once more.
        for _ in 0..3 {
            let what = format!("image {}:{wanted}", reference.repository);
            let path = format!("{}/manifests/{wanted}", reference.repository);
            let answer = self.get(&path, &what, None, MANIFESTS).await?;
            let bytes = self.body(answer, &what, MAX_DOCUMENT).await?;
            let found = Digest::of(&bytes);
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                return Err(sandbox::images::ImageError::Mismatch {
                    what: format!("what {} sent as {what}", self.name),
                    expected: expected.to_string(),
                    found: found.to_string(),
                }
                .into());
            }
            match serde_json::from_slice(&bytes) {
                Ok(Document::Manifest(manifest)) => return Ok((found, bytes, manifest)),
                Ok(Document::Index(index)) => {
                    let Descriptor { digest, .. } = index.choose()?;
                    wanted = digest.to_string();
                    expected = Some(*digest);
                }
                Err(_) => return Err(self.answer(&what, "what is no manifest of an image".into())),
            }
        }
        Err(self.answer("the manifest", "indexes that stand too deep in each other".into()))
    }

    /// Asks for a blob, from a byte on.
    pub(super) async fn blob(
        &self,
        repository: &str,
        digest: &Digest,
        from: u64,
    ) -> Result<Response, RegistryError> {
        let range = (from > 0).then(|| format!("bytes={from}-"));
        self.get(&format!("{repository}/blobs/{digest}"), &format!("part {digest}"), range, "*/*").await
    }

    /// One question, with as many tries as it takes and is worth.
    async fn get(
        &self,
        path: &str,
        what: &str,
        range: Option<String>,
        accept: &str,
    ) -> Result<Response, RegistryError> {
        let url = self.base.join(path).map_err(|_| self.answer(what, "a name that is no address".into()))?;
        let mut pause = PAUSE;
        let mut asked_for_access = false;
        let mut tries = 0;
        loop {
            tries += 1;
            let mut request = self.http.get(url.clone()).header(ACCEPT, accept);
            if let Some(range) = &range {
                request = request.header(RANGE, range);
            }
            if let Some(authorization) = self.authorization.lock().await.as_ref() {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = match request.send().await {
                Ok(response) => response,
                Err(error) if tries < TRIES && !error.is_redirect() => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
                Err(source) => return Err(unreachable(&self.name, tries, source)),
            };
            match response.status() {
                status if status.is_success() => return Ok(response),
                StatusCode::UNAUTHORIZED if !asked_for_access => {
                    asked_for_access = true;
                    self.ask_for_access(&response, what).await?;
                }
                status
                    if tries < TRIES
                        && (status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS) =>
                {
                    tokio::time::sleep(asked_pause(&response).unwrap_or(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                _ => return Err(self.refused(response, what).await),
            }
        }
    }

    /// Does what a 401 asks for; what it gives is used from then on.
    async fn ask_for_access(&self, refusal: &Response, what: &str) -> Result<(), RegistryError> {
        let headers =
            refusal.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let denied = |words: &str| RegistryError::Denied {
            registry: self.name.clone(),
            what: what.to_owned(),
            words: words.to_owned(),
        };
        let basic = self.login.as_ref().map(basic);
        let authorization = match Challenge::read(headers) {
            Some(Challenge::Basic) => basic.ok_or_else(|| denied("it asks for a password"))?,
            Some(Challenge::Bearer { realm, service, scope }) => {
                let mut url = Url::parse(&realm)
                    .map_err(|_| self.answer(what, "the address of a token that is none".into()))?;
                if !may_follow(&url, self.insecure) {
                    return Err(RegistryError::Unencrypted { registry: self.name.clone(), url: realm });
                }
                for (name, value) in [("service", service), ("scope", scope)] {
                    if let Some(value) = value {
                        url.query_pairs_mut().append_pair(name, &value);
                    }
                }
                let mut request = self.http.get(url);
                if let Some(basic) = basic {
                    request = request.header(AUTHORIZATION, basic);
                }
                let answer = request.send().await.map_err(|source| unreachable(&self.name, 1, source))?;
                if !answer.status().is_success() {
                    return Err(denied(&format!("the answer for a token is {}", answer.status())));
                }
                let bytes = self.body(answer, "the token", MAX_DOCUMENT).await?;
                let token: Option<Token> = serde_json::from_slice(&bytes).ok();
                let token = token.and_then(|token| token.token.or(token.access_token));
                format!("Bearer {}", token.ok_or_else(|| self.answer("the token", "none".into()))?)
            }
            None => return Err(denied("it does not say what it asks for")),
        };
        *self.authorization.lock().await = Some(authorization);
        Ok(())
    }

    /// Reads an answer that is not longer than it may be.
    async fn body(&self, mut answer: Response, what: &str, most: u64) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|source| unreachable(&self.name, 1, source))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > most {
                return Err(self.answer(what, format!("more than {most} bytes")));
            }
        }
        Ok(bytes)
    }

    async fn refused(&self, response: Response, what: &str) -> RegistryError {
        let status = response.status();
        let (registry, what) = (self.name.clone(), what.to_owned());
        match status {
            StatusCode::NOT_FOUND => RegistryError::Missing { registry, what },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let words = match &self.login {
                    Some(login) => format!("{} may not have it", login.user),
                    None => "nobody is signed in".to_owned(),
                };
                RegistryError::Denied { registry, what, words }
            }
            _ => self.answer(&what, status.to_string()),
        }
    }

    pub(super) fn answer(&self, what: &str, words: String) -> RegistryError {
        RegistryError::Answer { registry: self.name.clone(), what: what.to_owned(), words }
    }

    pub(super) fn unreachable(&self, tries: u32, source: reqwest::Error) -> RegistryError {
        unreachable(&self.name, tries, source)
    }
}

fn unreachable(registry: &str, tries: u32, source: reqwest::Error) -> RegistryError {
    // Addresses of blobs carry signatures that are as good as passwords.
    RegistryError::Unreachable { registry: registry.to_owned(), tries, source: source.without_url() }
}

/// The pause before a try.
pub(super) fn pause(tries: u32) -> Duration {
    (PAUSE * 2_u32.saturating_pow(tries.saturating_sub(1))).min(LONGEST_PAUSE)
}

fn asked_pause(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

fn basic(login: &Login) -> String {
    use base64::Engine as _;
    let words = format!("{}:{}", login.user, login.password);
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(words))
}

/// Whether what we say there may be seen by those on the way.
fn may_follow(url: &Url, insecure: bool) -> bool {
    url.scheme() == "https" || url.scheme() == "http" && (insecure || is_loopback(url))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

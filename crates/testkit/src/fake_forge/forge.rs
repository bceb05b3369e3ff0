//! The server, and what a test does with it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::api::{self, Call};
use super::fault::{Fault, Waiting, take};
use super::git;
use super::reply::{parameter, problem, query};
use super::shape;
use super::state::{Issue, LineComment, Repository, State};
use crate::harness::{DEADLINE, Must as _, Repo, Tls, cgi};
use crate::internet::Authority;

/// Where the API begins.
const API: &str = "/api/v3/";

/// What a token may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose it is.
    pub login: String,
    /// Whether it may change things.
    pub push: bool,
    /// The private repositories that it may see; all without.
    pub only: Option<Vec<String>>,
}

impl Grant {
    /// One that may do everything.
    #[must_use]
    pub fn all(login: &str) -> Self {
        Self { login: login.into(), push: true, only: None }
    }
}

/// A check of a commit.
#[derive(Debug, Clone, Default)]
pub struct Check {
    /// The commit.
    pub commit: String,
    /// Its name.
    pub name: String,
    /// How it ended; it runs without one.
    pub conclusion: Option<String>,
    /// What it remarks: path, line, words.
    pub annotations: Vec<(String, u64, String)>,
    /// What its job printed.
    pub log: String,
    /// A status of an older service, and no check run.
    pub status_only: bool,
}

/// A forge on loopback, over TLS; it stops when this is dropped.
#[derive(Debug)]
pub struct FakeForge {
    state: Arc<Mutex<State>>,
    /// How many requests came.
    news: watch::Sender<usize>,
    base: String,
    _root: TempDir,
    _stop: DropGuard,
}

impl FakeForge {
    /// Starts one without repositories and tokens.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start(authority: &Authority) -> Self {
        let root = tempfile::tempdir().must("a temporary folder");
        let listener = TcpListener::bind("127.0.0.1:0").await.must("a port");
        let base = format!("https://{}", listener.local_addr().must("an address"));
        let news = watch::Sender::new(0);
        let state = Arc::new(Mutex::new(State {
            news: news.clone(),
            root: root.path().to_owned(),
            base: base.clone(),
            tokens: Default::default(),
            repositories: Vec::new(),
            faults: Vec::new(),
            asked: Vec::new(),
            last_id: 1000,
        }));
        let router = Router::new().fallback(serve).with_state(Arc::clone(&state));
        let stop = CancellationToken::new();
        let until = stop.clone();
        let tls = authority.acceptor("127.0.0.1");
        tokio::spawn(async move {
            let ended = async move { until.cancelled().await };
            let _ = axum::serve(Tls { listener, tls }, router).with_graceful_shutdown(ended).await;
        });
        Self { state, news, base, _root: root, _stop: stop.drop_guard() }
    }

    /// Its address without anything behind it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.base
    }

    /// Its host, with the port.
    #[must_use]
    pub fn host(&self) -> &str {
        self.base.trim_start_matches("https://")
    }

    /// Knows a token from now on.
    pub fn allow(&self, token: &str, grant: Grant) {
        self.lock().tokens.insert(token.to_owned(), grant);
    }

    /// Does not know a token any more.
    pub fn revoke(&self, token: &str) {
        self.lock().tokens.remove(token);
    }

    /// Has a private repository `owner/name` from now on, a copy of this one; its address for git.
    pub fn publish(&self, full_name: &str, repo: &Repo) -> String {
        let bare = self.bare(full_name);
        repo.git(&["clone", "--quiet", "--bare", &repo.arg(), &bare.display().to_string()]);
        git::guard(&bare);
        let mut state = self.lock();
        let id = state.next_id();
        state.repositories.push(Repository {
            id,
            full_name: full_name.to_owned(),
            formerly: Vec::new(),
            private: true,
            default_branch: "main".into(),
            protected: Vec::new(),
            issues: Vec::new(),
            comments: Vec::new(),
            reviews: Vec::new(),
            line_comments: Vec::new(),
            checks: Vec::new(),
        });
        format!("{}/{full_name}.git", self.base)
    }

    /// Where a repository is.
    #[must_use]
    pub fn bare(&self, full_name: &str) -> PathBuf {
        self.lock().bare(full_name)
    }

    /// What git says of a repository, cut at both ends; nothing where it fails.
    #[allow(clippy::must_use_candidate, reason = "some ask git to do something")]
    pub fn git(&self, full_name: &str, args: &[&str]) -> String {
        git::git(&self.bare(full_name), args).unwrap_or_default().trim().to_owned()
    }

    /// Protects a branch.
    pub fn protect(&self, full_name: &str, branch: &str) {
        let bare = self.bare(full_name);
        self.with(full_name, |repository| {
            repository.protected.push(branch.to_owned());
            git::protect(&bare, &repository.protected);
        });
    }

    /// Gives a repository another name; the old one leads there.
    ///
    /// # Panics
    /// When there is none.
    pub fn rename(&self, full_name: &str, to: &str) {
        let (from, into) = (self.bare(full_name), self.bare(to));
        std::fs::create_dir_all(into.parent().must("a folder")).must("the owner's folder");
        std::fs::rename(from, into).must("a repository to move");
        self.with(full_name, |repository| {
            repository.formerly.push(full_name.to_owned());
            to.clone_into(&mut repository.full_name);
        });
    }

    /// Deletes a repository.
    ///
    /// # Panics
    /// When there is none.
    pub fn delete(&self, full_name: &str) {
        std::fs::remove_dir_all(self.bare(full_name)).must("a repository to delete");
        self.lock().repositories.retain(|repository| repository.full_name != full_name);
    }

    /// Opens an issue; its number.
    pub fn open_issue(&self, full_name: &str, title: &str, body: &str) -> u64 {
        self.with(full_name, |repository| {
            let number = repository.next_number();
            let (title, body) = (title.to_owned(), Some(body.to_owned()));
            repository.issues.push(Issue {
                number,
                title,
                body,
                open: true,
                login: "someone".into(),
                pull: None,
            });
            number
        })
    }

    /// Comments on a line of a pull request; the comment's id.
    pub fn comment_line(&self, full_name: &str, number: u64, path: &str, line: u64, body: &str) -> u64 {
        let id = self.lock().next_id();
        let (path, body, login) = (path.to_owned(), body.to_owned(), "reviewer".to_owned());
        let comment = LineComment { id, number, reply_to: None, path, line, body, login };
        self.with(full_name, |repository| repository.line_comments.push(comment));
        id
    }

    /// Has a check, in place of the one of the same name at that commit; its id.
    pub fn set_check(&self, full_name: &str, check: Check) -> u64 {
        let id = self.lock().next_id();
        self.with(full_name, |repository| {
            repository.checks.retain(|(_, old)| old.name != check.name || old.commit != check.commit);
            repository.checks.push((id, check));
        });
        id
    }

    /// Closes a pull request or an issue, merged or not.
    ///
    /// # Panics
    /// When there is none.
    pub fn close(&self, full_name: &str, number: u64, merged: bool) {
        self.with(full_name, |repository| {
            let issue = repository.issue_mut(number).must("an issue or a pull request");
            issue.open = false;
            if let Some(pull) = &mut issue.pull {
                pull.merged = merged;
            }
        });
    }

    /// The pull requests of a repository as the API tells of them, the oldest first.
    #[must_use]
    pub fn pulls(&self, full_name: &str) -> Vec<Value> {
        let (base, bare) = (self.base.clone(), self.bare(full_name));
        self.with(full_name, |repository| {
            let all = repository.issues.iter();
            all.filter_map(|issue| shape::pull(&base, &bare, repository, issue)).collect()
        })
    }

    /// The comments below an issue or a pull request.
    #[must_use]
    pub fn comments(&self, full_name: &str, number: u64) -> Vec<String> {
        self.with(full_name, |repository| {
            let of = repository.comments.iter().filter(|comment| comment.number == number);
            of.map(|comment| comment.body.clone()).collect()
        })
    }

    /// Lets the next requests whose line (`GET /api/v3/…`) has `part` in it go wrong.
    pub fn fault(&self, part: &str, fault: Fault, times: usize) {
        self.lock().faults.push(Waiting { part: part.to_owned(), fault, times });
    }

    /// Lets nothing go wrong any more.
    pub fn as_usual(&self) {
        self.lock().faults.clear();
    }

    /// Waits until a request has come whose line has `part` in it.
    ///
    /// # Panics
    /// When none comes for long.
    pub async fn until_asked(&self, part: &str) {
        let mut news = self.news.subscribe();
        let came = async {
            while self.requests(part).is_empty() {
                news.changed().await.must("a forge that runs");
            }
        };
        tokio::time::timeout(DEADLINE, came).await.must("the request");
    }

    /// The requests whose line has `part` in it, with their fields.
    #[must_use]
    pub fn requests(&self, part: &str) -> Vec<(String, HeaderMap)> {
        self.lock().asked.iter().filter(|(line, _)| line.contains(part)).cloned().collect()
    }

    fn with<T>(&self, full_name: &str, change: impl FnOnce(&mut Repository) -> T) -> T {
        let mut state = self.lock();
        let at = state.place(full_name).must("a repository of this name");
        change(&mut state.repositories[at])
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The token that a request shows.
fn shown(headers: &HeaderMap) -> Option<String> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (kind, value) = given.split_once(' ')?;
    match kind {
        "Bearer" | "token" => Some(value.to_owned()),
        "Basic" => {
            let text = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
            text.split_once(':').map(|(_, token)| token.to_owned())
        }
        _ => None,
    }
}

async fn serve(Shared(state): Shared<Arc<Mutex<State>>>, request: Request) -> Response {
    let line = format!("{} {}", request.method(), request.uri());
    let headers = request.headers().clone();
    let fault = {
        let mut state = lock(&state);
        state.asked.push((line.clone(), headers.clone()));
        state.news.send_modify(|count| *count += 1);
        take(&mut state.faults, &line)
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    match fault {
        Some(Fault::Status(status)) => {
            return problem(status, "it was wanted").response(&line, &[], &headers);
        }
        Some(Fault::Secondary(seconds)) => {
            let words = "{\"message\":\"You have exceeded a secondary rate limit.\"}";
            let fields = [("retry-after", seconds.to_string())];
            return (StatusCode::FORBIDDEN, fields, words).into_response();
        }
        Some(Fault::Exhausted(seconds)) => {
            let reset = (now + seconds).to_string();
            let fields = [("x-ratelimit-remaining", "0".to_owned()), ("x-ratelimit-reset", reset)];
            return (StatusCode::FORBIDDEN, fields, "{\"message\":\"API rate limit exceeded\"}")
                .into_response();
        }
        Some(Fault::Page) => return "<html>Please sign in</html>".into_response(),
        Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
        Some(fault @ (Fault::Lost | Fault::Held)) => {
            // Done to its end, also when the client goes away.
            let doing = Arc::clone(&state);
            let _ = tokio::spawn(async move { dispatch(&doing, request).await }).await;
            if fault == Fault::Held {
                std::future::pending::<()>().await;
            }
            return StatusCode::BAD_GATEWAY.into_response();
        }
        None => {}
    }
    dispatch(&state, request).await
}

async fn dispatch(state: &Mutex<State>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    if let Some(below) = path.strip_prefix(API) {
        return of_api(state, below, request).await;
    }
    if let Some(id) = path.strip_prefix("/_logs/") {
        return log(state, id, &request);
    }
    of_git(state, &path, request).await
}

async fn of_api(state: &Mutex<State>, below: &str, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let token = shown(&parts.headers);
    note(below, &parts, &body);
    let mut state = lock(state);
    let grant = token.as_ref().and_then(|token| state.tokens.get(token).cloned());
    let query = query(parts.uri.query());
    let address = format!("{}{}", state.base, parts.uri.path());
    if token.is_some() && grant.is_none() {
        return problem(401, "Bad credentials").response(&address, &query, &parts.headers);
    }
    let decoded = |part: &str| {
        let url = reqwest::Url::parse(&format!("http://h/?{}", part.replace('+', "%2B")));
        url.ok()
            .and_then(|url| url.query_pairs().next().map(|(name, _)| name.into_owned()))
            .unwrap_or_default()
    };
    let path: Vec<String> = below.split('/').map(decoded).collect();
    let accept =
        parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let call = Call {
        method: parts.method.as_str(),
        path: &path,
        query: &query,
        accept,
        body: serde_json::from_slice(&body).unwrap_or_default(),
        grant,
    };
    api::answer(&mut state, &call).response(&address, &query, &parts.headers)
}

/// Writes a request down for `scripts/forge-contract`, where that asks for it.
fn note(below: &str, parts: &axum::http::request::Parts, body: &[u8]) {
    let Some(file) = std::env::var_os("PATCHYARD_FORGE_REQUESTS") else { return };
    // Where a redirect led to is the forge's own choice.
    if below.starts_with("repositories/") {
        return;
    }
    let request = serde_json::json!({
        "method": parts.method.as_str(), "path": below, "query": parts.uri.query().unwrap_or_default(),
        "body": serde_json::from_slice::<Value>(body).ok(),
    });
    let mut file =
        std::fs::OpenOptions::new().append(true).create(true).open(file).must("a file for requests");
    // One write: other tests write there, too.
    std::io::Write::write_all(&mut file, format!("{request}\n").as_bytes()).must("a request to note");
}

/// What a signed address leads to. Whoever shows a token there has leaked it.
fn log(state: &Mutex<State>, id: &str, request: &Request) -> Response {
    let signed = parameter(&query(request.uri().query()), "sig") == Some("signed");
    if !signed || request.headers().contains_key(header::AUTHORIZATION) {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let state = lock(state);
    let mut checks = state.repositories.iter().flat_map(|repository| &repository.checks);
    let found = checks.find(|(known, _)| known.to_string() == id);
    found
        .map_or_else(|| StatusCode::NOT_FOUND.into_response(), |(_, check)| check.log.clone().into_response())
}

async fn of_git(state: &Mutex<State>, path: &str, request: Request) -> Response {
    let realm = [(header::WWW_AUTHENTICATE, "Basic realm=\"GitHub\"")];
    let (root, may_push) = {
        let state = lock(state);
        let named = path.trim_start_matches('/').split_once(".git").map(|(name, _)| name.to_owned());
        let Some(at) = named.as_deref().and_then(|name| state.place(name)) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let repository = &state.repositories[at];
        let token = shown(request.headers());
        let grant = token.as_ref().and_then(|token| state.tokens.get(token));
        if grant.is_none() && (repository.private || token.is_some()) {
            return (StatusCode::UNAUTHORIZED, realm).into_response();
        }
        if !repository.is_seen_by(grant) {
            return StatusCode::NOT_FOUND.into_response();
        }
        let old = named.unwrap_or_default();
        if !repository.full_name.eq_ignore_ascii_case(&old) {
            let place = request.uri().to_string().replacen(&old, &repository.full_name, 1);
            return (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, place)]).into_response();
        }
        (state.root.clone(), grant.is_some_and(|grant| grant.push))
    };
    if request.uri().to_string().contains("git-receive-pack") && !may_push {
        let words = "remote: Permission to the repository denied.\n";
        return (StatusCode::FORBIDDEN, words).into_response();
    }
    match cgi(&root, may_push, request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

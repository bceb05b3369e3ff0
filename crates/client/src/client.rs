//! Requests.

use std::path::Path;
use std::time::Duration;

use protocol::api::{
    AnswerQuestion, ArchiveSession, CreatePrompt, CreateSession, Diff, EventPage, LoginCode, NewToken,
    PromptAccepted, ServerInfo, SessionList, Upload,
};
use protocol::ids::{QuestionId, Seq, SessionId};
use protocol::problem::Problem;
use protocol::view::SessionView;
use reqwest::{Method, RequestBuilder, Response, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::io::ReaderStream;

use crate::error::ClientError;
use crate::follow::Follow;

/// The longest that a plain question takes to be answered.
pub(crate) const SHORT: Duration = Duration::from_secs(30);

/// The same for what first has to end a turn or take a sandbox down.
pub(crate) const LONG: Duration = Duration::from_secs(180);

/// The server pings every 15 s: so much silence means that the connection is dead.
pub(crate) const SILENCE: Duration = Duration::from_secs(45);

/// A server and how to be somebody there. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    /// For what goes on without an end, with a limit on silence only.
    streams: reqwest::Client,
    server: String,
    token: Option<String>,
}

impl Client {
    /// A client of `server`, such as `http://127.0.0.1:7878`.
    pub fn new(server: &str, token: Option<String>) -> Result<Self, ClientError> {
        let server = server.trim().trim_end_matches('/').to_owned();
        let is_address = server.starts_with("http://") || server.starts_with("https://");
        let bad = || ClientError::BadServer(server.chars().take(200).collect());
        if !is_address || reqwest::Url::parse(&server).is_err() {
            return Err(bad());
        }
        let builder = || {
            reqwest::Client::builder()
                .connect_timeout(Duration::from_secs(10))
                .user_agent(concat!("patchyard/", env!("CARGO_PKG_VERSION")))
                // One's own server is never behind the machine's proxy for the outside.
                .no_proxy()
        };
        let http = builder().build().map_err(|_| bad())?;
        let streams = builder().read_timeout(SILENCE).build().map_err(|_| bad())?;
        Ok(Self { http, streams, server, token })
    }

    /// The server's address, without a slash at the end.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The token, where there is one.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The page of a session.
    #[must_use]
    pub fn session_url(&self, session: SessionId) -> String {
        format!("{}/s/{session}", self.server)
    }

    /// What the server has and misses.
    pub async fn server_info(&self) -> Result<ServerInfo, ClientError> {
        self.get("/server").await
    }

    /// Sessions, newest first.
    pub async fn sessions(
        &self,
        archived: bool,
        before: Option<SessionId>,
    ) -> Result<SessionList, ClientError> {
        let before = before.map(|id| format!("&before={id}")).unwrap_or_default();
        self.get(&format!("/sessions?archived={archived}&limit=200{before}")).await
    }

    /// One session.
    pub async fn session(&self, session: SessionId) -> Result<SessionView, ClientError> {
        self.get(&format!("/sessions/{session}")).await
    }

    /// Makes a session; with the same key at most once.
    pub async fn create_session(&self, body: &CreateSession, key: &str) -> Result<SessionView, ClientError> {
        let request = self.request(Method::POST, "/sessions").header("idempotency-key", key).json(body);
        self.json(request).await
    }

    /// Uploads a bundle.
    pub async fn upload(&self, bundle: &Path) -> Result<Upload, ClientError> {
        let read = |source| ClientError::Read { path: bundle.display().to_string(), source };
        let file = tokio::fs::File::open(bundle).await.map_err(read)?;
        let size = file.metadata().await.map_err(read)?.len();
        let body = reqwest::Body::wrap_stream(ReaderStream::with_capacity(file, 64 * 1024));
        let request = self
            .request(Method::POST, "/uploads")
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, size)
            .body(body);
        self.json(request).await
    }

    /// Queues a prompt; with the same key at most once.
    pub async fn prompt(
        &self,
        session: SessionId,
        text: &str,
        key: &str,
    ) -> Result<PromptAccepted, ClientError> {
        let body = CreatePrompt { text: text.to_owned() };
        let path = format!("/sessions/{session}/prompts");
        let request = self.request(Method::POST, &path).timeout(SHORT).header("idempotency-key", key);
        self.json(request.json(&body)).await
    }

    /// Stops what runs.
    pub async fn stop(&self, session: SessionId) -> Result<SessionView, ClientError> {
        self.json(self.request(Method::POST, &format!("/sessions/{session}/stop")).timeout(LONG)).await
    }

    /// Tries a failed preparation again.
    pub async fn retry(&self, session: SessionId) -> Result<SessionView, ClientError> {
        self.json(self.request(Method::POST, &format!("/sessions/{session}/retry")).timeout(LONG)).await
    }

    /// Hides a session or brings it back.
    pub async fn archive(&self, session: SessionId, archived: bool) -> Result<SessionView, ClientError> {
        self.post(&format!("/sessions/{session}/archive"), &ArchiveSession { archived }).await
    }

    /// Answers a question.
    pub async fn answer(
        &self,
        session: SessionId,
        question: QuestionId,
        option: &str,
    ) -> Result<(), ClientError> {
        let body = AnswerQuestion { option: option.to_owned() };
        let path = format!("/sessions/{session}/questions/{question}");
        self.send(self.request(Method::POST, &path).timeout(SHORT).json(&body)).await.map(drop)
    }

    /// Deletes a session.
    pub async fn delete(&self, session: SessionId) -> Result<(), ClientError> {
        let request = self.request(Method::DELETE, &format!("/sessions/{session}")).timeout(LONG);
        self.send(request).await.map(drop)
    }

    /// A page of events.
    pub async fn events(&self, session: SessionId, after: Seq) -> Result<EventPage, ClientError> {
        self.get(&format!("/sessions/{session}/events?after={after}&limit=1000")).await
    }

    /// All that happens in a session after a point, until the session is gone; resumes by itself.
    #[must_use]
    pub fn follow(&self, session: SessionId, after: Seq) -> Follow {
        Follow::new(self.clone(), session, after)
    }

    pub(crate) async fn open_stream(&self, session: SessionId, after: Seq) -> Result<Response, ClientError> {
        let path = format!("/sessions/{session}/events?after={after}");
        let request = self.authorized(self.streams.get(self.address(&path)));
        self.send(request.header(header::ACCEPT, "text/event-stream")).await
    }

    /// Changed files and counts.
    pub async fn diff(&self, session: SessionId) -> Result<Diff, ClientError> {
        self.get(&format!("/sessions/{session}/diff")).await
    }

    /// The whole change as a patch.
    pub async fn patch(&self, session: SessionId) -> Result<Vec<u8>, ClientError> {
        let response =
            self.send(self.request(Method::GET, &format!("/sessions/{session}/diff?format=patch"))).await?;
        response.bytes().await.map(|bytes| bytes.to_vec()).map_err(|error| self.strange(&error))
    }

    /// Exchanges a one-time code for a token.
    pub async fn exchange(&self, code: &str) -> Result<NewToken, ClientError> {
        self.post("/auth/token", &LoginCode { code: code.to_owned() }).await
    }

    /// Ends this client's own token.
    pub async fn logout(&self) -> Result<(), ClientError> {
        self.send(self.request(Method::POST, "/auth/logout").timeout(SHORT)).await.map(drop)
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(self.request(Method::GET, path).timeout(SHORT)).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.json(self.request(Method::POST, path).timeout(LONG).json(body)).await
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.authorized(self.http.request(method, self.address(path)))
    }

    fn address(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.server)
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        self.send(request).await?.json().await.map_err(|error| self.strange(&error))
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response =
            request.send().await.map_err(|error| ClientError::unreachable(&self.server, &error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        match response.json::<Problem>().await {
            Ok(problem) => Err(ClientError::Problem(Box::new(problem))),
            Err(_) => Err(ClientError::Strange { server: self.server.clone(), what: status.to_string() }),
        }
    }

    fn strange(&self, error: &reqwest::Error) -> ClientError {
        ClientError::Strange { server: self.server.clone(), what: format!("something else: {error}") }
    }
}

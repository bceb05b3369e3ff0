//! Requests.

use std::io;
use std::path::Path;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use protocol::api::{
    AnswerQuestion, ArchiveSession, CreatePrompt, CreateSession, Diff, EditPrompt, EventPage, FilesTaken,
    LoginCode, NewToken, PromptAccepted, QueuedPrompts, ServerInfo, SessionList, Upload,
};
use protocol::egress::NetworkPage;
use protocol::ids::{PromptId, QuestionId, Seq, SessionId, ShellId};
use protocol::network::{DecideNetwork, NetworkTest};
use protocol::problem::Problem;
use protocol::prompt::QueuedPrompt;
use protocol::rewind::{CheckpointList, ForkSession, RewindSession};
use protocol::shell::{OpenShell, Shell, ShellList};
use protocol::view::SessionView;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncRead;
use tokio_tungstenite::tungstenite::Bytes;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_util::io::ReaderStream;

use crate::error::ClientError;
use crate::follow::Follow;
use crate::shell::ShellSocket;

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
    /// For what becomes another protocol, which only HTTP/1.1 can.
    sockets: reqwest::Client,
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
        let sockets = builder().http1_only().build().map_err(|_| bad())?;
        Ok(Self { http, streams, sockets, server, token })
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
        body: &CreatePrompt,
        key: &str,
    ) -> Result<PromptAccepted, ClientError> {
        let path = format!("/sessions/{session}/prompts");
        let request = self.request(Method::POST, &path).timeout(SHORT).header("idempotency-key", key);
        self.json(request.json(body)).await
    }

    /// The prompts that wait.
    pub async fn prompts(&self, session: SessionId) -> Result<QueuedPrompts, ClientError> {
        self.get(&format!("/sessions/{session}/prompts")).await
    }

    /// Changes a prompt that waits.
    pub async fn edit_prompt(
        &self,
        session: SessionId,
        prompt: PromptId,
        body: &EditPrompt,
    ) -> Result<QueuedPrompt, ClientError> {
        let path = format!("/sessions/{session}/prompts/{prompt}");
        self.json(self.request(Method::PATCH, &path).timeout(SHORT).json(body)).await
    }

    /// Takes a prompt back that waits.
    pub async fn cancel_prompt(&self, session: SessionId, prompt: PromptId) -> Result<(), ClientError> {
        let path = format!("/sessions/{session}/prompts/{prompt}");
        self.send(self.request(Method::DELETE, &path).timeout(SHORT)).await.map(drop)
    }

    /// Stops what runs.
    pub async fn stop(&self, session: SessionId) -> Result<SessionView, ClientError> {
        self.json(self.request(Method::POST, &format!("/sessions/{session}/stop")).timeout(LONG)).await
    }

    /// The checkpoints, oldest first.
    pub async fn checkpoints(&self, session: SessionId) -> Result<CheckpointList, ClientError> {
        self.get(&format!("/sessions/{session}/checkpoints")).await
    }

    /// Goes back to a checkpoint.
    pub async fn rewind(&self, session: SessionId, body: &RewindSession) -> Result<SessionView, ClientError> {
        self.post(&format!("/sessions/{session}/rewind"), body).await
    }

    /// Makes a session that goes on from a checkpoint; with the same key at most once.
    pub async fn fork(
        &self,
        session: SessionId,
        body: &ForkSession,
        key: &str,
    ) -> Result<SessionView, ClientError> {
        let request = self.request(Method::POST, &format!("/sessions/{session}/fork")).timeout(LONG);
        self.json(request.header("idempotency-key", key).json(body)).await
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

    /// What a session's sandboxes tried to reach.
    pub async fn network(&self, session: SessionId, after: u64) -> Result<NetworkPage, ClientError> {
        self.get(&format!("/sessions/{session}/network?after={after}&limit=1000")).await
    }

    /// Decides about something that a session's network refuses; what holds now.
    pub async fn decide_network(
        &self,
        session: SessionId,
        decide: &DecideNetwork,
    ) -> Result<NetworkTest, ClientError> {
        self.post(&format!("/sessions/{session}/network"), decide).await
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

    /// A file or folder of a session's sandbox, as a tar stream.
    pub async fn files(
        &self,
        session: SessionId,
        path: &str,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + Unpin + use<>, ClientError> {
        let request = self.authorized(self.streams.get(self.address(&format!("/sessions/{session}/files"))));
        let response = self.send(request.query(&[("path", path)])).await?;
        Ok(response.bytes_stream().map(|piece| piece.map_err(io::Error::other)))
    }

    /// Puts a tar stream of one file or folder to a path of a session's sandbox.
    pub async fn put_files(
        &self,
        session: SessionId,
        path: &str,
        archive: impl AsyncRead + Send + 'static,
    ) -> Result<FilesTaken, ClientError> {
        let body = reqwest::Body::wrap_stream(ReaderStream::with_capacity(archive, 64 * 1024));
        let request = self.request(Method::PUT, &format!("/sessions/{session}/files"));
        self.json(
            request.query(&[("path", path)]).header(header::CONTENT_TYPE, "application/x-tar").body(body),
        )
        .await
    }

    /// Opens a shell in a session's sandbox.
    pub async fn open_shell(&self, session: SessionId, body: &OpenShell) -> Result<Shell, ClientError> {
        self.post(&format!("/sessions/{session}/shells"), body).await
    }

    /// The shells that run.
    pub async fn shells(&self, session: SessionId) -> Result<ShellList, ClientError> {
        self.get(&format!("/sessions/{session}/shells")).await
    }

    /// Ends a shell.
    pub async fn close_shell(&self, session: SessionId, shell: ShellId) -> Result<(), ClientError> {
        let path = format!("/sessions/{session}/shells/{shell}");
        self.send(self.request(Method::DELETE, &path).timeout(SHORT)).await.map(drop)
    }

    /// Looks at a shell and types.
    pub async fn shell(&self, session: SessionId, shell: ShellId) -> Result<ShellSocket, ClientError> {
        let path = format!("/sessions/{session}/shells/{shell}/socket");
        let request = self
            .authorized(self.sockets.get(self.address(&path)))
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, generate_key());
        let response = self.send_any(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (server, what) = (self.server.clone(), response.status().to_string());
            return Err(ClientError::Strange { server, what });
        }
        let stream = response.upgrade().await.map_err(|error| self.strange(&error))?;
        Ok(ShellSocket::over(stream, &self.server).await)
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
        let response = self.send_any(request).await?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(ClientError::Strange { server: self.server.clone(), what: status.to_string() }),
        }
    }

    /// Gives the answer unless it is an error.
    async fn send_any(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response =
            request.send().await.map_err(|error| ClientError::unreachable(&self.server, &error))?;
        let status = response.status();
        if status.is_success() || status.is_informational() {
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

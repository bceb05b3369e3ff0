//! A running server.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::api::{CreateSession, EventPage, PromptAccepted, RepositorySource, Upload};
use protocol::event::{Event, EventBody};
use protocol::ids::SessionId;
use protocol::view::SessionView;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::DEADLINE;
use super::answer::Answer;
use super::command::{Finished, run};
use super::follow::{Follower, Resume};
use super::leftovers::Sandbox;
use super::must::Must as _;
use super::process::{self, Part};
use super::repo::Repo;
use super::serve::Serve;

/// How long a server may take to end when its test is over.
const LAST_GRACE: Duration = Duration::from_secs(20);

/// A server on loopback; everything of it goes when this is dropped.
pub struct TestServer {
    serve: Option<Serve>,
    child: Child,
    /// Such as `http://127.0.0.1:4711`.
    pub address: String,
    /// Signs a browser in, once.
    pub login_url: String,
    /// The token of this machine.
    pub token: String,
    http: reqwest::Client,
}

/// What a started server says of itself.
struct Said {
    child: Child,
    address: String,
    login_url: String,
}

impl TestServer {
    pub(super) async fn start(serve: Serve) -> Self {
        let said = announce(&serve).await;
        let token = std::fs::read_to_string(serve.data().join("token")).must("the token file");
        let http = reqwest::Client::builder().no_proxy().build().must("an HTTP client");
        let Said { child, address, login_url } = said;
        Self { serve: Some(serve), child, address, login_url, token: token.trim().to_owned(), http }
    }

    /// How it was started.
    ///
    /// # Panics
    /// Never while it is in use.
    #[must_use]
    pub fn serve(&self) -> &Serve {
        self.serve.as_ref().must("a server that is not dropped")
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.serve().data()
    }

    /// What its processes wrote on standard error.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.serve().log()).unwrap_or_default()
    }

    // ── processes ──

    /// The number of one of its processes; waits for one that is just started again.
    ///
    /// # Panics
    /// When there is none for long.
    #[must_use]
    pub fn pid(&self, part: Part) -> i32 {
        let supervisor = self.child.id().and_then(|pid| i32::try_from(pid).ok()).must("a running server");
        let until = Instant::now() + DEADLINE;
        loop {
            if let Some(pid) = part.find(supervisor).filter(|pid| process::lives(*pid)) {
                return pid;
            }
            assert!(Instant::now() < until, "there is no {part:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `kill -9` of one of its processes; with the supervisor the others have to go, too.
    pub async fn kill(&mut self, part: Part) {
        let all = [Part::Server, Part::SandboxHost, Part::Egress].map(|part| self.pid(part));
        let pid = self.pid(part);
        if part == Part::Supervisor {
            self.child.kill().await.must("the supervisor to kill");
            all.into_iter().for_each(process::wait_gone);
        } else {
            process::kill_hard(pid);
        }
    }

    /// `kill -9` of one of the supervisor's children, whatever else is being done with the server.
    ///
    /// # Panics
    /// For the supervisor itself, whose end has to be waited for.
    pub fn kill_child(&self, part: Part) {
        assert_ne!(part, Part::Supervisor, "its children would be left");
        process::kill_hard(self.pid(part));
    }

    /// Asks it to end, and gives its exit code.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn stop(&mut self) -> Option<i32> {
        let pid = self.pid(Part::Supervisor);
        kill(Pid::from_raw(pid), Signal::SIGTERM).must("the supervisor to signal");
        let ended = tokio::time::timeout(DEADLINE, self.child.wait()).await;
        ended.must("the server's end").must("the server's exit code").code()
    }

    /// Starts it again on the same data directory, after its end.
    pub async fn start_again(&mut self) {
        let Said { child, address, login_url } = announce(self.serve()).await;
        (self.child, self.address, self.login_url) = (child, address, login_url);
    }

    /// Its sandboxes, as its data directory has them.
    #[must_use]
    pub fn sandboxes(&self) -> Vec<Sandbox> {
        Sandbox::all(&self.data())
    }

    /// The one sandbox of a session.
    ///
    /// # Panics
    /// When there is none, or more than one.
    #[must_use]
    pub fn sandbox_of(&self, session: SessionId) -> Sandbox {
        let all = self.sandboxes();
        let mut own = all.iter().filter(|sandbox| sandbox.session == session.to_string());
        let first = own.next().cloned().must("a sandbox of the session");
        assert!(own.next().is_none(), "several sandboxes of {session}: {all:?}");
        first
    }

    // ── the binary as a client ──

    /// The binary with the addresses of this server in its environment, ready for arguments.
    #[must_use]
    pub fn cli_command(&self) -> Command {
        let mut command = self.serve().bare();
        command.env("PATCHYARD_SERVER", &self.address).env("PATCHYARD_DATA", self.data());
        command
    }

    /// Runs the binary as a client of this server.
    pub async fn cli(&self, args: &[&str]) -> Finished {
        let mut command = self.cli_command();
        command.args(args);
        run(command).await
    }

    // ── HTTP ──

    /// A request to a path of the server, without a token.
    pub fn anonymous(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.address))
    }

    /// A request to a path below `/api/v1`, with the token.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.anonymous(method, &format!("/api/v1{path}")).bearer_auth(&self.token)
    }

    /// `GET /api/v1…`.
    pub async fn get(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::GET, path)).await
    }

    /// `POST /api/v1…` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::to(self.request(Method::POST, path).json(body)).await
    }

    /// Uploads a repository as a bundle.
    pub async fn upload(&self, repo: &Repo) -> Upload {
        Answer::to(self.request(Method::POST, "/uploads").body(repo.bundle())).await.is(201).json()
    }

    /// A body for `POST /sessions`: this repository, just uploaded.
    pub async fn new_session(&self, repo: &Repo, prompt: &str) -> Value {
        let upload = self.upload(repo).await.upload;
        let repository = RepositorySource::Bundle { upload, name: repo.name(), branch: Some("main".into()) };
        let body =
            CreateSession { prompt: prompt.into(), repository, agent: None, environment: None, image: None };
        json!(body)
    }

    /// Makes a session.
    pub async fn create(&self, repo: &Repo, prompt: &str) -> SessionId {
        let body = self.new_session(repo, prompt).await;
        self.post("/sessions", &body).await.is(201).json::<SessionView>().id
    }

    /// Queues a prompt.
    pub async fn prompt(&self, session: SessionId, text: &str) -> PromptAccepted {
        let path = format!("/sessions/{session}/prompts");
        self.post(&path, &json!({ "text": text })).await.is(202).json()
    }

    /// A session as it is shown.
    pub async fn session(&self, session: SessionId) -> SessionView {
        self.get(&format!("/sessions/{session}")).await.is(200).json()
    }

    /// A session's whole log, page by page.
    pub async fn events(&self, session: SessionId) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        loop {
            let after = events.len();
            let page = self.get(&format!("/sessions/{session}/events?after={after}&limit=7")).await;
            let page: EventPage = page.is(200).json();
            let done = page.events.is_empty();
            events.extend(page.events);
            if done {
                return events;
            }
        }
    }

    // ── waiting ──

    /// Opens a session's stream.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn follow(&self, session: SessionId, from: Resume) -> Follower {
        Follower::open(self.stream_request(session, from)).await.must("a stream")
    }

    fn stream_request(&self, session: SessionId, from: Resume) -> reqwest::RequestBuilder {
        let path = format!("/sessions/{session}/events");
        match from {
            Resume::After(seq) => self.request(Method::GET, &format!("{path}?after={seq}")),
            Resume::LastEventId(seq) => {
                self.request(Method::GET, &path).header("last-event-id", seq.to_string())
            }
        }
    }

    /// Waits until a session's log is as wanted, and gives it. Goes on after a restart of the server.
    ///
    /// # Panics
    /// After [`DEADLINE`], with the log so far.
    pub async fn until(&self, session: SessionId, wanted: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        let work = async {
            while !wanted(&events) {
                let after = Resume::LastEventId(events.len() as u64);
                let Some(mut follower) = Follower::open(self.stream_request(session, after)).await else {
                    // The server is away: its socket takes connections, but breaks them when it dies.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                while !wanted(&events)
                    && let Some(event) = follower.next_event().await
                {
                    events.push(event);
                }
            }
        };
        if tokio::time::timeout(DEADLINE, work).await.is_err() {
            let log: Vec<String> = events.iter().map(|event| format!("{:?}", event.body)).collect();
            panic!("{session} did not come there; its log:\n{}", log.join("\n"));
        }
        events
    }

    /// Waits until so many turns are over and the session rests, and gives the log.
    pub async fn until_rest(&self, session: SessionId, turns: usize) -> Vec<Event> {
        self.until(session, |events| {
            let ended = events.iter().filter(|event| matches!(event.body, EventBody::TurnEnded(_))).count();
            ended >= turns && rests(events)
        })
        .await
    }
}

/// Whether the last status of a log is one that stays.
fn rests(events: &[Event]) -> bool {
    let last = events.iter().rev().find_map(|event| match &event.body {
        EventBody::SessionStatus(change) => Some(change.status),
        _ => None,
    });
    last.is_some_and(|status| !status.is_busy())
}

/// Starts the server's process and reads its two lines. Boxed: it is called from several places.
fn announce(serve: &Serve) -> BoxFuture<'_, Said> {
    Box::pin(async move {
        let mut child = serve.spawn();
        let stdout = child.stdout.take().must("the server's output");
        let mut lines = BufReader::new(stdout).lines();
        let mut next = async |what: &str| match tokio::time::timeout(DEADLINE, lines.next_line()).await {
            Ok(Ok(Some(line))) => line,
            _ => {
                let log = std::fs::read_to_string(serve.log()).unwrap_or_default();
                panic!("the server said no {what}; its log:\n{log}")
            }
        };
        let listening = next("address").await;
        let signing_in = next("login address").await;
        let address = listening.strip_prefix("listening on ").must(&listening).to_owned();
        let login_url = signing_in.rsplit(' ').next().unwrap_or_default().to_owned();
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Said { child, address, login_url }
    })
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let parts = [Part::Server, Part::SandboxHost].map(|part| part.find(pid));
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            let until = Instant::now() + LAST_GRACE;
            while matches!(self.child.try_wait(), Ok(None)) {
                if Instant::now() > until {
                    let _ = self.child.start_kill();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            parts.into_iter().flatten().for_each(process::wait_gone);
        }
        for sandbox in self.sandboxes() {
            sandbox.remove();
        }
        if std::thread::panicking() {
            let log = self.log();
            let kept = self.serve.take().and_then(Serve::keep);
            let tail = log.len().saturating_sub(4000);
            let tail: String = log.chars().skip(tail).collect();
            // Shown with the failing test's other output.
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("── the server's log, kept in {kept:?} ──\n{tail}\n").as_bytes(),
            );
        }
    }
}

//! Sessions against a far side that can fall silent at any point: every transient state has a
//! deadline, a reason in the log, and an exit.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../shared/config.rs"]
mod config;
mod deadlines;
mod endings;
mod far_side;
mod retention;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use egress::client::Egress;
use forge::Forges;
use git_proxy::{GitGateway, Repositories};
use jiff::{SignedDuration, Timestamp};
use model_gateway::front::{Allowed, ModelGateway};
use protocol::environment::{EnvironmentSettings, NetworkLevel};
use protocol::event::{Event, EventBody};
use protocol::ids::SessionId;
use sandbox::client::SandboxHost;
use session::{
    AgentSpec, Agents, Deadlines, ModelSource, NewRepository, NewSession, SessionConfig, Sessions,
};
use store::{Clock, Notice, Store};

use crate::far_side::{FarSide, Silent};

/// How long a test waits for an event before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Long enough never to pass in a test.
const NEVER: Duration = Duration::from_secs(3600);

/// Deadlines that never pass, for a test to shorten the one that it is about.
fn never() -> Deadlines {
    Deadlines {
        fetch: NEVER,
        sandbox: NEVER,
        workspace: NEVER,
        setup: NEVER,
        cache: NEVER,
        failed_sandbox: NEVER,
        agent: NEVER,
        turn: NEVER,
        stop: NEVER,
        checkpoint: NEVER,
        push: NEVER,
        save: NEVER,
        teardown: NEVER,
        question: NEVER,
    }
}

struct World {
    dir: tempfile::TempDir,
    store: Store,
    sessions: Sessions,
    far_side: FarSide,
    /// How many days the clock is ahead.
    ahead: Arc<AtomicI64>,
}

impl World {
    async fn new(silent: Silent, deadlines: Deadlines) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let far_side = FarSide::start(dir.path(), silent);
        let ahead = Arc::new(AtomicI64::new(0));
        let days = Arc::clone(&ahead);
        let clock = Clock::new(move || {
            Timestamp::now() + SignedDuration::from_hours(24 * days.load(Ordering::SeqCst))
        });
        let store = Store::open(&dir.path().join("data"), clock).unwrap();
        let repositories = Repositories::open(&dir.path().join("data")).await.unwrap();
        let host = SandboxHost::connect(&far_side.host_socket());
        let agent = AgentSpec { name: "other".into(), command: vec!["agent".into()] };
        let config = SessionConfig { deadlines, ..config::alone(dir.path()) };
        // Nobody listens there: nothing may need it at level none.
        let egress = Egress::connect(&dir.path().join("egress.sock"));
        let agents = Agents::new(ModelSource::Missing, vec![agent]);
        let model = ModelGateway::new(None, Allowed::default(), None).unwrap();
        let git = GitGateway::new(config.fetch.addresses.clone(), "").unwrap();
        let forges = Forges::new(config.fetch.addresses.clone(), "", Duration::from_secs(1)).unwrap();
        let sessions =
            Sessions::new(store.clone(), repositories, host, egress, (model, git, forges), agents, config);
        let default = EnvironmentSettings {
            cache_setup: false,
            network: NetworkLevel::None {},
            ..EnvironmentSettings::named("default")
        };
        sessions.ensure_default_environment(default).await.unwrap();
        Self { dir, store, sessions, far_side, ahead }
    }

    async fn session(&self) -> SessionId {
        let path = bundle(self.dir.path());
        let new = NewSession {
            prompt: "work".into(),
            repository: NewRepository::Bundle { path, name: "repo".into(), branch: None },
            agent: Some("other".into()),
            environment: None,
            image: None,
            key: None,
        };
        self.sessions.create(new).await.unwrap().answer.id
    }

    /// The log, as soon as it has an event like that.
    async fn until(&self, session: SessionId, wanted: impl Fn(&EventBody) -> bool) -> Vec<Event> {
        self.after(session, 0, wanted).await
    }

    /// The log after a point, as soon as it has an event like that.
    async fn after(&self, session: SessionId, after: u64, wanted: impl Fn(&EventBody) -> bool) -> Vec<Event> {
        let mut subscription = self.store.subscribe(session);
        let waiting = async {
            loop {
                let mut events = self.store.all_events(session).await.unwrap();
                events.retain(|event| event.seq > after);
                if events.iter().any(|event| wanted(&event.body)) {
                    return events;
                }
                while !matches!(subscription.next().await, Ok(Some(Notice::Appended { .. }) | None)) {}
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(events) => events,
            Err(_) => panic!("it never came; the log: {:#?}", self.store.all_events(session).await.unwrap()),
        }
    }
}

/// A bundle of a small repository, as the terminal would send it.
fn bundle(dir: &Path) -> std::path::PathBuf {
    let script = r#"set -e
        git init -q -b main user; cd user
        git config user.name Ada; git config user.email ada@example.org; git config commit.gpgSign false
        echo one > one.txt; git add -A; git commit -q --allow-empty -m one
        git update-ref refs/patchyard/upload/head HEAD
        git bundle create -q ../upload.bundle --all"#;
    let status = Command::new("sh").args(["-c", script]).current_dir(dir).status().unwrap();
    assert!(status.success());
    dir.join("upload.bundle")
}

//! A door for the tests of the front, with a private host behind it and a git before it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use git_proxy::{Attached, Credential, GitDoor, GitGateway, Remote};
use policy::address::AddressRules;
use policy::push::PushRules;
use policy::repository::RepositoryUrl;
use protocol::git::{GitPush, PushOutcome};
use testkit::harness::{GitHost, Repo};
use testkit::internet::Authority;

/// What must be seen by nobody but the host.
pub(crate) const TOKEN: &str = "canary-token-0123456789";

/// `me:` and the token in base64.
pub(crate) const BASIC: &str = "bWU6Y2FuYXJ5LXRva2VuLTAxMjM0NTY3ODk=";

pub(crate) const OWN: &str = "patchyard/work-1";

pub(crate) struct Session {
    pub(crate) remote: Mutex<Result<Remote, String>>,
    pub(crate) pushes: Mutex<Vec<GitPush>>,
}

#[async_trait]
impl Attached for Session {
    async fn remote(&self) -> Result<Remote, String> {
        self.remote.lock().unwrap().clone()
    }

    async fn begins(&self, push: &GitPush) -> Result<(), String> {
        self.pushes.lock().unwrap().push(push.clone());
        Ok(())
    }

    async fn ended(&self, push: GitPush) {
        self.pushes.lock().unwrap().push(push);
    }
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) host: GitHost,
    pub(crate) url: String,
    pub(crate) session: Arc<Session>,
    /// Of the door.
    pub(crate) port: u16,
    pub(crate) work: PathBuf,
}

impl World {
    pub(crate) async fn start() -> Self {
        let authority = Authority::make();
        let host = GitHost::private(&authority, BASIC).await;
        Self::over(host, &authority.pem).await
    }

    pub(crate) async fn over(host: GitHost, pem: &str) -> Self {
        let repo = Repo::with("thing", &[("a.txt", "one\n")]);
        let url = host.publish(&repo);
        let session =
            Arc::new(Session { remote: Mutex::new(Ok(remote(&url, Some(TOKEN)))), pushes: Mutex::default() });
        let rules = AddressRules {
            exceptions: vec![serde_json::from_str(r#"{"host":"127.0.0.1","cidr":"127.0.0.0/8"}"#).unwrap()],
        };
        let gateway = GitGateway::new(rules, pem).unwrap();
        let port = serve(gateway.door(session.clone())).await;
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        let world = Self { dir, host, url, session, port, work };
        let cloned = world.git_in(world.dir.path(), &["clone", "-q", &world.url, "work"]).await;
        assert!(cloned.status.success(), "{}", said(&cloned));
        world.git(&["checkout", "-q", "-b", OWN]).await;
        world
    }

    /// A git that finds the door behind the address, in version 2 unless it is told another.
    pub(crate) async fn git_in(&self, dir: &Path, args: &[&str]) -> Output {
        let authority = self.host.address().split_once("://").unwrap().1;
        let mut command = Command::new("git");
        command
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"])
            .args([
                "-c",
                &format!(
                    "url.http://127.0.0.1:{}/{authority}/.insteadOf={}/",
                    self.port,
                    self.host.address()
                ),
            ])
            .args(args)
            .current_dir(dir)
            .env("PATH", format!("{}:{}", tools().display(), std::env::var("PATH").unwrap_or_default()))
            .env_remove("http_proxy")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C");
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    pub(crate) async fn git(&self, args: &[&str]) -> String {
        let output = self.git_in(&self.work, args).await;
        assert!(output.status.success(), "git {args:?}: {}", said(&output));
        said(&output)
    }

    /// Fails the test unless git does; what it said.
    pub(crate) async fn fails(&self, args: &[&str]) -> String {
        let output = self.git_in(&self.work, args).await;
        assert!(!output.status.success(), "git {args:?}: {}", said(&output));
        said(&output)
    }

    pub(crate) async fn commit(&self, content: &str) -> String {
        std::fs::write(self.work.join("a.txt"), content).unwrap();
        self.git(&["commit", "-q", "-a", "-m", "work"]).await;
        self.git(&["rev-parse", "HEAD"]).await.trim().to_owned()
    }

    pub(crate) fn upstream(&self, args: &[&str]) -> String {
        let output = Command::new("git").arg("-C").arg(self.host.bare("thing")).args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn pushes(&self) -> Vec<GitPush> {
        std::mem::take(&mut *self.session.pushes.lock().unwrap())
    }

    pub(crate) fn outcomes(&self) -> Vec<PushOutcome> {
        self.pushes().into_iter().map(|push| push.outcome).collect()
    }

    pub(crate) fn posts(&self) -> usize {
        self.host.requests().iter().filter(|asked| asked.line.ends_with("/git-receive-pack")).count()
    }

    pub(crate) fn set(&self, remote: Remote) {
        *self.session.remote.lock().unwrap() = Ok(remote);
    }
}

/// Where `scripts/setup` puts git-lfs.
pub(crate) fn tools() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/git-lfs/usr/bin")
}

pub(crate) fn remote(url: &str, token: Option<&str>) -> Remote {
    Remote {
        url: RepositoryUrl::parse(url, &[]).unwrap(),
        credential: token.map(|token| Credential::new("me", token)),
        push: PushRules::of([OWN]),
    }
}

pub(crate) async fn serve(door: GitDoor) -> u16 {
    async fn answer(State(door): State<Arc<GitDoor>>, request: Request) -> Response {
        door.answer(request).await
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().fallback(answer).with_state(Arc::new(door));
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

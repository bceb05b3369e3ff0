//! A whole life of a session, as a client leads it that goes on asking.
//!
//! ```text
//!  credential ─▶ create ─▶ turn 1: a command, much output ─▶ pushed ─▶ put away ─▶ prompt 2 ─▶ turn 2: a long command,
//!      a file, pushed ─▶ put away ─▶ pull request ─▶ deleted ─▶ nothing left
//! ```

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use protocol::event::Event;
use protocol::ids::SessionId;
use protocol::status::SessionStatus;
use protocol::view::SessionView;
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::fake_forge::{FakeForge, Grant};
use testkit::harness::{Part, Repo, TestServer};
use testkit::internet::Authority;
use testkit::model::{Script, ScriptedModel, Turn};

use crate::insist::{delete, insist, settle};
use crate::leaks::{Watch, holding, names, nothing_left};
use crate::world::{bash, serve};

const TOKEN: &str = "ghp_sweep0123456789abcdef";

const THING: &str = "team/thing";

/// Counts its runs, and says more than a row holds.
pub(super) const FIRST: &str = "echo one >> count.txt; head -c 40000 /dev/zero | tr '\\0' x";

/// Counts its runs, and takes its time.
pub(super) const SECOND: &str = "echo two >> count.txt; echo the-canary-of-the-sweep | tee ../left; for i in $(seq 12); do echo tick $i; sleep 0.1; done";

/// What is said of a change that a dying server had begun: who reads it looks, and makes it again.
pub(super) const UNKNOWN: &str = "unknown: the server died while this call ran";
pub(super) const MENDED: &str = "printf 'written by the-canary-of-the-sweep\\n' > written.txt";

/// What the prompts say.
pub(super) const PROMPTS: [&str; 2] = ["Count once", "Count twice, the-canary-of-the-sweep"];

/// What must be nowhere when the session is gone: it is said, printed and written. Branches have the first
/// prompt's words, and stay in the audit.
const CANARY: &str = "the-canary-of-the-sweep";

/// What became of a life.
pub(super) struct Lived {
    /// The steps that outlive a server, in the order in which they were reached.
    pub(super) steps: Vec<String>,
    /// The whole log, before the end.
    pub(super) events: Vec<Event>,
    /// The session as the server showed it then.
    pub(super) served: Value,
    pub(super) view: SessionView,
    /// The forge's branch of the session: where it was, the newest first; and where it is.
    pub(super) pushed: Vec<String>,
    pub(super) tip: String,
    /// Its files.
    pub(super) files: Vec<(String, String)>,
    pub(super) pulls: Vec<Value>,
    /// How often the forge was asked to open one.
    pub(super) opened: usize,
    /// How often the model was asked.
    pub(super) asked: usize,
    /// What was wrong with that.
    pub(super) wrong: Vec<String>,
}

struct World {
    server: TestServer,
    fake: FakeForge,
    url: String,
    model: ScriptedModel,
    watch: Watch,
    /// What the server's account has to get at: an authority, and the steps.
    open: TempDir,
}

/// Leads a life that is interrupted at these steps.
pub(super) async fn live(interrupted: &[usize]) -> Lived {
    let mut world = World::start(interrupted).await;
    world.give_credential().await;
    let session = world.create().await;
    settle(&world.server, session, 1).await;
    world.until_put_away(session).await;
    world.prompt(session).await;
    settle(&world.server, session, 2).await;
    world.until_put_away(session).await;
    world.open_pull_request(session).await;
    world.until_put_away(session).await;
    let mut lived = world.look(session).await;
    delete(&world.server, session).await;
    world.end().await;
    lived.steps = world.steps();
    lived
}

impl World {
    async fn start(interrupted: &[usize]) -> Self {
        let authority = Authority::make();
        let fake = FakeForge::start(&authority).await;
        let repo = Repo::with("thing", &[("README.md", "# A thing\n")]);
        let url = fake.publish(THING, &repo);
        fake.git(THING, &["config", "core.logAllRefUpdates", "always"]);
        fake.allow(TOKEN, Grant::all("me"));
        let model = ScriptedModel::start(script()).await;
        let open = tempfile::tempdir().unwrap();
        allow(open.path(), 0o755);
        let (pem, steps) = (open.path().join("authorities.pem"), open.path().join("steps"));
        fs::write(&pem, &authority.pem).unwrap();
        fs::write(&steps, "").unwrap();
        allow(&steps, 0o666);
        let config = format!(
            "[repositories]\nallow = [{{ host = \"127.0.0.1\", cidr = \"127.0.0.0/8\" }}]\n\
             [[forges]]\nhost = \"{}\"\n[network]\nauthorities = [\"{}\"]\n[sandbox]\nidle_seconds = 1\n\
             [setup]\ncache_entries = 0\n",
            fake.host(),
            pem.display()
        );
        let tmp = open.path().join("tmp");
        fs::create_dir(&tmp).unwrap();
        allow(&tmp, 0o1777);
        let at: Vec<String> = interrupted.iter().map(ToString::to_string).collect();
        let serve = serve()
            .model(&model)
            .config(&config)
            .env("PATCHYARD_CRASH_TRACE", &steps.display().to_string())
            .env("PATCHYARD_CRASH_AT", &at.join(","))
            .env("TMPDIR", &tmp.display().to_string());
        let server = serve.start().await;
        let watch = Watch::over(server.data());
        Self { server, fake, url, model, watch, open }
    }

    fn steps(&self) -> Vec<String> {
        let text = fs::read_to_string(self.open.path().join("steps")).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let (status, text) = insist(|| self.server.request(Method::GET, path)).await;
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn give_credential(&self) {
        let path = format!("/git/credentials/{}", self.fake.host());
        let body = json!({ "token": TOKEN });
        let (status, text) = insist(|| self.server.request(Method::PUT, &path).json(&body)).await;
        assert_eq!(status, 204, "{text}");
    }

    async fn create(&self) -> SessionId {
        let body = json!({ "prompt": PROMPTS[0], "repository": { "type": "url", "url": self.url } });
        let request = || {
            self.server
                .request(Method::POST, "/sessions")
                .json(&body)
                .header("idempotency-key", "the session")
        };
        let (status, text) = insist(request).await;
        assert_eq!(status, 201, "{text}");
        serde_json::from_str::<SessionView>(&text).unwrap().id
    }

    async fn prompt(&self, session: SessionId) {
        let path = format!("/sessions/{session}/prompts");
        let body = json!({ "text": PROMPTS[1] });
        let request =
            || self.server.request(Method::POST, &path).json(&body).header("idempotency-key", "the prompt");
        let (status, text) = insist(request).await;
        assert!(matches!(status, 200 | 202), "{status}: {text}");
    }

    /// Waits until nothing of it runs.
    async fn until_put_away(&self, session: SessionId) {
        let path = format!("/sessions/{session}");
        let away = async {
            loop {
                let view: SessionView = self.get(&path).await;
                if view.status == SessionStatus::Suspended {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(testkit::harness::DEADLINE, away).await.unwrap();
    }

    /// Wishes for it until it is there: while a wish of before is being fulfilled, another one is refused.
    async fn open_pull_request(&self, session: SessionId) {
        let path = format!("/sessions/{session}/pull-request");
        loop {
            let request = || self.server.request(Method::POST, &path).json(&json!({}));
            match insist(request).await {
                (200, _) => return,
                (409, text) if text.contains("just being opened") => {}
                (status, text) => panic!("{status}: {text}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Everything that can be seen of it, inside and outside.
    async fn look(&self, session: SessionId) -> Lived {
        let mut events: Vec<Event> = Vec::new();
        loop {
            let path = format!("/sessions/{session}/events?after={}", events.len());
            let page: protocol::api::EventPage = self.get(&path).await;
            if page.events.is_empty() {
                break;
            }
            events.extend(page.events);
        }
        let served: Value = self.get(&format!("/sessions/{session}")).await;
        let view: SessionView = serde_json::from_value(served.clone()).unwrap();
        let listed: Value = self.get("/sessions").await;
        assert_eq!(listed["sessions"], json!([served]), "the list shows what is there");
        let git = |args: &[&str]| self.fake.git(THING, args);
        let name = format!("refs/heads/{}", view.branch);
        let files = git(&["ls-tree", "-r", "--name-only", &name]);
        let file = |path: &str| (path.to_owned(), git(&["show", &format!("{name}:{path}")]));
        Lived {
            steps: Vec::new(),
            events,
            pushed: git(&["reflog", "show", "--format=%H", &name]).lines().map(str::to_owned).collect(),
            tip: git(&["rev-parse", &name]),
            files: files.lines().map(file).collect(),
            pulls: self.fake.pulls(THING),
            opened: self.fake.requests("POST /api/v3/repos/team/thing/pulls").len(),
            asked: self.model.requests().len(),
            wrong: self.model.violations(),
            served,
            view,
        }
    }

    /// Nothing is left while the server runs, and nothing when it has ended.
    async fn end(&mut self) {
        let listed: Value = self.get("/sessions").await;
        assert_eq!(listed["sessions"], json!([]));
        nothing_left(&self.server, &self.watch, None).await;
        let held = [self.server.data(), self.open.path().to_owned()];
        let held: Vec<_> = held.iter().flat_map(|folder| holding(folder, CANARY, &[])).collect();
        assert_eq!(held, Vec::<std::path::PathBuf>::new(), "what it said is nowhere");
        let host = self.server.pid(Part::SandboxHost);
        assert_eq!(self.server.stop().await, Some(0));
        nothing_left(&self.server, &self.watch, Some(host)).await;
        for folder in ["blobs", "layers"] {
            assert_eq!(names(&self.server.data().join(folder)), Vec::<String>::new(), "{folder}");
        }
    }
}

/// The answers, by how many there were before: one that was lost is given again.
fn script() -> Script {
    Script::by_depth([
        bash(FIRST),
        Turn::text("Counted once."),
        bash(SECOND),
        Turn::tool(
            "Write",
            json!({ "file_path": "written.txt", "content": "written by the-canary-of-the-sweep\n" }),
        ),
        Turn::computed(|body| match body["messages"].to_string().contains(UNKNOWN) {
            true => bash(MENDED),
            false => Turn::text("Counted twice."),
        }),
        Turn::text("Counted twice, and looked."),
    ])
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

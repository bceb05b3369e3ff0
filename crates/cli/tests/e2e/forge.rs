//! A private repository: in by the server's credential, its branch out again, and nothing of it inside.
//!
//! ```text
//!  web-setup ─▶ sealed ─▶ mirror ─▶ session ─▶ git in the sandbox ─▶ 127.0.0.1:3131 ─▶ GitHost (TLS, Basic)
//!                                     └─ the end of a turn ─▶ the server pushes the branch
//! ```

use std::process::Stdio;

use protocol::event::{Event, EventBody};
use protocol::git::{GitPush, PushOutcome, PushRecord, PushedBy};
use protocol::ids::SessionId;
use serde_json::{Value, json};
use testkit::harness::{Finished, GitHost, Repo, TestServer};
use testkit::internet::Authority;
use testkit::model::{Script, ScriptedModel, Turn};
use tokio::io::AsyncWriteExt as _;

use crate::world::{bash, check_log, edit_default_environment, last_result, serve};

/// What must be seen by nobody but the host.
pub(crate) const TOKEN: &str = "canary-token-0123456789";

/// `me:` and the token in base64.
const BASIC: &str = "bWU6Y2FuYXJ5LXRva2VuLTAxMjM0NTY3ODk=";

/// A server that knows a private host.
pub(crate) struct World {
    pub(crate) server: TestServer,
    pub(crate) model: ScriptedModel,
    pub(crate) host: GitHost,
    pub(crate) url: String,
    /// With its port.
    name: String,
    _authorities: tempfile::TempDir,
}

impl World {
    async fn start(script: impl FnOnce(&str) -> Script, more: &str) -> Self {
        let thing = Repo::with("thing", &[("README.md", "# A thing\n")]);
        Self::serving(|host| host.publish(&thing), script, more).await
    }

    /// One whose host has what `publish` puts there; sessions begin with what it returns.
    pub(crate) async fn serving(
        publish: impl FnOnce(&GitHost) -> String,
        script: impl FnOnce(&str) -> Script,
        more: &str,
    ) -> Self {
        let authority = Authority::make();
        let host = GitHost::private(&authority, BASIC).await;
        let url = publish(&host);
        let dir = tempfile::tempdir().unwrap();
        let pem = dir.path().join("authorities.pem");
        std::fs::write(&pem, &authority.pem).unwrap();
        // The server's account has to get there.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let config = format!(
            "[repositories]\nallow = [{{ host = \"127.0.0.1\", cidr = \"127.0.0.0/8\" }}]\n{more}\n\
             [network]\nauthorities = [\"{}\"]\n",
            pem.display()
        );
        let config = config.replace("SITE", host.address());
        let name = host.address().split_once("://").unwrap().1.to_owned();
        let model = ScriptedModel::start(script(&name)).await;
        let server = serve().model(&model).config(&config).start().await;
        Self { server, model, host, url, name, _authorities: dir }
    }

    pub(crate) async fn web_setup(&self, more: &[&str], token: &str) -> Finished {
        let mut command = self.server.cli_command();
        command.args(["web-setup", "--host", &self.name]).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(format!("{token}\n").as_bytes()).await.unwrap();
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Finished { code: output.status.code(), stdout: output.stdout, stderr }
    }

    pub(crate) async fn task(&self) -> Finished {
        let args = ["--remote", "work", "--repo", &self.url, "--wait", "--output-format", "json"];
        self.server.cli(&args).await
    }

    fn there(&self, name: &str) -> String {
        let bare = self.host.bare("thing");
        let output = std::process::Command::new("git").arg("-C").arg(bare).args(["rev-parse", name]).output();
        String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
    }

    /// Nothing of the credential is in what the server wrote, but for the sealed store.
    pub(crate) async fn is_nowhere(&self, session: SessionId) {
        let words = format!("{TOKEN}|{BASIC}");
        let data = self.server.data();
        let found = std::process::Command::new("grep")
            // The disks of sandboxes are looked through inside.
            .args(["-rlaE", "--exclude-dir=workspaces", "--exclude-dir=layers", &words])
            .arg(&data)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "");
        let events = self.server.get(&format!("/sessions/{session}/events")).await.is(200).text();
        for text in [self.server.log(), events] {
            assert!(!text.contains(TOKEN) && !text.contains(BASIC), "{text}");
        }
    }
}

fn pushes(events: &[Event]) -> Vec<&GitPush> {
    let of = |event: &'_ Event| matches!(event.body, EventBody::GitPush(_));
    let all = events.iter().filter(|event| of(event)).map(|event| match &event.body {
        EventBody::GitPush(push) => push,
        _ => unreachable!("it was looked at"),
    });
    all.collect()
}

/// What the agent does: each refusal and each way that there is, then something that it does not commit.
fn work(name: &str) -> String {
    let host = name.split(':').next().unwrap();
    format!(
        "exec 2>&1; git config remote.origin.url; git tag v1 && git push origin v1; \
         for place in git@{host}:thing.git ssh://git@{host}/thing.git https://{name}/thing; do \
         git ls-remote $place main | cut -f2; done; \
         git config user.email a@b.test; git config user.name A; \
         git ls-remote https://{name}/other.git; \
         echo one > one.txt; git add one.txt; git commit -q -m one; git push origin HEAD:main; git push && git fetch origin && echo went; \
         git ls-remote http://127.0.0.1:3131/evil.test/x.git; curl -s http://127.0.0.1:3131/{name}/thing.git/HEAD; \
         grep -rlasE 'canary-toke[n]-0123456789|bWU6Y2FuYXJ5LXRva2VuLTAxMjM0NTY3OD[k]=' /proc/[0-9]*/environ /workspace /home /root /tmp /etc /run; \
         git credential fill < /dev/null; echo left > left.txt; echo looked"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_repository_comes_in_and_its_branch_goes_out_and_no_credential_is_inside() {
    let script = |name: &str| Script::by_depth([bash(&work(name)), Turn::text("done")]);
    let world = World::start(script, "").await;
    let refused = world.task().await;
    assert!(refused.code == Some(1) || refused.code == Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("this server has none for it; set one with `patchyard web-setup"));
    world.web_setup(&["--user", "me", "--token-stdin"], "another-token").await.exits(0);
    let refused = world.task().await;
    assert!(refused.stderr.contains("did not accept the stored credential"), "{}", refused.stderr);
    assert_eq!(refused.stderr.trim().lines().count(), 1, "{}", refused.stderr);
    let bad = world.web_setup(&["--user", "me", "--token-stdin"], "short").await;
    assert!(bad.code == Some(1) && bad.stderr.contains("8 to 4096 visible"), "{}", bad.stderr);
    world.web_setup(&["--user", "me", "--token-stdin"], TOKEN).await.exits(0);
    let listed = world.server.cli(&["web-setup", "--list"]).await.exits(0).text();
    assert!(listed.contains(&format!("{} as me", world.name)) && !listed.contains(TOKEN), "{listed}");

    in_and_out(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_repository_comes_in_and_goes_out_by_the_door_of_a_kernel_of_its_own() {
    let script = |name: &str| Script::by_depth([bash(&work(name)), Turn::text("done")]);
    let world = World::start(script, "").await;
    let own_kernel = json!({ "tier": { "at_least": "gvisor" } });
    edit_default_environment(&world.server, own_kernel).await.is(200);
    world.web_setup(&["--user", "me", "--token-stdin"], TOKEN).await.exits(0);
    in_and_out(&world).await;
}

async fn in_and_out(world: &World) {
    let outcome = world.task().await.exits(0).json();
    let session: SessionId = outcome["session_id"].as_str().unwrap().parse().unwrap();
    let (events, view) = check_log(&world.server, session).await;
    let said = last_result(&events);
    for wanted in [
        world.url.as_str(),
        "! [remote rejected] HEAD -> main (this is another branch; this session may push to",
        "! [remote rejected] v1 -> v1 (tags cannot be pushed",
        "refs/heads/main\nrefs/heads/main\nrefs/heads/main\n",
        "went\n",
        "remote error: this session may reach",
        "serves git's smart HTTP protocol, and nothing else",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert!(said.trim_end().ends_with("looked") && !said.contains("/etc/"), "{said}");

    // What was left is pushed by the server when the turn ends.
    let checkpoint = view.checkpoint.clone().unwrap().commit;
    assert_eq!(
        (world.there(&view.branch), view.pushed.as_deref()),
        (checkpoint.clone(), Some(checkpoint.as_str()))
    );
    let told: Vec<_> = pushes(&events).iter().map(|push| (push.by, push.outcome)).collect();
    use PushOutcome::{Done, Planned, Refused};
    use PushedBy::{Sandbox, Server};
    assert_eq!(
        told,
        [(Sandbox, Refused), (Sandbox, Refused), (Sandbox, Done), (Server, Planned), (Server, Done)]
    );
    let records = world.server.data().join(format!("audit/{session}.pushes.jsonl"));
    let records = std::fs::read_to_string(records).unwrap();
    let records: Vec<PushRecord> = records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 6, "the one that passed was on record before it went: {records:?}");
    world.is_nowhere(session).await;
    assert!(world.host.requests().iter().all(|one| !one.line.contains(TOKEN)));
    world.model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_can_switch_tokens_and_pushes_off() {
    let script = |_: &str| Script::by_depth([bash("echo x > x.txt"), Turn::text("done")]);
    let off = World::start(script, "personal_tokens = false").await;
    let refused = off.web_setup(&["--token-stdin"], TOKEN).await.exits(3);
    assert!(refused.stderr.contains("takes no personal tokens"), "{}", refused.stderr);
    let kept = World::start(script, "push_branches = false").await;
    kept.web_setup(&["--user", "me", "--token-stdin"], TOKEN).await.exits(0);
    let outcome = kept.task().await.exits(0).json();
    let session: SessionId = outcome["session_id"].as_str().unwrap().parse().unwrap();
    let (events, view) = check_log(&kept.server, session).await;
    assert_eq!((pushes(&events).len(), view.push), (0, None));
    let all: Value = kept.server.get("/git/credentials").await.is(200).json();
    assert_eq!(all["credentials"][0]["user"], "me");
    kept.web_setup(&["--remove"], "").await.exits(0);
    let refused = kept.task().await;
    assert!(refused.stderr.contains("this server has none for it"), "{}", refused.stderr);
}

//! Pull requests of sessions, at a forge with state: one for a branch, also over a crash, with a reason where
//! there can be none.
//!
//! ```text
//!  FakeForge (git, API) ─ clone ─▶ session ─ turn ─▶ branch ─ sessions pr ─▶ pull request ─▶ checks
//! ```

use protocol::event::EventBody;
use protocol::git::PushOutcome;
use protocol::ids::SessionId;
use protocol::pull_request::{PullRequestOutcome, PullRequestPhase, SessionPullRequest};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::fake_forge::{Check, FakeForge, Fault, Grant};
use testkit::harness::{Finished, Part, Repo, TestServer};
use testkit::internet::Authority;
use testkit::model::{Script, ScriptedModel, Turn};

use crate::world::{bash, check_log, serve};

/// What must be seen by nobody but the forge.
const TOKEN: &str = "ghp_canary0123456789abcdef";

const THING: &str = "team/thing";

const OPEN: &str = "POST /api/v3/repos/team/thing/pulls";

struct World {
    server: TestServer,
    fake: FakeForge,
    repo: Repo,
    url: String,
    _model: ScriptedModel,
    _authorities: tempfile::TempDir,
}

impl World {
    async fn start(more: &str) -> Self {
        let turn = bash("git config user.email a@b.test; git config user.name A; echo $RANDOM >> new.txt");
        Self::with(Script::by_depth([turn, Turn::text("done")]), more).await
    }

    async fn with(script: Script, more: &str) -> Self {
        let authority = Authority::make();
        let fake = FakeForge::start(&authority).await;
        let repo = Repo::with("thing", &[("README.md", "# A thing\n")]);
        let url = fake.publish(THING, &repo);
        fake.allow(TOKEN, Grant::all("me"));
        let dir = tempfile::tempdir().unwrap();
        let pem = dir.path().join("authorities.pem");
        std::fs::write(&pem, &authority.pem).unwrap();
        // The server's account has to get there.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let config = format!(
            "[repositories]\nallow = [{{ host = \"127.0.0.1\", cidr = \"127.0.0.0/8\" }}]\n{more}\n\
             [[forges]]\nhost = \"{}\"\n[network]\nauthorities = [\"{}\"]\n",
            fake.host(),
            pem.display()
        );
        let model = ScriptedModel::start(script).await;
        let server = serve().model(&model).config(&config).start().await;
        Self { server, fake, repo, url, _model: model, _authorities: dir }
    }

    async fn web_setup(&self) {
        let path = format!("/git/credentials/{}", self.fake.host());
        let set = self.server.request(Method::PUT, &path).json(&json!({ "token": TOKEN }));
        assert_eq!(set.send().await.unwrap().status(), 204);
    }

    /// A session that did its work.
    async fn session(&self) -> SessionId {
        let args = [
            "--remote",
            "Add a number\nat the end",
            "--repo",
            &self.url,
            "--wait",
            "--output-format",
            "json",
        ];
        let outcome = self.server.cli(&args).await.exits(0).json();
        outcome["session_id"].as_str().unwrap().parse().unwrap()
    }

    async fn pr(&self, session: SessionId, more: &[&str]) -> Finished {
        let id = session.to_string();
        let args: Vec<&str> = ["sessions", "pr", &id].iter().chain(more).copied().collect();
        self.server.cli(&args).await
    }

    async fn told(&self, session: SessionId) -> SessionPullRequest {
        self.server.get(&format!("/sessions/{session}/pull-request")).await.is(200).json()
    }

    /// The token is in nothing that the server wrote, but for the sealed store.
    async fn is_nowhere(&self, session: SessionId) {
        let found = std::process::Command::new("grep")
            .args(["-rlaF", "--exclude-dir=workspaces", "--exclude-dir=layers", TOKEN])
            .arg(self.server.data())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "");
        let events = self.server.get(&format!("/sessions/{session}/events")).await.is(200).text();
        assert!(!events.contains(TOKEN) && !self.server.log().contains(TOKEN));
    }
}

/// How the wishes for a pull request went, one after the other.
async fn outcomes(server: &TestServer, session: SessionId) -> Vec<PullRequestOutcome> {
    let (events, _) = check_log(server, session).await;
    let of = events.iter().filter_map(|event| match &event.body {
        EventBody::PullRequestCreate(create) => Some(create.outcome),
        _ => None,
    });
    of.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_opens_one_pull_request_and_tells_of_its_checks() {
    use PullRequestOutcome as O;
    let world = World::start("").await;
    world.web_setup().await;
    let session = world.session().await;
    let view = world.server.session(session).await;
    let before = world.told(session).await;
    assert_eq!((before.pull_request, before.reason), (None, None));
    assert_eq!(before.proposal.unwrap().title, "Add a number");
    let page = world.pr(session, &["--web"]).await.exits(0).text();
    let compare =
        format!("{}/team/thing/compare/main...{}", world.fake.address(), view.branch.replace('/', "%2F"));
    assert!(page.starts_with(&format!("{compare}?expand=1&title=Add+a+number&body=")), "{page}");
    assert!(world.fake.pulls(THING).is_empty());

    let made: SessionPullRequest =
        serde_json::from_value(world.pr(session, &["--draft", "--json"]).await.exits(0).json()).unwrap();
    let pull = made.pull_request.unwrap();
    assert_eq!((pull.number, pull.phase, pull.base.as_str()), (1, PullRequestPhase::Draft, "main"));
    let there = world.fake.pulls(THING).remove(0);
    assert_eq!((&there["head"]["ref"], &there["draft"]), (&json!(view.branch), &json!(true)));
    let commit = view.checkpoint.unwrap().commit;
    assert_eq!(there["head"]["sha"], json!(commit));
    let body = there["body"].as_str().unwrap();
    let quoted = "> Add a number\n> at the end\n\n+1 −0 in 1 file.\n\nMade with patchyard by the agent patchyard, session ses_";
    assert!(body.starts_with(quoted) && body.contains("<!-- patchyard effect "), "{body}");

    // Again: the same one, and nothing is sent.
    let again = world.pr(session, &[]).await.exits(0).text();
    assert!(again.contains("#1 Add a number\nstate   draft; no checks\n"), "{again}");
    assert_eq!(world.fake.requests(OPEN).len(), 1);
    assert_eq!(outcomes(&world.server, session).await, [O::Planned, O::Claimed, O::Done]);

    let check = |name: &str, end: &str| Check {
        commit: commit.clone(),
        name: name.into(),
        conclusion: Some(end.into()),
        ..Check::default()
    };
    world.fake.set_check(THING, check("build", "success"));
    world.fake.set_check(THING, check("lint", "failure"));
    let whole = world.server.cli(&["sessions", "show", &session.to_string()]).await.exits(0).text();
    assert!(whole.contains("pull     #1 https://") && whole.contains("/pull/1, draft; no checks"), "{whole}");
    let shown = world.pr(session, &["--show"]).await.exits(0).text();
    assert!(shown.contains("draft; checks: 1 passed, 1 failed (lint)"), "{shown}");
    world.fake.fault("GET /api/v3/repos/team/thing/pulls/1", Fault::Status(503), 9);
    let stale = world.told(session).await;
    assert!(stale.stale.unwrap().contains("answered 503"));
    assert_eq!(stale.pull_request.unwrap().checks.failing, ["lint"]);
    world.fake.as_usual();
    world.fake.close(THING, 1, true);
    let over = world.told(session).await;
    assert_eq!(over.pull_request.unwrap().phase, PullRequestPhase::Merged);
    assert!(over.proposal.is_some(), "the next one can be made");
    let (events, view) = check_log(&world.server, session).await;
    let states = events.iter().filter(|event| event.body.kind() == "pr.state").count();
    assert_eq!((states, view.pull_request.unwrap().phase), (3, PullRequestPhase::Merged));
    world.is_nowhere(session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_on_the_way_to_a_pull_request_doubles_nothing() {
    use PullRequestOutcome as O;
    let mut world = World::start("").await;
    world.web_setup().await;
    for number in [1, 2] {
        let session = world.session().await;
        let branch = world.server.session(session).await.branch.replace('/', "%2F");
        // Once when it is made and nobody hears of it, once before its branch is looked for.
        let place = match number {
            1 => OPEN.to_owned(),
            _ => format!("GET /api/v3/repos/team/thing/branches/{branch}"),
        };
        world.fake.fault(&place, Fault::Held, 1);
        let wish = world.server.request(Method::POST, &format!("/sessions/{session}/pull-request"));
        let wish = tokio::spawn(wish.json(&json!({})).send());
        world.fake.until_asked(&place).await;
        if number == 1 {
            while world.fake.pulls(THING).is_empty() {
                tokio::task::yield_now().await;
            }
        }
        world.server.kill(Part::Supervisor).await;
        assert!(wish.await.unwrap().is_err());
        world.server.start_again().await;
        let done =
            |body: &EventBody| matches!(body, EventBody::PullRequestState(state) if state.number == number);
        let events = world.server.until(session, |events| events.iter().any(|event| done(&event.body))).await;
        let created = events.iter().filter_map(|event| match &event.body {
            EventBody::PullRequestCreate(create) => Some((create.outcome, create.effect.clone())),
            _ => None,
        });
        let created: Vec<_> = created.collect();
        let outcomes: Vec<_> = created.iter().map(|(outcome, _)| *outcome).collect();
        assert_eq!(outcomes, [O::Planned, O::Claimed, O::Done]);
        assert!(created.iter().all(|(_, effect)| *effect == created[0].1), "one wish");
        let pulls = world.fake.pulls(THING);
        assert_eq!(pulls.len() as u64, number);
        assert_eq!(world.fake.requests(OPEN).len() as u64, number);
        check_log(&world.server, session).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_and_a_forge_that_give_no_answer_are_given_up_and_tried_again_without_doubling() {
    use PullRequestOutcome as O;
    let world = World::start("[deadlines]\npush = 2\nforge = 2\n").await;
    world.web_setup().await;
    world.fake.fault("git-receive-pack", Fault::Held, 9);
    let session = world.session().await;
    let view = world.server.session(session).await;
    let push = view.push.unwrap();
    assert_eq!((push.outcome, view.pushed), (PushOutcome::Failed, None));
    assert!(push.words.as_deref().is_some_and(|words| words.contains("took longer than 2 s")), "{push:?}");
    // While the person waits for it: the reason is the answer.
    let refused = world.pr(session, &[]).await.exits(1);
    assert!(refused.stderr.contains("took longer than 2 s"), "{}", refused.stderr);
    world.fake.as_usual();
    world.fake.fault("/api/v3", Fault::Held, 99);
    let refused = world.pr(session, &[]).await;
    assert!(matches!(refused.code, Some(1 | 3)), "{:?}", refused.code);
    assert!(refused.stderr.contains("stopped answering"), "{}", refused.stderr);
    world.fake.as_usual();
    // One that is made without an answer is found.
    world.fake.fault(OPEN, Fault::Held, 1);
    let made = world.pr(session, &[]).await.exits(0).text();
    assert!(made.contains("#1 Add a number"), "{made}");
    assert_eq!((world.fake.pulls(THING).len(), world.fake.requests(OPEN).len()), (1, 1));
    let outcomes = outcomes(&world.server, session).await;
    assert_eq!(outcomes.last(), Some(&O::Done), "{outcomes:?}");
    assert!(
        !outcomes.windows(2).any(|pair| pair == [O::Claimed, O::Planned]),
        "each wish has its end: {outcomes:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reason_that_there_can_be_no_pull_request_is_a_line_with_what_to_do() {
    let world = World::start("push_branches = false").await;
    world.web_setup().await;
    let session = world.session().await;
    let branch = world.server.session(session).await.branch;
    let tip = world.fake.git(THING, &["rev-parse", "main"]);
    let refused = async |more: &[&str], said: &str| {
        let ended = world.pr(session, more).await;
        assert!(matches!(ended.code, Some(1 | 3)), "{more:?}: {:?} {}", ended.code, ended.stderr);
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
        assert_eq!(ended.stderr.trim_end().lines().count(), 1, "{}", ended.stderr);
        assert!(!ended.stderr.contains(TOKEN));
    };
    refused(&["--base", "gone"], "there is no branch `gone` in team/thing any more; name another one").await;
    refused(&["--base", &branch], "works on").await;
    refused(&["--title", "a\nb"], "a title is one line of 1 to 250 characters").await;
    world.fake.revoke(TOKEN);
    refused(
        &[],
        "did not accept the stored token: it is wrong, expired or revoked; set another one with `patch",
    )
    .await;
    world.fake.allow(TOKEN, Grant { login: "me".into(), push: true, only: Some(Vec::new()) });
    refused(&[], "it was renamed or deleted, or the stored token may not see it").await;
    world.fake.allow(TOKEN, Grant { login: "me".into(), push: false, only: None });
    refused(&[], "needs permission to write to this repository").await;
    world.fake.allow(TOKEN, Grant::all("me"));
    world.fake.fault("GET /api/v3", Fault::Status(500), 3);
    refused(&[], "answered 500").await;
    world.fake.as_usual();
    world.fake.protect(THING, &branch);
    refused(&[], "GH006: Protected branch update failed").await;
    std::fs::write(world.fake.bare(THING).join("protected"), "").unwrap();
    // Somebody else has the branch by now.
    let (tree, who) = (format!("{tip}^{{tree}}"), ["-c", "user.name=B", "-c", "user.email=b@b.test"]);
    let theirs = [&who[..], &["commit-tree", "-p", &tip, "-m", "theirs", &tree]].concat();
    let other = world.fake.git(THING, &theirs);
    assert_eq!(other.len(), 40);
    world.fake.git(THING, &["update-ref", &format!("refs/heads/{branch}"), &other]);
    refused(&[], "has commits there that this session does not know; fetch and merge them").await;
    world.fake.git(THING, &["update-ref", "-d", &format!("refs/heads/{branch}")]);
    world.fake.git(THING, &["update-ref", "-d", "refs/heads/main"]);
    refused(&[], "there is no branch `main` in team/thing any more").await;
    world.fake.git(THING, &["update-ref", "refs/heads/main", &tip]);
    world.fake.rename(THING, "team/better");
    refused(&[], "has moved to another address; begin a session with the new one").await;
    world.fake.rename("team/better", THING);
    let made = world.pr(session, &[]).await.exits(0).text();
    assert!(made.contains("#1 Add a number") && made.contains("/team/thing/pull/1"), "{made}");
    world.fake.delete(THING);
    assert!(world.told(session).await.stale.unwrap().contains("it was renamed or deleted"));
    world.fake.fault("GET /api/v3", Fault::Secondary(60), 1);
    refused(&[], "takes no more requests with this token for 60 s; try again then").await;
    world.is_nowhere(session).await;
    // What came by a bundle goes nowhere.
    let bundled = world.server.create(&world.repo, "work").await;
    world.server.until_rest(bundled, 1).await;
    let reason = world.told(bundled).await.reason.unwrap();
    assert!(reason.contains("this session has no remote repository; `patchyard sessions pull"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_and_branches_can_be_chosen_from() {
    let world = World::start("").await;
    let none = world.server.cli(&["repositories", "list"]).await.exits(0);
    assert!(none.stderr.contains("give the server a token of a forge with `patchyard web-setup`"));
    world.web_setup().await;
    world.fake.publish("team/other", &Repo::with("other", &[("a", "b")]));
    let tip = world.fake.git(THING, &["rev-parse", "main"]);
    world.fake.git(THING, &["update-ref", "refs/heads/a/first", &tip]);
    world.fake.protect(THING, "main");
    let listed = world.server.cli(&["repositories", "list", "THI"]).await.exits(0).text();
    assert!(
        listed.starts_with(THING) && listed.contains(&world.url) && !listed.contains("other"),
        "{listed}"
    );
    let branches = world.server.cli(&["repositories", "branches", &world.url]).await.exits(0).text();
    assert_eq!(branches, "main  protected\na/first\n");
    let found: Value = world.server.get("/forge/repositories").await.is(200).json();
    assert_eq!(found["repositories"].as_array().unwrap().len(), 2);
    world.server.cli(&["repositories", "branches", "https://git.example.org/o/r"]).await.exits(1);
    world.fake.revoke(TOKEN);
    let found: Value = world.server.get("/forge/repositories").await.is(200).json();
    assert!(found["problems"][0].as_str().unwrap().contains("wrong, expired or revoked"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_on_an_existing_branch_pushes_there_and_loses_nobodys_commits() {
    let who = "git config user.email a@b.test; git config user.name A; ";
    let script = Script::by_depth([
        bash(&format!(
            "exec 2>&1; {who} echo one > one.txt; git add one.txt; git commit -qm one; git push origin HEAD:main; git push && echo went"
        )),
        Turn::text("done"),
        bash(
            "exec 2>&1; echo two > two.txt; git add two.txt; git commit -qm two; git push --force; git pull -q --no-rebase --no-edit origin feature/x && git push; echo over",
        ),
        Turn::text("done"),
    ]);
    let world = World::with(script, "").await;
    world.web_setup().await;
    world.repo.git(&["switch", "--quiet", "-c", "feature/x"]);
    world.repo.write("begun.txt", "begun\n");
    world.repo.commit("Begin it");
    let bare = world.fake.bare(THING).display().to_string();
    world.repo.git(&["push", "--quiet", &bare, "feature/x"]);
    let on = async |branch: &str| {
        let args = [
            "--remote",
            "go on",
            "--repo",
            &world.url,
            "--on-branch",
            branch,
            "--wait",
            "--output-format",
            "json",
        ];
        world.server.cli(&args).await
    };
    world.fake.protect(THING, "main");
    let refused = on("main").await.exits(1);
    assert!(
        refused.stderr.contains("protects the branch `main`: no session works on it itself"),
        "{}",
        refused.stderr
    );
    let outcome = on("feature/x").await.exits(0).json();
    let session: SessionId = outcome["session_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(outcome["branch"], "feature/x");
    let (events, view) = check_log(&world.server, session).await;
    let said = crate::world::last_result(&events);
    assert!(said.contains("this is another branch; this session may push to feature/x only"), "{said}");
    assert!(said.contains("went"), "{said}");
    assert_eq!(world.fake.git(THING, &["rev-parse", "feature/x"]), view.checkpoint.unwrap().commit);
    // Somebody else goes on there.
    world.repo.git(&["pull", "--quiet", &bare, "feature/x"]);
    world.repo.write("theirs.txt", "theirs\n");
    let theirs = world.repo.commit("Theirs");
    world.repo.git(&["push", "--quiet", &bare, "feature/x"]);
    world.server.prompt(session, "and on").await;
    world.server.until_rest(session, 2).await;
    let (events, view) = check_log(&world.server, session).await;
    let said = crate::world::last_result(&events);
    assert_eq!(
        said.matches("commits there that this session did not push; fetch and merge").count(),
        2,
        "{said}"
    );
    let tip = world.fake.git(THING, &["rev-parse", "feature/x"]);
    assert_eq!(Some(tip), view.pushed);
    world.fake.git(THING, &["merge-base", "--is-ancestor", theirs.trim(), "feature/x"]);
    let files = world.fake.git(THING, &["ls-tree", "--name-only", "feature/x"]);
    assert_eq!(files, "README.md\nbegun.txt\none.txt\ntheirs.txt\ntwo.txt");
    let made = world.pr(session, &[]).await.exits(0).text();
    assert!(made.contains("#1 go on"), "{made}");
    let pull = world.fake.pulls(THING).remove(0);
    assert_eq!((&pull["head"]["ref"], &pull["base"]["ref"]), (&json!("feature/x"), &json!("main")));
    let usage = world.server.cli(&["--remote", "x", "--on-branch", "main"]).await.exits(2);
    assert!(usage.stderr.contains("give its URL with --repo"), "{}", usage.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reason_that_a_repository_cannot_be_worked_on_is_a_line_with_what_to_do() {
    let world = World::start("").await;
    let refused = async |url: &str, more: &[&str], said: &str| {
        let args: Vec<&str> = ["--remote", "work", "--repo", url].iter().chain(more).copied().collect();
        let ended = world.server.cli(&args).await;
        assert!(matches!(ended.code, Some(1 | 3)), "{said}: {:?} {}", ended.code, ended.stderr);
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
        assert_eq!(ended.stderr.trim_end().lines().count(), 1, "{}", ended.stderr);
        assert!(!ended.stderr.contains(TOKEN));
    };
    let url = world.url.as_str();
    refused(url, &[], "this server has none for it; set one with `patchyard web-setup --host 127.0.0.1:")
        .await;
    world.web_setup().await;
    world.fake.revoke(TOKEN);
    refused(url, &[], "wrong, expired or revoked; set another one with `patchyard web-setup").await;
    world.fake.allow(TOKEN, Grant { login: "me".into(), push: true, only: Some(Vec::new()) });
    refused(url, &[], "was not found; check the address, and that the credential for").await;
    world.fake.allow(TOKEN, Grant::all("me"));
    world.fake.fault("info/refs", Fault::Status(403), 9);
    refused(url, &[], "the stored credential needs permission to read this repository").await;
    world.fake.as_usual();
    world.fake.fault("info/refs", Fault::Status(503), 9);
    refused(url, &[], "answered 503 for").await;
    world.fake.as_usual();
    refused(url, &["--branch", "gone"], "there is no branch `gone` in").await;
    refused(url, &["--on-branch", "gone"], "there is no branch `gone` in").await;
    let empty = world.fake.publish("team/empty", &Repo::empty("empty"));
    refused(&empty, &[], "has no commit yet; commit something").await;
    world.fake.git(THING, &["branch", "-m", "main", "other"]);
    world.fake.git(THING, &["symbolic-ref", "HEAD", "refs/heads/main"]);
    let tip = world.fake.git(THING, &["rev-parse", "other"]);
    world.fake.git(THING, &["update-ref", "refs/heads/third", &tip]);
    let said = "has no default branch that is there; name another one with `--branch`: it has other, third";
    refused(url, &[], said).await;
    world.fake.rename(THING, "team/better");
    refused(url, &[], "has moved to another address; begin a session with the new one").await;
    world.fake.delete("team/better");
    refused(url, &[], "was not found").await;
    refused("https://127.0.0.1:1/team/thing.git", &[], "cannot be reached").await;
    let stranger = FakeForge::start(&Authority::make()).await;
    let unknown = stranger.publish(THING, &world.repo);
    refused(&unknown, &[], "is not valid").await;
    assert_eq!(world.server.get("/sessions").await.is(200).json::<Value>()["sessions"], json!([]));
}

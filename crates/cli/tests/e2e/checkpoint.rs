//! What is recorded of a workspace, whatever the agent did to it.

use protocol::api::Diff;
use protocol::ids::SessionId;
use protocol::view::SessionView;
use testkit::harness::{Repo, TestServer};
use testkit::model::{Script, ScriptedModel, Turn, When};

use crate::world::{bash, check_log, completed, last_result, serve};

/// One turn of one command, then one that looks at git.
async fn after(command: &str, repo: &Repo) -> Outcome {
    let look = "git status --porcelain --branch 2>&1; git log --format=%s -3 2>&1";
    let script = Script::default()
        .when(When::last_user("^work"), [bash(command), Turn::text("done")])
        .when(When::last_user("^look"), [bash(look), Turn::text("seen")]);
    let model = ScriptedModel::start(script).await;
    let server = serve().model(&model).start().await;
    let session = server.create(repo, "work").await;
    completed(&server.until_rest(session, 1).await);
    server.prompt(session, "look").await;
    let events = server.until_rest(session, 2).await;
    completed(&events);
    let seen = last_result(&events).to_owned();
    let (events, view) = check_log(&server, session).await;
    let failed = events.iter().any(|event| event.body.kind() == "error");
    assert!(!failed, "a checkpoint failed: {events:?}");
    model.assert_clean();
    Outcome { server, session, view, seen }
}

struct Outcome {
    server: TestServer,
    session: SessionId,
    view: SessionView,
    /// What the second turn saw of git.
    seen: String,
}

impl Outcome {
    async fn paths(&self) -> Vec<String> {
        let diff: Diff = self.server.get(&format!("/sessions/{}/diff", self.session)).await.is(200).json();
        diff.files.into_iter().map(|file| file.path).collect()
    }

    /// The result branch, checked out.
    fn fetched(&self) -> Repo {
        let address = self.server.address.replace("http://", &format!("http://me:{}@", self.server.token));
        let copy = Repo::empty("result");
        copy.git(&["fetch", "--quiet", &format!("{address}/git/{}.git", self.session), &self.view.branch]);
        copy.git(&["checkout", "--quiet", "-b", "result", "FETCH_HEAD"]);
        assert_eq!(copy.git(&["rev-parse", "HEAD^{tree}"]), self.view.checkpoint.as_ref().unwrap().tree);
        copy
    }
}

fn repo() -> Repo {
    Repo::with("kept", &[("a.txt", "one\n"), ("b.txt", "two\n"), (".gitignore", "*.log\ntarget/\n")])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_git_folder_loses_no_file() {
    let outcome = after("rm -rf .git; echo new > new.txt; rm b.txt", &repo()).await;
    assert_eq!(outcome.paths().await, ["b.txt", "new.txt"]);
    let copy = outcome.fetched();
    assert!(copy.path().join("new.txt").exists() && !copy.path().join("b.txt").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_the_agent_are_kept_and_what_it_left_is_added() {
    let command =
        "echo c1 > c1.txt && git add . && git commit -qm 'First of the agent' && echo more >> c1.txt";
    let outcome = after(command, &repo()).await;
    let copy = outcome.fetched();
    assert_eq!(copy.git(&["log", "--format=%s"]), "work\nFirst of the agent\nBegin");
    assert_eq!(std::fs::read_to_string(copy.path().join("c1.txt")).unwrap(), "c1\nmore\n");
    // The agent sees a clean tree on the session's branch, with the platform's commit.
    let wanted = format!("## {}...origin/{}", outcome.view.branch, outcome.view.branch);
    assert!(outcome.seen.starts_with(&wanted), "{}", outcome.seen);
    assert!(outcome.seen.ends_with("\nwork\nFirst of the agent\nBegin"), "{}", outcome.seen);
    assert!(!outcome.seen.contains("c1.txt"), "{}", outcome.seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_head_with_commits_of_its_own_is_recorded() {
    let command = "git checkout -q --detach && echo d > d.txt && git add . && git commit -qm 'On no branch' && echo e > e.txt";
    let outcome = after(command, &repo()).await;
    assert_eq!(outcome.paths().await, ["d.txt", "e.txt"]);
    assert_eq!(outcome.fetched().git(&["log", "--format=%s"]), "work\nOn no branch\nBegin");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewritten_history_and_another_branch_still_give_the_files() {
    let command = "git checkout -q --orphan other && git rm -q --cached a.txt && echo x > x.txt && git add x.txt && git commit -qm Orphan";
    let outcome = after(command, &repo()).await;
    assert_eq!(outcome.paths().await, ["x.txt"], "a.txt is still there as a file");
    outcome.fetched();
}

#[tokio::test(flavor = "multi_thread")]
async fn ignored_files_stay_out_and_a_broken_git_is_dealt_with() {
    let command = "mkdir target && echo t > target/t; echo l > x.log; echo own >> .git/info/exclude; echo o > own; \
                   echo kept > kept.txt; echo garbage > .git/config; echo garbage > .git/index; touch .git/index.lock";
    let outcome = after(command, &repo()).await;
    assert_eq!(outcome.paths().await, ["kept.txt"]);
    let copy = outcome.fetched();
    assert!(!copy.path().join("x.log").exists() && !copy.path().join("target").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_repositories_inside_the_workspace_are_recorded_too() {
    let command = "set -e; for dir in empty 'with [odd] *name' full full/inner target/dep; do mkdir -p \"$dir\"; \
                   git -C \"$dir\" init -q; echo n > \"$dir/n.txt\"; done; \
                   for dir in full/inner full; do echo '*.tmp' > $dir/.gitignore; echo t > $dir/t.tmp; \
                   git -C $dir add .; git -C $dir -c user.name=n -c user.email=n@localhost commit -qm N; done; rm full/inner/n.txt; echo m > full/m.txt; \
                   mkdir -p broken/.git; echo b > broken/b.txt; ln -s m.txt full/link";
    let outcome = after(command, &repo()).await;
    let wanted = [
        "broken/b.txt",
        "empty/n.txt",
        "full/.gitignore",
        "full/inner/.gitignore",
        "full/link",
        "full/m.txt",
        "full/n.txt",
        "with [odd] *name/n.txt",
    ];
    assert_eq!(outcome.paths().await, wanted);
    let copy = outcome.fetched();
    let files = copy.git(&["ls-files", "--stage"]);
    assert!(!files.contains("160000 "), "no commit that nobody has: {files}");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_links_modes_and_binary_files_survive() {
    let command = r##"python3 - <<'END'
import os
open(b"caf\xe9.txt", "w").write("latin\n")
open("spaces and \"quotes\"\tand tab.txt", "w").write("odd\n")
open("-dash.txt", "w").write("dash\n")
open("ünïcödé.txt", "w").write("utf8\n")
os.symlink("/etc/passwd", "link")
os.symlink("a.txt", "inner")
open("run.sh", "w").write("#!/bin/sh\n"); os.chmod("run.sh", 0o755)
os.chmod("a.txt", 0o755)
open("blob.bin", "wb").write(bytes(range(256)) * 10)
os.rename("b.txt", "renamed.txt")
open("empty", "w").close()
END"##;
    let outcome = after(command, &repo()).await;
    let paths = outcome.paths().await;
    assert_eq!(paths.len(), 11, "{paths:?}");
    let copy = outcome.fetched();
    let files = copy.git(&["-c", "core.quotePath=true", "ls-files", "--stage"]);
    for wanted in ["100755 ", "120000 ", "\"caf\\351.txt\"", "-dash.txt", "renamed.txt", "blob.bin"] {
        assert!(files.contains(wanted), "{wanted} in {files}");
    }
    let link = std::fs::read_link(copy.path().join("link")).unwrap();
    assert_eq!(link.to_str(), Some("/etc/passwd"), "a link stays a link");

    // The patch makes the same of a fresh copy, byte for byte.
    let patch = outcome.server.cli(&["sessions", "diff", &outcome.session.to_string()]).await.exits(0).stdout;
    let file = copy.path().join("../odd.patch").display().to_string();
    std::fs::write(&file, patch).unwrap();
    copy.git(&["checkout", "--quiet", "-b", "again", &outcome.view.base]);
    copy.git(&["apply", "--check", "--index", &file]);
    copy.git(&["apply", "--index", &file]);
    assert_eq!(copy.git(&["write-tree"]), outcome.view.checkpoint.as_ref().unwrap().tree);
    let rows = async |path: &str| {
        outcome.server.get(&format!("/sessions/{}/diff/file?path={path}", outcome.session)).await.status
    };
    assert_eq!(rows("a.txt").await, 200);
    assert!(rows("../../etc/passwd").await >= 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_without_changes_completes_with_an_empty_diff() {
    let outcome = after("true", &repo()).await;
    assert_eq!((outcome.view.diff.files_changed, outcome.paths().await.len()), (0, 0));
    assert_eq!(outcome.fetched().git(&["log", "--format=%s"]), "Begin", "no empty commit");
    assert_eq!(outcome.view.checkpoint.as_ref().unwrap().commit, outcome.view.base);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_taken_back_is_no_change() {
    let script = Script::default()
        .when(When::last_user("^first"), [bash("echo x > x.txt; echo y >> a.txt"), Turn::text("done")])
        .when(
            When::last_user("^second"),
            [bash("rm x.txt; git checkout -q HEAD~1 -- a.txt"), Turn::text("done")],
        );
    let model = ScriptedModel::start(script).await;
    let server = serve().model(&model).start().await;
    let session = server.create(&repo(), "first").await;
    server.until_rest(session, 1).await;
    assert_eq!(server.session(session).await.diff.files_changed, 2);
    server.prompt(session, "second").await;
    completed(&server.until_rest(session, 2).await);
    let (_, view) = check_log(&server, session).await;
    assert_eq!((view.diff.files_changed, view.diff.additions, view.diff.deletions), (0, 0, 0));
    assert!(server.cli(&["sessions", "diff", &session.to_string()]).await.exits(0).stdout.is_empty());
}

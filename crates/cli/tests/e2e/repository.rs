//! What the user's repository gives, and that nothing happens to it.

use protocol::view::SessionView;
use serde_json::Value;
use testkit::harness::{GitHost, Repo, TestServer};
use testkit::model::{Script, ScriptedModel, Turn};

use crate::world::{bash, check_log, last_result, results, serve, small_repo};

const LOOK: &str = "find . -path ./.git -prune -o -type f -print | sort; cat changed.txt; git status --porcelain; git log --format=%s";

/// A repository with every kind of uncommitted change, stashes, tags and branches.
fn dirty() -> Repo {
    let files =
        [("changed.txt", "before\n"), ("deleted.txt", "x\n"), ("kept.txt", "y\n"), (".gitignore", "*.log\n")];
    let repo = Repo::with("dirty", &files);
    repo.git(&["tag", "v1"]);
    repo.git(&["branch", "other"]);
    repo.write("kept.txt", "stashed\n");
    repo.git(&["stash"]);
    repo.write("changed.txt", "after\n");
    std::fs::remove_file(repo.path().join("deleted.txt")).unwrap();
    repo.write("staged.txt", "staged\n");
    repo.git(&["add", "staged.txt"]);
    repo.write("staged.txt", "staged, then changed\n");
    repo.write("untracked.txt", "secret\n");
    repo.write("ignored.log", "noise\n");
    repo
}

async fn run_here(server: &TestServer, repo: &Repo, more: &[&str]) -> testkit::harness::Finished {
    // From a folder inside, as people do.
    let mut command = server.cli_command();
    command.args(["--remote", "look", "--wait", "--output-format", "json"]).args(more);
    command.current_dir(repo.path());
    testkit::harness::run(command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn uncommitted_tracked_changes_go_along_and_the_repository_stays_as_it_was() {
    let model = ScriptedModel::start(Script::by_depth([bash(LOOK), Turn::text("seen")])).await;
    let server = serve().model(&model).start().await;
    let repo = dirty();
    let before = repo.traces();
    let finished = run_here(&server, &repo, &[]).await.exits(0);
    assert_eq!(repo.traces(), before);
    assert!(
        finished.stderr.contains("with your uncommitted changes to tracked files"),
        "{}",
        finished.stderr
    );

    let outcome = finished.json();
    assert_eq!(outcome["head"], repo.git(&["rev-parse", "HEAD"]));
    assert_ne!(outcome["base"], outcome["head"], "the base is what was sent");
    assert_eq!(outcome["files_changed"], 0, "what the user changed is no change of the agent");
    let (events, _) = check_log(&server, outcome["session_id"].as_str().unwrap().parse().unwrap()).await;
    let wanted = "./.gitignore\n./changed.txt\n./kept.txt\n./staged.txt\nafter\nUncommitted changes at the start\nBegin";
    assert_eq!(last_result(&events), wanted);
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails_midway_leaves_no_trace_either() {
    let model = ScriptedModel::start(Script::default()).await;
    let server = serve().model(&model).start().await;
    let repo = dirty();
    let before = repo.traces();
    let refused = run_here(&server, &repo, &["--agent", "nobody"]).await.exits(1);
    assert!(refused.stderr.contains("there is no agent `nobody`"), "{}", refused.stderr);
    run_here(&server, &repo, &["--server", "http://127.0.0.1:1"]).await.exits(3);
    run_here(&server, &repo, &["--branch", "nowhere"]).await.exits(1);
    assert_eq!(repo.traces(), before);
    assert_eq!(server.get("/sessions").await.json::<Value>()["sessions"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_branch_is_sent_as_it_was_committed() {
    let model = ScriptedModel::start(Script::by_depth([bash(LOOK), Turn::text("seen")])).await;
    let server = serve().model(&model).start().await;
    let repo = dirty();
    let before = repo.traces();
    let outcome = run_here(&server, &repo, &["--branch", "other"]).await.exits(0).json();
    assert_eq!(repo.traces(), before);
    assert_eq!(outcome["base"], repo.git(&["rev-parse", "other"]));
    let events = server.events(outcome["session_id"].as_str().unwrap().parse().unwrap()).await;
    assert!(last_result(&events).contains("./deleted.txt"), "{}", last_result(&events));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_head_a_shallow_clone_and_a_linked_worktree_are_sent_too() {
    let model =
        ScriptedModel::start(Script::by_depth([bash("git log --format=%s"), Turn::text("seen")])).await;
    let server = serve().model(&model).start().await;
    let repo = small_repo("shapes");
    repo.write("README.md", "two\n");
    repo.commit("Second");
    let shallow = Repo::empty("shallow");
    let source = format!("file://{}", repo.arg());
    shallow.git(&["fetch", "--quiet", "--depth=1", &source, "main"]);
    shallow.git(&["checkout", "--quiet", "FETCH_HEAD"]);
    let before = shallow.traces();
    let outcome = run_here(&server, &shallow, &[]).await.exits(0).json();
    assert_eq!(shallow.traces(), before);
    assert_eq!((outcome["status"].as_str(), outcome["files_changed"].as_u64()), (Some("completed"), Some(0)));

    let linked = repo.path().join("../linked");
    repo.git(&["worktree", "add", "--quiet", "--detach", &linked.display().to_string(), "HEAD~1"]);
    std::fs::write(linked.join("README.md"), "from the worktree\n").unwrap();
    let args =
        ["--remote", "look", "--repo", &linked.display().to_string(), "--wait", "--output-format", "json"];
    let outcome = server.cli(&args).await.exits(0).json();
    let (events, view) = check_log(&server, outcome["session_id"].as_str().unwrap().parse().unwrap()).await;
    assert_eq!(last_result(&events), "Uncommitted changes at the start\nBegin");
    assert_eq!((view.repository.name.as_str(), view.repository.branch), ("linked", None));
}

async fn refused(server: &TestServer, url: &str, more: &[&str], words: &str) {
    let mut args = vec!["--remote", "look", "--repo", url];
    args.extend(more);
    let finished = server.cli(&args).await;
    assert_ne!(finished.code, Some(0), "{url}");
    assert!(finished.stderr.contains(words), "{url}: {}", finished.stderr);
    assert_eq!(finished.stderr.trim().lines().count(), 1, "{}", finished.stderr);
}

async fn fetched(server: &TestServer, url: &str, more: &[&str]) -> SessionView {
    let mut args = vec!["--remote", "look", "--wait", "--output-format", "json", "--repo", url];
    args.extend(more);
    let outcome = server.cli(&args).await.exits(0).json();
    let (events, view) = check_log(server, outcome["session_id"].as_str().unwrap().parse().unwrap()).await;
    assert!(!results(&events).is_empty());
    view
}

#[tokio::test(flavor = "multi_thread")]
async fn file_addresses_are_fetched_below_the_operators_folders_only() {
    let model =
        ScriptedModel::start(Script::by_depth([bash("git log --format=%s"), Turn::text("seen")])).await;
    let open = tempfile::tempdir().unwrap();
    let root = open.path().canonicalize().unwrap();
    let config = format!("[repositories]\nfile_roots = [\"{}\"]\n", root.display());
    let server = serve().model(&model).config(&config).start().await;
    let repo = small_repo("served");
    repo.git(&["branch", "topic"]);
    repo.write("README.md", "two\n");
    let head = repo.commit("Second");
    let address = |name: &str| format!("file://{}/{name}", root.display());
    let bare = |repo: &Repo, name: &str| {
        repo.git(&["clone", "--quiet", "--bare", &repo.arg(), &root.join(name).display().to_string()]);
    };
    bare(&repo, "served.git");
    let view = fetched(&server, &address("served.git"), &[]).await;
    assert_eq!((view.base, view.repository.branch.as_deref()), (head, Some("main")));
    assert_eq!(view.repository.name, "served");
    let view = fetched(&server, &address("served.git"), &["--branch", "topic"]).await;
    assert_eq!(view.base, repo.git(&["rev-parse", "topic"]));

    refused(&server, &address("served.git"), &["--branch", "nowhere"], "it has main, topic").await;
    refused(&server, &format!("file://{}", repo.arg()), &[], "is below no folder that this server may read")
        .await;
    std::os::unix::fs::symlink(repo.path(), root.join("link")).unwrap();
    refused(&server, &address("link"), &[], "is below no folder that this server may read").await;
    refused(&server, &address("missing.git"), &[], "missing.git").await;
    bare(&Repo::empty("nothing"), "empty.git");
    refused(&server, &address("empty.git"), &[], "has no commit yet").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_addresses_are_fetched_where_the_address_is_open() {
    let model =
        ScriptedModel::start(Script::by_depth([bash("git log --format=%s"), Turn::text("seen")])).await;
    let forge = GitHost::start().await;
    let repo = small_repo("hosted");
    let url = forge.publish(&repo);

    let closed = serve().model(&model).start().await;
    refused(&closed, &url, &[], "is this machine; an operator can open it").await;
    refused(&closed, "http://169.254.169.254/latest", &[], "metadata service").await;
    refused(&closed, "http://[::ffff:127.0.0.1]/x.git", &[], "is this machine").await;
    refused(&closed, "https://user:secret@127.0.0.1/x.git", &[], "leave it out").await;
    refused(&closed, "ssh://127.0.0.1/x.git", &[], "`ssh:` addresses cannot be fetched").await;
    assert!(!closed.log().contains("secret"), "{}", closed.log());

    let config = "[repositories]\nallow = [{ host = \"127.0.0.1\", cidr = \"127.0.0.0/8\" }]\n";
    let open = serve().model(&model).config(config).start().await;
    let view = fetched(&open, &url, &[]).await;
    assert_eq!(view.base, repo.git(&["rev-parse", "HEAD"]));
    assert_eq!(view.repository.url.as_deref(), Some(url.as_str()));
    refused(&open, &url, &["--branch", "nowhere"], "it has main").await;
    refused(&open, &url.replace("hosted", "absent"), &[], "was not found; check the address").await;
    refused(&open, &url.replace("127.0.0.1", "localhost"), &[], "is this machine").await;
}

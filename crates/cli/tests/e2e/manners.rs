//! What patchyard does to the machine and the person around it: it keeps its hands off foreign
//! folders, cleans up when it is stopped, and sends a token nowhere else.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use testkit::harness::{Answer, DEADLINE, run};
use testkit::model::{Script, ScriptedModel, Turn};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::world::{serve, small_repo};

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_folder_and_a_bad_configuration_change_nothing() {
    let foreign = serve();
    std::fs::create_dir(foreign.data()).unwrap();
    std::fs::write(foreign.data().join("thesis.txt"), "years of work").unwrap();
    std::fs::set_permissions(foreign.data(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let before = std::fs::metadata(foreign.data()).unwrap();
    let refused = foreign.outcome().await.exits(1);
    assert!(refused.stderr.contains("is not empty and is no patchyard data directory"), "{}", refused.stderr);
    let after = std::fs::metadata(foreign.data()).unwrap();
    assert_eq!((before.mode(), before.uid(), before.gid()), (after.mode(), after.uid(), after.gid()));
    assert_eq!(std::fs::read_dir(foreign.data()).unwrap().count(), 1);

    let typo = serve().config("[sandbox]\nmemroy_bytes = 5\n");
    typo.outcome().await.exits(1);
    assert!(!typo.data().exists(), "a start that could not be made nothing");
}

/// A demo, and the folder that everything of it is in.
struct Demo {
    child: Child,
    dir: tempfile::TempDir,
}

impl Demo {
    /// Runs until a line of its remarks has these words.
    async fn until(words: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_patchyard"))
            .args(["demo"])
            .env("TMPDIR", dir.path())
            .env_remove("ANTHROPIC_API_KEY")
            .env_remove("ANTHROPIC_AUTH_TOKEN")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let mut lines = (BufReader::new(stdout).lines(), BufReader::new(stderr).lines());
        let said = async {
            loop {
                let line = tokio::select! {
                    Ok(Some(line)) = lines.0.next_line() => line,
                    Ok(Some(line)) = lines.1.next_line() => line,
                    else => panic!("the demo ended before it said `{words}`"),
                };
                if line.contains(words) {
                    break;
                }
            }
        };
        tokio::time::timeout(DEADLINE, said).await.unwrap();
        // Nothing that it says later may stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.0.next_line().await {} });
        tokio::spawn(async move { while let Ok(Some(_)) = lines.1.next_line().await {} });
        Self { child, dir }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    async fn end(&mut self) -> Option<i32> {
        tokio::time::timeout(DEADLINE, self.child.wait()).await.unwrap().unwrap().code()
    }

    /// Its sandboxes' ids.
    fn sandboxes(&self) -> Vec<String> {
        let demo = std::fs::read_dir(self.dir.path()).unwrap().flatten().map(|entry| entry.path());
        let kept = demo.flat_map(|path| std::fs::read_dir(path.join("data/workspaces")));
        let names = kept.flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with("sbx_")).collect()
    }

    /// Processes that name its folder, and control groups of these sandboxes.
    fn left(&self, sandboxes: &[String]) -> Vec<String> {
        let folder = self.dir.path().display().to_string();
        let names = |entry: &PathBuf| {
            let bytes = std::fs::read(entry.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).contains(&folder)
        };
        let list =
            |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        let processes = list(Path::new("/proc")).filter(names);
        let groups = list(Path::new("/sys/fs/cgroup"))
            .chain([PathBuf::from("/sys/fs/cgroup")])
            .flat_map(|tree| sandboxes.iter().map(move |id| tree.join("patchyard").join(id)))
            .filter(|path| path.exists());
        processes.chain(groups).map(|path| path.display().to_string()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_that_is_interrupted_takes_its_server_with_it() {
    for (words, signal) in [
        ("a SCRIPTED model", Signal::SIGINT),
        ("session ses_", Signal::SIGTERM),
        ("workspace ready", Signal::SIGINT),
    ] {
        let mut demo = Demo::until(words).await;
        let sandboxes = demo.sandboxes();
        demo.signal(signal);
        assert_eq!(demo.end().await, Some(130), "{words}");
        assert_eq!(demo.left(&sandboxes), Vec::<String>::new(), "{words}");
        assert_eq!(std::fs::read_dir(demo.dir.path()).unwrap().count(), 0, "{words}: files");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_that_is_killed_takes_its_server_with_it() {
    let mut demo = Demo::until("workspace ready").await;
    let sandboxes = demo.sandboxes();
    assert_eq!(sandboxes.len(), 1, "{sandboxes:?}");
    demo.signal(Signal::SIGKILL);
    demo.end().await;
    let until = Instant::now() + DEADLINE;
    // The kernel tells no stranger of a process's end.
    while !demo.left(&sandboxes).is_empty() {
        assert!(Instant::now() < until, "{:?}", demo.left(&sandboxes));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_does_not_go_through_a_proxy() {
    let model = ScriptedModel::start(Script::turns([Turn::text("done")])).await;
    let server = serve().model(&model).start().await;
    let repo = small_repo("direct");
    let session = server.create(&repo, "task").await;
    server.until_rest(session, 1).await;
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    repo.git(&["config", "http.proxy", &url]);
    repo.git(&["config", &format!("http.{}.proxy", server.address), &url]);
    let mut pull = server.cli_command();
    pull.args(["sessions", "pull", &session.to_string()]).current_dir(repo.path());
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        pull.env(name, &url);
    }
    run(pull).await.exits(0);
    let asked = proxy.accept();
    assert!(asked.is_err(), "the proxy was asked: {asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bundle_can_be_made_of_is_told() {
    let model = ScriptedModel::start(Script::by_depth([Turn::text("done")])).await;
    let server = serve().model(&model).start().await;
    let task = async |repo: &str| {
        let mut command = server.cli_command();
        command.args(["--remote", "task", "--repo", repo]).env("CCR_FORCE_BUNDLE", "1");
        run(command).await
    };
    let refused = task("https://example.org/x.git").await.exits(2);
    assert!(refused.stderr.contains("a URL cannot be bundled"), "{}", refused.stderr);

    let repo = small_repo("deep");
    repo.commit("Again");
    let shallow = tempfile::tempdir().unwrap();
    let clone = shallow.path().join("clone");
    let (from, to) = (format!("file://{}", repo.arg()), clone.display().to_string());
    repo.git(&["clone", "--quiet", "--depth=1", &from, &to]);
    let sent = task(&to).await.exits(0);
    assert!(sent.stderr.contains("a snapshot: your clone is shallow"), "{}", sent.stderr);

    let long = shallow.path().join("long");
    repo.git(&["init", "--quiet", "--object-format=sha256", &long.display().to_string()]);
    let refused = task(&long.display().to_string()).await.exits(1);
    assert!(refused.stderr.contains("names its objects by SHA-256"), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_elsewhere_signs_in_by_the_third_line_and_out_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_patchyard"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(dir.path().join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    while said.len() < 3 {
        said.push(tokio::time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap());
    }
    let line = said[2].strip_prefix("in a terminal elsewhere: patchyard login ").unwrap();
    assert_ne!(Some(line), said[1].rsplit(' ').next(), "a code of its own");

    let cli = async |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchyard"));
        command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", dir.path()).env("PATCHYARD_DATA", dir.path().join("nothing"));
        run(command).await
    };
    cli(&["login", line]).await.exits(0);
    cli(&["sessions", "list"]).await.exits(0);
    let file = dir.path().join(".config/patchyard/config.toml");
    let kept: String = std::fs::read_to_string(&file).unwrap();
    assert!(kept.contains("pyt_"), "{kept}");
    cli(&["logout"]).await.exits(0);
    assert!(!std::fs::read_to_string(&file).unwrap().contains("pyt_"));
    cli(&["sessions", "list"]).await.exits(3);
    // It ended on the server, too.
    std::fs::write(&file, &kept).unwrap();
    cli(&["sessions", "list"]).await.exits(3);
    cli(&["logout"]).await.exits(0);
    assert!(cli(&["logout"]).await.exits(1).stderr.contains("not signed in anywhere"));

    kill(Pid::from_raw(i32::try_from(server.id().unwrap()).unwrap()), Signal::SIGTERM).unwrap();
    tokio::time::timeout(DEADLINE, server.wait()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_ways_to_ask_are_told_as_problems() {
    let server = serve().start().await;
    let ask = async |method: Method, path: &str| {
        Answer::to(server.anonymous(method, path).bearer_auth(&server.token)).await
    };
    ask(Method::GET, "/git/xyz").await.is_problem(404, "not_found");
    ask(Method::GET, "/git/xyz/more/and/more").await.is_problem(404, "not_found");
    ask(Method::DELETE, "/api/v1/sessions").await.is_problem(405, "method_not_allowed");
    ask(Method::PUT, "/api/v1/server").await.is_problem(405, "method_not_allowed");
    ask(Method::GET, "/api/v1/auth/login").await.is_problem(405, "method_not_allowed");
}

/// Passes connections on, and answers no earlier than light on a long way would.
async fn long_way(listener: TcpListener, server: String) {
    while let Ok((mut here, _)) = listener.accept().await {
        let server = server.clone();
        tokio::spawn(async move {
            let mut there = TcpStream::connect(&server).await.unwrap();
            let (mut from_here, mut to_here) = here.split();
            let (mut from_there, mut to_there) = there.split();
            let answers = async {
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = from_there.read(&mut bytes).await {
                    // The distance itself, not a wait for something.
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    if to_here.write_all(&bytes[..count]).await.is_err() {
                        break;
                    }
                }
            };
            tokio::select! {
                () = answers => {}
                _ = tokio::io::copy(&mut from_here, &mut to_there) => {}
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_waited_for_over_a_long_way() {
    let model = ScriptedModel::start(Script::turns([Turn::text("done")])).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = listener.local_addr().unwrap();
    let server = serve().config(&format!("[server]\nhosts = [\"{near}\"]\n")).model(&model).start().await;
    let far = server.address.trim_start_matches("http://").to_owned();
    let way = tokio::spawn(long_way(listener, far));
    let repo = small_repo("far");
    let near = format!("http://{near}");
    let args = ["--server", &near, "--remote", "task", "--repo", &repo.arg(), "--wait"];
    let finished = server.cli(&args).await.exits(0);
    assert!(finished.text().contains("status  completed"), "{}", finished.text());
    way.abort();
}

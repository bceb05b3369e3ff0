//! What a session can see and harm from inside its sandbox.

use protocol::event::{Event, ToolResult};
use serde_json::json;
use testkit::harness::Repo;
use testkit::model::{Script, ScriptedModel, Turn};

use crate::world::{bash, check_log, completed, results, serve, small_repo};

/// Runs these commands in one session, one after the other, and gives their results.
async fn inside(server: &testkit::harness::TestServer, repo: &Repo) -> Vec<Event> {
    let session = server.create(repo, "look around").await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    check_log(server, session).await;
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_host_is_in_reach() {
    let serve = serve();
    let data = serve.data().display().to_string();
    let repo = small_repo("walls");
    let canary = tempfile::Builder::new().prefix("canary").tempfile_in("/root").unwrap();
    let commands = [
        "ls /sys/class/net".to_owned(),
        "echo x > /proc/sys/kernel/core_pattern; echo \"status $?\"; cat /proc/sys/kernel/core_pattern | head -c 3 | wc -c".into(),
        "ls -A /root /home".into(),
        format!("ls -d {data} {} {} {} 2>/dev/null; echo end", repo.arg(), canary.path().display(), env!("CARGO_MANIFEST_DIR")),
        "env | grep -i -E 'anthropic|api.?key|token|sk-test' | sort; echo end".into(),
        "cat /proc/self/uid_map | awk '{print $1, ($2 >= 65536), $3}'; id -u".into(),
        "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status".into(),
        "mount -t tmpfs none /mnt 2>&1; unshare -U true 2>&1; dmesg 2>&1 | head -1; cat /proc/kcore 2>&1 | head -c 1 | wc -c; echo c > /proc/sysrq-trigger".into(),
        "curl -sS --max-time 5 https://1.1.1.1/ 2>&1; env -i curl -sS --max-time 5 http://1.1.1.1/ 2>&1".into(),
        "touch /run/patchyard/repository.git/x /run/patchyard/bin/x 2>&1 | grep -c 'Read-only file system'".into(),
        "ls /var/lib/patchyard /run/patchyard; ls /dev | tr '\\n' ' '".into(),
    ];
    let turn = commands
        .iter()
        .fold(Turn::empty(), |turn, command| turn.and_tool("Bash", json!({ "command": command })));
    let model = ScriptedModel::start(Script::turns([turn, Turn::text("seen")])).await;
    let server = serve.model(&model).start().await;
    let core_pattern = std::fs::read("/proc/sys/kernel/core_pattern").unwrap();
    let events = inside(&server, &repo).await;
    let seen: Vec<&ToolResult> = results(&events);
    let text = |at: usize| seen[at].content.as_str();
    let gist = |at: usize| text(at).trim_start_matches("Exit code 1\n").trim_start_matches("Exit code 2\n");

    assert_eq!(text(0), "lo");
    assert!(text(1).contains("status 1") || text(1).contains("status 2"), "{}", text(1));
    assert_eq!(std::fs::read("/proc/sys/kernel/core_pattern").unwrap(), core_pattern);
    let home = text(2);
    assert!(!home.contains("canary") && !home.contains(".cargo") && !home.contains(".ssh"), "{home}");
    assert_eq!(text(3), "end", "paths of the host");
    assert_eq!(text(4), "end", "no secret in the environment, nor a word that looks like one");
    assert_eq!(text(5), "0 1 65536\n0", "root inside is somebody else outside");
    assert_eq!(text(6), "NoNewPrivs:\t1\nSeccomp:\t2");
    for refused in ["mount: ", "unshare: "] {
        assert!(gist(7).contains(refused), "{}", text(7));
    }
    // The proxy says no, and there is no other way.
    let refused = [
        "CONNECT tunnel failed, response 403",
        "1.1.1.1:80 was refused",
        "an address needs a rule of its own",
    ];
    assert!(refused.iter().all(|words| text(8).contains(words)), "{}", text(8));
    assert_eq!(text(9), "2", "what the host lends is read-only");
    for device in ["sda", "vda", "kvm", "mem", "kmsg", "fuse"] {
        assert!(!text(10).split_whitespace().any(|name| name == device), "{}", text(10));
    }
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_and_a_memory_hog_end_in_a_tool_error_and_the_session_goes_on() {
    let bomb = Turn::tool("Bash", json!({ "command": "bomb() { bomb | bomb; }; bomb", "timeout": 4000 }));
    let hog = bash("python3 -c 'x = b\"x\" * 3_000_000_000; print(len(x))'");
    let turns = [
        bomb,
        hog,
        bash("echo still here"),
        Turn::text("survived"),
        bash("cat README.md"),
        Turn::text("again"),
    ];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let config = "[sandbox]\npids = 200\nmemory_bytes = 300000000\n";
    let server = serve().model(&model).config(config).start().await;
    let repo = small_repo("limits");
    let session = server.create(&repo, "misbehave").await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    let seen = results(&events);
    assert!(seen[0].is_error, "the bomb: {:?}", seen[0]);
    assert!(seen[1].is_error && seen[1].detail["exceeded"].is_string(), "the hog: {:?}", seen[1]);
    assert_eq!((seen[2].content.as_str(), seen[2].is_error), ("still here", false));
    let left = server.sandbox_of(session).processes();
    assert!(left.len() < 20, "the bomb's processes are gone: {}", left.len());

    server.prompt(session, "go on").await;
    let events = server.until_rest(session, 2).await;
    completed(&events);
    assert_eq!(results(&events)[3].content, "# A small thing");
    check_log(&server, session).await;
    model.assert_clean();
}

//! A person's way into a sandbox: shells and copies.

use std::os::unix::fs::symlink;
use std::time::Duration;

use client::{Client, ShellFrame, ShellSocket};
use protocol::event::{CopyDirection, EventBody};
use protocol::hands::TerminalSize;
use protocol::ids::SessionId;
use protocol::shell::{OpenShell, ShellNotice};
use testkit::harness::TestServer;
use testkit::model::{Script, ScriptedModel, Turn};

use crate::world::{bash, completed, serve, small_repo};

/// A server with one session whose turn is over and whose sandbox lives.
async fn session(name: &str) -> (ScriptedModel, TestServer, SessionId) {
    let script = Script::by_depth([bash("echo made > made.txt"), Turn::text("done")]);
    let model = ScriptedModel::start(script).await;
    let server = serve().model(&model).start().await;
    let session = server.create(&small_repo(name), "go").await;
    completed(&server.until_rest(session, 1).await);
    (model, server, session)
}

fn client(server: &TestServer) -> Client {
    Client::new(&server.address, Some(server.token.clone())).unwrap()
}

fn shell_of(command: &[&str]) -> OpenShell {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    OpenShell { size: TerminalSize { rows: 24, columns: 80 }, command }
}

/// Reads until the output holds this text.
async fn until(socket: &mut ShellSocket, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        match tokio::time::timeout(Duration::from_secs(30), socket.next()).await {
            Ok(Ok(Some(ShellFrame::Output(bytes)))) => seen.push_str(&String::from_utf8_lossy(&bytes)),
            other => panic!("{other:?} after {seen:?}"),
        }
    }
    seen
}

async fn end(socket: &mut ShellSocket) -> ShellNotice {
    loop {
        match tokio::time::timeout(Duration::from_secs(30), socket.next()).await.unwrap().unwrap() {
            Some(ShellFrame::Notice(notice)) => return notice,
            Some(ShellFrame::Output(_)) => {}
            None => panic!("closed without a word"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_looks_in_detaches_comes_back_and_the_log_tells() {
    let (_model, server, session) = session("looked-into").await;
    let client = client(&server);
    let shell = client.open_shell(session, &shell_of(&[])).await.unwrap().shell;
    let mut socket = client.shell(session, shell).await.unwrap();
    socket.send(b"pwd; cat made.txt; echo $PATCHYARD_SESSION_ID; stty size\n".to_vec()).await.unwrap();
    let said = until(&mut socket, "24 80").await;
    assert!(said.contains("/workspace/looked-into") && said.contains("made"), "{said}");
    assert!(said.contains(&session.to_string()), "{said}");
    socket.resize(TerminalSize { rows: 40, columns: 100 }).await.unwrap();
    socket.send(b"stty size; echo by-hand > hand.txt; left=behind\n".to_vec()).await.unwrap();
    until(&mut socket, "40 100").await;
    socket.detach().await;
    // Another look: what was printed last is there, and so is the shell's state.
    let mut socket = client.shell(session, shell).await.unwrap();
    until(&mut socket, "40 100").await;
    socket.send(b"echo still $left\n".to_vec()).await.unwrap();
    until(&mut socket, "still behind\r\n").await;
    let listed = server.cli(&["sessions", "shell", &session.to_string(), "--list", "--json"]).await.exits(0);
    assert_eq!(listed.json()[0]["shell"], shell.to_string());
    assert_eq!(listed.json()[0]["viewers"], 1);
    socket.send(b"exit 3\n".to_vec()).await.unwrap();
    assert_eq!(end(&mut socket).await, ShellNotice::Ended { code: Some(3), reason: None });

    let events = server.until(session, |events| {
        events.iter().any(|event| matches!(&event.body, EventBody::ShellClosed { code: Some(3), .. }))
    });
    let events = events.await;
    assert!(events.iter().any(|event| matches!(&event.body, EventBody::ShellOpened { .. })));
    let gone = client.shell(session, shell).await.unwrap_err().to_string();
    assert!(gone.contains("there is no shell"), "{gone}");
    // What the person did is part of the next record.
    server.cli(&["sessions", "archive", &session.to_string()]).await.exits(0);
    let patch = server.cli(&["sessions", "diff", &session.to_string()]).await.exits(0).text();
    assert!(patch.contains("hand.txt") && patch.contains("by-hand"), "{patch}");
    let none = client.open_shell(session, &shell_of(&[])).await.unwrap_err().to_string();
    assert!(none.contains("has no sandbox now"), "{none}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_is_closed_for_good_and_nothing_of_it_runs_on() {
    let (_model, server, session) = session("closed").await;
    let client = client(&server);
    let command = ["sh", "-c", "setsid sleep 7654321 & echo begun; sleep 7654322"];
    let shell = client.open_shell(session, &shell_of(&command)).await.unwrap().shell;
    let mut socket = client.shell(session, shell).await.unwrap();
    until(&mut socket, "begun").await;
    server.cli(&["sessions", "shell", &session.to_string(), "--close", &shell.to_string()]).await.exits(0);
    let ShellNotice::Ended { code: None, reason: Some(reason) } = end(&mut socket).await else { panic!() };
    assert_eq!(reason, "closed");
    let left = shell_of(&["sh", "-c", "pgrep -f 'sleep 765432[12]'; echo looked"]);
    let look = client.open_shell(session, &left).await.unwrap().shell;
    let mut socket = client.shell(session, look).await.unwrap();
    assert_eq!(until(&mut socket, "looked").await.trim(), "looked");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_page_can_open_a_shell_and_no_stranger() {
    let (_model, server, session) = session("guarded").await;
    let client = client(&server);
    let shell = client.open_shell(session, &shell_of(&[])).await.unwrap().shell;
    let path = format!("{}/api/v1/sessions/{session}/shells/{shell}/socket", server.address);
    let ask = |headers: &[(&'static str, &str)]| {
        let mut request = reqwest::Client::new()
            .get(&path)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        async move { request.send().await.unwrap().status().as_u16() }
    };
    let token = format!("Bearer {}", server.token);
    assert_eq!(ask(&[]).await, 401);
    assert_eq!(ask(&[("authorization", &token), ("origin", "https://evil.example")]).await, 403);
    assert_eq!(ask(&[("authorization", &token)]).await, 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_both_ways_without_a_link_being_followed() {
    let (_model, server, session) = session("copied").await;
    let here = tempfile::tempdir().unwrap();
    let tree = here.path().join("tree");
    std::fs::create_dir_all(tree.join("deep")).unwrap();
    std::fs::write(tree.join("deep/file"), vec![42; 3_000_000]).unwrap();
    symlink("/etc/passwd", tree.join("link")).unwrap();
    let there = |path: &str| format!("{session}:{path}");
    let local = |name: &str| here.path().join(name).display().to_string();

    let sent = server.cli(&["sessions", "cp", &local("tree"), &there("incoming")]).await.exits(0);
    assert!(sent.text().contains("3000000 bytes") && sent.stderr.contains("left out"), "{sent:?}");
    let back = server.cli(&["sessions", "cp", &there("incoming"), &local("back")]).await.exits(0);
    assert!(back.text().contains("3 files and folders"), "{back:?}");
    assert_eq!(std::fs::read(here.path().join("back/deep/file")).unwrap(), vec![42; 3_000_000]);
    assert!(!here.path().join("back/link").exists());
    server.cli(&["sessions", "cp", &there("/workspace/copied/made.txt"), &local("back")]).await.exits(0);
    assert_eq!(std::fs::read_to_string(here.path().join("back/made.txt")).unwrap(), "made\n");

    // Links inside, and a way up, are refused; links here are nobody's way out.
    let client = client(&server);
    let plant = shell_of(&["sh", "-c", "ln -s / root; ln -s /etc etc; mkfifo pipe; echo planted"]);
    let shell = client.open_shell(session, &plant).await.unwrap().shell;
    until(&mut client.shell(session, shell).await.unwrap(), "planted").await;
    for (path, words) in [
        ("etc/passwd", "is a link"),
        ("root/etc/passwd", "is a link"),
        ("pipe", "a link or no file"),
        ("../copied/made.txt", "leads elsewhere"),
        ("/proc/self/root/etc/passwd", "is a link"),
        ("absent", "No such file"),
    ] {
        let refused = server.cli(&["sessions", "cp", &there(path), &local("never")]).await.exits(1);
        assert!(refused.stderr.contains(words), "{path}: {}", refused.stderr);
        assert!(!here.path().join("never").exists(), "{path}");
    }
    for (path, words) in [("etc/new", "is a link"), ("absent/deep/new", "No such file")] {
        let refused = server.cli(&["sessions", "cp", &local("tree/deep/file"), &there(path)]).await.exits(1);
        assert!(refused.stderr.contains(words), "{path}: {}", refused.stderr);
    }
    server.cli(&["sessions", "cp", &local("none"), &there("x")]).await.exits(1);
    server.cli(&["sessions", "cp", &local("tree"), &local("x")]).await.exits(2);

    let events = server.events(session).await;
    let copies: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::FilesCopied { path, direction, .. } => Some((path.as_str(), *direction)),
            _ => None,
        })
        .collect();
    let wanted = [
        ("/workspace/copied/incoming", CopyDirection::In),
        ("/workspace/copied/incoming", CopyDirection::Out),
        ("/workspace/copied/made.txt", CopyDirection::Out),
    ];
    assert_eq!(copies, wanted);
}

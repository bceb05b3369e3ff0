//! Text of a sandbox, a user and a network on its way to people: terminal, browser, log.
//!
//! ```text
//!   prompt · output · names of files · branch of a request ──▶ lists of the terminal: one line an entry
//!                                                          ├─▶ answers to a browser: nothing that runs
//!                                                          └─▶ the server's log: one line an event
//! ```

use protocol::ids::SessionId;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::harness::{Answer, TestServer};
use testkit::model::{Script, ScriptedModel, Turn};

use crate::world::{bash, completed, results, serve, small_repo};

/// Steers a terminal, turns the direction of text around, begins lines of its own.
const STEERING: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}gpj.exe\u{2066}\u{2028}\r\nfake line\u{9b}31m";

/// Runs in a page, if a page lets it.
const ACTIVE: &str = "<script>alert(1)</script><svg onload=alert(1)><img src=x onerror=alert(1)>";

/// Leaves files whose names and contents are meant for a terminal and a browser, and says the same.
const PLANT: &str = r#"python3 - <<'END'
import os
text = "\x1b]0;owned\x07\x1b[2J\u202e gpj.exe\u2066\r\nfake line " + "<script>alert(1)</script>"
open("page.html", "w").write("<!doctype html><script>alert(1)</script>")
open("image.svg", "w").write("<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
open("code.js", "w").write("alert(1)")
open("\x1b[31m\u202eevil\nfake line.txt", "w").write(text)
open("<img src=x onerror=alert(1)>.txt", "w").write(text)
open("n" * 250, "w").write("x")
print(text * 2000)
END"#;

/// A session that did all of it.
async fn planted() -> (ScriptedModel, TestServer, SessionId) {
    let said = format!("{STEERING} {ACTIVE}");
    let turns = [bash(PLANT), Turn::text(&said)];
    let model = ScriptedModel::start(Script::by_depth(turns)).await;
    let server = serve().model(&model).start().await;
    let prompt = format!("{STEERING}{ACTIVE}{}", "long ".repeat(900));
    let session = server.create(&small_repo("shown"), &prompt).await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    assert!(results(&events)[0].content.contains("fake line"), "the attack has to be there");
    (model, server, session)
}

/// Nothing that steers, and as many lines as there are entries.
fn tame(shown: &str, most: usize) {
    for line in shown.lines() {
        let steers = |c: char| {
            c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert!(!line.contains(steers), "{line:?}");
        assert!(line.chars().count() <= most, "{} characters: {line}", line.chars().count());
        assert!(!line.trim_start().starts_with("fake line"), "a line of its own: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn l07_text_of_others_is_one_tame_line_of_a_terminal() {
    let (_model, server, session) = planted().await;
    let id = session.to_string();
    let text = async |args: &[&str]| server.cli(args).await.exits(0).text();
    let list = text(&["sessions", "list"]).await;
    assert_eq!(list.lines().count(), 1, "{list}");
    tame(&list, 400);
    let show = text(&["sessions", "show", &id]).await;
    tame(&show, 700);
    let events = text(&["sessions", "events", &id]).await;
    assert_eq!(events.lines().count(), server.events(session).await.len(), "{events}");
    tame(&events, 240);
    let stat = text(&["sessions", "diff", &id, "--stat"]).await;
    assert_eq!(stat.lines().count(), 7, "six files and the sum: {stat}");
    tame(&stat, 700);
    // What scripts read keeps every byte, escaped as JSON is.
    let json = text(&["sessions", "events", &id, "--json"]).await;
    assert!(json.contains("\\u001b]0;owned"), "{json}");
    assert!(json.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
}

#[tokio::test(flavor = "multi_thread")]
async fn l08_what_a_request_says_makes_no_line_in_the_log() {
    let (_model, server, session) = planted().await;
    // Control characters cannot be sent raw in a header or a path: escaped ones and the largest are.
    let forged = "%0d%0a2026-01-01T00:00:00Z%20ERROR%20forged%1b[2J";
    for path in [
        format!("/{forged}"),
        format!("/sessions/{forged}"),
        format!("/sessions/{session}/blobs/{forged}"),
        format!("/sessions/{session}/files?path={forged}"),
        format!("/sessions/{session}/diff/file?path={forged}&old_path={forged}"),
    ] {
        let request = server.request(Method::GET, &path).header("user-agent", "x\t{\"level\":\"ERROR\"}");
        let answer = Answer::to(request.header("x-forwarded-for", "y".repeat(8000))).await;
        // Of a path that never was there is no difference.
        assert!(answer.status >= 400 || path.contains("/diff/file"), "{path}: {}", answer.status);
        let words = answer.text();
        assert!(!words.contains(['\r', '\n', '\u{1b}']), "{path}: {words}");
    }
    server.post("/sessions", &json!({ "prompt": STEERING })).await.is(400);
    let log = server.log();
    let line = |line: &str| {
        let (time, rest) = line.split_once(' ').unwrap_or_default();
        let level = rest.split_whitespace().next().unwrap_or_default();
        let is_event = time.len() == 27 && time.ends_with('Z') && ["INFO", "WARN", "ERROR"].contains(&level);
        (is_event || line.starts_with("patchyard: ")) && !line.contains(char::is_control)
    };
    assert!(log.lines().count() > 0 && log.lines().all(line), "{log}");
    assert!(!log.contains("forged") || !log.lines().any(|line| line.starts_with("2026-01-01")), "{log}");
    // The record of what was done is the event log: each entry is one JSON value, whatever it quotes.
    let events = server.get(&format!("/sessions/{session}/events?after=0")).await.is(200);
    assert!(!events.text().contains(['\r', '\u{1b}', '\u{7}']), "escaped: {}", events.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn l09_l10_nothing_of_a_session_is_served_as_what_a_browser_runs() {
    let (_model, server, session) = planted().await;
    let events = server.events(session).await;
    let blobs: Vec<String> = {
        let text = serde_json::to_string(&events).unwrap();
        text.split('"')
            .filter(|word| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit()))
            .map(str::to_owned)
            .collect()
    };
    let mut paths: Vec<String> = ["page.html", "image.svg", "code.js"]
        .iter()
        .flat_map(|file| {
            [
                format!("/api/v1/sessions/{session}/diff/file?path={file}"),
                format!("/api/v1/sessions/{session}/files?path={file}"),
            ]
        })
        .collect();
    for rest in ["", "/diff", "/diff?format=patch", "/events?after=0", "/shells"] {
        paths.push(format!("/api/v1/sessions/{session}{rest}"));
    }
    paths.extend(blobs.iter().map(|blob| format!("/api/v1/sessions/{session}/blobs/{blob}")));
    let (mut answered, mut with_blob) = (0, false);
    for path in paths {
        let answer = Answer::to(server.anonymous(Method::GET, &path).bearer_auth(&server.token)).await;
        let kind = answer.header("content-type").split(';').next().unwrap_or_default().to_owned();
        let inert = [
            "application/json",
            "application/problem+json",
            "application/x-tar",
            "text/plain",
            "text/x-diff",
        ];
        assert!(inert.contains(&kind.as_str()), "{path} is served as {kind}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        answered += usize::from(answer.status == 200);
        if answer.status == 200 && path.contains("/blobs/") {
            with_blob = true;
            assert!(policy.starts_with("sandbox;"), "{policy}");
        }
    }
    assert!(answered >= 10 && with_blob, "{answered} answers, blobs: {blobs:?}");
    // There is no door to a port or a file of a sandbox at the address of the page: whatever is asked for
    // is the page itself, which is the server's own, or not there.
    let page = Answer::to(server.anonymous(Method::GET, "/")).await.is(200).text();
    for path in [
        format!("/s/{session}/page.html"),
        format!("/s/{session}/files/page.html"),
        format!("/preview/{session}/8000/"),
        format!("/git/{session}.git/page.html"),
        "/page.html".to_owned(),
        "/image.svg".to_owned(),
    ] {
        let answer = Answer::to(server.anonymous(Method::GET, &path).bearer_auth(&server.token)).await;
        let is_ours = answer.status == 200 && answer.text() == page;
        assert!(is_ours || answer.status >= 400, "{path}: {}", answer.text());
        assert!(!answer.text().contains("alert(1)"), "{path}");
    }
}

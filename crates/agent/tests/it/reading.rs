use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use protocol::agent_port::TurnEnd;
use protocol::event::ToolResult;
use serde_json::{Value, json};
use testkit::model::{Script, Turn};

use crate::hands::LocalHands;
use crate::stage::Stage;

async fn calls(hands: LocalHands, tool: &str, inputs: &[Value], files: &[(&str, &[u8])]) -> Vec<ToolResult> {
    let turns = inputs.iter().map(|input| Turn::tool(tool, input.clone())).chain([Turn::text("ok")]);
    let mut stage = Stage::with(Script::turns(turns), hands, |_| {}).await;
    for (name, content) in files {
        stage.write(name, content);
    }
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    stage.model.assert_clean();
    stage.port.results()
}

#[tokio::test]
async fn files_are_shown_with_line_numbers() {
    let long = (1..=2_500).map(|n| format!("l{n}\n")).collect::<String>();
    let wide = format!("{}\nend", "w".repeat(2_100));
    let results = calls(
        LocalHands::default(),
        "Read",
        &[
            json!({ "file_path": "a.txt" }),
            json!({ "file_path": "long.txt" }),
            json!({ "file_path": "long.txt", "offset": 2_499, "limit": 10 }),
            json!({ "file_path": "long.txt", "offset": 3_000 }),
            json!({ "file_path": "wide.txt" }),
            json!({ "file_path": "empty" }),
            json!({ "file_path": "pic.png" }),
            json!({ "file_path": "latin1.txt" }),
            json!({ "file_path": "sub" }),
        ],
        &[
            ("a.txt", b"one\r\n\n  three"),
            ("long.txt", long.as_bytes()),
            ("wide.txt", wide.as_bytes()),
            ("empty", b""),
            ("pic.png", b"\x89PNG\r\n\x1a\n\0\0"),
            ("latin1.txt", b"caf\xe9\n"),
            ("sub/x", b""),
        ],
    )
    .await;
    let shown: Vec<&str> = results.iter().map(|result| result.content.as_str()).collect();
    assert_eq!(shown[0], "1\tone\n2\t\n3\t  three\n");
    assert!(
        shown[1].starts_with("1\tl1\n2\tl2\n")
            && shown[1].contains("2000\tl2000\n\n[lines 1 to 2000 of 2500;")
    );
    assert_eq!(results[1].detail, json!({ "path": "long.txt", "lines": 2_000 }));
    assert_eq!(shown[2], "2499\tl2499\n2500\tl2500\n");
    assert!(results[3].is_error && shown[3].contains("has 2500 lines"));
    assert!(shown[4].contains("… [100 more characters in this line]\n2\tend\n"));
    assert!(shown[5].ends_with("exists but is empty."));
    assert!(results[6].is_error && shown[6].contains("is a PNG image of 10 bytes"));
    assert!(shown[7].starts_with("1\tcaf\u{fffd}\n") && shown[7].contains("not valid UTF-8"));
    assert!(results[8].is_error && shown[8].contains("Use Glob"));
}

/// A stand-in for the search program, which writes down what it was asked.
fn guest(answer: &str, code: u8) -> (tempfile::TempDir, LocalHands, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (program, asked) = (dir.path().join("guest"), dir.path().join("asked"));
    let text = format!(
        "#!/bin/sh\nprintf '%s %s\\n' \"$1\" \"$2\" >>'{}'\ncat <<'END'\n{answer}\nEND\n\
         [ {code} = 0 ] || echo 'the pattern is not valid: x' >&2\nexit {code}\n",
        asked.display()
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (dir, LocalHands { guest: Some(program), ..LocalHands::default() }, asked)
}

#[tokio::test]
async fn searches_are_asked_and_answered_in_json() {
    let (_dir, hands, asked) = guest(r#"{"text":"a.rs:1:fn a","files":1,"matches":3,"truncated":true}"#, 0);
    let input = json!({ "pattern": "fn \"", "path": "src", "output_mode": "content", "-A": 2, "-i": true,
                        "-n": false, "type": "rust", "head_limit": 5 });
    let results = calls(hands, "Grep", &[input], &[]).await;
    assert_eq!(
        results[0].content,
        "a.rs:1:fn a\n[there are more; use a narrower pattern, or offset and head_limit]"
    );
    assert_eq!(results[0].detail, json!({ "files": 1, "matches": 3, "truncated": true }));
    let asked = fs::read_to_string(asked).unwrap();
    let (tool, request) = asked.trim().split_once(' ').unwrap();
    let mut request: Value = serde_json::from_str(request).unwrap();
    assert!(request["path"].take().as_str().unwrap().ends_with("/workspace/src"));
    assert_eq!(tool, "grep");
    assert_eq!(
        request,
        json!({ "pattern": "fn \"", "path": null, "output_mode": "content", "after": 2,
                "ignore_case": true, "line_numbers": false, "type": "rust", "head_limit": 5 })
    );
}

#[tokio::test]
async fn searches_that_find_nothing_or_make_no_sense_are_told() {
    let (_dir, hands, _) = guest(r#"{"files":[],"truncated":false}"#, 0);
    assert_eq!(calls(hands, "Glob", &[json!({ "pattern": "*.x" })], &[]).await[0].content, "No files found");
    let (_dir, hands, _) = guest("", 2);
    let results = calls(hands, "Grep", &[json!({ "pattern": "(" })], &[]).await;
    assert!(results[0].is_error);
    assert_eq!(results[0].content, "the pattern is not valid: x");
}

/// With the real search program, where it was built.
#[tokio::test]
async fn the_guests_own_search_understands_every_field() {
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    let places =
        ["guest/patchyard-guest", "debug/patchyard-guest", "x86_64-unknown-linux-gnu/guest/patchyard-guest"];
    let Some(program) = places.iter().map(|place| target.join(place)).find(|path| path.exists()) else {
        println!("skipped: patchyard-guest is not built below {}", target.display());
        return;
    };
    let hands = || LocalHands { guest: Some(program.clone()), ..LocalHands::default() };
    let files: &[(&str, &[u8])] =
        &[("src/a.rs", b"fn a() {}\nfn b() {}\n"), ("src/b.py", b"def a(): pass\n"), ("n.md", b"# a\n")];
    let found = calls(hands(), "Glob", &[json!({ "pattern": "**/*.rs" })], files).await;
    assert!(found[0].content.ends_with("/workspace/src/a.rs"), "{}", found[0].content);
    let everything = json!({
        "pattern": "FN B", "path": "src", "glob": "*.rs", "type": "rust", "output_mode": "content",
        "-A": 0, "-B": 1, "context": 1, "-n": true, "-i": true, "-o": false, "multiline": false,
        "head_limit": 10, "offset": 0,
    });
    let results = calls(hands(), "Grep", &[everything, json!({ "pattern": "(" })], files).await;
    assert!(!results[0].is_error && results[0].content.contains("fn b() {}"), "{}", results[0].content);
    assert!(results[1].is_error && !results[1].content.contains('\n'), "{}", results[1].content);
}

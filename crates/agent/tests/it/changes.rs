use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use protocol::agent_port::TurnEnd;
use protocol::event::ToolResult;
use serde_json::{Value, json};
use testkit::model::Turn;

use crate::stage::Stage;

fn edit(old: &str, new: &str) -> Value {
    json!({ "file_path": "f.txt", "old_string": old, "new_string": new })
}

/// One edit of one file.
async fn one(file: &[u8], input: Value) -> (Stage, ToolResult) {
    let mut stage = Stage::new([Turn::tool("Edit", input), Turn::text("ok")]).await;
    stage.write("f.txt", file);
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    stage.model.assert_clean();
    let result = stage.port.results().remove(0);
    (stage, result)
}

#[tokio::test]
async fn edits_that_work() {
    for (file, old, new, expected) in [
        ("one\ntwo\n", "two", "2", "one\n2\n"),
        ("one\ntwo", "two", "2", "one\n2"),
        ("a\r\nb\r\nc\r\n", "a\nb", "x\ny", "x\r\ny\r\nc\r\n"),
        ("a\r\nb\r\n", "b", "b\nc", "a\r\nb\r\nc\r\n"),
        ("x = 1  \ny = 2\n", "x = 1\ny = 2", "x = 3", "x = 3\n"),
        ("say “hi” – ok\n", "say \"hi\" - ok", "bye", "bye\n"),
        ("tab\there\n", "\t", " ", "tab here\n"),
        ("delete me\nkeep\n", "delete me\n", "", "keep\n"),
        ("", "", "new\n", "new\n"),
    ] {
        let (stage, result) = one(file.as_bytes(), edit(old, new)).await;
        assert!(!result.is_error, "{old:?}: {}", result.content);
        assert_eq!(stage.read("f.txt"), expected, "{old:?}");
        assert!(result.content.contains("has been updated successfully."));
    }
}

#[tokio::test]
async fn edits_that_change_nothing_and_say_why() {
    let file = "def a():\n    return 1\n\ndef b():\n    return 1\n";
    for (input, words) in [
        (edit("    return 1", "x"), &["stands 2 times", "at lines 2, 5", "replace_all"][..]),
        (edit("return 2\n", "x"), &["not found", "2\t    return 1"]),
        (edit("def c():\n    return 3", "x"), &["nearest lines", "1\tdef a():"]),
        (edit("completely other words", "x"), &["No line of the file is like it"]),
        (edit("1\tdef a():\n2\t    return 1", "x"), &["numbers that Read shows"]),
        (edit("same", "same"), &["are equal"]),
        (edit("", "x"), &["is not empty"]),
        (json!({ "file_path": "nope", "old_string": "a", "new_string": "b" }), &["no such file"]),
        (json!({ "file_path": ".", "old_string": "a", "new_string": "b" }), &["is a directory"]),
    ] {
        let (stage, result) = one(file.as_bytes(), input.clone()).await;
        assert!(result.is_error, "{input}");
        assert_eq!(stage.read("f.txt"), file);
        for word in words {
            assert!(result.content.contains(word), "{word}: {}", result.content);
        }
    }
}

#[tokio::test]
async fn every_place_is_replaced_when_asked() {
    let input = json!({ "file_path": "f.txt", "old_string": "a", "new_string": "bb", "replace_all": true });
    let (stage, result) = one(b"a-a\na\n", input).await;
    assert_eq!(stage.read("f.txt"), "bb-bb\nbb\n");
    assert!(result.content.contains("3 places were changed"));
    assert_eq!((&result.detail["additions"], &result.detail["deletions"]), (&json!(2), &json!(2)));
}

#[tokio::test]
async fn a_link_stays_a_link_and_modes_stay() {
    let mut stage = Stage::new([Turn::tool("Edit", edit("old", "new")), Turn::text("ok")]).await;
    stage.write("real.sh", "#!/bin/sh\necho old\n");
    std::fs::set_permissions(stage.path("real.sh"), std::fs::Permissions::from_mode(0o751)).unwrap();
    std::os::unix::fs::symlink("real.sh", stage.path("f.txt")).unwrap();
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    assert!(stage.path("f.txt").is_symlink());
    assert_eq!(stage.read("real.sh"), "#!/bin/sh\necho new\n");
    let mode = std::fs::metadata(stage.path("real.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o751);
}

#[tokio::test]
async fn a_file_that_is_too_big_is_refused_with_a_way_out() {
    let (_stage, result) = one(&vec![b'x'; 9 * 1024 * 1024], edit("a", "b")).await;
    assert!(result.is_error && result.content.contains("head, tail or sed"), "{}", result.content);
}

#[tokio::test]
async fn a_file_that_changed_since_it_was_read_is_not_overwritten() {
    let turns = [
        Turn::tool("Read", json!({ "file_path": "f.txt" })),
        Turn::tool("Bash", json!({ "command": "echo by hand >> f.txt" })),
        Turn::tool("Edit", edit("one", "1")),
        Turn::tool("Write", json!({ "file_path": "f.txt", "content": "all new" })),
        Turn::tool("Read", json!({ "file_path": "f.txt" })),
        Turn::tool("Edit", edit("one", "1")),
        Turn::tool("Edit", edit("1", "one more time")),
        Turn::text("ok"),
    ];
    let mut stage = Stage::new(turns).await;
    stage.write("f.txt", "one\n");
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    let results = stage.port.results();
    assert!(results[2].content.contains("has changed since you last read"), "{}", results[2].content);
    assert!(results[3].content.contains("has changed since"), "{}", results[3].content);
    assert!(!results[5].is_error && !results[6].is_error, "own changes are known");
    assert_eq!(stage.read("f.txt"), "one more time\nby hand\n");
}

#[tokio::test]
async fn files_are_written_with_their_folders() {
    let turns = [
        Turn::tool("Write", json!({ "file_path": "deep/er/new.txt", "content": "a\nb\n" })),
        Turn::tool("Write", json!({ "file_path": "deep/er/new.txt", "content": "a\nc\n" })),
        Turn::tool("Edit", json!({ "file_path": "made.txt", "old_string": "", "new_string": "x" })),
        Turn::text("ok"),
    ];
    let mut stage = Stage::new(turns).await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    let results = stage.port.results();
    let path = stage.full("deep/er/new.txt");
    assert_eq!(results[0].content, format!("File created successfully at: {path}"));
    assert_eq!(results[0].detail["created"], true);
    assert_eq!(results[0].detail["path"], "deep/er/new.txt");
    assert_eq!(results[1].content, format!("The file {path} has been updated successfully."));
    assert!(results[1].detail["patch"].as_str().unwrap().contains("-b\n+c\n"));
    assert_eq!((stage.read("deep/er/new.txt"), stage.read("made.txt")), ("a\nc\n".into(), "x".into()));
}

/// Files of short lines with everything that makes matching hard, and a text that may be in them.
fn cases() -> impl Strategy<Value = (Vec<u8>, String, String)> {
    let piece = prop_oneof![
        Just("foo".to_owned()),
        Just("  bar".to_owned()),
        Just("“q”".to_owned()),
        Just("x – y".to_owned()),
        Just("\t".to_owned()),
        Just(" ".to_owned()),
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        "[a-c]{1,3}",
    ];
    let file = proptest::collection::vec(piece.clone(), 0..14).prop_map(|parts| parts.concat());
    let text = proptest::collection::vec(piece, 1..4).prop_map(|parts| parts.concat());
    let raw = prop_oneof![4 => Just(false), 1 => Just(true)];
    (file, text, "[x-z\n]{0,6}", raw).prop_map(|(file, text, new, raw)| {
        let mut bytes = file.into_bytes();
        if raw {
            bytes.extend_from_slice(b"\xff\xfe");
        }
        (bytes, text, new)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// An edit changes the matched text and nothing else: around it every byte stays.
    #[test]
    fn an_edit_never_changes_anything_outside_of_the_match((file, old, new) in cases()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (stage, result) = runtime.block_on(one(&file, edit(&old, &new)));
        let after = std::fs::read(stage.path("f.txt")).unwrap();
        if result.is_error {
            prop_assert_eq!(after, file);
            return Ok(());
        }
        let plain = |text: &str| {
            let lines = text.replace("\r\n", "\n");
            let lines: Vec<&str> = lines.split('\n').map(|line| line.trim_end_matches([' ', '\t'])).collect();
            lines.join("\n").replace(['“', '”'], "\"").replace('–', "-")
        };
        let crlf = new.replace('\n', "\r\n");
        // Some split of the old file into head, match and tail explains the new one.
        let explained = [new.as_bytes(), crlf.as_bytes()].iter().any(|new| {
            (0..=after.len().saturating_sub(new.len())).any(|at| {
                let (head, tail) = (&after[..at], &after[(at + new.len()).min(after.len())..]);
                after[at..].starts_with(new)
                    && file.len() >= head.len() + tail.len()
                    && file.starts_with(head)
                    && file.ends_with(tail)
                    && std::str::from_utf8(&file[head.len()..file.len() - tail.len()])
                        .is_ok_and(|matched| matched == old || plain(matched) == plain(&old))
            })
        });
        prop_assert!(explained, "{:?} became {:?} by {:?} -> {:?}", file, after, old, new);
    }
}

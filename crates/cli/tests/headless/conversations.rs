//! Transcripts, and runs that go on with them: section 10.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use testkit::model::{Script, Turn};

use crate::world::{World, bash, until_gone, until_written};

fn lines(path: &std::path::Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Section 10: the records, their chain, the file's place and mode.
#[tokio::test]
async fn a_run_leaves_a_transcript() {
    let world = World::new([bash("echo out"), Turn::text("Done.")]).await;
    let session = "11111111-2222-4333-8444-555555555555";
    world.run(&["-p", "go", "--session-id", session]).await.ended(0);
    let project = world.path("work/project");
    let name: String =
        project.to_str().unwrap().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let path = world.path(&format!("home/.patchyard/projects/{name}/{session}.jsonl"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let lines = lines(&path);
    let mut parent = Value::Null;
    for line in &lines {
        assert_eq!(line["parentUuid"], parent);
        assert_eq!((&line["sessionId"], &line["gitBranch"]), (&json!(session), &json!("trunk")));
        assert_eq!(line["cwd"], project.to_str().unwrap());
        for field in ["timestamp", "version", "userType", "uuid"] {
            assert!(line[field].is_string(), "{field}");
        }
        parent = line["uuid"].clone();
    }
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    assert_eq!(of("user")[0]["message"], json!({ "role": "user", "content": "go" }));
    assert_eq!(of("assistant")[0]["message"]["content"][0]["type"], "tool_use");
    assert_eq!(of("user")[1]["message"]["content"][0]["content"], "out");
    assert_eq!(of("assistant")[1]["message"]["content"][0]["text"], "Done.");
}

/// Section 10: `--continue` and `--resume` append to the same file under the same id. The model's history begins
/// with the very bytes of before, which the scripted model checks.
#[tokio::test]
async fn a_conversation_goes_on() {
    let turns = [
        Turn::empty()
            .and_thinking("hm", "signed")
            .and_text("I run it.")
            .and_tool("Bash", json!({ "command": "echo out" })),
        Turn::text("Done."),
        Turn::text("Again."),
        Turn::text("Once more."),
    ];
    let world = World::new(turns).await;
    world.put("CLAUDE.md", "Be brief.");
    let first = world.stream(&["-p", "go"]).await.ended(0).result();
    let second = world.stream(&["-p", "more", "--continue"]).await.ended(0).result();
    let session = first["session_id"].as_str().unwrap();
    let third = world.stream(&["-p", "and more", &format!("--resume={session}")]).await.ended(0).result();
    assert_eq!((&second["session_id"], &third["session_id"]), (&first["session_id"], &first["session_id"]));
    assert_eq!(world.transcripts().len(), 1);
    let request = &world.model.requests()[3].body;
    let said = request["messages"].to_string();
    for words in ["go", "signed", "I run it.", "out", "Done.", "more", "Again.", "and more"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    world.model.assert_clean();
}

/// Section 10: `--fork-session` makes a new conversation of it, and leaves the old one as it is.
#[tokio::test]
async fn a_fork_is_a_conversation_of_its_own() {
    let world = World::new([Turn::text("One."), Turn::text("Two."), Turn::text("Three.")]).await;
    let first = world.stream(&["-p", "go"]).await.ended(0).result();
    let before = fs::read(&world.transcripts()[0]).unwrap();
    let fork = world.stream(&["-p", "other", "--continue", "--fork-session"]).await.ended(0).result();
    assert_ne!(first["session_id"], fork["session_id"]);
    let id = |result: &Value| result["session_id"].as_str().unwrap().to_owned();
    let path =
        |id: &str| world.transcripts().into_iter().find(|path| path.to_str().unwrap().contains(id)).unwrap();
    assert_eq!(fs::read(path(&id(&first))).unwrap(), before);
    assert!(lines(&path(&id(&fork))).iter().all(|line| line["sessionId"] == fork["session_id"]));
    world.run(&["-p", "third", "--resume", &id(&fork)]).await.ended(0);
    let said = world.model.requests()[2].body["messages"].to_string();
    assert!(said.contains("go") && said.contains("other"), "{said}");
    world.model.assert_clean();
}

/// Section 10, "also after a kill in the middle of a turn": the call has a result, and nothing of it lives on.
#[tokio::test]
async fn a_killed_run_can_be_gone_on_with() {
    let world = World::new([bash("echo $$ > pid; exec sleep 300"), Turn::text("I see.")]).await;
    let mut child = world.command(&["-p", "go", "--allowedTools", "Bash"]).spawn().unwrap();
    let pid = until_written(&world.path("work/project/pid")).await;
    child.kill().await.unwrap();
    until_gone(&pid).await;
    let path = world.transcripts().remove(0);
    // A line that was being written.
    let cut = fs::read_to_string(&path).unwrap() + "{\"type\":\"user\",\"mess";
    fs::write(&path, cut).unwrap();
    let result = world.stream(&["-p", "what now", "--continue"]).await.ended(0).result();
    assert_eq!(result["result"], "I see.");
    let messages = &world.model.requests()[1].body["messages"];
    assert!(messages.to_string().contains("interrupted: the call was stopped"), "{messages}");
    world.model.assert_clean();
    let whole = fs::read_to_string(&path).unwrap();
    assert_eq!(whole.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()).count(), 1);
}

/// Section 10: an id in use; nothing written where nothing is to be; another place for everything.
#[tokio::test]
async fn ids_and_places() {
    let world = World::new([Turn::text("x"), Turn::text("y"), Turn::text("z")]).await;
    let session = "11111111-2222-4333-8444-555555555555";
    world.run(&["-p", "go", "--session-id", session, "--no-session-persistence"]).await.ended(0);
    assert_eq!(world.transcripts().len(), 0);
    world.run(&["-p", "go", "--session-id", session]).await.ended(0);
    let ran = world.run(&["-p", "go", "--session-id", session]).await.ended(1);
    assert!(ran.err().contains("in use"), "{}", ran.err());
    let mut command = world.command(&["-p", "go"]);
    command.env("CLAUDE_CONFIG_DIR", world.path("elsewhere"));
    world.run_of(command).await.ended(0);
    assert_eq!(world.transcripts().len(), 1);
    assert!(world.path("elsewhere/projects").is_dir());
}

/// Section 10: a transcript of another program of the field, copied to the right folder, is gone on with.
#[tokio::test]
async fn a_foreign_transcript_is_read() {
    let world = World::with(Script::turns([Turn::text("Yes.")])).await;
    let session = "11111111-2222-4333-8444-555555555555";
    let lines = [
        json!({ "type": "summary", "summary": "x", "leafUuid": "y" }),
        json!({ "type": "user", "uuid": "1", "parentUuid": null, "message": { "role": "user", "content": "first words" } }),
        json!({ "type": "assistant", "uuid": "2", "parentUuid": "1", "message": { "id": "msg_1", "role": "assistant",
            "content": [{ "type": "text", "text": "I look." }] } }),
        json!({ "type": "assistant", "uuid": "3", "parentUuid": "2", "message": { "id": "msg_1", "role": "assistant",
            "content": [{ "type": "tool_use", "id": "toolu_1", "name": "Read", "input": { "file_path": "a" } }] } }),
        json!({ "type": "user", "uuid": "4", "parentUuid": "3", "message": { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "toolu_1", "content": [{ "type": "text", "text": "its lines" }] }] } }),
        json!({ "type": "user", "uuid": "s", "isSidechain": true, "message": { "role": "user", "content": "NOT-THIS" } }),
        json!({ "type": "assistant", "uuid": "5", "parentUuid": "4", "message": { "id": "msg_2", "role": "assistant",
            "content": [{ "type": "text", "text": "I saw." }] } }),
    ];
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    world.write(&format!("home/.patchyard/projects/-somewhere/{session}.jsonl"), &text);
    world.run(&["-p", "and now", "--resume", session]).await.ended(0);
    let messages = world.model.requests()[0].body["messages"].clone();
    let roles: Vec<&str> =
        messages.as_array().unwrap().iter().map(|one| one["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant", "user"]);
    let said = messages.to_string();
    assert!(said.contains("its lines") && said.contains("I saw.") && !said.contains("NOT-THIS"), "{said}");
    world.model.assert_clean();
}

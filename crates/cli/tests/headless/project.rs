//! What the person, the folder and those above it say: sections 1, 2, 4, 6 to 8.

use serde_json::{Value, json};
use testkit::model::Turn;

use crate::world::{World, bash, of, until_written};

/// Section 6: load order; imports; AGENTS.md where there is no CLAUDE.md.
#[tokio::test]
async fn instructions_come_in_their_order() {
    let world = World::new([Turn::text("x")]).await;
    world.write("home/.claude/CLAUDE.md", "OF-THE-PERSON");
    world.write("work/CLAUDE.md", "OF-THE-FOLDER-ABOVE");
    world.put("AGENTS.md", "OF-THE-PROJECT see @docs/style.md");
    world.put("docs/style.md", "IMPORTED");
    world.put(".claude/rules/always.md", "A-RULE");
    world.put("deep/CLAUDE.md", "OF-A-FOLDER-BELOW");
    world.run(&["-p", "go"]).await.ended(0);
    let said = world.said(0);
    let at: Vec<Option<usize>> =
        ["OF-THE-PERSON", "OF-THE-FOLDER-ABOVE", "OF-THE-PROJECT", "IMPORTED", "A-RULE"]
            .iter()
            .map(|words| said.find(words))
            .collect();
    assert!(at.iter().all(Option::is_some) && at.is_sorted(), "{at:?} {said}");
    assert!(!said.contains("OF-A-FOLDER-BELOW"), "only with a file in it");
}

/// Section 6, "Nested".
#[tokio::test]
async fn instructions_of_folders_below_come_with_their_files() {
    let world = World::new([Turn::tool("Read", json!({ "file_path": "deep/file" })), Turn::text("x")]).await;
    world.put("deep/CLAUDE.md", "OF-A-FOLDER-BELOW");
    world.put("deep/file", "text\n");
    let ran = world.stream(&["-p", "go"]).await.ended(0);
    assert!(world.model.requests()[1].body.to_string().contains("OF-A-FOLDER-BELOW"));
    let lines = ran.lines();
    let result = &of(&lines, "user")[0]["tool_use_result"]["file"]["content"];
    assert!(!result.as_str().unwrap().contains("OF-A-FOLDER-BELOW"), "that is for the model: {result}");
}

/// Section 4: hooks of a run, what they read, and that they have no key.
#[tokio::test]
async fn hooks_run_at_their_moments() {
    let note = |event: &str| {
        json!([{ "hooks": [{ "type": "command", "command":
            format!("cat > {event}.json; echo \"${{ANTHROPIC_API_KEY-none}} $CLAUDE_PROJECT_DIR\" > {event}.env") }] }])
    };
    let mut hooks = json!({});
    for event in ["SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop", "SessionEnd"] {
        hooks[event] = note(event);
    }
    let context = json!({ "type": "command", "command": "echo START-WORDS; echo 'export LEFT=behind' >> $CLAUDE_ENV_FILE" });
    hooks["SessionStart"].as_array_mut().unwrap().push(json!({ "matcher": "startup", "hooks": [context] }));
    let world = World::new([bash("echo $LEFT"), Turn::text("Done.")]).await;
    world.write("home/.claude/settings.json", &json!({ "hooks": hooks }).to_string());
    let ran = world.stream(&["-p", "go", "--allowedTools", "Bash"]).await.ended(0);
    let session = ran.result()["session_id"].clone();
    let project = world.path("work/project").to_str().unwrap().to_owned();
    for (event, fields) in [
        ("SessionStart", vec![("source", json!("startup"))]),
        ("UserPromptSubmit", vec![("prompt", json!("go"))]),
        (
            "PreToolUse",
            vec![("tool_name", json!("Bash")), ("tool_input", json!({ "command": "echo $LEFT" }))],
        ),
        ("PostToolUse", vec![("tool_name", json!("Bash"))]),
        ("Stop", vec![("stop_hook_active", json!(false)), ("last_assistant_message", json!("Done."))]),
        ("SessionEnd", vec![("reason", json!("other"))]),
    ] {
        let input: Value = serde_json::from_str(&world.read(&format!("{event}.json"))).unwrap();
        assert_eq!(input["hook_event_name"], event);
        assert_eq!((&input["session_id"], &input["cwd"]), (&session, &json!(project)), "{event}");
        let transcript = input["transcript_path"].as_str().unwrap();
        assert!(transcript.ends_with(&format!("{}.jsonl", session.as_str().unwrap())), "{transcript}");
        for (field, value) in fields {
            assert_eq!(input[field], value, "{event} {field}");
        }
        assert_eq!(world.read(&format!("{event}.env")), format!("none {project}\n"), "{event}");
    }
    assert!(world.model.requests()[0].body.to_string().contains("START-WORDS"));
    let lines = ran.lines();
    assert_eq!(of(&lines, "user")[0]["tool_use_result"]["stdout"], "behind", "variables of a hook");
}

/// Section 4: a denial of a hook.
#[tokio::test]
async fn a_hook_denies() {
    let world = World::new([bash("touch made"), Turn::text("x")]).await;
    let hook = json!({ "type": "command", "command": "echo not here >&2; exit 2" });
    let hooks = json!({ "PreToolUse": [{ "matcher": "Bash", "hooks": [hook] }] });
    world.put(".claude/settings.json", &json!({ "hooks": hooks }).to_string());
    let ran = world.stream(&["-p", "go", "--allowedTools", "Bash"]).await.ended(0);
    assert!(!world.has("made") && ran.out().contains("not here"), "{}", ran.out());
}

/// Section 2, `env`: a repository sets variables of commands, but not where the model is; nothing has the key.
#[tokio::test]
async fn a_repository_cannot_point_elsewhere() {
    let world = World::new([bash("echo $MINE-${ANTHROPIC_API_KEY-none}-$CLAUDECODE"), Turn::text("x")]).await;
    world.trust();
    let env =
        json!({ "MINE": "set", "ANTHROPIC_BASE_URL": "http://127.0.0.1:1", "ANTHROPIC_API_KEY": "theirs" });
    world.put(".claude/settings.json", &json!({ "env": env }).to_string());
    let ran = world.stream(&["-p", "go", "--allowedTools", "Bash"]).await.ended(0);
    let lines = ran.lines();
    assert_eq!(of(&lines, "user")[0]["tool_use_result"]["stdout"], "set-none-1");
    assert_eq!(world.model.requests()[0].header("x-api-key"), Some("sk-of-this-test"));
    assert!(ran.err().contains("ANTHROPIC_BASE_URL"), "{}", ran.err());
}

/// Section 2: `--model` beats `ANTHROPIC_MODEL`, which beats `model` of settings; words of the person to the model.
#[tokio::test]
async fn the_run_says_what_the_model_is_and_hears() {
    for (arguments, variable, model) in [
        (vec![], true, "scripted-model"),
        (vec![], false, "of-settings"),
        (vec!["--model", "of-the-run"], true, "of-the-run"),
    ] {
        let world = World::new([Turn::text("x")]).await;
        world.write("home/.claude/settings.json", r#"{"model":"of-settings"}"#);
        let mut command = world.command(&[&["-p", "go"], &arguments[..]].concat());
        if !variable {
            command.env_remove("ANTHROPIC_MODEL");
        }
        world.run_of(command).await.ended(0);
        assert_eq!(world.model.requests()[0].body["model"], model);
    }
    let world = World::new([Turn::text("x")]).await;
    world
        .run(&["-p", "go", "--system-prompt", "INSTEAD", "--append-system-prompt", "BESIDES"])
        .await
        .ended(0);
    let system = world.model.requests()[0].body["system"].to_string();
    assert!(
        system.contains("INSTEAD") && system.contains("BESIDES") && !system.contains("coding agent"),
        "{system}"
    );
}

/// Section 9.1, `--fallback-model`: where the first one stays overloaded.
#[tokio::test]
async fn another_model_goes_on_for_one_that_is_overloaded() {
    let busy = || Turn::error(529, "busy").header("retry-after", "0");
    let world = World::new((0..3).map(|_| busy()).chain([Turn::text("The other one.")])).await;
    let ran = world.stream(&["-p", "go", "--fallback-model", "another"]).await.ended(0);
    assert_eq!(ran.result()["result"], "The other one.");
    assert_eq!(world.model.requests().last().unwrap().body["model"], "another");
}

/// Section 7: commands of the folder, and skills of the person.
#[tokio::test]
async fn commands_and_skills_of_both_are_there() {
    let world = World::new([Turn::text("x"), Turn::text("y")]).await;
    world.put(".claude/commands/fix.md", "Fix number $ARGUMENTS.");
    world.write(
        "home/.claude/skills/pdf/SKILL.md",
        "---\ndescription: Reads them\n---\nUse ${CLAUDE_SKILL_DIR}/run.",
    );
    let ran = world.stream(&["-p", "/fix 7"]).await.ended(0);
    assert!(world.said(0).contains("Fix number 7."), "{}", world.said(0));
    let lines = ran.lines();
    let init = of(&lines, "system/init")[0];
    assert!(init["slash_commands"].as_array().unwrap().contains(&json!("fix")));
    assert_eq!(init["skills"], json!(["pdf"]));
    world.run(&["-p", "/pdf"]).await.ended(0);
    let folder = world.path("home/.claude/skills/pdf");
    assert!(world.said(1).contains(&format!("Use {}/run.", folder.display())), "{}", world.said(1));
}

/// Section 7.3: a command of ours answers without the model.
#[tokio::test]
async fn a_command_of_ours_is_the_result() {
    let world = World::new([]).await;
    let ran = world.run(&["-p", "/permissions"]).await.ended(0);
    assert!(ran.out().contains("`default`"), "{}", ran.out());
    assert_eq!(world.model.requests().len(), 0);
}

/// Section 7.2, `--agents`: what an agent that was sent does stands under its call.
#[tokio::test]
async fn an_agent_is_sent() {
    let call = json!({ "description": "look", "prompt": "LOOK-HERE", "subagent_type": "looker" });
    let script = testkit::model::Script::default()
        .many_conversations()
        .when(testkit::model::When::last_user("LOOK-HERE"), [bash("echo inner"), Turn::text("Seen.")])
        .when(testkit::model::When::Always, [Turn::tool("Agent", call), Turn::text("Done.")]);
    let world = World::with(script).await;
    let agents = json!({ "looker": { "description": "Looks", "prompt": "You look." } }).to_string();
    let lines = world.stream(&["-p", "go", "--agents", &agents]).await.ended(0).lines();
    let call = of(&lines, "assistant")[0]["message"]["content"][0]["id"].clone();
    let inner: Vec<&Value> = lines.iter().filter(|line| line["parent_tool_use_id"] == call).collect();
    let kinds: Vec<&str> = inner.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["assistant", "user"], "{inner:#?}");
    assert!(lines.iter().any(|line| line["tool_use_result"]["status"] == "completed"));
}

/// Section 8: `.mcp.json` of the folder, `--strict-mcp-config`, and variables of the person.
#[tokio::test]
async fn servers_start_and_are_told() {
    let script =
        "import os, sys; open('server.env', 'w').write(os.environ.get('TOKEN', 'none')); sys.stdin.read()";
    for (arguments, there) in [(vec![], true), (vec!["--strict-mcp-config"], false)] {
        let world = World::new([Turn::text("x")]).await;
        world.put("server.py", script);
        let server =
            json!({ "command": "python3", "args": ["server.py"], "env": { "TOKEN": "${MY_TOKEN}" } });
        world.put(".mcp.json", &json!({ "mcpServers": { "mute": server } }).to_string());
        let arguments =
            [&["-p", "go", "--output-format", "stream-json", "--verbose"], &arguments[..]].concat();
        let mut command = world.command(&arguments);
        command.env("MY_TOKEN", "of-mine").env("MCP_TIMEOUT", "1500");
        let lines = world.run_of(command).await.ended(0).lines();
        let servers = &of(&lines, "system/init")[0]["mcp_servers"];
        assert_eq!(servers.as_array().unwrap().len(), usize::from(there), "{servers}");
        if there {
            assert_eq!(
                (servers[0]["name"].as_str(), servers[0]["status"].as_str()),
                (Some("mute"), Some("failed"))
            );
            assert_eq!(until_written(&world.path("work/project/server.env")).await, "of-mine");
        }
    }
}

/// Section 7.2: an agent that was sent works in the mode and by the rules of the run, unless its kind narrows it.
#[tokio::test]
async fn an_agent_that_was_sent_keeps_to_the_rules_of_the_run() {
    for (mode, made) in [(Value::Null, true), (json!("plan"), false)] {
        let call = json!({ "description": "make", "prompt": "MAKE-IT", "subagent_type": "maker" });
        let write = Turn::tool("Write", json!({ "file_path": "made.md", "content": "x" }));
        let script = testkit::model::Script::default()
            .many_conversations()
            .when(testkit::model::When::last_user("MAKE-IT"), [write, Turn::text("So.")])
            .when(testkit::model::When::Always, [Turn::tool("Agent", call), Turn::text("Done.")]);
        let world = World::with(script).await;
        let agents =
            json!({ "maker": { "description": "Makes", "prompt": "You make.", "permissionMode": mode } });
        let arguments = ["-p", "go", "--permission-mode", "acceptEdits", "--agents", &agents.to_string()];
        world.run(&arguments).await.ended(0);
        assert_eq!(world.has("made.md"), made, "{mode}");
    }
}

/// A repository's link does not bring files of the person to the model.
#[tokio::test]
async fn a_link_out_of_the_folder_is_not_imported() {
    let world = World::new([Turn::text("x")]).await;
    world.write("home/.ssh/id", "THE-PRIVATE-KEY");
    world.put("CLAUDE.md", "See @docs/key.md and @docs/fine.md");
    world.put("docs/fine.md", "FINE");
    std::os::unix::fs::symlink(world.path("home/.ssh/id"), world.path("work/project/docs/key.md")).unwrap();
    world.run(&["-p", "go"]).await.ended(0);
    let said = world.said(0);
    assert!(said.contains("FINE") && !said.contains("THE-PRIVATE-KEY"), "{said}");
}

/// New files have the bits that the person's mask leaves.
#[tokio::test]
async fn new_files_keep_to_the_mask_of_the_person() {
    let write = Turn::tool("Write", json!({ "file_path": "made.md", "content": "x" }));
    let world = World::new([write, Turn::text("x")]).await;
    let run = world.command(&[]);
    let mut command = tokio::process::Command::new("sh");
    command.arg("-c").arg("umask 077; exec \"$@\"").arg("sh").arg(run.as_std().get_program());
    command.args(["-p", "go", "--permission-mode", "acceptEdits"]).current_dir(world.path("work/project"));
    command.env_clear().envs(run.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    world.run_of(command).await.ended(0);
    let about = std::fs::metadata(world.path("work/project/made.md")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o777, 0o600);
}

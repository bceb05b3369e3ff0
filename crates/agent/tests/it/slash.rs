//! Commands and skills: `agent-compat` sections 7.1 and 7.3.

use agent::Library;
use protocol::agent_port::TurnEnd;
use protocol::event::{CommandRan, EventBody};
use protocol::status::TurnStatus;
use serde_json::{Value, json};
use testkit::model::{Script, Turn};

use crate::hands::LocalHands;
use crate::permissions::project;
use crate::stage::Stage;

pub(crate) fn library(files: &[(&str, &str)]) -> Library {
    let files: Vec<_> =
        files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
    let (library, remarks) = Library::read(&files);
    assert_eq!(remarks, Vec::<String>::new());
    library
}

async fn stage(files: &[(&str, &str)], settings: &Value, turns: impl IntoIterator<Item = Turn>) -> Stage {
    let (library, settings) = (library(files), project(settings));
    Stage::with(Script::turns(turns), LocalHands::default(), |config| {
        (config.library, config.settings) = (library.into(), settings);
        config.session = "ses_1".into();
    })
    .await
}

fn ran(stage: &Stage) -> Vec<CommandRan> {
    let only = |body| if let EventBody::CommandRan(ran) = body { Some(ran) } else { None };
    stage.port.bodies().into_iter().filter_map(only).collect()
}

/// The texts of the newest message that the model was sent.
fn newest(stage: &Stage) -> Vec<String> {
    let requests = stage.model.requests();
    let content =
        requests.last().unwrap().body["messages"].as_array().unwrap().last().unwrap()["content"].clone();
    let texts = content.as_array().unwrap().iter();
    texts
        .map(|block| block["text"].as_str().or(block["content"].as_str()).unwrap_or_default().to_owned())
        .collect()
}

/// The last of them.
fn sent(stage: &Stage) -> String {
    newest(stage).pop().unwrap()
}

/// Our own commands are answered without the model, which never hears of them, also after a restart.
#[tokio::test]
async fn answers_without_the_model_are_not_of_the_conversation() {
    let settings = json!({ "permissions": { "deny": ["Bash(rm *)"] } });
    let turns = [Turn::text("one").usage([100, 50, 900, 0]), Turn::text("two"), Turn::text("three")];
    let mut stage = stage(&[(".claude/commands/fix.md", "Fix it.")], &settings, turns).await;
    assert_eq!(stage.turn("first").await, TurnEnd::completed());
    for (command, words) in [
        ("/context", "**Context: 1.0k of 200.0k tokens, 0 %**"),
        ("/cost", "| of these read from the cache | 90 % |"),
        ("/status", "| Permission mode | bypassPermissions |"),
        ("/permissions", "deny (.claude/settings.json): `Bash(rm *)`"),
        ("/help", "- `/fix`: Fix it."),
        ("/clear", "Start a new session from the sidebar"),
        ("/model", "This session works with `scripted-model`"),
        ("/config", "configuration file"),
        ("/vim", "`/vim` isn't available in this environment."),
    ] {
        assert_eq!(stage.turn(command).await, TurnEnd::completed());
        let output = ran(&stage).last().unwrap().output.clone().unwrap();
        assert!(output.contains(words), "{command}: {output}");
    }
    assert_eq!(stage.model.requests().len(), 1);
    assert_eq!(stage.turn("second").await, TurnEnd::completed());
    assert!(!stage.model.requests()[1].body["messages"].to_string().contains("/cost"));
    stage.restart(&stage.port.events()).await;
    assert_eq!(stage.turn("third").await, TurnEnd::completed());
    stage.model.assert_clean();
}

/// A command of the repository: words, commands that run in the sandbox, files of the workspace; a path that
/// leads out stays a word.
#[tokio::test]
async fn a_command_is_filled_in_and_sent_in_place_of_the_prompt() {
    let body = "---\nargument-hint: [issue]\n---\nFix $0 for $ARGUMENTS[1].\nNow: !`echo here; pwd`\n!`exit 3`\n\
                See @notes/a.md, @link, @../outside, @/etc/hostname, @missing";
    let turns = [Turn::text("done"), Turn::text("again"), Turn::text("plain")];
    let mut stage = stage(&[(".claude/commands/ns/fix.md", body)], &json!({}), turns).await;
    stage.write("notes/a.md", "a note");
    std::fs::write(stage.path("../outside"), "hidden words").unwrap();
    std::os::unix::fs::symlink("../outside", stage.path("link")).unwrap();
    assert_eq!(stage.turn("/ns:fix 12 'the team'").await, TurnEnd::completed());
    let sent = newest(&stage).join("\n");
    for words in [
        "<command-name>/ns:fix</command-name>\n<command-args>12 'the team'</command-args>\n\nFix 12 for the team.",
        &format!("Now: here\n{}\n", stage.config.workspace),
        "[`exit 3` failed, exit code 3]",
        &format!("Contents of {}/notes/a.md:\n\na note", stage.config.workspace),
        "@../outside, @/etc/hostname, @missing",
    ] {
        assert!(sent.contains(words), "{words}: {sent}");
    }
    assert_eq!(sent.matches("Contents of").count(), 1, "{sent}");
    assert!(!sent.contains("hidden words"));
    stage.restart(&stage.port.events()).await;
    assert_eq!(stage.turn("on").await, TurnEnd::completed());
    assert_eq!(stage.turn("/unknown thing").await, TurnEnd::completed());
    assert_eq!(newest(&stage), ["/unknown thing"]);
    assert_eq!(ran(&stage).len(), 1);
    stage.model.assert_clean();
}

/// `/init` and `/review` are prompts of ours; a command of the repository with the name stands before them.
#[tokio::test]
async fn our_own_prompts_give_way_to_those_of_the_repository() {
    let turns = [Turn::text("done"), Turn::text("done")];
    let mut stage = stage(&[(".claude/commands/review.md", "Our review.")], &json!({}), turns).await;
    assert_eq!(stage.turn("/init with tests").await, TurnEnd::completed());
    assert!(sent(&stage).contains("CLAUDE.md") && sent(&stage).ends_with("The person adds: with tests"));
    assert_eq!(stage.turn("/review").await, TurnEnd::completed());
    assert!(sent(&stage).ends_with("Our review."));
    stage.model.assert_clean();
}

/// The tool Skill: listed before the first prompt, its text is the result, hooks and rules see it.
#[tokio::test]
async fn the_model_starts_a_skill() {
    let files = [
        (
            ".claude/skills/pdf/SKILL.md",
            "---\ndescription: Makes PDFs\n---\nUse ${CLAUDE_SKILL_DIR}/make.sh $0.",
        ),
        (".claude/skills/secret/SKILL.md", "---\ndescription: no\ndisable-model-invocation: true\n---\nNo."),
        (".claude/skills/denied/SKILL.md", "---\ndescription: Denied\n---\nNo."),
        (".claude/skills/inner/SKILL.md", "---\nuser-invocable: false\n---\nInner."),
    ];
    let settings = json!({ "permissions": { "deny": ["Skill(denied)"] }, "hooks": {
        "PostToolUse": [{ "matcher": "Skill", "hooks": [{ "type": "command", "command": "cat > post" }] }],
    } });
    let skill = |name: &str| Turn::tool("Skill", json!({ "skill": name, "args": "a b" }));
    let turns = [skill("pdf"), skill("secret"), skill("denied"), Turn::text("done")];
    let mut stage = stage(&files, &settings, turns).await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    let first = &stage.model.requests()[0].body;
    let opening = first["messages"][0]["content"][0]["text"].as_str().unwrap();
    assert!(opening.contains("- pdf: Makes PDFs\n") && !opening.contains("secret"), "{opening}");
    assert!(first["tools"].to_string().contains("\"Skill\""));
    let results = stage.port.results();
    let folder = format!("{}/.claude/skills/pdf", stage.config.workspace);
    let text =
        format!("Launching skill: pdf\n\nBase directory for this skill: {folder}\n\nUse {folder}/make.sh a.");
    assert_eq!(results[0].content, text);
    assert!(results[1].content.contains("there is no skill `secret`; there are: denied, inner, pdf"));
    assert_eq!(results[2].detail["denied"]["rule"], "Skill(denied)");
    let post: Value = serde_json::from_str(&stage.read("post")).unwrap();
    assert_eq!(post["tool_response"], json!({ "success": true, "commandName": "pdf", "allowedTools": [] }));
    assert_eq!(stage.turn("/inner").await, TurnEnd::completed());
    assert!(ran(&stage)[0].output.as_ref().unwrap().contains("not for a person"));
    stage.model.assert_clean();
}

/// `allowed-tools` allows for the turn, and never against a rule.
#[tokio::test]
async fn what_a_command_allows_holds_for_its_turn() {
    let body = "---\nallowed-tools: Bash(touch *), Bash(rm *)\n---\n!`touch inside`Go.";
    let settings = json!({ "permissions": { "defaultMode": "dontAsk", "deny": ["Bash(rm *)"] } });
    let bash = |command: &str| Turn::tool("Bash", json!({ "command": command }));
    let turns = [
        bash("touch during"),
        bash("rm during"),
        Turn::text("done"),
        bash("touch after"),
        Turn::text("done"),
    ];
    let mut stage = stage(&[(".claude/commands/go.md", body)], &settings, turns).await;
    assert_eq!(stage.turn("/go").await, TurnEnd::completed());
    assert_eq!(stage.turn("more").await, TurnEnd::completed());
    let made = ["inside", "during", "after"].map(|name| stage.path(name).exists());
    assert_eq!(made, [true, true, false]);
    assert_eq!(stage.port.results()[1].detail["denied"]["rule"], "Bash(rm *)");
    stage.model.assert_clean();
}

/// Commands inside do not run where rules or settings say so; a hook that refuses the prompt comes before them.
#[tokio::test]
async fn commands_inside_are_held_against_rules_and_settings() {
    let files = [(".claude/commands/go.md", "Say !`touch made`")];
    let denied = json!({ "permissions": { "deny": ["Bash(touch *)"] } });
    let mut first = stage(&files, &denied, [Turn::text("done")]).await;
    assert_eq!(first.turn("/go").await, TurnEnd::completed());
    assert!(sent(&first).contains("the rule `Bash(touch *)` of .claude/settings.json denies it"));
    let mut second =
        stage(&files, &json!({ "disableSkillShellExecution": true }), [Turn::text("done")]).await;
    assert_eq!(second.turn("/go").await, TurnEnd::completed());
    assert!(sent(&second).contains("[not run: settings say"));
    let refuse = json!({ "hooks": { "UserPromptSubmit": [{ "hooks": [{ "type": "command", "command": "exit 2" }] }] } });
    let mut third = stage(&files, &refuse, []).await;
    assert_eq!(third.turn("/go").await.status, TurnStatus::Failed);
    for stage in [&first, &second, &third] {
        assert!(!stage.path("made").exists());
        stage.model.assert_clean();
    }
}

/// Commands among prompts that come while the turn runs, also several at once: the same after a restart.
#[tokio::test]
async fn commands_may_come_in_the_middle_of_a_turn() {
    let look = || Turn::tool("Bash", json!({ "command": "true" }));
    let turns = [
        look(),
        Turn::text("done"),
        Turn::text("<summary>So.</summary>"),
        Turn::text("on"),
        Turn::text("again"),
    ];
    let library = library(&[(".claude/commands/fix.md", "Fix $0.")]);
    let script = Script::turns(turns).shortens(1);
    let mut stage =
        Stage::with(script, LocalHands::default(), |config| config.library = library.into()).await;
    stage.port.waiting.lock().unwrap().extend(["/fix 7", "and this", "/cost"]);
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    let texts = newest(&stage);
    assert!(texts[1].ends_with("Fix 7.") && texts[2] == "and this" && texts.len() == 3, "{texts:?}");
    stage.restart(&stage.port.events()).await;
    assert_eq!(stage.turn("/compact").await, TurnEnd::completed());
    let asked = stage.model.requests()[2].body["messages"].to_string();
    assert!(asked.contains("Fix 7.") && !asked.contains("/cost") && !asked.contains("/compact"), "{asked}");
    assert_eq!(stage.turn("on").await, TurnEnd::completed());
    stage.restart(&stage.port.events()).await;
    assert_eq!(stage.turn("again").await, TurnEnd::completed());
    stage.model.assert_clean();
}

//! Rules of settings files, as they meet the tools: `agent-compat` section 3.

use agent::{Scope, Settings, SettingsFile};
use protocol::agent_port::TurnEnd;
use protocol::event::EventBody;
use serde_json::{Value, json};
use testkit::model::{Script, Turn};

use crate::hands::LocalHands;
use crate::stage::Stage;

/// A repository's settings.
pub(crate) fn project(value: &Value) -> Settings {
    let bytes = value.to_string().into_bytes();
    let file = SettingsFile { name: ".claude/settings.json".into(), scope: Scope::Project, bytes };
    let (settings, remarks) = Settings::read(&[file]).unwrap();
    assert_eq!(remarks, Vec::<String>::new());
    settings
}

pub(crate) async fn stage(settings: &Value, turns: impl IntoIterator<Item = Turn>) -> Stage {
    let settings = project(settings);
    Stage::with(Script::turns(turns), LocalHands::default(), |config| {
        config.settings = settings;
        config.session = "ses_1".into();
    })
    .await
}

fn bash(command: &str) -> Turn {
    Turn::tool("Bash", json!({ "command": command }))
}

/// "Order": what is denied is a result that says which rule of which file; the rest runs freely.
#[tokio::test]
async fn a_denial_names_its_rule_and_its_file() {
    let settings =
        json!({ "permissions": { "deny": ["Bash(rm *)", "Read(./secret.txt)", "WebFetch", "TodoWrite"] } });
    let turns = [
        bash("echo begun > made; rm made"),
        Turn::tool("Read", json!({ "file_path": "secret.txt" })),
        Turn::tool("Read", json!({ "file_path": "link" })),
        Turn::tool("Grep", json!({ "pattern": "hidden", "path": "secret.txt" })),
        bash("cat ./secret.txt"),
        bash("echo fine > made"),
        Turn::text("ok"),
    ];
    let mut stage = stage(&settings, turns).await;
    stage.write("secret.txt", "hidden words");
    std::os::unix::fs::symlink("secret.txt", stage.path("link")).unwrap();
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    let results = stage.port.results();
    assert!(results[..5].iter().all(|result| result.is_error), "{results:#?}");
    let words = &results[0].content;
    assert!(
        words.contains("Bash was not run: the rule `Bash(rm *)` of .claude/settings.json denies it"),
        "{words}"
    );
    assert_eq!(results[0].detail["denied"]["rule"], "Bash(rm *)");
    for result in &results[1..5] {
        assert_eq!(result.detail["denied"]["rule"], "Read(./secret.txt)", "{}", result.content);
    }
    let all: String = results.iter().map(|result| result.content.as_str()).collect();
    assert!(!all.contains("hidden words"));
    assert_eq!(stage.read("made"), "fine\n", "nothing of the first command ran");
    let tools = stage.model.requests()[0].body["tools"].clone();
    let names: Vec<&str> =
        tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"Bash") && !names.contains(&"TodoWrite"), "a tool denied whole is not offered");
    assert!(stage.port.asked.lock().unwrap().is_empty());
    stage.model.assert_clean();
}

/// An `ask` rule becomes a question to the person; without a yes nothing runs.
#[tokio::test]
async fn a_question_is_asked_and_its_answer_holds() {
    let settings = json!({ "permissions": { "ask": ["Bash(git push *)"], "allow": ["Bash(git push *)"] } });
    let turns = [
        bash("git push a || echo pushed > a"),
        bash("git push b || echo pushed > b"),
        bash("git push c"),
        Turn::text("ok"),
    ];
    let mut stage = stage(&settings, turns).await;
    stage.port.answers.lock().unwrap().extend(["allow", "deny"]);
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    assert!(stage.path("a").exists() && !stage.path("b").exists());
    let asked = stage.port.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 3);
    assert!(
        asked[0].contains("git push a")
            && asked[0].contains("`Bash(git push *)` of .claude/settings.json asks first"),
        "{}",
        asked[0]
    );
    let results = stage.port.results();
    assert!(results[1].content.contains("the person refused it"), "{}", results[1].content);
    assert!(results[2].content.contains("nobody answered in time"), "{}", results[2].content);
    stage.model.assert_clean();
}

/// Readers that run together ask one after the other.
#[tokio::test]
async fn several_questions_come_one_after_the_other() {
    let settings = json!({ "permissions": { "ask": ["Read(*.env)"] } });
    let both =
        Turn::tool("Read", json!({ "file_path": "a.env" })).and_tool("Read", json!({ "file_path": "b.env" }));
    let mut stage = stage(&settings, [both, Turn::text("ok")]).await;
    stage.write("a.env", "A=1");
    stage.write("b.env", "B=1");
    stage.port.answers.lock().unwrap().extend(["allow", "allow"]);
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    assert_eq!(stage.port.asked.lock().unwrap().len(), 2);
    assert!(stage.port.results().iter().all(|result| !result.is_error));
    stage.model.assert_clean();
}

/// "Modes": a repository may say `plan`; nothing is changed then, and what only looks runs.
#[tokio::test]
async fn nothing_is_changed_in_the_mode_plan() {
    let settings = json!({ "permissions": { "defaultMode": "plan" } });
    let turns = [
        Turn::tool("Write", json!({ "file_path": "a", "content": "x" })),
        bash("cat README.md"),
        bash("make"),
        Turn::text("ok"),
    ];
    let mut stage = stage(&settings, turns).await;
    stage.write("README.md", "words");
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    let results = stage.port.results();
    assert!(
        results[0].content.contains("nothing is changed in the mode `plan`") && !stage.path("a").exists()
    );
    assert_eq!(results[1].content, "words");
    assert!(results[2].content.contains("no rule allows `make`"), "{}", results[2].content);
    assert_eq!(stage.port.asked.lock().unwrap().len(), 1);
}

/// Section 2, `env`: of commands, and not over what the session sets.
#[tokio::test]
async fn variables_of_settings_reach_commands() {
    let settings = project(&json!({ "env": { "FROM": "settings", "TAKEN": "settings" } }));
    let turns = [bash("echo $FROM $TAKEN"), Turn::text("ok")];
    let mut stage = Stage::with(Script::turns(turns), LocalHands::default(), |config| {
        config.settings = settings;
        config.tool_env = vec![("TAKEN".into(), "session".into())];
    })
    .await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    assert_eq!(stage.port.results()[0].content, "settings session");
    let errors = stage.port.bodies().into_iter().filter(|body| matches!(body, EventBody::Error(_))).count();
    assert_eq!(errors, 0);
}

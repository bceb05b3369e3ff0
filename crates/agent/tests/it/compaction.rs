//! The conversation becomes shorter: `agent-compat` section 12.

use protocol::agent_port::TurnEnd;
use protocol::event::{Compaction, CompactionTrigger, EventBody};
use protocol::status::TurnStatus;
use serde_json::{Value, json};
use testkit::model::{Script, Turn};

use crate::hands::LocalHands;
use crate::permissions::project;
use crate::stage::Stage;

async fn stage(settings: &Value, shortens: usize, turns: impl IntoIterator<Item = Turn>) -> Stage {
    let settings = project(settings);
    Stage::with(Script::turns(turns).shortens(shortens), LocalHands::default(), |config| {
        config.settings = settings;
        config.memory = agent::memory::Sources::of(["AGENTS.md"]).read(|_| Some("Be brief.".into())).0.into();
    })
    .await
}

fn compactions(stage: &Stage) -> Vec<Compaction> {
    let only =
        |body| if let EventBody::ContextCompacted(compaction) = body { Some(compaction) } else { None };
    stage.port.bodies().into_iter().filter_map(only).collect()
}

/// What commands said to the person.
fn outputs(stage: &Stage) -> Vec<String> {
    let only = |body| if let EventBody::CommandRan(ran) = body { ran.output } else { None };
    stage.port.bodies().into_iter().filter_map(only).collect()
}

fn last_messages(stage: &Stage) -> Vec<Value> {
    stage.model.requests().last().unwrap().body["messages"].as_array().unwrap().clone()
}

fn bash(command: &str) -> Turn {
    Turn::tool("Bash", json!({ "command": command }))
}

fn summary(text: &str) -> Turn {
    Turn::text(&format!("<analysis>hm</analysis><summary>{text}</summary>"))
}

/// `/compact focus`: one request that begins with the bytes of the one before, and the conversation goes on
/// with the summary, the same in a new process.
#[tokio::test]
async fn the_person_has_it_summed_up() {
    let write = Turn::tool("Write", json!({ "file_path": "new.txt", "content": "x" })).and_tool(
        "TodoWrite",
        json!({ "todos": [{ "content": "Test it", "status": "pending", "activeForm": "Testing" }] }),
    );
    let turns = [
        bash("echo marvellous"),
        write,
        Turn::text("done"),
        summary("An echo."),
        Turn::text("2"),
        Turn::text("3"),
    ];
    let mut stage = stage(&json!({}), 1, turns).await;
    assert_eq!(stage.turn("first").await, TurnEnd::completed());
    assert_eq!(stage.turn("/compact the echo").await, TurnEnd::completed());
    let asked = last_messages(&stage);
    let question = asked.last().unwrap()["content"].to_string();
    assert!(question.contains("<summary>") && question.contains("kept above all: the echo"), "{question}");
    assert_eq!(asked.len(), 7, "the whole conversation before it");
    assert!(!asked[..6].iter().any(|message| message.to_string().contains("/compact")));
    assert_eq!(compactions(&stage)[0].trigger, CompactionTrigger::Manual);
    assert_eq!(stage.turn("second").await, TurnEnd::completed());
    let after = last_messages(&stage);
    assert_eq!(after.len(), 1);
    let text = after[0]["content"].to_string();
    for words in ["Be brief.", "An echo.", "first", "second", "new.txt", "Test it (pending)"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    for words in ["marvellous", "/compact", "<analysis>"] {
        assert!(!text.contains(words), "{words}: {text}");
    }
    stage.restart(&stage.port.events()).await;
    assert_eq!(stage.turn("third").await, TurnEnd::completed());
    stage.model.assert_clean();
}

/// The first stage: the window is nearly full, and results of long ago are enough to make room.
#[tokio::test]
async fn old_results_are_left_out_first() {
    let settings = json!({ "env": { "CLAUDE_AUTOCOMPACT_PCT_OVERRIDE": "50" } });
    // 7,000 tokens a result: six are within the newest 40,000.
    let calls =
        (0..10).map(|number| bash(&format!("echo number {number}; head -c 28000 /dev/zero | tr '\\0' x")));
    let calls = calls.collect::<Vec<_>>().into_iter().enumerate();
    let calls = calls.map(|(at, call)| if at == 9 { call.usage([101_000, 10, 0, 0]) } else { call });
    let turns = calls.chain([bash("echo more"), Turn::text("done"), Turn::text("again")]);
    let mut stage = stage(&settings, 1, turns).await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    let all = compactions(&stage);
    assert_eq!((all.len(), all[0].summary.as_ref(), all[0].left_out.len()), (1, None, 5));
    assert!(all[0].tokens_before > 101_000);
    let messages = stage.model.requests()[10].body["messages"].to_string();
    assert_eq!(messages.matches("[left out to make room").count(), 5);
    assert!(!messages.contains("number 4\\nx") && messages.contains("number 5\\nx"));
    stage.restart(&stage.port.events()).await;
    assert_eq!(stage.turn("on").await, TurnEnd::completed());
    stage.model.assert_clean();
}

/// The second stage, between two requests of a turn: the prompt stays word for word.
#[tokio::test]
async fn a_full_window_is_summed_up_within_a_turn() {
    let settings = json!({ "env": { "CLAUDE_AUTOCOMPACT_PCT_OVERRIDE": "50" } });
    let turns = [
        bash("echo one").usage([90_000, 10, 0, 0]),
        bash("echo two").usage([10, 10, 100_000, 0]),
        summary("Two echoes."),
        bash("echo three").usage([20, 10, 0, 0]),
        Turn::text("done"),
    ];
    let mut stage = stage(&settings, 1, turns).await;
    assert_eq!(stage.turn("count the echoes").await, TurnEnd::completed());
    assert_eq!(compactions(&stage).len(), 1);
    assert_eq!(compactions(&stage)[0].trigger, CompactionTrigger::Auto);
    let after = stage.model.requests()[3].body["messages"].to_string();
    assert!(after.contains("Two echoes.") && after.contains("count the echoes"), "{after}");
    assert!(!after.contains("echo two"), "{after}");
    stage.model.assert_clean();
}

/// "DISABLE_AUTO_COMPACT": then only the person makes it shorter.
#[tokio::test]
async fn nothing_happens_by_itself_where_that_is_off() {
    let settings = json!({ "env": { "DISABLE_AUTO_COMPACT": "1" } });
    let too_long = Turn::error(400, "prompt is too long: 210000 tokens > 200000 maximum");
    let turns = [
        bash("true").usage([900_000, 1, 0, 0]),
        Turn::text("done"),
        too_long,
        summary("So."),
        Turn::text("ok"),
    ];
    let mut stage = stage(&settings, 1, turns).await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    assert_eq!(stage.turn("go").await.status, TurnStatus::Failed);
    assert!(compactions(&stage).is_empty());
    assert_eq!(stage.turn("/compact").await, TurnEnd::completed());
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    stage.model.assert_clean();
}

/// The model says that the prompt is too long: results are left out of the question, and the turn goes on.
#[tokio::test]
async fn a_prompt_that_is_too_long_is_summed_up_and_the_turn_goes_on() {
    let too_long = || Turn::error(400, "prompt is too long: 210000 tokens > 200000 maximum");
    let calls = (0..8).map(|number| bash(&format!("echo result {number}")));
    let turns = calls.chain([too_long(), too_long(), summary("Eight."), Turn::text("done")]);
    let mut stage = stage(&json!({}), 2, turns).await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    assert_eq!(compactions(&stage)[0].trigger, CompactionTrigger::Auto);
    let requests = stage.model.requests();
    let question = requests[10].body["messages"].to_string();
    assert!(question.contains("[left out") && question.contains("result 7"), "{question}");
    assert_eq!(requests.len(), 12);
    stage.model.assert_clean();
}

/// An answer that fills the window is no end.
#[tokio::test]
async fn an_answer_that_fills_the_window_is_gone_on_with() {
    let full = Turn::text("and so").stop_reason("model_context_window_exceeded");
    let mut stage = stage(&json!({}), 1, [bash("true"), full, summary("So far."), Turn::text("done")]).await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    assert_eq!(stage.port.last_text(), "done");
    stage.model.assert_clean();
}

/// PreCompact: exit 2 keeps the conversation as it is. SessionStart with the source `compact` and PostCompact run.
#[tokio::test]
async fn hooks_see_it_and_can_keep_the_conversation() {
    let command = |text: &str| json!([{ "type": "command", "command": text }]);
    let pre = "cat > pre; if [ -e may ]; then exit 0; fi; echo 'not yet' >&2; exit 2";
    let settings = json!({ "hooks": {
        "PreCompact": [{ "matcher": "manual", "hooks": command(pre) }, { "matcher": "auto", "hooks": command("touch never") }],
        "SessionStart": [{ "matcher": "compact", "hooks": command("echo the tests run with make check") }],
        "PostCompact": [{ "hooks": command("cat > post") }],
    } });
    let turns =
        [bash("true"), Turn::text("done"), Turn::text("again"), summary("All true."), Turn::text("ok")];
    let mut stage = stage(&settings, 1, turns).await;
    assert_eq!(stage.turn("/compact").await, TurnEnd::completed());
    assert_eq!(outputs(&stage), ["There is not enough in this conversation to sum up yet."]);
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    assert_eq!(stage.turn("/compact tests").await, TurnEnd::completed());
    assert!(outputs(&stage)[1].contains("not yet"), "{:?}", outputs(&stage));
    let read = |name: &str| -> Value { serde_json::from_str(&stage.read(name)).unwrap() };
    assert_eq!(
        (&read("pre")["trigger"], &read("pre")["custom_instructions"]),
        (&json!("manual"), &json!("tests"))
    );
    assert!(compactions(&stage).is_empty() && !stage.path("post").exists());
    assert_eq!(stage.turn("on").await, TurnEnd::completed());
    assert!(!stage.model.requests().last().unwrap().body["messages"].to_string().contains("/compact"));
    stage.write("may", "");
    assert_eq!(stage.turn("/compact").await, TurnEnd::completed());
    let post: Value = serde_json::from_str(&stage.read("post")).unwrap();
    assert_eq!((&post["trigger"], &post["compact_summary"]), (&json!("manual"), &json!("All true.")));
    assert_eq!(stage.turn("on").await, TurnEnd::completed());
    assert!(last_messages(&stage)[0].to_string().contains("the tests run with make check"));
    assert!(!stage.path("never").exists());
    stage.model.assert_clean();
}

/// A summary that fails leaves everything as it was.
#[tokio::test]
async fn a_failed_summary_changes_nothing() {
    let turns = [bash("true"), Turn::text("done"), bash("touch never"), Turn::text("again")];
    let mut stage = stage(&json!({}), 1, turns).await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    let end = stage.turn("/compact").await;
    assert!(end.message.unwrap().contains("gave no summary") && !stage.path("never").exists());
    assert_eq!(stage.turn("on").await, TurnEnd::completed());
    assert!(compactions(&stage).is_empty());
    stage.model.assert_clean();
}

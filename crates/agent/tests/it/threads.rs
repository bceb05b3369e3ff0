//! Agents that the agent sends to work: `agent-compat` sections 5 (Agent) and 7.2.

use model_gateway::scripted::Gate;
use protocol::agent_port::{Agent, TurnEnd};
use protocol::event::{EventBody, ThreadEnded, ToolResult};
use protocol::status::{StopReason, TurnStatus};
use protocol::view::SessionView;
use serde_json::{Value, json};
use testkit::model::{Script, Turn, When};

use crate::hands::LocalHands;
use crate::permissions::project;
use crate::slash::library;
use crate::stage::Stage;

const REVIEW: &str =
    "---\nname: review\ndescription: Reviews code\ntools: Read, Write\nmaxTurns: 2\n---\nYou review.";

async fn stage(script: Script, settings: &Value) -> Stage {
    let (library, settings) = (library(&[(".claude/agents/review.md", REVIEW)]), project(settings));
    Stage::with(script.many_conversations(), LocalHands::default(), |config| {
        (config.library, config.settings) = (library.into(), settings);
    })
    .await
}

fn send(turn: Turn, kind: &str, prompt: &str) -> Turn {
    turn.and_tool("Agent", json!({ "description": "a part", "prompt": prompt, "subagent_type": kind }))
}

fn read(path: &str) -> Turn {
    Turn::tool("Read", json!({ "file_path": path }))
}

/// Kinds of what happened in threads.
fn inside(stage: &Stage) -> Vec<String> {
    let only = |body| {
        if let EventBody::ThreadEvent(inner) = body { Some(inner.event.kind().to_owned()) } else { None }
    };
    stage.port.bodies().into_iter().filter_map(only).collect()
}

fn inner_results(stage: &Stage) -> Vec<ToolResult> {
    let only = |body| match body {
        EventBody::ThreadEvent(inner) => match *inner.event {
            EventBody::ToolResult(result) => Some(result),
            _ => None,
        },
        _ => None,
    };
    stage.port.bodies().into_iter().filter_map(only).collect()
}

fn ends(stage: &Stage) -> Vec<ThreadEnded> {
    let only = |body| if let EventBody::ThreadEnded(ended) = body { Some(ended) } else { None };
    stage.port.bodies().into_iter().filter_map(only).collect()
}

/// Those that only look work at the same time; the main conversation has nothing of theirs but their last words, and
/// the session's usage has all of it.
#[tokio::test]
async fn readers_work_at_the_same_time_in_threads_of_the_log() {
    let gate = Gate::closed();
    let opening = gate.clone();
    let both = send(send(Turn::text("I send two."), "Explore", "find one"), "Plan", "plan two");
    let script = Script::default()
        // The first is not answered before the second one has asked.
        .when(
            When::last_user("find one"),
            [read("a.rs").hold(0, &gate).usage([1_000, 1, 0, 0]), Turn::text("One is in a.rs:1.")],
        )
        .when(
            When::last_user("plan two"),
            [Turn::computed(move |_| {
                opening.open();
                Turn::text("Two steps.").usage([500, 1, 0, 0])
            })],
        )
        .when(When::Always, [both, Turn::text("done"), Turn::text("again")]);
    let mut stage = stage(script, &json!({})).await;
    stage.write("a.rs", "fn one() {}\n");
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    let results = stage.port.results();
    let said: Vec<&str> = stage
        .port
        .calls()
        .iter()
        .map(|call| results.iter().find(|result| result.call == call.call).unwrap().content.as_str())
        .collect();
    assert_eq!(said, ["One is in a.rs:1.", "Two steps."]);
    assert_eq!(results.len(), 2, "those of threads are wrapped");
    assert_eq!(inside(&stage).iter().filter(|kind| *kind == "usage").count(), 3);
    let requests = stage.model.requests();
    let first = requests.iter().find(|request| request.body.to_string().contains("find one\"")).unwrap();
    let tools: Vec<&str> =
        first.body["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    if first.body["system"].to_string().contains("look things up") {
        assert_eq!(tools, ["Read", "Glob", "Grep"]);
    }
    let events = stage.port.events();
    let total: u64 = ends(&stage).iter().map(|end| end.usage.input_tokens).sum();
    assert_eq!((ends(&stage).len(), ends(&stage).iter().map(|end| end.tool_uses).sum::<u64>()), (2, 1));
    assert!(total >= 1_500, "{total}");
    assert!(SessionView::begin(&events[0]).is_none());
    stage.restart(&events).await;
    assert_eq!(stage.turn("again").await, TurnEnd::completed());
    assert!(!stage.model.requests().last().unwrap().body["messages"].to_string().contains("fn one"));
    stage.model.assert_clean();
}

/// Section 7.2: own tools and prompt, an end after so many requests; rules and hooks hold inside.
#[tokio::test]
async fn a_kind_has_its_tools_and_its_end_and_rules_hold() {
    let command = |text: &str| json!([{ "type": "command", "command": text }]);
    let settings = json!({ "permissions": { "deny": ["Read(secret.txt)"] }, "hooks": {
        "SubagentStart": [{ "matcher": "review", "hooks": command("cat > start; echo '{\"hookSpecificOutput\":{\"hookEventName\":\"SubagentStart\",\"additionalContext\":\"be strict\"}}'") }],
        "PreToolUse": [{ "matcher": "Read", "hooks": command("cat > pre") }],
        "SubagentStop": [{ "hooks": command("cat > stop") }],
        "Stop": [{ "hooks": command("cat > end") }],
    } });
    let tries = Turn::tool("Bash", json!({ "command": "touch made" }))
        .and_tool("Agent", json!({ "description": "x", "prompt": "x" }))
        .and_tool("Read", json!({ "file_path": "secret.txt" }));
    let script = Script::default()
        .when(
            When::last_user("review it|be strict"),
            [tries, Turn::text("It is fine."), read("x"), read("x")],
        )
        .when(
            When::Always,
            [
                send(Turn::empty(), "review", "review it"),
                send(Turn::empty(), "review", "review it"),
                send(Turn::empty(), "nobody", "x"),
                Turn::text("done"),
            ],
        );
    // Two threads of one kind have one system prompt.
    let mut stage = stage(script.shortens(1), &settings).await;
    stage.write("secret.txt", "hidden words");
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    let inner = inner_results(&stage);
    assert!(
        inner[0].content.contains("no tool named `Bash`")
            && inner[1].content.contains("no tool named `Agent`")
    );
    assert_eq!(inner[2].detail["denied"]["rule"], "Read(secret.txt)");
    assert!(!stage.path("made").exists());
    let results = stage.port.results();
    assert_eq!(results[0].content, "It is fine.");
    assert!(
        results[1].is_error && results[1].content.contains("ended early: the turn reached its limit of 2")
    );
    assert!(
        results[2]
            .content
            .contains("there is no agent `nobody`; there are: Explore, Plan, general-purpose, review")
    );
    assert_eq!(
        ends(&stage).iter().map(|end| end.status).collect::<Vec<_>>(),
        [TurnStatus::Completed, TurnStatus::Limit]
    );
    let json = |name: &str| -> Value { serde_json::from_str(&stage.read(name)).unwrap() };
    let call = &stage.port.calls()[1].call;
    for name in ["start", "pre"] {
        assert_eq!(
            (&json(name)["agent_id"], &json(name)["agent_type"]),
            (&json!(call), &json!("review")),
            "{name}"
        );
    }
    assert_eq!(
        (&json("stop")["last_assistant_message"], &json("stop")["agent_type"]),
        (&json!("It is fine."), &json!("review"))
    );
    assert_eq!(
        (&json("end")["last_assistant_message"], &json("end")["agent_id"]),
        (&json!("done"), &Value::Null)
    );
    let asked = stage.model.requests()[1].body.clone();
    assert!(asked["system"][0]["text"].as_str().unwrap().starts_with("You review."));
    assert!(asked["messages"].to_string().contains("be strict"));
    stage.model.assert_clean();
}

/// A process that died in the middle of a thread: the next one goes on where it was.
#[tokio::test]
async fn a_thread_is_gone_on_with_out_of_the_log() {
    let script = || {
        Script::default()
            .when(
                When::last_user("write it"),
                [Turn::tool("Write", json!({ "file_path": "a", "content": "x" })), Turn::text("Written.")],
            )
            .when(When::Always, [send(Turn::empty(), "general-purpose", "write it"), Turn::text("done")])
    };
    let mut stage = stage(script(), &json!({})).await;
    let input = stage.accept("go");
    assert_eq!(stage.agent.turn(input.clone(), &*stage.port, stage.stop.clone()).await, TurnEnd::completed());
    let whole = stage.port.events();
    let requests = stage.model.requests();
    // Cut after every append of the turn; the newest answer of the model may be asked for again.
    let appends = stage.port.appends.lock().unwrap().clone();
    let cuts = appends.iter().scan(0, |sum, count| {
        *sum += count;
        Some(*sum)
    });
    for cut in cuts.filter(|cut| (3..whole.len()).contains(cut)) {
        let restored = Script::default()
            .when(When::last_user("write it"), [Turn::text("Written.")])
            .when(When::last_tool_result("Written"), [Turn::text("done")])
            .when(When::Always, [send(Turn::empty(), "general-purpose", "write it"), Turn::text("done")]);
        let mut again = self::stage(restored, &json!({})).await;
        again.restart(&whole[..cut]).await;
        let input = protocol::agent_port::TurnInput { resumed: true, ..input.clone() };
        let end = again.agent.turn(input, &*again.port, again.stop.clone()).await;
        assert_eq!(end, TurnEnd::completed(), "cut at {cut}");
        let started =
            again.port.bodies().iter().filter(|body| matches!(body, EventBody::ThreadStarted(_))).count();
        let before =
            whole[..cut].iter().filter(|event| matches!(event.body, EventBody::ThreadStarted(_))).count();
        assert_eq!(started + before, 1, "cut at {cut}");
        let violations = again.model.violations();
        assert_eq!(violations, Vec::<String>::new(), "cut at {cut}");
    }
    assert_eq!(requests.len(), 4);
    stage.model.assert_clean();
}

/// What threads use counts against the turn.
#[tokio::test]
async fn a_turn_ends_at_its_budget_with_its_threads() {
    let script = Script::default()
        .when(
            When::last_user("look"),
            [read("a").usage([600, 0, 0, 0]), Turn::text("Looked.").usage([600, 0, 0, 0])],
        )
        .when(When::Always, [send(Turn::empty(), "Explore", "look").usage([10, 0, 0, 0])]);
    let mut stage = stage(script, &json!({})).await;
    stage.config.caps.tokens = Some(1_000);
    stage.agent = agent::PatchyardAgent::new(stage.config.clone());
    let end = stage.turn("go").await;
    assert_eq!((end.status, end.stop_reason), (TurnStatus::Limit, StopReason::Budget));
    assert!(end.message.unwrap().contains("may use 1000"));
    assert_eq!(stage.model.requests().len(), 3);
    stage.model.assert_clean();
}

/// A stop reaches a command of a thread; every call has its result, inside and outside.
#[tokio::test]
async fn a_stop_ends_threads_too() {
    let script = Script::default()
        .when(When::last_user("sleep"), [Turn::tool("Bash", json!({ "command": "echo begun; sleep 100" }))])
        .when(When::Always, [send(Turn::empty(), "general-purpose", "sleep"), Turn::text("on")]);
    let mut stage = stage(script, &json!({})).await;
    let stop = stage.stop.clone();
    *stage.port.on_live.lock().unwrap() = Some(Box::new(move |_| stop.cancel()));
    assert_eq!(stage.turn("go").await, TurnEnd::interrupted());
    assert_eq!((inner_results(&stage).len(), stage.port.results().len()), (1, 1));
    assert_eq!(ends(&stage)[0].status, TurnStatus::Interrupted);
    stage.stop = tokio_util::sync::CancellationToken::new();
    assert_eq!(stage.turn("on").await, TurnEnd::completed());
    stage.model.assert_clean();
}

//! Prompts that are sent while the agent works.
//!
//! ```text
//!  request 1 ── held ──▶ Bash ──▶ request 2: its result, and what was said meanwhile ──▶ end ──▶ the rest
//!     prompts come, are changed and taken back
//! ```

use protocol::event::EventBody;
use protocol::status::TurnStatus;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::harness::{Answer, Part, Resume, TestServer};
use testkit::model::{Gate, Script, ScriptedModel, Turn, When};

use crate::world::{bash, check_log, completed, ends, results, serve, small_repo};

/// Texts of the user in the newest message of a request.
fn said(body: &Value) -> Vec<&str> {
    let last = body["messages"].as_array().unwrap().last().unwrap();
    let blocks = last["content"].as_array().unwrap().iter();
    blocks.filter(|block| block["type"] == "text").map(|block| block["text"].as_str().unwrap()).collect()
}

/// The prompts that turns began with, and those that were handed over, in order.
fn taken(events: &[protocol::event::Event]) -> (Vec<String>, Vec<String>) {
    let text = |wanted| {
        events
            .iter()
            .rev()
            .find_map(|event| match &event.body {
                EventBody::PromptQueued { prompt, text, .. }
                | EventBody::PromptEdited { prompt, text, .. }
                    if *prompt == wanted =>
                {
                    Some(text.clone())
                }
                _ => None,
            })
            .unwrap()
    };
    let (mut begun, mut delivered) = (Vec::new(), Vec::new());
    for event in events {
        match event.body {
            EventBody::TurnStarted { prompt } => begun.push(text(prompt)),
            EventBody::PromptDelivered { prompt } => delivered.push(text(prompt)),
            _ => {}
        }
    }
    (begun, delivered)
}

async fn send(server: &TestServer, path: &str, text: &str, delivery: &str) -> String {
    let body = json!({ "text": text, "delivery": delivery });
    let accepted: Value = server.post(path, &body).await.is(202).json();
    accepted["prompt"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_reaches_the_agent_with_the_next_results_and_can_be_changed_until_then() {
    let gate = Gate::closed();
    let script = Script::default()
        .when(When::last_user("^begin"), [bash("echo one").hold(0, &gate)])
        .when(When::last_user("^rather this"), [Turn::text("heard")])
        .when(When::last_user("^afterwards"), [Turn::text("done")]);
    let model = ScriptedModel::start(script).await;
    let server = serve().model(&model).start().await;
    let session = server.create(&small_repo("steered"), "begin").await;
    let path = format!("/sessions/{session}/prompts");
    model.wait_for_requests(1).await;
    send(&server, &path, "afterwards", "later").await;
    let first = server.prompt(session, "this").await.prompt.to_string();
    let second = server.prompt(session, "never that").await.prompt.to_string();

    let id = session.to_string();
    let queue = server.cli(&["sessions", "queue", &id]).await.exits(0).text();
    assert!(queue.contains("later  afterwards") && queue.contains("next   never that"), "{queue}");
    server.cli(&["sessions", "edit-prompt", &id, &first, "rather this"]).await.exits(0);
    server.cli(&["sessions", "cancel-prompt", &id, &second]).await.exits(0);
    server.cli(&["sessions", "edit-prompt", &id, &first]).await.exits(2);
    let queued: Value = server.get(&path).await.is(200).json();
    let texts: Vec<_> = queued["prompts"].as_array().unwrap().iter().map(|prompt| &prompt["text"]).collect();
    assert_eq!(texts, ["afterwards", "rather this"]);
    assert_eq!(server.session(session).await.queued_prompts, 2);

    gate.open();
    let events = server.until_rest(session, 2).await;
    completed(&events);
    let (begun, delivered) = taken(&events);
    assert_eq!((begun, delivered), (vec!["begin".into(), "afterwards".into()], vec!["rather this".into()]));
    let requests = model.requests();
    assert_eq!(said(&requests[1].body), ["rather this"]);
    assert_eq!(
        requests[1].body["messages"].as_array().unwrap().last().unwrap()["content"][0]["type"],
        "tool_result"
    );
    // What was taken cannot be changed any more.
    let change = |method| server.request(method, &format!("{path}/{first}"));
    Answer::to(change(Method::PATCH).json(&json!({ "text": "too late" })))
        .await
        .is_problem(409, "prompt_taken");
    Answer::to(change(Method::DELETE)).await.is_problem(409, "prompt_taken");
    let empty: Value = server.get(&path).await.is(200).json();
    assert_eq!(empty["prompts"], json!([]));
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_cannot_wait_interrupts_the_turn_and_goes_before_the_others() {
    let script = Script::default()
        .when(When::last_user("^begin"), [bash("echo started; sleep 600")])
        .when(When::last_user("^at once"), [Turn::text("here")])
        .when(When::last_user("^patient"), [Turn::text("there")]);
    let model = ScriptedModel::start(script).await;
    let server = serve().model(&model).start().await;
    let session = server.create(&small_repo("urgent"), "begin").await;
    server.follow(session, Resume::After(0)).await.until_output("started").await;
    server.prompt(session, "patient").await;
    server.cli(&["sessions", "prompt", &session.to_string(), "at once", "--now"]).await.exits(0);
    let events = server.until_rest(session, 3).await;
    completed(&events);
    assert_eq!(ends(&events)[0].status, TurnStatus::Interrupted);
    assert!(results(&events)[0].content.contains("interrupted"), "{:?}", results(&events)[0]);
    assert_eq!(taken(&events).0, ["begin", "at once", "patient"]);
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_accepted_once_by_its_key_also_over_a_crash() {
    let gate = Gate::closed();
    let script = Script::default()
        .when(When::last_user("^begin"), [Turn::text("never said").hold(0, &gate), Turn::text("one")])
        .when(When::last_user("^once"), [Turn::text("two")]);
    let model = ScriptedModel::start(script).await;
    let mut server = serve().model(&model).start().await;
    let session = server.create(&small_repo("keyed"), "begin").await;
    model.wait_for_requests(1).await;
    let path = format!("/sessions/{session}/prompts");
    let keyed = |server: &TestServer, body: Value| {
        Answer::to(server.request(Method::POST, &path).header("idempotency-key", "k1").json(&body))
    };
    let first: Value = keyed(&server, json!({ "text": "once" })).await.is(202).json();
    keyed(&server, json!({ "text": "twice" })).await.is_problem(409, "idempotency_key_reused");
    keyed(&server, json!({ "text": "once", "delivery": "later" }))
        .await
        .is_problem(409, "idempotency_key_reused");
    server.kill(Part::Server).await;
    let events = server.until_rest(session, 2).await;
    let again: Value = keyed(&server, json!({ "text": "once" })).await.is(202).json();
    assert_eq!(again, first);
    completed(&events);
    assert_eq!(taken(&events).0, ["begin", "once"]);
    check_log(&server, session).await;
    model.assert_clean();
}

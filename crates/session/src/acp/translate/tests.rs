//! What a hostile agent may say, and how much of it is kept.

use std::sync::Mutex;

use agent_client_protocol::v1::schema::{ContentBlock, ContentChunk, TextContent};
use async_trait::async_trait;
use protocol::event::{Answer, BlobRef, QuestionOption};
use protocol::ids::Seq;

use super::super::text::MAX_TEXT;
use super::*;

/// A session that keeps what it is told.
#[derive(Default)]
struct Recorder {
    appends: Mutex<Vec<Vec<EventBody>>>,
    live: Mutex<usize>,
}

#[async_trait]
impl AgentPort for Recorder {
    async fn append(&self, bodies: Vec<EventBody>) -> Result<Seq, PortError> {
        self.appends.lock().unwrap().push(bodies);
        Ok(0)
    }

    fn live(&self, delta: LiveDelta) {
        if let LiveDelta::Text { text, .. } | LiveDelta::Thought { text, .. } = delta {
            *self.live.lock().unwrap() += text.len();
        }
    }

    async fn put_blob(&self, _: Vec<u8>, _: bool) -> Result<BlobRef, PortError> {
        Err(PortError::Closed)
    }

    fn refused_since(&self, _since: std::time::Instant) -> Vec<protocol::event::NetworkDenied> {
        Vec::new()
    }

    async fn ask(&self, _: String, _: Vec<QuestionOption>) -> Result<Answer, PortError> {
        Err(PortError::Closed)
    }
}

impl Recorder {
    fn events(&self) -> Vec<EventBody> {
        self.appends.lock().unwrap().concat()
    }

    fn writes(&self) -> usize {
        self.appends.lock().unwrap().len()
    }
}

fn translator() -> Translator {
    Translator::new(TurnId::from_parts(1, 2))
}

fn update(value: Value) -> SessionUpdate {
    serde_json::from_value(value).unwrap()
}

fn chunk(kind: Speech, text: &str) -> SessionUpdate {
    let chunk = ContentChunk::new(ContentBlock::Text(TextContent::new(text)));
    match kind {
        Speech::Message => SessionUpdate::AgentMessageChunk(chunk),
        Speech::Thought => SessionUpdate::AgentThoughtChunk(chunk),
    }
}

fn open(id: usize) -> SessionUpdate {
    update(json!({ "sessionUpdate": "tool_call", "toolCallId": id.to_string(), "title": "t" }))
}

fn done(id: usize) -> SessionUpdate {
    let id = id.to_string();
    update(json!({ "sessionUpdate": "tool_call_update", "toolCallId": id, "status": "completed" }))
}

/// Says the same again and again; gives how often it was taken, and the reason of the end.
async fn until_excess(
    translator: &mut Translator,
    port: &Recorder,
    mut next: impl FnMut(usize) -> SessionUpdate,
) -> (usize, String) {
    for count in 0..3_000_000 {
        match translator.update(next(count), port).await {
            Ok(()) => {}
            Err(UpdateError::Excess(reason)) => return (count, reason),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it never ended");
}

#[tokio::test]
async fn every_part_of_a_call_is_cut_to_its_size() {
    let (mut translator, port) = (translator(), Recorder::default());
    let long = "ä\u{1b}".repeat(300_000);
    let big = json!({ "file": "x".repeat(70_000) });
    let bytes = big.to_string().len();
    let said = update(json!({
        "sessionUpdate": "tool_call", "toolCallId": long, "title": long, "name": long, "rawInput": big,
        "content": [
            { "type": "diff", "path": format!("/{long}"), "newText": long },
            { "type": "content", "content": { "type": "text", "text": long } },
        ],
    }));
    translator.update(said, &port).await.unwrap();
    let said = json!({ "sessionUpdate": "tool_call_update", "toolCallId": long, "status": "completed" });
    translator.update(update(said), &port).await.unwrap();
    for (id, output) in [("b", big), ("c", json!("y".repeat(300_000)))] {
        let said = json!({ "sessionUpdate": "tool_call", "toolCallId": id, "title": "", "status": "failed",
                           "rawOutput": output });
        translator.update(update(said), &port).await.unwrap();
    }
    let events = port.events();
    let EventBody::ToolCall(call) = &events[0] else { panic!("{events:?}") };
    assert!(call.call.chars().count() < 200 && !call.call.contains('\u{1b}'));
    assert!(call.title.chars().count() <= MAX_TITLE && !call.title.contains('\u{1b}'));
    assert!(["other", "tool"].contains(&call.name.as_str()) || call.name.chars().count() <= MAX_NAME);
    assert_eq!(call.input, json!({ "truncated": true, "bytes": bytes }));
    let EventBody::ToolResult(result) = &events[1] else { panic!("{events:?}") };
    assert_eq!(result.call, call.call);
    assert!(result.detail["path"].as_str().unwrap().chars().count() <= MAX_PATH);
    let kept = result.content.strip_suffix("\n[cut here: it was longer than 200000 characters]").unwrap();
    assert_eq!(kept.chars().count(), MAX_TEXT);
    let EventBody::ToolResult(result) = &events[3] else { panic!("{events:?}") };
    let noted: Value = serde_json::from_str(&result.content).unwrap();
    assert_eq!(noted, json!({ "truncated": true, "bytes": bytes }));
    let EventBody::ToolResult(result) = &events[5] else { panic!("{events:?}") };
    assert!(result.content.starts_with('y') && result.content.len() < MAX_TEXT + 100);
}

#[tokio::test]
async fn a_plan_and_a_message_are_cut_to_their_sizes() {
    let (mut translator, port) = (translator(), Recorder::default());
    let entry = json!({ "content": "p\n".repeat(5_000), "priority": "high", "status": "pending" });
    let plan = json!({ "sessionUpdate": "plan", "entries": vec![entry; 1_000] });
    translator.update(update(plan), &port).await.unwrap();
    for _ in 0..3 {
        translator.update(chunk(Speech::Message, &"ö".repeat(90_000)), &port).await.unwrap();
    }
    let events = [port.events(), translator.finish()].concat();
    let EventBody::Plan { entries } = &events[0] else { panic!("{events:?}") };
    assert_eq!((entries.len(), entries[0].content.chars().count()), (200, 500));
    let EventBody::AgentMessage(block) = &events[1] else { panic!("{events:?}") };
    assert_eq!(block.text.chars().filter(|c| *c == 'ö').count(), MAX_TEXT);
    assert!(block.text.ends_with("characters]"));
    assert_eq!(*port.live.lock().unwrap(), 2 * MAX_TEXT, "what is shown is what is kept");
}

#[tokio::test]
async fn more_than_256_open_calls_end_the_turn_and_each_of_them_has_a_result() {
    let (mut translator, port) = (translator(), Recorder::default());
    let (taken, reason) = until_excess(&mut translator, &port, open).await;
    assert_eq!((taken, reason.as_str()), (MAX_OPEN, "256 calls without a result at a time"));
    // Those that are open can still be closed, and make room.
    translator.update(done(7), &port).await.unwrap();
    translator.update(done(7), &port).await.unwrap();
    translator.update(open(1_000), &port).await.unwrap();
    let events = [port.events(), translator.finish()].concat();
    let count = |kind: &str| events.iter().filter(|body| body.kind() == kind).count();
    assert_eq!((count("tool.call"), count("tool.result")), (MAX_OPEN + 1, MAX_OPEN + 1));
}

#[tokio::test]
async fn a_turn_has_at_most_20000_events_and_keeps_its_calls_paired() {
    let (mut translator, port) = (translator(), Recorder::default());
    let next = |count: usize| if count.is_multiple_of(2) { open(count / 2) } else { done(count / 2) };
    let (_, reason) = until_excess(&mut translator, &port, next).await;
    assert_eq!(reason, "20000 events");
    let events = [port.events(), translator.finish()].concat();
    assert!((MAX_EVENTS - 300..=MAX_EVENTS).contains(&events.len()), "{}", events.len());
    let calls = events.iter().filter(|body| body.kind() == "tool.call").count();
    assert_eq!(events.len(), 2 * calls);
    assert!(translator.closed.len() <= MAX_EVENTS / 2);
}

#[tokio::test]
async fn a_message_and_a_thought_by_turns_share_writes_and_end() {
    let (mut translator, port) = (translator(), Recorder::default());
    let next =
        |count: usize| chunk(if count.is_multiple_of(2) { Speech::Message } else { Speech::Thought }, "x");
    let (taken, reason) = until_excess(&mut translator, &port, next).await;
    assert_eq!(reason, "20000 events");
    assert!(taken <= MAX_EVENTS && port.writes() <= MAX_EVENTS / MAX_HELD.0, "{} writes", port.writes());
    let events = [port.events(), translator.finish()].concat();
    assert!(events.len() <= MAX_EVENTS);
    // Nothing was lost or put in another order.
    for (count, event) in events.iter().enumerate() {
        let (EventBody::AgentMessage(block) | EventBody::AgentThought(block)) = event else {
            panic!("{event:?}")
        };
        assert!(block.message.ends_with(&format!("-{count}")), "{count}: {block:?}");
    }
}

#[tokio::test]
async fn a_long_thought_is_logged_when_the_message_begins() {
    let (mut translator, port) = (translator(), Recorder::default());
    translator.update(chunk(Speech::Thought, &"t".repeat(2_000)), &port).await.unwrap();
    translator.update(chunk(Speech::Message, ""), &port).await.unwrap();
    assert_eq!(port.writes(), 0, "nothing was said");
    translator.update(chunk(Speech::Message, "m"), &port).await.unwrap();
    assert_eq!(port.events().iter().map(EventBody::kind).collect::<Vec<_>>(), ["agent.thought"]);
}

#[tokio::test]
async fn a_turn_has_at_most_64_mb_of_text_however_it_comes() {
    let text = "x".repeat(150_000);
    let (mut translator_, port) = (translator(), Recorder::default());
    let (taken, reason) = until_excess(&mut translator_, &port, |_| chunk(Speech::Message, &text)).await;
    assert_eq!((taken, reason.as_str()), (MAX_BYTES / (150_000 + UPDATE_BYTES), "64 MB of text"));

    // In place of one another, and never logged.
    let content = json!([{ "type": "content", "content": { "type": "text", "text": text } }]);
    let again = update(json!({ "sessionUpdate": "tool_call_update", "toolCallId": "a", "content": content }));
    let (mut translator_, port) = (translator(), Recorder::default());
    let (taken, reason) = until_excess(&mut translator_, &port, |_| again.clone()).await;
    assert!(taken < 450 && reason == "64 MB of text", "{taken}: {reason}");

    // Of nothing at all.
    let (mut translator_, port) = (translator(), Recorder::default());
    let (taken, _) = until_excess(&mut translator_, &port, |_| chunk(Speech::Message, "")).await;
    assert_eq!((taken, port.writes()), (MAX_BYTES / UPDATE_BYTES, 0));
}

//! The model: a server of the Messages API that decides by the dice, and checks what it is sent.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::sandboxes::Order;
use crate::world::Shared;

/// What stands before the number of a prompt in its text.
pub(crate) const PROMPT: &str = "[prompt ";

/// Serves until the runtime goes.
pub(crate) async fn serve(world: Shared, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let world = world.clone();
        tokio::spawn(async move {
            // Whoever asked may go away at any time.
            let _ = one(&world, stream).await;
        });
    }
}

async fn one(world: &Shared, mut stream: TcpStream) -> std::io::Result<()> {
    let body = read(&mut stream).await?;
    look(world, &body);
    world.wait(5..400).await;
    if world.fault(12) {
        let (status, kind) = if world.one_in(2) { (529, "overloaded_error") } else { (500, "api_error") };
        world.tell(format!("model refuses with {status}"));
        let error = json!({ "type": "error", "error": { "type": kind, "message": "not now" } }).to_string();
        let head = format!(
            "HTTP/1.1 {status} No\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            error.len()
        );
        return stream.write_all(format!("{head}{error}").as_bytes()).await;
    }
    let events = decide(world);
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        .await?;
    let cut = world.fault(15).then(|| world.roll(0..events.len() as u64) as usize);
    for (number, event) in events.iter().enumerate() {
        if cut == Some(number) {
            world.tell("model is cut off");
            return stream.write_all(&event.as_bytes()[..event.len() / 2]).await;
        }
        world.wait(1..60).await;
        if world.fault(400) {
            world.tell("model falls silent");
            tokio::time::sleep(Duration::from_secs(200)).await;
        }
        // What came of an answer is counted, whether it is used or not.
        if number == 0
            && let Some(session) = session_of(world, &body)
        {
            *world.lock().answered.entry(session).or_default() += 1;
        }
        stream.write_all(event.as_bytes()).await?;
    }
    world.tell("model said all");
    stream.shutdown().await
}

/// The session whose prompts a request shows.
fn session_of(world: &Shared, body: &Value) -> Option<protocol::ids::SessionId> {
    let world = world.lock();
    let number = prompts(body).into_iter().next()?;
    world.sessions.get(world.prompts.get(number)?.session)?.id
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Value> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let length: usize = length.unwrap_or(0);
        if let Some(body) = bytes.get(end + 4..end + 4 + length) {
            return Ok(serde_json::from_slice(body)?);
        }
    }
}

/// Numbers of the prompts that a request shows.
fn prompts(body: &Value) -> BTreeSet<usize> {
    let text = body["messages"].to_string();
    let after = text.split(PROMPT).skip(1);
    after.filter_map(|rest| rest.split(']').next()?.parse().ok()).collect()
}

/// Notes what a request shows, and checks that each use of a tool has its one result.
fn look(world: &Shared, body: &Value) {
    let shown = prompts(body);
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    world.tell(format!("model is asked: {} messages, prompts {shown:?}", messages.len()));
    world.lock().shown.extend(shown);
    let ids = |message: &Value, kind: &str, field: &str| -> Vec<String> {
        let blocks = message["content"].as_array().into_iter().flatten();
        let wanted = blocks.filter(|block| block["type"] == kind);
        wanted.map(|block| block[field].as_str().unwrap_or_default().to_owned()).collect()
    };
    for pair in messages.windows(2) {
        let uses = ids(&pair[0], "tool_use", "id");
        let mut results = ids(&pair[1], "tool_result", "tool_use_id");
        results.sort();
        let mut expected = uses.clone();
        expected.sort();
        if expected != results {
            world.broken(format!("the model was sent results {results:?} for {uses:?}"));
        }
    }
    let last = messages.last().map(|last| ids(last, "tool_use", "id")).unwrap_or_default();
    if !last.is_empty() {
        world.broken(format!("the model was sent {last:?} without results"));
    }
}

/// An answer, as events.
fn decide(world: &Shared) -> Vec<String> {
    let mut events = Vec::new();
    let mut push = |value: Value| {
        events.push(format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or_default()));
    };
    let id = format!("msg_{}", world.roll(0..u64::MAX));
    push(json!({ "type": "message_start", "message": {
        "id": id, "type": "message", "role": "assistant", "model": "simulated", "content": [],
        "usage": { "input_tokens": 100, "output_tokens": 1 },
    } }));
    push(
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
    );
    push(
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "I see. " } }),
    );
    push(json!({ "type": "content_block_stop", "index": 0 }));
    let refuses = world.fault(40);
    let calls = if refuses || world.one_in(2) { 0 } else { world.roll(1..4) };
    for index in 1..=calls {
        let order = order(world);
        let call = order.call.clone();
        let input = json!({ "command": order.text(), "description": "work" }).to_string();
        let block = json!({ "type": "tool_use", "id": call, "name": "Bash", "input": {} });
        push(json!({ "type": "content_block_start", "index": index, "content_block": block }));
        let (first, second) = input.split_at(input.len() / 2);
        for part in [first, second] {
            let delta = json!({ "type": "input_json_delta", "partial_json": part });
            push(json!({ "type": "content_block_delta", "index": index, "delta": delta }));
        }
        push(json!({ "type": "content_block_stop", "index": index }));
    }
    let stop = if refuses {
        "refusal"
    } else if calls > 0 {
        "tool_use"
    } else {
        "end_turn"
    };
    push(
        json!({ "type": "message_delta", "delta": { "stop_reason": stop }, "usage": { "output_tokens": 10 } }),
    );
    push(json!({ "type": "message_stop" }));
    events
}

/// A command of the dice.
fn order(world: &Shared) -> Order {
    let deaf = world.fault(25);
    let fails = world.fault(8);
    let long = world.fault(6);
    let mut world = world.lock();
    world.calls += 1;
    let call = format!("toolu_{:06}", world.calls);
    let millis = if long { world.dice.u64(5000..100_000) } else { world.dice.u64(1..3000) };
    let (lines, marks) = (world.dice.u64(0..4), world.dice.bool());
    Order { call, millis, lines, marks, deaf, code: i32::from(fails) }
}

//! Records the workspace while a turn works.
//!
//! ```text
//!  calls ─▶ results, none of them open ─▶ due ─┐           ┌─▶ `checkpoint`, `diffstat`
//!               so long since the last ─▶ due ─┴─▶ take ───┤
//!  the next calls wait for it, for a moment                └─▶ nothing changed: nothing
//! ```
//!
//! The model thinks meanwhile, so that this costs a turn nothing. What is recorded is what the batch of
//! calls left, unless recording takes very long: then the next batch begins, and may be in it in part.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use protocol::event::EventBody;
use protocol::hands::HandsError;
use protocol::ids::TurnId;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::checkpoint::{self, CheckpointError, Moment};
use crate::turn::Context;

/// How long the next calls wait for a recording that runs.
const PATIENCE: Duration = Duration::from_secs(1);

/// Our agent's tools that change no file.
const LOOKS: [&str; 7] =
    ["Read", "Glob", "Grep", "TodoWrite", "TaskOutput", "ListMcpResourcesTool", "ReadMcpResourceTool"];

/// Where the calls of a turn are. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Batches(Arc<watch::Sender<State>>);

#[derive(Default)]
struct State {
    /// Calls without a result.
    open: BTreeSet<String>,
    /// Whether one of the batch may have changed a file.
    changed: bool,
    /// Batches to be recorded so far, and those that are.
    due: u64,
    done: u64,
}

impl Batches {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }

    /// Takes in what became durable.
    pub(crate) fn note(&self, bodies: &[EventBody]) {
        self.0.send_if_modified(|state| {
            let before = state.due;
            bodies.iter().for_each(|body| state.apply(body));
            state.due != before
        });
    }

    /// Waits, but not for long, until what is due is recorded; to be asked for before calls are begun.
    pub(crate) async fn settled(&self, bodies: &[EventBody]) {
        if bodies.iter().any(|body| matches!(body, EventBody::ToolCall(_))) {
            let mut states = self.0.subscribe();
            let _ = timeout(PATIENCE, states.wait_for(|state| state.done == state.due)).await;
        }
    }

    /// Waits for something to record; how far that is.
    async fn due(&self) -> u64 {
        let mut states = self.0.subscribe();
        let due = states.wait_for(|state| state.due > state.done).await.map(|state| state.due);
        // The sender lives as long as this.
        due.unwrap_or_default()
    }

    fn recorded(&self, until: u64) {
        self.0.send_modify(|state| state.done = state.done.max(until));
    }
}

impl State {
    fn apply(&mut self, body: &EventBody) {
        match body {
            EventBody::ToolCall(call) => {
                self.changed |= !LOOKS.contains(&call.name.as_str());
                self.open.insert(call.call.clone());
            }
            EventBody::ToolResult(result) => {
                // A call that an earlier server began may have done anything.
                self.changed |= !self.open.remove(&result.call);
                if self.open.is_empty() && std::mem::take(&mut self.changed) {
                    self.due += 1;
                }
            }
            _ => {}
        }
    }
}

/// Records until the turn is over or told to stop: its end is recorded by itself.
pub(crate) async fn run(
    context: &Context,
    (turn, prompt): (TurnId, &str),
    batches: &Batches,
    (over, stop): (&CancellationToken, &CancellationToken),
) {
    let mut told = false;
    let mut last = Instant::now();
    loop {
        let until = tokio::select! {
            biased;
            () = over.cancelled() => return,
            () = stop.cancelled() => return,
            until = batches.due() => Some(until),
            () = sleep_until(last + context.shared.config.checkpoint_every) => None,
        };
        let taken = take(context, turn, prompt).await;
        if let Some(until) = until {
            batches.recorded(until);
        }
        last = Instant::now();
        // Once is enough to know; the turn's end says it again.
        if let Err(error) = taken
            && !std::mem::replace(&mut told, true)
            && !matches!(error, CheckpointError::Hands(HandsError::Gone(_)))
        {
            append(context, turn, vec![checkpoint::failure(&error)]).await;
        }
    }
}

async fn take(context: &Context, turn: TurnId, prompt: &str) -> Result<(), CheckpointError> {
    let Context { shared, facts, sandbox, tip, .. } = context;
    let before = tip.get();
    let work = checkpoint::take(shared, facts, sandbox, (&before, Moment::Batch), prompt);
    let taken = timeout(shared.config.deadlines.checkpoint, work).await;
    let Some(taken) = taken.unwrap_or(Err(CheckpointError::Deadline))? else { return Ok(()) };
    let commit = taken.checkpoint.commit.clone();
    if append(context, turn, taken.events()).await {
        tip.set(commit);
    }
    Ok(())
}

async fn append(context: &Context, turn: TurnId, bodies: Vec<EventBody>) -> bool {
    let Context { shared, facts, epoch, .. } = context;
    let written = shared.store.append(facts.id, *epoch, Some(turn), None, bodies).await;
    if let Err(error) = &written {
        tracing::warn!(session = %facts.id, %error, "a checkpoint could not be logged");
    }
    written.is_ok()
}

#[cfg(test)]
mod tests {
    use protocol::event::{ToolCall, ToolResult};

    use super::*;

    fn call(id: &str, name: &str) -> EventBody {
        let (call, name) = (id.to_owned(), name.to_owned());
        EventBody::ToolCall(ToolCall {
            message: String::new(),
            call,
            name,
            title: String::new(),
            input: serde_json::json!({}),
        })
    }

    fn result(id: &str) -> EventBody {
        EventBody::ToolResult(ToolResult {
            call: id.to_owned(),
            content: String::new(),
            is_error: false,
            duration_ms: 0,
            detail: serde_json::json!({}),
            full_output: None,
        })
    }

    #[tokio::test]
    async fn a_batch_is_due_with_its_last_result_if_it_may_have_changed_something() {
        let batches = Batches::new();
        batches.note(&[call("a", "Read"), call("b", "Edit")]);
        batches.note(&[result("b")]);
        assert_eq!(batches.0.borrow().due, 0, "one is open");
        batches.note(&[result("a")]);
        assert_eq!(batches.due().await, 1);
        batches.note(&[call("c", "Grep"), result("c")]);
        assert_eq!(batches.0.borrow().due, 1, "who only looks changes nothing");
        batches.note(&[call("d", "Bash"), result("d")]);
        batches.recorded(1);
        assert_eq!(batches.due().await, 2, "what came meanwhile is recorded next");
        batches.recorded(2);
        batches.settled(&[call("e", "Bash")]).await;
        batches.note(&[result("of a server that died")]);
        assert_eq!(batches.due().await, 3);
    }
}

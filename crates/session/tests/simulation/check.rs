//! The invariants (I1 to I11 of the issue), over the logs as they are on the disk and what everybody saw.
//!
//! After every crash the logs may be in the middle of things; once all healed, nothing may be open.

use std::collections::{BTreeMap, BTreeSet};

use protocol::event::{Event, EventBody, Rewound, ToolCall, ToolResult};
use protocol::ids::{PromptId, SessionId, TurnId};
use protocol::rewind::Standing;
use protocol::status::{SandboxPhase, SessionStatus, TurnPhase, TurnStatus};
use protocol::view::SessionView;
use store::{Store, StoreError};

use crate::sandboxes::Order;
use crate::world::{Sent, Shared, World};

/// When it is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// The server died and nothing was mended.
    AfterCrash,
    /// All was mended and nothing runs.
    AtRest,
}

/// Checks everything, and shows viewers what they missed.
pub(crate) async fn all(world: &Shared, store: &Store, when: When) {
    let known: Vec<(SessionId, bool)> = {
        let world = world.lock();
        world.sessions.iter().filter_map(|record| Some((record.id?, record.deleted))).collect()
    };
    let mut listed = Vec::new();
    for archived in [false, true] {
        listed.extend(store.sessions(archived, None, 1000).await.unwrap());
    }
    for (id, deleted) in &known {
        let is_there = listed.iter().any(|view| view.id == *id);
        if *deleted && is_there {
            world.broken(format!("I7 {id} was deleted and is there"));
        }
        if !deleted && !is_there && !world.lock().is_going(*id) {
            world.broken(format!("I1 {id} was made and is not there"));
        }
    }
    for view in &listed {
        let events = match store.all_events(view.id).await {
            Ok(events) => events,
            Err(StoreError::NoSession(_)) => continue,
            Err(error) => {
                world.broken(format!("I2 the log of {} cannot be read: {error}", view.id));
                continue;
            }
        };
        let mut world = world.lock();
        log(&mut world, view, &events);
        prompts(&mut world, view.id, &events, when);
        turns(&mut world, view, &events, when);
        calls(&mut world, view, &events, when);
        spent(&mut world, view);
        if when == When::AtRest {
            rest(&mut world, view);
        }
    }
    let mut world = world.lock();
    unseen(&mut world, &listed);
    if when == When::AtRest {
        leaks(&mut world, &listed);
    }
}

/// I2, I4: dense, one owner after the other, the fold in the row is that of the log, and viewers saw nothing else.
fn log(world: &mut World, view: &SessionView, events: &[Event]) {
    let id = view.id;
    let dense = events.iter().zip(1..).all(|(event, seq)| event.seq == seq);
    if !dense {
        world.broken(format!("I2 the log of {id} is not dense"));
    }
    if !events.is_sorted_by_key(|event| event.epoch) {
        world.broken(format!("I4 an older owner appended to {id}"));
    }
    if SessionView::fold(events).as_ref() != Some(view) {
        world.broken(format!("I2 the row of {id} is not the fold of its log"));
    }
    let seen = world.published.get(&id).cloned().unwrap_or_default();
    for (seq, event) in &seen {
        let at = usize::try_from(*seq).unwrap() - 1;
        if events.get(at) != Some(event) {
            world.broken(format!("I2 a viewer of {id} saw an event {seq} that the log does not have"));
        }
    }
    for event in events.iter().filter(|event| !seen.contains_key(&event.seq)) {
        world.see(event);
    }
}

/// What a log says of its prompts.
#[derive(Default)]
struct Queue {
    queued: Vec<(PromptId, String)>,
    taken: Vec<PromptId>,
    cancelled: Vec<PromptId>,
}

impl Queue {
    fn of(events: &[Event]) -> Self {
        let mut all = Self::default();
        for event in events {
            match &event.body {
                EventBody::PromptQueued { prompt, text, .. } => all.queued.push((*prompt, text.clone())),
                EventBody::TurnStarted { prompt } | EventBody::PromptDelivered { prompt } => {
                    all.taken.push(*prompt)
                }
                EventBody::PromptCancelled { prompt } => all.cancelled.push(*prompt),
                _ => {}
            }
        }
        all
    }
}

/// I1: what was accepted is there, once; it is taken once; what was refused or taken back is not taken.
fn prompts(world: &mut World, id: SessionId, events: &[Event], when: When) {
    let Queue { queued, taken, cancelled } = Queue::of(events);
    let times = |all: &[PromptId], wanted: PromptId| all.iter().filter(|prompt| **prompt == wanted).count();
    let records = world.prompts.clone();
    for (number, record) in records.iter().enumerate() {
        if world.sessions[record.session].id != Some(id) {
            continue;
        }
        let found: Vec<PromptId> =
            queued.iter().filter(|(_, text)| *text == record.text).map(|(prompt, _)| *prompt).collect();
        match record.state {
            Sent::Accepted(prompt) if found != [prompt] => {
                world.broken(format!("I1 prompt {number} is there as {found:?}, its receipt says {prompt}"));
            }
            Sent::Refused if !found.is_empty() => {
                world.broken(format!("I1 prompt {number} was refused and is there"))
            }
            _ if found.len() > 1 => {
                world.broken(format!("I1 prompt {number} is there {} times", found.len()))
            }
            _ => {}
        }
        let ends: usize =
            found.iter().map(|prompt| times(&taken, *prompt) + times(&cancelled, *prompt)).sum();
        if ends > 1 || (when == When::AtRest && ends != found.len()) {
            world.broken(format!("I1 prompt {number} was taken or cancelled {ends} times"));
        }
        let was_taken = found.iter().any(|prompt| taken.contains(prompt));
        if world.shown.contains(&number) && !was_taken {
            world.broken(format!("I1 the model was shown prompt {number}, which nobody took from the queue"));
        }
    }
    for prompt in world.cancelled.clone() {
        let is_of_it = queued.iter().any(|(queued, _)| *queued == prompt);
        if is_of_it && (!cancelled.contains(&prompt) || taken.contains(&prompt)) {
            world.broken(format!("I1 {prompt} was taken back and is not"));
        }
    }
}

/// I4, I6: one turn at a time, each with one end; completed with the agent's last word.
fn turns(world: &mut World, view: &SessionView, events: &[Event], when: When) {
    let id = view.id;
    let (mut open, mut ended): (Option<TurnId>, BTreeSet<TurnId>) = (None, BTreeSet::new());
    let mut last_word = false;
    for event in events {
        match &event.body {
            EventBody::TurnStarted { .. } => {
                if let Some(other) = open {
                    world.broken(format!("I4 {id}: a turn began at {} while {other} ran", event.seq));
                }
                (open, last_word) = (event.turn, false);
            }
            EventBody::TurnEnded(end) => {
                let Some(turn) = event.turn else {
                    world.broken(format!("I4 {id}: the end {} of no turn", event.seq));
                    continue;
                };
                if open != Some(turn) || !ended.insert(turn) {
                    world.broken(format!("I4 {id}: {turn} ended at {} and did not run", event.seq));
                }
                if end.status == TurnStatus::Completed && !last_word {
                    world.broken(format!("I6 {id}: {turn} is completed without a last word"));
                }
                open = None;
            }
            EventBody::AgentMessage(_) => last_word = true,
            EventBody::ToolCall(_) => last_word = false,
            EventBody::SessionStatus(change)
                if change.status != SessionStatus::of(change.sandbox, change.turn) =>
            {
                world.broken(format!("I6 {id}: the word at {} is none of its machines'", event.seq));
            }
            _ => {}
        }
    }
    if when == When::AtRest && open.is_some() {
        world.broken(format!("I6 {id}: a turn has no end"));
    }
}

/// I3: each call has one result, after it; what ran to its end says all that it said. Who goes back may go back to
/// where a call was open: then it has its result once more.
fn calls(world: &mut World, view: &SessionView, events: &[Event], when: When) {
    let id = view.id;
    let (mut open, mut known) = (BTreeMap::new(), BTreeMap::new());
    let (mut results, mut open_by_choice) = (Vec::new(), BTreeSet::new());
    for (at, event) in events.iter().enumerate() {
        match &event.body {
            EventBody::ToolCall(call) => {
                if known.insert(call.call.as_str(), (event.seq, call)).is_some() {
                    world.broken(format!("I3 {id}: {} is there twice", call.call));
                }
                open.insert(call.call.as_str(), call);
            }
            EventBody::ToolResult(result) => {
                results.push((event.seq, result.call.as_str()));
                match open.remove(result.call.as_str()) {
                    Some(call) => whole(world, id, call, result),
                    None => {
                        let (call, seq) = (&result.call, event.seq);
                        world.broken(format!("I3 {id}: a result of {call} at {seq} without an open call"));
                    }
                }
            }
            EventBody::SessionRewound(Rewound { conversation: true, .. }) => {
                let standing = Standing::of(&events[..=at]);
                let has_result = |wanted: &str| {
                    results.iter().any(|(seq, call)| *call == wanted && standing.contains(*seq))
                };
                let stands = known.iter().filter(|(_, (seq, _))| standing.contains(*seq));
                open = stands
                    .filter(|(name, _)| !has_result(name))
                    .map(|(name, (_, call))| (*name, *call))
                    .collect();
                open_by_choice.extend(open.keys().copied());
            }
            EventBody::TurnEnded(_) => {
                let left: Vec<_> = open.keys().filter(|call| !open_by_choice.contains(*call)).collect();
                if !left.is_empty() {
                    world.broken(format!("I3 {id}: a turn ended at {} and left {left:?} open", event.seq));
                }
            }
            _ => {}
        }
    }
    let left: Vec<_> = open.keys().filter(|call| !open_by_choice.contains(*call)).collect();
    if when == When::AtRest && !left.is_empty() {
        world.broken(format!("I3 {id}: {left:?} have no result"));
    }
}

/// A command that ended by itself ran, and each of its lines is in its result, once.
fn whole(world: &mut World, id: SessionId, call: &ToolCall, result: &ToolResult) {
    let words: Vec<&str> = call.input["command"].as_str().unwrap_or_default().split(' ').collect();
    let ordered = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    let (Some(lines), Some(code)) = (ordered(3), ordered(6)) else { return };
    let detail = &result.detail;
    let by_itself = detail["interrupted"] == false && detail["timed_out"] == false;
    if !by_itself || detail["exit_code"].as_u64() != Some(code) {
        return;
    }
    let times = |line: u64| result.content.matches(&Order::line(&result.call, line)).count();
    if let Some(line) = (0..lines).find(|line| times(*line) != 1) {
        world.broken(format!("I3 {id}: line {line} of {} is not in its result once", result.call));
    }
    if !world.ran.contains_key(&result.call) {
        world.broken(format!("I3 {id}: {} has a result and never ran", result.call));
    }
}

/// I11: nothing was counted that the model did not say.
fn spent(world: &mut World, view: &SessionView) {
    let answered = world.answered.get(&view.id).copied().unwrap_or_default();
    if view.usage.requests > answered {
        let counted = view.usage.requests;
        world.broken(format!("I11 {}: {counted} answers are counted, the model gave {answered}", view.id));
    }
}

/// I6: nothing that should pass stays.
fn rest(world: &mut World, view: &SessionView) {
    if view.status.is_busy() || view.turn != TurnPhase::Idle || view.queued_prompts > 0 {
        world.broken(format!("I6 {} never rests: {:?}, {} wait", view.id, view.status, view.queued_prompts));
    }
}

/// I7: what nobody lists nobody can have been shown, unless it was deleted.
fn unseen(world: &mut World, listed: &[SessionView]) {
    let published: Vec<SessionId> = world.published.keys().copied().collect();
    for id in published {
        if !listed.iter().any(|view| view.id == id) && !world.is_going(id) {
            world.broken(format!("I2 viewers saw {id}, which is not there"));
        }
    }
}

/// I8: no sandbox and no layer that nobody has.
fn leaks(world: &mut World, listed: &[SessionView]) {
    let ready =
        |id: SessionId| listed.iter().any(|view| view.id == id && view.sandbox == SandboxPhase::Ready);
    let mut owners = BTreeSet::new();
    let sandboxes: Vec<_> = world.sandboxes.iter().map(|(id, sandbox)| (*id, sandbox.session)).collect();
    for (sandbox, session) in sandboxes {
        if !session.is_some_and(|session| ready(session) && owners.insert(session)) {
            world.broken(format!("I8 the sandbox {sandbox} of {session:?} is left over"));
        }
    }
    let kept: BTreeSet<_> =
        listed.iter().filter_map(|view| view.saved.as_ref()).flat_map(|saved| &saved.layers).collect();
    let left: Vec<_> = world.layers.keys().filter(|layer| !kept.contains(layer)).copied().collect();
    for layer in left {
        world.broken(format!("I8 the layer {layer} is left over"));
    }
}

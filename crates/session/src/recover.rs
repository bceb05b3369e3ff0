//! Putting right what a crash left, before a driver takes requests.
//!
//! ```text
//!  log ── open turn ─┬─ can go on ──▶ turn.resumed: the driver takes it up
//!      │             └─ else ───────▶ results for open calls, turn.ended(interrupted)
//!      └─ open step ──▶ step.finished(error)
//!  host ─ sandbox lives and was ready? ─▶ adopt: hello, kill what nobody can attach to; all of the dead
//!       │                                 turn, unless it goes on
//!       └ lives but was half made?    ─▶ destroy
//! ```
//!
//! A turn can go on when the sandbox lives, our own agent worked, and nobody had stopped it or was asked
//! something; and not again and again when it gets no further. Prompts that wait stay; the driver takes
//! them up as if they had just come.

use std::collections::BTreeSet;

use jiff::Timestamp;
use protocol::event::{Event, EventBody, Step, ToolResult};
use protocol::ids::{Epoch, PromptId, Seq, SessionId, TurnId};
use protocol::sandbox_host::Made;
use protocol::status::{SandboxPhase, SessionStatus, StopReason, TurnPhase, TurnStatus};
use protocol::view::SessionView;
use store::StoreError;

use crate::agents::OURS;
use crate::driver::LiveSandbox;
use crate::machine::Machine;
use crate::networks::Ground;
use crate::provision;
use crate::registry::Shared;

/// What a crash left.
pub(crate) struct Found {
    /// The living sandbox.
    pub(crate) sandbox: Option<LiveSandbox>,
    /// The turn that goes on in it.
    pub(crate) turn: Option<OpenTurn>,
}

/// A turn that a server began and did not end.
#[derive(Debug, Clone)]
pub(crate) struct OpenTurn {
    pub(crate) turn: TurnId,
    pub(crate) prompt: PromptId,
    pub(crate) text: String,
    /// Its `turn.started`, and when that was.
    pub(crate) seq: Seq,
    pub(crate) at: Timestamp,
}

/// How often in a row a turn goes on that gets no further: something in it may be what kills the server.
const MAX_RESUMED: usize = 3;

/// Writes the ends that are missing, and finds the living sandbox and the turn that goes on in it.
pub(crate) async fn reconcile(
    shared: &Shared,
    session: SessionId,
    epoch: Epoch,
    events: &[Event],
) -> Result<Found, StoreError> {
    let Some(view) = SessionView::fold(events) else { return Err(StoreError::NoSession(session)) };
    let open = resumable(&view, events);
    let live = adopt(shared, &view, open.is_some()).await;
    let resumed = open.filter(|_| live.is_some());
    let (turn, mut bodies) = missing_ends(events, resumed.as_ref());
    let waiting = u32::try_from(view.queued_prompts).unwrap_or(u32::MAX);
    let machine = Machine {
        sandbox: sandbox_phase(view.sandbox, live.is_some()),
        turn: match (&resumed, waiting) {
            (Some(_), _) => TurnPhase::Running,
            (None, 0) => TurnPhase::Idle,
            (None, _) => TurnPhase::Queued,
        },
        waiting_prompts: waiting,
    };
    if machine.status() != view.status || machine.sandbox != view.sandbox || machine.turn != view.turn {
        bodies.push(EventBody::SessionStatus(machine.change(reason(&view, live.is_some()))));
    }
    if !bodies.is_empty() {
        shared.store.append(session, epoch, turn, None, bodies).await?;
    }
    Ok(Found { sandbox: live, turn: resumed })
}

/// The open turn, if it can go on.
fn resumable(view: &SessionView, events: &[Event]) -> Option<OpenTurn> {
    if view.agent != OURS || view.turn != TurnPhase::Running {
        return None;
    }
    let start = events.iter().rposition(|event| matches!(event.body, EventBody::TurnStarted { .. }))?;
    let (first, rest) = events[start..].split_first()?;
    let EventBody::TurnStarted { prompt } = first.body else { return None };
    let stopped =
        |body: &EventBody| matches!(body, EventBody::TurnEnded(_) | EventBody::TurnInterrupted { .. });
    if rest.iter().any(|event| stopped(&event.body)) {
        return None;
    }
    let got_further = |body: &EventBody| matches!(body, EventBody::ToolResult(_) | EventBody::Usage { .. });
    let since = rest.iter().rev().take_while(|event| !got_further(&event.body));
    if since.filter(|event| matches!(event.body, EventBody::TurnResumed {})).count() >= MAX_RESUMED {
        return None;
    }
    let text = events.iter().rev().find_map(|event| match &event.body {
        EventBody::PromptQueued { prompt: queued, text, .. }
        | EventBody::PromptEdited { prompt: queued, text, .. }
            if *queued == prompt =>
        {
            Some(text.clone())
        }
        _ => None,
    })?;
    Some(OpenTurn { turn: first.turn?, prompt, text, seq: first.seq, at: first.at })
}

fn sandbox_phase(recorded: SandboxPhase, lives: bool) -> SandboxPhase {
    match (recorded, lives) {
        (_, true) => SandboxPhase::Ready,
        (SandboxPhase::Failed, false) => SandboxPhase::Failed,
        (SandboxPhase::None, false) => SandboxPhase::None,
        _ => SandboxPhase::Suspended,
    }
}

fn reason(view: &SessionView, lives: bool) -> Option<String> {
    (view.sandbox == SandboxPhase::Ready && !lives && view.status != SessionStatus::Suspended).then(|| {
        "the sandbox did not survive; the next prompt starts a new one from the last checkpoint".to_owned()
    })
}

/// The sandbox of a session, if it lives and its workspace was whole.
async fn adopt(shared: &Shared, view: &SessionView, turn_goes_on: bool) -> Option<LiveSandbox> {
    let mut living = match shared.host.list().await {
        Ok(living) => living,
        Err(error) => {
            tracing::warn!(session = %view.id, %error, "the living sandboxes could not be listed");
            return None;
        }
    };
    // Of two the older one is what an earlier driver left: the newest is in which the turn worked.
    living.sort_by_key(|made| std::cmp::Reverse(made.attachment.sandbox));
    let mut adopted = None;
    let theirs = |made: &Made| made.attachment.session == Some(view.id);
    for made in living.into_iter().filter(theirs) {
        let sandbox = made.attachment.sandbox;
        let link = match view.sandbox {
            SandboxPhase::Ready if adopted.is_none() => shared.host.link(&made).await.ok(),
            _ => None,
        };
        let Some(link) = link else {
            shared.reap(sandbox);
            continue;
        };
        // Between turns, background tasks may run that the agent takes up again.
        let keeps = turn_goes_on || view.current_turn.is_none();
        let cleared = if keeps { link.kill_unkept().await } else { link.kill_all().await };
        if let Err(error) = cleared {
            tracing::warn!(session = %view.id, %sandbox, %error, "the sandbox could not be adopted");
            shared.reap(sandbox);
            continue;
        }
        tracing::info!(session = %view.id, %sandbox, "adopted a living sandbox");
        let live = LiveSandbox { id: sandbox, link, tier: made.tier, unenforced: Vec::new() };
        match bind_again(shared, view, &live).await {
            Ok(()) => adopted = Some(live),
            Err(reason) => {
                tracing::warn!(session = %view.id, %sandbox, reason, "the sandbox could not be adopted");
                shared.reap(sandbox);
            }
        }
    }
    adopted
}

/// Puts the rules of now into force for a sandbox that lived on.
async fn bind_again(shared: &Shared, view: &SessionView, live: &LiveSandbox) -> Result<(), String> {
    let environment = provision::plan::settings(shared, view).await?;
    let ground = Ground::Environment(environment.id);
    shared.networks.bind((live.id, false), view.id, live.tier, ground).await.map(drop)
}

/// What has to be written so that nothing in the log is open, and the turn that it belongs to.
fn missing_ends(events: &[Event], resumed: Option<&OpenTurn>) -> (Option<TurnId>, Vec<EventBody>) {
    let mut bodies = Vec::new();
    for step in open_steps(events) {
        let error = Some("the server stopped while this ran".to_owned());
        bodies.push(EventBody::StepFinished { step, duration_ms: 0, error, detail: None });
    }
    let turn = open_turn(events);
    if resumed.is_some() {
        bodies.push(EventBody::TurnResumed {});
    } else if turn.is_some() {
        bodies.extend(results_for_open_calls(events, "interrupted: the server stopped while this ran"));
        bodies.push(EventBody::TurnInterrupted { reason: StopReason::ServerRestart });
        let message = "The server stopped while this turn ran. Send a prompt to go on.".to_owned();
        let ended = crate::turn::ended(TurnStatus::Interrupted, StopReason::ServerRestart, Some(message), 0);
        bodies.push(EventBody::TurnEnded(ended));
    }
    (turn, bodies)
}

fn open_turn(events: &[Event]) -> Option<TurnId> {
    events.iter().rev().find_map(|event| match event.body {
        EventBody::TurnStarted { .. } => Some(event.turn),
        EventBody::TurnEnded(_) => Some(None),
        _ => None,
    })?
}

fn open_steps(events: &[Event]) -> Vec<Step> {
    let mut open = Vec::new();
    for event in events {
        match event.body {
            EventBody::StepStarted { step } => open.push(step),
            EventBody::StepFinished { step, .. } => open.retain(|started| *started != step),
            _ => {}
        }
    }
    open
}

/// One error result for every call that has none.
pub(crate) fn results_for_open_calls(events: &[Event], why: &str) -> Vec<EventBody> {
    let answered: BTreeSet<&str> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::ToolResult(result) => Some(result.call.as_str()),
            _ => None,
        })
        .collect();
    events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::ToolCall(call) if !answered.contains(call.call.as_str()) => Some(call),
            _ => None,
        })
        .map(|call| {
            EventBody::ToolResult(ToolResult {
                call: call.call.clone(),
                content: why.to_owned(),
                is_error: true,
                duration_ms: 0,
                detail: serde_json::json!({ "interrupted": true }),
                full_output: None,
            })
        })
        .collect()
}

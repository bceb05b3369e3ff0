//! A session that goes on from a checkpoint of another one.
//!
//! ```text
//!  log of the other, what stood at the checkpoint ─▶ said again in a log of its own ─┐
//!  its repository at its checkpoints ─────────────▶ a repository of its own ─────────┴▶ suspended, or
//!                                                                    a first prompt ─▶ queued
//! ```
//!
//! Nothing is shared: the other one can be deleted. What belongs to its sandboxes, its pushes, its network
//! and its bill is not taken along.

use std::collections::BTreeSet;

use protocol::event::{Event, EventBody, Fork, SessionCreated};
use protocol::ids::{PromptId, Seq, SessionId, TurnId};
use protocol::prompt::Delivery;
use protocol::rewind::Standing;
use protocol::status::{SandboxPhase, StopReason, TurnPhase, TurnStatus};
use protocol::view::SessionView;
use store::{Accepted, IdempotencyKey};
use ulid::Ulid;

use crate::create::check_prompt;
use crate::driver;
use crate::error::SessionError;
use crate::machine::Machine;
use crate::names;
use crate::recover::results_for_open_calls;
use crate::registry::Sessions;

/// Events of one turn, or of none.
type Group = (Option<TurnId>, Vec<EventBody>);

impl Sessions {
    /// Makes a session that goes on from a checkpoint of this one; durable when this returns.
    pub async fn fork(
        &self,
        from: SessionId,
        at: Seq,
        prompt: Option<String>,
        key: Option<IdempotencyKey>,
    ) -> Result<Accepted<SessionView>, SessionError> {
        prompt.as_deref().map_or(Ok(()), check_prompt)?;
        let this = self.clone();
        // To its end also when the caller goes away, as with every new session.
        let made = tokio::spawn(async move { this.fork_whole(from, at, prompt, key).await }).await;
        made.unwrap_or(Err(SessionError::Stopping))
    }

    async fn fork_whole(
        &self,
        from: SessionId,
        at: Seq,
        prompt: Option<String>,
        key: Option<IdempotencyKey>,
    ) -> Result<Accepted<SessionView>, SessionError> {
        let view = self.shared.store.session(from).await?;
        let events = self.shared.store.all_events(from).await?;
        let commit = match driver::checkpoint_at(&events, at) {
            Some(checkpoint) => checkpoint.commit.clone(),
            None => return Err(SessionError::NoCheckpoint(at)),
        };
        let id = SessionId::from(Ulid::generate());
        let title = prompt.as_deref().map_or_else(|| view.title.clone(), names::title);
        let branch = names::branch(&title, id);
        let created = SessionCreated {
            existing_branch: false,
            title,
            agent: view.agent.clone(),
            image: view.image.clone(),
            environment: view.environment.clone(),
            repository: view.repository.clone(),
            head: view.head.clone(),
            base: view.base.clone(),
            branch: branch.clone(),
            fork: Some(Fork { session: from, checkpoint: at }),
        };
        let said = said_until(&events, at);
        let commits: BTreeSet<String> =
            said.iter().flat_map(|(_, bodies)| bodies).filter_map(commit_of).collect();
        let groups = groups(created, said, prompt);
        let made = async {
            let commits: Vec<String> = commits.into_iter().collect();
            let repositories = &self.shared.repositories;
            repositories.fork((from, &view.branch), id, &view.base, &commits).await?;
            repositories.start_branch(id, &branch, &commit).await?;
            Ok::<_, SessionError>(self.shared.store.fork_session(id, from, groups, key).await?)
        };
        let made = made.await;
        if !matches!(&made, Ok(accepted) if !accepted.repeated) {
            self.shared.repositories.delete(id).await?;
            return made;
        }
        self.handle(id).await?;
        made
    }
}

fn commit_of(body: &EventBody) -> Option<String> {
    match body {
        EventBody::Checkpoint(checkpoint) => Some(checkpoint.commit.clone()),
        _ => None,
    }
}

/// What was said and done until the checkpoint, with an end where it lies in the middle of a turn.
fn said_until(events: &[Event], at: Seq) -> Vec<Group> {
    let standing = Standing::at(events, at);
    let stand: Vec<Event> = events.iter().filter(|event| standing.contains(event.seq)).cloned().collect();
    let taken: BTreeSet<PromptId> = stand.iter().filter_map(|event| taken(&event.body)).collect();
    let mut groups: Vec<Group> = Vec::new();
    let mut add = |turn: Option<TurnId>, body: EventBody| match groups.last_mut() {
        Some((last, bodies)) if *last == turn => bodies.push(body),
        _ => groups.push((turn, vec![body])),
    };
    for event in stand.iter().filter(|event| is_said(&event.body, &taken)) {
        add(event.turn, event.body.clone());
    }
    // The counts of a checkpoint in the middle of a turn follow it.
    let after = events.iter().find(|event| event.seq == at + 1 && !standing.contains(event.seq));
    if let Some(Event { body: stat @ EventBody::DiffStat(_), turn, .. }) = after {
        add(*turn, stat.clone());
    }
    let open = stand.iter().rev().find_map(|event| match event.body {
        EventBody::TurnStarted { .. } => Some(event.turn),
        EventBody::TurnEnded(_) => Some(None),
        _ => None,
    });
    if let Some(turn @ Some(_)) = open {
        for result in results_for_open_calls(&stand, "interrupted: the session was forked in this turn") {
            add(turn, result);
        }
        let message = Some("Forked in the middle of this turn.".to_owned());
        let ended = crate::turn::ended(TurnStatus::Interrupted, StopReason::UserStop, message, 0);
        add(turn, EventBody::TurnEnded(ended));
    }
    groups
}

/// The prompt that reached the agent by this event.
fn taken(body: &EventBody) -> Option<PromptId> {
    match body {
        EventBody::TurnStarted { prompt } | EventBody::PromptDelivered { prompt } => Some(*prompt),
        _ => None,
    }
}

/// Whether an event is part of the conversation, or of what it did to the files.
fn is_said(body: &EventBody, taken: &BTreeSet<PromptId>) -> bool {
    match body {
        EventBody::PromptQueued { prompt, .. } | EventBody::PromptEdited { prompt, .. } => {
            taken.contains(prompt)
        }
        EventBody::PromptDelivered { .. }
        | EventBody::TurnStarted { .. }
        | EventBody::TurnInterrupted { .. }
        | EventBody::TurnEnded(_)
        | EventBody::AgentMessage(_)
        | EventBody::AgentThought(_)
        | EventBody::ToolCall(_)
        | EventBody::ToolResult(_)
        | EventBody::Plan { .. }
        | EventBody::ContextAdded { .. }
        | EventBody::ContextCompacted(_)
        | EventBody::CommandRan(_)
        | EventBody::QuestionAsked(_)
        | EventBody::QuestionAnswered { .. }
        | EventBody::Checkpoint(_)
        | EventBody::DiffStat(_)
        | EventBody::Error(_) => true,
        _ => false,
    }
}

/// The whole log to begin with.
fn groups(created: SessionCreated, said: Vec<Group>, prompt: Option<String>) -> Vec<Group> {
    let turn = if prompt.is_some() { TurnPhase::Queued } else { TurnPhase::Idle };
    let machine = Machine { sandbox: SandboxPhase::None, turn, waiting_prompts: u32::from(prompt.is_some()) };
    let queued = prompt.map(|text| EventBody::PromptQueued {
        prompt: PromptId::from(Ulid::generate()),
        text,
        delivery: Delivery::Next,
    });
    let last = queued.into_iter().chain([EventBody::SessionStatus(machine.change(None))]).collect();
    let first = (None, vec![EventBody::SessionCreated(created)]);
    std::iter::once(first).chain(said).chain([(None, last)]).collect()
}

//! Going back to a checkpoint.
//!
//! ```text
//!  idle ─▶ background commands ended ─▶ what is there recorded ─▶ files put back ─▶ recorded on top
//!                                            │ cannot be: refused          └─▶ session.rewound
//!                                            ▼
//!                                       nothing is lost: going back can itself be taken back
//! ```
//!
//! The branch only moves forward: the files of then are a commit on top of those of now, so that what was
//! pushed or fetched is never rewritten. Without a sandbox the session repository does it alone.

use protocol::event::{Checkpoint, Event, EventBody, PlanEntry, Rewound};
use protocol::ids::Seq;
use protocol::rewind::Standing;
use protocol::status::{SandboxPhase, TurnPhase};
use store::StoreError;

use super::{Driver, LiveSandbox};
use crate::agents::OURS;
use crate::checkpoint::{self, CheckpointError, Taken};
use crate::error::SessionError;
use crate::provision;

impl Driver {
    /// Goes back to a checkpoint; the seq of the event that says so.
    pub(super) async fn rewind(&mut self, wanted: Rewound) -> Result<Result<Seq, SessionError>, StoreError> {
        if self.job.is_some() || self.suspend.is_some() || self.machine.turn != TurnPhase::Idle {
            return Ok(Err(SessionError::Busy(self.id)));
        }
        if !wanted.files && !wanted.conversation {
            return Ok(Err(SessionError::NothingToRewind));
        }
        if wanted.conversation && self.facts.agent != OURS {
            return Ok(Err(SessionError::OwnMemory(self.facts.agent.clone())));
        }
        let events = self.shared.store.all_events(self.id).await?;
        let target = match find(&events, wanted.to) {
            Some(checkpoint) => checkpoint.clone(),
            None => return Ok(Err(SessionError::NoCheckpoint(wanted.to))),
        };
        let sandbox = self.sandbox.clone().filter(|_| self.machine.sandbox == SandboxPhase::Ready);
        if let Some(sandbox) = &sandbox {
            if let Err(reason) = self.end_background(sandbox).await {
                return Ok(Err(SessionError::Rewind(reason)));
            }
            self.unrecorded = true;
            if !self.record_rest().await? {
                return Ok(Err(SessionError::Unrecorded(self.id)));
            }
        }
        let mut bodies = Vec::new();
        if wanted.files {
            match self.files_of(&target, sandbox.as_ref(), wanted.to).await {
                Ok(recorded) => bodies.extend(recorded),
                Err(error) => {
                    // Some files may be put back already.
                    self.unrecorded = sandbox.is_some();
                    return Ok(Err(SessionError::Rewind(error.to_string())));
                }
            }
        }
        bodies.push(EventBody::SessionRewound(wanted));
        if wanted.conversation {
            self.agent = None;
            let then = plan(&events, &Standing::at(&events, wanted.to));
            if then != plan(&events, &Standing::of(&events)) {
                bodies.push(EventBody::Plan { entries: then });
            }
        }
        let tip = bodies.iter().rev().find_map(|body| match body {
            EventBody::Checkpoint(checkpoint) => Some(checkpoint.commit.clone()),
            _ => None,
        });
        let last = self.append(bodies).await?;
        if let Some(tip) = tip {
            self.tip.set(tip);
        }
        Ok(Ok(last))
    }

    /// Ends what the agent left running: it would write into what is put back, and may be forgotten.
    async fn end_background(&mut self, sandbox: &LiveSandbox) -> Result<(), String> {
        if self.agent.is_none() && self.facts.agent == OURS {
            self.agent = Some(provision::agent(&self.shared, &self.facts, sandbox, None).await?);
        }
        if let Some(agent) = &mut self.agent {
            agent.end_background().await;
        }
        Ok(())
    }

    /// Puts the files of a checkpoint back, and gives the events that tell of the new one.
    async fn files_of(
        &mut self,
        target: &Checkpoint,
        sandbox: Option<&LiveSandbox>,
        number: Seq,
    ) -> Result<Vec<EventBody>, CheckpointError> {
        let (shared, facts, tip) = (&self.shared, &self.facts, self.tip.get());
        let message = format!("Go back to checkpoint {number}\n\nPatchyard-Session: {}", facts.id);
        let work = async {
            if let Some(sandbox) = sandbox {
                checkpoint::put_back(facts, sandbox, &target.commit).await?;
                return checkpoint::take(shared, facts, sandbox, (&tip, checkpoint::Moment::Rest), &message)
                    .await;
            }
            let number = u64::try_from(shared.store.clock().now().as_millisecond()).unwrap_or_default();
            let (repositories, branch) = (&shared.repositories, (facts.id, facts.branch.as_str()));
            let checkpoint = repositories.put_back(branch, number, (&target.commit, &tip), &message).await?;
            let stat = repositories.diff(facts.id, &facts.base, &checkpoint.commit).await?.stat;
            Ok(Some(Taken { checkpoint, stat, left: Vec::new(), lost: Vec::new() }))
        };
        let taken = tokio::time::timeout(shared.config.deadlines.checkpoint, work).await;
        let taken = taken.unwrap_or(Err(CheckpointError::Deadline))?;
        Ok(taken.map_or_else(Vec::new, Taken::events))
    }
}

/// The checkpoint that an event recorded.
pub(crate) fn find(events: &[Event], seq: Seq) -> Option<&Checkpoint> {
    let at = events.binary_search_by_key(&seq, |event| event.seq).ok()?;
    match &events[at].body {
        EventBody::Checkpoint(checkpoint) => Some(checkpoint),
        _ => None,
    }
}

/// The todo list of those events that stand.
fn plan(events: &[Event], standing: &Standing) -> Vec<PlanEntry> {
    let newest = events.iter().rev().filter(|event| standing.contains(event.seq)).find_map(|event| {
        match &event.body {
            EventBody::Plan { entries } => Some(entries.clone()),
            _ => None,
        }
    });
    newest.unwrap_or_default()
}

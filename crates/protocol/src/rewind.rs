//! Going back to a checkpoint, and what still counts after it.
//!
//! ```text
//!  seq   1 … 20  checkpoint 21   22 … 40   rewound 41 (to 21)   42 …
//!        └──── stands ────────┘  └ void ─┘ └───── stands ─────────┘
//! ```
//!
//! Nothing is taken out of the log. What stands is found from its end: each rewind says which event came
//! before it, so that going back to something void makes that stand again. With the last checkpoint of a
//! turn the turn's end stands, too.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Event, EventBody};
use crate::ids::{PromptId, Seq, SessionId, TurnId};
use crate::usage::DiffStat;

/// Body of `session.rewound`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rewound {
    /// The `checkpoint` event that was gone back to.
    pub to: Seq,
    /// Whether the workspace has the files of then.
    pub files: bool,
    /// Whether the agent knows only what was said until then.
    pub conversation: bool,
}

/// Where a forked session comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Fork {
    /// The session.
    pub session: SessionId,
    /// Its `checkpoint` event.
    pub checkpoint: Seq,
}

/// Body of `POST /sessions/{id}/rewind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RewindSession {
    /// The seq of a `checkpoint` event.
    pub to: Seq,
    /// Whether the files go back.
    #[serde(default = "yes")]
    pub files: bool,
    /// Whether the conversation goes back.
    #[serde(default = "yes")]
    pub conversation: bool,
}

/// Body of `POST /sessions/{id}/fork`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ForkSession {
    /// The seq of a `checkpoint` event.
    pub at: Seq,
    /// The first prompt there, 1 to 64,000 characters; without one it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
}

/// Answer of `GET /sessions/{id}/checkpoints`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CheckpointList {
    /// Oldest first.
    pub checkpoints: Vec<ListedCheckpoint>,
}

/// A state that a session can go back to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ListedCheckpoint {
    /// The seq of its event, which names it.
    pub checkpoint: Seq,
    /// When it was taken.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// The turn that worked then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnId>,
    /// What that turn began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The commit in the session repository.
    pub commit: String,
    /// What differed from the base.
    pub diff: DiffStat,
    /// Whether it is the last of its turn.
    pub ends_turn: bool,
    /// Whether what was said until then counts; it does not after a rewind to an earlier one.
    pub stands: bool,
}

fn yes() -> bool {
    true
}

/// The events of a session that count for the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing(Vec<RangeInclusive<Seq>>);

impl Standing {
    /// What stands after all of these events, which are in order and may be some of a log only: the
    /// rewinds have to be among them.
    #[must_use]
    pub fn of(events: &[Event]) -> Self {
        Self::at(events, events.last().map_or(0, |event| event.seq))
    }

    /// What stood after the event with this seq.
    #[must_use]
    pub fn at(events: &[Event], seq: Seq) -> Self {
        let mut ranges = Vec::new();
        let mut end = reach(events, seq);
        for event in events.iter().rev() {
            if let EventBody::SessionRewound(Rewound { to, conversation: true, .. }) = event.body
                && event.seq <= end
                && to < event.seq
            {
                ranges.push(event.seq..=end);
                end = reach(events, to);
            }
        }
        ranges.push(1..=end);
        Self(ranges)
    }

    /// Whether an event is among them.
    #[must_use]
    pub fn contains(&self, seq: Seq) -> bool {
        self.0.iter().any(|range| range.contains(&seq))
    }
}

/// Up to where what belongs to an event reaches: the last checkpoint of a turn is followed by its end.
fn reach(events: &[Event], seq: Seq) -> Seq {
    let at = events.partition_point(|event| event.seq < seq);
    let Some((first, rest)) = events.get(at..).and_then(<[Event]>::split_first) else { return seq };
    if first.seq != seq || !matches!(first.body, EventBody::Checkpoint(_)) {
        return seq;
    }
    let says_nothing = |body: &EventBody| {
        matches!(
            body,
            EventBody::DiffStat(_)
                | EventBody::GitPush(_)
                | EventBody::Error(_)
                | EventBody::NetworkDenied(_)
                | EventBody::NetworkAllowed(_)
                | EventBody::ShellOpened { .. }
                | EventBody::ShellClosed { .. }
                | EventBody::FilesCopied { .. }
        )
    };
    match rest.iter().find(|event| !says_nothing(&event.body)) {
        Some(Event { body: EventBody::TurnEnded(_), seq, .. }) => *seq,
        _ => seq,
    }
}

/// The kinds of events that [`checkpoints`] looks at.
pub const CHECKPOINT_KINDS: [&str; 7] = [
    "prompt.queued",
    "prompt.edited",
    "turn.started",
    "turn.ended",
    "checkpoint",
    "diffstat",
    "session.rewound",
];

/// The checkpoints of a log, oldest first.
#[must_use]
pub fn checkpoints(events: &[Event]) -> Vec<ListedCheckpoint> {
    let standing = Standing::of(events);
    let mut prompts: HashMap<PromptId, &str> = HashMap::new();
    let mut turns: HashMap<TurnId, &str> = HashMap::new();
    let mut list: Vec<ListedCheckpoint> = Vec::new();
    for event in events {
        match &event.body {
            EventBody::PromptQueued { prompt, text, .. } | EventBody::PromptEdited { prompt, text, .. } => {
                prompts.insert(*prompt, text);
            }
            EventBody::TurnStarted { prompt } => {
                if let (Some(turn), Some(text)) = (event.turn, prompts.get(prompt)) {
                    turns.insert(turn, text);
                }
            }
            EventBody::TurnEnded(_) => {
                if let Some(last) = list.last_mut().filter(|last| last.turn == event.turn) {
                    last.ends_turn = true;
                }
            }
            EventBody::Checkpoint(checkpoint) => list.push(ListedCheckpoint {
                checkpoint: event.seq,
                at: event.at,
                turn: event.turn,
                prompt: event.turn.and_then(|turn| turns.get(&turn)).map(|text| (*text).to_owned()),
                commit: checkpoint.commit.clone(),
                diff: DiffStat::default(),
                ends_turn: false,
                stands: standing.contains(event.seq),
            }),
            // It follows its checkpoint.
            EventBody::DiffStat(stat) => {
                if let Some(last) = list.last_mut() {
                    last.diff = *stat;
                }
            }
            _ => {}
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A log in which some events go back to earlier ones.
    fn log(rewinds: &[(Seq, Seq)], length: Seq) -> Vec<Event> {
        let body = |seq| match rewinds.iter().find(|(at, _)| *at == seq) {
            Some((_, to)) => EventBody::SessionRewound(Rewound { to: *to, files: false, conversation: true }),
            None => EventBody::DiffStat(DiffStat::default()),
        };
        let event = |seq| Event {
            session: SessionId::from_parts(1, 1),
            seq,
            at: Timestamp::UNIX_EPOCH,
            epoch: 1,
            turn: None,
            causation: None,
            body: body(seq),
        };
        (1..=length).map(event).collect()
    }

    fn standing(rewinds: &[(Seq, Seq)], length: Seq) -> Vec<Seq> {
        let standing = Standing::of(&log(rewinds, length));
        (1..=length).filter(|seq| standing.contains(*seq)).collect()
    }

    #[test]
    fn what_came_after_the_checkpoint_is_void_and_can_stand_again() {
        assert_eq!(standing(&[], 4), [1, 2, 3, 4]);
        assert_eq!(standing(&[(7, 3)], 9), [1, 2, 3, 7, 8, 9]);
        assert_eq!(standing(&[(7, 3), (8, 5)], 9), [1, 2, 3, 4, 5, 8, 9], "back to something void");
        assert_eq!(standing(&[(5, 3), (9, 6)], 10), [1, 2, 3, 5, 6, 9, 10], "again, to after the first");
        assert_eq!(standing(&[(5, 3), (9, 2)], 10), [1, 2, 9, 10]);
    }

    #[test]
    fn the_end_of_a_turn_stands_with_its_last_checkpoint() {
        let mut events = log(&[(8, 2), (9, 4)], 9);
        let commit = String::new();
        let checkpoint = crate::event::Checkpoint { commit: commit.clone(), tree: commit };
        events[1].body = EventBody::Checkpoint(checkpoint.clone());
        events[2].body = EventBody::TurnResumed {};
        events[3].body = EventBody::Checkpoint(checkpoint);
        let (status, stop_reason) =
            (crate::status::TurnStatus::Completed, crate::status::StopReason::EndTurn);
        let ended = crate::event::TurnEnded { status, stop_reason, message: None, duration_ms: 1 };
        events[5].body = EventBody::TurnEnded(ended);
        let seqs = |standing: Standing| (1..=9).filter(|seq| standing.contains(*seq)).collect::<Vec<_>>();
        assert_eq!(seqs(Standing::at(&events, 2)), [1, 2], "one in the middle stands alone");
        assert_eq!(seqs(Standing::at(&events, 4)), [1, 2, 3, 4, 5, 6]);
        assert_eq!(seqs(Standing::at(&events, 8)), [1, 2, 8]);
        assert_eq!(seqs(Standing::of(&events)), [1, 2, 3, 4, 5, 6, 9]);
    }

    proptest! {
        /// Walking back by hand gives the same, whatever was gone back to.
        #[test]
        fn it_is_what_a_walk_from_the_end_finds(choices in proptest::collection::vec((any::<bool>(), 0usize..50), 1..60)) {
            let length = choices.len() as Seq;
            let rewinds: Vec<(Seq, Seq)> = (1..).zip(&choices)
                .filter(|(at, (is_rewind, _))| *is_rewind && *at > 1)
                .map(|(at, (_, to))| (at, 1 + *to as Seq % (at - 1)))
                .collect();
            let mut found = Vec::new();
            let mut seq = length;
            while seq > 0 {
                found.push(seq);
                seq = rewinds.iter().find(|(at, _)| *at == seq).map_or(seq - 1, |(_, to)| *to);
            }
            found.reverse();
            prop_assert_eq!(standing(&rewinds, length), found);
        }
    }
}

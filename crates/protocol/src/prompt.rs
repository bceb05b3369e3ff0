//! Prompts that wait.
//!
//! ```text
//!   queued ──▶ taken: a turn began with it, or it was handed over into the turn that runs
//!     │ edited: another text, another delivery
//!     └──▶ cancelled
//! ```
//!
//! The queue is a fold of the log, as everything else is.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::event::{Event, EventBody};
use crate::ids::PromptId;

/// When a prompt that is sent while a turn runs reaches the agent. Without a turn all are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// With the results of the tools that run now, before the next request to the model. Agents that
    /// cannot take one then get it after the turn.
    #[default]
    Next,
    /// As a turn of its own, after this one.
    Later,
    /// At once: the turn is interrupted, and the next one begins with it.
    Now,
}

impl Delivery {
    /// Whether it is the ordinary one, which is not written down.
    #[must_use]
    pub fn is_next(&self) -> bool {
        *self == Self::Next
    }
}

/// A prompt that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QueuedPrompt {
    /// Its id.
    pub prompt: PromptId,
    /// Its text.
    pub text: String,
    /// When it is handed over.
    pub delivery: Delivery,
}

/// The prompts of one session that wait, in the order in which turns begin with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PromptQueue(VecDeque<QueuedPrompt>);

impl PromptQueue {
    /// What waits after these events.
    #[must_use]
    pub fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut queue = Self::default();
        events.into_iter().for_each(|event| queue.apply(&event.body));
        queue
    }

    /// Folds the next event in.
    pub fn apply(&mut self, body: &EventBody) {
        match body {
            EventBody::PromptQueued { prompt, text, delivery } => {
                self.insert(QueuedPrompt { prompt: *prompt, text: text.clone(), delivery: *delivery });
            }
            EventBody::PromptEdited { prompt, text, delivery } => {
                let Some(at) = self.0.iter().position(|waiting| waiting.prompt == *prompt) else { return };
                let changed = QueuedPrompt { prompt: *prompt, text: text.clone(), delivery: *delivery };
                // To the front it goes for a reason; else everybody keeps their place.
                if *delivery == Delivery::Now && self.0[at].delivery != Delivery::Now {
                    self.0.remove(at);
                    self.insert(changed);
                } else {
                    self.0[at] = changed;
                }
            }
            EventBody::TurnStarted { prompt }
            | EventBody::PromptDelivered { prompt }
            | EventBody::PromptCancelled { prompt } => {
                self.0.retain(|waiting| waiting.prompt != *prompt);
            }
            _ => {}
        }
    }

    fn insert(&mut self, prompt: QueuedPrompt) {
        let urgent = self.0.iter().take_while(|waiting| waiting.delivery == Delivery::Now).count();
        let at = if prompt.delivery == Delivery::Now { urgent } else { self.0.len() };
        self.0.insert(at, prompt);
    }

    /// The one that the next turn begins with.
    #[must_use]
    pub fn first(&self) -> Option<&QueuedPrompt> {
        self.0.front()
    }

    /// This one, if it still waits.
    #[must_use]
    pub fn get(&self, prompt: PromptId) -> Option<&QueuedPrompt> {
        self.0.iter().find(|waiting| waiting.prompt == prompt)
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &QueuedPrompt> {
        self.0.iter()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> PromptId {
        PromptId::from_parts(1, number)
    }

    fn queued(number: u128, delivery: Delivery) -> EventBody {
        EventBody::PromptQueued { prompt: id(number), text: number.to_string(), delivery }
    }

    #[test]
    fn the_urgent_come_first_and_the_rest_in_their_order() {
        let mut queue = PromptQueue::default();
        let later = queued(2, Delivery::Later);
        for body in [queued(1, Delivery::Next), later, queued(3, Delivery::Now), queued(4, Delivery::Now)] {
            queue.apply(&body);
        }
        let order =
            |queue: &PromptQueue| queue.iter().map(|waiting| waiting.text.clone()).collect::<Vec<_>>();
        assert_eq!(order(&queue), ["3", "4", "1", "2"]);
        queue.apply(&EventBody::PromptEdited {
            prompt: id(1),
            text: "one".into(),
            delivery: Delivery::Later,
        });
        assert_eq!(order(&queue), ["3", "4", "one", "2"], "an edited one keeps its place");
        queue.apply(&EventBody::PromptEdited { prompt: id(2), text: "2".into(), delivery: Delivery::Now });
        assert_eq!(order(&queue), ["3", "4", "2", "one"]);
        queue.apply(&EventBody::TurnStarted { prompt: id(3) });
        queue.apply(&EventBody::PromptCancelled { prompt: id(4) });
        queue.apply(&EventBody::PromptDelivered { prompt: id(2) });
        assert_eq!(order(&queue), ["one"]);
        queue.apply(&EventBody::PromptEdited { prompt: id(2), text: "gone".into(), delivery: Delivery::Now });
        assert_eq!((queue.len(), queue.get(id(2))), (1, None), "what was taken does not come back");
    }
}

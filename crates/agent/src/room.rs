//! Keeps the conversation of a turn short enough.

use protocol::agent_port::{PortError, TurnEnd};
use protocol::status::TurnStatus;

use crate::agent::PatchyardAgent;
use crate::compact::{Compacted, With, make_room};

/// How often a turn makes room for itself.
const ROOMS: u32 = 20;

/// How often in a row the conversation is made shorter for one request.
const TOO_LONG: u32 = 3;

/// How a turn keeps its conversation short enough.
#[derive(Default)]
pub(crate) struct Room {
    made: u32,
    pub(crate) too_long: u32,
    /// It cannot be made shorter, and is not tried again.
    hopeless: bool,
}

impl Room {
    /// Makes room where it is time; the end, where the person stopped that.
    pub(crate) async fn keep(
        &mut self,
        agent: &mut PatchyardAgent,
        with: With<'_>,
        messages: &mut u32,
    ) -> Result<Option<TurnEnd>, PortError> {
        if self.hopeless || self.made == ROOMS || !agent.threshold.is_reached(agent.history.size()) {
            return Ok(None);
        }
        self.made += 1;
        match Box::pin(make_room(agent, with, messages)).await? {
            Compacted::Done => Ok(None),
            Compacted::Not(end) if end.status == TurnStatus::Interrupted => Ok(Some(end)),
            Compacted::Not(_) => {
                self.hopeless = true;
                Ok(None)
            }
        }
    }

    /// Makes room for a request that was too long; `end`, or the person's, where that does not go.
    pub(crate) async fn make(
        &mut self,
        agent: &mut PatchyardAgent,
        with: With<'_>,
        messages: &mut u32,
        end: TurnEnd,
    ) -> Result<Option<TurnEnd>, PortError> {
        self.too_long += 1;
        if self.too_long == TOO_LONG || agent.threshold.limit.is_none() {
            return Ok(Some(end));
        }
        match Box::pin(make_room(agent, with, messages)).await? {
            Compacted::Done => Ok(None),
            Compacted::Not(other) if other.status == TurnStatus::Interrupted => Ok(Some(other)),
            Compacted::Not(_) => Ok(Some(end)),
        }
    }
}

//! placeholder while the adapter is written
use std::time::Duration;

use async_trait::async_trait;
use protocol::agent_port::{Agent, AgentPort, PortError, TurnEnd, TurnInput};
use protocol::event::Event;
use protocol::status::StopReason;
use tokio_util::sync::CancellationToken;

use crate::agents::{AgentSpec, Place};

pub(crate) struct AcpAgent {
    spec: AgentSpec,
    place: Place,
    start: Duration,
}

impl AcpAgent {
    pub(crate) fn new(spec: AgentSpec, place: Place, start: Duration) -> Self {
        Self { spec, place, start }
    }
}

#[async_trait]
impl Agent for AcpAgent {
    async fn restore(&mut self, _events: &[Event]) -> Result<(), PortError> {
        Ok(())
    }
    async fn turn(&mut self, _input: TurnInput, _port: &dyn AgentPort, _stop: CancellationToken) -> TurnEnd {
        let _ = (&self.spec, &self.place.workspace, self.start);
        TurnEnd::failed(StopReason::Agent, "not yet")
    }
}

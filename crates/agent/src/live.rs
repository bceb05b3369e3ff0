//! Passes what the model writes on to the people who watch.

use async_trait::async_trait;
use model_gateway::{Delta, Observer, Retry};
use protocol::agent_port::{AgentPort, PortError};
use protocol::event::{EventBody, LiveDelta, SessionError};
use protocol::ids::TurnId;

/// Names the model's messages and shows them while they grow.
///
/// The names are the agent's own, `<turn>.<n>`: unique in the session whatever the server calls its
/// messages, and a new one for every try, so that a void message is never mixed up with the next.
pub(crate) struct Live<'a> {
    port: &'a dyn AgentPort,
    turn: TurnId,
    number: &'a mut u32,
    shown: bool,
    failed: Option<PortError>,
}

impl<'a> Live<'a> {
    /// Begins a message; `number` counts the messages of the turn.
    pub(crate) fn begin(port: &'a dyn AgentPort, turn: TurnId, number: &'a mut u32) -> Self {
        *number += 1;
        Self { port, turn, number, shown: false, failed: None }
    }

    /// The name of the message.
    pub(crate) fn message(&self) -> String {
        format!("{}.{}", self.turn, self.number)
    }

    /// Takes back what was shown of the message.
    pub(crate) fn discard(&mut self) {
        if std::mem::take(&mut self.shown) {
            self.port.live(LiveDelta::Discard { message: self.message() });
        }
    }

    /// The message's name, or why the log took no more.
    pub(crate) fn end(mut self) -> Result<String, PortError> {
        self.failed.take().map_or_else(|| Ok(self.message()), Err)
    }
}

#[async_trait]
impl Observer for Live<'_> {
    fn delta(&mut self, delta: Delta<'_>) {
        self.shown = true;
        let message = self.message();
        self.port.live(match delta {
            Delta::Text { block, text } => LiveDelta::Text { message, block, text: text.to_owned() },
            Delta::Thinking { block, text } => LiveDelta::Thought { message, block, text: text.to_owned() },
        });
    }

    fn event(&mut self, data: &str) {
        self.port.streamed(data);
    }

    async fn retry(&mut self, retry: Retry<'_>) {
        self.discard();
        *self.number += 1;
        let error = EventBody::Error(SessionError {
            code: retry.error.code().to_owned(),
            message: retry.error.explain(),
            retry_in_ms: Some(u64::try_from(retry.delay.as_millis()).unwrap_or(u64::MAX)),
        });
        if let Err(failed) = self.port.append(vec![error]).await {
            self.failed = Some(failed);
        }
    }
}

//! The adapter for agents of others: ACP (Agent Client Protocol, version 1) on the standard streams
//! of a command in the sandbox.
//!
//! ```text
//!  turn ─▶ AcpAgent ─ session/prompt ─▶ connection ═ pump ═ exec in the sandbox: the agent
//!             ▲                             │ session/update
//!             └──── events ◀── Translator ◀─┘
//! ```
//!
//! The agent is started with the first turn and lives on between turns. It runs freely inside the
//! sandbox: what it asks permission for is allowed, because the sandbox is the wall. Everything that
//! it says is hostile: lines are capped, and what is no ACP ends the turn, not the server.

mod connection;
mod text;
mod translate;
mod updates;

use std::time::Duration;

use agent_client_protocol::v1::schema::{
    CancelNotification, ContentBlock, PromptRequest, StopReason as AcpStop, TextContent,
};
use agent_client_protocol::{is_connection_terminated, is_incoming_transport_closed};
use async_trait::async_trait;
use protocol::agent_port::{Agent, AgentPort, PortError, TurnEnd, TurnInput};
use protocol::event::{Event, EventBody, SessionError};
use protocol::status::{StopReason, TurnStatus};
use tokio_util::sync::CancellationToken;

use crate::agents::{AgentSpec, Place};
use connection::Connection;
use text::plain;
use translate::{Translator, UpdateError};

/// How long an agent may take to answer a cancel before it is ended.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);

/// Characters of an agent's own words about a failure.
const MAX_WORDS: usize = 500;

/// An agent in the sandbox.
pub(crate) struct AcpAgent {
    spec: AgentSpec,
    place: Place,
    start_deadline: Duration,
    connection: Option<Connection>,
    /// Whether turns came before this process of the agent: it does not remember them.
    forgot: bool,
}

impl AcpAgent {
    pub(crate) fn new(spec: AgentSpec, place: Place, start_deadline: Duration) -> Self {
        Self { spec, place, start_deadline, connection: None, forgot: false }
    }

    /// The live connection, started when there is none.
    async fn connect(&mut self, port: &dyn AgentPort) -> Result<Connection, TurnEnd> {
        if let Some(connection) = self.connection.take().filter(|connection| !connection.is_over()) {
            return Ok(connection);
        }
        let start = Connection::start(&self.spec, &self.place);
        let connection = match tokio::time::timeout(self.start_deadline, start).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(reason)) => {
                return Err(TurnEnd::failed(
                    StopReason::Agent,
                    format!("the agent `{}` did not start: {}", self.spec.name, plain(&reason, MAX_WORDS)),
                ));
            }
            Err(_) => {
                return Err(TurnEnd::failed(
                    StopReason::Deadline,
                    format!(
                        "the agent `{}` did not start within {} s",
                        self.spec.name,
                        self.start_deadline.as_secs()
                    ),
                ));
            }
        };
        if self.forgot {
            let message = format!(
                "The agent `{}` was started anew and does not remember the turns before this one.",
                self.spec.name
            );
            let notice = SessionError { code: "agent_restarted".into(), message, retry_in_ms: None };
            port.append(vec![EventBody::Error(notice)]).await.map_err(|error| port_closed(&error))?;
        }
        self.forgot = true;
        Ok(connection)
    }
}

#[async_trait]
impl Agent for AcpAgent {
    async fn restore(&mut self, events: &[Event]) -> Result<(), PortError> {
        self.forgot = events.iter().any(|event| matches!(event.body, EventBody::TurnStarted { .. }));
        Ok(())
    }

    async fn turn(&mut self, input: TurnInput, port: &dyn AgentPort, stop: CancellationToken) -> TurnEnd {
        let connected = tokio::select! {
            connected = self.connect(port) => connected,
            () = stop.cancelled() => Err(TurnEnd::interrupted()),
        };
        let mut connection = match connected {
            Ok(connection) => connection,
            Err(end) => return end,
        };
        let mut translator = Translator::new(input.turn);
        let end = match prompt(&mut connection, input, port, &mut translator, stop).await {
            Ok(end) => end,
            Err(UpdateError::Port(error)) => port_closed(&error),
            Err(excess @ UpdateError::Excess(_)) => {
                // It would go on in the next turn.
                connection.end();
                TurnEnd::failed(StopReason::Agent, excess.to_string())
            }
        };
        connection.updates.end_turn();
        // The turn's open messages and calls are closed whatever happened.
        if let Err(error) = port.append(translator.finish()).await {
            return port_closed(&error);
        }
        if !connection.is_over() {
            self.connection = Some(connection);
        }
        end
    }
}

async fn prompt(
    connection: &mut Connection,
    input: TurnInput,
    port: &dyn AgentPort,
    translator: &mut Translator,
    stop: CancellationToken,
) -> Result<TurnEnd, UpdateError> {
    let text = ContentBlock::Text(TextContent::new(input.text));
    let request = PromptRequest::new(connection.session.clone(), vec![text]);
    connection.updates.begin_turn();
    let mut answer = Box::pin(connection.agent.send_request(request).block_task());
    let mut cancelled = false;
    let mut patience = Box::pin(tokio::time::sleep(Duration::MAX));
    let end = loop {
        tokio::select! {
            // Updates first: they came before the answer on the wire.
            biased;
            Some(update) = connection.updates.next() => translator.update(update, port).await?,
            answer = &mut answer => break match answer {
                Ok(answer) => turn_end(answer.stop_reason, cancelled),
                Err(error) if is_incoming_transport_closed(&error) => lost(connection, cancelled, true),
                Err(error) if is_connection_terminated(&error) => lost(connection, cancelled, false),
                Err(error) => {
                    let words = plain(&error.to_string(), MAX_WORDS);
                    TurnEnd::failed(StopReason::Agent, format!("the agent answered with an error: {words}"))
                }
            },
            () = connection.over.cancelled() => break lost(connection, cancelled, connection.is_gone()),
            () = stop.cancelled(), if !cancelled => {
                cancelled = true;
                let _ = connection.agent.send_notification(CancelNotification::new(connection.session.clone()));
                patience = Box::pin(tokio::time::sleep(CANCEL_PATIENCE));
            }
            () = &mut patience, if cancelled => {
                connection.end();
                break TurnEnd::interrupted();
            }
        }
    };
    while let Some(update) = connection.updates.next_ready() {
        translator.update(update, port).await?;
    }
    Ok(end)
}

/// The end of a turn whose agent went away, or was sent away because it does not keep to the protocol.
fn lost(connection: &Connection, cancelled: bool, by_itself: bool) -> TurnEnd {
    connection.end();
    if cancelled {
        return TurnEnd::interrupted();
    }
    let words = connection.last_words();
    let message = match by_itself {
        true => format!("the agent ended in the middle of the turn: {words}"),
        false => format!("the agent sent something that is no ACP, and was ended: {words}"),
    };
    TurnEnd::failed(StopReason::Agent, message)
}

fn turn_end(reason: AcpStop, cancelled: bool) -> TurnEnd {
    let limit = |stop_reason, message: &str| TurnEnd {
        status: TurnStatus::Limit,
        stop_reason,
        message: Some(message.into()),
    };
    match reason {
        _ if cancelled => TurnEnd::interrupted(),
        AcpStop::Cancelled => TurnEnd::interrupted(),
        AcpStop::MaxTokens => limit(StopReason::MaxTokens, "the agent's model reached its token limit"),
        AcpStop::MaxTurnRequests => limit(StopReason::MaxRequests, "the agent reached its limit of requests"),
        AcpStop::Refusal => TurnEnd::failed(StopReason::Refusal, "the agent's model refused"),
        // EndTurn, and reasons of newer versions: it said that it is done.
        _ => TurnEnd::completed(),
    }
}

fn port_closed(error: &PortError) -> TurnEnd {
    TurnEnd::failed(StopReason::Agent, error.to_string())
}

//! A running agent and the JSON-RPC connection to it.
//!
//! ```text
//!   agent's streams ═ Pump (counts, watches `kill`) ═ pipe ═ protocol ─▶ updates of this turn ─▶ turn
//!                                                                 └────▶ of no turn: dropped
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{
    InitializeRequest, NewSessionRequest, PermissionOptionKind, RequestPermissionOutcome,
    RequestPermissionRequest, RequestPermissionResponse, SelectedPermissionOutcome, SessionId,
    SessionNotification,
};
use agent_client_protocol::{Agent, ByteStreams, Client, Error, is_incoming_transport_closed};
use protocol::hands::{ExecEvent, ExecSignal, ExecSpec, Execution};
use protocol::ids::ExecId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::oneshot;
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::text::plain;
use super::updates::{Heard, Updates, updates};
use crate::agents::{AgentSpec, Place};

/// The longest line that an agent may send: one message with a large file in it.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// What is kept of the agent's standard error, to say why it ended.
const MAX_STDERR: usize = 8 * 1024;

/// Characters of its words that are passed on.
const MAX_WORDS: usize = 300;

/// How long what a dead agent said may take through the protocol.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Bytes between the pump and the protocol.
const PIPE: usize = 64 * 1024;

/// What an agent may write from the start of a turn to that of the next. The protocol reads ahead
/// without a bound of its own, so that this is also the most of the agent's that we can come to hold.
const MAX_SAID: u64 = 128 * 1024 * 1024;

/// A started agent with one ACP session.
pub(super) struct Connection {
    pub(super) agent: ConnectionTo<Agent>,
    pub(super) session: SessionId,
    pub(super) updates: Updates,
    /// Cancelled when the connection has ended: after the last of what the agent said was read.
    pub(super) over: CancellationToken,
    /// Cancelled as soon as the agent's process is gone.
    gone: CancellationToken,
    /// Cancelled to end it.
    kill: CancellationToken,
    stderr: Arc<Mutex<Vec<u8>>>,
}

impl Connection {
    /// Starts the command in the sandbox and opens a session in the workspace.
    pub(super) async fn start(spec: &AgentSpec, place: &Place) -> Result<Self, String> {
        let exec = ExecId::from(Ulid::generate());
        let command = ExecSpec {
            env: place.environment.clone(),
            stdin: true,
            ..ExecSpec::new(exec, spec.command.clone(), &place.workspace)
        };
        let execution = place.hands.start(command).await.map_err(|error| error.to_string())?;
        let [over, gone, kill] = [(); 3].map(|()| CancellationToken::new());
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let (heard, updates) = updates();
        let pump = Pump {
            execution,
            pipe: theirs,
            kill: kill.clone(),
            stderr: Arc::clone(&stderr),
            heard: heard.clone(),
        };
        let (ended, exited) = (over.clone(), gone.clone());
        tokio::spawn(async move {
            pump.run().await;
            exited.cancel();
            // What it said last is still on its way through the protocol; who waits for an answer
            // hears of the end when all of it was read.
            let _ = tokio::time::timeout(LAST_WORDS, ended.cancelled()).await;
            ended.cancel();
        });
        let agent = open(ours, heard, over.clone()).await;
        let mut this = match agent {
            Some(agent) => Self { agent, session: SessionId::new(""), updates, over, gone, kill, stderr },
            None => return Err(words(&stderr)),
        };
        let opened = tokio::select! {
            opened = this.open_session(place) => opened,
            () = this.over.cancelled() => Err(this.last_words()),
        };
        opened.map(|session| {
            this.session = session;
            this
        })
    }

    async fn open_session(&self, place: &Place) -> Result<SessionId, String> {
        let failed = |what: &str, error: &Error| match is_incoming_transport_closed(error) {
            true => self.last_words(),
            false => format!("{what} failed: {}", plain(&error.to_string(), MAX_WORDS)),
        };
        self.agent
            .send_request(InitializeRequest::new(ProtocolVersion::V1))
            .block_task()
            .await
            .map_err(|error| failed("initialize", &error))?;
        let opened = self
            .agent
            .send_request(NewSessionRequest::new(&place.workspace))
            .block_task()
            .await
            .map_err(|error| failed("session/new", &error))?;
        Ok(opened.session_id)
    }

    /// Whether the agent's process is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// Whether nothing can be asked of it any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_gone() || self.over.is_cancelled()
    }

    /// Ends the agent with everything that it started.
    pub(super) fn end(&self) {
        self.kill.cancel();
        self.over.cancel();
    }

    /// The last thing that it said on standard error.
    pub(super) fn last_words(&self) -> String {
        words(&self.stderr)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.kill.cancel();
    }
}

fn words(stderr: &Mutex<Vec<u8>>) -> String {
    let bytes = stderr.lock().unwrap_or_else(PoisonError::into_inner);
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it gave no reason");
    plain(line, MAX_WORDS)
}

/// Runs the protocol over our end of the pipe; `None` when it ends before it begins.
async fn open(pipe: DuplexStream, heard: Heard, over: CancellationToken) -> Option<ConnectionTo<Agent>> {
    let (ready, opened) = oneshot::channel();
    let (read, write) = tokio::io::split(pipe);
    let transport = ByteStreams::new(write.compat_write(), read.compat());
    let ended = over.clone();
    tokio::spawn(async move {
        let run = Client
            .v1()
            .on_receive_notification(
                async move |notification: SessionNotification, _connection| {
                    heard.update(notification.update).await;
                    Ok(())
                },
                agent_client_protocol::on_receive_notification!(),
            )
            .on_receive_request(
                async move |request: RequestPermissionRequest, responder, _connection| {
                    responder.respond(RequestPermissionResponse::new(allow(&request)))
                },
                agent_client_protocol::on_receive_request!(),
            )
            .connect_with(transport, async move |connection: ConnectionTo<Agent>| {
                let _ = ready.send(connection.clone());
                over.cancelled().await;
                Ok(())
            });
        if let Err(error) = run.await {
            tracing::debug!(%error, "an agent's connection ended");
        }
        ended.cancel();
    });
    opened.await.ok()
}

/// The narrowest permission that lets the agent go on.
fn allow(request: &RequestPermissionRequest) -> RequestPermissionOutcome {
    [PermissionOptionKind::AllowOnce, PermissionOptionKind::AllowAlways]
        .iter()
        .find_map(|kind| request.options.iter().find(|option| option.kind == *kind))
        .map_or(RequestPermissionOutcome::Cancelled, |option| {
            RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(option.option_id.clone()))
        })
}

/// Carries bytes between the agent's standard streams and the protocol.
struct Pump {
    execution: Box<dyn Execution>,
    pipe: DuplexStream,
    kill: CancellationToken,
    stderr: Arc<Mutex<Vec<u8>>>,
    heard: Heard,
}

impl Pump {
    async fn run(mut self) {
        let kill = self.kill.clone();
        // Around all of it: an agent that does not read makes every write wait.
        let has_ended = tokio::select! {
            biased;
            () = kill.cancelled() => false,
            has_ended = self.carry() => has_ended,
        };
        if !has_ended {
            let _ = self.execution.signal(ExecSignal::Kill).await;
        }
    }

    /// Carries until one side is done; true when the agent's process has ended.
    async fn carry(&mut self) -> bool {
        let mut line = 0usize;
        let mut buffer = vec![0; PIPE];
        loop {
            tokio::select! {
                biased;
                read = self.pipe.read(&mut buffer) => match read {
                    Ok(length) if length > 0 => {
                        if self.execution.write_stdin(&buffer[..length]).await.is_err() {
                            return false;
                        }
                    }
                    _ => return false,
                },
                event = self.execution.next() => match event {
                    Ok(ExecEvent::Stdout(bytes)) => {
                        line = match bytes.iter().rposition(|byte| *byte == b'\n') {
                            Some(last) => bytes.len() - last - 1,
                            None => line + bytes.len(),
                        };
                        if line > MAX_LINE {
                            self.keep(b"\nit was ended because it sent a line of more than 16 MB\n");
                            return false;
                        }
                        if self.heard.bytes(bytes.len()) > MAX_SAID {
                            self.keep(b"\nit was ended because it sent more than 128 MB in one turn\n");
                            return false;
                        }
                        if self.pipe.write_all(&bytes).await.is_err() {
                            return false;
                        }
                    }
                    Ok(ExecEvent::Stderr(bytes)) => self.keep(&bytes),
                    Ok(ExecEvent::Exited(_)) | Err(_) => return true,
                },
            }
        }
    }

    fn keep(&self, bytes: &[u8]) {
        let mut kept = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        let surplus = kept.len().saturating_sub(MAX_STDERR);
        kept.drain(..surplus);
    }
}

#[cfg(test)]
mod tests;

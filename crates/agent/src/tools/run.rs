//! Runs a call.

use std::time::Duration;

use protocol::agent_port::AgentPort;
use protocol::hands::{ExecSpec, Execution, HandsError};
use tokio_util::sync::CancellationToken;

use super::bench::Workbench;
use super::call::Call;
use super::{bash, change, read, search, tasks, todo};
use crate::history::INTERRUPTED;
use crate::mcp;
use crate::outcome::Outcome;

/// How long a tool that is not a command may go on after a stop: a file is written whole or not at all.
const GRACE: Duration = Duration::from_secs(2);

/// What a call runs with.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) bench: &'a Workbench,
    pub(crate) port: &'a dyn AgentPort,
    /// The call's id, for live output.
    pub(crate) id: &'a str,
    pub(crate) stop: &'a CancellationToken,
    /// Whether a process that died may have begun the call.
    pub(crate) resumed: bool,
}

/// What is known of a change that a process began and did not live to record.
const UNKNOWN: &str = "unknown: the server died while this call ran and came back. The change may have been \
                       made, or not: read the file before you go on.";

impl Run<'_> {
    /// Begins the command of the call, or takes it up where it was begun already.
    pub(super) async fn begin(&self, spec: ExecSpec) -> Result<Box<dyn Execution>, HandsError> {
        if self.resumed {
            match self.bench.hands.attach(spec.exec).await {
                Err(HandsError::NotFound { .. }) => {}
                known => return known,
            }
        }
        self.bench.hands.start(spec).await
    }
}

/// Whether a call changes nothing, so that several may run at the same time.
pub(crate) fn is_read_only(call: &Call) -> bool {
    match call {
        Call::Read(_)
        | Call::Glob(_)
        | Call::Grep(_)
        | Call::ListResources { .. }
        | Call::ReadResource(_) => true,
        Call::Bash(_)
        | Call::TaskOutput(_)
        | Call::TaskStop(_)
        | Call::Edit(_)
        | Call::Write(_)
        | Call::Skill(_)
        | Call::Agent(_)
        | Call::Mcp { .. }
        | Call::TodoWrite(_) => false,
    }
}

/// Runs a call to its end, or to the end that a stop gives it.
pub(crate) async fn run(call: Call, with: Run<'_>) -> Outcome {
    if with.stop.is_cancelled() {
        return Outcome::refused("not run: the person stopped the turn");
    }
    match call {
        // Commands see to their own end: they are signalled first.
        Call::Bash(input) => bash::run(input, with).await,
        Call::Grep(input) => search::grep(*input, with).await,
        Call::Glob(input) => search::glob(input, with).await,
        Call::TaskStop(input) => tasks::stop(&input, with).await,
        Call::TaskOutput(input) => within_grace(with, tasks::output(&input, with)).await,
        Call::Read(input) => within_grace(with, read::run(input, with.bench)).await,
        Call::Edit(_) | Call::Write(_) if with.resumed => Outcome::failed(UNKNOWN),
        Call::Edit(input) => within_grace(with, change::edit(input, with.bench)).await,
        Call::Write(input) => within_grace(with, change::write(input, with.bench)).await,
        Call::TodoWrite(entries) => todo::run(entries),
        // Servers are told to stop, and not waited for.
        Call::Mcp { name, input } => mcp::call(&name, &input, with).await,
        Call::ListResources { server } => mcp::list_resources(server.as_deref(), with).await,
        Call::ReadResource(input) => mcp::read_resource(&input.server, &input.uri, with).await,
        // What needs more than hands is seen to before.
        Call::Skill(_) | Call::Agent(_) => Outcome::refused("this tool cannot be used here"),
    }
}

async fn within_grace(with: Run<'_>, work: impl Future<Output = Outcome>) -> Outcome {
    let too_late = async {
        with.stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        outcome = work => outcome,
        () = too_late => Outcome::failed(INTERRUPTED),
    }
}

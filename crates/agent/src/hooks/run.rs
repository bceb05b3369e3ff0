//! Runs one hook in the sandbox.

use std::time::Duration;

use protocol::agent_port::AgentPort;
use protocol::hands::{ExecEnd, ExecSpec, Hands};
use protocol::ids::ExecId;
use serde_json::Value;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::config::Handler;
use crate::tools::attend;

/// The most that is taken of what a hook says, of each kind; the rest is not kept.
const MAX_OUTPUT: usize = 1024 * 1024;

/// How long the guest may take to end a hook whose time is over, before it is left to itself.
const PATIENCE: Duration = Duration::from_secs(3);

/// How a hook ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// By itself, or by a signal as shells count them.
    Ended {
        /// Its exit code.
        code: i32,
        /// Standard output.
        output: String,
        /// Standard error.
        complaint: String,
    },
    /// It was stopped.
    TimedOut,
    /// It could not be started, or the sandbox went.
    Failed(String),
}

impl Ran {
    /// How a command ended that a hook is.
    #[must_use]
    pub fn of(end: &ExecEnd, output: String, complaint: String) -> Self {
        if end.timed_out {
            return Self::TimedOut;
        }
        let code = end.code.or(end.signal.map(|signal| 128 + signal)).unwrap_or(-1);
        Self::Ended { code, output, complaint }
    }
}

/// Runs a hook's command: its input on standard input, its variables, where the session's shell stands.
pub async fn run(
    hands: &dyn Hands,
    handler: &Handler,
    exec: ExecId,
    (cwd, project): (&str, &str),
    (env, input): (&[(String, String)], &Value),
    stop: &CancellationToken,
) -> Ran {
    let spec = ExecSpec {
        env: env.to_vec(),
        stdin: true,
        timeout: Some(handler.timeout),
        ..ExecSpec::new(exec, handler.argv(project), cwd)
    };
    // The guest ends it in time; a guest that does not is not waited for.
    match timeout(handler.timeout + PATIENCE, follow(hands, spec, input, stop)).await {
        Ok(ran) => ran,
        Err(_) => Ran::TimedOut,
    }
}

/// Runs a hook that lives with the agent's driver.
pub(crate) async fn call(
    port: &dyn AgentPort,
    handler: &Handler,
    (hook, input, call): (&str, &Value, Option<&str>),
    stop: &CancellationToken,
) -> Ran {
    let called = timeout(handler.timeout, port.call_hook(hook, input, call));
    match stop.run_until_cancelled(called).await {
        None => Ran::Failed("it was stopped".into()),
        Some(Err(_)) => Ran::TimedOut,
        Some(Ok(Err(why))) => Ran::Failed(why),
        Some(Ok(Ok(output))) => Ran::Ended { code: 0, output: output.to_string(), complaint: String::new() },
    }
}

async fn follow(hands: &dyn Hands, spec: ExecSpec, input: &Value, stop: &CancellationToken) -> Ran {
    let mut execution = match hands.start(spec).await {
        Ok(execution) => execution,
        Err(error) => return Ran::Failed(error.to_string()),
    };
    // A hook that does not read its input ends all the same.
    let _ = timeout(PATIENCE, execution.write_stdin(format!("{input}\n").as_bytes())).await;
    let _ = timeout(PATIENCE, execution.close_stdin()).await;
    let stop = stop.child_token();
    let (mut output, mut complaint, mut flooded) = (Vec::new(), Vec::new(), false);
    let mut take = |bytes: &[u8], is_error: bool| {
        let kept: &mut Vec<u8> = if is_error { &mut complaint } else { &mut output };
        let room = MAX_OUTPUT - kept.len();
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room {
            flooded = true;
            stop.cancel();
        }
    };
    let ended = attend(execution.as_mut(), &stop, &mut take).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match ended {
        Err(error) => Ran::Failed(error.to_string()),
        Ok(_) if flooded => Ran::Failed(format!("it said more than {MAX_OUTPUT} bytes and was stopped")),
        Ok(ended) if ended.interrupted => Ran::Failed("it was stopped".into()),
        Ok(ended) => Ran::of(&ended.end, text(&output), text(&complaint)),
    }
}

//! Runs one command to its end.
//!
//! ```text
//!  running ──────────────────────────────────────────────▶ exited
//!     │ stop                                                  ▲ SIGKILL to what it left behind
//!     └─▶ SIGINT ── ½ s ─▶ SIGTERM ── ½ s ─▶ SIGKILL ── 3 s ──┴─▶ given up
//! ```

use std::time::Duration;

use protocol::hands::{ExecEnd, ExecEvent, ExecSignal, Execution, HandsError};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// What is sent at each step of a stop, and how long it is given.
const STEPS: [(ExecSignal, Duration); 3] = [
    (ExecSignal::Interrupt, Duration::from_millis(500)),
    (ExecSignal::Terminate, Duration::from_millis(500)),
    (ExecSignal::Kill, Duration::from_secs(3)),
];

/// How long the sending of a signal may take.
const SEND: Duration = Duration::from_secs(2);

/// How a command ended for its caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// How it ended; nothing is known of one that was given up.
    pub(crate) end: ExecEnd,
    /// Whether a stop came while it ran.
    pub(crate) interrupted: bool,
}

/// Takes a command's output until it ends. `on_output` gets standard output and standard error as they
/// come; the second argument says that it is standard error.
pub(crate) async fn attend(
    execution: &mut dyn Execution,
    stop: &CancellationToken,
    on_output: &mut (dyn FnMut(&[u8], bool) + Send),
) -> Result<Ended, HandsError> {
    let mut step = 0;
    let mut deadline = Instant::now();
    loop {
        let stopping = step > 0;
        tokio::select! {
            event = execution.next() => match event? {
                ExecEvent::Stdout(bytes) => on_output(&bytes, false),
                ExecEvent::Stderr(bytes) => on_output(&bytes, true),
                ExecEvent::Exited(end) => {
                    if stopping {
                        // Daemons of a command that was stopped are stopped, too.
                        let _ = timeout(SEND, execution.signal(ExecSignal::Kill)).await;
                    }
                    return Ok(Ended { end, interrupted: stopping });
                }
            },
            () = stop.cancelled(), if !stopping => deadline = next_step(execution, &mut step).await,
            () = sleep_until(deadline), if stopping => {
                if step == STEPS.len() {
                    return Ok(Ended { end: ExecEnd::default(), interrupted: true });
                }
                deadline = next_step(execution, &mut step).await;
            }
        }
    }
}

/// `execution` is borrowed mutably because a shared borrow of it could not move between threads.
async fn next_step(execution: &mut dyn Execution, step: &mut usize) -> Instant {
    let (signal, patience) = STEPS[*step];
    *step += 1;
    // A signal that cannot be sent is followed by the next one; the end is waited for in any case.
    let _ = timeout(SEND, execution.signal(signal)).await;
    Instant::now() + patience
}

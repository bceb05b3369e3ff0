//! Where a session is: two machines, and the one word that people see.
//!
//! ```text
//!  sandbox  none → creating → preparing → ready → suspended → (creating …)
//!                     └──────────┴──────────┴──→ failed      gone (deleted)
//!  turn     idle ⇄ queued → running ⇄ waiting
//! ```
//!
//! The machines move on their own; [`SessionStatus::of`] is a pure function of both. The moves
//! themselves are decided in `session::machine`.

use serde::{Deserialize, Serialize};

/// Where the sandbox of a session is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SandboxPhase {
    /// There is none yet.
    #[default]
    None,
    /// The host makes it.
    Creating,
    /// It runs; the workspace is being made.
    Preparing,
    /// Tools can run.
    Ready,
    /// It was taken down; the last checkpoint is kept and the next prompt makes a new one.
    Suspended,
    /// It could not be made or prepared; the log says at which step.
    Failed,
}

/// Where the turn of a session is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TurnPhase {
    /// Nothing to do.
    #[default]
    Idle,
    /// A prompt waits for the sandbox or for its turn.
    Queued,
    /// The agent works.
    Running,
    /// The agent waits for the person.
    Waiting,
}

/// The one status enum: log, API, page and terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SessionStatus {
    /// A prompt was accepted; work has not begun.
    #[default]
    Queued,
    /// The sandbox is made or the workspace prepared.
    Preparing,
    /// The agent works.
    Running,
    /// The agent waits for the person.
    Waiting,
    /// The last turn is over, the sandbox is up.
    Idle,
    /// The last turn is over, the sandbox was taken down; a prompt brings it back.
    Suspended,
    /// A step of the preparation failed; the log says which and what to do.
    Failed,
}

impl SessionStatus {
    /// The status that follows from the two machines.
    #[must_use]
    pub fn of(sandbox: SandboxPhase, turn: TurnPhase) -> Self {
        match (sandbox, turn) {
            (SandboxPhase::Failed, _) => Self::Failed,
            (SandboxPhase::Creating | SandboxPhase::Preparing, _) => Self::Preparing,
            (_, TurnPhase::Queued) => Self::Queued,
            (_, TurnPhase::Running) => Self::Running,
            (_, TurnPhase::Waiting) => Self::Waiting,
            (SandboxPhase::Ready, TurnPhase::Idle) => Self::Idle,
            (SandboxPhase::None | SandboxPhase::Suspended, TurnPhase::Idle) => Self::Suspended,
        }
    }

    /// Whether something happens, or will, without a new prompt.
    #[must_use]
    pub fn is_busy(self) -> bool {
        matches!(self, Self::Queued | Self::Preparing | Self::Running | Self::Waiting)
    }

    /// The word as it stands in the log and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Idle => "idle",
            Self::Suspended => "suspended",
            Self::Failed => "failed",
        }
    }
}

/// How a turn ended; the `status` that `--wait` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TurnStatus {
    /// The agent said that it is done.
    Completed,
    /// The person or a restart stopped it.
    Interrupted,
    /// It could not go on.
    Failed,
    /// A cap was reached: turns, tokens, money, time.
    Limit,
}

/// Why a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model ended its turn.
    EndTurn,
    /// The person pressed stop.
    UserStop,
    /// The server stopped or died while the turn ran.
    ServerRestart,
    /// The model refused.
    Refusal,
    /// The model's answer hit its token limit too often.
    MaxTokens,
    /// The loop asked the model too often in one turn.
    MaxRequests,
    /// The agent repeated one call and the person said stop, or did not answer.
    Loop,
    /// The model endpoint answered with an error that a retry does not mend.
    ModelError,
    /// The model endpoint could not be reached, or every retry failed.
    ModelUnreachable,
    /// There is no key for the model, or it was refused.
    ModelAuth,
    /// The sandbox died or could not be made.
    Sandbox,
    /// The agent in the sandbox broke its protocol or ended early.
    Agent,
    /// A deadline of the platform passed.
    Deadline,
    /// A hook refused the prompt, or ended the turn.
    Hook,
    /// The turn used as many tokens, or as much money, as it may.
    Budget,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_a_total_function_of_both_machines() {
        use SandboxPhase as S;
        use TurnPhase as T;
        let cases = [
            (S::None, T::Queued, SessionStatus::Queued),
            (S::Creating, T::Queued, SessionStatus::Preparing),
            (S::Preparing, T::Queued, SessionStatus::Preparing),
            (S::Ready, T::Queued, SessionStatus::Queued),
            (S::Ready, T::Running, SessionStatus::Running),
            (S::Ready, T::Waiting, SessionStatus::Waiting),
            (S::Ready, T::Idle, SessionStatus::Idle),
            (S::Suspended, T::Idle, SessionStatus::Suspended),
            (S::Suspended, T::Queued, SessionStatus::Queued),
            (S::Failed, T::Idle, SessionStatus::Failed),
            (S::Failed, T::Queued, SessionStatus::Failed),
        ];
        for (sandbox, turn, status) in cases {
            assert_eq!(SessionStatus::of(sandbox, turn), status, "{sandbox:?} {turn:?}");
        }
    }
}

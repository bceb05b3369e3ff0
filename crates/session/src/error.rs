//! What a session refuses or cannot do.

use protocol::hands::HandsError;
use protocol::ids::{PromptId, QuestionId, Seq, SessionId, ShellId};
use store::StoreError;

use crate::credentials::CredentialError;
use crate::environments::EnvironmentError;
use crate::forges::ForgesError;
use crate::networks::AskingError;
use crate::pull_requests::PullRequestError;
use crate::secrets::SecretError;

/// An error of a session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The prompt says nothing.
    #[error("the prompt is empty; say what should be done")]
    EmptyPrompt,
    /// The prompt is too long.
    #[error(
        "the prompt has {given} characters, {allowed} are allowed; put long material into a file of the repository"
    )]
    PromptTooLong { given: usize, allowed: usize },
    /// No such agent.
    #[error("there is no agent `{wanted}`; this server has {known}")]
    NoAgent { wanted: String, known: String },
    /// Our agent has no model.
    #[error("no model is configured: ANTHROPIC_API_KEY is not set")]
    NoModel,
    /// There is nothing to look into.
    #[error("session {0} has no sandbox now")]
    NoSandbox(SessionId),
    /// The shell is over.
    #[error("there is no shell {0} any more")]
    NoShell(ShellId),
    /// Too many.
    #[error("{0} shells are open in this session")]
    ManyShells(usize),
    /// The sandbox could not do it.
    #[error("the sandbox could not do it: {0}")]
    Hands(#[from] HandsError),
    /// The agent has it.
    #[error("prompt {0} does not wait any more: the agent has it, or it was taken back")]
    PromptTaken(PromptId),
    /// Work on a branch that has no name.
    #[error("name the branch that the session shall work on")]
    NoBranchNamed,
    /// The forge keeps the branch.
    #[error(
        "{host} protects the branch `{branch}`: no session works on it itself; begin one from it instead, on a \
         branch of its own"
    )]
    ProtectedBranch { branch: String, host: String },
    /// Nothing to stop.
    #[error("nothing runs in session {0}")]
    NothingRuns(SessionId),
    /// The question was answered or never asked.
    #[error("question {0} is not open any more")]
    NotAsked(QuestionId),
    /// The answer is none of the options.
    #[error("`{given}` is no answer to this question; choose one of {options}")]
    NoSuchOption { given: String, options: String },
    /// Something runs.
    #[error("session {0} is at work; stop it first")]
    Busy(SessionId),
    /// There is no such state to go back to.
    #[error("event {0} is no checkpoint of this session; `sessions checkpoints` lists them")]
    NoCheckpoint(Seq),
    /// Neither files nor conversation.
    #[error("neither files nor conversation are to go back; choose one of them, or both")]
    NothingToRewind,
    /// The conversation is the agent's own.
    #[error("the agent `{0}` keeps its conversation to itself; only the files can go back")]
    OwnMemory(String),
    /// The files could not be put back.
    #[error("the session could not go back: {0}; what it had is recorded as its newest checkpoint")]
    Rewind(String),
    /// The sandbox has the only copy of some work.
    #[error("the workspace of session {0} could not be recorded, and its sandbox has the only copy")]
    Unrecorded(SessionId),
    /// The session's driver ended over a fault; a new one takes over.
    #[error("session {0} is being put right after a fault of the server")]
    Recovering(SessionId),
    /// The server stops.
    #[error("the server is stopping; try again in a moment")]
    Stopping,
    /// There is nothing to try again.
    #[error("session {0} did not fail, or nothing waits in it; send a prompt instead")]
    NothingFailed(SessionId),
    /// The environment.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// A credential of a host.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// A forge.
    #[error(transparent)]
    Forges(#[from] ForgesError),
    /// A pull request.
    #[error(transparent)]
    PullRequest(#[from] PullRequestError),
    /// A secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// What a person decides about the network.
    #[error(transparent)]
    Asking(#[from] AskingError),
    /// The audit records.
    #[error("the audit records of the network cannot be read: {0}")]
    Audit(#[source] std::io::Error),
    /// The repository.
    #[error(transparent)]
    Git(#[from] git_proxy::GitError),
    /// The log.
    #[error(transparent)]
    Store(#[from] StoreError),
}

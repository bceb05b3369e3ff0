//! The command line of `patchyard sessions`.

use clap::{Args as ClapArgs, Subcommand};
use protocol::ids::{PromptId, SessionId, ShellId};
use protocol::prompt::Delivery;

use super::PullRequest;

#[derive(Debug, ClapArgs)]
pub(crate) struct Sessions {
    #[command(subcommand)]
    pub(crate) command: SessionsCommand,
}

/// When a prompt reaches an agent that works.
#[derive(Debug, Clone, Copy, ClapArgs)]
#[group(multiple = false)]
pub(crate) struct When {
    /// With the results of the tools that run, before the next request to the model; as without a word
    #[arg(long)]
    next: bool,
    /// As a turn of its own, after this one
    #[arg(long)]
    later: bool,
    /// At once: interrupt the turn and begin the next one with it
    #[arg(long)]
    now: bool,
}

impl When {
    /// The chosen one, if any was.
    pub(crate) fn delivery(self) -> Option<Delivery> {
        let chosen = [(self.next, Delivery::Next), (self.later, Delivery::Later), (self.now, Delivery::Now)];
        chosen.into_iter().find_map(|(is_chosen, delivery)| is_chosen.then_some(delivery))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// List sessions, newest first
    List {
        /// Archived ones instead
        #[arg(long)]
        archived: bool,
        /// One JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show one session
    Show {
        /// The session's id
        session: SessionId,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print a session's log
    Events {
        /// The session's id
        session: SessionId,
        /// Only events after this seq
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// Go on with what happens
        #[arg(long, short)]
        follow: bool,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// What a session's sandboxes tried to reach, and what was decided
    Network {
        /// The session's id
        session: SessionId,
        /// The audit records themselves, one a line
        #[arg(long)]
        json: bool,
    },
    /// Allow a host that a session's network refuses
    Allow {
        /// The session's id
        session: SessionId,
        /// The host, with a port other than 443
        #[arg(value_name = "HOST[:PORT]")]
        target: String,
        /// One connection, if it comes within a minute
        #[arg(long, conflicts_with_all = ["session_only", "environment"])]
        once: bool,
        /// For this session, as without a word
        #[arg(long = "session", conflicts_with = "environment")]
        session_only: bool,
        /// For this and all other sessions of the environment: adds it to the domains there
        #[arg(long)]
        environment: bool,
        /// One JSON object with what holds now
        #[arg(long)]
        json: bool,
    },
    /// Keep a host closed for a session, also where its rules allow it
    Deny {
        /// The session's id
        session: SessionId,
        /// The host, with a port other than 443
        #[arg(value_name = "HOST[:PORT]")]
        target: String,
        /// One JSON object with what holds now
        #[arg(long)]
        json: bool,
    },
    /// Print a session's change as a patch
    Diff {
        /// The session's id
        session: SessionId,
        /// Files and counts only
        #[arg(long, conflicts_with = "json")]
        stat: bool,
        /// One JSON object with files and counts
        #[arg(long)]
        json: bool,
    },
    /// The recorded states of a session, oldest first; the number names one
    Checkpoints {
        /// The session's id
        session: SessionId,
        /// One JSON array
        #[arg(long)]
        json: bool,
    },
    /// Go back to a checkpoint: the files, what the agent knows, or both
    Rewind {
        /// The session's id
        session: SessionId,
        /// The checkpoint's number
        #[arg(long, value_name = "CHECKPOINT")]
        to: u64,
        /// The files alone
        #[arg(long, conflicts_with = "conversation")]
        files: bool,
        /// What the agent knows alone
        #[arg(long)]
        conversation: bool,
    },
    /// Make a session that goes on from a checkpoint of this one
    Fork {
        /// The session's id
        session: SessionId,
        /// The checkpoint's number
        #[arg(long, value_name = "CHECKPOINT")]
        at: u64,
        /// Its first prompt; without one it waits
        prompt: Option<String>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Send another prompt
    Prompt {
        /// The session's id
        session: SessionId,
        /// The prompt
        text: String,
        #[command(flatten)]
        when: When,
    },
    /// The prompts that wait
    Queue {
        /// The session's id
        session: SessionId,
        /// One JSON array
        #[arg(long)]
        json: bool,
    },
    /// Change a prompt that waits
    EditPrompt {
        /// The session's id
        session: SessionId,
        /// The prompt's id
        prompt: PromptId,
        /// The prompt in other words
        text: Option<String>,
        #[command(flatten)]
        when: When,
    },
    /// Take a prompt back that waits
    CancelPrompt {
        /// The session's id
        session: SessionId,
        /// The prompt's id
        prompt: PromptId,
    },
    /// Stop what runs
    Stop {
        /// The session's id
        session: SessionId,
    },
    /// Try a failed preparation again; the prompts that wait for it run then
    Retry {
        /// The session's id
        session: SessionId,
    },
    /// Answer the open question with one of its options
    Answer {
        /// The session's id
        session: SessionId,
        /// One of the options
        option: String,
    },
    /// Hide a session and take its sandbox down
    Archive {
        /// The session's id
        session: SessionId,
        /// Bring it back to the list
        #[arg(long)]
        undo: bool,
    },
    /// Delete a session for good
    Delete {
        /// The session's id
        session: SessionId,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Open a terminal in a session's sandbox, or come back to one
    Shell {
        /// The session's id
        session: SessionId,
        /// Come back to this shell
        #[arg(long, value_name = "SHELL", conflicts_with = "command")]
        attach: Option<ShellId>,
        /// List the shells that run
        #[arg(long, conflicts_with_all = ["attach", "command"])]
        list: bool,
        /// With --list: one JSON array
        #[arg(long, requires = "list")]
        json: bool,
        /// End this shell and what runs in it
        #[arg(long, value_name = "SHELL", conflicts_with_all = ["attach", "list", "command"])]
        close: Option<ShellId>,
        /// A command instead of the shell
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Copy a file or folder into a sandbox or out of it; one of the two is SESSION:PATH
    Cp {
        /// From: a path, or SESSION:PATH
        from: String,
        /// To: a path, or SESSION:PATH
        to: String,
    },
    /// Open a session's pull request: its branch is pushed first; one that is open is shown
    Pr {
        /// The session's id
        session: SessionId,
        #[command(flatten)]
        wish: PullRequest,
    },
    /// Fetch the result branch into the current repository
    Pull {
        /// The session's id
        session: SessionId,
        /// The local branch [default: the session's own name]
        #[arg(long, value_name = "NAME")]
        branch: Option<String>,
    },
}

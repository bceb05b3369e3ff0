//! The command line.

mod forge;
mod image;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use protocol::ids::{PromptId, SessionId, ShellId};
use protocol::prompt::Delivery;

pub(crate) use forge::{PullRequest, Repositories, RepositoriesCommand};
pub(crate) use image::{Image, ImageCommand};

use crate::environment_args::Environments;

/// A self-hosted home for coding agents.
#[derive(Debug, Parser)]
#[command(name = "patchyard", version, arg_required_else_help = true)]
#[command(after_help = "Start with `patchyard serve`, or see one whole task with `patchyard demo`.")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// How to reach the server.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Global {
    /// The server's address [default: the configuration file's, else http://127.0.0.1:7878]
    #[arg(long, global = true, env = "PATCHYARD_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// The data directory of a server on this machine, where its token is
    #[arg(long, global = true, env = "PATCHYARD_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

/// A task for the server.
#[derive(Debug, ClapArgs)]
pub(crate) struct Remote {
    /// Give a task to the server: it works on it in a fresh sandbox
    #[arg(long, visible_alias = "cloud", value_name = "PROMPT")]
    pub(crate) remote: Option<String>,
    /// The repository: a local path is sent as it is now, as a bundle; a URL is fetched by the
    /// server, or refused with `CCR_FORCE_BUNDLE=1`
    #[arg(long, value_name = "PATH|URL", default_value = ".", requires = "remote")]
    pub(crate) repo: String,
    /// The branch to start from [default: the checked-out one, or the remote's default]
    #[arg(long, value_name = "BRANCH", requires = "remote")]
    pub(crate) branch: Option<String>,
    /// Work on this branch of the repository itself, and push to it, instead of on one of the session's own;
    /// the repository is a URL
    #[arg(long, value_name = "BRANCH", requires = "remote", conflicts_with = "branch")]
    pub(crate) on_branch: Option<String>,
    /// The agent [default: patchyard]
    #[arg(long, value_name = "NAME", requires = "remote")]
    pub(crate) agent: Option<String>,
    /// The environment, by name or id [default: the server's default one]
    #[arg(long, value_name = "NAME", requires = "remote")]
    pub(crate) environment: Option<String>,
    /// The image of the sandbox [default: the environment's]
    #[arg(long, value_name = "NAME", requires = "remote")]
    pub(crate) image: Option<String>,
    /// Wait until the turn is over; exit 0 only if it completed
    #[arg(long, requires = "remote")]
    pub(crate) wait: bool,
    /// What is printed on standard output
    #[arg(long, value_enum, default_value_t = OutputFormat::Text, requires = "remote")]
    pub(crate) output_format: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Text for people
    Text,
    /// One JSON object, last
    Json,
    /// One JSON line per event, then the object
    StreamJson,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    Serve(Serve),
    /// One whole task on a bundled repository, then the URL
    Demo(Demo),
    /// Sessions: list, show, events, network, allow, deny, diff, prompt, queue, edit-prompt, cancel-prompt, stop, retry, answer, checkpoints, rewind, fork, shell, cp, archive, delete, pull, pr
    #[command(visible_alias = "tasks")]
    Sessions(Sessions),
    /// Environments, in which sessions work: list, show, create, edit, archive, default, test-setup, refresh
    #[command(visible_alias = "env")]
    Environments(Environments),
    /// Choose the environment of tasks that name none; without a name, list them
    RemoteEnv {
        /// Its name or id
        name: Option<String>,
    },
    /// Sign this terminal in with a one-time code
    Login(Login),
    /// Sign this terminal out: its token ends on the server and goes from this account
    Logout,
    /// Give the server a token for the repositories of a host: by it the server clones what is private and
    /// pushes the branches of sessions; no sandbox sees it
    WebSetup(WebSetup),
    /// Repositories of the forges that the server has tokens for: list, branches
    Repositories(Repositories),
    /// What works on this machine, what does not, and how to mend it
    Doctor(Doctor),
    /// Run one command on this machine, sandboxed: it writes only below this folder, and reaches only hosts
    /// that your settings name
    Sandbox(Sandbox),
    /// Images of sandboxes: list, import, pull, build, remove, login
    Image(Image),
    /// Print the version
    Version,
    /// Processes that `serve` starts
    #[command(hide = true)]
    Internal(Internal),
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Serve {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:7878", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// The data directory [default: /var/lib/patchyard for root, else $XDG_DATA_HOME/patchyard]
    #[arg(long, env = "PATCHYARD_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The configuration file
    #[arg(long, env = "PATCHYARD_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// End when this process, which must be the parent, ends
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) parent_death: Option<i32>,
}

/// Without a flag the token is that of `gh auth token`, or it is asked for.
#[derive(Debug, ClapArgs)]
pub(crate) struct WebSetup {
    /// The host, such as git.example.org or git.example.org:8443 [default: github.com]
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// The user that goes with the token [default: what the host takes with one]
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Read the token from standard input
    #[arg(long)]
    pub(crate) token_stdin: bool,
    /// Forget the token of the host
    #[arg(long, conflicts_with_all = ["user", "token_stdin"])]
    pub(crate) remove: bool,
    /// Show the hosts that there are tokens for
    #[arg(long, conflicts_with_all = ["user", "token_stdin", "remove", "host"])]
    pub(crate) list: bool,
    /// With --list: as JSON
    #[arg(long, requires = "list")]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Demo {
    /// Leave the server up afterwards
    #[arg(long)]
    pub(crate) keep: bool,
}

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

#[derive(Debug, ClapArgs)]
pub(crate) struct Login {
    /// The one-time code, or the whole login URL, that `serve` printed; asked for when left out
    pub(crate) code: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Doctor {
    /// Run a throw-away container of each tier a few times, and time it
    #[arg(long)]
    pub(crate) bench: bool,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Sandbox {
    /// A settings file, besides those of the machine, the user and the project
    #[arg(long, value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<std::ffi::OsString>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Internal {
    #[command(subcommand)]
    pub(crate) command: InternalCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum InternalCommand {
    /// The unprivileged server process
    Server(InternalServer),
    /// The privileged process that makes sandboxes
    SandboxHost {
        #[arg(long)]
        data: PathBuf,
        #[arg(long)]
        socket: PathBuf,
        #[arg(long)]
        server_uid: u32,
        #[arg(long)]
        server_gid: u32,
    },
    /// The process that sandboxes reach the network through; its standard input is its listening socket
    Egress {
        #[arg(long)]
        server_uid: u32,
        /// The user that it becomes, when started by root
        #[arg(long)]
        uid: u32,
        #[arg(long)]
        gid: u32,
        /// Name servers to ask instead of the system's
        #[arg(long = "name-server")]
        name_servers: Vec<SocketAddr>,
        /// Certificates of authorities, PEM, besides those of the system
        #[arg(long = "authorities")]
        authorities: Vec<PathBuf>,
    },
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct InternalServer {
    #[command(flatten)]
    pub(crate) serve: Serve,
    #[arg(long)]
    pub(crate) host_socket: PathBuf,
    #[arg(long)]
    pub(crate) egress_socket: PathBuf,
    #[arg(long)]
    pub(crate) server_uid: u32,
    #[arg(long)]
    pub(crate) server_gid: u32,
    /// A restart after a crash: nothing is announced
    #[arg(long)]
    pub(crate) again: bool,
}

//! The command line.

pub(crate) mod environments;
mod forge;
mod image;
pub(crate) mod print;
mod sessions;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

pub(crate) use forge::{PullRequest, Repositories, RepositoriesCommand};
pub(crate) use image::{Image, ImageCommand};
pub(crate) use sessions::{Sessions, SessionsCommand, When};

use environments::Environments;

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
    /// Work on a task here, on this machine, and print the answer: `patchyard -p "PROMPT"`; more with `-p --help`
    #[arg(short, long)]
    pub(crate) print: bool,
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
    /// A restart after a crash: all is announced already
    #[arg(long)]
    pub(crate) again: bool,
}

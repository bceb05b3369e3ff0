//! The command line of `environments`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use protocol::network::Rendering;
use protocol::sandbox_spec::Tier;

use crate::sizes::{Bytes, Cores};

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Variables are no place for secrets: who can edit an environment sees them, and so does \
                  everything in its sandboxes. `environments secret set` has a place for them."
)]
pub(crate) struct Environments {
    #[command(subcommand)]
    pub(crate) command: EnvironmentsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EnvironmentsCommand {
    /// List environments, the default first
    List {
        /// Archived ones instead
        #[arg(long)]
        archived: bool,
        /// One JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show one environment, with what its setups left for later sessions
    Show {
        /// Its name or id
        environment: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Make an environment
    Create(Create),
    /// Change an environment; what is not named stays. Running sessions get it with their next sandbox
    Edit(Edit),
    /// Hide an environment; its sessions go on
    Archive {
        /// Its name or id
        environment: String,
        /// Bring it back
        #[arg(long)]
        undo: bool,
    },
    /// Make an environment the one of tasks that name none
    Default {
        /// Its name or id
        environment: String,
    },
    /// Run the setup script in a sandbox of its own, which goes afterwards; exit 0 only if it passed
    TestSetup {
        /// Its name or id
        environment: String,
        /// What the workspace holds: a local path or a URL [default: an empty repository]
        #[arg(long, value_name = "PATH|URL")]
        repo: Option<String>,
        /// The branch of the repository
        #[arg(long, value_name = "BRANCH", requires = "repo")]
        branch: Option<String>,
        /// Another script than the environment's; `-` is standard input
        #[arg(long, value_name = "FILE|-")]
        setup_script: Option<String>,
        /// One JSON object, last
        #[arg(long)]
        json: bool,
    },
    /// Tell whether a session of an environment could connect to a host, and by which rule; exit 0 only if it
    /// could. Nothing is resolved and nothing is sent
    NetworkTest {
        /// The environment and the host, or the host alone for the default one; 443 without a port
        #[arg(value_names = ["ENV", "HOST[:PORT]"], num_args = 1..=2, required = true)]
        asked: Vec<String>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Secrets that requests may carry without anything in a sandbox knowing them
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Forget what setups left: the next sessions run the setup script anew
    Refresh {
        /// Its name or id
        environment: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Bind a secret to hosts and set its value, read from standard input: inside, the variable NAME holds a
    /// placeholder, which becomes the value in headers of HTTPS requests to those hosts
    Set(SetSecret),
    /// Forget a secret
    Remove {
        /// Name or id of the environment
        environment: String,
        /// Its name
        name: String,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct SetSecret {
    /// Name or id of the environment
    pub(crate) environment: String,
    /// The variable inside
    pub(crate) name: String,
    /// A host that may get it, 443 without a port; may be given several times [default: those it has]
    #[arg(long = "host", value_name = "HOST[:PORT]")]
    pub(crate) hosts: Vec<String>,
    /// Only requests with this method; may be given several times
    #[arg(long = "method", value_name = "METHOD")]
    pub(crate) methods: Vec<String>,
    /// Only this path and those below it; may be given several times
    #[arg(long = "path", value_name = "PATH")]
    pub(crate) paths: Vec<String>,
    /// An entry [secrets.NAME] of the server's configuration instead of a value
    #[arg(long, value_name = "NAME", conflicts_with = "value_file")]
    pub(crate) from: Option<String>,
    /// A file that holds the value; `-` is standard input
    #[arg(long, value_name = "FILE|-")]
    pub(crate) value_file: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Create {
    /// Its name, 1 to 60 characters
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) given: Given,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Edit {
    /// Its name or id
    pub(crate) environment: String,
    /// Another name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) given: Given,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is decided about an environment; what is left out is as usual, or stays.
#[derive(Debug, Default, ClapArgs)]
pub(crate) struct Given {
    /// The image
    #[arg(long, value_name = "NAME")]
    pub(crate) image: Option<String>,
    /// What may be reached
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub(crate) network: Option<Level>,
    /// A domain of the level `custom`, such as example.org, example.org:8443 or *.example.org; may be given
    /// several times
    #[arg(long = "domain", value_name = "DOMAIN")]
    pub(crate) domains: Vec<String>,
    /// With the level `custom`: the included list, too
    #[arg(long)]
    pub(crate) include_default: bool,
    /// How much of the included list may be written to
    #[arg(long, value_enum, value_name = "RENDERING")]
    pub(crate) rendering: Option<RenderingName>,
    /// A file of KEY=value lines, values literal; `-` is standard input. No place for secrets
    #[arg(long, value_name = "FILE|-")]
    pub(crate) variables_file: Option<String>,
    /// The setup script; `-` is standard input, an empty file takes it out
    #[arg(long, value_name = "FILE|-")]
    pub(crate) setup_script: Option<String>,
    /// Memory, such as 16GB
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<Bytes>,
    /// Cores, such as 4 or 0.5
    #[arg(long, value_name = "CORES")]
    pub(crate) cpus: Option<Cores>,
    /// Processes and threads
    #[arg(long, value_name = "COUNT")]
    pub(crate) pids: Option<u32>,
    /// Disk, such as 30GB
    #[arg(long, value_name = "SIZE")]
    pub(crate) disk: Option<Bytes>,
    /// Open files per process
    #[arg(long, value_name = "COUNT")]
    pub(crate) open_files: Option<u64>,
    /// How strongly sandboxes are kept apart: this tier only
    #[arg(long, value_enum, value_name = "TIER", conflicts_with = "at_least")]
    pub(crate) tier: Option<TierName>,
    /// The same: this tier or a stronger one
    #[arg(long, value_enum, value_name = "TIER")]
    pub(crate) at_least: Option<TierName>,
    /// What is done about a limit that the server's machine cannot enforce
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) unenforced: Option<UnenforcedName>,
    /// Allow containers inside
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    pub(crate) nested_containers: Option<bool>,
    /// Do not keep what clone and setup made for later sessions
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Keep it
    #[arg(long, conflicts_with = "no_cache")]
    pub(crate) cache: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// Nothing
    None,
    /// Package registries and the like
    Trusted,
    /// Everything but private addresses
    Full,
    /// The domains that are named
    Custom,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RenderingName {
    /// All of it
    Compatible,
    /// Only what nobody but its owner can write to; the rest is read
    Strict,
}

impl From<RenderingName> for Rendering {
    fn from(name: RenderingName) -> Self {
        match name {
            RenderingName::Compatible => Self::Compatible,
            RenderingName::Strict => Self::Strict,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TierName {
    /// Namespaces of the kernel
    Container,
    /// A kernel of its own in user space
    Gvisor,
    /// A virtual machine
    Vm,
}

impl From<TierName> for Tier {
    fn from(name: TierName) -> Self {
        match name {
            TierName::Container => Self::Container,
            TierName::Gvisor => Self::Gvisor,
            TierName::Vm => Self::Vm,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum UnenforcedName {
    /// No sandbox is made
    Refuse,
    /// The session's log says so
    Tell,
}

/// The text of a file, or of standard input.
pub(crate) fn text_of(path: &str) -> Result<String, crate::error::Failure> {
    let read = match path {
        "-" => std::io::read_to_string(std::io::stdin().lock()),
        path => std::fs::read_to_string(PathBuf::from(path)),
    };
    read.map_err(|error| {
        let what = if path == "-" { "standard input" } else { path };
        crate::error::Failure::Failed(format!("cannot read {what} as text: {error}"))
    })
}

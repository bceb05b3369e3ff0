//! Arguments about forges.

use clap::{Args as ClapArgs, Subcommand};

/// What a pull request is to be; what is left out is made from the session.
#[derive(Debug, ClapArgs)]
pub(crate) struct PullRequest {
    /// Only show it, or why there is none
    #[arg(long, conflicts_with_all = ["draft", "title", "body", "base", "web"])]
    pub(crate) show: bool,
    /// Not to be merged yet
    #[arg(long)]
    pub(crate) draft: bool,
    /// Its title [default: the session's]
    #[arg(long, value_name = "LINE")]
    pub(crate) title: Option<String>,
    /// Its text [default: the first prompt and the size of the change]
    #[arg(long, value_name = "MARKDOWN")]
    pub(crate) body: Option<String>,
    /// The branch where it is to go [default: the one that the session began with]
    #[arg(long, value_name = "BRANCH")]
    pub(crate) base: Option<String>,
    /// Only push the branch, and print the page of the forge to open it on
    #[arg(long, conflicts_with = "draft")]
    pub(crate) web: bool,
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Repositories {
    #[command(subcommand)]
    pub(crate) command: RepositoriesCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RepositoriesCommand {
    /// Repositories that the server's tokens may see, the newest pushed first
    List {
        /// Only those whose name has this in it
        query: Option<String>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Branches of one, the default one first
    Branches {
        /// Its address
        url: String,
        /// Only those whose name has this in it
        query: Option<String>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

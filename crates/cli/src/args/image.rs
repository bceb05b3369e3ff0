//! The command line of `patchyard image`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct Image {
    #[command(subcommand)]
    pub(crate) command: ImageCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List images
    List {
        /// One JSON array
        #[arg(long)]
        json: bool,
    },
    /// Import an OCI layout, an archive of `docker save`, or a root file system
    Import {
        /// Its name
        name: String,
        /// The folder or archive; what it is, is told by its content
        path: PathBuf,
    },
    /// Pull an image from a registry
    Pull {
        /// What to pull, such as `ubuntu:24.04` or `registry.example.org/team/tools:3`; `NAME=REFERENCE`
        /// names it
        #[arg(value_name = "[NAME=]REFERENCE")]
        reference: String,
        /// Its name [default: from the reference]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Speak unencrypted HTTP to the registry; on this machine itself that is done anyway
        #[arg(long)]
        insecure: bool,
    },
    /// Build an image from a recipe: a folder with `image.toml`
    Build {
        /// Its name
        name: String,
        /// The recipe's folder
        recipe: PathBuf,
        /// Build it anew, also when the recipe did not change
        #[arg(long)]
        force: bool,
    },
    /// Remove an image; what running sandboxes stand on goes when they end
    Remove {
        /// Its name
        name: String,
    },
    /// Keep the password for a registry, sealed
    Login {
        /// The registry, such as `registry.example.org` or `127.0.0.1:5000`
        registry: String,
        /// The user; asked for when left out
        #[arg(long, short)]
        username: Option<String>,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
        /// Speak unencrypted HTTP to the registry
        #[arg(long)]
        insecure: bool,
    },
    /// Forget the password for a registry
    Logout {
        /// The registry
        registry: String,
    },
}

//! `patchyard image`: root file systems for sandboxes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sandbox::images::Images;

use crate::args::ImageCommand;
use crate::error::Failure;
use crate::output::{json, line};

/// Where images are for every server of the machine.
const MACHINE: &str = "/var/lib/patchyard";

pub(crate) async fn run(command: ImageCommand) -> Result<ExitCode, Failure> {
    match command {
        ImageCommand::Import { name, path, data } => {
            let images = Images::of(&dir(data));
            let imported = name.clone();
            let work = tokio::task::spawn_blocking(move || images.import(&imported, &path));
            let result = work.await.map_err(|error| Failure::Internal(error.to_string()))?;
            result.map_err(|error| Failure::Failed(crate::error::chain(&error)))?;
            line(&format!("imported {name}"));
        }
        ImageCommand::List { data, json: as_json } => {
            let names = Images::of(&dir(data)).list();
            if as_json {
                json(&names);
            } else {
                names.iter().for_each(|name| line(name));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn dir(data: Option<PathBuf>) -> PathBuf {
    data.unwrap_or_else(|| Path::new(MACHINE).to_owned())
}

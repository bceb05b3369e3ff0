//! `patchyard image`: root file systems for sandboxes.
//!
//! Works on the folder of images itself, as root, and asks no server: images are the operator's. An ordinary
//! user has its own, in its data directory, and is root of a user namespace over their owners.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use sandbox::host::Rights;
use sandbox::images::{Built, ImageError, ImageInfo, Images};

use crate::args::{Global, ImageCommand};
use crate::connection::data_dir;
use crate::error::{Failure, chain};
use crate::output::{json, line, note, plain, raw_note};
use crate::registry::{self, Credentials, Login, Reference, Registry, registry_name};

/// Takes the rights that images need; an ordinary user without them may look only. Runs before threads
/// start, and before anything is asked or fetched for nothing.
pub(crate) fn settle(global: &mut Global, command: &ImageCommand) -> Result<(), Failure> {
    // Asked as who one is outside.
    let data = data_dir(global.data.as_deref());
    global.data = Some(data.clone());
    match Rights::settle(&data) {
        Rights::Missing(_) if matches!(command, ImageCommand::List { .. }) => Ok(()),
        Rights::Missing(why) => Err(Failure::Failed(format!("{}: {why}", ImageError::NotRoot))),
        Rights::User(_) if matches!(command, ImageCommand::Build { .. }) => Err(Failure::Failed(
            "the steps of a recipe take root of the machine; run this with sudo, or build elsewhere and take the \
             result in: patchyard image import"
                .into(),
        )),
        Rights::Root | Rights::User(_) => Ok(()),
    }
}

pub(crate) async fn run(global: &Global, command: ImageCommand) -> Result<ExitCode, Failure> {
    let data = data_dir(global.data.as_deref());
    match command {
        ImageCommand::List { json: as_json } => list(data, as_json).await?,
        ImageCommand::Import { name, path } => {
            let (imported, as_name) =
                apart(data, move |images| Ok((images.import(&name, &path)?, name))).await?;
            line(&format!("imported {as_name} from an {}: {}", imported.kind, imported.digest));
        }
        ImageCommand::Pull { reference, name, insecure } => pull(&data, &reference, name, insecure).await?,
        ImageCommand::Build { name, recipe, force } => build(data, name, recipe, force).await?,
        ImageCommand::Remove { name } => {
            let (removed, name) = apart(data, move |images| Ok((images.remove(&name)?, name))).await?;
            line(&match removed.in_use {
                0 => format!("removed {name}"),
                count => format!(
                    "removed {name}; its files stay until the {count} sandbox(es) that stand on them have ended"
                ),
            });
        }
        ImageCommand::Login { registry, username, password_stdin, insecure } => {
            let registry = registry_name(&registry)?;
            let login = ask(username, password_stdin)?;
            Registry::new(&registry, Some(login.clone()), insecure)?.check().await?;
            Credentials::of(&data).set(&registry, login)?;
            line(&format!("signed in to {registry}"));
        }
        ImageCommand::Logout { registry } => {
            let registry = registry_name(&registry)?;
            if !Credentials::of(&data).remove(&registry)? {
                return Err(Failure::Failed(format!("no login for {registry} is kept; nothing was done")));
            }
            line(&format!("forgot the login for {registry}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn pull(data: &Path, spec: &str, name: Option<String>, insecure: bool) -> Result<(), Failure> {
    let (given, reference) = match spec.split_once('=') {
        Some((name, reference)) => (Some(name.to_owned()), reference),
        None => (None, spec),
    };
    if given.is_some() && name.is_some() {
        return Err(Failure::Usage("name the image either by NAME=REFERENCE or by --name".into()));
    }
    let reference: Reference = reference.parse()?;
    let name = given.or(name).unwrap_or_else(|| reference.image_name());
    let pulled = registry::pull(data, name.clone(), reference, insecure).await?;
    let was_there = if pulled.was_there { ", which was here already" } else { "" };
    line(&format!("pulled {name}: {}{was_there}", pulled.digest));
    Ok(())
}

/// Who one is at a registry: from the command line and standard input, or asked on the terminal.
fn ask(user: Option<String>, password_stdin: bool) -> Result<Login, Failure> {
    let failed = |error: std::io::Error| Failure::Failed(format!("no login could be read: {error}"));
    let user = match (user, password_stdin) {
        (Some(user), _) => user,
        (None, true) => return Err(Failure::Usage("with --password-stdin, give --username too".into())),
        (None, false) => {
            raw_note("user: ");
            read_line().map_err(failed)?
        }
    };
    let password = if password_stdin || !std::io::stdin().is_terminal() {
        read_line().map_err(failed)?
    } else {
        raw_note("password: ");
        unseen(read_line).map_err(failed)?
    };
    match user.is_empty() || user.contains(':') || password.is_empty() {
        true => Err(Failure::Usage("a login is a user without `:` and a password".into())),
        false => Ok(Login { user, password }),
    }
}

/// A line of standard input.
pub(super) fn read_line() -> std::io::Result<String> {
    let mut text = String::new();
    std::io::stdin().read_line(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// While this is done, the terminal does not show what is typed.
pub(super) fn unseen<T>(work: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
    let terminal = std::io::stdin();
    let before = tcgetattr(&terminal)?;
    let mut hidden = before.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&terminal, SetArg::TCSANOW, &hidden)?;
    let outcome = work();
    tcsetattr(&terminal, SetArg::TCSANOW, &before)?;
    note("");
    outcome
}

/// Does what takes its time away from the event loop.
async fn apart<T: Send + 'static>(
    data: PathBuf,
    work: impl FnOnce(&Images) -> Result<T, ImageError> + Send + 'static,
) -> Result<T, Failure> {
    let work = tokio::task::spawn_blocking(move || work(&Images::of(&data)));
    let result = work.await.map_err(|error| Failure::Internal(error.to_string()))?;
    result.map_err(|error| Failure::Failed(chain(&error)))
}

async fn list(data: PathBuf, as_json: bool) -> Result<(), Failure> {
    let images = apart(data, Images::describe).await?;
    if as_json {
        json(&images);
        return Ok(());
    }
    for ImageInfo { name, digest, size, created, source, in_use } in images {
        let digest: String = digest.hex().chars().take(12).collect();
        let created = created.map_or_else(|| "-".to_owned(), |time| time.strftime("%Y-%m-%d").to_string());
        let users = if in_use == 0 { String::new() } else { format!(", in use by {in_use}") };
        let megabytes = size / 1_000_000;
        line(&plain(&format!("{name:<24} {digest} {megabytes:>6} MB  {created:<10}  {source}{users}")));
    }
    Ok(())
}

async fn build(data: PathBuf, name: String, recipe: PathBuf, force: bool) -> Result<(), Failure> {
    let (built, name) = apart(data, move |images| {
        let built = images.build(&name, &recipe, force, &mut std::io::stderr())?;
        Ok((built, name))
    })
    .await?;
    let Built { digest, is_cached, left_out } = built;
    for what in left_out {
        note(&plain(&format!("left out: {what}")));
    }
    line(&format!("{} {name}: {digest}", if is_cached { "up to date:" } else { "built" }));
    Ok(())
}

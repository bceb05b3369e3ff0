//! `patchyard login`: a one-time code becomes a token in the user's configuration; `logout` ends it.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::ExitCode;

use client::{Client, ClientError};

use crate::args::{Global, Login};
use crate::connection::{DEFAULT_SERVER, UserConfig, server};
use crate::error::Failure;
use crate::output::{line, note, raw_note};

pub(crate) async fn run(global: &Global, login: Login) -> Result<ExitCode, Failure> {
    let mut user = UserConfig::read()?;
    let given = match login.code {
        Some(code) => code,
        None => ask()?,
    };
    // The whole address is taken too, and names the server with it.
    let (address, code) = match given.trim().split_once("/login#") {
        Some((address, code)) => (Some(address.to_owned()), code.to_owned()),
        None => (None, given.trim().to_owned()),
    };
    if code.is_empty() {
        return Err(Failure::Usage("give the one-time code that `patchyard serve` printed".into()));
    }
    let server = address.unwrap_or_else(|| server(global, &user));
    let token = Client::new(&server, None)?.exchange(&code).await?.token;
    user.server = Some(server.clone());
    user.token = Some(token);
    write(&user)?;
    if let Some(path) = UserConfig::path() {
        note(&format!("the token is in {}", path.display()));
    }
    line(&format!("signed in to {server}"));
    Ok(ExitCode::SUCCESS)
}

/// Ends the token of the user's configuration, on the server and here. The token file of a server on
/// this machine stays: it belongs to the server.
pub(crate) async fn end() -> Result<ExitCode, Failure> {
    let mut user = UserConfig::read()?;
    let Some(token) = user.token.take() else {
        return Err(Failure::Failed("this account is not signed in anywhere; nothing was done".into()));
    };
    let server = user.server.clone().unwrap_or_else(|| DEFAULT_SERVER.to_owned());
    let ended = Client::new(&server, Some(token))?.logout().await;
    write(&user)?;
    match ended {
        Ok(()) => {}
        // Over already.
        Err(ClientError::Problem(problem)) if problem.status == 401 => {}
        Err(error) => {
            note(
                "the token is gone from this account, but the server could not be told; it is still valid there",
            );
            return Err(error.into());
        }
    }
    line(&format!("signed out of {server}"));
    Ok(ExitCode::SUCCESS)
}

fn ask() -> Result<String, Failure> {
    raw_note("one-time code or login address: ");
    let mut text = String::new();
    std::io::stdin()
        .read_line(&mut text)
        .map_err(|error| Failure::Failed(format!("no code could be read: {error}")))?;
    Ok(text)
}

/// Replaces the file whole, for its owner only.
fn write(user: &UserConfig) -> Result<(), Failure> {
    let Some(path) = UserConfig::path() else {
        return Err(Failure::Failed("neither XDG_CONFIG_HOME nor HOME says where to keep the token".into()));
    };
    let text = toml::to_string(user).map_err(|error| Failure::Internal(error.to_string()))?;
    let fresh = path.with_extension("toml.new");
    let written = path
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| {
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)
        })
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&fresh, &path));
    written.map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))?;
    Ok(())
}

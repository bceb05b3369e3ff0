//! `patchyard web-setup`: gives the server a token for the repositories of a host.

use std::io::IsTerminal as _;
use std::process::{Command, ExitCode, Stdio};

use client::Client;
use protocol::git::SetGitCredential;

use super::image::{read_line, unseen};
use crate::args::{Global, WebSetup};
use crate::connection::connect;
use crate::error::Failure;
use crate::output::{json, line, note, plain, raw_note};

/// The host of those that name none.
const GITHUB: &str = "github.com";

pub(crate) async fn run(global: &Global, setup: WebSetup) -> Result<ExitCode, Failure> {
    let client = connect(global)?;
    let host = setup.host.unwrap_or_else(|| GITHUB.to_owned());
    // It is a part of a path, and the server says which are hosts.
    if host.is_empty() || host.contains(['/', '?', '#', '%', '\\']) {
        return Err(Failure::Usage(
            "--host takes a host, like git.example.org or git.example.org:8443".into(),
        ));
    }
    if setup.list {
        return list(&client, setup.json).await;
    }
    if setup.remove {
        client.remove_git_credential(&host).await?;
        line(&format!("the server has no credential for {host}"));
        return Ok(ExitCode::SUCCESS);
    }
    let token = token(&host, setup.token_stdin)?;
    client.set_git_credential(&host, &SetGitCredential { user: setup.user, token }).await?;
    line(&format!("the server clones from {host} and pushes session branches to it with your token"));
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client, as_json: bool) -> Result<ExitCode, Failure> {
    let all = client.git_credentials().await?;
    if as_json {
        json(&all);
    } else if all.credentials.is_empty() {
        note("the server has no credentials; `patchyard web-setup` gives it one");
    }
    for one in all.credentials.iter().filter(|_| !as_json) {
        line(&plain(&format!("{} as {}, since {}", one.host, one.user, one.set_at)));
    }
    Ok(ExitCode::SUCCESS)
}

/// The token: from standard input, from `gh`, or as it is typed; never an argument, which every user of the
/// machine can read.
fn token(host: &str, from_stdin: bool) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::Failed(format!("no token could be read: {error}"));
    if from_stdin {
        return read_line().map_err(failed);
    }
    if let Some(token) = of_gh(host) {
        note(&format!("taken from `gh auth token --hostname {host}`"));
        return Ok(token);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "`gh` has no token for {host}; sign in with `gh auth login`, or give one with --token-stdin"
        )));
    }
    raw_note(&format!("token for {host}: "));
    unseen(read_line).map_err(failed)
}

/// What GitHub's own command line uses, where it is there and signed in.
fn of_gh(host: &str) -> Option<String> {
    let output = Command::new("gh")
        .args(["auth", "token", "--hostname", host])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let token = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!token.is_empty()).then_some(token)
}

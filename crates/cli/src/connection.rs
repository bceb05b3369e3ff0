//! Finding the server and a token for it.
//!
//! ```text
//!  server  --server / PATCHYARD_SERVER ─▶ configuration file ─▶ http://127.0.0.1:7878
//!  token   PATCHYARD_TOKEN ─▶ configuration file (for its server) ─▶ <data>/token, for this machine only
//! ```

use std::path::{Path, PathBuf};

use client::Client;
use serde::{Deserialize, Serialize};

use crate::args::Global;
use crate::error::Failure;

/// Where a server on this machine listens when nothing else is said.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:7878";

/// The user's own configuration: `$XDG_CONFIG_HOME/patchyard/config.toml`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct UserConfig {
    /// The server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
    /// The token for that server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
}

impl UserConfig {
    /// The file.
    pub(crate) fn path() -> Option<PathBuf> {
        let base = variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".config")))?;
        Some(base.join("patchyard/config.toml"))
    }

    /// What it says; nothing when there is none.
    pub(crate) fn read() -> Result<Self, Failure> {
        let Some(path) = Self::path() else { return Ok(Self::default()) };
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .map_err(|error| Failure::Failed(format!("{} cannot be read: {error}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::Failed(format!("cannot read {}: {error}", path.display()))),
        }
    }
}

/// A client of the chosen server, with the best token that there is.
pub(crate) fn connect(global: &Global) -> Result<Client, Failure> {
    let user = UserConfig::read()?;
    let server = server(global, &user);
    let configured = user.server.as_deref().unwrap_or(DEFAULT_SERVER).trim_end_matches('/');
    let token = variable("PATCHYARD_TOKEN")
        .or_else(|| user.token.filter(|_| configured == server.trim_end_matches('/')))
        .or_else(|| local_token(global, &server));
    Ok(Client::new(&server, token)?)
}

/// The chosen server's address.
pub(crate) fn server(global: &Global, user: &UserConfig) -> String {
    global.server.clone().or_else(|| user.server.clone()).unwrap_or_else(|| DEFAULT_SERVER.to_owned())
}

/// The owner-only token of a server on this machine: never sent anywhere else.
fn local_token(global: &Global, server: &str) -> Option<String> {
    let url = reqwest::Url::parse(server).ok()?;
    let is_local = url.host_str().is_some_and(|host| {
        host == "localhost"
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    });
    let data = data_dir(global.data.as_deref());
    let token = is_local.then(|| std::fs::read_to_string(data.join("token")).ok())??;
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// The data directory of a server on this machine.
pub(crate) fn data_dir(given: Option<&Path>) -> PathBuf {
    if let Some(given) = given {
        return given.to_owned();
    }
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/lib/patchyard");
    }
    let base = variable("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".local/share")));
    base.unwrap_or_else(|| PathBuf::from("/tmp")).join("patchyard")
}

/// A variable of the environment that says something.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

//! `patchyard environments secret …`

use std::io::{IsTerminal as _, Read as _};

use client::Client;
use protocol::environment::{EditEnvironment, Environment, EnvironmentSettings};
use protocol::secret::{SecretBinding, SecretSource};

use super::environments::{find, named, warn};
use crate::args::environments::{SecretCommand, SetSecret};
use crate::error::Failure;
use crate::output::{line, plain};

pub(crate) async fn run(client: &Client, command: SecretCommand) -> Result<(), Failure> {
    match command {
        SecretCommand::Set(set) => self::set(client, set).await,
        SecretCommand::Remove { environment, name } => remove(client, &environment, &name).await,
    }
}

async fn set(client: &Client, set: SetSecret) -> Result<(), Failure> {
    let SetSecret { environment, name, hosts, methods, paths, from, value_file } = set;
    let found = find(client, &environment).await?;
    let value = match &from {
        Some(_) => None,
        None => Some(read(value_file.as_deref())?),
    };
    let mut settings = found.settings.clone();
    let known = settings.secrets.iter().find(|one| one.name == name).cloned();
    let binding = SecretBinding {
        name: name.clone(),
        // Another value for the same places is the usual reason to come here again.
        hosts: if hosts.is_empty() { known.map(|known| known.hosts).unwrap_or_default() } else { hosts },
        methods,
        paths,
        source: from.map_or(SecretSource::Sealed, SecretSource::Operator),
    };
    settings.secrets.retain(|one| one.name != name);
    settings.secrets.push(binding);
    let edited = edit(client, &found, settings).await?;
    if let Some(value) = value {
        client.set_secret(found.id, &name, value).await?;
    }
    line(&format!("set the secret {name} of {}", named(&edited)));
    let now = client.environment(found.id).await?;
    warn(&now);
    Ok(())
}

async fn remove(client: &Client, environment: &str, name: &str) -> Result<(), Failure> {
    let found = find(client, environment).await?;
    let mut settings = found.settings.clone();
    let before = settings.secrets.len();
    settings.secrets.retain(|one| one.name != name);
    if settings.secrets.len() == before {
        let known: Vec<_> = found.settings.secrets.iter().map(|one| one.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Failure::Failed(format!("{} has no secret `{name}`; it has {known}", named(&found))));
    }
    client.remove_secret(found.id, name).await?;
    let edited = edit(client, &found, settings).await?;
    line(&format!("removed the secret {name} of {}", named(&edited)));
    Ok(())
}

async fn edit(
    client: &Client,
    found: &Environment,
    settings: EnvironmentSettings,
) -> Result<Environment, Failure> {
    let edit = EditEnvironment { revision: found.revision, settings };
    Ok(client.edit_environment(found.id, &edit).await?)
}

/// The value, without its last line end; never an argument, which every user of the machine can read.
fn read(path: Option<&str>) -> Result<String, Failure> {
    let mut value = String::new();
    let read = match path {
        Some(path) if path != "-" => std::fs::read_to_string(path).map(|text| value = text),
        _ if std::io::stdin().is_terminal() => {
            return Err(Failure::Usage(
                "give the value on standard input, or name its file with --value-file".into(),
            ));
        }
        _ => std::io::stdin().lock().read_to_string(&mut value).map(drop),
    };
    read.map_err(|error| Failure::Failed(format!("the value cannot be read: {error}")))?;
    Ok(value.trim_end_matches(['\r', '\n']).to_owned())
}

/// Prints the secrets of an environment: where they may be used, never what they are.
pub(crate) fn print(settings: &EnvironmentSettings) {
    for secret in &settings.secrets {
        let source = match &secret.source {
            SecretSource::Sealed => "sealed".to_owned(),
            SecretSource::Operator(name) => format!("from the server's [secrets.{name}]"),
        };
        let limited = [("", &secret.methods), ("below ", &secret.paths)]
            .into_iter()
            .filter(|(_, all)| !all.is_empty())
            .map(|(before, all)| format!(", {before}{}", all.join(" ")))
            .collect::<String>();
        let told = format!("{} for {}{limited} ({source})", secret.name, secret.hosts.join(", "));
        line(&format!("secret    {}", plain(&told)));
    }
}

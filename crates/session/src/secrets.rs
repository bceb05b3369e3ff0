//! Secrets of environments: their values, and what stands for them inside.
//!
//! ```text
//!   binding ─┬─ Sealed ───▶ the store's value ──────────┐
//!            └─ Operator ─▶ file, variable or command ──┴─▶ SecretUse ─▶ egress
//!   binding ─▶ $NAME = placeholder, in every command of the sandbox
//! ```
//!
//! A value is fetched when the rules of a sandbox are handed over, and kept nowhere.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use protocol::environment::EnvironmentSettings;
use protocol::ids::EnvironmentId;
use protocol::secret::{
    MAX_SECRET_BYTES, MIN_SECRET_BYTES, SecretBinding, SecretSource, SecretUse, SetSecret, can_be_looked_for,
};
use sha2::{Digest as _, Sha256};
use store::Store;
use tokio::process::Command;

use crate::error::SessionError;
use crate::registry::Sessions;

/// How long a command may take to print a value.
const COMMAND: Duration = Duration::from_secs(10);

/// Where an entry of the operator's configuration has its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorSecret {
    /// A file; its last line end is left out.
    File(PathBuf),
    /// A variable of the server.
    Variable(String),
    /// What a program prints; its last line end is left out.
    Command(Vec<String>),
}

/// The operator's entries by their names.
pub type OperatorSecrets = BTreeMap<String, OperatorSecret>;

/// Why there is no value, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The environment binds no such secret.
    #[error(
        "the environment binds no secret `{0}` to its sealed value; add it to the environment's secrets first"
    )]
    NotBound(String),
    /// Nothing was set.
    #[error("it has no value yet; set one with `patchyard environments secret set`")]
    Unset,
    /// The operator has no such entry.
    #[error("the server's configuration has no [secrets.{0}]")]
    NoEntry(String),
    /// It is no value for a header.
    #[error(
        "a secret has {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes, without line ends and other control characters"
    )]
    Value,
    /// A file.
    #[error("its file {} cannot be read: {source}", .path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A variable.
    #[error("the server has no variable {0}")]
    NoVariable(String),
    /// A command.
    #[error("its command `{program}` failed: {why}")]
    Command { program: String, why: String },
}

/// What stands for a secret inside. Which sandbox may use it is not decided by this.
pub(crate) fn placeholder(name: &str) -> String {
    let digest = Sha256::digest(format!("patchyard secret {name}"));
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("patchyard_secret_{hex}")
}

/// The variables that hold the placeholders.
pub(crate) fn variables(settings: &EnvironmentSettings) -> impl Iterator<Item = (String, String)> {
    settings.secrets.iter().map(|secret| (secret.name.clone(), placeholder(&secret.name)))
}

/// The secrets of an environment with their values. One without is left out and told in the server's log:
/// its placeholder goes out as it is.
pub(crate) async fn fetch(
    store: &Store,
    operator: &OperatorSecrets,
    (environment, settings): (EnvironmentId, &EnvironmentSettings),
) -> Result<Vec<SecretUse>, store::StoreError> {
    if settings.secrets.is_empty() {
        return Ok(Vec::new());
    }
    let sealed = store.secrets(environment).await?;
    let mut all = Vec::new();
    for binding in &settings.secrets {
        match value(&sealed, operator, binding).await {
            Ok(value) => {
                let placeholder = placeholder(&binding.name);
                all.push(SecretUse { binding: binding.clone(), placeholder, value });
            }
            Err(error) => {
                tracing::warn!(%environment, secret = binding.name, %error, "a secret cannot be used");
            }
        }
    }
    Ok(all)
}

async fn value(
    sealed: &BTreeMap<String, String>,
    operator: &OperatorSecrets,
    binding: &SecretBinding,
) -> Result<String, SecretError> {
    match &binding.source {
        SecretSource::Sealed => sealed.get(&binding.name).cloned().ok_or(SecretError::Unset),
        SecretSource::Operator(name) => {
            let entry = operator.get(name).ok_or_else(|| SecretError::NoEntry(name.clone()))?;
            let value = entry.read().await?;
            checked(value.strip_suffix('\n').map_or(value.as_str(), |line| line.trim_end_matches('\r')))
        }
    }
}

fn checked(value: &str) -> Result<String, SecretError> {
    if can_be_looked_for(value) { Ok(value.to_owned()) } else { Err(SecretError::Value) }
}

impl OperatorSecret {
    async fn read(&self) -> Result<String, SecretError> {
        match self {
            Self::File(path) => tokio::fs::read_to_string(path)
                .await
                .map_err(|source| SecretError::File { path: path.clone(), source }),
            Self::Variable(name) => std::env::var(name).map_err(|_| SecretError::NoVariable(name.clone())),
            Self::Command(argv) => printed(argv).await,
        }
    }
}

/// What a program prints.
async fn printed(argv: &[String]) -> Result<String, SecretError> {
    let (program, arguments) =
        argv.split_first().map_or(("", argv), |(program, rest)| (program.as_str(), rest));
    let failed = |why: String| SecretError::Command { program: program.to_owned(), why };
    let mut command = Command::new(program);
    // Not what it says about its failure: that may hold anything.
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(COMMAND, command.output())
        .await
        .map_err(|_| failed("it printed nothing within 10 s".into()))?
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    String::from_utf8(output.stdout).map_err(|_| failed("it printed something else than text".into()))
}

impl Sessions {
    /// Sets the sealed value of a secret, for all sandboxes of the environment, at once.
    pub async fn set_secret(
        &self,
        environment: EnvironmentId,
        name: &str,
        set: SetSecret,
    ) -> Result<(), SessionError> {
        let settings = self.shared.store.environment(environment).await?.settings;
        let bound = |one: &SecretBinding| one.name == name && one.source == SecretSource::Sealed;
        if !settings.secrets.iter().any(bound) {
            return Err(SecretError::NotBound(name.chars().take(80).collect()).into());
        }
        let value = checked(&set.value)?;
        self.shared.store.set_secret(environment, name.to_owned(), value).await?;
        self.shared.networks.edited(environment).await;
        Ok(())
    }

    /// Forgets the sealed value of a secret; done also when there was none.
    pub async fn remove_secret(&self, environment: EnvironmentId, name: &str) -> Result<(), SessionError> {
        self.shared.store.environment(environment).await?;
        if self.shared.store.remove_secret(environment, name.to_owned()).await? {
            self.shared.networks.edited(environment).await;
        }
        Ok(())
    }

    /// What is not right yet with the secrets of an environment, a sentence each.
    pub(crate) async fn secret_warnings(
        &self,
        environment: EnvironmentId,
        settings: &EnvironmentSettings,
    ) -> Result<Vec<String>, SessionError> {
        if settings.secrets.is_empty() {
            return Ok(Vec::new());
        }
        let sealed = self.shared.store.secrets(environment).await?;
        let lacks = |binding: &&SecretBinding| match &binding.source {
            SecretSource::Sealed => !sealed.contains_key(&binding.name),
            SecretSource::Operator(name) => !self.shared.config.secrets.contains_key(name),
        };
        let told = settings.secrets.iter().filter(lacks).map(|binding| {
            let why = match &binding.source {
                SecretSource::Sealed => SecretError::Unset,
                SecretSource::Operator(name) => SecretError::NoEntry(name.clone()),
            };
            format!("the secret {}: {why}", binding.name)
        });
        Ok(told.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_operators_values_come_from_files_variables_and_commands() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "from-a-file\r\n").unwrap();
        let entries: OperatorSecrets = [
            ("file", OperatorSecret::File(path)),
            ("gone", OperatorSecret::File(folder.path().join("gone"))),
            ("command", OperatorSecret::Command(["printf", "from-a-%s", "command"].map(Into::into).into())),
            ("fails", OperatorSecret::Command(vec!["false".into()])),
            ("short", OperatorSecret::Command(["printf", "short"].map(Into::into).into())),
            ("lines", OperatorSecret::Command(["printf", "two\\nlines"].map(Into::into).into())),
            ("variable", OperatorSecret::Variable("PATH".into())),
            ("unset", OperatorSecret::Variable("PATCHYARD_NO_SUCH_VARIABLE".into())),
        ]
        .map(|(name, entry)| (name.to_owned(), entry))
        .into();
        let read = async |name: &str| {
            let source = SecretSource::Operator(name.into());
            let binding =
                SecretBinding { name: "TOKEN".into(), hosts: vec![], methods: vec![], paths: vec![], source };
            value(&BTreeMap::new(), &entries, &binding).await
        };
        assert_eq!(read("file").await.unwrap(), "from-a-file");
        assert_eq!(read("command").await.unwrap(), "from-a-command");
        assert_eq!(read("variable").await.unwrap(), std::env::var("PATH").unwrap());
        for (name, said) in [
            ("gone", "cannot be read"),
            ("fails", "exit status: 1"),
            ("short", "8 to 16384 bytes"),
            ("lines", "8 to 16384 bytes"),
            ("unset", "PATCHYARD_NO_SUCH_VARIABLE"),
            ("other", "[secrets.other]"),
        ] {
            let error = read(name).await.unwrap_err().to_string();
            assert!(error.contains(said), "{name}: {error}");
        }
    }
}

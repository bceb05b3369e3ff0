//! The settings files that say what a command may touch.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use policy::local::{Bases, Layer, LocalPolicy, Scope};

use super::error::LocalError;

/// The settings of whoever runs the machine.
const MANAGED: &str = "/etc/claude-code/managed-settings.json";

/// The longest settings file that is read, in bytes.
const MAX: u64 = 2 * 1024 * 1024;

/// Reads the usual files, and the one that is given, and joins them. With it: what is to be told.
pub(crate) fn load(
    given: Option<&Path>,
    home: &Path,
    working: &Path,
) -> Result<(LocalPolicy, Vec<String>), LocalError> {
    let user = std::env::var_os("CLAUDE_CONFIG_DIR").map_or_else(|| home.join(".claude"), PathBuf::from);
    let project = working.join(".claude");
    let mut files = vec![
        (PathBuf::from(MANAGED), Scope::Managed, PathBuf::from("/etc/claude-code")),
        (user.join("settings.json"), Scope::User, user),
        (project.join("settings.json"), Scope::Project, working.to_owned()),
        (project.join("settings.local.json"), Scope::Local, working.to_owned()),
    ];
    if let Some(given) = given {
        files.push((given.to_owned(), Scope::CommandLine, working.to_owned()));
    }
    let mut layers = Vec::new();
    let mut remarks = Vec::new();
    for (path, scope, source) in files {
        let Some(text) = text(&path, scope == Scope::CommandLine)? else { continue };
        let bases = Bases { home: home.to_owned(), working: working.to_owned(), source };
        let (layer, said) = Layer::parse(&text, scope, &bases)
            .map_err(|reason| LocalError::Settings { path: path.clone(), reason })?;
        remarks.extend(said.iter().map(|remark| format!("{}: {remark}", path.display())));
        layers.push(layer);
    }
    let (policy, said) = LocalPolicy::merge(layers, working);
    remarks.extend(said);
    if policy.fail_if_unavailable == Some(false) {
        remarks.push(
            "sandbox.failIfUnavailable is false, but what is asked to be sandboxed runs sandboxed or not at \
             all"
            .into(),
        );
    }
    Ok((policy, remarks))
}

fn text(path: &Path, needed: bool) -> Result<Option<String>, LocalError> {
    let bad = |reason: String| LocalError::Settings { path: path.to_owned(), reason };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if !needed && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(bad(error.to_string())),
    };
    // A pipe in its place would be waited for without end.
    if !needed && !file.metadata().is_ok_and(|about| about.is_file()) {
        return Err(bad("it is no file".into()));
    }
    let mut text = String::new();
    file.take(MAX + 1).read_to_string(&mut text).map_err(|error| bad(error.to_string()))?;
    if text.len() as u64 > MAX { Err(bad("it is longer than 2 MiB".into())) } else { Ok(Some(text)) }
}

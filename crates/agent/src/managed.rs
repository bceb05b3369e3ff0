//! What the operator of a machine says to agents, in a folder of it.
//!
//! ```text
//!  managed-settings.d/*.json, the last by name first ─┐
//!  managed-settings.json ─────────────────────────────┼─▶ Managed
//!  managed-mcp.json ──────────────────────────────────┘
//! ```
//!
//! What is there and cannot be read is an error: what it denies cannot be known.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::settings::{Scope, SettingsFile};

/// The largest file, in bytes.
const MAX_FILE: u64 = 2 * 1024 * 1024;

/// The operator's files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Managed {
    /// Settings, the stronger first.
    pub settings: Vec<SettingsFile>,
    /// MCP servers, where there are some.
    pub servers: Option<Vec<u8>>,
}

/// Why what the operator says is not known.
#[derive(Debug, thiserror::Error)]
#[error("the operator's {} cannot be read: {source}", .path.display())]
pub struct ManagedError {
    path: PathBuf,
    source: io::Error,
}

impl Managed {
    /// Reads a folder; one that is not there says nothing.
    ///
    /// # Errors
    ///
    /// A file that is there and cannot be read, or is larger than 2 MiB.
    pub fn read(folder: &Path) -> Result<Self, ManagedError> {
        let mut settings = Vec::new();
        for path in parts(&folder.join("managed-settings.d"))?
            .into_iter()
            .chain([folder.join("managed-settings.json")])
        {
            if let Some(bytes) = bytes(&path)? {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                settings.push(SettingsFile { name, scope: Scope::Managed, bytes });
            }
        }
        Ok(Self { settings, servers: bytes(&folder.join("managed-mcp.json"))? })
    }
}

/// Files of the folder of parts; the last by name stands above the others.
fn parts(folder: &Path) -> Result<Vec<PathBuf>, ManagedError> {
    let failed = |source| ManagedError { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<Result<_, _>>().map_err(failed)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths.reverse();
    Ok(paths)
}

fn bytes(path: &Path) -> Result<Option<Vec<u8>>, ManagedError> {
    let failed = |source| ManagedError { path: path.to_owned(), source };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(failed(io::Error::other(format!("it is larger than {MAX_FILE} bytes"))));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_files_come_strongest_first_and_must_be_readable() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Managed::read(&folder.path().join("none")).unwrap(), Managed::default());
        let parts = folder.path().join("managed-settings.d");
        fs::create_dir(&parts).unwrap();
        for name in [
            "managed-settings.json",
            "managed-settings.d/10-a.json",
            "managed-settings.d/20-b.json",
            "managed-settings.d/notes",
        ] {
            fs::write(folder.path().join(name), "{}").unwrap();
        }
        let names: Vec<String> =
            Managed::read(folder.path()).unwrap().settings.into_iter().map(|file| file.name).collect();
        assert_eq!(names, ["20-b.json", "10-a.json", "managed-settings.json"]);
        let refused = || Managed::read(folder.path()).unwrap_err().to_string();
        fs::create_dir(parts.join("30.json")).unwrap();
        assert!(refused().contains("30.json cannot be read"), "{}", refused());
        fs::remove_dir(parts.join("30.json")).unwrap();
        // Nor may servers that are there pass for none.
        fs::create_dir(folder.path().join("managed-mcp.json")).unwrap();
        assert!(refused().contains("managed-mcp.json cannot be read"), "{}", refused());
        fs::remove_dir(folder.path().join("managed-mcp.json")).unwrap();
        fs::write(folder.path().join("managed-mcp.json"), vec![b' '; 2 * 1024 * 1024 + 1]).unwrap();
        assert!(refused().contains("larger than 2097152 bytes"), "{}", refused());
    }
}

//! `[repositories]` and `[[forges]]` of the configuration.

use std::path::PathBuf;

use policy::address::AddressException;
use serde::Deserialize;
use session::LfsLimits;

/// `[repositories]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RepositoriesConfig {
    /// Folders that `file:` addresses may name.
    pub file_roots: Vec<PathBuf>,
    /// Private addresses that may be dialled.
    pub allow: Vec<AddressException>,
    /// Whether people may give the server tokens for hosts of repositories, and it uses them.
    pub personal_tokens: bool,
    /// Whether the branch of a session is pushed to where the session came from when a turn ends, where
    /// there is a token for that host.
    pub push_branches: bool,
    /// Beginnings of addresses whose submodules are fetched with the token for their host; those of the
    /// repository's own owner are anyway.
    pub submodules: Vec<String>,
    /// Bytes of large files (git LFS) that a session begins with; the others stay pointers.
    pub lfs_bytes: u64,
    /// How many.
    pub lfs_objects: usize,
}

impl Default for RepositoriesConfig {
    fn default() -> Self {
        Self {
            file_roots: Vec::new(),
            allow: Vec::new(),
            personal_tokens: true,
            push_branches: true,
            submodules: Vec::new(),
            lfs_bytes: LfsLimits::default().bytes,
            lfs_objects: LfsLimits::default().objects,
        }
    }
}

/// `[[forges]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgeConfig {
    /// Its host, with the port where that is not 443.
    pub host: String,
    /// Its base address, where it is not `https://HOST/api/v3`.
    #[serde(default)]
    pub api: Option<String>,
}

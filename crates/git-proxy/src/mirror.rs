//! Mirrors: one bare copy per address, brought up to date before each use.
//!
//! ```text
//!  address ─ policy ─▶ host ─ resolve ─▶ addresses ─ policy ─▶ git fetch, pinned to those addresses
//! ```
//!
//! git does not resolve the name again (`http.curloptResolve`) and follows no redirect, so that
//! what was checked is what is dialled. Where the remote has just what the mirror has, nothing is fetched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, Weak};

use policy::address::AddressRules;
use policy::repository::{RepositoryUrl, below_any};
use sha2::{Digest as _, Sha256};
use tokio::fs;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::command::Git;
use crate::error::GitError;
use crate::remote::{Remote, RemoteError};
use crate::repositories::{Repositories, init};

/// For folders: they may belong to another account, since the operator opened them. The other side of
/// a fetch runs no program that a repository's own configuration names.
const FOREIGN: &str = "--upload-pack=git -c safe.directory=* upload-pack";

/// What the full name of a branch begins with.
const BRANCHES: &str = "refs/heads/";

/// What the operator allows when the server fetches.
#[derive(Debug, Clone, Default)]
pub struct FetchRules {
    /// Addresses.
    pub addresses: AddressRules,
    /// Folders that `file:` may name.
    pub file_roots: Vec<PathBuf>,
    /// Beginnings of addresses whose submodules are fetched with the server's credential, whoever's repository
    /// names them.
    pub submodules: Vec<String>,
    /// A file of authorities that hosts may be signed by, PEM; those of the machine where there is none.
    pub authorities: Option<PathBuf>,
}

/// Who may bring a mirror up to date: two gits in one would trip over its locks, two mirrors have
/// nothing to do with each other.
#[derive(Debug, Default)]
pub(crate) struct MirrorTurns(std::sync::Mutex<BTreeMap<PathBuf, Weak<Mutex<()>>>>);

impl MirrorTurns {
    /// The lock of one mirror; it is forgotten when nobody has it any more.
    fn of(&self, mirror: &Path) -> Arc<Mutex<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = all.get(mirror).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        all.insert(mirror.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

/// A mirror as it was just brought up to date. Nobody else changes it while this is there.
pub(crate) struct Mirror {
    pub(crate) path: PathBuf,
    /// Branches and tags by their full names, each with its object.
    pub(crate) refs: BTreeMap<String, String>,
    pub(crate) default_branch: Option<String>,
    _turn: OwnedMutexGuard<()>,
}

impl Mirror {
    /// The commit of a branch.
    pub(crate) fn branch(&self, name: &str) -> Option<&String> {
        self.refs.get(&format!("{BRANCHES}{name}"))
    }

    /// The names of all branches.
    pub(crate) fn branches(&self) -> impl Iterator<Item = &str> {
        self.refs.keys().filter_map(|name| name.strip_prefix(BRANCHES))
    }
}

impl Repositories {
    pub(crate) async fn refresh_mirror(&self, from: &Remote, rules: &FetchRules) -> Result<Mirror, GitError> {
        let way = Way::to(from, rules).await?;
        let address = &way.address;
        let path = self.mirrors.join(format!("{}.git", short_hash(address)));
        let turn = self.mirroring.of(&path).lock_owned().await;
        if !fs::try_exists(path.join("HEAD")).await.unwrap_or(false) {
            init(&path).await?;
        }
        let mut refs = match refs(&path).await {
            Ok(refs) => refs,
            Err(error @ GitError::Git { .. }) => {
                tracing::warn!(mirror = %path.display(), %error, "a mirror is broken, and made anew");
                fs::remove_dir_all(&path)
                    .await
                    .map_err(|source| GitError::Folder { path: path.clone(), source })?;
                init(&path).await?;
                BTreeMap::new()
            }
            Err(error) => return Err(error),
        };
        let advertised = way
            .git("ls-remote", &path)
            .args(["ls-remote", "--symref", FOREIGN, "--", address, "HEAD", "refs/heads/*", "refs/tags/*"])
            .text()
            .await
            .map_err(|error| way.told(error, "read"))?;
        if advertised_refs(&advertised) != refs {
            way.git("fetch", &path)
                .args(["fetch", "--quiet", "--prune", "--no-write-fetch-head", "--no-tags", "--force"])
                .args([FOREIGN, "--", address])
                .args(["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"])
                .run()
                .await
                .map_err(|error| match error {
                    GitError::Git { words, .. } if words.contains("mismatched algorithms") => {
                        GitError::ObjectFormat(from.url.to_string())
                    }
                    other => way.told(other, "read"),
                })?;
            tidy(&path).await;
            refs = self::refs(&path).await?;
        }
        let mut mirror = Mirror { path, refs, default_branch: None, _turn: turn };
        let default = default_branch(&advertised).filter(|branch| mirror.branch(branch).is_some());
        // Of several none is as good as another.
        let only = || {
            let mut all = mirror.branches();
            all.next().filter(|_| all.next().is_none()).map(ToOwned::to_owned)
        };
        mirror.default_branch = default.or_else(only);
        Ok(mirror)
    }
}

/// Puts many small packs together, so that a mirror stays fast to read and to copy. One that could not be
/// put together is as good as before.
async fn tidy(mirror: &Path) {
    let packed = Git::new("repack", Some(mirror)).args(["repack", "--quiet", "-d", "--geometric=2"]).run();
    if let Err(error) = packed.await {
        tracing::warn!(mirror = %mirror.display(), %error, "a mirror could not be packed");
    }
}

/// The way of one git to a remote repository: what was checked is what it dials.
pub(crate) struct Way<'a> {
    remote: &'a Remote,
    pub(crate) address: String,
    pin: Option<String>,
    authorities: Option<&'a Path>,
}

impl<'a> Way<'a> {
    pub(crate) async fn to(remote: &'a Remote, rules: &'a FetchRules) -> Result<Self, GitError> {
        let (address, pin) = vet(&remote.url, rules).await?;
        Ok(Self { remote, address, pin, authorities: rules.authorities.as_deref() })
    }

    /// A git that takes this way. The credential is in its environment: every user can read arguments.
    pub(crate) fn git(&self, action: &'static str, repository: &Path) -> Git {
        let mut git = Git::new(action, Some(repository));
        if let Some(pin) = &self.pin {
            git = git.args(["-c", &format!("http.curloptResolve={pin}")]);
        }
        if let Some(authorities) = self.authorities {
            git = git.args(["-c", &format!("http.sslCAInfo={}", authorities.display())]);
        }
        if let Some(credential) = self.remote.shown() {
            git = git
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", "http.extraHeader")
                .env("GIT_CONFIG_VALUE_0", &format!("Authorization: {}", credential.header()));
        }
        git
    }

    /// An error of such a git, in our words where it is about the way.
    pub(crate) fn told(&self, error: GitError, wanted: &'static str) -> GitError {
        match &error {
            GitError::Git { words, .. } if matches!(self.remote.url, RepositoryUrl::Http { .. }) => {
                RemoteError::of_git(self.remote, words, wanted).map_or(error, GitError::Remote)
            }
            _ => error,
        }
    }
}

/// What git is given, and the addresses that it is pinned to.
async fn vet(url: &RepositoryUrl, rules: &FetchRules) -> Result<(String, Option<String>), GitError> {
    match url {
        RepositoryUrl::File { path } => {
            let real = fs::canonicalize(path)
                .await
                .map_err(|source| GitError::Folder { path: path.clone(), source })?;
            if !below_any(&real, &rules.file_roots) {
                let shown = real.display().to_string();
                return Err(policy::repository::RepositoryUrlError::OutsideRoots(shown).into());
            }
            Ok((real.display().to_string(), None))
        }
        RepositoryUrl::Http { url, host, port } => {
            let resolved = tokio::net::lookup_host((host.as_str(), *port))
                .await
                .map_err(|source| GitError::Resolve { host: host.clone(), source })?;
            let mut addresses = Vec::new();
            for address in resolved.map(|socket| socket.ip()) {
                rules.addresses.check(host, address).map_err(|reason| GitError::Address {
                    host: host.clone(),
                    address,
                    reason,
                })?;
                let text = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
                if !addresses.contains(&text) {
                    addresses.push(text);
                }
            }
            Ok((url.clone(), Some(format!("{host}:{port}:{}", addresses.join(",")))))
        }
    }
}

/// The branches and tags of a repository, each with its object.
async fn refs(repository: &Path) -> Result<BTreeMap<String, String>, GitError> {
    let listed = Git::new("for-each-ref", Some(repository))
        .args(["for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags"])
        .text()
        .await?;
    Ok(listed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(object, name)| (name.to_owned(), object.to_owned()))
        .collect())
}

/// The same of what `ls-remote` said: `OBJECT\tNAME`, without HEAD and what tags stand for.
fn advertised_refs(advertised: &str) -> BTreeMap<String, String> {
    advertised
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .filter(|(_, name)| name.starts_with("refs/") && !name.ends_with("^{}"))
        .map(|(object, name)| (name.to_owned(), object.to_owned()))
        .collect()
}

/// The branch that the remote's HEAD names: `ref: refs/heads/main\tHEAD`.
fn default_branch(advertised: &str) -> Option<String> {
    advertised
        .lines()
        .find_map(|line| line.strip_prefix("ref: refs/heads/")?.strip_suffix("\tHEAD"))
        .map(ToOwned::to_owned)
}

pub(crate) fn short_hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_same_mirror_has_to_wait() {
        let turns = MirrorTurns::default();
        let one = turns.of(Path::new("one.git"));
        let _held = one.lock().await;
        assert!(turns.of(Path::new("one.git")).try_lock().is_err());
        assert!(turns.of(Path::new("two.git")).try_lock().is_ok());
    }
}

//! A user's git repository.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use protocol::api::UPLOAD_HEAD_REF;
use tempfile::TempDir;

use super::must::Must as _;

/// A repository in a temporary folder, on branch `main`.
#[derive(Debug)]
pub struct Repo {
    dir: TempDir,
    path: PathBuf,
}

/// Everything in a repository's folder, byte for byte, and what git says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    files: BTreeMap<PathBuf, (u32, Vec<u8>)>,
    said: Vec<String>,
}

impl Repo {
    /// An empty repository in a folder of this name.
    ///
    /// # Panics
    /// When git cannot make one.
    #[must_use]
    pub fn empty(name: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("patchyard-repo-").tempdir().must("a temporary folder");
        let path = dir.path().join(name);
        fs::create_dir(&path).must("the repository's folder");
        let this = Self { dir, path };
        this.git(&["init", "--quiet", "--initial-branch=main"]);
        this
    }

    /// A repository with these files in one commit.
    #[must_use]
    pub fn with(name: &str, files: &[(&str, &str)]) -> Self {
        let this = Self::empty(name);
        for (path, content) in files {
            this.write(path, content);
        }
        this.commit("Begin");
        this
    }

    /// A copy of another repository with its whole history, as `git clone --no-hardlinks` makes it.
    #[must_use]
    pub fn clone_of(source: &Path, name: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("patchyard-repo-").tempdir().must("a temporary folder");
        let path = dir.path().join(name);
        let this = Self { dir, path };
        let (from, to) = (source.display().to_string(), this.path.display().to_string());
        let output = this.output_in(Path::new("/"), &["clone", "--quiet", "--no-hardlinks", &from, &to]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        this
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its folder as an argument.
    #[must_use]
    pub fn arg(&self) -> String {
        self.path.display().to_string()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Where a session has it inside its sandbox.
    #[must_use]
    pub fn workspace(&self) -> String {
        format!("/workspace/{}", self.name())
    }

    /// Writes a file; folders are made.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path.join(path);
        fs::create_dir_all(path.parent().must("a folder")).must("a folder");
        fs::write(path, content).must("a file");
    }

    /// Makes a file executable.
    ///
    /// # Panics
    /// When that fails.
    pub fn executable(&self, path: &str) {
        fs::set_permissions(self.path.join(path), fs::Permissions::from_mode(0o755)).must("a mode");
    }

    /// Commits everything and gives the commit.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs git in it and gives its words.
    ///
    /// # Panics
    /// When git says no.
    #[track_caller]
    pub fn git(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {args:?}: {words}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs git in it, whatever it says.
    #[must_use]
    pub fn output(&self, args: &[&str]) -> Output {
        self.output_in(&self.path, args)
    }

    fn output_in(&self, folder: &Path, args: &[&str]) -> Output {
        Command::new("git")
            .args(args)
            .current_dir(folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("LC_ALL", "C.UTF-8")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "Test")))
            .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "test@localhost")))
            .stdin(Stdio::null())
            .output()
            .must("git")
    }

    /// A bundle of all of it, as the API takes it.
    ///
    /// # Panics
    /// When git cannot make one.
    #[must_use]
    pub fn bundle(&self) -> Vec<u8> {
        let head = self.git(&["rev-parse", "HEAD"]);
        self.git(&["update-ref", UPLOAD_HEAD_REF, &head]);
        let output = self.output(&["bundle", "create", "--quiet", "-", "--all"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// The tree of the work tree as it is now, untracked files included.
    pub fn tree_of_files(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["write-tree"])
    }

    /// Everything that could show that somebody was here.
    #[must_use]
    pub fn traces(&self) -> Traces {
        let mut files = BTreeMap::new();
        let mut open = vec![self.path.clone()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder).must("a folder").flatten() {
                let meta = entry.metadata().must("a file's facts");
                let path = entry.path();
                let name = path.strip_prefix(&self.path).must("a path below").to_owned();
                let content = if meta.is_dir() {
                    open.push(path);
                    Vec::new()
                } else if meta.is_symlink() {
                    fs::read_link(&path).must("a link").as_os_str().as_bytes().to_vec()
                } else {
                    fs::read(&path).must("a file")
                };
                files.insert(name, (meta.permissions().mode(), content));
            }
        }
        let said = [
            &["for-each-ref"][..],
            &["reflog", "--all"],
            &["stash", "list"],
            &["count-objects", "-v"],
            &["--no-optional-locks", "status", "--porcelain=v2", "--branch"],
            &["worktree", "list"],
            &["config", "--local", "--list"],
        ];
        Traces { files, said: said.iter().map(|args| self.git(args)).collect() }
    }
}

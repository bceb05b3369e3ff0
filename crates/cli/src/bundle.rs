//! A local repository as a bundle, without a trace in it.
//!
//! ```text
//!  all refs ≤ 100 MB? ─▶ current branch ≤ 100 MB? ─▶ one snapshot commit ≤ 100 MB? ─▶ refused, largest files named
//! ```
//!
//! Runs git as the user, and only reads in the user's repository: a scratch repository borrows its
//! objects, and takes the refs that a bundle needs and the new objects. Uncommitted changes to
//! tracked files become a commit of their own on top of HEAD, made with a copy of the index;
//! untracked files stay at home.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use protocol::api::{MAX_BUNDLE_BYTES, UPLOAD_HEAD_REF, UPLOAD_WIP_REF};
use tempfile::TempDir;

/// Why a repository cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    #[error("{0} is not in a git repository; go into one, or name one with --repo")]
    NotRepository(String),
    #[error("{0} has no commit yet; commit something first")]
    NoCommit(String),
    #[error("{0} names its objects by SHA-256; only repositories with SHA-1 names can be worked on")]
    ObjectFormat(String),
    #[error("there is no branch `{branch}` in {path}; it has {known}")]
    NoBranch { branch: String, path: String, known: String },
    #[error(
        "the repository is too large to send: even one snapshot has {megabytes} MB, {} MB are allowed; \
         the largest files are {largest}; push it to a remote and give its URL with --repo",
        MAX_BUNDLE_BYTES / 1_000_000
    )]
    TooLarge { megabytes: u64, largest: String },
    #[error("git could not be started; install git 2.37 or newer")]
    Start(#[source] std::io::Error),
    #[error("git {action} failed: {words}")]
    Git { action: String, words: String },
    #[error("no temporary folder could be made")]
    Temp(#[source] std::io::Error),
}

/// How much of the repository is in the bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Every branch and tag.
    All,
    /// The history of one branch.
    Branch,
    /// One commit without history.
    Snapshot,
    /// The same, since the clone has no more.
    Shallow,
    /// The same, since the clone may lack what is older.
    Partial,
}

impl Extent {
    /// For the person.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::All => "all branches and tags",
            Self::Branch => "the current branch only: all of it is over the limit",
            Self::Snapshot => "a snapshot without history: the branch is over the limit",
            Self::Shallow => "a snapshot: your clone is shallow",
            Self::Partial => "a snapshot: your clone is partial",
        }
    }
}

/// A bundle, ready to send. Its file goes with it.
#[derive(Debug)]
pub(crate) struct Bundle {
    _dir: TempDir,
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) extent: Extent,
    pub(crate) name: String,
    pub(crate) branch: Option<String>,
    /// Whether uncommitted changes are in it.
    pub(crate) dirty: bool,
}

/// The user's repository: only read.
struct Repository {
    top: PathBuf,
    objects: String,
}

/// Makes the bundle of the repository that `path` is in.
pub(crate) fn make(path: &Path, branch: Option<&str>) -> Result<Bundle, BundleError> {
    let repository = Repository::open(path)?;
    let (head, branch_name) = repository.start(branch)?;
    // Others of this machine have no business in the user's code.
    let owner_only = Permissions::from_mode(0o700);
    let dir = tempfile::Builder::new()
        .prefix("patchyard-")
        .permissions(owner_only)
        .tempdir()
        .map_err(BundleError::Temp)?;
    let scratch = Scratch::create(dir.path(), &repository)?;
    // Another branch than the checked-out one is sent as it was committed.
    let wip = if branch.is_none() { scratch.uncommitted(&repository, &head)? } else { None };
    scratch.name(&head, wip.as_deref())?;
    let tip = wip.clone().unwrap_or(head);
    let shallow = repository.git(&["rev-parse", "--is-shallow-repository"])? == "true";
    let partial = repository.git(&["config", "extensions.partialClone"]).is_ok();
    // A bundle of a shallow or partial clone would lack objects without saying so.
    let extents = match (shallow, partial) {
        (true, _) => &[Extent::Shallow][..],
        (false, true) => &[Extent::Partial],
        (false, false) => {
            scratch.copy_refs(&repository)?;
            &[Extent::All, Extent::Branch, Extent::Snapshot]
        }
    };
    let file = dir.path().join("repository.bundle");
    let (extent, size) = scratch.first_that_fits(&file, extents, &tip, wip.is_some())?;
    let name =
        repository.top.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok(Bundle { _dir: dir, path: file, size, extent, name, branch: branch_name, dirty: wip.is_some() })
}

impl Repository {
    fn open(path: &Path) -> Result<Self, BundleError> {
        let not = || BundleError::NotRepository(path.display().to_string());
        if !path.is_dir() {
            return Err(not());
        }
        let git = |args: &[&str]| run(Command::new("git").args(args).current_dir(path), args, None);
        let top = git(&["rev-parse", "--show-toplevel"]).map_err(|error| match error {
            BundleError::Git { .. } => not(),
            other => other,
        })?;
        let objects = git(&["rev-parse", "--path-format=absolute", "--git-path", "objects"])?;
        if git(&["rev-parse", "--show-object-format"])? == "sha256" {
            return Err(BundleError::ObjectFormat(top));
        }
        Ok(Self { top: PathBuf::from(top), objects })
    }

    /// The commit to start from and the branch's name.
    fn start(&self, branch: Option<&str>) -> Result<(String, Option<String>), BundleError> {
        let shown = || self.top.display().to_string();
        let Some(branch) = branch else {
            let head = self
                .git(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])
                .map_err(|_| BundleError::NoCommit(shown()))?;
            return Ok((head, self.git(&["symbolic-ref", "--quiet", "--short", "HEAD"]).ok()));
        };
        let name = format!("refs/heads/{branch}^{{commit}}");
        match self.git(&["rev-parse", "--verify", "--quiet", "--end-of-options", &name]) {
            Ok(head) => Ok((head, Some(branch.to_owned()))),
            Err(_) => {
                let known =
                    self.git(&["for-each-ref", "--count=8", "--format=%(refname:short)", "refs/heads"])?;
                let known = if known.is_empty() { "none".into() } else { known.replace('\n', ", ") };
                Err(BundleError::NoBranch { branch: branch.to_owned(), path: shown(), known })
            }
        }
    }

    fn git(&self, args: &[&str]) -> Result<String, BundleError> {
        run(Command::new("git").args(args).current_dir(&self.top).env("GIT_OPTIONAL_LOCKS", "0"), args, None)
    }
}

/// A bare repository of our own that borrows the user's objects.
struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    fn create(dir: &Path, repository: &Repository) -> Result<Self, BundleError> {
        let this = Self { dir: dir.join("scratch.git") };
        let path = this.dir.display().to_string();
        let args = ["init", "--quiet", "--bare", "--template=", &path];
        run(Command::new("git").args(args), &args, None)?;
        let info = this.dir.join("objects/info");
        std::fs::create_dir_all(&info)
            .and_then(|()| std::fs::write(info.join("alternates"), format!("{}\n", repository.objects)))
            .map_err(BundleError::Temp)?;
        Ok(this)
    }

    /// A commit on top of HEAD with the changes to tracked files, if there are any.
    fn uncommitted(&self, repository: &Repository, head: &str) -> Result<Option<String>, BundleError> {
        let index = self.dir.join("index");
        let theirs = repository.git(&["rev-parse", "--path-format=absolute", "--git-path", "index"])?;
        match copy_with_time(Path::new(&theirs), &index) {
            Ok(()) => {}
            // No index yet: nothing is tracked beyond HEAD.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BundleError::Temp(error)),
        }
        let git = |args: &[&str]| {
            let mut command = Command::new("git");
            command
                .args(args)
                .current_dir(&repository.top)
                .env("GIT_INDEX_FILE", &index)
                .env("GIT_OBJECT_DIRECTORY", self.dir.join("objects"))
                .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &repository.objects);
            run(&mut command, args, None)
        };
        git(&["add", "--update", "."])?;
        let tree = git(&["write-tree"])?;
        if tree == git(&["rev-parse", &format!("{head}^{{tree}}")])? {
            return Ok(None);
        }
        self.git(&["commit-tree", &tree, "-p", head, "-m", "Uncommitted changes at the start"]).map(Some)
    }

    fn name(&self, head: &str, wip: Option<&str>) -> Result<(), BundleError> {
        self.git(&["update-ref", UPLOAD_HEAD_REF, head])?;
        if let Some(wip) = wip {
            self.git(&["update-ref", UPLOAD_WIP_REF, wip])?;
        }
        Ok(())
    }

    /// Branches, tags and what is known of remotes; stashes are private and stay.
    fn copy_refs(&self, repository: &Repository) -> Result<(), BundleError> {
        let format = "--format=create %(refname) %(objectname)";
        let list = repository.git(&["for-each-ref", format, "refs/heads", "refs/tags", "refs/remotes"])?;
        let args = ["--git-dir", &self.dir.display().to_string(), "update-ref", "--stdin"];
        let list = format!("{list}\n");
        run(Command::new("git").args(args), &args[2..], Some(list.trim_start().as_bytes())).map(drop)
    }

    fn first_that_fits(
        &self,
        file: &Path,
        extents: &[Extent],
        tip: &str,
        dirty: bool,
    ) -> Result<(Extent, u64), BundleError> {
        let mut size = 0;
        for extent in extents {
            size = self.bundle(file, *extent, tip, dirty)?;
            if size <= MAX_BUNDLE_BYTES {
                return Ok((*extent, size));
            }
        }
        Err(BundleError::TooLarge { megabytes: size / 1_000_000, largest: self.largest(tip)? })
    }

    fn bundle(&self, file: &Path, extent: Extent, tip: &str, dirty: bool) -> Result<u64, BundleError> {
        let path = file.display().to_string();
        let mut args = vec!["bundle", "create", "--quiet", &path];
        match extent {
            Extent::All => args.push("--all"),
            Extent::Branch => args.push(UPLOAD_HEAD_REF),
            Extent::Snapshot | Extent::Shallow | Extent::Partial => {
                // Without history there is nothing to tell apart.
                let tree = format!("{tip}^{{tree}}");
                let snapshot = self.git(&["commit-tree", &tree, "-m", &format!("Snapshot of {tip}")])?;
                self.name(&snapshot, dirty.then_some(&snapshot))?;
                args.push(UPLOAD_HEAD_REF);
            }
        }
        if dirty && extent != Extent::All {
            args.push(UPLOAD_WIP_REF);
        }
        self.git(&args)?;
        Ok(std::fs::metadata(file).map(|meta| meta.len()).unwrap_or(u64::MAX))
    }

    /// The three largest files of a commit, for the person who has to make it smaller.
    fn largest(&self, tip: &str) -> Result<String, BundleError> {
        let listed = self.git(&["ls-tree", "-r", "-l", "--full-tree", tip])?;
        let mut files: Vec<(u64, &str)> = listed
            .lines()
            .filter_map(|line| {
                let (facts, path) = line.split_once('\t')?;
                Some((facts.split_ascii_whitespace().nth(3)?.parse().ok()?, path))
            })
            .collect();
        files.sort_unstable_by(|one, two| two.cmp(one));
        let shown = files.iter().take(3).map(|(size, path)| format!("{path} ({} MB)", size / 1_000_000));
        Ok(shown.collect::<Vec<_>>().join(", "))
    }

    fn git(&self, args: &[&str]) -> Result<String, BundleError> {
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(&self.dir).args(args);
        run(&mut command, args, None)
    }
}

/// Copies an index with its time: git compares that with the files' times to know which of them
/// could have changed in the same moment unseen.
fn copy_with_time(from: &Path, to: &Path) -> std::io::Result<()> {
    let modified = std::fs::metadata(from)?.modified()?;
    std::fs::copy(from, to)?;
    std::fs::File::options().write(true).open(to)?.set_modified(modified)
}

fn run(command: &mut Command, args: &[&str], input: Option<&[u8]>) -> Result<String, BundleError> {
    let identity = [
        ("GIT_AUTHOR_NAME", "patchyard"),
        ("GIT_AUTHOR_EMAIL", "patchyard@localhost"),
        ("GIT_COMMITTER_NAME", "patchyard"),
        ("GIT_COMMITTER_EMAIL", "patchyard@localhost"),
    ];
    let mut child = command
        .envs(identity)
        .env("LC_ALL", "C.UTF-8")
        .env_remove("GIT_DIR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(BundleError::Start)?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // A git that ended early says why itself.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output().map_err(BundleError::Start)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let line = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it gave no reason");
    let action = args.first().copied().unwrap_or_default().to_owned();
    Err(BundleError::Git { action, words: line.trim_start_matches("fatal: ").to_owned() })
}

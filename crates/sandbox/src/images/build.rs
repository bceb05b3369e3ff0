//! Building an image from a recipe.
//!
//! ```text
//!   recipe's digest ── the name has it already ─▶ nothing to do
//!        │
//!        ▼
//!   base: mmdebstrap │ from: a copy ─▶ files ─▶ steps ─▶ emptied of what runs leave ─▶ publish
//!                                               └ optional and failed ─▶ /usr/share/patchyard/left-out
//! ```

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fchmod};

use super::apply::open_tree;
use super::digest::Digest;
use super::error::{About, ImageError};
use super::import::{check_system, copy};
use super::name::check_name;
use super::paths::{Root, target};
use super::place::{Found, Stage};
use super::recipe::{Base, Recipe, RecipeFile, Release, Step, octal};
use super::record::ImageConfig;
use super::steps;
use super::store::{Images, Origin, check_root};
use super::walk;

/// The script that makes a Debian tree; `scripts/build-slim` calls it as well.
pub(super) const DEBIAN_TREE: &str = include_str!("../../../../images/debian-tree");

/// Where an image lists what could not be had when it was built.
const LEFT_OUT: &str = "usr/share/patchyard/left-out";

/// What running programs leave behind.
const EMPTIED: &[&str] =
    &["dev", "run", "tmp", "var/tmp", "var/cache/apt", "var/lib/apt/lists", "root/.cache"];

/// What a build came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Of the image's content.
    pub digest: Digest,
    /// It was there already, made by this recipe.
    pub is_cached: bool,
    /// What could not be had, a line each.
    pub left_out: Vec<String>,
}

impl Images {
    /// Builds the image of a recipe's folder, unless the name stands for just that already; what the
    /// programs say goes to `output`. A name that is there already goes over to the new image.
    pub fn build(
        &self,
        name: &str,
        folder: &Path,
        force: bool,
        output: &mut (dyn Write + Send),
    ) -> Result<Built, ImageError> {
        check_root()?;
        check_name(name)?;
        let folder = fs::canonicalize(folder).about(folder)?;
        let recipe = Recipe::read(&folder)?;
        let wrong = |why| ImageError::Recipe { path: folder.join("image.toml"), why };
        let base = recipe.base(&Release::here()).map_err(wrong)?;
        let base_id = recipe.from.as_ref().map(|from| self.id(from)).transpose()?;
        let digest = Recipe::digest(&folder, &base, base_id)?;
        if let (false, Some(Found::Stored(reference))) = (force, self.data.find(name))
            && reference.recipe == Some(digest)
        {
            let left_out = left_out(&self.data.of_tree(&reference.digest).join("rootfs"))?;
            return Ok(Built { digest: reference.digest, is_cached: true, left_out });
        }
        let stage = self.data.stage()?;
        let mut config = self.begin(&recipe, &base, &folder, &stage, output)?;
        config.environment.extend(recipe.environment.clone());
        config.working_dir = recipe.working_dir.clone().or(config.working_dir);
        let rootfs = stage.rootfs();
        for file in &recipe.files {
            put(&rootfs, &folder, file)?;
        }
        for step in &recipe.steps {
            run(&rootfs, &folder, step, &config, output)?;
        }
        if !steps::is_clear(&rootfs).about(&rootfs)? {
            return Err(ImageError::bad(&rootfs, "something is still mounted in it; unmount it"));
        }
        for folder in EMPTIED {
            steps::empty(&rootfs, folder, true).about(&rootfs.join(folder))?;
        }
        // Services have folders there that they do not make themselves.
        steps::empty(&rootfs, "var/log", false).about(&rootfs.join("var/log"))?;
        check_system(&rootfs, &folder)?;
        let left_out = left_out(&rootfs)?;
        let source = format!("recipe {}", folder.display());
        let origin = Origin { source, manifest: None, recipe: Some(digest), config };
        let digest = self.publish(name, stage, origin, true)?;
        Ok(Built { digest, is_cached: false, left_out })
    }

    /// Fills the tree with what the recipe begins with; the configuration that comes with it.
    fn begin(
        &self,
        recipe: &Recipe,
        base: &Base,
        folder: &Path,
        stage: &Stage,
        output: &mut (dyn Write + Send),
    ) -> Result<ImageConfig, ImageError> {
        match base {
            Base::Image(name) => {
                let tree = self.open_for(name, stage.path())?;
                // Read by another program, for which `self` is somebody else.
                let path = format!("/proc/{}/fd/{}", std::process::id(), tree.as_raw_fd());
                copy(Path::new(&path), &stage.rootfs())?;
                self.config(name)
            }
            Base::Suite { suite, is_host } => {
                let sources: Vec<_> = recipe.sources.iter().map(|path| folder.join(path)).collect();
                if sources.is_empty() != *is_host && sources.is_empty() {
                    return Err(ImageError::bad(folder, format!("there are no package sources of {suite}")));
                }
                let mut command = Command::new("/bin/sh");
                command.args(["-c", DEBIAN_TREE, "debian-tree", suite]).arg(stage.rootfs());
                command.arg(recipe.packages.join(",")).args(sources);
                packages(command, output)?;
                Ok(ImageConfig::default())
            }
        }
    }
}

/// Runs the maker of a Debian tree.
fn packages(mut command: Command, output: &mut (dyn Write + Send)) -> Result<(), ImageError> {
    let shell = Path::new("/bin/sh");
    let (mut reader, writer) = io::pipe().about(shell)?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().about(shell)?).stderr(writer);
    let mut child = command.spawn().about(shell)?;
    // Our ends of the pipe, which would keep it open.
    drop(command);
    let mut said = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match io::Read::read(&mut reader, &mut buffer).about(shell)? {
            0 => break,
            read => {
                let _ = output.write_all(&buffer[..read]);
                said.extend_from_slice(&buffer[..read]);
                said.drain(..said.len().saturating_sub(4096));
            }
        }
    }
    let status = child.wait().about(shell)?;
    if status.success() {
        return Ok(());
    }
    let words = last_line(&String::from_utf8_lossy(&said));
    Err(ImageError::Step { step: "packages".into(), outcome: status.to_string(), words })
}

fn run(
    rootfs: &Path,
    folder: &Path,
    step: &Step,
    config: &ImageConfig,
    output: &mut (dyn Write + Send),
) -> Result<(), ImageError> {
    let name = step.run.display().to_string();
    let _ = writeln!(output, "== {name}");
    let mut variables = config.environment.clone();
    variables.insert("LEFT_OUT".into(), format!("/{LEFT_OUT}"));
    note(rootfs, "").about(rootfs)?;
    let ended = steps::run(rootfs, folder, &step.run, &variables, output).about(&step.run)?;
    if ended.status.success() {
        return Ok(());
    }
    let words = last_line(&ended.tail);
    if step.optional {
        let what = step.gives.as_deref().unwrap_or(&name);
        return note(rootfs, &format!("{what}: {words}\n")).about(rootfs);
    }
    Err(ImageError::Step { step: name, outcome: ended.status.to_string(), words })
}

fn last_line(text: &str) -> String {
    let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it gave no reason");
    line.trim().chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Opens a file of the tree for writing, at its end; folders on the way are made.
fn open_in(rootfs: &Path, path: &[u8], more: OFlag) -> io::Result<File> {
    let target = target(path).map_err(io::Error::other)?;
    let target = target.ok_or_else(|| io::Error::other("this is the top itself"))?;
    let mut root = Root::made(open_tree(rootfs)?);
    let folder = root.open_or_make(&target.folder)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | more;
    Ok(File::from(openat(&folder.fd, target.name.as_c_str(), flags, Mode::from_bits_truncate(0o644))?))
}

/// Adds to the list of what was left out.
fn note(rootfs: &Path, line: &str) -> io::Result<()> {
    open_in(rootfs, LEFT_OUT.as_bytes(), OFlag::O_APPEND)?.write_all(line.as_bytes())
}

fn left_out(rootfs: &Path) -> Result<Vec<String>, ImageError> {
    let path = rootfs.join(LEFT_OUT);
    let list = match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_file() && metadata.len() < 1024 * 1024 => fs::read(&path).about(&path)?,
        _ => return Ok(Vec::new()),
    };
    Ok(String::from_utf8_lossy(&list).lines().map(str::to_owned).filter(|line| !line.is_empty()).collect())
}

/// Copies a file of the recipe, or a folder, into the tree.
fn put(rootfs: &Path, folder: &Path, file: &RecipeFile) -> Result<(), ImageError> {
    let source = folder.join(&file.source);
    let mode = file.mode.as_deref().and_then(octal);
    put_one(rootfs, &source, file.target.as_bytes(), mode).about(&source)
}

fn put_one(rootfs: &Path, source: &Path, path: &[u8], mode: Option<u32>) -> io::Result<()> {
    let metadata = fs::metadata(source)?;
    if metadata.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(source)?.collect::<io::Result<_>>()?;
        entries.sort_unstable_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = [path, b"/", entry.file_name().as_bytes()].concat();
            put_one(rootfs, &entry.path(), &path, mode)?;
        }
        return Ok(());
    }
    // What is there goes first: it may be a link.
    if let Some(target) = target(path).map_err(io::Error::other)?
        && let Ok(folder) = Root::made(open_tree(rootfs)?).open(&target.folder)
    {
        let name = CString::new(target.name.as_bytes())?;
        let fd = std::os::fd::AsFd::as_fd(&folder.fd);
        if walk::look(fd, &name).is_ok_and(|stat| walk::kind(&stat) != SFlag::S_IFDIR) {
            walk::remove(fd, &name)?;
        }
    }
    let mut out = open_in(rootfs, path, OFlag::O_EXCL)?;
    io::copy(&mut File::open(source)?, &mut out)?;
    let executable = metadata.permissions().mode() & 0o111 != 0;
    let mode = mode.unwrap_or(if executable { 0o755 } else { 0o644 });
    Ok(fchmod(&out, Mode::from_bits_truncate(mode))?)
}

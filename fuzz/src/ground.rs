//! A folder for one input, with something beside the place that the input may write to.
//!
//! ```text
//!   <temporary>/…/outside/canary     never to be touched
//!                 └ inside: whatever the target makes
//! ```

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The folder; gone when it is dropped, over a finding too.
pub struct Ground(PathBuf);

impl Ground {
    /// One of a name; a target has one at a time.
    pub fn of(target: &str) -> std::io::Result<Self> {
        let name = format!("patchyard-fuzz-{target}-{}", std::process::id());
        let ground = Self(std::env::temp_dir().join(name));
        let _ = fs::remove_dir_all(&ground.0);
        fs::create_dir_all(ground.path("outside"))?;
        fs::write(ground.path("outside/canary"), "alive")?;
        Ok(ground)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Panics if anything reached what is outside; `inside` are the names that may be beside it.
    pub fn check(&self, inside: &[&str]) {
        assert_eq!(names(&self.path("outside")), ["canary"], "something was written outside");
        let canary = self.path("outside/canary");
        assert_eq!(fs::read(&canary).ok().as_deref(), Some(&b"alive"[..]), "the canary was written");
        let stat = fs::symlink_metadata(&canary);
        let state = stat.map(|stat| (stat.is_file(), stat.nlink(), stat.mode() & 0o7022, stat.uid()));
        // What this process made belongs to it.
        let own = fs::metadata(&self.0).map_or(0, |stat| stat.uid());
        assert_eq!(state.ok(), Some((true, 1, 0, own)), "the canary was changed");
        let found = names(&self.0);
        assert!(found.iter().all(|name| name == "outside" || inside.contains(&name.as_str())), "{found:?}");
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a folder holds, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

//! The account behind an ordinary user, and where it keeps things.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;

use nix::unistd::{Gid, Uid, User as Account};

use super::missing::Missing;

/// Who runs this.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) name: String,
    home: PathBuf,
}

impl Caller {
    pub(super) fn find() -> Result<Self, Missing> {
        let uid = Uid::effective();
        let account = Account::from_uid(uid).ok().flatten().ok_or(Missing::Account(uid.as_raw()))?;
        Ok(Self { uid, gid: Gid::effective(), name: account.name, home: account.dir })
    }

    /// The folder of what all `sandbox-host`s of this user share. Not what a session of the user's has and
    /// loses with its end: sandboxes outlive that.
    pub(super) fn state(&self) -> Result<PathBuf, Missing> {
        let path = self.home.join(".local/state/patchyard");
        let failed = |source| Missing::State { path: path.display().to_string(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed)?;
        let about = std::fs::metadata(&path).map_err(failed)?;
        if about.uid() != self.uid.as_raw() {
            return Err(failed(std::io::Error::other("it belongs to somebody else")));
        }
        Ok(path)
    }
}

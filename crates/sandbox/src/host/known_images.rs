//! The images, with what is known of their content.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use protocol::sandbox_host::ImageInfo;

use super::config::{Refusal, Trying};
use crate::images::Images;

/// What tells one state of a tree from another: device, inode, last change.
type Stamp = (u64, u64, i64, i64);

/// Images whose content is looked at once.
#[derive(Debug)]
pub(crate) struct KnownImages {
    pub(super) all: Images,
    /// What each image is, as of its tree's last change.
    ids: Mutex<HashMap<String, (Stamp, String)>>,
}

impl KnownImages {
    /// Nothing is known yet.
    pub(crate) fn of(all: Images) -> Self {
        Self { all, ids: Mutex::default() }
    }

    /// The images that can be used.
    pub(crate) fn infos(&self) -> Vec<ImageInfo> {
        let names = self.all.list().into_iter();
        names.filter_map(|name| Some(ImageInfo { id: self.id(&name).ok()?, name })).collect()
    }

    /// A word for the content of an image. For one that was made by hand every file is looked at, once.
    pub(super) fn id(&self, name: &str) -> Result<String, Refusal> {
        let tree = self.all.open(name)?;
        let stat = nix::sys::stat::fstat(&tree).map_err(std::io::Error::from);
        let stat = stat.trying(|| format!("look at the image {name}"))?;
        let stamp = (stat.st_dev, stat.st_ino, stat.st_ctime, stat.st_ctime_nsec);
        let known = self.ids.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some((_, id)) = known.filter(|(seen, _)| *seen == stamp) {
            return Ok(id);
        }
        let id = self.all.id(name)?.to_string();
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.insert(name.to_owned(), (stamp, id.clone()));
        Ok(id)
    }
}

//! Logins for registries, kept sealed.
//!
//! ```text
//!   <images>/.registries/key      32 random bytes, root only
//!   <images>/.registries/logins   AES-256-GCM-SIV: { registry: { user, password } }
//! ```
//!
//! The store's sealing belongs to the server's process; images are root's, and the server's account may
//! not read these. The seal keeps a copy of the one file, in a backup or a diff, from being a password; who
//! is root here has both files.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

use super::error::RegistryError;

const KEY_LEN: usize = 32;

/// What is sealed, so that no other sealed text opens here.
const CONTEXT: &str = "patchyard registry logins";

/// Who one is at a registry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// The logins of one folder of images.
pub(crate) struct Credentials {
    folder: PathBuf,
}

impl Credentials {
    pub(crate) fn of(data_dir: &Path) -> Self {
        Self { folder: data_dir.join("images/.registries") }
    }

    /// The login for a registry, if one is kept.
    pub(crate) fn get(&self, registry: &str) -> Result<Option<Login>, RegistryError> {
        Ok(self.read()?.remove(registry))
    }

    /// Keeps a login, in place of an earlier one.
    pub(crate) fn set(&self, registry: &str, login: Login) -> Result<(), RegistryError> {
        let mut all = self.read()?;
        all.insert(registry.to_owned(), login);
        self.write(&all)
    }

    /// Forgets a login; whether there was one.
    pub(crate) fn remove(&self, registry: &str) -> Result<bool, RegistryError> {
        let mut all = self.read()?;
        let removed = all.remove(registry).is_some();
        if removed {
            self.write(&all)?;
        }
        Ok(removed)
    }

    fn logins(&self) -> PathBuf {
        self.folder.join("logins")
    }

    fn sealed(&self, why: &'static str) -> RegistryError {
        RegistryError::Sealed { path: self.logins(), why }
    }

    fn read(&self) -> Result<BTreeMap<String, Login>, RegistryError> {
        let path = self.logins();
        let sealed = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            sealed => sealed.map_err(|source| RegistryError::Io { path, source })?,
        };
        let unopened = || self.sealed("it was sealed with another key, or changed");
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or_else(unopened)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| unopened())?;
        let mut text = text.to_vec();
        let plain =
            self.key()?.open_in_place(nonce, Aad::from(CONTEXT), &mut text).map_err(|_| unopened())?;
        serde_json::from_slice(plain).map_err(|_| self.sealed("it holds something else"))
    }

    fn write(&self, logins: &BTreeMap<String, Login>) -> Result<(), RegistryError> {
        let broken = || self.sealed("the system has no random numbers");
        let mut text = serde_json::to_vec(logins).map_err(|_| broken())?;
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| broken())?;
        self.key()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(CONTEXT), &mut text)
            .map_err(|_| broken())?;
        self.put(&self.logins(), &[&nonce[..], &text].concat())
    }

    /// The key, made when there is none.
    fn key(&self) -> Result<LessSafeKey, RegistryError> {
        let path = self.folder.join("key");
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut bytes = [0; KEY_LEN];
                aws_lc_rs::rand::fill(&mut bytes)
                    .map_err(|_| self.sealed("the system has no random numbers"))?;
                self.put(&path, &bytes)?;
                bytes.to_vec()
            }
            bytes => bytes.map_err(|source| RegistryError::Io { path, source })?,
        };
        let key = UnboundKey::new(&AES_256_GCM_SIV, &bytes);
        Ok(LessSafeKey::new(key.map_err(|_| self.sealed("the key beside it is none"))?))
    }

    /// Writes a file whole, for its owner only.
    fn put(&self, path: &Path, bytes: &[u8]) -> Result<(), RegistryError> {
        let failed = |source| RegistryError::Io { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(failed)?;
        let fresh = path.with_extension(format!("new-{}", std::process::id()));
        let _ = fs::remove_file(&fresh);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).map_err(failed)?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&fresh, path))
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn logins_are_kept_sealed_for_their_owner_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let credentials = Credentials::of(folder.path());
        assert!(credentials.get("r.test").unwrap().is_none());
        let login = |password: &str| Login { user: "ann".into(), password: password.into() };
        credentials.set("r.test", login("open sesame")).unwrap();
        credentials.set("other.test", login("else")).unwrap();
        credentials.set("r.test", login("open barley")).unwrap();
        assert_eq!(credentials.get("r.test").unwrap().unwrap().password, "open barley");
        for file in ["key", "logins"] {
            let path = credentials.folder.join(file);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
            assert!(!text.contains("open") && !text.contains("ann"));
        }
        assert!(credentials.remove("r.test").unwrap());
        assert!(!credentials.remove("r.test").unwrap());
        fs::write(credentials.folder.join("key"), [7; 32]).unwrap();
        let error = credentials.get("other.test").err().unwrap().to_string();
        assert!(error.contains("another key"), "{error}");
    }
}

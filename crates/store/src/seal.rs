//! Sealing: one data key per session, itself sealed with the master key of the data directory.
//!
//! ```text
//!  master.key (file, owner only) ──seals──▶ data key (row of the session) ──seals──▶ bodies, view, blobs
//! ```
//!
//! AES-256-GCM-SIV with a random nonce: a repeated nonce would not give the key away. What a text
//! belongs to (session and purpose) is authenticated with it, so that a sealed text moved to
//! another place does not open there. Destroying the data key destroys the content.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::error::StoreError;

const KEY_LEN: usize = 32;

/// A key that seals and opens.
pub(crate) struct SealKey {
    key: LessSafeKey,
    /// Only ever set for a test that looks for what sealing hides.
    #[cfg(feature = "unsealed")]
    off: bool,
}

/// Fills an array from the system's random source.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| StoreError::NotCommitted("the system has no random numbers".into()))?;
    Ok(bytes)
}

impl SealKey {
    /// A key from its bytes.
    pub(crate) fn new(bytes: &[u8]) -> Result<Self, StoreError> {
        let key = UnboundKey::new(&AES_256_GCM_SIV, bytes).map_err(|_| StoreError::Unsealable("a key"))?;
        Ok(Self {
            key: LessSafeKey::new(key),
            #[cfg(feature = "unsealed")]
            off: false,
        })
    }

    /// One that leaves everything as it is.
    #[cfg(feature = "unsealed")]
    pub(crate) fn off(self) -> Self {
        Self { off: true, ..self }
    }

    /// A new data key, and its bytes sealed with this one.
    pub(crate) fn new_data_key(&self, context: &str) -> Result<(Self, Vec<u8>), StoreError> {
        let bytes = random::<KEY_LEN>()?;
        Ok((self.like(Self::new(&bytes)?), self.seal(context, &bytes)?))
    }

    /// The data key that [`Self::new_data_key`] sealed.
    pub(crate) fn open_data_key(&self, context: &str, sealed: &[u8]) -> Result<Self, StoreError> {
        Ok(self.like(Self::new(&self.open(context, sealed, "a session's key")?)?))
    }

    #[cfg(feature = "unsealed")]
    fn like(&self, key: Self) -> Self {
        if self.off { key.off() } else { key }
    }

    #[cfg(not(feature = "unsealed"))]
    #[allow(clippy::unused_self, reason = "the other one uses it")]
    fn like(&self, key: Self) -> Self {
        key
    }

    /// Nonce, then ciphertext and tag.
    pub(crate) fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        #[cfg(feature = "unsealed")]
        if self.off {
            return Ok(plain.to_vec());
        }
        let nonce = random::<NONCE_LEN>()?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + AES_256_GCM_SIV.tag_len());
        sealed.extend_from_slice(plain);
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut sealed)
            .map_err(|_| StoreError::Unsealable("a text to seal"))?;
        sealed.splice(0..0, nonce);
        Ok(sealed)
    }

    /// What was sealed in the same context; `what` names it in the error.
    pub(crate) fn open(
        &self,
        context: &str,
        sealed: &[u8],
        what: &'static str,
    ) -> Result<Vec<u8>, StoreError> {
        #[cfg(feature = "unsealed")]
        if self.off {
            return Ok(sealed.to_vec());
        }
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(StoreError::Unsealable(what))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| StoreError::Unsealable(what))?;
        let mut text = text.to_vec();
        let length = self
            .key
            .open_in_place(nonce, Aad::from(context), &mut text)
            .map_err(|_| StoreError::Unsealable(what))?
            .len();
        text.truncate(length);
        Ok(text)
    }
}

/// The master key of a data directory, made when there is none.
pub(crate) fn master_key(path: &Path) -> Result<SealKey, StoreError> {
    match fs::read(path) {
        Ok(bytes) => SealKey::new(&bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let bytes = random::<KEY_LEN>()?;
            // Whole or not at all: a key that is half on disk would lock everything away.
            let fresh = path.with_extension("key.new");
            let _ = fs::remove_file(&fresh);
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&fresh)
                .map_err(|source| StoreError::io("create", &fresh, source))?;
            file.write_all(&bytes)
                .and_then(|()| file.sync_all())
                .and_then(|()| fs::rename(&fresh, path))
                .map_err(|source| StoreError::io("write", path, source))?;
            SealKey::new(&bytes)
        }
        Err(source) => Err(StoreError::io("read", path, source)),
    }
}

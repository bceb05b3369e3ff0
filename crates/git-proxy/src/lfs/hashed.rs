//! An object on its way, hashed while it passes.
//!
//! ```text
//!   pieces ─▶ hash, length ─▶ pieces, the last one held back until the whole is what it is called
//! ```

use axum::body::Bytes;
use sha2::{Digest as _, Sha256};

use super::pointer::{Oid, Pointer};

/// It is not what it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mismatch {
    #[error("the object is longer or shorter than its pointer says")]
    Length,
    #[error("the object is not what its name says: its SHA-256 is another one")]
    Hash,
}

/// Takes an object in, piece by piece.
pub(crate) struct Hashed {
    wanted: Pointer,
    hash: Sha256,
    length: u64,
    held: Option<Bytes>,
}

impl Hashed {
    pub(crate) fn new(wanted: Pointer) -> Self {
        Self { wanted, hash: Sha256::new(), length: 0, held: None }
    }

    /// Takes the next piece; gives the one before.
    pub(crate) fn push(&mut self, piece: Bytes) -> Result<Option<Bytes>, Mismatch> {
        self.length = self.length.saturating_add(piece.len() as u64);
        if self.length > self.wanted.size {
            return Err(Mismatch::Length);
        }
        self.hash.update(&piece);
        if piece.is_empty() {
            return Ok(None);
        }
        Ok(self.held.replace(piece))
    }

    /// At the end: the last piece, where the whole is right.
    pub(crate) fn end(&mut self) -> Result<Option<Bytes>, Mismatch> {
        if self.length != self.wanted.size {
            return Err(Mismatch::Length);
        }
        let digest = std::mem::take(&mut self.hash).finalize();
        if Oid::of_digest(digest.into()) != self.wanted.oid {
            return Err(Mismatch::Hash);
        }
        Ok(self.held.take())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passed(wanted: Pointer, content: &[u8], size: usize) -> (Vec<u8>, Result<(), Mismatch>) {
        let (mut hashed, mut out) = (Hashed::new(wanted), Vec::new());
        for piece in content.chunks(size) {
            match hashed.push(Bytes::copy_from_slice(piece)) {
                Ok(piece) => out.extend(piece.unwrap_or_default()),
                Err(error) => return (out, Err(error)),
            }
        }
        match hashed.end() {
            Ok(last) => {
                out.extend(last.unwrap_or_default());
                (out, Ok(()))
            }
            Err(error) => (out, Err(error)),
        }
    }

    proptest! {
        #[test]
        fn an_object_passes_whole_or_not_whole(content in proptest::collection::vec(any::<u8>(), 1..200), size in 1usize..50, at in any::<prop::sample::Index>()) {
            let wanted = Pointer { oid: Oid::of_digest(Sha256::digest(&content).into()), size: content.len() as u64 };
            prop_assert_eq!(passed(wanted, &content, size), (content.clone(), Ok(())));
            let mut other = content.clone();
            other[at.index(content.len())] ^= 1;
            for wrong in [other, content[..content.len() - 1].to_vec(), [content.as_slice(), b"x"].concat()] {
                let (out, ended) = passed(wanted, &wrong, size);
                prop_assert!(ended.is_err() && out.len() < content.len());
            }
        }
    }
}

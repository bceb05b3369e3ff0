//! Whole files through hands.

use protocol::hands::HandsError;
use sha2::{Digest, Sha256};

use super::bench::{ContentHash, Workbench};

/// The largest file that tools take whole.
pub(super) const MAX_FILE: u64 = 8 * 1024 * 1024;

const PIECE: u64 = 1024 * 1024;

/// Reads a whole file of at most 8 MiB.
pub(super) async fn load(bench: &Workbench, path: &str) -> Result<Vec<u8>, HandsError> {
    let mut bytes = Vec::new();
    loop {
        let chunk = bench.hands.read_file(path, bytes.len() as u64, PIECE).await?;
        if chunk.size > MAX_FILE {
            return Err(HandsError::Limit(format!(
                "{path} has {} bytes, more than the {MAX_FILE} that this tool takes; use Grep, or Bash with \
                 head, tail or sed",
                chunk.size
            )));
        }
        bytes.extend_from_slice(&chunk.bytes);
        // A file that grows while it is read ends at its cap, one that shrinks at its end.
        if chunk.bytes.is_empty() || bytes.len() as u64 >= chunk.size.min(MAX_FILE) {
            return Ok(bytes);
        }
    }
}

pub(super) fn hash(bytes: &[u8]) -> ContentHash {
    Sha256::digest(bytes).into()
}

/// A whole text file, where there is one.
pub(crate) async fn read_whole(bench: &Workbench, path: &str) -> Option<String> {
    let bytes = load(bench, path).await.ok()?;
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

//! The body of a push as it comes in: counted, inflated where it is compressed, never held.
//!
//! ```text
//!   pieces of the client ─▶ (gzip: in steps of 256 bytes, of which no more than 256 KiB can come) ─▶ next
//! ```

use std::io::Write as _;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use flate2::write::GzDecoder;
use futures::StreamExt as _;
use tokio::time::timeout;

/// The longest push.
pub(crate) const MAX_PUSH: u64 = 2 * 1024 * 1024 * 1024;

/// How long a client may be silent.
const SILENCE: Duration = Duration::from_secs(120);

/// How much of a compressed body is inflated at a time.
const STEP: usize = 256;

/// A body that is being read.
pub(crate) struct PushBody {
    pieces: BodyDataStream,
    gzip: Option<GzDecoder<Vec<u8>>>,
    /// Compressed bytes that are not inflated yet.
    pending: Bytes,
    left: u64,
    over: bool,
}

/// Why a body cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body has a `content-encoding` that is not known here")]
    Encoding,
    #[error("the compressed body is broken")]
    Broken,
    #[error("the push is longer than 2 GiB, the most that is passed on from a session")]
    TooLong,
    #[error("the body broke off")]
    Gone,
}

impl PushBody {
    /// A body with this `Content-Encoding`.
    pub(crate) fn new(body: Body, encoding: Option<&[u8]>) -> (Self, Result<(), BodyError>) {
        let gzip = match encoding {
            None | Some(b"identity") => Ok(None),
            Some(b"gzip" | b"x-gzip") => Ok(Some(GzDecoder::new(Vec::new()))),
            Some(_) => Err(BodyError::Encoding),
        };
        let known = gzip.as_ref().map(drop).map_err(|error| *error);
        let gzip = gzip.unwrap_or_default();
        let pieces = body.into_data_stream();
        (Self { pieces, gzip, pending: Bytes::new(), left: MAX_PUSH, over: false }, known)
    }

    /// Whether what comes out is as long as what comes in.
    pub(crate) fn is_plain(&self) -> bool {
        self.gzip.is_none()
    }

    /// The next piece; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let piece = match &mut self.gzip {
                None => self.raw().await?,
                Some(_) => self.inflated().await?,
            };
            let Some(piece) = piece else { return Ok(None) };
            let length = piece.len() as u64;
            self.left = self.left.checked_sub(length).ok_or(BodyError::TooLong)?;
            if length > 0 {
                return Ok(Some(piece));
            }
        }
    }

    async fn inflated(&mut self) -> Result<Option<Bytes>, BodyError> {
        if self.pending.is_empty() {
            match self.raw().await? {
                Some(piece) => self.pending = piece,
                None => {
                    let Some(mut decoder) = self.gzip.take() else { return Ok(None) };
                    // Gone from here on, so that the next piece is the end.
                    decoder.try_finish().map_err(|_| BodyError::Broken)?;
                    return Ok(Some(std::mem::take(decoder.get_mut()).into()));
                }
            }
        }
        let step = self.pending.split_to(self.pending.len().min(STEP));
        let Some(decoder) = &mut self.gzip else { return Ok(None) };
        decoder.write_all(&step).map_err(|_| BodyError::Broken)?;
        Ok(Some(std::mem::take(decoder.get_mut()).into()))
    }

    async fn raw(&mut self) -> Result<Option<Bytes>, BodyError> {
        if self.over {
            return Ok(None);
        }
        match timeout(SILENCE, self.pieces.next()).await {
            Ok(Some(Ok(piece))) => Ok(Some(piece)),
            Ok(None) => {
                self.over = true;
                Ok(None)
            }
            Ok(Some(Err(_))) | Err(_) => {
                self.over = true;
                Err(BodyError::Gone)
            }
        }
    }

    /// Reads what still comes and forgets it: a client hears an answer only when it has sent all.
    pub(crate) async fn drain(&mut self) {
        let mut left = MAX_PUSH;
        while let Ok(Some(piece)) = self.raw().await {
            left = left.saturating_sub(piece.len() as u64);
            if left == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn squeezed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    async fn whole(bytes: Vec<u8>, encoding: &[u8]) -> (Result<u64, BodyError>, usize) {
        let (mut body, known) = PushBody::new(Body::from(bytes), Some(encoding));
        known.unwrap();
        let (mut sum, mut longest) = (0, 0);
        loop {
            match body.next().await {
                Ok(Some(piece)) => {
                    sum += piece.len() as u64;
                    longest = longest.max(piece.len());
                }
                Ok(None) => return (Ok(sum), longest),
                Err(error) => return (Err(error), longest),
            }
        }
    }

    #[tokio::test]
    async fn a_compressed_push_is_inflated_bit_by_bit_and_a_broken_one_refused() {
        let plain: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(whole(squeezed(&plain), b"gzip").await.0, Ok(400_000));
        assert_eq!(whole(plain.clone(), b"identity").await.0, Ok(400_000));
        let bomb = squeezed(&vec![0; 50_000_000]);
        let (sum, longest) = whole(bomb.clone(), b"gzip").await;
        assert_eq!(sum, Ok(50_000_000));
        assert!(longest < 512 * 1024, "{longest}");
        assert_eq!(whole(bomb[..bomb.len() / 2].to_vec(), b"gzip").await.0, Err(BodyError::Broken));
        assert_eq!(whole(plain, b"gzip").await.0, Err(BodyError::Broken));
        assert_eq!(PushBody::new(Body::empty(), Some(b"br")).1, Err(BodyError::Encoding));
    }

    #[tokio::test]
    async fn a_push_has_an_end() {
        let piece = Bytes::from(vec![0; 64 * 1024 * 1024]);
        let pieces = futures::stream::iter((0..33).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
        let (mut body, _) = PushBody::new(Body::from_stream(pieces), None);
        let mut count = 0;
        let error = loop {
            match body.next().await {
                Ok(piece) => count += piece.map_or(0, |piece| piece.len() as u64),
                Err(error) => break error,
            }
        };
        assert_eq!((error, count), (BodyError::TooLong, MAX_PUSH));
    }
}

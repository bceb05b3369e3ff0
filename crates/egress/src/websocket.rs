//! A WebSocket over a connection that is opened (RFC 6455).
//!
//! ```text
//!   GET, Upgrade: websocket ─▶ judged and on record as every request ─▶ host ─▶ 101
//!   then both connections belong to it:  sandbox ══ bytes ══▶ host
//!                                        sandbox ◀══ looked through for secrets ══ host
//! ```
//!
//! What the host sends is neither masked nor, since we take the extensions away, compressed: a secret that
//! it tells back in one piece is found. What the sandbox sends is masked, and is not looked into.

use std::sync::Mutex;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use protocol::network::DenyReason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use crate::secrets::Look;

/// What is read at a time.
const BUFFER: usize = 16 * 1024;

/// Ways to change what is in the frames, compression among them.
const EXTENSIONS: HeaderName = header::SEC_WEBSOCKET_EXTENSIONS;

/// Whether a request or an answer is about a WebSocket.
pub(crate) fn is_meant(headers: &HeaderMap) -> bool {
    let mut wishes = headers.get_all(header::UPGRADE).iter();
    wishes.any(|value| value.as_bytes().to_ascii_lowercase().starts_with(b"websocket"))
}

/// Says in a head, from which all was taken that is between two neighbours, that it goes on as one.
pub(crate) fn say(headers: &mut HeaderMap) {
    headers.remove(EXTENSIONS);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// One that both sides agreed on, and that begins when they were told so.
pub(crate) struct WebSocket {
    pub(crate) inside: OnUpgrade,
    pub(crate) outside: OnUpgrade,
    pub(crate) look: Look,
}

/// Where the WebSocket of a connection is put until the last answer is written.
#[derive(Default)]
pub(crate) struct Agreed(Mutex<Option<WebSocket>>);

impl Agreed {
    pub(crate) fn put(&self, socket: WebSocket) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(socket);
    }

    pub(crate) fn take(&self) -> Option<WebSocket> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}

impl WebSocket {
    /// Relays until both are done; the reason where it was cut off.
    pub(crate) async fn relay(self) -> Option<DenyReason> {
        let (inside, outside) = tokio::try_join!(self.inside, self.outside).ok()?;
        let (from_inside, to_inside) = tokio::io::split(TokioIo::new(inside));
        let (from_outside, to_outside) = tokio::io::split(TokioIo::new(outside));
        let mut look = self.look;
        let up = one(from_inside, to_outside, |_| false);
        let down = one(from_outside, to_inside, |part| look.finds(part));
        tokio::try_join!(up, down).err().flatten()
    }
}

type Side = TokioIo<Upgraded>;

/// One direction; an error without a reason where the connection broke.
async fn one(
    mut from: ReadHalf<Side>,
    mut to: WriteHalf<Side>,
    mut finds: impl FnMut(&[u8]) -> bool,
) -> Result<(), Option<DenyReason>> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = from.read(&mut buffer).await.map_err(|_| None)?;
        if length == 0 {
            return to.shutdown().await.map_err(|_| None);
        }
        if finds(&buffer[..length]) {
            return Err(Some(DenyReason::Dlp));
        }
        to.write_all(&buffer[..length]).await.map_err(|_| None)?;
        to.flush().await.map_err(|_| None)?;
    }
}

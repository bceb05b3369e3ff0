//! The listeners of the command's network, on their way from the stage to the proxy.
//!
//! ```text
//!   stage, in the network ── one line: which doors · why not all ── descriptors ──▶ proxy, outside of it
//! ```

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use protocol::egress::Door;
use serde::{Deserialize, Serialize};

use crate::network::{self, Doors};
use crate::sockets::{receive_descriptors, send_descriptors};

/// The longest line, in bytes.
const MAX_LINE: usize = 4096;

#[derive(Debug, Serialize, Deserialize)]
struct Offer {
    doors: Vec<Door>,
    why_not_captured: Option<String>,
}

/// Opens the listeners in the network of the caller and hands them over.
pub(crate) fn offer(proxy: &UnixStream) -> io::Result<()> {
    let (open, why_not) = network::open_here()?;
    let (doors, sockets): (Vec<Door>, Vec<OwnedFd>) = open.into_iter().unzip();
    let offer = Offer { doors, why_not_captured: why_not.map(|error| error.to_string()) };
    let mut line = serde_json::to_vec(&offer)?;
    line.push(b'\n');
    (&*proxy).write_all(&line)?;
    send_descriptors(proxy.as_fd(), &sockets)
}

/// Waits for the listeners; nothing when the stage ended without any. With them: why programs that know of
/// no proxy are not captured.
pub(crate) fn take(stage: &UnixStream) -> io::Result<Option<(Doors, Option<String>)>> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    // Byte by byte: the descriptors come with the byte behind it.
    while line.len() < MAX_LINE && (&*stage).read(&mut byte)? == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    if line.is_empty() {
        return Ok(None);
    }
    let offer: Offer = serde_json::from_slice(&line)?;
    let sockets = receive_descriptors(stage.as_fd())?;
    if sockets.len() != offer.doors.len() {
        return Err(io::Error::other("not as many listeners came as were told of"));
    }
    Ok(Some((offer.doors.into_iter().zip(sockets).collect(), offer.why_not_captured)))
}

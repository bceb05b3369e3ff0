//! What host and guest say to each other.
//!
//! ```text
//!  frame:  u32 little-endian length │ postcard        length ≤ 1 MiB
//!
//!  host  ── Hello{version, capabilities} ──▶ guest
//!  host  ◀─ Hello{version, capabilities} ─── guest     nothing else before both
//!  host  ── Request{id, …} ────────────────▶ guest
//!  host  ◀─ Reply{id, …} ─────────────────── guest     exactly one per request
//!  host  ◀─ Output{exec, …} · Exited{exec} ─ guest     for started commands
//!  host  ── Credit{exec, bytes} ───────────▶ guest     so much more output may come
//!  host  ◀─ StdinTaken{exec, bytes} ──────── guest     so much more input may come
//! ```
//!
//! Everything that the guest says is hostile: the host caps, checks and attributes it by the
//! connection, never by its content. A command's output stops at its credit; the command then waits
//! in its own pipe, and nothing on the host grows.
//!
//! A command that is [kept](ExecSpec::kept) outlives the connection: the guest journals what it says,
//! and gives all of it again, from the first byte on, to a host that attaches.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::hands::{DirEntry, ExecEnd, ExecSignal, ExecSpec, FileChunk, FileStat, HandsError, TerminalSize};
use crate::ids::ExecId;

/// The generation of this wire. A host speaks to guests of its own and of some older generations.
pub const WIRE_VERSION: u16 = 3;

/// The oldest generation of a guest that a host still speaks to.
pub const OLDEST_WIRE_VERSION: u16 = 3;

/// The longest frame, without its length.
pub const MAX_FRAME: usize = 1024 * 1024;

/// The most file or output bytes that one frame carries, so that the rest of the frame fits too.
pub const MAX_CHUNK: usize = 256 * 1024;

/// Output that a command may send before the first [`ToGuest::Credit`].
pub const INITIAL_CREDIT: u64 = 512 * 1024;

/// Standard input that a host may send to a command before the first [`FromGuest::StdinTaken`].
pub const STDIN_CREDIT: u64 = 256 * 1024;

/// The most output of one kept command that the guest journals. A longer one waits for its host from
/// there on, and what passed through meanwhile is missing when it is given again.
pub const JOURNAL_BYTES: u64 = 16 * 1024 * 1024;

/// How long either side waits for the other's hello.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// The first message of both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The newest generation that the speaker knows.
    pub version: u16,
    /// Names of optional abilities; unknown ones are ignored.
    pub capabilities: Vec<String>,
}

/// Host to guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToGuest {
    /// First of all.
    Hello(Hello),
    /// Asks for one reply.
    Request { id: u64, request: Request },
    /// Allows so many more bytes of output.
    Credit { exec: ExecId, bytes: u64 },
    /// Bytes for a command's standard input; empty closes it.
    Stdin {
        exec: ExecId,
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
}

/// What a host can ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Starts a command; answered by [`Reply::Done`] once it runs.
    Start(ExecSpec),
    /// Makes a command's terminal another size.
    Resize { exec: ExecId, size: TerminalSize },
    /// Signals a command.
    Signal { exec: ExecId, signal: ExecSignal },
    /// Kills every command and all that they left behind.
    KillAll,
    /// Gives what a kept command said and says, from the beginning; answered by [`Reply::Done`], or with
    /// `NotFound` where it was never started.
    Attach { exec: ExecId },
    /// What a kept command said is safe elsewhere: its journal goes once it has ended.
    Release { exec: ExecId },
    /// Kills the commands that are not kept, whose host is gone.
    KillUnkept,
    /// Reads a part of a file.
    ReadFile { path: String, offset: u64, limit: u64 },
    /// Writes a part of a file's new content; the last part puts it in place.
    WriteFile {
        path: String,
        offset: u64,
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
        last: bool,
    },
    /// Facts of a path.
    Stat { path: String },
    /// Entries of a folder.
    List { path: String },
}

/// Guest to host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromGuest {
    /// First of all.
    Hello(Hello),
    /// The one answer to a request.
    Reply { id: u64, reply: Result<Reply, HandsError> },
    /// Output of a command.
    Output {
        exec: ExecId,
        stderr: bool,
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// A command ended and all its output was sent.
    Exited { exec: ExecId, end: ExecEnd },
    /// So many more bytes of standard input may come: the command took them, or never will.
    StdinTaken { exec: ExecId, bytes: u64 },
}

/// What a request gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Nothing but that it is done.
    Done,
    /// A part of a file.
    Chunk(FileChunk),
    /// Facts.
    Stat(FileStat),
    /// Entries.
    Entries(Vec<DirEntry>),
}

/// Why bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is over the cap.
    #[error("a frame of {0} bytes is over the cap of {MAX_FRAME}")]
    TooLong(usize),
    /// The content is not a message of this generation.
    #[error("a frame that is no message of wire version {WIRE_VERSION}")]
    Malformed,
}

/// A message with its length in front.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = postcard::to_extend(message, vec![0; 4]).map_err(|_| FrameError::Malformed)?;
    let length = frame.len() - 4;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    let length = u32::try_from(length).map_err(|_| FrameError::TooLong(length))?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

/// The length of the content that follows these four bytes.
pub fn frame_length(header: [u8; 4]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(header) as usize;
    if length > MAX_FRAME { Err(FrameError::TooLong(length)) } else { Ok(length) }
}

/// The message of a frame's content; left-over bytes are an error.
pub fn decode<T: DeserializeOwned>(content: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(content) {
        Ok((message, [])) => Ok(message),
        Ok(_) | Err(_) => Err(FrameError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_reads_back_from_its_frame() {
        let message = ToGuest::Request { id: 7, request: Request::Stat { path: "/etc/hosts".into() } };
        let frame = encode(&message).unwrap();
        let length = frame_length(frame[..4].try_into().unwrap()).unwrap();
        assert_eq!(length, frame.len() - 4);
        assert_eq!(decode::<ToGuest>(&frame[4..]).unwrap(), message);
    }

    #[test]
    fn an_oversized_frame_is_refused_before_it_is_read() {
        assert_eq!(frame_length((u32::MAX).to_le_bytes()), Err(FrameError::TooLong(u32::MAX as usize)));
        let huge = ToGuest::Request {
            id: 1,
            request: Request::WriteFile {
                path: "/f".into(),
                offset: 0,
                bytes: vec![0; MAX_FRAME],
                last: true,
            },
        };
        assert!(matches!(encode(&huge), Err(FrameError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode::<FromGuest>(&bytes);
            let _ = decode::<ToGuest>(&bytes);
        }
    }
}

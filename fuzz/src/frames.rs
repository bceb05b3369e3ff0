//! Frames of the guest wire, as both ends take them in.
//!
//! ```text
//!   input:  4 bytes header │ content
//! ```

use protocol::guest::{FromGuest, MAX_FRAME, ToGuest, decode, encode, frame_length};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Takes one input; panics over a finding.
pub fn run(data: &[u8]) {
    let Some((header, content)) = data.split_first_chunk::<4>() else { return };
    if let Ok(length) = frame_length(*header) {
        assert!(length <= MAX_FRAME, "a header of {length} bytes was let through");
    }
    same_again::<FromGuest>(content);
    same_again::<ToGuest>(content);
}

/// What can be read can be written, and reads as the same.
fn same_again<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(content: &[u8]) {
    let Ok(message) = decode::<T>(content) else { return };
    let Ok(frame) = encode(&message) else { return };
    assert_eq!(decode::<T>(&frame[4..]).as_ref(), Ok(&message));
}

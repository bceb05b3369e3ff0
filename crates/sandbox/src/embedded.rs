//! The guest program, as it was built in.

/// The guest program; `None` when this build was made without it.
#[must_use]
pub fn guest_binary() -> Option<&'static [u8]> {
    const BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/patchyard-guest"));
    if BYTES.is_empty() { None } else { Some(BYTES) }
}

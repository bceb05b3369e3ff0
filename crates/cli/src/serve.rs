//! The processes of `serve`.

pub(crate) mod internal;
mod log;
pub(crate) mod supervisor;

//! The processes of `serve`.

pub(crate) mod internal;
pub(crate) mod supervisor;

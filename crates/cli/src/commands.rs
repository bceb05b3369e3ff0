//! One file per command.

pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod environments;
pub(crate) mod image;
pub(crate) mod login;
pub(crate) mod remote;
pub(crate) mod sessions;

//! One file per command.

mod checkpoints;
pub(crate) mod copy;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod environments;
pub(crate) mod image;
pub(crate) mod login;
mod network;
pub(crate) mod print;
mod prompts;
pub(crate) mod pull_requests;
pub(crate) mod remote;
pub(crate) mod sandbox;
mod secrets;
pub(crate) mod sessions;
pub(crate) mod shell;
pub(crate) mod web_setup;

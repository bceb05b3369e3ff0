//! Images from registries: the OCI distribution protocol, from the side that pulls.
//!
//! ```text
//!   reference ─▶ manifest (of this machine's platform) ─▶ configuration, layers ─▶ sandbox::images
//!                  │ 401 and a challenge                    │ three at a time, taken up where they broke
//!                  ▼                                        ▼
//!                access ─▶ token, with the kept login     blob, checked by its digest
//! ```

mod access;
mod blobs;
mod client;
mod credentials;
mod error;
mod pull;
mod reference;

pub(crate) use client::Registry;
pub(crate) use credentials::{Credentials, Login};
pub(crate) use error::RegistryError;
pub(crate) use pull::pull;
pub(crate) use reference::{Reference, registry_name};

//! Images: root file systems that sandboxes stand on.
//!
//! ```text
//!   <data>/images/                       looked at first; /var/lib/patchyard/images is the machine's
//!     <name>/reference.json ──names──▶ .trees/<digest>/rootfs      the tree, never written again
//!                                      .trees/<digest>/image.json  what it is: variables, origin, size
//!     <name>/rootfs                      a tree made by hand, or by `scripts/build-slim`
//!     .holders/<sandbox>                 who stands on which tree
//!     .pulls/<manifest>/                 an OCI layout on its way from a registry
//!     .new-*, .gone-*, .old.*            on their way in and out
//!
//!   import ┐                        ┌ apply each layer, digests checked ┐
//!   pull   ├▶ source: folder, tar, ─┤                                   ├▶ digest of the tree ─▶ publish
//!   build  ┘  OCI layout, docker    └ or copy, or mmdebstrap and steps  ┘   (rename, under the lock)
//! ```
//!
//! A tree keeps its ids from 0, and its setuid bits; that is why only root may enter the folder, and
//! why a sandbox mounts it with its ids shifted, `nodev` and `nosuid`. Its digest covers every name,
//! owner, mode, byte, link and attribute, and the variables that come with it, but no times: the same
//! image by another way is the same tree.

mod apply;
mod archive;
mod build;
mod collect;
mod decode;
mod digest;
mod entries;
mod error;
mod holders;
mod import;
mod name;
mod oci;
mod paths;
mod place;
mod pulls;
mod recipe;
mod record;
mod source;
mod steps;
mod store;
mod summary;
pub(crate) mod walk;

pub use apply::Caps;
pub use build::Built;

pub use digest::{Digest, Hashing};
pub use error::ImageError;
pub use import::Imported;
pub use oci::{Descriptor, Document, Index, MAX_DOCUMENT, Manifest, Platform};
pub use pulls::Pull;
pub use record::ImageConfig;
pub use store::{ImageInfo, Images, Removed};

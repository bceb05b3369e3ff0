//! Disks: where what a sandbox writes is kept, and where that ends.
//!
//! ```text
//!   btrfs with quotas on?    ─▶ a subvolume with a limit
//!   project quotas on?       ─▶ a folder with a limit
//!   loop devices?            ─▶ an ext4 image of that size, some made in advance
//!   none of them             ─▶ a folder, without a limit; said so
//!
//!   <home>/disk.img, or <home>/disk   ── tree ──▶ upper · work        ids from 0
//! ```
//!
//! What works here is found by doing it: a small disk is made, and written over its end.

mod btrfs;
mod image;
mod kind;
mod pool;
mod project;

pub(crate) use image::{reopen as reopen_image, wait_until_free};
pub(crate) use kind::{ATTACHMENT, DiskKind, DiskRecord, name_of as disk_folder, remove};
pub(crate) use pool::Disks;

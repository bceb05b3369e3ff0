//! Files as block devices.
//!
//! ```text
//!   file ── LOOP_CTL_GET_FREE ─▶ /dev/loopN ── LOOP_CONFIGURE(autoclear) ─▶ mounted
//!                                                    the last unmount frees the device ─▶ gone
//! ```

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;

/// Tries for a free device while others take theirs at the same time.
const TRIES: usize = 64;

/// `LOOP_CTL_GET_FREE` and `LOOP_CONFIGURE`, from the kernel's `linux/loop.h`.
const GET_FREE: libc::Ioctl = 0x4C82;
const CONFIGURE: libc::Ioctl = 0x4C0A;

/// `LO_FLAGS_READ_ONLY`, `LO_FLAGS_AUTOCLEAR`, `LO_FLAGS_DIRECT_IO`.
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

/// The device's block size: that of the file systems in it, so that it can go past the page cache.
const BLOCK: u32 = 4096;

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// A device that shows a file. It goes when this and its last mount are gone.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    number: i32,
    // Held open until the device is mounted, else it would be cleared at once.
    _open: File,
}

impl LoopDevice {
    /// Shows this file.
    pub(crate) fn attach(file: BorrowedFd<'_>, read_only: bool) -> io::Result<Self> {
        let control = File::options().read(true).write(true).open("/dev/loop-control")?;
        let mut last = io::Error::other("no free loop device");
        for _ in 0..TRIES {
            // SAFETY: an ioctl without an argument on an open descriptor.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), GET_FREE) };
            if number < 0 {
                return Err(io::Error::last_os_error());
            }
            match configure(number, file, read_only) {
                Ok(open) => return Ok(Self { number, _open: open }),
                // Somebody else was faster.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Its number.
    pub(crate) fn number(&self) -> i32 {
        self.number
    }

    /// The path of the one with this number.
    pub(crate) fn path_of(number: i32) -> PathBuf {
        PathBuf::from(format!("/dev/loop{number}"))
    }
}

/// Whether the device with this number shows nothing any more, or something else than this file.
pub(crate) fn is_free_of(number: i32, file: &str) -> bool {
    let backing = std::fs::read_to_string(format!("/sys/block/loop{number}/loop/backing_file"));
    !backing.is_ok_and(|backing| backing.trim_end().ends_with(file))
}

fn configure(number: i32, file: BorrowedFd<'_>, read_only: bool) -> io::Result<File> {
    let device = File::options().read(true).write(!read_only).open(LoopDevice::path_of(number))?;
    let mut flags = AUTOCLEAR | DIRECT_IO;
    if read_only {
        flags |= READ_ONLY;
    }
    match ask(&device, file, flags) {
        // The file's own file system has no way past the page cache.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => ask(&device, file, flags & !DIRECT_IO)?,
        outcome => outcome?,
    }
    Ok(device)
}

fn ask(device: &File, file: BorrowedFd<'_>, flags: u32) -> io::Result<()> {
    // SAFETY: all-zero is a valid value of this plain C structure.
    let mut config: LoopConfig = unsafe { std::mem::zeroed() };
    config.fd = file.as_raw_fd().cast_unsigned();
    config.block_size = BLOCK;
    config.info.flags = flags;
    // SAFETY: an open descriptor, and a complete structure that lives over the call.
    if unsafe { libc::ioctl(device.as_raw_fd(), CONFIGURE, &raw const config) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

//! Unix sockets at paths of any length.
//!
//! A socket's address holds 107 bytes; a data directory may be longer than that. So the folder is
//! opened first and the socket is named through it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::mounts::{open_path, path_of};

/// Bytes of a path that fit into an address.
const ADDRESS: usize = 107;

/// Binds and listens. Before anybody can connect, only `uid` may.
pub(crate) fn listen(path: &Path, uid: u32, gid: u32) -> io::Result<UnixListener> {
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
    let folder = open_path(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().ok_or_else(|| io::Error::other("a socket needs a name"))?;
    let short = path_of(&folder).join(name);
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(&short)?)?;
    // It does not listen yet: whoever tries to connect meanwhile is refused.
    std::fs::set_permissions(&short, std::fs::Permissions::from_mode(0o600))?;
    std::os::unix::fs::lchown(&short, Some(uid), Some(gid))?;
    listen(&fd, Backlog::new(64)?)?;
    Ok(fd.into())
}

/// Connects.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    if path.as_os_str().len() <= ADDRESS {
        return UnixStream::connect(path);
    }
    let folder = open_path(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().ok_or_else(|| io::Error::other("a socket needs a name"))?;
    UnixStream::connect(path_of(&folder).join(name))
}

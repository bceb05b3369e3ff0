//! Unix sockets at paths of any length, in folders that somebody else may own.
//!
//! ```text
//!   data directory ─ no link is followed ─▶ folder, opened ─▶ bind ─▶ the name, opened ─▶ its owner
//!   socket ─ its mode ────────────────────────────────────────┘
//! ```
//!
//! A socket's address holds 107 bytes; a data directory may be longer than that. So the folder is
//! opened first and the socket is named through it. The folder may be the server's, who is not trusted
//! as root is: nothing here changes a file by its path.

#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, unlinkat};

use crate::mounts::{open_beneath, open_path, path_of};

/// Bytes of a path that fit into an address.
const ADDRESS: usize = 107;

/// What the owner may do, and nobody else anything.
const OWNERS: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// Opens the folder of a socket. Below the data directory no link is followed, elsewhere only those
/// above the folder.
pub(crate) fn folder_of(socket: &Path, data: &Path) -> io::Result<OwnedFd> {
    let folder = socket.parent().unwrap_or(Path::new("/"));
    if let Ok(below) = folder.strip_prefix(data) {
        // The data directory itself is what the operator named, links and all.
        let data = open_path(data)?;
        let below = below.to_str().ok_or_else(|| io::Error::other("its path is not UTF-8"))?;
        return open_beneath(data.as_fd(), if below.is_empty() { "." } else { below });
    }
    let above = folder.parent().unwrap_or(Path::new("/"));
    let name = folder.file_name().and_then(OsStr::to_str).unwrap_or(".");
    open_beneath(open_path(above)?.as_fd(), name)
}

/// Binds and listens in an opened folder. From the first moment on only `uid` and root may connect.
pub(crate) fn listen(folder: BorrowedFd<'_>, name: &OsStr, uid: u32, gid: u32) -> io::Result<UnixListener> {
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
    let short = path_of(&folder).join(name);
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // The file that bind makes takes its mode from here.
    fchmod(&fd, OWNERS)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(&short)?).map_err(|error| match error {
        Errno::EADDRINUSE => io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("something else is at the name {} already; remove it", name.display()),
        ),
        error => error.into(),
    })?;
    // It does not listen yet: whoever tries to connect meanwhile is refused.
    give_away(folder, name, uid, gid)?;
    listen(&fd, Backlog::new(64)?)?;
    Ok(fd.into())
}

/// Gives the socket that we just made to its user; nothing else, whatever is at its name by now.
fn give_away(folder: BorrowedFd<'_>, name: &OsStr, uid: u32, gid: u32) -> io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(folder, name, flags, Mode::empty())?;
    let found = fstat(&file)?;
    let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
    let others = Mode::from_bits_truncate(found.st_mode).difference(OWNERS);
    let is_ours = kind == SFlag::S_IFSOCK
        && found.st_uid == Uid::effective().as_raw()
        && found.st_nlink == 1
        && others.is_empty();
    if !is_ours {
        let what = format!("{} was replaced by something else while it was made", name.display());
        return Err(io::Error::other(what));
    }
    Ok(fchownat(&file, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::AT_EMPTY_PATH)?)
}

/// Removes what a dead predecessor listened on; done also when there is nothing.
pub(crate) fn remove(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        done => Ok(done?),
    }
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

/// Whether somebody listens at this path, which nobody but us can put anything at.
pub(crate) fn is_listened_on(path: &Path) -> io::Result<bool> {
    match connect_now(path) {
        Ok(_) => Ok(true),
        // It listens, and has more to accept than it can take.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Connects, or says that it would have to wait for it: who listens may never accept.
fn connect_now(path: &Path) -> io::Result<UnixStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(stream);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Connects to a socket in a folder that a sandbox can write to: what is at the name is opened without
/// following a link, and has to be a socket. Does not wait for who listens.
pub(crate) fn connect_at(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<UnixStream> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(folder, name, flags, Mode::empty())?;
    let kind = SFlag::from_bits_truncate(fstat(&file)?.st_mode & SFlag::S_IFMT.bits());
    if kind != SFlag::S_IFSOCK {
        return Err(io::Error::other("what is in the place of its socket is no socket"));
    }
    connect_now(&path_of(&file))
}

/// The most descriptors that are handed over at once.
const AT_ONCE: usize = 16;

/// Hands open descriptors to the process at the other end of a stream, with one byte.
pub(crate) fn send_descriptors(stream: BorrowedFd<'_>, descriptors: &[OwnedFd]) -> io::Result<()> {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    let descriptors: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(stream.as_raw_fd(), &[io::IoSlice::new(&[0])], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Takes descriptors that were handed over by [`send_descriptors`]. Waits for them.
pub(crate) fn receive_descriptors(stream: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let (mut byte, mut space) = ([0], nix::cmsg_space!([RawFd; AT_ONCE]));
    let mut data = [io::IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut data, Some(&mut space), flags)?;
    let mut received = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            // SAFETY: the kernel has just given these descriptors to us.
            received.extend(descriptors.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
        }
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    /// A folder with a victim whose mode nobody may change, and whoever runs the test.
    fn scene() -> (tempfile::TempDir, std::path::PathBuf, u32, u32) {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "a secret").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o640)).unwrap();
        (folder, victim, Uid::effective().as_raw(), Gid::effective().as_raw())
    }

    #[test]
    fn a_socket_is_its_users_alone_and_answers() {
        let (folder, _, uid, gid) = scene();
        let (uid, gid) = if uid == 0 { (23_456, 23_457) } else { (uid, gid) };
        let long = folder.path().join("n".repeat(120));
        fs::create_dir(&long).unwrap();
        let path = long.join("host.sock");
        let opened = folder_of(&path, folder.path()).unwrap();
        remove(opened.as_fd(), OsStr::new("host.sock")).unwrap();
        let listener = listen(opened.as_fd(), OsStr::new("host.sock"), uid, gid).unwrap();
        let file = fs::symlink_metadata(&path).unwrap();
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (uid, gid, 0o600));
        connect(&path).unwrap();
        listener.accept().unwrap();
        remove(opened.as_fd(), OsStr::new("host.sock")).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_link_at_the_sockets_name_is_an_error_and_its_target_untouched() {
        let (folder, victim, uid, gid) = scene();
        let opened = open_path(folder.path()).unwrap();
        for (name, target) in [("a.sock", victim.as_path()), ("b.sock", Path::new("nothing"))] {
            symlink(target, folder.path().join(name)).unwrap();
            let error = listen(opened.as_fd(), OsStr::new(name), uid, gid).unwrap_err();
            assert!(error.to_string().contains("already; remove it"), "{error}");
        }
        // As if it were planted after the socket was bound.
        for name in ["a.sock", "b.sock", "victim"] {
            let error = give_away(opened.as_fd(), OsStr::new(name), 23_456, 23_456).unwrap_err();
            assert!(error.to_string().contains("was replaced"), "{error}");
        }
        assert_eq!((mode(&victim), fs::metadata(&victim).unwrap().uid()), (0o640, uid));
        assert!(!folder.path().join("nothing").exists());
    }

    #[test]
    fn a_folder_behind_a_link_is_an_error() {
        let (folder, ..) = scene();
        let (data, elsewhere) = (folder.path().join("data"), folder.path().join("elsewhere"));
        fs::create_dir(&data).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, data.join("run")).unwrap();
        for (socket, data) in [("data/run/host.sock", &data), ("data/run/host.sock", &elsewhere)] {
            let error = folder_of(&folder.path().join(socket), data).unwrap_err();
            assert!(error.to_string().contains("is a link"), "{error}");
        }
        assert!(folder_of(&data.join("host.sock"), &data).is_ok());
        assert!(folder_of(&elsewhere.join("host.sock"), &data).is_ok());
    }
}

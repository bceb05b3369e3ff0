//! The doors of a sandbox whose network stack is its own: sockets in a folder that it can only read.
//!
//! ```text
//!   program ── 127.0.0.1:3128 ─▶ guest ─▶ /run/patchyard/doors/proxy ═╗   <home>/doors, the sandbox's alone
//!                                        who holds the listener ◀══════╝
//! ```
//!
//! The listener is the identity, as elsewhere. Nothing is captured, and no names are answered: what does not
//! ask the proxy reaches nobody.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use protocol::egress::{Door, GIT_PORT, Gateway, MODEL_PORT, PROXY_PORT, RELAYED};

use super::Doors;
use crate::mounts::{open_path, path_of};
use crate::sockets;

/// Opens the socket that `egress` holds. A holder from before must have let go of its own.
pub(crate) fn open(folder: &Path) -> io::Result<Doors> {
    Ok(vec![(Door::Proxy, listen(folder, PROXY_PORT)?)])
}

/// Opens the sockets that the server holds.
pub(crate) fn open_gateways(folder: &Path) -> io::Result<Vec<(Gateway, OwnedFd)>> {
    let open = |(gateway, port)| Ok((gateway, listen(folder, port)?));
    [(Gateway::Model, MODEL_PORT), (Gateway::Git, GIT_PORT)].into_iter().map(open).collect()
}

/// The folder may be deep: it is opened, and the socket named through it.
fn listen(folder: &Path, port: u16) -> io::Result<OwnedFd> {
    let name = RELAYED.iter().find(|(relayed, _)| *relayed == port).map(|(_, name)| *name);
    let name = name.ok_or_else(|| io::Error::other(format!("port {port} is not relayed")))?;
    let folder = open_path(folder)?;
    let path = path_of(&folder).join(name);
    if sockets::is_listened_on(&path)? {
        let what = format!("the door {name} (127.0.0.1:{port} inside): Address already in use");
        return Err(io::Error::new(io::ErrorKind::AddrInUse, what));
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    // Whoever is in the sandbox may connect; outside nobody gets into its folder.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    Ok(listener.into())
}

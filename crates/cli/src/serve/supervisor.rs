//! The supervisor: starts `sandbox-host`, `egress` and `server`, starts them again when they die, ends
//! them. It does nothing else.
//!
//! ```text
//!  supervisor ─┬─▶ sandbox-host   killed or panicked? again, after a pause
//!      │       ├─▶ egress         ┐ its standard input is its listening socket: while it is away,
//!      │       └─▶ server         ┘ connections wait instead of being refused
//!      └─ SIGTERM, SIGINT ─▶ server first (turns end, sandboxes go), then the others
//! ```
//!
//! A child that ends with an exit code of its own had something to say (port, version, configuration)
//! and is not started again: its code becomes ours.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, User, chown};
use server::config::{Config, NetworkConfig};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::args::Serve;
use crate::connection::data_dir;
use crate::error::Failure;
use crate::output::note;

/// The accounts that server and egress run as when started by root; where there is no such account, an
/// id that systemd keeps for services without one (its range of dynamic users is 61184 to 65519).
const SERVER: (&str, u32) = ("patchyard", 61_878);
const EGRESS: (&str, u32) = ("patchyard-egress", 61_879);

/// The pause before a dead child is started again doubles up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a child may take to end.
const GRACE: Duration = Duration::from_secs(60);

struct Supervisor {
    serve: Serve,
    data: PathBuf,
    run: PathBuf,
    listener: TcpListener,
    egress_listener: UnixListener,
    name_servers: Vec<SocketAddr>,
    authorities: Vec<PathBuf>,
    owner: (Uid, Gid),
    egress_user: (Uid, Gid),
}

/// Runs until it is told to stop.
pub(crate) async fn run(serve: Serve) -> Result<ExitCode, Failure> {
    let data = std::path::absolute(data_dir(serve.data.as_deref()))
        .map_err(|error| Failure::Failed(format!("the data directory cannot be named: {error}")))?;
    let listener = server::bind(serve.listen)?;
    // What cannot be used is told before anything is changed.
    let network = match &serve.config {
        Some(config) => Config::read(config)?.network,
        None => NetworkConfig::default(),
    };
    let NetworkConfig { name_servers, authorities, .. } = network;
    refuse_foreign(&data)?;
    let (owner, egress_user) = (account(SERVER)?, account(EGRESS)?);
    let run = prepare(&data, owner)?;
    let egress_listener = listen_in(&run, owner).map_err(|error| {
        Failure::Failed(format!("cannot listen on {}: {error}", run.join(EGRESS_SOCKET).display()))
    })?;
    let supervisor = Supervisor {
        serve,
        data,
        run,
        listener,
        egress_listener,
        name_servers,
        authorities,
        owner,
        egress_user,
    };
    supervisor.supervise().await
}

/// The name of the socket on which the server asks egress.
const EGRESS_SOCKET: &str = "egress.sock";

/// The socket of egress, for the server and nobody else. Connections wait there while it is away.
fn listen_in(run: &Path, (uid, gid): (Uid, Gid)) -> std::io::Result<UnixListener> {
    // Through the folder: an address holds 107 bytes, and a data directory may have more.
    let folder = std::fs::File::open(run)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}/{EGRESS_SOCKET}", folder.as_raw_fd()));
    match std::fs::remove_file(&short) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&short)?;
    std::fs::set_permissions(&short, std::fs::Permissions::from_mode(0o600))?;
    if Uid::effective().is_root() {
        chown(&short, Some(uid), Some(gid))?;
    }
    Ok(listener)
}

/// Lets the supervisor end in order when who started it dies, where that is wanted. Runs before
/// threads start.
pub(crate) fn tie(serve: &Serve) -> Result<(), Failure> {
    let Some(parent) = serve.parent_death else { return Ok(()) };
    prctl::set_pdeathsig(Signal::SIGTERM)
        .map_err(|error| Failure::Internal(format!("cannot end with process {parent}: {error}")))?;
    // It may have died before this was said.
    if Pid::parent().as_raw() == parent {
        return Ok(());
    }
    Err(Failure::Failed(format!("process {parent} is gone, or did not start this one")))
}

/// The user that a process of ours becomes.
fn account((name, otherwise): (&str, u32)) -> Result<(Uid, Gid), Failure> {
    if !Uid::effective().is_root() {
        return Ok((Uid::effective(), Gid::effective()));
    }
    let account = User::from_name(name).map_err(|error| Failure::Internal(error.to_string()))?;
    Ok(match account {
        Some(user) => (user.uid, user.gid),
        None => (Uid::from_raw(otherwise), Gid::from_raw(otherwise)),
    })
}

/// What one of these is in is a data directory. The first start makes `run` before anything else, and
/// images may be imported before it.
const MARKS: [&str; 4] = ["patchyard.lock", "patchyard.db", "run", "images"];

/// Keeps the hands off a folder that holds something else: it would be given away and closed.
fn refuse_foreign(data: &Path) -> Result<(), Failure> {
    let entries = match std::fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(Failure::Failed(format!(
                "cannot look into {}: {error}; give another with --data",
                data.display()
            )));
        }
    };
    // A fresh file system of its own has this, and nothing else.
    let mut entries = entries.flatten().filter(|entry| entry.file_name() != "lost+found");
    if entries.next().is_none() || MARKS.iter().any(|mark| data.join(mark).exists()) {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{} is not empty and is no patchyard data directory; name an empty or a new folder with --data",
        data.display()
    )))
}

/// The file that the server leaves once it has said where it listens: one that died before has to be followed by
/// one that says so.
pub(super) fn announced(data: &Path) -> PathBuf {
    data.join("announced")
}

/// Makes the data directory, owned by the server, and the folder of sockets.
fn prepare(data: &Path, (uid, gid): (Uid, Gid)) -> Result<PathBuf, Failure> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Failure::Failed(format!("cannot {what} {}: {error}; give another with --data", data.display()))
    };
    let run = data.join("run");
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.map_err(|error| failed("make the data directory", &error))?;
    std::fs::create_dir_all(&run).map_err(|error| failed("make the folder of sockets in", &error))?;
    if Uid::effective().is_root() {
        chown(data, Some(uid), Some(gid)).map_err(|error| failed("give away", &error))?;
    }
    let closed = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(data, closed).map_err(|error| failed("close", &error))?;
    match std::fs::remove_file(announced(data)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed("write in", &error)),
        _ => Ok(run),
    }
}

/// One of the children.
struct Watched {
    name: &'static str,
    child: Child,
    since: Instant,
    pause: Duration,
}

impl Supervisor {
    async fn supervise(self) -> Result<ExitCode, Failure> {
        let failed = |error: std::io::Error| Failure::Internal(format!("cannot watch for signals: {error}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut host = self.start("sandbox-host")?;
        let mut egress = self.start("egress")?;
        let mut server = self.start("server")?;
        let code = loop {
            tokio::select! {
                _ = terminate.recv() => break ExitCode::SUCCESS,
                _ = interrupt.recv() => break ExitCode::SUCCESS,
                status = server.child.wait() => if let Some(code) = self.again(&mut server, status).await? { break code },
                status = egress.child.wait() => if let Some(code) = self.again(&mut egress, status).await? { break code },
                status = host.child.wait() => if let Some(code) = self.again(&mut host, status).await? { break code },
            }
        };
        end(&mut server).await;
        end(&mut egress).await;
        end(&mut host).await;
        Ok(code)
    }

    fn start(&self, name: &'static str) -> Result<Watched, Failure> {
        let failed = |error: std::io::Error| Failure::Internal(format!("cannot start {name}: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.arg("internal").arg(name).kill_on_drop(true);
        // A Ctrl-C on the terminal is for the supervisor alone: it ends the others in order.
        command.process_group(0);
        let (uid, gid) = self.owner;
        let host_socket = self.run.join("sandbox-host.sock");
        command.args(["--server-uid", &uid.to_string()]);
        match name {
            "server" => {
                let listener = OwnedFd::from(self.listener.try_clone().map_err(failed)?);
                command.stdin(Stdio::from(listener));
                command.arg("--listen").arg(self.serve.listen.to_string()).arg("--data").arg(&self.data);
                command.arg("--host-socket").arg(&host_socket);
                command.arg("--egress-socket").arg(self.run.join(EGRESS_SOCKET));
                command.args(["--server-gid", &gid.to_string()]);
                if let Some(config) = &self.serve.config {
                    command.arg("--config").arg(config);
                }
                if announced(&self.data).exists() {
                    command.arg("--again");
                }
            }
            "egress" => {
                let listener = OwnedFd::from(self.egress_listener.try_clone().map_err(failed)?);
                command.stdin(Stdio::from(listener));
                let (uid, gid) = self.egress_user;
                command.args(["--uid", &uid.to_string(), "--gid", &gid.to_string()]);
                for server in &self.name_servers {
                    command.arg("--name-server").arg(server.to_string());
                }
                for file in &self.authorities {
                    command.arg("--authorities").arg(file);
                }
            }
            _ => {
                command.stdin(Stdio::null()).arg("--data").arg(&self.data).arg("--socket").arg(&host_socket);
                command.args(["--server-gid", &gid.to_string()]);
            }
        }
        let child = command.spawn().map_err(failed)?;
        Ok(Watched { name, child, since: Instant::now(), pause: Duration::from_millis(100) })
    }

    /// Starts a dead child again, or says with which code all is over.
    async fn again(
        &self,
        watched: &mut Watched,
        status: std::io::Result<ExitStatus>,
    ) -> Result<Option<ExitCode>, Failure> {
        let status = status.map_err(|error| Failure::Internal(error.to_string()))?;
        // 101 is a panic: a bug, not an answer.
        if let Some(code) = status.code().filter(|code| *code != 101) {
            return Ok(Some(ExitCode::from(u8::try_from(code).unwrap_or(1))));
        }
        let pause = if watched.since.elapsed() > GRACE { Duration::from_millis(100) } else { watched.pause };
        note(&format!("patchyard: {} died ({status}); it is started again", watched.name));
        tokio::time::sleep(pause).await;
        *watched = Watched { pause: (pause * 2).min(LONGEST_PAUSE), ..self.start(watched.name)? };
        Ok(None)
    }
}

/// Asks a child to end, and makes it when it does not.
async fn end(watched: &mut Watched) {
    let pid = watched.child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid
        && kill(Pid::from_raw(pid), Signal::SIGTERM).is_ok()
        && tokio::time::timeout(GRACE, watched.child.wait()).await.is_ok()
    {
        return;
    }
    let _ = watched.child.kill().await;
}

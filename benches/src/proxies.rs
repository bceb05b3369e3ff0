//! Proxies that are measured: ours, and those of others that are installed.
//!
//! ```text
//!   core 0: clients and origin        last core: the proxy of this round
//!   the same work: a list of 500 hosts, one line on record for each decision, in memory
//!   no work:       everything allowed, nothing on record
//! ```
//!
//! Ours resolves the name of its origin (good for a minute) and looks at each address besides; the peers
//! get a bare address.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use egress::client::{Egress, Listeners};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use protocol::egress::{Budgets, Chain, Door, Ground};
use protocol::environment::NetworkLevel;
use protocol::ids::{SandboxId, SessionId};
use protocol::network::{NetworkRules, Rendering};
use protocol::secret::{SecretBinding, SecretSource, SecretUse};
use ulid::Ulid;

use crate::Failure;

/// The origin, by name for ours, by address for peers.
pub(crate) const NAMED: &str = "echo.wild.test:8443";
pub(crate) const BARE: &str = "93.184.216.34:8443";

/// The origin whose connections ours opens.
pub(crate) const OPENED: &str = "opened.test:8444";

/// Sandboxes; each may begin 200 tunnels at once.
const SANDBOXES: usize = 50;

/// Sandboxes whose connections are opened.
const OPENING: usize = 8;

/// A proxy that runs, and where its clients find it.
pub(crate) struct Proxy {
    pub(crate) name: String,
    child: Child,
    pub(crate) doors: Vec<SocketAddr>,
    /// What it lets through.
    pub(crate) target: &'static str,
    /// What it refuses.
    pub(crate) refused: Option<&'static str>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    /// Seconds of CPU that it used.
    pub(crate) fn cpu(&self) -> f64 {
        cpu_of(self.child.id())
    }

    /// What it has in memory, in kB.
    pub(crate) fn memory(&self) -> f64 {
        memory_of(self.child.id())
    }

    /// Peers that are installed: each with the same work, and with none.
    pub(crate) fn peers(folder: &Path) -> Result<Vec<Self>, Failure> {
        let mut list: String = (0..499).fold(String::new(), |mut list, number| {
            let _ = writeln!(list, "host-{number}.example.org");
            list
        });
        list.push_str("93.184.216.34\n");
        let listed = folder.join("list").display().to_string();
        std::fs::write(&listed, list)?;
        // Some write as users of their own.
        let records = folder.join("records");
        std::fs::create_dir(&records)?;
        std::fs::set_permissions(&records, Permissions::from_mode(0o777))?;
        std::fs::set_permissions(folder, Permissions::from_mode(0o755))?;
        let at = |name: &str| records.join(name).display().to_string();
        let squid = "cache deny all\ncache_log /dev/null\npid_filename none\nlogfile_rotate 0\nvisible_hostname bench\n\
                     shutdown_lifetime 0 seconds\nmax_filedescriptors 8192\npinger_enable off\n";
        let tinyproxy = "Listen 127.0.0.1\nMaxClients 2000\nTimeout 600\n";
        let configs = [
            (
                "squid, the same work",
                &["squid", "-N", "-f"][..],
                format!(
                    "http_port 127.0.0.1:3901\n{squid}acl listed dstdomain -n \"{listed}\"\nhttp_access allow listed\n\
                     http_access deny all\naccess_log stdio:{} squid\n",
                    at("squid.log")
                ),
                "127.0.0.1:3901",
                true,
            ),
            (
                "squid, no work",
                &["squid", "-N", "-f"],
                format!("http_port 127.0.0.1:3902\n{squid}http_access allow all\naccess_log none\n"),
                "127.0.0.1:3902",
                false,
            ),
            (
                "tinyproxy, the same work",
                &["tinyproxy", "-d", "-c"],
                format!(
                    "Port 3903\n{tinyproxy}LogLevel Connect\nLogFile \"{}\"\nFilter \"{listed}\"\nFilterType fnmatch\n\
                     FilterDefaultDeny Yes\n",
                    at("tinyproxy.log")
                ),
                "127.0.0.1:3903",
                true,
            ),
            (
                "tinyproxy, no work",
                &["tinyproxy", "-d", "-c"],
                format!("Port 3904\n{tinyproxy}LogLevel Critical\n"),
                "127.0.0.1:3904",
                false,
            ),
        ];
        let mut peers = Vec::new();
        for (number, (name, words, config, door, refuses)) in configs.into_iter().enumerate() {
            let file = folder.join(format!("peer-{number}"));
            std::fs::write(&file, config)?;
            let Some((program, words)) = words.split_first() else { continue };
            if !is_installed(program) {
                continue;
            }
            let mut command = pinned(program);
            command.args(words).arg(&file);
            peers.extend(Self::peer(name, command, door, refuses));
        }
        if let Ok(mitmdump) = std::fs::canonicalize("target/tools/mitmproxy/bin/mitmdump") {
            let mut command = pinned(&mitmdump.display().to_string());
            command.args(["--quiet", "--listen-host", "127.0.0.1", "--listen-port", "3905"]);
            command.args(["--ignore-hosts", ".*", "--set"]);
            command.arg(format!("confdir={}", at("mitmproxy")));
            peers.extend(Self::peer("mitmproxy, not opened, no work", command, "127.0.0.1:3905", false));
        }
        Ok(peers)
    }

    fn peer(name: &str, mut command: Command, door: &str, refuses: bool) -> Option<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let refused = refuses.then_some("93.184.216.35:8443");
        Some(Self { name: name.to_owned(), child, doors: vec![door.parse().ok()?], target: BARE, refused })
    }
}

/// The real process, with a listener for each of many sandboxes, whose records lie in this folder; and some
/// sandboxes more, with a secret for an origin that one of these authorities signs for.
pub(crate) async fn ours(
    patchyard: &Path,
    folder: &Path,
    authorities: &str,
) -> Result<(Proxy, Vec<Opening>), Failure> {
    let socket = folder.join("egress.sock");
    let listener = OwnedFd::from(UnixListener::bind(&socket)?);
    let trusted = folder.join("origins.pem");
    std::fs::write(&trusted, authorities)?;
    let child = pinned(&patchyard.display().to_string())
        .args(["internal", "egress", "--server-uid", "0", "--uid", "61879", "--gid", "61879"])
        .args(["--name-server", "93.184.216.53:53", "--authorities"])
        .arg(&trusted)
        .stdin(Stdio::from(listener))
        .spawn()?;
    let egress = Egress::connect(&socket);
    let (mut doors, mut openings) = (Vec::new(), Vec::new());
    for number in 0..SANDBOXES {
        doors.push(bind(&egress, &folder.join(number.to_string()), vec![]).await?.door);
    }
    for number in 0..OPENING {
        openings.push(bind(&egress, &folder.join(format!("opening-{number}")), vec![secret()]).await?);
    }
    let refused = Some("evil.test:8443");
    Ok((Proxy { name: "ours".into(), child, doors, target: NAMED, refused }, openings))
}

/// One whose use needs connections to be opened.
fn secret() -> SecretUse {
    let binding = SecretBinding {
        name: "BENCH_TOKEN".into(),
        hosts: vec![OPENED.into()],
        methods: vec![],
        paths: vec![],
        source: SecretSource::default(),
    };
    let [placeholder, value] =
        ["bench-placeholder", "bench-secret-value"].map(|text| format!("{text}-0123456789"));
    SecretUse { binding, placeholder, value }
}

/// A sandbox as its clients see it.
pub(crate) struct Opening {
    pub(crate) door: SocketAddr,
    /// Who signs inside, PEM.
    pub(crate) authority: String,
}

async fn bind(egress: &Egress, record: &Path, secrets: Vec<SecretUse>) -> Result<Opening, Failure> {
    let mut domains: Vec<String> = (0..498).map(|number| format!("host-{number}.example.org")).collect();
    domains.extend(["*.wild.test:8443".into(), OPENED.into()]);
    let level = NetworkLevel::Custom { domains, include_default: false };
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let door = listener.local_addr()?;
    let segment = std::fs::File::options().append(true).create(true).open(record)?;
    let listeners = Listeners {
        doors: vec![Door::Proxy],
        sockets: vec![listener.into()],
        segment: segment.into(),
        chain: Chain::default(),
    };
    let (sandbox, session) = (SandboxId::from(Ulid::generate()), SessionId::from(Ulid::generate()));
    let authority = egress::make_authority(session)?;
    let signed = authority.certificate.clone();
    let rules = NetworkRules::of(level, Rendering::default());
    let ground = Ground { rules, secrets, canaries: vec![], budgets: Budgets::UNLIMITED };
    egress.bind(sandbox, session, (ground, authority), listeners).await?;
    Ok(Opening { door, authority: signed })
}

/// A program that runs on the last core alone.
fn pinned(program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &last_core().to_string(), program]);
    command
}

fn last_core() -> usize {
    std::thread::available_parallelism().map_or(0, |count| count.get() - 1)
}

/// Keeps the thread that calls, and what it starts, on the first core.
pub(crate) fn stay_apart() -> Result<(), Failure> {
    let mut first = CpuSet::new();
    first.set(0)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &first)?)
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Seconds of CPU that a process and its children used, threads that have ended included.
fn cpu_of(pid: u32) -> f64 {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed()));
    let own = clock.and_then(ClockId::now).map_or(0.0, |used| Duration::from(used).as_secs_f64());
    own + children_of(pid).into_iter().map(cpu_of).sum::<f64>()
}

/// Resident memory of a process and its children, in kB.
fn memory_of(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let own =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    own.unwrap_or(0.0) + children_of(pid).into_iter().map(memory_of).sum::<f64>()
}

fn children_of(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

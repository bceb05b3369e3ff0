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
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use protocol::egress::Door;
use protocol::ids::{SandboxId, SessionId};
use protocol::secret::{SecretBinding, SecretSource, SecretUse};
use ulid::Ulid;

use crate::Failure;
use crate::outlet::{Outlet, Terms};
use crate::peers::is_installed;
use crate::process::Process;

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
    pub(crate) process: Process,
    pub(crate) doors: Vec<SocketAddr>,
    /// What it lets through.
    pub(crate) target: &'static str,
    /// What it refuses.
    pub(crate) refused: Option<&'static str>,
}

impl Proxy {
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
        let (process, doors) = (child.into(), vec![door.parse().ok()?]);
        Some(Self { name: name.to_owned(), process, doors, target: BARE, refused })
    }
}

/// The real process, with a listener for each of many sandboxes, whose records lie in this folder; and some
/// sandboxes more, with a secret for an origin that one of these authorities signs for.
pub(crate) async fn ours(
    patchyard: &Path,
    folder: &Path,
    authorities: &str,
) -> Result<(Proxy, Vec<Opening>), Failure> {
    let trusted = folder.join("origins.pem");
    std::fs::write(&trusted, authorities)?;
    let outlet = Outlet::start(pinned(&patchyard.display().to_string()), folder, Some(&trusted))?;
    let (mut doors, mut openings) = (Vec::new(), Vec::new());
    for number in 0..SANDBOXES {
        doors.push(bind(&outlet, &folder.join(number.to_string()), vec![]).await?.door);
    }
    for number in 0..OPENING {
        openings.push(bind(&outlet, &folder.join(format!("opening-{number}")), vec![secret()]).await?);
    }
    let refused = Some("evil.test:8443");
    let process = outlet.process;
    Ok((Proxy { name: "ours".into(), process, doors, target: NAMED, refused }, openings))
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

async fn bind(outlet: &Outlet, record: &Path, secrets: Vec<SecretUse>) -> Result<Opening, Failure> {
    let mut domains: Vec<String> = (0..498).map(|number| format!("host-{number}.example.org")).collect();
    domains.extend(["*.wild.test:8443".into(), OPENED.into()]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let door = listener.local_addr()?;
    let (doors, sockets) = (vec![Door::Proxy], vec![listener.into()]);
    let who = (SandboxId::from(Ulid::generate()), SessionId::from(Ulid::generate()));
    let authority = outlet.bind(who, Terms { domains, secrets, doors, sockets, record }).await?;
    Ok(Opening { door, authority })
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

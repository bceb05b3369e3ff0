//! What a row is played on: a `sandbox-host`, a sandbox of one runtime, and the host around them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use protocol::hands::{ExecEvent, Execution, Hands};
use protocol::sandbox_host::Made;
use protocol::sandbox_spec::Limits;
use sandbox::guest_link::GuestLink;
use serde_json::Value;

use crate::controls;
use crate::world::{Said, Setting, World, eventually, is_root, limits, python, shell, tried};

/// The runtime below a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    Crun,
    Runc,
    Gvisor,
}

impl Ground {
    /// The binary.
    pub fn runtime(self) -> &'static str {
        match self {
            Self::Crun => "crun",
            Self::Runc => "runc",
            Self::Gvisor => "runsc",
        }
    }
}

/// One sandbox, with a world of its own.
pub struct Field {
    pub ground: Ground,
    pub world: World,
    pub made: Made,
    pub link: GuestLink,
}

/// Plays a row. Afterwards the host is as it was, and ordinary work goes on in the same sandbox.
pub async fn on(ground: Ground, row: impl AsyncFn(&mut Field)) {
    if !is_root() {
        return;
    }
    let before = host();
    let mut field = Field::of(ground, limits()).await;
    row(&mut field).await;
    assert_eq!(host(), before, "the host was changed");
    if field.lives().await {
        controls::ordinary_work(&field).await;
    }
}

impl Field {
    /// With a sandbox of these limits.
    pub async fn of(ground: Ground, limits: Limits) -> Self {
        let world = World::with(Setting { runtime: Some(ground.runtime()), ..Setting::default() });
        let made = world.make(world.session(), limits).await;
        assert_eq!(made.runtime, ground.runtime());
        let link = world.host.link(&made).await.unwrap();
        Self { ground, world, made, link }
    }

    /// Another sandbox of the same world.
    pub async fn another(&self, limits: Limits) -> (Made, GuestLink) {
        let made = self.world.make(self.world.session(), limits).await;
        let link = self.world.host.link(&made).await.unwrap();
        (made, link)
    }

    /// Whether the kernel is the sandbox's own.
    pub fn has_own_kernel(&self) -> bool {
        self.ground == Ground::Gvisor
    }

    /// Runs what may be the end of the sandbox.
    pub async fn attempt(&self, script: &str) {
        if let Ok(mut attack) = self.link.start(shell(script)).await {
            listen(&mut *attack).await;
        }
    }

    /// Whether the sandbox came to its end by what was just done. Only one with a kernel of its own may:
    /// its process 1 is not out of reach of its root. Then nothing of it runs any more.
    pub async fn ended(&self) -> bool {
        if let Ok(mut answer) = self.link.start(shell("echo alive")).await
            && listen(&mut *answer).await.is_some_and(|said| said.end.is_success())
        {
            return false;
        }
        assert!(self.has_own_kernel(), "its process 1 was killed from inside");
        let (host, made) = (self.world.host.clone(), &self.made);
        while host.list().await.unwrap().contains(made) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        eventually("nothing runs", || self.processes().is_empty()).await;
        true
    }

    async fn lives(&self) -> bool {
        self.world.host.list().await.unwrap().contains(&self.made)
    }

    /// The host's number of the process whose end is the sandbox's.
    pub fn init(&self) -> i32 {
        init(&self.world, &self.made)
    }

    /// The text of a file of the sandbox's control group.
    pub fn counter(&self, controller: &str, file: &str) -> String {
        counter(&self.made, controller, file)
    }

    /// The host's numbers of the sandbox's processes.
    pub fn processes(&self) -> Vec<i32> {
        self.counter("memory", "cgroup.procs").lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Runs Python with a way to make system calls; gives the lines that it printed.
    pub async fn tried(&self, lines: &str) -> Vec<String> {
        tried(&self.link, lines).await
    }

    /// Runs Python.
    pub async fn python(&self, program: &str) -> Said {
        python(&self.link, program).await
    }
}

/// All that a command says, unless the link ends before.
pub async fn listen(execution: &mut dyn Execution) -> Option<Said> {
    let mut said = Said::default();
    loop {
        match execution.next().await.ok()? {
            ExecEvent::Stdout(bytes) => said.stdout.extend(bytes),
            ExecEvent::Stderr(bytes) => said.stderr.extend(bytes),
            ExecEvent::Exited(end) => return Some(Said { end, ..said }),
        }
    }
}

/// The host's number of the process whose end is this sandbox's.
pub fn init(world: &World, made: &Made) -> i32 {
    let record = world.data.path().join(format!("workspaces/{}/state.json", made.attachment.sandbox));
    let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    i32::try_from(record["init"]["pid"].as_i64().unwrap()).unwrap()
}

/// The text of a file of a sandbox's control group, in the one tree or that of a controller.
pub fn counter(made: &Made, controller: &str, file: &str) -> String {
    let group = format!("patchyard/{}", made.attachment.sandbox);
    let places =
        [format!("/sys/fs/cgroup/{controller}/{group}/{file}"), format!("/sys/fs/cgroup/{group}/{file}")];
    places.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_else(|| panic!("{places:?}"))
}

/// The number behind a name in such a text.
pub fn count(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {text}")).trim().parse().unwrap()
}

/// What no sandbox may change: the kernel's switches, and the devices that all share.
fn host() -> BTreeMap<PathBuf, String> {
    let switches = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/domainname",
        "/proc/sys/kernel/sysrq",
        "/proc/sys/kernel/randomize_va_space",
        "/proc/sys/kernel/printk",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/user/max_user_namespaces",
        "/sys/kernel/uevent_helper",
    ];
    let devices = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];
    let switch = |path: &str| (PathBuf::from(path), fs::read_to_string(path).unwrap_or_default());
    let device = |path: &str| {
        let facts = fs::metadata(path).unwrap();
        (PathBuf::from(path), format!("{:o} {} {}", facts.mode(), facts.uid(), facts.gid()))
    };
    switches.map(switch).into_iter().chain(devices.map(device)).collect()
}

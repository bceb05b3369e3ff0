//! `config.json` of a sandbox.

use std::path::PathBuf;

use protocol::sandbox_spec::Limits;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::seccomp::{self, Errors};

/// A sandbox's own range of user and group ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The host's id of the sandbox's root.
    pub base: u32,
    /// How many ids follow, that one included.
    pub size: u32,
}

/// A folder of the host that a sandbox sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Where it is outside.
    pub source: PathBuf,
    /// Where it is inside.
    pub destination: String,
    /// What may be done in it.
    pub access: Access,
}

/// What may be done in a folder of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading, and running programs.
    Run,
    /// Reading and writing.
    Write,
}

/// A control group, and what it can limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its path below every controller, such as `/patchyard/sbx_…`.
    pub path: String,
    /// Memory.
    pub memory: bool,
    /// Processes.
    pub pids: bool,
    /// Processor time.
    pub cpu: bool,
    /// Devices.
    pub devices: bool,
}

impl Group {
    /// One of root's, which limits everything.
    #[must_use]
    pub fn whole(path: String) -> Self {
        Self { path, memory: true, pids: true, cpu: true, devices: true }
    }

    /// One in this one, which limits the same.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        Self { path: format!("{}/{name}", self.path), ..self.clone() }
    }
}

/// What a sandbox is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleSpec {
    /// Its root file system, assembled.
    pub root: PathBuf,
    /// Whether that is read-only.
    pub root_read_only: bool,
    /// Process 1 with its arguments.
    pub argv: Vec<String>,
    /// Its ids.
    pub ids: IdRange,
    /// Its control group; `None` where none can be made, and so no limit of these holds.
    pub group: Option<Group>,
    /// What it may use.
    pub limits: Limits,
    /// Whether the control groups are one tree, version 2.
    pub unified_cgroups: bool,
    /// What the image sets for every program.
    pub environment: Vec<(String, String)>,
    /// Whether containers may be made inside.
    pub nested: bool,
    /// Which errors the runtime's filter of system calls can give.
    pub errors: Errors,
    /// Folders of the host.
    pub binds: Vec<Bind>,
}

/// Rights of process 1, inside its user namespace only. `CAP_SYS_PTRACE` is the guest's own, to read
/// every environment; it takes it from all that it starts.
#[must_use]
pub fn capabilities() -> &'static [&'static str] {
    &[
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_NET_BIND_SERVICE",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
        "CAP_SYS_PTRACE",
    ]
}

/// Paths that tell of the host or let it be changed; empty or absent inside.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/bus",
    "/proc/config.gz",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/modules",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs",
    "/sys/kernel",
    "/sys/module",
];

/// Paths that can be read but not written, on top of what the foreign user id forbids.
const READ_ONLY: &[&str] = &["/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What a sandbox has for itself.
const NAMESPACES: [&str; 7] = ["user", "mount", "pid", "network", "ipc", "uts", "cgroup"];

/// The period over which the share of a CPU is counted, in microseconds.
const CPU_PERIOD: u64 = 100_000;

/// The content of `config.json`.
#[must_use]
pub fn config(spec: &BundleSpec) -> Value {
    let limits = spec.limits;
    let mut config = json!({
        "ociVersion": "1.0.2",
        "root": { "path": spec.root, "readonly": spec.root_read_only },
        "hostname": "patchyard",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": spec.argv,
            "env": environment(&spec.environment),
            "cwd": "/",
            // Without `noNewPrivileges`: process 1 forbids them to each command that it starts, but for the setup
            // script. Said as `false`, youki 0.7 would load the filter when it may not any more.
            "capabilities": {
                "bounding": capabilities(),
                "effective": capabilities(),
                "permitted": capabilities(),
                "inheritable": [],
                "ambient": [],
            },
            "rlimits": [
                { "type": "RLIMIT_NOFILE", "soft": limits.open_files, "hard": limits.open_files },
                { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
            ],
        },
        "mounts": mounts(&spec.binds, spec.ids),
        "linux": {
            "namespaces": NAMESPACES.map(namespace),
            "uidMappings": [id_mapping(spec.ids)],
            "gidMappings": [id_mapping(spec.ids)],
            // Whoever makes a process namespace inside needs a `/proc` that nothing lies over: what is hidden
            // there otherwise is kept from a foreign id by its owner.
            "maskedPaths": if spec.nested { &[] } else { MASKED },
            "readonlyPaths": if spec.nested { &[] } else { READ_ONLY },
            "seccomp": seccomp::profile(spec.errors, spec.nested),
        },
    });
    if let Some(group) = &spec.group {
        config["linux"]["cgroupsPath"] = json!(group.path);
        config["linux"]["resources"] = resources(limits, group, spec.unified_cgroups);
    }
    if !spec.group.as_ref().is_some_and(|group| group.pids)
        && let Some(rlimits) = config["process"]["rlimits"].as_array_mut()
    {
        // Less than a group gives: each user inside may have so many.
        rlimits.push(json!({ "type": "RLIMIT_NPROC", "soft": limits.pids, "hard": limits.pids }));
    }
    config
}

/// What the image says, over what there has to be.
fn environment(image: &[(String, String)]) -> Vec<String> {
    let usual = [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("HOME", "/root")];
    let usual = usual.into_iter().filter(|(name, _)| !image.iter().any(|(set, _)| set == name));
    let usual = usual.map(|(name, value)| format!("{name}={value}"));
    usual.chain(image.iter().map(|(name, value)| format!("{name}={value}"))).collect()
}

fn namespace(kind: &str) -> Value {
    json!({ "type": kind })
}

fn id_mapping(ids: IdRange) -> Value {
    json!({ "containerID": 0, "hostID": ids.base, "size": ids.size })
}

/// What the group can limit; a runtime that is told more fails.
fn resources(limits: Limits, group: &Group, unified: bool) -> Value {
    let mut resources = json!({});
    if group.pids {
        resources["pids"] = json!({ "limit": limits.pids });
    }
    if group.cpu {
        let quota = u64::from(limits.cpu_millis) * CPU_PERIOD / 1000;
        resources["cpu"] = json!({ "quota": quota, "period": CPU_PERIOD });
    }
    if group.devices {
        resources["devices"] = json!([{ "allow": false, "access": "rwm" }]);
    }
    if !group.memory {
        return resources;
    }
    let soft = limits.soft_memory_bytes();
    // The same number twice: the second counts memory and swap together.
    let mut memory = json!({ "limit": limits.memory_bytes, "swap": limits.memory_bytes });
    if unified {
        // What runtimes call a reservation is something else there: memory that is kept for it.
        resources["unified"] = json!({ "memory.high": soft.to_string() });
    } else {
        memory["reservation"] = json!(soft);
    }
    resources["memory"] = memory;
    resources
}

/// The group of terminals on every usual system.
const TTY: u32 = 5;

fn mounts(binds: &[Bind], ids: IdRange) -> Value {
    let mut terminals = json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]);
    // A container with a handful of ids has no such group.
    if let Some(options) = terminals.as_array_mut().filter(|_| ids.size > TTY) {
        options.push(json!(format!("gid={TTY}")));
    }
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc",
                "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"] }),
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": terminals }),
        json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=1g"] }),
        json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"] }),
    ];
    mounts.extend(binds.iter().map(|bind| {
        let mut options = vec!["bind", "nosuid", "nodev", "private"];
        options.extend(match bind.access {
            Access::Read => ["ro", "noexec"].as_slice(),
            Access::Run => &["ro"],
            Access::Write => &["noexec"],
        });
        json!({ "destination": bind.destination, "type": "bind", "source": bind.source,
                "options": options })
    }));
    Value::Array(mounts)
}

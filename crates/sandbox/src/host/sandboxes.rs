//! Making and ending sandboxes.
//!
//! ```text
//!   create: folder ─ ids ─ record ─ lower, overlay, repository ─ socket ─ bundle ─ runtime ─ record
//!   destroy: process 1 ─ runtime's state ─ groups ─ socket ─ folder ─ ids        in any state of these
//! ```
//!
//! Blocking, on threads made for that: it is system calls and one program.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use protocol::attachment::Attachment;
use protocol::ids::{SandboxId, SessionId};
use protocol::sandbox_host::{GUEST_BIN, HostReport, Limits, REPOSITORY_MOUNT};

use super::config::{Refusal, Trying};
use super::place::Place;
use super::probe;
use super::record::{Init, Record};
use crate::bundle::{Bind, BundleSpec, config};
use crate::cgroups;
use crate::images::Images;
use crate::mounts;
use crate::process;
use crate::runtime::Runtime;
use crate::slots::Slots;
use crate::sockets;
use crate::userns::{self, Shift};

/// How long the kernel may take to end everything in a sandbox.
const DEATH: Duration = Duration::from_secs(20);

/// The least that lets the guest and a command live.
const LEAST: Limits = Limits { memory_bytes: 32 * 1024 * 1024, cpu_millis: 10, pids: 8 };

/// Sockets and files that one process may have open; less when our own limit is lower.
const OPEN_FILES: u64 = 65_536;

/// All sandboxes of one data directory.
#[derive(Debug)]
pub(crate) struct Sandboxes {
    pub(crate) place: Place,
    pub(crate) images: Images,
    server_uid: u32,
    server_gid: u32,
    probed: OnceLock<probe::Probed>,
    busy: Mutex<HashMap<SandboxId, Arc<Mutex<()>>>>,
    /// Ended lately. Who gives a creation up asks for the end while the creation is still on its
    /// way here: it must not be made after that, with nobody left who knows of it.
    ended: Mutex<HashSet<SandboxId>>,
}

/// How many ended ones are remembered: far more than creations can be on their way.
const ENDED: usize = 4096;

impl Sandboxes {
    /// Takes over what an earlier `sandbox-host` left: the living stay, the dead are removed.
    pub(crate) fn adopt(place: Place, images: Images, server_uid: u32, server_gid: u32) -> Self {
        let (probed, busy, ended) = (OnceLock::new(), Mutex::default(), Mutex::default());
        let all = Self { place, images, server_uid, server_gid, probed, busy, ended };
        all.place.remove_stand_ins();
        for sandbox in all.place.sandboxes() {
            if all.living(sandbox).is_some() {
                continue;
            }
            if let Err(error) = all.destroy(sandbox) {
                tracing::warn!(%sandbox, %error, "a dead sandbox could not be removed");
            }
        }
        all
    }

    /// What this host can do.
    pub(crate) fn report(&self) -> HostReport {
        let probed = self.probed();
        HostReport {
            runtimes: probed.reports.clone(),
            limits: cgroups::probe(&format!("probe-{}", std::process::id())),
            images: self.images.list(),
        }
    }

    /// The runtimes, tried once.
    pub(crate) fn probed(&self) -> &probe::Probed {
        self.probed.get_or_init(|| probe::probe(&self.place))
    }

    /// The sandboxes that run.
    pub(crate) fn list(&self) -> Vec<Attachment> {
        let living = self.place.sandboxes().into_iter().filter_map(|sandbox| self.living(sandbox));
        living.map(|record| self.attachment(&record)).collect()
    }

    fn living(&self, sandbox: SandboxId) -> Option<Record> {
        Record::read(&self.place.home(sandbox)).filter(|record| record.init().is_some())
    }

    fn attachment(&self, record: &Record) -> Attachment {
        let Record { sandbox, session, .. } = *record;
        Attachment { session, sandbox, guest_socket: self.place.socket_name(sandbox) }
    }

    /// Makes and starts a sandbox; on failure nothing is left of it.
    pub(crate) fn create(
        &self,
        sandbox: SandboxId,
        session: SessionId,
        image: &str,
        limits: Limits,
    ) -> Result<Attachment, Refusal> {
        check(limits)?;
        let image = self.images.open(image)?;
        let runtime = self.probed().chosen.clone().map_err(Refusal::NoRuntime)?;
        let repository = self
            .place
            .repository(session, self.server_uid)
            .trying(|| format!("open the repository of {session}"))?;
        let turn = self.turn(sandbox);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ended.lock().unwrap_or_else(PoisonError::into_inner).contains(&sandbox) {
            return Err(Refusal::BadRequest(format!("{sandbox} was ended before it was made")));
        }
        let home = self.place.home(sandbox);
        match DirBuilder::new().mode(0o700).create(&home) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Refusal::BadRequest(format!("there is a sandbox {sandbox} already")));
            }
            made => made.trying(|| format!("make the folder of {sandbox}"))?,
        }
        let plan = Plan { sandbox, session, limits, image, repository, runtime };
        let outcome = self.start(&plan, &home);
        if outcome.is_err()
            && let Err(error) = self.remove(sandbox)
        {
            tracing::warn!(%sandbox, %error, "a sandbox that did not start could not be removed");
        }
        outcome
    }

    fn start(&self, plan: &Plan, home: &Path) -> Result<Attachment, Refusal> {
        let sandbox = plan.sandbox;
        let slot = self
            .place
            .slots
            .take(&self.place.home_name(sandbox))
            .trying(|| format!("find ids for {sandbox}"))?;
        let (session, name) = (plan.session, plan.runtime.name().to_owned());
        let mut record = Record { sandbox, session, slot, runtime: name, init: None };
        record.write(home).trying(|| format!("write the record of {sandbox}"))?;

        let bench = self.assemble(plan, slot, home)?;
        let (folder, name) = self.place.socket_at(sandbox);
        let listener = sockets::listen(folder, name.as_ref(), self.server_uid, self.server_gid)
            .trying(|| format!("make the socket of {sandbox}"))?;
        let spec = self.bundle(plan, slot, &bench);
        bench.write_config(&spec).trying(|| format!("write the bundle of {sandbox}"))?;
        let pid = plan.runtime.start(&sandbox.to_string(), &bench.bundle, listener.as_fd())?;
        let start_time = process::start_time(pid)
            .ok_or_else(|| Refusal::BadRequest(format!("the guest of {sandbox} ended at once")))?;
        record.init = Some(Init { pid, start_time });
        record.write(home).trying(|| format!("write the record of {sandbox}"))?;
        Ok(self.attachment(&record))
    }

    /// Mounts what the sandbox will see.
    fn assemble(&self, plan: &Plan, slot: u32, home: &Path) -> Result<Bench, Refusal> {
        let what = |part: &'static str| move || format!("mount the {part} of {}", plan.sandbox);
        let ids = Slots::range(slot);
        let (upper, work) = (home.join("upper"), home.join("work"));
        (|| {
            fs::create_dir(&work)?;
            // Its owner and mode are those of `/` inside.
            fs::create_dir(&upper)?;
            fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))?;
            chown(&upper, Some(ids.base), Some(ids.base))
        })()
        .trying(what("folders"))?;

        let bench =
            Bench::new(self.place.workbench(&plan.sandbox.to_string())).trying(what("mount points"))?;
        let all = Shift { stored: 0, seen: ids.base, count: ids.size };
        let shift = userns::with_shift(all, all).trying(what("id table"))?;
        mounts::shifted(plan.image.as_fd(), &bench.lower, shift.as_fd(), true).trying(what("image"))?;
        let [upper, work] = [upper, work].map(|path| mounts::open_path(&path));
        let (upper, work) = (upper.trying(what("overlay"))?, work.trying(what("overlay"))?);
        mounts::overlay(&bench.root, &bench.lower, upper.as_fd(), work.as_fd()).trying(what("overlay"))?;
        // The overlay has its own hold on it.
        mounts::detach(&bench.lower);

        let one = |stored| Shift { stored, seen: ids.base, count: 1 };
        let shift = userns::with_shift(one(self.server_uid), one(self.server_gid));
        let shift = shift.trying(what("id table"))?;
        mounts::shifted(plan.repository.as_fd(), &bench.repository, shift.as_fd(), false)
            .trying(what("repository"))?;
        Ok(bench)
    }

    fn bundle(&self, plan: &Plan, slot: u32, bench: &Bench) -> BundleSpec {
        let repository = bench.repository.clone();
        BundleSpec {
            root: bench.root.clone(),
            root_read_only: false,
            argv: [&format!("{GUEST_BIN}/patchyard-guest"), "init"].map(str::to_owned).to_vec(),
            ids: Slots::range(slot),
            cgroup: group(plan.sandbox),
            limits: plan.limits,
            open_files: open_files(),
            binds: vec![
                Bind { source: self.place.guest_bin(), destination: GUEST_BIN.into(), executable: true },
                Bind { source: repository, destination: REPOSITORY_MOUNT.into(), executable: false },
            ],
        }
    }

    /// Ends a sandbox and removes all of it; done also when there is none.
    pub(crate) fn destroy(&self, sandbox: SandboxId) -> Result<(), Refusal> {
        {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            if ended.len() >= ENDED {
                ended.clear();
            }
            ended.insert(sandbox);
        }
        let turn = self.turn(sandbox);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self.remove(sandbox);
        self.busy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, turn| Arc::strong_count(turn) > 1);
        outcome
    }

    fn remove(&self, sandbox: SandboxId) -> Result<(), Refusal> {
        let home = self.place.home(sandbox);
        let record = Record::read(&home);
        if let Some(init) = record.as_ref().and_then(Record::init) {
            init.kill();
            if !init.wait(DEATH) {
                let source = std::io::Error::other("it is stuck in the kernel; the host may need a restart");
                return Err(Refusal::Internal { what: format!("end {sandbox}"), source });
            }
        }
        let id = sandbox.to_string();
        let runtime =
            record.as_ref().and_then(|record| Runtime::named(&record.runtime, &self.place.runtimes));
        if let Some(runtime) = runtime {
            runtime.forget(&id);
        }
        cgroups::remove(&group(sandbox)).trying(|| format!("remove the control groups of {sandbox}"))?;
        drop(Bench::at(self.place.workbench(&id)));
        for path in [self.place.socket(sandbox), home] {
            let removed = match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&path),
                Ok(_) => fs::remove_file(&path),
                Err(_) => Ok(()),
            };
            removed.trying(|| format!("remove what is left of {sandbox}"))?;
        }
        // Last, so that nobody gets ids that something still holds.
        if let Some(record) = record {
            let holder = self.place.home_name(sandbox);
            self.place
                .slots
                .give_back(record.slot, &holder)
                .trying(|| format!("give back the ids of {sandbox}"))?;
        }
        Ok(())
    }

    /// What keeps two requests for one sandbox apart.
    fn turn(&self, sandbox: SandboxId) -> Arc<Mutex<()>> {
        Arc::clone(self.busy.lock().unwrap_or_else(PoisonError::into_inner).entry(sandbox).or_default())
    }
}

/// A sandbox to be.
struct Plan {
    sandbox: SandboxId,
    session: SessionId,
    limits: Limits,
    image: OwnedFd,
    repository: OwnedFd,
    runtime: Runtime,
}

/// Where a sandbox is assembled. Dropped, our mounts of it are gone; a container that started has its
/// own.
pub(crate) struct Bench {
    path: PathBuf,
    root: PathBuf,
    lower: PathBuf,
    repository: PathBuf,
    bundle: PathBuf,
}

impl Bench {
    fn at(path: PathBuf) -> Self {
        let [root, lower, repository, bundle] =
            ["root", "lower", "repository", "bundle"].map(|name| path.join(name));
        Self { path, root, lower, repository, bundle }
    }

    fn new(path: PathBuf) -> std::io::Result<Self> {
        let bench = Self::at(path);
        let folder = |path: &Path| {
            fs::create_dir(path)?;
            // Shifted ids pass through here on their way to what they may see.
            fs::set_permissions(path, fs::Permissions::from_mode(0o711))
        };
        for path in [&bench.path, &bench.root, &bench.lower, &bench.repository, &bench.bundle] {
            folder(path)?;
        }
        Ok(bench)
    }

    fn write_config(&self, spec: &BundleSpec) -> std::io::Result<()> {
        fs::write(self.bundle.join("config.json"), serde_json::to_vec(&config(spec))?)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for mount in [&self.root, &self.lower, &self.repository] {
            mounts::detach(mount);
            // Never with what is in it: should it still be mounted, that is the sandbox's or the image's.
            let _ = fs::remove_dir(mount);
        }
        let _ = fs::remove_dir_all(&self.bundle);
        let _ = fs::remove_dir(&self.path);
    }
}

/// The control group of a sandbox.
fn group(sandbox: SandboxId) -> String {
    format!("{}/{sandbox}", cgroups::PARENT)
}

/// As many open files as we may give.
pub(crate) fn open_files() -> u64 {
    use nix::sys::resource::{Resource, getrlimit};
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(_, hard)| hard.min(OPEN_FILES))
}

fn check(limits: Limits) -> Result<(), Refusal> {
    let low = [
        ("memory", limits.memory_bytes < LEAST.memory_bytes, LEAST.memory_bytes),
        ("cpu", limits.cpu_millis < LEAST.cpu_millis, u64::from(LEAST.cpu_millis)),
        ("pids", limits.pids < LEAST.pids, u64::from(LEAST.pids)),
    ];
    match low.into_iter().find(|(_, is_low, _)| *is_low) {
        Some((name, _, least)) => Err(Refusal::BadRequest(format!(
            "the limit `{name}` is too low for a sandbox; the least is {least}"
        ))),
        None => Ok(()),
    }
}

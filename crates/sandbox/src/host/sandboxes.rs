//! Making and ending sandboxes.
//!
//! ```text
//!   create: folder ─ ids ─ record ─ disk ─ layers, overlay, repository ─ socket ─ bundle ─ runtime ─ record
//!   attach: repository, into a sandbox that waits ─ record
//!   seal:   process 1 ─ disk free ─ kept as a layer ─ destroy
//!   destroy: process 1 ─ runtime's state ─ groups ─ socket ─ folder ─ ids        in any state of these
//! ```
//!
//! Blocking, on threads made for that: it is system calls and one program.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use protocol::attachment::Attachment;
use protocol::ids::{LayerId, SandboxId, SessionId};
use protocol::sandbox_host::{GUEST_BIN, HostReport, ImageInfo, Made, REPOSITORY_MOUNT, SavedLayer};
use protocol::sandbox_spec::{Limits, SandboxSpec, Unenforced};

use super::config::{Refusal, Trying};
use super::disks::{self, Disks};
use super::layers::Layers;
use super::place::Place;
use super::probe;
use super::record::{Init, Record};
use super::workbench::Workbench;
use crate::bundle::{Bind, BundleSpec, IdRange};
use crate::cgroups;
use crate::images::Images;
use crate::mounts::{self, Use};
use crate::process;
use crate::runtime::Runtime;
use crate::slots::Slots;
use crate::sockets;
use crate::userns::{self, Shift};

/// How long the kernel may take to end everything in a sandbox.
const DEATH: Duration = Duration::from_secs(20);

/// How long the kernel may take to write a dead sandbox's disk.
const WRITTEN: Duration = Duration::from_secs(60);

/// The least that lets the guest and a command live.
const LEAST: Limits = Limits {
    memory_bytes: 32 * 1024 * 1024,
    cpu_millis: 10,
    pids: 8,
    disk_bytes: 16 * 1024 * 1024,
    open_files: 64,
};

/// All sandboxes of one data directory.
#[derive(Debug)]
pub(crate) struct Sandboxes {
    pub(crate) place: Place,
    pub(crate) images: Images,
    layers: Layers,
    disks: Arc<Disks>,
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
        let layers = Layers::open(place.layers(), place.workbench("layers"));
        let disks = Disks::open(place.spare_disks());
        let all = Self { place, images, layers, disks, server_uid, server_gid, probed, busy, ended };
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

    /// Finds out what can be done here, and makes in advance what the first sandbox needs.
    pub(crate) fn warm_up(&self) {
        if let Err(why) = &self.probed().chosen {
            tracing::warn!(%why, "no sandbox runtime works here");
        }
        self.disks.fill(Limits::default().disk_bytes);
    }

    /// What this host can do.
    pub(crate) fn report(&self) -> HostReport {
        let probed = self.probed();
        let mut limits = probed.limits.clone();
        limits.push(self.disks.report());
        HostReport {
            tiers: probed.tiers.clone(),
            runtimes: probed.reports.clone(),
            limits,
            images: self.image_infos(),
        }
    }

    /// The images that can be used.
    pub(crate) fn image_infos(&self) -> Vec<ImageInfo> {
        self.images.infos()
    }

    /// The runtimes, tried once.
    pub(crate) fn probed(&self) -> &probe::Probed {
        self.probed.get_or_init(|| probe::probe(&self.place))
    }

    /// The sandboxes that run.
    pub(crate) fn list(&self) -> Vec<Made> {
        let living = self.place.sandboxes().into_iter().filter_map(|sandbox| self.living(sandbox));
        living.map(|record| self.made(&record)).collect()
    }

    /// The saved layers.
    pub(crate) fn saved_layers(&self) -> Vec<SavedLayer> {
        self.layers.list()
    }

    /// Removes a saved layer.
    pub(crate) fn drop_layer(&self, layer: LayerId) -> Result<(), Refusal> {
        self.layers.remove(layer).trying(|| format!("remove {layer}"))
    }

    fn living(&self, sandbox: SandboxId) -> Option<Record> {
        Record::read(&self.place.home(sandbox)).filter(|record| record.init().is_some())
    }

    fn made(&self, record: &Record) -> Made {
        let Record { sandbox, session, tier, .. } = *record;
        Made {
            attachment: Attachment { session, sandbox, guest_socket: self.place.socket_name(sandbox) },
            tier,
            runtime: record.runtime.clone(),
            limits: record.spec.limits,
            unenforced: record.unenforced.clone(),
        }
    }

    /// Makes and starts a sandbox; on failure nothing is left of it.
    pub(crate) fn create(
        &self,
        sandbox: SandboxId,
        session: Option<SessionId>,
        spec: SandboxSpec,
    ) -> Result<Made, Refusal> {
        check(spec.limits)?;
        let image = self.images.open(&spec.image)?;
        let runtime = self.probed().chosen.clone().map_err(Refusal::NoRuntime)?;
        let unenforced = self.unenforced(&spec)?;
        let layers = match spec.layer {
            Some(layer) => self.stack(layer, &spec.image)?,
            None => Vec::new(),
        };
        let repository = session.map(|session| self.repository(session)).transpose()?;
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
        let plan = Plan { sandbox, session, spec, unenforced, image, layers, repository, runtime };
        let outcome = self.start(&plan, &home);
        if outcome.is_err()
            && let Err(error) = self.remove(sandbox)
        {
            tracing::warn!(%sandbox, %error, "a sandbox that did not start could not be removed");
        }
        outcome
    }

    /// Promised limits that do not hold here; an error when they have to.
    fn unenforced(&self, spec: &SandboxSpec) -> Result<Vec<String>, Refusal> {
        let disk = self.disks.report();
        let reports = self.probed().limits.iter().chain([&disk]);
        let missing: Vec<String> = reports
            .filter(|report| !report.enforced)
            .map(|report| format!("the limit `{}` does not hold here: {}", report.name, report.note))
            .collect();
        if !missing.is_empty() && spec.unenforced == Unenforced::Refuse {
            return Err(Refusal::NoLimit(missing.join("; ")));
        }
        Ok(missing)
    }

    fn stack(&self, layer: LayerId, image: &str) -> Result<Vec<PathBuf>, Refusal> {
        let image = self.images.id(image)?;
        let found = self.layers.stack(layer, &image).trying(|| format!("mount {layer}"))?;
        found.ok_or(Refusal::NoLayer(layer))
    }

    fn repository(&self, session: SessionId) -> Result<OwnedFd, Refusal> {
        self.place.repository(session, self.server_uid).trying(|| format!("open the repository of {session}"))
    }

    fn start(&self, plan: &Plan, home: &Path) -> Result<Made, Refusal> {
        let sandbox = plan.sandbox;
        let slot = self
            .place
            .slots
            .take(&self.place.home_name(sandbox))
            .trying(|| format!("find ids for {sandbox}"))?;
        let mut record = plan.record(slot);
        record.write(home).trying(|| format!("write the record of {sandbox}"))?;

        let bench = self.assemble(plan, &mut record, home)?;
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
        Ok(self.made(&record))
    }

    /// Mounts what the sandbox will see.
    fn assemble(&self, plan: &Plan, record: &mut Record, home: &Path) -> Result<Workbench, Refusal> {
        let what = |part: &'static str| move || format!("mount the {part} of {}", plan.sandbox);
        let ids = Slots::range(record.slot);
        let disk = self.disks.take(home, plan.spec.limits.disk_bytes, record.slot).trying(what("disk"))?;
        record.disk = Some(disk.record);
        record.write(home).trying(what("record"))?;

        let bench =
            Workbench::make(self.place.workbench(&plan.sandbox.to_string())).trying(what("mount points"))?;
        let shift = whole_range(ids).trying(what("id table"))?;
        let mut lowers = Vec::new();
        (|| {
            for layer in &plan.layers {
                let point = bench.lower(lowers.len())?;
                let tree = mounts::shifted(mounts::open_path(layer)?.as_fd(), shift.as_fd(), Use::Run)?;
                mounts::attach(tree.as_fd(), &point)?;
                lowers.push(point.join("upper"));
            }
            let point = bench.lower(lowers.len())?;
            let tree = mounts::shifted(plan.image.as_fd(), shift.as_fd(), Use::Run)?;
            mounts::attach(tree.as_fd(), &point)?;
            lowers.push(point);
            mounts::shift(disk.tree.as_fd(), shift.as_fd(), Use::Write)?;
            mounts::attach(disk.tree.as_fd(), &bench.disk)?;
            let [upper, work] = ["upper", "work"].map(|name| mounts::open_path(&bench.disk.join(name)));
            mounts::overlay(&bench.root, &lowers, upper?.as_fd(), work?.as_fd(), ids.base)
        })()
        .trying(what("root file system"))?;
        bench.let_go_of_layers();
        if let Some(repository) = &plan.repository {
            let tree = self.repository_tree(repository, ids).trying(what("repository"))?;
            mounts::attach(tree.as_fd(), &bench.repository).trying(what("repository"))?;
        }
        Ok(bench)
    }

    /// A session repository as a sandbox with these ids sees it.
    fn repository_tree(&self, repository: &OwnedFd, ids: IdRange) -> std::io::Result<OwnedFd> {
        let one = |stored| Shift { stored, seen: ids.base, count: 1 };
        let shift = userns::with_shift(one(self.server_uid), one(self.server_gid))?;
        mounts::shifted(repository.as_fd(), shift.as_fd(), Use::Read)
    }

    fn bundle(&self, plan: &Plan, slot: u32, bench: &Workbench) -> BundleSpec {
        let repository =
            if plan.repository.is_some() { bench.repository.clone() } else { self.place.empty() };
        BundleSpec {
            root: bench.root.clone(),
            root_read_only: false,
            argv: [&format!("{GUEST_BIN}/patchyard-guest"), "init"].map(str::to_owned).to_vec(),
            ids: Slots::range(slot),
            cgroup: group(plan.sandbox),
            limits: Limits { open_files: plan.spec.limits.open_files.min(open_files()), ..plan.spec.limits },
            unified_cgroups: cgroups::is_unified(),
            binds: vec![
                Bind { source: self.place.guest_bin(), destination: GUEST_BIN.into(), executable: true },
                Bind { source: repository, destination: REPOSITORY_MOUNT.into(), executable: false },
            ],
        }
    }

    /// Gives a sandbox that waits to a session.
    pub(crate) fn attach(&self, sandbox: SandboxId, session: SessionId) -> Result<(), Refusal> {
        let repository = self.repository(session)?;
        let turn = self.turn(sandbox);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let living = self.living(sandbox).and_then(|record| Some((record.init()?, record)));
        let (init, mut record) =
            living.ok_or_else(|| Refusal::BadRequest(format!("no sandbox {sandbox} runs")))?;
        if let Some(other) = record.session {
            return Err(Refusal::BadRequest(format!("{sandbox} belongs to {other} already")));
        }
        // Written first: should we die in between, nobody else gets it.
        record.session = Some(session);
        let home = self.place.home(sandbox);
        record.write(&home).trying(|| format!("write the record of {sandbox}"))?;
        self.repository_tree(&repository, Slots::range(record.slot))
            .and_then(|tree| mounts::attach_inside(tree, init.as_fd(), Path::new(REPOSITORY_MOUNT)))
            .trying(|| format!("mount the repository of {session} in {sandbox}"))
    }

    /// Ends a sandbox and keeps what it wrote as a layer.
    pub(crate) fn seal(&self, sandbox: SandboxId, layer: LayerId) -> Result<SavedLayer, Refusal> {
        let turn = self.turn(sandbox);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let home = self.place.home(sandbox);
        let record = Record::read(&home);
        let (record, disk) = record
            .and_then(|record| record.disk.map(|disk| (record, disk)))
            .ok_or_else(|| Refusal::BadRequest(format!("there is no sandbox {sandbox}")))?;
        end(&record)?;
        if let Some(device) = disk.device
            && !disks::wait_until_free(device, &sandbox.to_string(), WRITTEN)
        {
            let source = std::io::Error::other("its disk is still in use");
            return Err(Refusal::Internal { what: format!("keep what {sandbox} wrote"), source });
        }
        let kept = self.images.id(&record.spec.image).map_err(Refusal::from).and_then(|image| {
            let below = record.spec.layer;
            let kept = self.layers.keep(layer, &home, disk, below, &image);
            kept.trying(|| format!("keep what {sandbox} wrote"))
        });
        self.remove(sandbox)?;
        kept
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
        record.as_ref().map_or(Ok(()), end)?;
        let id = sandbox.to_string();
        let runtime =
            record.as_ref().and_then(|record| Runtime::named(&record.runtime, &self.place.runtimes));
        if let Some(runtime) = runtime {
            runtime.forget(&id);
        }
        cgroups::remove(&group(sandbox)).trying(|| format!("remove the control groups of {sandbox}"))?;
        drop(Workbench::at(self.place.workbench(&id)));
        match fs::remove_file(self.place.socket(sandbox)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).trying(|| format!("remove the socket of {sandbox}"));
            }
            _ => {}
        }
        if home.exists() {
            disks::remove(&home);
        }
        if home.exists() {
            let source = std::io::Error::other("files are left");
            return Err(Refusal::Internal { what: format!("remove the folder of {sandbox}"), source });
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

/// A sandbox to be, with all that it needs.
struct Plan {
    sandbox: SandboxId,
    session: Option<SessionId>,
    spec: SandboxSpec,
    unenforced: Vec<String>,
    image: OwnedFd,
    layers: Vec<PathBuf>,
    repository: Option<OwnedFd>,
    runtime: Runtime,
}

impl Plan {
    fn record(&self, slot: u32) -> Record {
        Record {
            sandbox: self.sandbox,
            session: self.session,
            spec: self.spec.clone(),
            tier: self.runtime.tier(),
            unenforced: self.unenforced.clone(),
            slot,
            runtime: self.runtime.name().to_owned(),
            disk: None,
            init: None,
        }
    }
}

/// Kills process 1 and all with it, and waits for the end.
fn end(record: &Record) -> Result<(), Refusal> {
    let Some(init) = record.init() else { return Ok(()) };
    init.kill();
    if init.wait(DEATH) {
        return Ok(());
    }
    let source = std::io::Error::other("it is stuck in the kernel; the host may need a restart");
    Err(Refusal::Internal { what: format!("end {}", record.sandbox), source })
}

/// The table that moves stored ids, from 0, to a sandbox's own.
fn whole_range(ids: IdRange) -> std::io::Result<OwnedFd> {
    let all = Shift { stored: 0, seen: ids.base, count: ids.size };
    userns::with_shift(all, all)
}

/// The control group of a sandbox.
fn group(sandbox: SandboxId) -> String {
    format!("{}/{sandbox}", cgroups::PARENT)
}

/// As many open files as we may give one process.
pub(crate) fn open_files() -> u64 {
    use nix::sys::resource::{Resource, getrlimit};
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(_, hard)| hard)
}

fn check(limits: Limits) -> Result<(), Refusal> {
    let low = [
        ("memory", limits.memory_bytes < LEAST.memory_bytes, LEAST.memory_bytes),
        ("cpu", limits.cpu_millis < LEAST.cpu_millis, u64::from(LEAST.cpu_millis)),
        ("pids", limits.pids < LEAST.pids, u64::from(LEAST.pids)),
        ("disk", limits.disk_bytes < LEAST.disk_bytes, LEAST.disk_bytes),
        ("open_files", limits.open_files < LEAST.open_files, LEAST.open_files),
    ];
    match low.into_iter().find(|(_, is_low, _)| *is_low) {
        Some((name, _, least)) => Err(Refusal::BadRequest(format!(
            "the limit `{name}` is too low for a sandbox; the least is {least}"
        ))),
        None => Ok(()),
    }
}

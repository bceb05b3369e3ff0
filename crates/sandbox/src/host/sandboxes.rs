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
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use protocol::attachment::Attachment;
use protocol::ids::{LayerId, SandboxId, SessionId};
use protocol::sandbox_host::{HostReport, LimitReport, Made, REPOSITORY_MOUNT, SavedLayer};
use protocol::sandbox_spec::{Limits, SandboxSpec, Tier, TierRequest, Unenforced};

use super::config::{Refusal, Trying};
use super::disks::{self, Disks};
use super::known_images::KnownImages;
use super::layers::{Layers, Lower};
use super::place::Place;
use super::plan::Plan;
use super::probe::{self, Runtimes};
use super::record::{Init, Record, slots_of};
use super::rights::Rights;
use super::workbench::Workbench;
use crate::cgroups;
use crate::mounts;
use crate::process;
use crate::runtime::Runtime;
use crate::sockets;

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
    pub(crate) images: KnownImages,
    layers: Layers,
    pub(super) disks: Arc<Disks>,
    pub(super) server_uid: u32,
    pub(super) server_gid: u32,
    runtimes: Runtimes,
    /// Limits of control groups, tried once.
    limits: OnceLock<Vec<LimitReport>>,
    /// Held while a copy of a tree is made that several sandboxes may stand on.
    pub(super) copying: Mutex<()>,
    busy: Mutex<HashMap<SandboxId, Arc<Mutex<()>>>>,
    /// Ended lately. Who gives a creation up asks for the end while the creation is still on its
    /// way here: it must not be made after that, with nobody left who knows of it.
    ended: Mutex<HashSet<SandboxId>>,
}

/// How many ended ones are remembered: far more than creations can be on their way.
const ENDED: usize = 4096;

impl Sandboxes {
    /// Takes over what an earlier `sandbox-host` left: the living stay, the dead are removed.
    pub(crate) fn adopt(place: Place, images: KnownImages, server_uid: u32, server_gid: u32) -> Self {
        let (busy, ended, copying) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (runtimes, limits) = (Runtimes::new(), OnceLock::new());
        let layers = Layers::open(place.layers(), place.workbench("layers"));
        let disks = Disks::open(place.spare_disks());
        let all = Self {
            place,
            images,
            layers,
            disks,
            server_uid,
            server_gid,
            runtimes,
            limits,
            copying,
            busy,
            ended,
        };
        probe::forget_trials(&all.place);
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
        if let Err(why) = self.runtimes.choose(&self.place, TierRequest::default()) {
            tracing::warn!(%why, "no sandbox runtime works here");
        }
        self.limits();
        self.disks.fill(Limits::default().disk_bytes);
        self.images.infos();
    }

    /// What this host can do.
    pub(crate) fn report(&self, bench: bool) -> HostReport {
        HostReport {
            tiers: self.runtimes.tiers(&self.place, bench),
            runtimes: self.runtimes.reports(&self.place),
            limits: self.limits().iter().cloned().chain([self.disk_limit()]).chain(self.room()).collect(),
            images: self.images.infos(),
        }
    }

    fn limits(&self) -> &[LimitReport] {
        self.limits.get_or_init(|| probe::limits(&self.place))
    }

    fn disk_limit(&self) -> LimitReport {
        let mut report = self.disks.report();
        if !report.enforced && self.place.rights.user_id().is_some() {
            report.note += "; quotas and loop devices are for a sandbox-host that was started as root";
        }
        report
    }

    /// How many sandboxes there can be at a time, where that is little.
    fn room(&self) -> Option<LimitReport> {
        let (room, more) = self.place.slots.room()?;
        let note = format!("this user has room for {room} sandboxes at a time; for more, as root: {more}");
        Some(LimitReport { name: "ids".into(), enforced: true, note })
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

    pub(super) fn living(&self, sandbox: SandboxId) -> Option<Record> {
        Record::read(&self.place.home(sandbox)).filter(|record| record.init().is_some())
    }

    fn made(&self, record: &Record) -> Made {
        let Record { sandbox, session, tier, .. } = *record;
        // One that was made by us; otherwise the guest has its own, which only we can reach.
        let guest_socket = Some(self.place.socket(sandbox)).filter(|socket| socket.exists());
        let guest_socket = guest_socket.map(|_| self.place.socket_name(sandbox));
        Made {
            attachment: Attachment { session, sandbox, guest_socket },
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
        let settings = self.images.all.config(&spec.image)?;
        let runtime = self.runtimes.choose(&self.place, spec.tier).map_err(|why_not| match spec.tier {
            TierRequest::AtLeast(Tier::Container) => Refusal::NoRuntime(why_not),
            request => Refusal::NoTier { request, why_not },
        })?;
        if session.is_none() && !runtime.kind().can_wait {
            let why = format!("a sandbox of {} cannot wait for its session", runtime.name());
            return Err(Refusal::BadRequest(why));
        }
        if session.is_none() {
            let scarce = self.place.slots.are_scarce(slots_of(&spec)).trying(|| "look for ids".into())?;
            if scarce {
                let why = "the last ids are for a sandbox with a session, not for one that waits";
                return Err(Refusal::BadRequest(why.into()));
            }
        }
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
        // Only now: the folder keeps the image's tree from being removed.
        let outcome = self.images.all.open_for(&spec.image, &self.place.home_name(sandbox));
        let outcome = outcome.map_err(Refusal::from).and_then(|image| {
            let plan =
                Plan { sandbox, session, spec, unenforced, image, settings, layers, repository, runtime };
            self.start(&plan, &home)
        });
        if outcome.is_err()
            && let Err(error) = self.remove(sandbox)
        {
            tracing::warn!(%sandbox, %error, "a sandbox that did not start could not be removed");
        }
        outcome
    }

    /// Promised limits that do not hold here; an error when they have to.
    fn unenforced(&self, spec: &SandboxSpec) -> Result<Vec<String>, Refusal> {
        let disk = self.disk_limit();
        let reports = self.limits().iter().chain([&disk]);
        let missing: Vec<String> = reports
            .filter(|report| !report.enforced)
            .map(|report| format!("the limit `{}` does not hold here: {}", report.name, report.note))
            .collect();
        if !missing.is_empty() && spec.unenforced == Unenforced::Refuse {
            return Err(Refusal::NoLimit(missing.join("; ")));
        }
        Ok(missing)
    }

    fn stack(&self, layer: LayerId, image: &str) -> Result<Vec<Lower>, Refusal> {
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
            .take(&self.place.home_name(sandbox), plan.slots())
            .trying(|| format!("find ids for {sandbox}"))?;
        let holder = self.place.home_name(sandbox);
        let Some(ids) = self.place.slots.range(slot, plan.slots()) else {
            let _ = self.place.slots.give_back(slot, plan.slots(), &holder);
            return Err(Refusal::BadRequest(format!("the ids for {sandbox} are gone")));
        };
        let mut record = plan.record(slot, ids);
        record.write(home).trying(|| format!("write the record of {sandbox}"))?;

        let bench = self.assemble(plan, &mut record, home)?;
        let listener = plan.runtime.kind().passes_socket.then(|| {
            let (folder, name) = self.place.socket_at(sandbox);
            sockets::listen(folder, name.as_ref(), self.server_uid, self.server_gid)
                .trying(|| format!("make the socket of {sandbox}"))
        });
        let listener = listener.transpose()?;
        let spec = self.bundle(plan, record.ids, &bench);
        bench.write_config(&spec).trying(|| format!("write the bundle of {sandbox}"))?;
        let pid =
            plan.runtime.start(&sandbox.to_string(), &bench.bundle, listener.as_ref().map(AsFd::as_fd))?;
        let start_time = process::start_time(pid)
            .ok_or_else(|| Refusal::BadRequest(format!("the guest of {sandbox} ended at once")))?;
        record.init = Some(Init { pid, start_time });
        record.write(home).trying(|| format!("write the record of {sandbox}"))?;
        // A runtime without root may go on where it could not put the sandbox under its limits.
        if let Some(group) = spec.group.filter(|_| self.place.rights.user_id().is_some())
            && !cgroups::holds(&group.path, pid)
        {
            return Err(Refusal::NoLimit(format!("{sandbox} is not in its control group {}", group.path)));
        }
        Ok(self.made(&record))
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
        self.repository_tree(sandbox, &repository, record.ids)
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
        let kept = self.images.id(&record.spec.image).and_then(|image| {
            let below = record.spec.layer;
            let root = if self.place.rights == Rights::Root { 0 } else { record.ids.base };
            let kept = self.layers.keep(layer, &home, disk, below, &image, root);
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
        if let Some(parent) = &self.place.runtimes.groups {
            let group = parent.below(&id);
            cgroups::remove(&group.path).trying(|| format!("remove the control groups of {sandbox}"))?;
        }
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
        if let Err(error) = self.images.all.release(&self.place.home_name(sandbox)) {
            tracing::debug!(%sandbox, %error, "an image was not told of the end");
        }
        // Last, so that nobody gets ids that something still holds.
        if let Some(record) = record {
            let holder = self.place.home_name(sandbox);
            self.place
                .slots
                .give_back(record.slot, record.slots(), &holder)
                .trying(|| format!("give back the ids of {sandbox}"))?;
        }
        Ok(())
    }

    /// What keeps two requests for one sandbox apart.
    pub(super) fn turn(&self, sandbox: SandboxId) -> Arc<Mutex<()>> {
        Arc::clone(self.busy.lock().unwrap_or_else(PoisonError::into_inner).entry(sandbox).or_default())
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

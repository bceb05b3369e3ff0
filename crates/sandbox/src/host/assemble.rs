//! What a sandbox will see, put together.
//!
//! ```text
//!                   as root: shifted = a mount that moves ids
//!                   else:    shifted = a copy with moved owners, one per tree and range of ids
//!
//!   disk ─ shifted ─▶ upper, work ──┐
//!   layers, image ─ shifted ────────┴▶ root ─┐
//!   session repository ─ shifted ────────────┴▶ bundle: what the runtime reads
//! ```

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use protocol::ids::SandboxId;
use protocol::sandbox_host::{ATTACHMENT_MOUNT, DOORS_MOUNT, GUEST_BIN, REPOSITORY_MOUNT};
use protocol::sandbox_spec::Limits;

use super::config::{Refusal, Trying};
use super::disks;
use super::plan::{GUEST_SOCKET, Plan};
use super::record::Record;
use super::rights::Rights;
use super::sandboxes::Sandboxes;
use super::workbench::Workbench;
use crate::bundle::{Access, Bind, BundleSpec, IdRange};
use crate::cgroups;
use crate::mounts::{self, Notes, Use};
use crate::shifted_copy::{self, Owners};
use crate::userns::{self, Shift};

impl Sandboxes {
    /// Mounts what the sandbox will see.
    pub(super) fn assemble(
        &self,
        plan: &Plan,
        record: &mut Record,
        home: &Path,
    ) -> Result<Workbench, Refusal> {
        let what = |part: &'static str| move || format!("mount the {part} of {}", plan.sandbox);
        let ids = record.ids;
        let disk = self.disks.take(home, plan.spec.limits.disk_bytes, record.slot).trying(what("disk"))?;
        record.disk = Some(disk.record);
        record.write(home).trying(what("record"))?;

        let bench =
            Workbench::make(self.place.workbench(&plan.sandbox.to_string())).trying(what("mount points"))?;
        let by_mount = self.place.rights == Rights::Root;
        let shift = by_mount.then(|| whole_range(ids)).transpose().trying(what("id table"))?;
        let shift = shift.as_ref().map(AsFd::as_fd);
        (|| {
            let mut lowers = Vec::new();
            for layer in &plan.layers {
                let point = bench.lower(lowers.len())?;
                let tree = mounts::open_path(&layer.tree)?;
                let tree = if by_mount { tree } else { self.own_copy(tree, layer.root, "layer", ids)? };
                mounts::attach(mounts::shifted(tree.as_fd(), shift, Use::Run)?.as_fd(), &point)?;
                lowers.push(point.join("upper"));
            }
            let point = bench.lower(lowers.len())?;
            let copy = if by_mount { None } else { Some(self.own_copy_of_image(plan, ids)?) };
            let tree = copy.as_ref().unwrap_or(&plan.image);
            mounts::attach(mounts::shifted(tree.as_fd(), shift, Use::Run)?.as_fd(), &point)?;
            lowers.push(point);
            mounts::shift(disk.tree.as_fd(), shift, Use::Write)?;
            mounts::attach(disk.tree.as_fd(), &bench.disk)?;
            if !by_mount {
                for name in ["upper", "work", "upper/etc", "upper/etc/resolv.conf"] {
                    chown(bench.disk.join(name), Some(ids.base), Some(ids.base))?;
                }
            }
            let [upper, work] = ["upper", "work"].map(|name| mounts::open_path(&bench.disk.join(name)));
            let attachment = mounts::tree(&bench.disk.join(disks::ATTACHMENT))?;
            mounts::attach(attachment.as_fd(), &bench.attachment)?;
            // The guest makes its socket there as its root.
            chown(&bench.attachment, Some(ids.base), Some(ids.base))?;
            let notes = if by_mount { Notes::Trusted } else { Notes::User };
            let written = [upper?, work?];
            let written = [written[0].as_fd(), written[1].as_fd()];
            mounts::overlay(&bench.root, &lowers, written, ids.base, plan.spec.nested, notes)
        })()
        .trying(what("root file system"))?;
        bench.let_go_of_layers();
        if plan.runtime.kind().own_stack {
            doors(&doors_of(home), &bench.doors).trying(what("doors"))?;
        }
        if let Some(repository) = &plan.repository {
            let tree = self.repository_tree(plan.sandbox, repository, ids).trying(what("repository"))?;
            mounts::attach(tree.as_fd(), &bench.repository).trying(what("repository"))?;
        }
        Ok(bench)
    }

    /// The image with the owners that these ids make of them.
    fn own_copy_of_image(&self, plan: &Plan, ids: IdRange) -> io::Result<OwnedFd> {
        let id = self.images.id(&plan.spec.image).map_err(|refusal| io::Error::other(refusal.to_string()))?;
        let digits: String = id.rsplit(':').next().unwrap_or_default().chars().take(16).collect();
        self.own_copy(plan.image.try_clone()?, 0, &digits, ids)
    }

    /// A tree with owners from `stored` on, as these ids: itself, or the copy beside it.
    fn own_copy(&self, tree: OwnedFd, stored: u32, content: &str, ids: IdRange) -> io::Result<OwnedFd> {
        if stored == ids.base {
            return Ok(tree);
        }
        let _one = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!(".as-{}-{}-{content}", ids.base, ids.size);
        shifted_copy::beside(tree.as_fd(), &name, Owners::Moved { stored, to: ids })
    }

    /// A session repository as a sandbox with these ids sees it. Who is not root of the machine can only
    /// give it a copy, of the moment.
    pub(super) fn repository_tree(
        &self,
        sandbox: SandboxId,
        repository: &OwnedFd,
        ids: IdRange,
    ) -> io::Result<OwnedFd> {
        if self.place.rights != Rights::Root {
            let copy = self.place.home(sandbox).join("repository");
            shifted_copy::copy(&mounts::path_of(repository), &copy, Owners::All(ids.base))?;
            return mounts::shifted(mounts::open_path(&copy)?.as_fd(), None, Use::Read);
        }
        let one = |stored| Shift { stored, seen: ids.base, count: 1 };
        let shift = userns::with_shift(one(self.server_uid), one(self.server_gid))?;
        mounts::shifted(repository.as_fd(), Some(shift.as_fd()), Use::Read)
    }

    pub(super) fn bundle(&self, plan: &Plan, ids: IdRange, bench: &Workbench) -> BundleSpec {
        let repository =
            if plan.repository.is_some() { bench.repository.clone() } else { self.place.empty() };
        let (own, per_process) = plan.runtime.kind().tasks;
        let mut argv = vec![format!("{GUEST_BIN}/patchyard-guest"), "init".to_owned()];
        let mut binds = vec![
            Bind { source: self.place.guest_bin(), destination: GUEST_BIN.into(), access: Access::Run },
            Bind { source: repository, destination: REPOSITORY_MOUNT.into(), access: Access::Read },
        ];
        if plan.spec.nested {
            argv.push("--nested".to_owned());
        }
        if !plan.runtime.kind().passes_socket {
            argv.extend(["--bind".to_owned(), format!("{ATTACHMENT_MOUNT}/{GUEST_SOCKET}")]);
            let source = bench.attachment.clone();
            binds.push(Bind { source, destination: ATTACHMENT_MOUNT.into(), access: Access::Write });
        }
        if plan.runtime.kind().own_stack {
            argv.extend(["--doors".to_owned(), DOORS_MOUNT.to_owned()]);
            let source = bench.doors.clone();
            binds.push(Bind { source, destination: DOORS_MOUNT.into(), access: Access::Read });
        }
        BundleSpec {
            root: bench.root.clone(),
            root_read_only: false,
            argv,
            ids,
            group: self.place.runtimes.groups.as_ref().map(|parent| parent.below(&plan.sandbox.to_string())),
            limits: Limits {
                open_files: plan.spec.limits.open_files.min(open_files()),
                pids: plan.spec.limits.pids.saturating_mul(per_process).saturating_add(own),
                ..plan.spec.limits
            },
            unified_cgroups: cgroups::is_unified(),
            nested: plan.spec.nested,
            environment: plan.settings.environment.clone().into_iter().collect(),
            errors: plan.runtime.kind().errors,
            binds,
        }
    }
}

/// The folder for the sockets of a sandbox's doors, in that of the sandbox.
pub(super) fn doors_of(home: &Path) -> PathBuf {
    home.join("doors")
}

/// Makes that folder and mounts it. Its owner stays outside: inside it can be searched, and that is all.
fn doors(folder: &Path, point: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(folder)?;
    mounts::attach(mounts::tree(folder)?.as_fd(), point)
}

/// The table that moves stored ids, from 0, to a sandbox's own.
fn whole_range(ids: IdRange) -> std::io::Result<OwnedFd> {
    let all = Shift { stored: 0, seen: ids.base, count: ids.size };
    userns::with_shift(all, all)
}

/// As many open files as we may give one process.
fn open_files() -> u64 {
    use nix::sys::resource::{Resource, getrlimit};
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(_, hard)| hard)
}

//! What a sandbox will see, put together.
//!
//! ```text
//!   disk ─ shifted ─▶ upper, work ──┐
//!   layers, image ─ shifted ────────┴▶ root ─┐
//!   session repository ─ shifted ────────────┴▶ bundle: what the runtime reads
//! ```

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use protocol::sandbox_host::{ATTACHMENT_MOUNT, GUEST_BIN, REPOSITORY_MOUNT};
use protocol::sandbox_spec::Limits;

use super::config::{Refusal, Trying};
use super::disks;
use super::plan::{GUEST_SOCKET, Plan};
use super::record::Record;
use super::sandboxes::{Sandboxes, group};
use super::workbench::Workbench;
use crate::bundle::{Access, Bind, BundleSpec, IdRange};
use crate::cgroups;
use crate::mounts::{self, Use};
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
        let ids = record.range();
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
            let attachment = mounts::tree(&bench.disk.join(disks::ATTACHMENT))?;
            mounts::attach(attachment.as_fd(), &bench.attachment)?;
            // The guest makes its socket there as its root.
            std::os::unix::fs::chown(&bench.attachment, Some(ids.base), Some(ids.base))?;
            mounts::overlay(&bench.root, &lowers, upper?.as_fd(), work?.as_fd(), ids.base, plan.spec.nested)
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
    pub(super) fn repository_tree(&self, repository: &OwnedFd, ids: IdRange) -> std::io::Result<OwnedFd> {
        let one = |stored| Shift { stored, seen: ids.base, count: 1 };
        let shift = userns::with_shift(one(self.server_uid), one(self.server_gid))?;
        mounts::shifted(repository.as_fd(), shift.as_fd(), Use::Read)
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
        BundleSpec {
            root: bench.root.clone(),
            root_read_only: false,
            argv,
            ids,
            cgroup: group(plan.sandbox),
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

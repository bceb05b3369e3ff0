//! Which runtime works here: found by running one.

use std::fs;
use std::io;
use std::path::Path;

use protocol::sandbox_host::{GUEST_BIN, LimitReport, RuntimeReport, TierReport};
use protocol::sandbox_spec::{Limits, Tier};

use super::place::Place;
use crate::bundle::{Bind, BundleSpec, config};
use crate::cgroups;
use crate::runtime::{KINDS, PINNED, Runtime};
use crate::slots::Slots;

/// What a throw-away container may use.
const SMALL: Limits =
    Limits { memory_bytes: 64 * 1024 * 1024, cpu_millis: 1_000, pids: 32, disk_bytes: 0, open_files: 64 };

/// What trying gave.
#[derive(Debug)]
pub(crate) struct Probed {
    /// The runtime to use, or why there is none.
    pub(crate) chosen: Result<Runtime, String>,
    /// What became of each.
    pub(crate) reports: Vec<RuntimeReport>,
    /// Each tier.
    pub(crate) tiers: Vec<TierReport>,
    /// Limits of control groups.
    pub(crate) limits: Vec<LimitReport>,
}

/// Tries every runtime; the first that works is chosen.
pub(crate) fn probe(place: &Place) -> Probed {
    let pinned = std::env::var(PINNED).ok().filter(|name| !name.is_empty());
    let mut chosen = None;
    let mut reports = Vec::new();
    for kind in KINDS {
        let found = Runtime::find(kind, &place.runtimes);
        let version = found.as_ref().and_then(Runtime::version);
        let outcome = match found {
            _ if pinned.as_deref().is_some_and(|name| name != kind.name) => {
                Err(format!("{PINNED} names another one; unset it to try this one"))
            }
            None => Err(format!("it is not installed; install it: apt-get install {}", kind.name)),
            Some(runtime) => attempt(place, &runtime).map(|()| runtime),
        };
        let (runtime, why_not) = match outcome {
            Ok(runtime) => (Some(runtime), None),
            Err(why_not) => (None, Some(why_not)),
        };
        let is_chosen = chosen.is_none() && runtime.is_some();
        if is_chosen {
            chosen = runtime;
        }
        reports.push(RuntimeReport {
            name: kind.name.to_owned(),
            tier: kind.tier,
            version,
            chosen: is_chosen,
            why_not,
        });
    }
    let reasons = reports.iter().filter_map(|report: &RuntimeReport| {
        report.why_not.as_ref().map(|why_not| format!("{}: {why_not}", report.name))
    });
    let none = match pinned {
        Some(name) if !KINDS.iter().any(|kind| kind.name == name) => {
            format!("{PINNED} names `{name}`, which is not known; known are crun and runc")
        }
        _ => reasons.collect::<Vec<_>>().join("; "),
    };
    let limits = cgroups::probe(&format!("probe-{}", std::process::id()));
    Probed {
        chosen: chosen.ok_or(none),
        tiers: Tier::ALL.map(|tier| tier_report(tier, &reports)).to_vec(),
        reports,
        limits,
    }
}

fn tier_report(tier: Tier, runtimes: &[RuntimeReport]) -> TierReport {
    let of_tier = || runtimes.iter().filter(|runtime| runtime.tier == tier);
    let runtime = of_tier().find(|runtime| runtime.why_not.is_none()).map(|runtime| runtime.name.clone());
    let reasons: Vec<_> = of_tier()
        .filter_map(|runtime| Some(format!("{}: {}", runtime.name, runtime.why_not.as_ref()?)))
        .collect();
    let why_not = match (&runtime, reasons.is_empty()) {
        (Some(_), _) => None,
        (None, true) => Some("no runtime of this version gives it".to_owned()),
        (None, false) => Some(reasons.join("; ")),
    };
    TierReport { tier, runtime, why_not, lacks: Vec::new(), start_ms: Vec::new() }
}

/// Runs a container that holds nothing but the guest program, which only says its version.
fn attempt(place: &Place, runtime: &Runtime) -> Result<(), String> {
    if !place.has_guest {
        return Err("this build is without the guest program; run scripts/build-guest and build again".into());
    }
    let name = format!("probe-{}-{}", runtime.name(), std::process::id());
    let bench = place.workbench(&name);
    let outcome = container(place, runtime, &name, &bench);
    runtime.forget(&name);
    let _ = cgroups::remove(&group(&name));
    let _ = fs::remove_dir_all(&bench);
    outcome
}

fn container(place: &Place, runtime: &Runtime, name: &str, bench: &Path) -> Result<(), String> {
    let prepared = |error: io::Error| format!("its bundle could not be prepared: {error}");
    let root = bench.join("root");
    fs::create_dir_all(&root).map_err(prepared)?;
    let holder = place.stand_in(name).map_err(prepared)?;
    let slot = place.slots.take(&holder).map_err(prepared)?;
    let outcome = (|| {
        let ids = Slots::range(slot);
        for path in ["proc", "dev", "sys", "run", "run/patchyard", "run/patchyard/bin"] {
            fs::create_dir(root.join(path)).map_err(prepared)?;
            std::os::unix::fs::chown(root.join(path), Some(ids.base), Some(ids.base)).map_err(prepared)?;
        }
        std::os::unix::fs::chown(&root, Some(ids.base), Some(ids.base)).map_err(prepared)?;
        let spec = BundleSpec {
            root: root.clone(),
            root_read_only: true,
            argv: [&format!("{GUEST_BIN}/patchyard-guest"), "version"].map(str::to_owned).to_vec(),
            ids,
            cgroup: group(name),
            limits: SMALL,
            unified_cgroups: cgroups::is_unified(),
            binds: vec![Bind { source: place.guest_bin(), destination: GUEST_BIN.into(), executable: true }],
        };
        let text = serde_json::to_vec(&config(&spec)).map_err(io::Error::from).map_err(prepared)?;
        fs::write(bench.join("config.json"), text).map_err(prepared)?;
        runtime
            .run(name, bench)
            .map_err(|error| format!("{error}; update it or the kernel, or use the other one by {PINNED}"))
    })();
    let _ = place.slots.give_back(slot, &holder);
    let _ = fs::remove_dir(&holder);
    outcome
}

fn group(name: &str) -> String {
    format!("{}/{name}", cgroups::PARENT)
}

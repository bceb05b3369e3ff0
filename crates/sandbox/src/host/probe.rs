//! Which runtimes work here: found by running each.
//!
//! ```text
//!   a sandbox of some tier is asked for ─▶ tiers that will do, the weakest first
//!        └─▶ runtimes of that tier, in order ─▶ tried once ─▶ the first that works
//! ```
//!
//! What is being tried has a folder by its name for so long: who is killed meanwhile leaves a container or
//! a group to a successor, who finds the name there and takes them away.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

use protocol::sandbox_host::{GUEST_BIN, LimitReport, RuntimeReport, TierReport};
use protocol::sandbox_spec::{Limits, Tier, TierRequest};

use super::place::Place;
use crate::bundle::{Access, Bind, BundleSpec, IdRange, config};
use crate::cgroups;
use crate::runtime::{KINDS, Kind, PINNED, Runtime};

/// What a throw-away container may use.
const SMALL: Limits =
    Limits { memory_bytes: 256 * 1024 * 1024, cpu_millis: 1_000, pids: 256, disk_bytes: 0, open_files: 1024 };

/// How often a container is timed.
const BENCH_ROUNDS: usize = 5;

/// What trying each runtime gave, as far as it was tried.
#[derive(Debug)]
pub(crate) struct Runtimes {
    tried: Vec<OnceLock<Tried>>,
    /// The one that the operator named.
    pinned: Option<String>,
}

/// What trying one runtime gave.
#[derive(Debug)]
struct Tried {
    version: Option<String>,
    outcome: Result<Runtime, String>,
}

impl Runtimes {
    /// None tried yet.
    pub(crate) fn new() -> Self {
        let pinned = std::env::var(PINNED).ok().filter(|name| !name.is_empty());
        Self { tried: KINDS.iter().map(|_| OnceLock::new()).collect(), pinned }
    }

    /// The runtime for a sandbox of these tiers, or why there is none.
    pub(crate) fn choose(&self, place: &Place, request: TierRequest) -> Result<Runtime, String> {
        let tiers = Tier::ALL.into_iter().filter(|tier| request.accepts(*tier));
        let mut reasons = Vec::new();
        for tier in tiers {
            match self.of_tier(place, tier) {
                Ok(runtime) => return Ok(runtime),
                Err(why_not) => reasons.push(format!("tier {tier}: {why_not}")),
            }
        }
        Err(reasons.join("; "))
    }

    /// The first runtime of a tier that works.
    fn of_tier(&self, place: &Place, tier: Tier) -> Result<Runtime, String> {
        if let Some(pinned) = &self.pinned
            && !KINDS.iter().any(|kind| kind.name == pinned)
        {
            let known: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
            return Err(format!(
                "{PINNED} names `{pinned}`, which is not known; known are {}",
                known.join(", ")
            ));
        }
        let mut reasons = Vec::new();
        for (kind, tried) in KINDS.iter().zip(&self.tried).filter(|(kind, _)| kind.tier == tier) {
            match &self.attempt(place, kind, tried).outcome {
                Ok(runtime) => return Ok(runtime.clone()),
                Err(why_not) => reasons.push(format!("{}: {why_not}", kind.name)),
            }
        }
        if reasons.is_empty() {
            return Err("no runtime of this version of patchyard gives it".to_owned());
        }
        Err(reasons.join("; "))
    }

    /// All of them, tried.
    pub(crate) fn reports(&self, place: &Place) -> Vec<RuntimeReport> {
        let mut reports: Vec<RuntimeReport> = Vec::new();
        for (kind, tried) in KINDS.iter().zip(&self.tried) {
            let Tried { version, outcome } = self.attempt(place, kind, tried);
            let is_first = !reports.iter().any(|report| report.chosen && report.tier == kind.tier);
            reports.push(RuntimeReport {
                name: kind.name.to_owned(),
                tier: kind.tier,
                version: version.clone(),
                chosen: outcome.is_ok() && is_first,
                why_not: outcome.as_ref().err().cloned(),
            });
        }
        reports
    }

    /// Each tier, with the runtime that gives it.
    pub(crate) fn tiers(&self, place: &Place, bench: bool) -> Vec<TierReport> {
        let report = |tier| {
            let (runtime, why_not) = match self.of_tier(place, tier) {
                Ok(runtime) => (Some(runtime), None),
                Err(why_not) => (None, Some(why_not)),
            };
            let start_ms = runtime.as_ref().filter(|_| bench).map(|runtime| time(place, runtime));
            TierReport {
                tier,
                runtime: runtime.map(|runtime| runtime.name().to_owned()),
                why_not,
                lacks: lacks(tier),
                start_ms: start_ms.unwrap_or_default(),
            }
        };
        Tier::ALL.map(report).to_vec()
    }

    fn attempt<'a>(&self, place: &Place, kind: &'static Kind, tried: &'a OnceLock<Tried>) -> &'a Tried {
        tried.get_or_init(|| {
            let found = Runtime::find(kind, &place.runtimes);
            let version = found.as_ref().and_then(Runtime::version);
            let outcome = match (found, kind.package) {
                _ if self.pinned.as_deref().is_some_and(|name| name != kind.name) => {
                    Err(format!("{PINNED} names another one; unset it to try this one"))
                }
                (None, Some(package)) => {
                    Err(format!("it is not installed; install it: apt-get install {package}"))
                }
                (None, None) => Err("it is not installed".to_owned()),
                (Some(runtime), _) => attempt(place, &runtime).map(|()| runtime),
            };
            Tried { version, outcome }
        })
    }
}

/// How long a throw-away container takes, a few times over: milliseconds, ascending.
fn time(place: &Place, runtime: &Runtime) -> Vec<f64> {
    let once = |_| {
        let begun = Instant::now();
        attempt(place, runtime).ok().map(|()| begun.elapsed().as_secs_f64() * 1000.0)
    };
    let mut times: Vec<f64> = (0..BENCH_ROUNDS).filter_map(once).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// Limits that a tier does not enforce as the kernel does.
fn lacks(tier: Tier) -> Vec<String> {
    match tier {
        Tier::Gvisor => vec![
            "pids: what is limited are the tasks of gVisor's own kernel, some for each process; when the limit is \
             reached the sandbox may end"
                .into(),
            "memory: when the limit is reached the whole sandbox may end, not only the process that asked for more"
                .into(),
        ],
        Tier::Container | Tier::Vm => Vec::new(),
    }
}

/// Runs a container that holds nothing but the guest program, which tries what a sandbox has to refuse.
fn attempt(place: &Place, runtime: &Runtime) -> Result<(), String> {
    if !place.has_guest {
        return Err("this build is without the guest program; run scripts/build-guest and build again".into());
    }
    let name = format!("probe-{}-{}", runtime.name(), std::process::id());
    let holder = place.begin_trial(&name).map_err(prepared)?;
    let bench = place.workbench(&name);
    let outcome = container(place, runtime, &name, &bench, &holder);
    runtime.forget(&name);
    remove_group(place, &name);
    let _ = fs::remove_dir_all(&bench);
    place.end_trial(&name);
    outcome
}

/// Takes away what a killed predecessor left of what it was trying.
pub(crate) fn forget_trials(place: &Place) {
    for name in place.trials() {
        let runtimes = KINDS.iter().filter_map(|kind| Runtime::find(kind, &place.runtimes));
        runtimes.for_each(|runtime| runtime.forget(&name));
        remove_group(place, &name);
        place.end_trial(&name);
    }
}

fn prepared(error: io::Error) -> String {
    format!("its bundle could not be prepared: {error}")
}

fn remove_group(place: &Place, name: &str) {
    if let Some(parent) = &place.runtimes.groups {
        let _ = cgroups::remove(&parent.below(name).path);
    }
}

/// Tries which limits of control groups hold.
pub(crate) fn limits(place: &Place) -> Vec<LimitReport> {
    let Some(parent) = &place.runtimes.groups else { return cgroups::not_delegated() };
    let name = format!("probe-limits-{}", std::process::id());
    // Without it a group could be left for good, which is no reason to know less.
    let _ = place.begin_trial(&name);
    let reports = cgroups::probe(&parent.path, &name);
    place.end_trial(&name);
    reports
}

fn container(
    place: &Place,
    runtime: &Runtime,
    name: &str,
    bench: &Path,
    holder: &Path,
) -> Result<(), String> {
    fs::create_dir_all(bench.join("root")).map_err(prepared)?;
    let Some(ids) = place.slots.trial() else {
        let slot = place.slots.take(holder, 1).map_err(prepared)?;
        let no_range = || prepared(io::Error::other("its range of ids is gone"));
        let ids = place.slots.range(slot, 1).ok_or_else(no_range);
        let outcome = ids.and_then(|ids| run(place, runtime, name, bench, ids));
        let _ = place.slots.give_back(slot, 1, holder);
        return outcome;
    };
    run(place, runtime, name, bench, ids)
}

fn run(place: &Place, runtime: &Runtime, name: &str, bench: &Path, ids: IdRange) -> Result<(), String> {
    let root = bench.join("root");
    for path in ["proc", "dev", "sys", "run", "run/patchyard", "run/patchyard/bin"] {
        fs::create_dir(root.join(path)).map_err(prepared)?;
        std::os::unix::fs::chown(root.join(path), Some(ids.base), Some(ids.base)).map_err(prepared)?;
    }
    std::os::unix::fs::chown(&root, Some(ids.base), Some(ids.base)).map_err(prepared)?;
    let spec = BundleSpec {
        root: root.clone(),
        root_read_only: true,
        argv: [&format!("{GUEST_BIN}/patchyard-guest"), "prove"].map(str::to_owned).to_vec(),
        ids,
        group: place.runtimes.groups.as_ref().map(|parent| parent.below(name)),
        limits: SMALL,
        unified_cgroups: cgroups::is_unified(),
        nested: false,
        environment: Vec::new(),
        errors: runtime.kind().errors,
        binds: vec![Bind { source: place.guest_bin(), destination: GUEST_BIN.into(), access: Access::Run }],
    };
    let text = serde_json::to_vec(&config(&spec)).map_err(io::Error::from).map_err(prepared)?;
    fs::write(bench.join("config.json"), text).map_err(prepared)?;
    runtime
        .run(name, bench)
        .map_err(|error| format!("{error}; update it or the kernel, or use the other one by {PINNED}"))
}

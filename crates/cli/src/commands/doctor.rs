//! `patchyard doctor`: what works on this machine, what does not, and how to mend it.
//!
//! Runtimes are judged by starting a throw-away sandbox with each, never by looking at files.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use protocol::sandbox_host::{HostReport, TierReport};
use sandbox::client::SandboxHost;
use serde::Serialize;

use crate::args::Doctor;
use crate::connection::variable;
use crate::error::Failure;
use crate::output::{json, line};

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    ok: bool,
    /// Whether sessions work without it.
    needed: bool,
    /// What was found, or what to do.
    note: String,
}

pub(crate) async fn run(doctor: Doctor) -> Result<ExitCode, Failure> {
    let mut checks = vec![git().await, guest(), model(), local()];
    match probe(doctor.bench).await {
        Ok(report) => add_report(&mut checks, &report),
        Err(reason) => {
            checks.push(Check { name: "sandboxes".into(), ok: false, needed: true, note: reason });
        }
    }
    let ok = checks.iter().all(|check| check.ok || !check.needed);
    if doctor.json {
        json(&serde_json::json!({ "ok": ok, "checks": checks }));
    } else {
        for check in &checks {
            let mark = if check.ok {
                "✓"
            } else if check.needed {
                "✗"
            } else {
                "·"
            };
            line(&format!("{mark} {:<18} {}", check.name, check.note));
        }
        line(if ok {
            "sessions work on this machine"
        } else {
            "sessions do not work yet: mend what is marked ✗"
        });
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn git() -> Check {
    let output = tokio::process::Command::new("git").arg("--version").output().await;
    let version = output.ok().filter(|output| output.status.success()).map(|output| {
        String::from_utf8_lossy(&output.stdout).trim().trim_start_matches("git version ").to_owned()
    });
    let is_new = version.as_deref().is_some_and(|version| {
        let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (2, 37)
    });
    let note = match &version {
        Some(version) if is_new => version.clone(),
        Some(version) => format!("{version} is too old; install git 2.37 or newer"),
        None => "not found; install git 2.37 or newer".into(),
    };
    Check { name: "git".into(), ok: is_new, needed: true, note }
}

fn guest() -> Check {
    let size = sandbox::guest_binary().map(<[u8]>::len);
    let note = match size {
        Some(size) => format!("built in, {} KB", size / 1000),
        None => "this binary was built without the guest; build it with `make build`".into(),
    };
    Check { name: "guest".into(), ok: size.is_some(), needed: true, note }
}

fn model() -> Check {
    let key = variable("ANTHROPIC_API_KEY").or_else(|| variable("ANTHROPIC_AUTH_TOKEN"));
    let note = if key.is_some() {
        "a key is set in this environment"
    } else {
        "no key in this environment; set ANTHROPIC_API_KEY for `serve`. `demo` plays a scripted model without"
    };
    Check { name: "model key".into(), ok: key.is_some(), needed: false, note: note.into() }
}

/// `patchyard sandbox`, by doing it; sessions do not need it.
fn local() -> Check {
    let tried = std::env::current_exe().and_then(|program| {
        let folder = tempfile::tempdir()?;
        let mut command = std::process::Command::new(program);
        command.args(["sandbox", "--", "true"]).stdin(Stdio::null()).current_dir(folder.path()).output()
    });
    let note = match &tried {
        Ok(output) if output.status.success() => "works here, by bubblewrap, without network".into(),
        Ok(output) => String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().into(),
        Err(error) => error.to_string(),
    };
    let ok = tried.is_ok_and(|output| output.status.success());
    Check { name: "patchyard sandbox".into(), ok, needed: false, note }
}

/// What gives a tier, what it takes, and what it lacks.
fn tier(report: &TierReport) -> Check {
    let mut note = match (&report.runtime, &report.why_not) {
        (Some(runtime), _) => format!("by {runtime}"),
        (None, why_not) => why_not.clone().unwrap_or_default(),
    };
    let times = &report.start_ms;
    if let (Some(least), Some(most)) = (times.first(), times.last()) {
        let median = times[times.len() / 2];
        note += &format!("; a throw-away container takes {median:.1} ms ({least:.1} to {most:.1})");
    }
    for lack in report.lacks.iter().filter(|_| report.runtime.is_some()) {
        note += &format!("; {lack}");
    }
    Check { name: format!("tier {}", report.tier), ok: report.runtime.is_some(), needed: false, note }
}

/// What a host says of itself. One without the rights for sandboxes has tried no tier, and says of each
/// runtime what is missing: that is told once.
fn add_report(checks: &mut Vec<Check>, report: &HostReport) {
    let is_powerless = report.tiers.is_empty();
    for runtime in &report.runtimes {
        let version = runtime.version.clone().unwrap_or_else(|| "not found".into());
        let note = match (&runtime.why_not, runtime.chosen) {
            (Some(_), _) if is_powerless => "not tried, for want of what sandboxes need".into(),
            (Some(why_not), _) => format!("{version}: {why_not}"),
            (None, true) => format!("{version}, used"),
            (None, false) => format!("{version}, works"),
        };
        checks.push(Check { name: runtime.name.clone(), ok: runtime.why_not.is_none(), needed: false, note });
    }
    checks.extend(report.tiers.iter().map(tier));
    let chosen = report.runtimes.iter().find(|runtime| runtime.chosen);
    let missing = report.runtimes.iter().find_map(|runtime| runtime.why_not.clone()).filter(|_| is_powerless);
    let note = match (chosen, missing) {
        (Some(runtime), _) => format!("by {}, proven by starting one", runtime.name),
        (None, Some(missing)) => missing,
        (None, None) => "no runtime works here; install crun or runc: apt-get install crun".into(),
    };
    checks.push(Check { name: "sandboxes".into(), ok: chosen.is_some(), needed: true, note });
    for limit in &report.limits {
        checks.push(Check {
            name: format!("limit {}", limit.name),
            ok: limit.enforced,
            needed: false,
            note: limit.note.clone(),
        });
    }
    let note = if report.images.is_empty() {
        "none; run scripts/setup as root, or `patchyard image import slim PATH` or `image pull` as who runs `serve`"
            .into()
    } else {
        report.images.iter().map(|image| image.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    checks.push(Check { name: "images".into(), ok: !report.images.is_empty(), needed: true, note });
}

/// Asks a `sandbox-host` of our own, on a data directory that goes away again.
async fn probe(bench: bool) -> Result<HostReport, String> {
    let dir = tempfile::Builder::new()
        .prefix("patchyard-doctor-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .map_err(|error| error.to_string())?;
    let socket = dir.path().join("sandbox-host.sock");
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let ids = (nix::unistd::geteuid().to_string(), nix::unistd::getegid().to_string());
    let mut child = tokio::process::Command::new(program)
        .args(["internal", "sandbox-host", "--server-uid", &ids.0, "--server-gid", &ids.1, "--data"])
        .arg(dir.path())
        .arg("--socket")
        .arg(&socket)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    let report = ask(&socket, bench).await;
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
    }
    let _ = tokio::time::timeout(Duration::from_secs(10), child.wait()).await;
    report
}

async fn ask(socket: &Path, bench: bool) -> Result<HostReport, String> {
    SandboxHost::connect(socket).probe(bench).await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_for_sandboxes_is_told_once() {
        let runtime = |name: &str| protocol::sandbox_host::RuntimeReport {
            name: name.into(),
            tier: protocol::sandbox_spec::Tier::Container,
            version: None,
            chosen: false,
            why_not: Some("no ids; give some".into()),
        };
        let report = HostReport { runtimes: vec![runtime("crun"), runtime("runc")], ..HostReport::default() };
        let mut checks = Vec::new();
        add_report(&mut checks, &report);
        assert!(checks.iter().all(|check| !check.ok));
        let told: Vec<_> = checks.iter().filter(|check| check.note == "no ids; give some").collect();
        assert_eq!(told.iter().map(|check| &*check.name).collect::<Vec<_>>(), ["sandboxes"]);
        assert!(checks[0].name == "crun" && checks[0].note.contains("not tried"), "{checks:?}");
    }
}

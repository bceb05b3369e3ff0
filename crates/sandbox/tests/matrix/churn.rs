//! Sandboxes come and go while `sandbox-host` is killed in the middle of it: nothing is left.
//!
//! ```text
//!   create ─▶ a command ─▶ destroy        again and again; every so often, at a random moment of one of
//!      ▲                                  these, kill -9 and a new sandbox-host
//!      └───────┘
//! ```
//!
//! `PATCHYARD_CHURN` says how many; `make test-churn` runs a thousand.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use protocol::ids::SandboxId;

use crate::field::Ground;
use crate::world::{Setting, World, is_root, limits, run, sandbox_id, shell, slim, tree};

/// Cycles where nobody says how many.
const FEW: u64 = 30;

/// `sandbox-host` is killed in each so-many-th.
const KILLED: u64 = 20;

#[tokio::test]
async fn l03_a_churn_of_crun_with_killed_hosts_leaves_nothing() {
    if is_root() {
        churn(Ground::Crun, cycles()).await;
    }
}

#[tokio::test]
async fn l03_a_churn_of_gvisor_with_killed_hosts_leaves_nothing() {
    if is_root() {
        churn(Ground::Gvisor, cycles() / 10).await;
    }
}

fn cycles() -> u64 {
    std::env::var("PATCHYARD_CHURN").ok().and_then(|count| count.parse().ok()).unwrap_or(FEW)
}

/// A number that nobody can foresee.
fn random(below: u64) -> u64 {
    let text = fs::read("/proc/sys/kernel/random/uuid").unwrap();
    text.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte))) % below
}

async fn churn(ground: Ground, cycles: u64) {
    let mut world = World::with(Setting { runtime: Some(ground.runtime()), ..Setting::default() });
    let session = world.session();
    let mut all = BTreeSet::new();
    // The first one may take what a host needs for good.
    cycle(&world, session, &mut all).await;
    let (mut kills, mut broken) = (0, 0);
    for number in 1..=cycles {
        if number % KILLED != KILLED / 2 && !(cycles < KILLED && number == 1) {
            assert!(cycle(&world, session, &mut all).await, "cycle {number} without a kill");
            continue;
        }
        let (host, sandbox) = (world.host.clone(), sandbox_id());
        all.insert(sandbox);
        let working = tokio::spawn(async move {
            let made = host.create(sandbox, Some(session), slim(limits())).await;
            host.destroy(sandbox).await.unwrap();
            made.is_ok()
        });
        tokio::time::sleep(Duration::from_millis(random(150))).await;
        world.kill_host();
        world.start_host();
        kills += 1;
        broken += u32::from(!working.await.unwrap());
    }
    println!("{ground:?}: {cycles} cycles, {kills} kills, {broken} of them in the middle of a creation");
    assert!(kills > 0);
    for made in world.host.list().await.unwrap() {
        world.host.destroy(made.attachment.sandbox).await.unwrap();
    }
    // What is being made in advance by the last one goes with the next.
    world.kill_host();
    world.start_host();
    assert!(world.host.list().await.unwrap().is_empty());
    // The living one may be trying a disk just now.
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let left = left(&world, &all);
        if left.is_empty() {
            break;
        }
        assert!(Instant::now() < until, "left: {left:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One sandbox from beginning to end; whether it could be made.
async fn cycle(world: &World, session: protocol::ids::SessionId, all: &mut BTreeSet<SandboxId>) -> bool {
    let sandbox = sandbox_id();
    all.insert(sandbox);
    let Ok(made) = world.host.create(sandbox, Some(session), slim(limits())).await else { return false };
    let link = world.host.link(&made).await.unwrap();
    assert!(
        run(&link, shell("echo x >/root/x; (setsid sleep 1000 >/dev/null 2>&1 &)")).await.end.is_success()
    );
    world.host.destroy(sandbox).await.unwrap();
    true
}

/// Everything anywhere on the host that names one of these sandboxes, and every disk in their data
/// directory but those that the living host keeps ready.
fn left(world: &World, all: &BTreeSet<SandboxId>) -> BTreeSet<String> {
    let data = world.data.path();
    let ready = format!("/spare-{}-", world.host_pid());
    let ids: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
    let disk = data.join("workspaces").display().to_string();
    let names = |text: &str| {
        text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'))
            .any(|word| ids.contains(word))
    };
    let mut left = BTreeSet::new();
    for place in [data, Path::new("/run/patchyard")] {
        let paths = tree(place).into_iter().map(|path| path.display().to_string());
        left.extend(paths.filter(|path| names(path)));
    }
    for controller in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let groups = fs::read_dir(controller.path().join("patchyard")).into_iter().flatten().flatten();
        left.extend(groups.map(|group| group.path().display().to_string()).filter(|path| names(path)));
    }
    for slot in fs::read_dir("/run/patchyard/ids").into_iter().flatten().flatten() {
        let holder = fs::read_to_string(slot.path()).unwrap_or_default();
        left.extend(names(&holder).then(|| format!("slot {holder}")));
    }
    // Processes and the mounts of every namespace that one is in.
    let mut namespaces = BTreeSet::new();
    for process in fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()) {
        let text = |file: &str| {
            String::from_utf8_lossy(&fs::read(process.join(file)).unwrap_or_default()).into_owned()
        };
        for file in ["cmdline", "cgroup"] {
            left.extend(names(&text(file)).then(|| process.join(file).display().to_string()));
        }
        if fs::metadata(process.join("ns/mnt")).is_ok_and(|namespace| namespaces.insert(namespace.ino())) {
            let mounts = text("mountinfo");
            left.extend(mounts.lines().filter(|line| names(line)).map(str::to_owned));
        }
    }
    let loops = Command::new("losetup")
        .args(["--all", "--noheadings", "--output", "NAME,BACK-FILE"])
        .output()
        .unwrap();
    let loops = String::from_utf8_lossy(&loops.stdout).into_owned();
    let of_nobody = |line: &&str| line.contains(&disk) && !line.contains(&ready);
    left.extend(loops.lines().filter(of_nobody).map(str::to_owned));
    left
}

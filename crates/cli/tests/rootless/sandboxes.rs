//! The life of an ordinary user's sandboxes.

use std::os::unix::fs::MetadataExt as _;

use protocol::ids::LayerId;
use protocol::sandbox_host::REPOSITORY_MOUNT;
use protocol::sandbox_spec::{Tier, Unenforced};
use sandbox::client::SandboxHostError;
use ulid::Ulid;

use crate::inside::{World, said, sh, spec};
use crate::outside::{DELEGATED, Given, USUAL, as_ordinary_user, has_unified_groups};

#[test]
fn a_sandbox_of_namespaces_lives_on_while_its_host_dies() {
    as_ordinary_user("sandboxes::inner_life_of_namespaces", Given::ids(2 * USUAL));
}

#[test]
fn a_sandbox_of_gvisor_lives_on_while_its_host_dies() {
    as_ordinary_user("sandboxes::inner_life_of_gvisor", Given::ids(2 * USUAL));
}

#[test]
fn without_ids_left_the_next_one_is_refused_with_the_way_to_get_more() {
    as_ordinary_user("sandboxes::inner_ids_run_out", Given::ids(USUAL));
}

#[test]
fn a_sandbox_that_waits_is_given_to_a_session_and_a_layer_serves_other_ids() {
    as_ordinary_user("sandboxes::inner_waiting_and_layers", Given::ids(3 * USUAL));
}

#[test]
fn a_sandbox_is_in_the_control_group_that_was_delegated() {
    if !has_unified_groups() {
        eprintln!("SKIPPED: this machine has no control groups of version 2");
        return;
    }
    let given = Given { before: DELEGATED, ..Given::ids(2 * USUAL) };
    as_ordinary_user("sandboxes::inner_delegated", given);
}

/// What is true in every sandbox of an ordinary user.
const INSIDE: &str = r#"set -eu
test "$(id -u):$(id -g)" = 0:0
for path in / /etc /root /usr/bin/git; do test "$(stat -c %u:%g $path)" = 0:0; done
touch /etc/mine; test "$(stat -c %u:%g /etc/mine)" = 0:0
touch /root/theirs; chown 1000:65534 /root/theirs; test "$(stat -c %u:%g /root/theirs)" = 1000:65534
test "$(ls /sys/class/net 2>/dev/null || echo lo)" = lo
test "$(awk 'NR > 2 { print $1 }' /proc/net/dev)" = lo:
"#;

/// Makes processes until there are no more.
const BOMB: &str = "
import os, signal
made = 0
try:
    while made < 5000:
        if os.fork() == 0: signal.pause()
        made += 1
except BlockingIOError: pass
print(made, flush=True)
os._exit(0)";

async fn life(tier: Tier) {
    let mut world = World::start();
    assert!(said(&["image", "list", "--data", world.data.to_str().unwrap()]).starts_with("slim "));
    let made = world.make(Some(world.session()), spec(tier)).await;
    assert_eq!(made.tier, tier);
    let unenforced = made.unenforced.join("\n");
    for limit in ["memory", "pids", "cpu", "disk"] {
        assert!(unenforced.contains(&format!("the limit `{limit}` does not hold here")), "{unenforced}");
    }
    let link = world.link(&made).await;
    sh(&link, INSIDE).await;
    sh(&link, &format!("set -eu; git clone -q --shared {REPOSITORY_MOUNT} /workspace; cd /workspace
        test \"$(cat README)\" = hello; git fetch -q origin; git --git-dir={REPOSITORY_MOUNT} log -1 --format=%s
        test \"$(stat -c %u:%g {REPOSITORY_MOUNT})\" = 0:0; ! touch {REPOSITORY_MOUNT}/new 2>/dev/null")).await;
    sh(
        &link,
        "! (echo '|/bin/sh' >/proc/sys/kernel/core_pattern) 2>/dev/null; ! mount -t tmpfs x /mnt 2>/dev/null",
    )
    .await;
    // What is written lies outside with ids that are nobody's of the machine, and not the user's.
    let me = nix::unistd::geteuid().as_raw();
    let outside = world.folders()[0].join("disk/upper/etc/mine");
    let owner = std::fs::metadata(outside).unwrap().uid();
    assert!(owner >= 710_000_000, "{owner}");
    if tier == Tier::Container {
        // Without control groups a command that forks without end meets this at least.
        let made: u32 = sh(&link, &format!("python3 -c '{BOMB}'")).await.parse().unwrap();
        assert!((200..256).contains(&made), "{made} processes of one user");
        link.kill_all().await.unwrap();
        let ids = sh(&link, "cat /proc/self/uid_map /proc/self/gid_map; grep Uid /proc/1/status").await;
        assert!(ids.contains("64999") && ids.contains("65535"), "{ids}");
        assert!(!ids.contains(&me.to_string()) && !ids.contains(&owner.to_string()), "{ids}");
        let init = std::fs::read(world.folders()[0].join("state.json")).unwrap();
        let init: serde_json::Value = serde_json::from_slice(&init).unwrap();
        let map = std::fs::read_to_string(format!("/proc/{}/uid_map", init["init"]["pid"])).unwrap();
        let words: Vec<&str> = map.split_ascii_whitespace().collect();
        assert_eq!(words, ["0", &owner.to_string(), "65535"], "one run, and the user is not in it");
    }
    // Killed as nothing else can; the next one is another process, which has to find its way back.
    drop(link);
    world.kill_host();
    world.start_host();
    assert_eq!(world.host.list().await.unwrap(), std::slice::from_ref(&made));
    let link = world.link(&made).await;
    sh(&link, "test -e /etc/mine && echo more >>/etc/mine").await;
    let other = world.make(Some(world.session()), spec(tier)).await;
    sh(&world.link(&other).await, "test ! -e /etc/mine").await;
    world.host.destroy(made.attachment.sandbox).await.unwrap();
    assert_eq!(world.host.list().await.unwrap(), std::slice::from_ref(&other));
    // As if it was killed between the start of a sandbox and writing that down: the sandbox is ended.
    world.kill_host();
    let record = world.folders()[0].join("state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    state["init"] = serde_json::Value::Null;
    std::fs::write(&record, state.to_string()).unwrap();
    world.start_host();
    assert!(world.host.list().await.unwrap().is_empty() && world.folders().is_empty());
    world.end().await;
}

#[tokio::test]
#[ignore = "run by its outer half as an ordinary user"]
async fn inner_life_of_namespaces() {
    life(Tier::Container).await;
}

#[tokio::test]
#[ignore = "run by its outer half as an ordinary user"]
async fn inner_life_of_gvisor() {
    life(Tier::Gvisor).await;
}

#[tokio::test]
#[ignore = "run by its outer half as an ordinary user"]
async fn inner_ids_run_out() {
    let mut world = World::start();
    let refused = |failure: SandboxHostError| {
        let SandboxHostError::Failed { message, .. } = failure else { panic!("{failure:?}") };
        message
    };
    // A promise that does not hold is refused where that is asked for.
    let strict =
        protocol::sandbox_spec::SandboxSpec { unenforced: Unenforced::Refuse, ..spec(Tier::Container) };
    let words =
        refused(world.host.create(Ulid::generate().into(), Some(world.session()), strict).await.unwrap_err());
    assert!(words.contains("the limit `disk` does not hold here"), "{words}");
    // The only place is not for one that waits.
    let words =
        refused(world.host.create(Ulid::generate().into(), None, spec(Tier::Container)).await.unwrap_err());
    assert!(words.contains("the last ids"), "{words}");
    let made = world.make(Some(world.session()), spec(Tier::Container)).await;
    for again in [false, true] {
        if again {
            // Also one that has to find out anew what works here.
            world.kill_host();
            world.start_host();
        }
        let session = world.session();
        let failure = world
            .host
            .create(Ulid::generate().into(), Some(session), spec(Tier::Container))
            .await
            .unwrap_err();
        let words = refused(failure);
        assert!(
            words.contains("all ranges of ids are in use (this user has 1; a sandbox takes 1)"),
            "{words}"
        );
        assert!(words.contains("usermod --add-subuids") && words.ends_with(" ordinary"), "{words}");
    }
    sh(&world.link(&made).await, "true").await;
    assert_eq!(world.folders().len(), 1, "nothing is left of the refused ones");
    world.host.destroy(made.attachment.sandbox).await.unwrap();
    let next = world.make(Some(world.session()), spec(Tier::Container)).await;
    sh(&world.link(&next).await, "true").await;
    world.end().await;
}

#[tokio::test]
#[ignore = "run by its outer half as an ordinary user"]
async fn inner_waiting_and_layers() {
    let world = World::start();
    let waiting = world.make(None, spec(Tier::Container)).await;
    let link = world.link(&waiting).await;
    sh(&link, &format!("test -z \"$(ls {REPOSITORY_MOUNT})\"")).await;
    world.host.attach(waiting.attachment.sandbox, world.session()).await.unwrap();
    sh(
        &link,
        &format!(
            "set -eu; git clone -q --shared {REPOSITORY_MOUNT} /workspace
        ! touch {REPOSITORY_MOUNT}/new 2>/dev/null; rm -rf /usr/share/doc
        echo kept >/root/kept; ln /root/kept /root/again; chown 7:8 /root/kept; chmod 4755 /root/kept"
        ),
    )
    .await;
    drop(link);
    // On the same ids, then on others: the layer is as it was.
    let layer = LayerId::from(Ulid::generate());
    world.host.seal(waiting.attachment.sandbox, layer).await.unwrap();
    let on_it = || protocol::sandbox_spec::SandboxSpec { layer: Some(layer), ..spec(Tier::Container) };
    let first = world.make(Some(world.session()), on_it()).await;
    let second = world.make(Some(world.session()), on_it()).await;
    for made in [&first, &second] {
        let found = sh(
            &world.link(made).await,
            "test ! -e /usr/share/doc; cat /workspace/README
            stat -c '%u:%g %a %h' /root/kept; stat -c %u:%g /workspace /root",
        )
        .await;
        assert_eq!(found, "hello\n7:8 4755 2\n0:0\n0:0");
    }
    world.host.destroy(second.attachment.sandbox).await.unwrap();
    // One in which containers may be made has two ranges, side by side.
    let nested = protocol::sandbox_spec::SandboxSpec { nested: true, ..spec(Tier::Container) };
    let second = world.make(Some(world.session()), nested).await;
    let map = sh(&world.link(&second).await, "cat /proc/self/uid_map; unshare -U id -u").await;
    let words: Vec<&str> = map.split_ascii_whitespace().collect();
    assert_eq!((words[0], words[2], words[3]), ("0", "131070", "65534"), "{map}");
    for made in [first, second] {
        world.host.destroy(made.attachment.sandbox).await.unwrap();
    }
    world.host.drop_layer(layer).await.unwrap();
    assert!(world.host.layers().await.unwrap().is_empty());
    world.end().await;
}

#[tokio::test]
#[ignore = "run by its outer half as an ordinary user"]
async fn inner_delegated() {
    let mut world = World::start();
    let made = world.make(Some(world.session()), spec(Tier::Container)).await;
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned();
    let base = own.strip_suffix("/patchyard-host").expect("moved out of the way of the groups below");
    let folder = std::path::Path::new("/sys/fs/cgroup").join(base.trim_start_matches('/'));
    let group = folder.join("patchyard").join(made.attachment.sandbox.to_string());
    let read = |file: &str| std::fs::read_to_string(group.join(file));
    let members = |file: &str| read(file).unwrap().lines().count();
    let link = world.link(&made).await;
    sh(&link, "true").await;
    assert!(members("cgroup.procs") >= 1, "process 1 is in it");
    // A limit holds where there is its controller, and is told where there is none.
    let controllers = std::fs::read_to_string(folder.join("cgroup.controllers")).unwrap();
    let limits = spec(Tier::Container).limits;
    for (name, file, value) in [
        ("memory", "memory.max", limits.memory_bytes.to_string()),
        ("pids", "pids.max", limits.pids.to_string()),
        ("cpu", "cpu.max", "200000 100000".to_owned()),
    ] {
        let told = made.unenforced.iter().any(|words| words.contains(&format!("`{name}`")));
        let has = controllers.split_whitespace().any(|controller| controller == name);
        assert_eq!(told, !has, "{name}: {:?}", made.unenforced);
        assert!(!has || read(file).unwrap().trim() == value, "{file}");
    }
    drop(link);
    world.kill_host();
    world.start_host();
    world.host.destroy(made.attachment.sandbox).await.unwrap();
    assert!(!group.exists(), "the group is gone");
    world.end().await;
}

//! What a sandbox writes: where it ends, and how later sandboxes stand on it.

use protocol::ids::LayerId;
use protocol::sandbox_host::{HostErrorCode, REPOSITORY_MOUNT};
use protocol::sandbox_spec::{Limits, SandboxSpec};
use sandbox::client::SandboxHostError;
use sandbox::guest_link::GuestLink;

use crate::world::{World, eventually, is_root, limits, run, sandbox_id, session_id, sh, shell, slim};

fn layer_id() -> LayerId {
    // Any id that no other test has will do.
    format!("lay_{}", session_id().to_string().trim_start_matches("ses_")).parse().unwrap()
}

/// A sandbox that stands on this layer.
async fn on(world: &World, layer: LayerId) -> (protocol::ids::SandboxId, GuestLink) {
    let spec = SandboxSpec { layer: Some(layer), ..slim(limits()) };
    let made = world.host.create(sandbox_id(), Some(world.session()), spec).await.unwrap();
    let link = GuestLink::connect(&made).await.unwrap();
    (made.attachment.sandbox, link)
}

#[tokio::test]
async fn a_sandbox_stands_on_what_an_earlier_one_wrote_and_cannot_change_it() {
    if !is_root() {
        return;
    }
    let mut world = World::start();
    let (first, link) = world.sandbox().await;
    sh(
        &link,
        "mkdir -p /opt/tool && echo one >/opt/tool/a && ln /opt/tool/a /opt/tool/b && rm /etc/issue \
         && chown 1000:1000 /opt/tool && setfattr -n user.x -v y /opt/tool/a 2>/dev/null; true",
    )
    .await;
    let facts = "stat -c '%i %u %Y' /opt/tool/a; stat -c '%u %Y' /opt/tool";
    let before = sh(&link, facts).await;
    let layer = layer_id();
    let saved = world.host.seal(first.sandbox, layer).await.unwrap();
    assert!(saved.bytes > 0 && saved.bytes < 50_000_000, "{saved:?}");
    assert_eq!(world.host.layers().await.unwrap(), [saved]);
    assert!(world.attachments().await.is_empty(), "a sealed sandbox is ended");

    let (second, link) = on(&world, layer).await;
    let (_, other) = on(&world, layer).await;
    assert_eq!(sh(&link, "cat /opt/tool/b; test ! -e /etc/issue && echo gone").await, "one\ngone");
    assert_eq!(sh(&link, facts).await, before, "git's index goes by these");
    sh(&link, "echo two >/opt/tool/a && rm -r /opt/tool && mkdir /opt/more").await;
    assert_eq!(sh(&other, "cat /opt/tool/a; ls /opt").await, "one\ntool", "the layer is as it was");

    // A layer on a layer; a new sandbox-host finds both.
    let upper = layer_id();
    world.host.seal(second, upper).await.unwrap();
    world.kill_host();
    world.start_host();
    let (_, link) = on(&world, upper).await;
    assert_eq!(sh(&link, "ls /opt; test ! -e /etc/issue && echo gone").await, "more\ngone");

    let refused = world.host.drop_layer(layer).await.unwrap_err();
    assert!(refused.to_string().contains(&format!("{upper} stands on it")), "{refused}");
    world.host.drop_layer(upper).await.unwrap();
    world.host.drop_layer(layer).await.unwrap();
    world.host.drop_layer(layer).await.unwrap();
    assert!(world.host.layers().await.unwrap().is_empty());
    assert_eq!(sh(&link, "ls /opt").await, "more", "who stands on it keeps it");
    let spec = SandboxSpec { layer: Some(layer), ..slim(limits()) };
    let gone = world.host.create(sandbox_id(), Some(world.session()), spec).await.unwrap_err();
    assert!(matches!(gone, SandboxHostError::Failed { code: HostErrorCode::NoLayer, .. }), "{gone}");
}

#[tokio::test]
async fn a_waiting_sandbox_becomes_a_sessions() {
    if !is_root() {
        return;
    }
    let mut world = World::start();
    let made = world.host.create(sandbox_id(), None, slim(limits())).await.unwrap();
    let sandbox = made.attachment.sandbox;
    assert_eq!(made.attachment.session, None);
    let link = GuestLink::connect(&made).await.unwrap();
    sh(&link, &format!("test -d {REPOSITORY_MOUNT} && test ! -e {REPOSITORY_MOUNT}/HEAD")).await;
    // Also after a restart of sandbox-host.
    world.kill_host();
    world.start_host();
    let session = world.session();
    world.host.attach(sandbox, session).await.unwrap();
    assert_eq!(sh(&link, &format!("cat {REPOSITORY_MOUNT}/HEAD")).await, "ref: refs/heads/main");
    let said = run(&link, shell(&format!("echo x >{REPOSITORY_MOUNT}/HEAD"))).await;
    assert!(said.all().contains("Read-only"), "{}", said.all());
    assert_eq!(world.attachments().await[0].session, Some(session));
    let again = world.host.attach(sandbox, world.session()).await.unwrap_err();
    assert!(again.to_string().contains(&format!("belongs to {session}")), "{again}");
    let nobody = world.host.attach(sandbox_id(), session).await.unwrap_err();
    assert!(nobody.to_string().contains("no sandbox"), "{nobody}");
}

#[tokio::test]
async fn a_disk_ends_where_it_should_and_others_go_on() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let small = Limits { disk_bytes: 64 * 1024 * 1024, ..limits() };
    let (attachment, link) = world.sandbox_with(small).await;
    let (_, other) = world.sandbox().await;
    let said = run(&link, shell("dd if=/dev/zero of=/big bs=1M count=200 2>&1; stat -c %s /big")).await;
    assert!(said.out().contains("No space left on device"), "{}", said.out());
    let written: u64 = said.out().lines().last().unwrap().parse().unwrap();
    assert!((30_000_000..64 * 1024 * 1024).contains(&written), "{written}");
    // The kernel's count, from outside.
    let image = world.data.path().join(format!("workspaces/{}/disk.img", attachment.sandbox));
    let taken = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(image).unwrap()) * 512;
    assert!(taken <= 65 * 1024 * 1024, "{taken}");
    // Files without content end, too, and a file larger than the disk takes nothing.
    sh(&link, "rm /big && truncate -s 1T /sparse && rm /sparse").await;
    let many = "import os\nos.mkdir('/many')\ntry:\n  for n in range(10**6): open(f'/many/{n}','w').close()\n\
                except OSError as e: print(n, e.errno)";
    let said = crate::world::python(&link, many).await;
    let (count, errno) = said.out().split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert_eq!(errno, "28", "{}", said.all());
    assert!(count.parse::<u32>().unwrap() < 100_000, "{count}");
    sh(&other, "dd if=/dev/zero of=/mine bs=1M count=100 2>&1 && rm /mine").await;
    sh(&link, "rm -r /many && echo fits >/again").await;
}

#[tokio::test]
async fn disks_made_in_advance_are_used_and_do_not_outlive_their_maker() {
    if !is_root() {
        return;
    }
    let mut world = World::start();
    let spares = |world: &World| {
        let entries = std::fs::read_dir(world.data.path().join("workspaces")).unwrap().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("spare-")).count()
    };
    let (first, link) = world.sandbox_with(Limits::default()).await;
    eventually("spare disks", || spares(&world) == 3).await;
    let (_, second) = world.sandbox_with(Limits::default()).await;
    for link in [&link, &second] {
        sh(link, "echo x >/root/file && test $(df -B1 --output=size / | tail -1) -gt 25000000000").await;
    }
    eventually("spare disks again", || spares(&world) == 3).await;
    let of_the_dead = format!("spare-{}-", world.host_pid());
    let left = |world: &World| {
        let entries = std::fs::read_dir(world.data.path().join("workspaces")).unwrap().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&of_the_dead)).count()
    };
    world.kill_host();
    assert_eq!(left(&world), 3, "a killed one takes nothing along");
    world.start_host();
    world.host.destroy(first.sandbox).await.unwrap();
    assert_eq!(left(&world), 0);
}

//! The kinds of disks that another file system than the usual one has, each on an image of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use protocol::ids::LayerId;
use protocol::sandbox_spec::{Limits, SandboxSpec};
use sandbox::guest_link::GuestLink;
use tempfile::TempDir;

use crate::world::{Setting, World, is_root, limits, run, sandbox_id, session_id, sh, shell, slim};

/// A file system on a loop device; gone when it is dropped.
struct Mounted(TempDir);

impl Mounted {
    /// What stands in the way, where there is something: a program that is missing, a kernel without it.
    fn of(make: &[&str], options: &str) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("py-disk-").tempdir().unwrap();
        let image = folder.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(1 << 30).unwrap();
        tell(make[0], &[&make[1..], &[image.to_str().unwrap()]].concat())?;
        let mounted = Self(folder);
        std::fs::create_dir(mounted.path()).unwrap();
        let options = format!("loop{options}");
        tell("mount", &["-o", &options, image.to_str().unwrap(), mounted.path().to_str().unwrap()])?;
        Ok(mounted)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("mounted")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = tell("umount", &[self.path().to_str().unwrap()]);
    }
}

/// Runs a program; its words when it is missing or fails.
fn tell(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ")))
}

#[tokio::test]
async fn a_btrfs_disk_ends_where_it_should_and_becomes_a_layer() {
    if !is_root() {
        return;
    }
    let mounted = Mounted::of(&["mkfs.btrfs", "--quiet"], "").and_then(|mounted| {
        tell("btrfs", &["quota", "enable", mounted.path().to_str().unwrap()]).map(|_| mounted)
    });
    match mounted {
        Ok(mounted) => {
            a_disk_of_this_kind(&mounted.path(), "btrfs").await;
            let left = tell("btrfs", &["subvolume", "list", mounted.path().to_str().unwrap()]).unwrap();
            assert_eq!(left, "", "subvolumes are left");
        }
        Err(why) => eprintln!("SKIPPED: no btrfs with quotas here: {why}"),
    }
}

#[tokio::test]
async fn a_disk_by_project_quota_ends_where_it_should_and_becomes_a_layer() {
    if !is_root() {
        return;
    }
    match Mounted::of(&["mkfs.ext4", "-q", "-O", "quota,project"], ",prjquota") {
        Ok(mounted) => a_disk_of_this_kind(&mounted.path(), "project").await,
        Err(why) => eprintln!("SKIPPED: no project quotas here: {why}"),
    }
}

/// What every kind has to do.
async fn a_disk_of_this_kind(folder: &Path, kind: &'static str) {
    let mut world = World::within(folder, Setting { disk: Some(kind), ..Setting::default() });
    let small = Limits { disk_bytes: 64 * 1024 * 1024, ..limits() };
    let made = world.make(world.session(), small).await;
    assert_eq!(made.unenforced, Vec::<String>::new(), "{kind} was not taken");
    let record = world.data.path().join(format!("workspaces/{}/state.json", made.attachment.sandbox));
    let record = std::fs::read_to_string(record).unwrap();
    assert!(record.contains(&format!("\"{kind}\"")), "{record}");
    let link = GuestLink::connect(&made).await.unwrap();
    let (_, other) = world.sandbox_with(small).await;
    let said =
        run(&link, shell("dd if=/dev/zero of=/big bs=1M count=200 conv=fsync 2>&1; stat -c %s /big")).await;
    let said = said.out();
    assert!(said.contains("No space left") || said.contains("quota exceeded"), "{said}");
    let written: u64 = said.lines().last().unwrap().parse().unwrap();
    assert!((30_000_000..=64 * 1024 * 1024).contains(&written), "{written}");
    sh(&other, "dd if=/dev/zero of=/mine bs=1M count=30 conv=fsync 2>/dev/null && rm /mine").await;
    sh(&link, "rm /big && sync && truncate -s 1T /sparse && rm /sparse").await;
    sh(&link, "mkdir /opt/tool && echo one >/opt/tool/a && rm /etc/issue && chown 1000:1000 /opt/tool").await;

    // Sealed, it is a layer, also for the next sandbox-host.
    let layer: LayerId =
        format!("lay_{}", session_id().to_string().trim_start_matches("ses_")).parse().unwrap();
    world.host.seal(made.attachment.sandbox, layer).await.unwrap();
    world.kill_host();
    world.start_host();
    let spec = SandboxSpec { layer: Some(layer), ..slim(small) };
    let made = world.host.create(sandbox_id(), Some(world.session()), spec).await.unwrap();
    let link = GuestLink::connect(&made).await.unwrap();
    let facts = "cat /opt/tool/a; stat -c %u /opt/tool; test ! -e /etc/issue && echo gone";
    assert_eq!(sh(&link, facts).await, "one\n1000\ngone");
    for attachment in world.attachments().await {
        world.host.destroy(attachment.sandbox).await.unwrap();
    }
    world.host.drop_layer(layer).await.unwrap();
}

//! F: files and configuration.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use protocol::hands::{Hands, HandsError};
use protocol::ids::LayerId;
use protocol::sandbox_host::REPOSITORY_MOUNT;
use protocol::sandbox_spec::SandboxSpec;

use crate::field::Field;
use crate::world::{limits, run, sandbox_id, session_id, sh, shell, slim, tree};

rows! {
    f01_settings_that_execute_stay_in_their_sandbox,
    f02_hooks_and_configuration_of_git,
    f03_links_that_lead_out_of_a_tree,
    f04_folders_swapped_for_links_while_they_are_read,
    f05_shells_and_paths_that_shadow_tools,
    f06_setuid_programs_devices_and_pipes,
    f07_other_ways_to_the_same_file,
    f08_inherited_descriptors,
    f09_the_launcher_and_the_guest_overwritten,
    f10_protected_paths_by_their_parents_and_other_names,
    f11_links_where_mount_points_will_be,
    f12_files_of_the_host,
    f13_mounts_that_spread,
}

async fn f01_settings_that_execute_stay_in_their_sandbox(field: &mut Field) {
    let plant = "mkdir -p /root/.claude /root/w/.claude && cd /root/w \
                 && echo '{\"hooks\":{\"SessionStart\":[{\"hooks\":[{\"type\":\"command\",\"command\":\"touch /tmp/ran\"}]}]}}' \
                    | tee .claude/settings.json >/root/.claude/settings.json \
                 && echo '{\"mcpServers\":{\"x\":{\"command\":\"touch\",\"args\":[\"/tmp/ran\"]}}}' >.mcp.json \
                 && echo plan >CLAUDE.md";
    sh(&field.link, plant).await;
    let (_, other) = field.another(limits()).await;
    sh(&other, "! test -e /root/.claude && ! test -e /root/w && ! test -e /tmp/ran").await;
    // Nothing of it is anywhere the server's user could read, let alone run.
    let readable = tree(field.world.data.path()).into_iter().any(|path| path.ends_with(".mcp.json"));
    assert!(!readable);
}

/// The server's git only ever works in the session repository, which no sandbox can write.
async fn f02_hooks_and_configuration_of_git(field: &mut Field) {
    let repository =
        field.world.data.path().join("repos").join(format!("{}.git", field.made.attachment.session.unwrap()));
    let before: Vec<_> =
        tree(&repository).into_iter().map(|path| (path.clone(), fs::read(path).ok())).collect();
    let found = field
        .tried(&format!(
            "
root = '{REPOSITORY_MOUNT}'
def put(path): return attempt(lambda: open(path, 'w').write('x'))
print(put(root + '/config'), attempt(lambda: os.mkdir(root + '/hooks')), put(root + '/HEAD'))
print(attempt(lambda: os.rename(root + '/HEAD', root + '/x')), attempt(lambda: os.unlink(root + '/HEAD')))
print(attempt(lambda: os.chmod(root + '/HEAD', 0o777)), attempt(lambda: os.chown(root + '/HEAD', 0, 0)))
print(attempt(lambda: os.truncate(root + '/HEAD', 0)), attempt(lambda: os.symlink('/x', root + '/y')))
"
        ))
        .await;
    assert!(found.iter().flat_map(|line| line.split(' ')).all(|word| word == "EROFS"), "{found:?}");
    let after: Vec<_> =
        tree(&repository).into_iter().map(|path| (path.clone(), fs::read(path).ok())).collect();
    assert_eq!(before, after);
}

async fn f03_links_that_lead_out_of_a_tree(field: &mut Field) {
    let mark = field.world.data.path().join("mark");
    fs::write(&mark, "of the host").unwrap();
    let data = field.world.data.path().display();
    sh(
        &field.link,
        &format!("ln -s {data} /root/src && ln -s /proc/1/root /root/up && ln -s {data}/mark /root/f"),
    )
    .await;
    for path in ["/root/src/mark", "/root/f", &format!("/root/up{}", mark.display())] {
        // The name may come to exist inside by what is written; it is another file.
        let read = field.link.read_file(path, 0, 100).await;
        assert!(read.is_err() || read.is_ok_and(|chunk| chunk.bytes == b"changed"), "{path}");
        let _ = field.link.write_file(path, b"changed").await;
        assert_eq!(fs::read_to_string(&mark).unwrap(), "of the host");
    }
    if let Ok(entries) = field.link.list("/root/src").await {
        assert!(entries.iter().all(|entry| entry.name != "host.sock"), "{entries:?}");
    }
}

/// Reads in one run where nobody says how many (`PATCHYARD_TRIES=100000` is the row's own size).
const TRIES: usize = 10_000;

async fn f04_folders_swapped_for_links_while_they_are_read(field: &mut Field) {
    let mark = field.world.data.path().join("mark");
    fs::write(&mark, "of the host").unwrap();
    // Whole before anybody reads it.
    let folder = "mkdir -p /root/d && echo of the sandbox >/root/d/mark";
    sh(&field.link, &format!("{folder} && ln -s {} /root/l", field.world.data.path().display())).await;
    let race = "python3 -c \"
import os, time
end = time.monotonic() + 60
while time.monotonic() < end and not os.path.exists('/root/stop'):
    os.rename('/root/d', '/root/x'); os.rename('/root/l', '/root/d')
    os.rename('/root/d', '/root/l'); os.rename('/root/x', '/root/d')
\"";
    let mut racing = field.link.start(shell(race)).await.unwrap();
    let tries = std::env::var("PATCHYARD_TRIES").ok().and_then(|tries| tries.parse().ok()).unwrap_or(TRIES);
    let (mut seen, mut missed) = (0, 0);
    // Many at a time: the guest takes them one after the other, without a pause between two.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(50);
    // On a busy machine it can take a while until the race has begun, or until a read falls between two moves.
    while seen + missed < tries || ((seen == 0 || missed == 0) && std::time::Instant::now() < until) {
        let mut reads = tokio::task::JoinSet::new();
        for _ in 0..500 {
            let link = field.link.clone();
            reads.spawn(async move { link.read_file("/root/d/mark", 0, 100).await });
        }
        while let Some(read) = reads.join_next().await {
            match read.unwrap() {
                Ok(chunk) => {
                    assert_eq!(chunk.bytes, b"of the sandbox\n");
                    seen += 1;
                }
                Err(_) => missed += 1,
            }
        }
        for _ in 0..10 {
            let _ = field.link.write_file("/root/d/mark2", b"x").await;
        }
    }
    sh(&field.link, "touch /root/stop").await;
    crate::world::listen(&mut *racing).await;
    assert!(seen > 0 && missed > 0 && seen + missed >= tries, "{seen} read, {missed} missed");
    assert!(!field.world.data.path().join("mark2").exists());
}

async fn f05_shells_and_paths_that_shadow_tools(field: &mut Field) {
    let plant = "for f in /root/.bashrc /root/.profile /root/.bash_profile /etc/profile /etc/bash.bashrc /root/.zshenv; do \
                   echo 'touch /tmp/ran; export STOLEN=1' >>$f; done; \
                 echo STOLEN=1 >>/etc/environment; \
                 for t in patchyard-guest env sort; do printf '#!/bin/sh\\ntouch /tmp/ran\\n' >/usr/local/bin/$t; \
                 chmod +x /usr/local/bin/$t; done; echo /tmp/evil.so >/etc/not-preloaded";
    sh(&field.link, plant).await;
    assert_eq!(sh(&field.link, "command -v patchyard-guest").await, "/run/patchyard/bin/patchyard-guest");
    sh(&field.link, "patchyard-guest version >/dev/null").await;
    let environment = sh(&field.link, "/usr/bin/env | cut -d= -f1 | /usr/bin/sort | tr '\\n' ' '").await;
    assert_eq!(environment.trim(), "HOME LANG LOGNAME PATCHYARD_EXEC PATH PWD SHELL TERM USER");
    sh(&field.link, "! test -e /tmp/ran").await;
    // What the server runs by itself cannot be replaced.
    let write = "for f in patchyard-guest new; do ! (: >/run/patchyard/bin/$f) 2>/dev/null || exit 1; done; \
                 ! rm -f /run/patchyard/bin/patchyard-guest 2>/dev/null; ! mv /run/patchyard/bin /tmp/ 2>/dev/null";
    sh(&field.link, write).await;
}

async fn f06_setuid_programs_devices_and_pipes(field: &mut Field) {
    let plant = "cp /usr/bin/id /root/id && chmod 4755 /root/id && mkfifo /root/pipe && chown 1000 /root/id \
                 && python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('/root/sock')\"";
    sh(&field.link, plant).await;
    // No new rights by a setuid program.
    assert_eq!(sh(&field.link, "/root/id -u").await, "0");
    // Readers do not wait for who writes into a pipe.
    for path in ["/root/pipe", "/root/sock", "/dev/zero", "/dev/tty"] {
        let read =
            tokio::time::timeout(Duration::from_secs(10), field.link.read_file(path, 0, 10)).await.unwrap();
        assert!(
            matches!(
                read,
                Err(HandsError::WrongKind { .. } | HandsError::NotFound { .. } | HandsError::Io { .. })
            ),
            "{path}: {read:?}"
        );
    }
    // The host has the sandbox's disk mounted in a namespace of its own only, if at all.
    let id = field.made.attachment.sandbox.to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&id));
}

async fn f07_other_ways_to_the_same_file(field: &mut Field) {
    let data = field.world.data.path().display();
    let loader = "$(ls /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-*.so.1 2>/dev/null | head -1)";
    let ways = format!(
        "cp /bin/cat /root/c; for p in /proc/kcore /proc/kallsyms /proc/self/root/proc/kcore /proc/self/cwd/../proc/kcore; do \
           {loader} /bin/cat $p 2>/dev/null | head -c 100; /root/c $p 2>/dev/null | head -c 100; done | wc -c; \
         for r in /proc/self/root /proc/1/root /proc/self/root/proc/self/root /proc/1/cwd; do \
           test -e $r{data}/host.sock && echo found; done; true"
    );
    assert_eq!(sh(&field.link, &ways).await, "0");
}

async fn f08_inherited_descriptors(field: &mut Field) {
    let list = "python3 -c \"import os\nfor n in range(1024):\n  try: print(n, os.readlink(f'/proc/self/fd/{n}').split(':')[0])\n  except OSError: pass\"";
    let said = sh(&field.link, list).await;
    let numbers: Vec<&str> = said.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(numbers, ["0", "1", "2"], "{said}");
    // The kernel's list of what process 1 holds: nothing that lies on a file system of the host.
    if !field.has_own_kernel() {
        for entry in fs::read_dir(format!("/proc/{}/fd", field.init())).unwrap().flatten() {
            let target = fs::read_link(entry.path()).unwrap();
            let target = target.to_str().unwrap();
            let kinds = ["socket:", "pipe:", "anon_inode:", "/dev/null", "/null"];
            assert!(kinds.iter().any(|kind| target.starts_with(kind)), "{target}");
        }
    }
}

async fn f09_the_launcher_and_the_guest_overwritten(field: &mut Field) {
    let launcher = ["/usr/local/bin", "/usr/bin", "/usr/sbin"]
        .map(|folder| Path::new(folder).join(field.ground.runtime()));
    let launcher = launcher.iter().find(|path| path.exists()).unwrap();
    // Only the thread that works has it mounted.
    let threads = fs::read_dir(format!("/proc/{}/task", field.world.host_pid())).unwrap().flatten();
    let guest = threads
        .map(|thread| thread.path().join("root/run/patchyard/mnt/bin/patchyard-guest"))
        .find(|path| path.exists())
        .unwrap();
    let facts = |path: &Path| {
        let metadata = fs::metadata(path).unwrap();
        (metadata.mtime(), metadata.ctime(), metadata.len(), metadata.ino())
    };
    let (before, guest_before) = (facts(launcher), fs::read(&guest).unwrap());
    let found = field
        .tried(
            "
import subprocess
child = subprocess.Popen(['/run/patchyard/bin/patchyard-guest', 'init'], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
for path in ('/proc/1/exe', f'/proc/{child.pid}/exe', '/run/patchyard/bin/patchyard-guest'):
    print(attempt(lambda: os.open(path, os.O_WRONLY)), attempt(lambda: os.open(path, os.O_RDWR | os.O_TRUNC)))
child.kill()
# Through a handle that outlives the program, as runc was once overwritten.
handle = os.open('/run/patchyard/bin/patchyard-guest', os.O_RDONLY)
print(attempt(lambda: os.open(f'/proc/self/fd/{handle}', os.O_WRONLY)), attempt(lambda: os.fchmod(handle, 0o777)))
",
        )
        .await;
    let refused = |word: &str| ["EROFS", "ETXTBSY", "EACCES", "ENOENT", "EPERM", "ESRCH"].contains(&word);
    assert!(found.iter().flat_map(|line| line.split(' ')).all(refused), "{found:?}");
    assert_eq!((facts(launcher), fs::read(&guest).unwrap()), (before, guest_before));
}

/// Root of a sandbox may rename what is above a mount: names inside are its own. What is mounted stays
/// read-only under any name, and nothing outside goes by these names.
async fn f10_protected_paths_by_their_parents_and_other_names(field: &mut Field) {
    let found = field
        .tried(&format!(
            "
print(attempt(lambda: os.rename('{REPOSITORY_MOUNT}', '/run/x')), attempt(lambda: os.rmdir('{REPOSITORY_MOUNT}')))
print(attempt(lambda: os.link('{REPOSITORY_MOUNT}/HEAD', '/root/HEAD')), os.path.exists('/run/patchyard/REPOSITORY.GIT'))
"
        ))
        .await;
    assert_eq!(found, ["EBUSY EBUSY", "EXDEV False"]);
    let renamed = "mv /run/patchyard /run/other 2>/dev/null; p=$(ls -d /run/other/repository.git /run/patchyard/repository.git 2>/dev/null); \
                   test -n \"$p\" && ! (: >$p/HEAD) 2>/dev/null && ! rm -f $p/HEAD 2>/dev/null && cat $p/HEAD; \
                   ! test -e /run/other || mv /run/other /run/patchyard";
    assert_eq!(sh(&field.link, renamed).await, "ref: refs/heads/main");
}

async fn f11_links_where_mount_points_will_be(field: &mut Field) {
    let outside = field.world.data.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let plant = format!(
        "mv /run/patchyard /run/was || exit 0; ln -s {} /run/patchyard; \
         for n in 1 2 3 4 5 6 7 8; do up=$up../; done; mkdir -p /opt/p; ln -s ${{up}}{} /opt/p/attachment",
        outside.display(),
        outside.display()
    );
    sh(&field.link, &plant).await;
    let layer: LayerId = session_id().to_string().replace("ses_", "lay_").parse().unwrap();
    field.world.host.seal(field.made.attachment.sandbox, layer).await.unwrap();
    let spec = SandboxSpec { layer: Some(layer), ..slim(limits()) };
    let session = field.world.session();
    // Refused, or mounted where the name leads inside; never outside.
    if let Ok(made) = field.world.host.create(sandbox_id(), Some(session), spec).await {
        let link = field.world.host.link(&made).await.unwrap();
        assert_eq!(sh(&link, &format!("cat {REPOSITORY_MOUNT}/HEAD")).await, "ref: refs/heads/main");
        sh(&link, &format!("! (: >{REPOSITORY_MOUNT}/HEAD) 2>/dev/null")).await;
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", field.world.host_pid())).unwrap();
    assert!(!mounts.contains("/outside"), "{mounts}");
}

async fn f12_files_of_the_host(field: &mut Field) {
    let canary = format!("canary-{}", field.made.attachment.sandbox);
    for name in ["token", "master.key", "patchyard.db"] {
        fs::write(field.world.data.path().join(name), &canary).unwrap();
    }
    let (other, link) = field.another(limits()).await;
    sh(&link, &format!("echo {canary} >/root/secret")).await;
    let data = field.world.data.path().display();
    let absent = format!(
        "! test -e {data} && ! test -e /root/.ssh && ! test -e /var/lib/patchyard && ! test -e /run/patchyard/ids \
         && ! test -e /run/patchyard/mnt && ! test -e /root/secret && ! test -e /work && ls -A /home /mnt /media /srv"
    );
    assert_eq!(sh(&field.link, &absent).await, "/home:\n\n/media:\n\n/mnt:\n\n/srv:");
    let search = format!("grep -rlsF {canary} /etc /root /home /run /tmp /var /opt /dev/shm; true");
    assert_eq!(sh(&field.link, &search).await, "");
    let mounts = sh(&field.link, "cat /proc/self/mounts").await;
    assert!(
        !mounts.contains(&data.to_string()) && !mounts.contains(&other.attachment.sandbox.to_string()),
        "{mounts}"
    );
}

async fn f13_mounts_that_spread(field: &mut Field) {
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", field.init())).unwrap();
    assert!(!mounts.contains(" shared:"), "{mounts}");
    let host = fs::read_to_string("/proc/1/mountinfo").unwrap();
    assert!(!host.contains(&field.made.attachment.sandbox.to_string()), "{host}");
    run(
        &field.link,
        shell("mkdir -p /m && mount -t tmpfs x /m; mount --make-rshared /; mount --bind /etc /m"),
    )
    .await;
    let after = fs::read_to_string(format!("/proc/{}/mountinfo", field.init())).unwrap();
    assert_eq!(mounts.lines().count(), after.lines().count());
}

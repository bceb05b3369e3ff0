//! L: what outlives what.

use std::fs;

use protocol::hands::Hands;
use protocol::ids::LayerId;
use protocol::sandbox_host::REPOSITORY_MOUNT;

use crate::field::Field;
use crate::world::{eventually, limits, processes_with, python, run, session_id, sh, shell, tree};

rows! {
    l01_daemons_that_want_to_survive,
    l02_a_command_that_waits_for_the_end,
    l03_the_host_dies_while_it_makes_and_ends,
    l04_everything_of_a_sandbox_goes_with_it,
    l05_two_sandboxes_of_one_session,
    l06_nothing_stays_for_the_next,
}

/// What is left of a sandbox anywhere.
fn traces(field: &Field) -> Vec<String> {
    let name = field.made.attachment.sandbox.to_string();
    let mut traces = Vec::new();
    for place in [field.world.data.path(), std::path::Path::new("/run/patchyard/runtime")] {
        traces.extend(
            tree(place).iter().map(|path| path.display().to_string()).filter(|path| path.contains(&name)),
        );
    }
    for entry in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let group = entry.path().join("patchyard").join(&name);
        traces.extend(group.exists().then(|| group.display().to_string()));
    }
    for slot in fs::read_dir("/run/patchyard/ids").into_iter().flatten().flatten() {
        let is_ours = fs::read_to_string(slot.path()).is_ok_and(|holder| holder.contains(&name));
        traces.extend(is_ours.then(|| slot.path().display().to_string()));
    }
    for process in fs::read_dir("/proc").unwrap().flatten() {
        for file in ["mountinfo", "cgroup", "cmdline"] {
            let text = fs::read(process.path().join(file)).unwrap_or_default();
            let is_ours = String::from_utf8_lossy(&text).contains(&name);
            traces.extend(is_ours.then(|| process.path().join(file).display().to_string()));
        }
    }
    let devices = std::process::Command::new("losetup").arg("--all").output().unwrap();
    let devices = String::from_utf8_lossy(&devices.stdout).into_owned();
    traces.extend(devices.lines().filter(|line| line.contains(&name)).map(str::to_owned));
    traces
}

async fn l01_daemons_that_want_to_survive(field: &mut Field) {
    let daemons = "
import os, signal, sys, time
for style in range(4):
    if os.fork(): continue
    os.setsid()
    if style > 0 and os.fork(): os._exit(0)
    for number in range(1, 65):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
    os.closerange(0, 100)
    os.execve('/bin/sleep', ['sleep', '31415'], {})
";
    python(&field.link, daemons).await;
    run(
        &field.link,
        shell("nohup sleep 31415 >/dev/null 2>&1 & (setsid sleep 31415 >/dev/null 2>&1 &); true"),
    )
    .await;
    let running = sh(&field.link, "pgrep -fc 'sleep 31415' || true").await;
    assert!(running.parse::<u32>().unwrap() >= 5, "{running}");
    let processes = field.processes();
    assert!(!processes.is_empty());
    field.world.host.destroy(field.made.attachment.sandbox).await.unwrap();
    assert_eq!(traces(field), Vec::<String>::new());
    for pid in processes {
        let state = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        assert!(!state.contains("patchyard"), "{pid} lives: {state}");
    }
}

async fn l02_a_command_that_waits_for_the_end(field: &mut Field) {
    let mut waiting = field.link.start(shell("echo up; sleep 27182; touch /root/after")).await.unwrap();
    waiting.next().await.unwrap();
    if !field.has_own_kernel() {
        eventually("it shows", || !processes_with("sleep\u{0}27182").is_empty()).await;
    }
    field.world.host.destroy(field.made.attachment.sandbox).await.unwrap();
    assert!(field.has_own_kernel() || processes_with("sleep\u{0}27182").is_empty());
    assert!(waiting.next().await.is_err());
    field.link.closed().await;
}

async fn l03_the_host_dies_while_it_makes_and_ends(field: &mut Field) {
    // In the middle of a creation, wherever that is just then.
    let session = field.world.session();
    let (host, sandbox) = (field.world.host.clone(), crate::world::sandbox_id());
    let creating =
        tokio::spawn(async move { host.create(sandbox, Some(session), crate::world::slim(limits())).await });
    let folder = field.world.data.path().join(format!("workspaces/{sandbox}"));
    eventually("it is on its way", || folder.exists() || creating.is_finished()).await;
    field.world.kill_host();
    let _ = creating.await;
    field.world.start_host();
    // The old one lives, the half made one is gone or whole.
    let living = field.world.attachments().await;
    assert!(living.contains(&field.made.attachment));
    for attachment in living.iter().filter(|other| **other != field.made.attachment) {
        field.world.host.destroy(attachment.sandbox).await.unwrap();
    }
    assert!(!folder.exists());
    field.link = field.world.host.link(&field.made).await.unwrap();
    // And in the middle of an end.
    let (host, sandbox) = (field.world.host.clone(), field.made.attachment.sandbox);
    let init = field.init();
    let ending = tokio::spawn(async move { host.destroy(sandbox).await });
    let is_gone =
        || fs::read_to_string(format!("/proc/{init}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    eventually("process 1 ends", || !is_gone()).await;
    field.world.kill_host();
    field.world.start_host();
    // Asked again by itself.
    ending.await.unwrap().unwrap();
    assert_eq!(traces(field), Vec::<String>::new());
}

async fn l04_everything_of_a_sandbox_goes_with_it(field: &mut Field) {
    sh(
        &field.link,
        "mkdir -p /a/b; echo x >/a/b/c; (setsid sleep 1000 >/dev/null 2>&1 &); mknod /a/p p; chmod 000 /a/b",
    )
    .await;
    assert!(!traces(field).is_empty());
    let layer: LayerId = session_id().to_string().replace("ses_", "lay_").parse().unwrap();
    field.world.host.seal(field.made.attachment.sandbox, layer).await.unwrap();
    assert_eq!(traces(field), Vec::<String>::new());
    field.world.host.drop_layer(layer).await.unwrap();
    let left = tree(&field.world.data.path().join("layers"));
    assert!(left.is_empty(), "{left:?}");
}

async fn l05_two_sandboxes_of_one_session(field: &mut Field) {
    let session = field.made.attachment.session.unwrap();
    let made = field.world.make(session, limits()).await;
    let other = field.world.host.link(&made).await.unwrap();
    sh(
        &field.link,
        "echo s >/secret; echo s >/tmp/secret; echo s >/dev/shm/secret; ipcmk -M 100 >/dev/null 2>&1; true",
    )
    .await;
    let serve = "
import socket, time
abstract = socket.socket(socket.AF_UNIX); abstract.bind('\\0patchyard-matrix'); abstract.listen()
port = socket.create_server(('0.0.0.0', 4711))
print('up', flush=True)
time.sleep(1000)
";
    let mut spec = shell("");
    spec.argv = ["python3", "-c", serve].map(str::to_owned).to_vec();
    let mut server = field.link.start(spec).await.unwrap();
    server.next().await.unwrap();
    sh(&other, "! test -e /secret && ! test -e /tmp/secret && ! test -e /dev/shm/secret && test -z \"$(tail -n +2 /proc/sysvipc/shm)\"").await;
    assert_eq!(sh(&other, "pgrep -c python3 || true").await, "0");
    let connect = "
import socket
for make in (lambda: socket.create_connection(('127.0.0.1', 4711), 3),
             lambda: socket.socket(socket.AF_UNIX).connect('\\0patchyard-matrix')):
    try: make(); print('reached')
    except ConnectionRefusedError: print('refused')
";
    assert_eq!(python(&field.link, connect).await.out(), "reached\nreached");
    assert_eq!(python(&other, connect).await.out(), "refused\nrefused");
    sh(&other, &format!("cat {REPOSITORY_MOUNT}/HEAD")).await;
}

async fn l06_nothing_stays_for_the_next(field: &mut Field) {
    sh(&field.link, "echo x >/etc/profile.d/persist.sh; rm -r /usr/share/perl5; echo changed >>/etc/debian_version; \
                     mkdir -p /etc/cron.d && echo '* * * * * root touch /ran' >/etc/cron.d/x; echo x >/var/tmp/x").await;
    field.world.host.destroy(field.made.attachment.sandbox).await.unwrap();
    let (_, next) = field.another(limits()).await;
    sh(&next, "! test -e /etc/profile.d/persist.sh && test -e /usr/share/perl5/Git.pm && ! grep changed /etc/debian_version \
               && ! test -e /etc/cron.d/x && ! test -e /var/tmp/x").await;
}

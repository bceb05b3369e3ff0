//! Making, ending, adopting.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use protocol::hands::Hands;
use protocol::ids::SandboxId;
use protocol::sandbox_host::HostErrorCode;
use protocol::sandbox_spec::{Limits, SandboxSpec};
use sandbox::client::SandboxHostError;
use sandbox::guest_link::GuestLink;

use crate::world::{Setting, World, eventually, is_root, limits, run, sandbox_id, sh, shell, slim, tree};

/// Everything on this machine that bears the name of a sandbox.
fn traces(world: &World, sandbox: SandboxId) -> Vec<String> {
    traces_of(world, &sandbox.to_string())
}

/// Everything on this machine that bears this name.
fn traces_of(world: &World, name: &str) -> Vec<String> {
    let mut traces: Vec<String> = Vec::new();
    for place in [world.data.path(), Path::new("/run/patchyard/runtime")] {
        traces.extend(
            tree(place).iter().map(|path| path.display().to_string()).filter(|path| path.contains(name)),
        );
    }
    for tree in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let group = tree.path().join("patchyard").join(name);
        if group.exists() {
            traces.push(group.display().to_string());
        }
    }
    for slot in fs::read_dir("/run/patchyard/ids").into_iter().flatten().flatten() {
        // One whose holder's folder is gone is free; its file stays until somebody takes it.
        let held = |holder: &String| holder.contains(name) && Path::new(holder).exists();
        if fs::read_to_string(slot.path()).is_ok_and(|holder| held(&holder)) {
            traces.push(slot.path().display().to_string());
        }
    }
    for process in fs::read_dir("/proc").unwrap().flatten() {
        for file in ["mountinfo", "cgroup", "cmdline"] {
            if fs::read(process.path().join(file))
                .is_ok_and(|text| String::from_utf8_lossy(&text).contains(name))
            {
                traces.push(process.path().join(file).display().to_string());
            }
        }
    }
    traces
}

async fn comes_and_goes(runtime: &'static str) {
    let world = World::with_runtime(Some(runtime));
    let (attachment, link) = world.sandbox().await;
    assert!(run(&link, shell("true")).await.end.is_success());
    // So that there is something to leave behind.
    sh(&link, "mkdir -p /a/b; echo x >/a/b/c; (setsid sleep 1000 >/dev/null 2>&1 &)").await;
    assert!(!traces(&world, attachment.sandbox).is_empty());
    assert_eq!(world.attachments().await, std::slice::from_ref(&attachment));

    world.host.destroy(attachment.sandbox).await.unwrap();
    assert_eq!(traces(&world, attachment.sandbox), Vec::<String>::new());
    assert!(world.host.list().await.unwrap().is_empty());
    link.closed().await;
    // Once more is no failure.
    world.host.destroy(attachment.sandbox).await.unwrap();

    // Not even an ended child that nobody collects.
    let threads = fs::read_dir(format!("/proc/{}/task", world.host_pid())).unwrap().flatten();
    let children = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap());
    assert_eq!(children.collect::<String>(), "");
}

#[tokio::test]
async fn a_sandbox_of_crun_comes_and_goes_without_a_trace() {
    if is_root() {
        comes_and_goes("crun").await;
    }
}

#[tokio::test]
async fn a_sandbox_of_runc_comes_and_goes_without_a_trace() {
    if is_root() {
        comes_and_goes("runc").await;
    }
}

#[tokio::test]
async fn the_probe_tells_what_works_and_what_is_enforced() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let report = world.host.probe(false).await.unwrap();
    let chosen: Vec<&str> =
        report.runtimes.iter().filter(|runtime| runtime.chosen).map(|runtime| &*runtime.name).collect();
    assert_eq!(chosen, ["crun", "runsc"], "{report:?}");
    for runtime in report.runtimes.iter().filter(|runtime| runtime.name != "youki") {
        assert!(runtime.version.is_some() && runtime.why_not.is_none(), "{runtime:?}");
    }
    let tiers: Vec<_> = report.tiers.iter().map(|tier| tier.runtime.as_deref()).collect();
    assert_eq!(tiers, [Some("crun"), Some("runsc"), None], "{report:?}");
    assert!(report.tiers[2].why_not.is_some() && !report.tiers[1].lacks.is_empty(), "{report:?}");
    let limits: Vec<(&str, bool)> =
        report.limits.iter().map(|limit| (&*limit.name, limit.enforced)).collect();
    assert_eq!(limits, [("memory", true), ("pids", true), ("cpu", true), ("disk", true)], "{report:?}");
    assert!(report.images.iter().any(|image| image.name == "slim"));
}

/// It starts containers as it should, but for what it is told to keep from them.
const CARELESS: &str = r#"#!/usr/bin/python3
import json, os, sys
words = sys.argv[1:]
if "--bundle" in words:
    path = words[words.index("--bundle") + 1] + "/config.json"
    config = json.load(open(path))
    del config["linux"]["seccomp"]
    json.dump(config, open(path, "w"))
os.execv("/usr/bin/crun", ["crun", *words])
"#;

#[tokio::test]
async fn a_runtime_that_keeps_nothing_from_a_container_is_found_out() {
    if !is_root() {
        return;
    }
    let mut world = World::with(Setting { runtime: Some("crun"), ..Setting::default() });
    world.kill_host();
    let programs = world.data.path().join("programs");
    fs::create_dir(&programs).unwrap();
    fs::write(programs.join("crun"), CARELESS).unwrap();
    fs::set_permissions(programs.join("crun"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    world.programs = Some(programs);
    world.start_host();
    let refused = world.host.create(sandbox_id(), Some(world.session()), slim(limits())).await.unwrap_err();
    let words = refused.to_string();
    for possible in
        ["has to refuse was possible", "namespace by unshare", "namespace by clone", "terminal", "io_uring"]
    {
        assert!(words.contains(possible), "{possible}: {words}");
    }
    assert!(!words.contains("mount a file system"), "{words}");
}

#[tokio::test]
async fn an_ordinary_user_is_told_why_there_are_no_sandboxes() {
    if !is_root() {
        return;
    }
    let nobody = 65_534;
    let world = World::with(Setting { server: nobody, host_user: nobody, ..Setting::default() });
    let report = world.host.probe(false).await.unwrap();
    assert!(report.runtimes.len() > 2);
    for runtime in report.runtimes {
        assert!(!runtime.chosen && runtime.why_not.unwrap().contains("start it as root"));
    }
    let failure = world.host.create(sandbox_id(), Some(world.session()), slim(limits())).await.unwrap_err();
    assert!(matches!(failure, SandboxHostError::Failed { code: HostErrorCode::NoRuntime, .. }));
    assert!(world.host.list().await.unwrap().is_empty());
    world.host.destroy(sandbox_id()).await.unwrap();
}

#[tokio::test]
async fn only_the_servers_user_can_ask_and_reach_the_guest() {
    if !is_root() {
        return;
    }
    let (server, stranger) = (23_456, 23_457);
    let world = World::with(Setting { server, ..Setting::default() });
    let (attachment, link) = world.sandbox().await;
    assert_eq!(sh(&link, "cat /run/patchyard/repository.git/HEAD").await, "ref: refs/heads/main");
    let connects = |user: u32, path: &Path| {
        use std::os::unix::process::CommandExt;
        let program = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
                       s.sendall(b'\\1\\0\\0\\0x')\nsys.exit(0 if s.recv(1) else 1)";
        let mut command = std::process::Command::new("/usr/bin/python3");
        command.args(["-c", program]).arg(path).uid(user).gid(user).stderr(std::process::Stdio::null());
        command.status().unwrap().success()
    };
    let host = world.data.path().join("host.sock");
    fs::set_permissions(world.data.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    assert!(connects(server, &host) && !connects(stranger, &host));
    let mode = fs::metadata(attachment.guest_socket.as_deref().unwrap()).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((mode.uid(), mode.mode() & 0o777), (server, 0o600));
    // Somebody else's repository is not mounted, even if it lies where the server's would.
    let session = world.session();
    let path = world.data.path().join("repos").join(format!("{session}.git"));
    std::os::unix::fs::chown(path, Some(stranger), None).unwrap();
    assert!(world.host.create(sandbox_id(), Some(session), slim(limits())).await.is_err());
}

#[tokio::test]
async fn a_link_of_the_server_in_place_of_the_run_folder_changes_nothing_of_roots() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    if !is_root() {
        return;
    }
    let mut world = World::with(Setting { server: 23_456, ..Setting::default() });
    world.host.list().await.unwrap();
    world.kill_host();
    let victim = tempfile::tempdir().unwrap();
    fs::set_permissions(victim.path(), fs::Permissions::from_mode(0o750)).unwrap();
    let (run, kept) = (world.data.path().join("run"), world.data.path().join("kept"));
    fs::rename(&run, &kept).unwrap();
    symlink(victim.path(), &run).unwrap();
    world.start_host();
    assert!(!world.wait_for_host().success(), "it says what is wrong and ends");
    let found = fs::metadata(victim.path()).unwrap();
    assert_eq!((found.mode() & 0o7777, found.uid()), (0o750, 0));
    assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 0, "nothing was made behind the link");
    fs::remove_file(&run).unwrap();
    fs::rename(&kept, &run).unwrap();
    // A link at its own socket's name is only removed.
    let (socket, file) = (world.data.path().join("host.sock"), victim.path().join("file"));
    fs::write(&file, "a secret").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let _ = fs::remove_file(&socket);
    symlink(&file, &socket).unwrap();
    world.start_host();
    world.sandbox().await;
    let found = fs::metadata(&file).unwrap();
    assert_eq!((found.mode() & 0o7777, found.uid()), (0o640, 0));
}

#[tokio::test]
async fn a_second_sandbox_host_for_the_same_data_gives_up() {
    if !is_root() {
        return;
    }
    let mut world = World::start();
    let (_, link) = world.sandbox().await;
    let first = world.replace_host();
    assert!(!world.wait_for_host().success());
    world.put_back(first);
    assert_eq!(sh(&link, "echo unharmed").await, "unharmed");
    assert_eq!(world.host.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_runtime_that_is_not_known_is_told_in_words() {
    if !is_root() {
        return;
    }
    let world = World::with_runtime(Some("no-such-runtime"));
    let failure = world.host.create(sandbox_id(), Some(world.session()), slim(limits())).await.unwrap_err();
    let SandboxHostError::Failed { code: HostErrorCode::NoRuntime, message } = failure else {
        panic!("{failure:?}")
    };
    assert!(message.contains("PATCHYARD_RUNTIME names `no-such-runtime`"), "{message}");
}

#[tokio::test]
async fn bad_requests_fail_in_words_and_leave_nothing() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (sandbox, session) = (sandbox_id(), world.session());
    let cases = [
        (session, "no-such-image", limits(), HostErrorCode::NoImage, "there is no image"),
        (session, "../slim", limits(), HostErrorCode::NoImage, "no name for an image"),
        (session, "slim", Limits { pids: 1, ..limits() }, HostErrorCode::BadRequest, "too low"),
        (crate::world::session_id(), "slim", limits(), HostErrorCode::Internal, "open the repository"),
    ];
    for (session, image, limits, expected, words) in cases {
        let failure = world
            .host
            .create(sandbox, Some(session), SandboxSpec::of_image(image, limits))
            .await
            .unwrap_err();
        let SandboxHostError::Failed { code, message } = failure else { panic!("{failure:?}") };
        assert_eq!(code, expected, "{message}");
        assert!(message.contains(words), "{message}");
        assert_eq!(traces(&world, sandbox), Vec::<String>::new());
    }
    // A repository that is a link leads nowhere.
    let link = world.data.path().join("repos").join(format!("{}.git", crate::world::session_id()));
    std::os::unix::fs::symlink("/root", &link).unwrap();
    let session = link.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    assert!(world.host.create(sandbox, Some(session), slim(limits())).await.is_err());
    // The same sandbox twice.
    let (attachment, _link) = world.sandbox().await;
    let again = world.host.create(attachment.sandbox, attachment.session, slim(limits())).await;
    assert!(matches!(again, Err(SandboxHostError::Failed { code: HostErrorCode::BadRequest, .. })));
    assert_eq!(world.host.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_ended_before_it_was_made_is_not_made() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let sandbox = sandbox_id();
    world.host.destroy(sandbox).await.unwrap();
    let late = world.host.create(sandbox, Some(world.session()), slim(limits())).await.unwrap_err();
    assert!(late.to_string().contains("ended before it was made"), "{late}");
    assert_eq!(traces(&world, sandbox), Vec::<String>::new());
}

#[tokio::test]
async fn a_killed_sandbox_host_is_not_missed() {
    if !is_root() {
        return;
    }
    let mut world = World::start();
    let (attachment, link) = world.sandbox().await;
    world.kill_host();
    assert_eq!(sh(&link, "echo here").await, "here");
    // No mount of it is left on the host.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&attachment.sandbox.to_string()));

    world.start_host();
    assert_eq!(world.attachments().await, std::slice::from_ref(&attachment));
    let (other, other_link) = world.sandbox().await;
    assert_eq!(sh(&other_link, "echo there").await, "there");
    assert_eq!(sh(&link, "echo here").await, "here");
    world.host.destroy(attachment.sandbox).await.unwrap();
    world.host.destroy(other.sandbox).await.unwrap();
    assert_eq!(traces(&world, attachment.sandbox), Vec::<String>::new());
}

#[tokio::test]
async fn debris_of_the_dead_is_removed_at_the_next_start() {
    if !is_root() {
        return;
    }
    let mut world = World::start();
    let (attachment, link) = world.sandbox().await;
    world.kill_host();
    let state = world.data.path().join("workspaces").join(attachment.sandbox.to_string()).join("state.json");
    let state: serde_json::Value = serde_json::from_slice(&fs::read(state).unwrap()).unwrap();
    let pid = i32::try_from(state["init"]["pid"].as_i64().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    link.closed().await;
    // Its socket closes while it still dies.
    eventually("process 1 is gone", || !Path::new(&format!("/proc/{pid}")).exists()).await;
    world.start_host();
    assert!(world.host.list().await.unwrap().is_empty());
    assert_eq!(traces(&world, attachment.sandbox), Vec::<String>::new());
}

/// A crun that, tried, leaves the container as it is made, and goes on when it is let.
const STUCK: &str = r#"#!/bin/sh
set -eu
here=$(dirname "$0")
crun=$(PATH=${PATH#*:} command -v crun)
case "$*" in *\ run\ *probe-*) ;; *) exec "$crun" "$@" ;; esac
for word do shift; [ "$word" != run ] || word=create; set -- "$@" "$word"; done
"$crun" "$@"
touch "$here/made"
read -r _ <"$here/go"
"#;

#[tokio::test]
async fn a_host_that_ends_while_it_tries_a_runtime_leaves_no_container() {
    if !is_root() {
        return;
    }
    for killed in [true, false] {
        let mut world = World::start();
        world.kill_host();
        let programs = world.data.path().join("programs");
        fs::create_dir(&programs).unwrap();
        fs::write(programs.join("crun"), STUCK).unwrap();
        fs::set_permissions(programs.join("crun"), fs::Permissions::from_mode(0o755)).unwrap();
        nix::unistd::mkfifo(&programs.join("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        world.programs = Some(programs.clone());
        world.start_host();
        let tried = format!("probe-crun-{}", world.host_pid());
        eventually("it tries a runtime", || programs.join("made").exists()).await;
        assert_ne!(traces_of(&world, &tried), Vec::<String>::new());
        if killed {
            world.kill_host();
            world.programs = None;
            world.start_host();
            assert!(world.attachments().await.is_empty());
        } else {
            world.tell_host_to_end();
            fs::write(programs.join("go"), "\n").unwrap();
            assert!(world.wait_for_host().success());
        }
        assert_eq!(traces_of(&world, &tried), Vec::<String>::new(), "killed: {killed}");
    }
}

#[tokio::test]
async fn a_new_link_takes_the_place_of_the_old_and_commands_run_on() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let made = world.make(world.session(), limits()).await;
    let first = GuestLink::connect(&made).await.unwrap();
    let mut command = first.start(shell("echo $$ >/tmp/pid; echo begun; exec sleep 1000")).await.unwrap();
    assert!(matches!(command.next().await, Ok(protocol::hands::ExecEvent::Stdout(_))));
    let second = GuestLink::connect(&made).await.unwrap();
    first.closed().await;
    assert!(matches!(command.next().await, Err(protocol::hands::HandsError::Gone(_))));
    sh(&second, "kill -0 $(cat /tmp/pid)").await;
    second.kill_all().await.unwrap();
    sh(&second, "! kill -0 $(cat /tmp/pid)").await;
}

#[tokio::test]
async fn sixteen_at_once_all_work_and_all_end() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let made = (0..16).map(|_| world.sandbox());
    let made = tokio::time::timeout(Duration::from_secs(120), futures(made)).await.unwrap();
    for (_, link) in &made {
        assert_eq!(sh(link, "echo ok").await, "ok");
    }
    let ended = made.iter().map(|(attachment, _)| world.host.destroy(attachment.sandbox));
    for outcome in futures(ended).await {
        outcome.unwrap();
    }
    assert!(world.host.list().await.unwrap().is_empty());
}

/// Waits for all of them, which go on side by side.
async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in &mut all {
            if output.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *output = Some(ready);
            }
        }
        if all.iter().all(|(_, output)| output.is_some()) {
            return std::task::Poll::Ready(());
        }
        std::task::Poll::Pending
    })
    .await;
    all.into_iter().filter_map(|(_, output)| output).collect()
}

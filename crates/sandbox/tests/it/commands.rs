//! Commands through the link: streams, signals, ends.

use std::time::Duration;

use protocol::hands::{ExecEvent, ExecSignal, Hands, HandsError};

use crate::world::{World, is_root, listen, python, run, sh, shell};

#[tokio::test]
async fn a_command_has_streams_an_end_a_folder_and_an_environment() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    let mut spec = shell("echo out; echo err >&2; pwd; echo $WORD $HOME $LANG; exit 7");
    spec.cwd = "/usr/lib".into();
    spec.env = vec![("WORD".into(), "a b".into())];
    let said = run(&link, spec).await;
    assert_eq!(said.out(), "out\n/usr/lib\na b /root C.UTF-8");
    assert_eq!(said.stderr, b"err\n");
    assert_eq!((said.end.code, said.end.signal, said.end.timed_out), (Some(7), None, false));
    let killed = run(&link, shell("kill -9 $$")).await;
    assert_eq!((killed.end.code, killed.end.signal), (None, Some(9)));
    // For a death by such a signal the C library has no name.
    let real_time = run(&link, shell("kill -40 $$")).await;
    assert_eq!((real_time.end.code, real_time.end.signal), (None, Some(40)));
    let tools = sh(&link, "check-tools").await;
    assert!(tools.contains("git") && tools.contains("python3"), "{tools}");
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    let mut missing = shell("");
    missing.argv = vec!["no-such-program".into()];
    assert_eq!(failure(&link, missing).await, HandsError::NotFound { path: "no-such-program".into() });
    let mut folder = shell("true");
    folder.cwd = "/no/such/folder".into();
    assert_eq!(failure(&link, folder).await, HandsError::NotFound { path: "/no/such/folder".into() });
    let mut file = shell("");
    file.argv = vec!["/etc/passwd".into()];
    assert_eq!(failure(&link, file).await, HandsError::Denied { path: "/etc/passwd".into() });
    let mut nothing = shell("");
    nothing.argv.clear();
    assert!(matches!(failure(&link, nothing).await, HandsError::WrongKind { .. }));
    let mut long = shell("true");
    long.env = vec![("LONG".into(), "x".repeat(300_000))];
    assert!(matches!(failure(&link, long).await, HandsError::Limit(_)));
    assert_eq!(sh(&link, "echo still here").await, "still here");
}

async fn failure(link: &sandbox::guest_link::GuestLink, spec: protocol::hands::ExecSpec) -> HandsError {
    match link.start(spec).await {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn input_is_echoed_with_both_sides_slow_and_large() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    let mut spec = shell("cat");
    spec.stdin = true;
    let mut command = link.start(spec).await.unwrap();
    command.write_stdin(b"hello").await.unwrap();
    assert_eq!(command.next().await.unwrap(), ExecEvent::Stdout(b"hello".to_vec()));
    command.close_stdin().await.unwrap();
    assert!(listen(&mut *command).await.end.is_success());

    // More than all windows and pipes on the way hold, into a command that counts only at the end.
    let mut spec = shell("sleep 0.3; wc -c");
    spec.stdin = true;
    let mut command = link.start(spec).await.unwrap();
    command.write_stdin(&vec![b'x'; 5_000_000]).await.unwrap();
    command.close_stdin().await.unwrap();
    assert_eq!(listen(&mut *command).await.out(), "5000000");

    // A command that does not want it.
    let mut spec = shell("exec 0<&-; sleep 0.2; echo done");
    spec.stdin = true;
    let mut command = link.start(spec).await.unwrap();
    let _ = command.write_stdin(&vec![b'x'; 2_000_000]).await;
    assert_eq!(listen(&mut *command).await.out(), "done");
}

#[tokio::test]
async fn two_hundred_megabytes_arrive_whole_and_memory_stays_small() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (attachment, link) = world.sandbox().await;
    const SIZE: usize = 200 * 1024 * 1024;
    let resident = |pid: &str| -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let guest = guest_of(&world, &attachment);
    let (guest_before, here_before) = (resident(&guest), resident("self"));
    let program = format!("head -c {SIZE} /dev/zero | tr '\\0' 'y'");
    let mut command = link.start(shell(&program)).await.unwrap();
    // Nobody takes anything until the command has filled all that there is room for.
    crate::world::eventually("the command waits for its reader", || {
        let outside = std::fs::read_to_string(format!("/proc/{guest}/task/{guest}/children")).unwrap();
        let leader = outside.split_whitespace().next().unwrap_or_default().to_owned();
        let inner =
            std::fs::read_to_string(format!("/proc/{leader}/task/{leader}/children")).unwrap_or_default();
        inner.split_whitespace().any(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default().contains("pipe_write")
        }) && resident(&guest) > 0
    })
    .await;
    let mut received = 0;
    let mut most = 0;
    loop {
        match command.next().await.unwrap() {
            ExecEvent::Stdout(bytes) => {
                assert!(bytes.iter().all(|byte| *byte == b'y'));
                received += bytes.len();
                if received % (8 * 1024 * 1024) < bytes.len() {
                    most = most.max(resident(&guest)).max(resident("self").saturating_sub(here_before));
                }
            }
            ExecEvent::Stderr(bytes) => panic!("{}", String::from_utf8_lossy(&bytes)),
            ExecEvent::Exited(end) => {
                assert!(end.is_success());
                break;
            }
        }
    }
    assert_eq!(received, SIZE);
    assert!(most < guest_before + 16 * 1024, "grew to {most} kB from {guest_before} kB");
}

/// The host's number of a sandbox's process 1.
fn guest_of(world: &World, attachment: &protocol::attachment::Attachment) -> String {
    let state = world.data.path().join("workspaces").join(attachment.sandbox.to_string()).join("state.json");
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
    state["init"]["pid"].to_string()
}

#[tokio::test]
async fn a_timeout_ends_all_that_was_started() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    let mut spec = shell("(sleep 1000 &); sleep 1000 & echo begun; wait");
    spec.timeout = Some(Duration::from_millis(300));
    let said = run(&link, spec).await;
    assert_eq!(said.out(), "begun");
    assert!(said.end.timed_out && said.end.signal == Some(9), "{:?}", said.end);
    sh(&link, "! pgrep sleep").await;
}

#[tokio::test]
async fn background_children_live_on_until_they_are_killed() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    // It holds the pipe and goes on writing: the end comes all the same, and it does not die of it.
    let mut server = link
        .start(shell("(while :; do echo tick; sleep 0.05; done) & echo $! >/tmp/pid; echo started; exit 0"))
        .await
        .unwrap();
    let said = listen(&mut *server).await;
    assert!(said.end.is_success() && said.out().contains("started"), "{said:?}");
    sh(&link, "sleep 0.3; kill -0 $(cat /tmp/pid)").await;
    link.kill_all().await.unwrap();
    sh(&link, "! kill -0 $(cat /tmp/pid)").await;
}

#[tokio::test]
async fn a_kill_reaches_daemons_and_only_those_of_the_command() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    let mut other = link.start(shell("echo up; exec sleep 2001")).await.unwrap();
    assert_eq!(other.next().await.unwrap(), ExecEvent::Stdout(b"up\n".to_vec()));
    let daemons = "
import os, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp('sleep', ['sleep', '2002'])
        os._exit(0)
    os.wait()
os.system('setsid -f su nobody -s /bin/sh -c \"exec sleep 2002\"')
while os.system('test $(pgrep -fc ^sleep.2002) = 4'): time.sleep(0.01)
print('ready', flush=True)
time.sleep(1000)
";
    let mut spec = shell("");
    spec.argv = ["python3", "-c", daemons].map(str::to_owned).to_vec();
    let mut command = link.start(spec).await.unwrap();
    assert_eq!(command.next().await.unwrap(), ExecEvent::Stdout(b"ready\n".to_vec()));
    command.signal(ExecSignal::Kill).await.unwrap();
    sh(&link, "! pgrep -f ^sleep.2002").await;
    assert_eq!(listen(&mut *command).await.end.signal, Some(9));
    sh(&link, "pgrep -f ^sleep.2001").await;
    // Gentler signals reach the group, and a command may handle them.
    drop(other);
    let mut polite = link
        .start(shell("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"))
        .await
        .unwrap();
    assert_eq!(polite.next().await.unwrap(), ExecEvent::Stdout(b"up\n".to_vec()));
    polite.signal(ExecSignal::Terminate).await.unwrap();
    let said = listen(&mut *polite).await;
    assert_eq!((said.out().as_str(), said.end.code), ("bye", Some(3)));
    // What has ended can be signalled without harm.
    polite.signal(ExecSignal::Kill).await.unwrap();
}

#[tokio::test]
async fn a_dropped_execution_runs_on_and_never_stops_for_its_reader() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    let command = link.start(shell("head -c 20000000 /dev/zero; echo done >/tmp/done")).await.unwrap();
    drop(command);
    sh(&link, "while ! test -s /tmp/done; do sleep 0.02; done").await;
}

#[tokio::test]
async fn the_last_words_of_a_command_are_never_lost() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    for round in 0..100 {
        let said = run(&link, shell("seq 1 3000; echo end >&2")).await;
        assert!(said.out().ends_with("\n3000") && said.stderr == b"end\n", "round {round}");
    }
    // Written by a child after the end of the main process, but closely.
    let said = run(&link, shell("(sleep 0.1; echo late) & echo early")).await;
    assert_eq!(said.out(), "early\nlate");
}

#[tokio::test]
async fn only_standard_descriptors_are_inherited() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    // While another command runs, so that the guest has pipes open.
    let _other = link.start(shell("sleep 1000")).await.unwrap();
    let listed = python(&link, "import os; print(sorted(set(os.listdir('/proc/self/fd')) - {'3'}))").await;
    assert_eq!(listed.out(), "['0', '1', '2']", "3 is the listing's own");
    let link_of_3 = python(&link, "import os; print(os.path.exists('/proc/self/fd/3'))").await;
    assert_eq!(link_of_3.out(), "False");
}

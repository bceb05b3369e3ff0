//! Commands that take all there is, and what is left afterwards.

use std::time::Duration;

use protocol::hands::Exceeded;
use protocol::sandbox_spec::Limits;

use crate::world::{World, is_root, limits, python, run, sh, shell};

/// A bomb whose children leave group and session and come back as orphans.
const BOMB: &str = "
import os
while True:
    try:
        if os.fork() == 0:
            os.setsid()
    except OSError:
        pass
";

#[tokio::test]
async fn a_fork_bomb_ends_by_its_timeout_and_the_next_command_works() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox_with(Limits { pids: 100, ..limits() }).await;
    let mut spec = shell("");
    spec.argv = ["python3", "-c", BOMB].map(str::to_owned).to_vec();
    spec.timeout = Some(Duration::from_millis(700));
    let said = run(&link, spec).await;
    assert!(said.end.timed_out, "{:?}", said.end);
    assert_eq!(sh(&link, "pgrep -c python3 || true").await, "0");
    assert_eq!(sh(&link, "echo alive").await, "alive");
}

/// The first process dies at once and nothing holds the pipes, but its child has much memory to give back.
#[tokio::test]
async fn the_end_of_a_command_that_was_killed_is_told_once_all_of_it_is_dead() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox_with(Limits { memory_bytes: 2 << 30, ..limits() }).await;
    let program = "
import os, time
ready, tell = os.pipe()
if os.fork() == 0:
    os.closerange(0, 3)
    much = bytearray(b'x') * (1 << 30)
    os.write(tell, b'.')
    time.sleep(1000)
os.read(ready, 1)
print('ready', flush=True)
time.sleep(1000)
";
    let mut spec = shell("");
    spec.argv = ["python3", "-c", program].map(str::to_owned).to_vec();
    spec.timeout = Some(Duration::from_secs(4));
    let said = run(&link, spec).await;
    assert!(said.end.timed_out, "{:?}", said.end);
    assert_eq!(said.out(), "ready");
    assert_eq!(sh(&link, "pgrep -c python3 || true").await, "0");
}

#[tokio::test]
async fn a_full_process_table_is_told_and_emptied() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox_with(Limits { pids: 60, ..limits() }).await;
    let filled = python(
        &link,
        "
import os, time
count = 0
try:
    while True:
        if os.fork() == 0:
            os.setsid(); os.closerange(0, 10); time.sleep(1000)
        count += 1
except OSError as error:
    print(error.errno, count > 40)
",
    )
    .await;
    assert_eq!(filled.out(), "11 True");
    // The ended command has left one place; the next one's children find none.
    let mut refused = None;
    let mut running = Vec::new();
    for _ in 0..5 {
        use protocol::hands::Hands;
        match link.start(shell("exec sleep 1000")).await {
            Ok(command) => running.push(command),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let words = refused.unwrap().to_string();
    assert!(words.starts_with("process limit reached"), "{words}");
    link.kill_all().await.unwrap();
    assert_eq!(sh(&link, "echo alive").await, "alive");
}

#[tokio::test]
async fn a_memory_hog_is_killed_and_the_guest_is_not() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let limits = Limits { memory_bytes: 128 * 1024 * 1024, ..limits() };
    let (_, link) = world.sandbox_with(limits).await;
    let said = python(&link, "x = bytearray(400 * 1024 * 1024); print(len(x))").await;
    assert!(
        !said.end.is_success() && said.end.exceeded == Some(Exceeded::Memory(128 * 1024 * 1024)),
        "{:?}",
        said.end
    );
    let next = run(&link, shell("echo alive")).await;
    assert_eq!((next.out().as_str(), next.end.exceeded), ("alive", None));
}

#[tokio::test]
async fn a_spinning_command_gets_its_share_of_the_processor() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox_with(Limits { cpu_millis: 200, ..limits() }).await;
    let program = "
import time
start, used = time.monotonic(), time.process_time()
while time.monotonic() - start < 2: pass
print(time.process_time() - used < 1.0)
";
    assert_eq!(python(&link, program).await.out(), "True");
}

#[tokio::test]
async fn files_are_limited_per_process() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    let limit: u64 = sh(&link, "ulimit -Hn").await.parse().unwrap();
    assert!((1024..=65_536).contains(&limit), "{limit}");
    assert_eq!(sh(&link, "ulimit -c").await, "0");
}

//! Q: one sandbox takes all there is; another one goes on.

use std::time::{Duration, Instant};

use protocol::hands::{Exceeded, ExecEvent, Hands};
use protocol::sandbox_host::Made;
use protocol::sandbox_spec::Limits;
use sandbox::guest_link::GuestLink;

use crate::field::{Field, count, counter, listen};
use crate::world::{Said, limits, python, sh, shell};

rows! {
    q01_a_fork_bomb_and_too_many_threads,
    q02_memory_without_end,
    q03_disk_inodes_holes_and_memory_files,
    q04_output_without_end,
    q06_every_core_spun,
    q07_a_storm_of_dirty_pages,
    q09_open_files_without_end,
    q10_an_archive_that_unfolds,
}

/// One capped at a core, and the survivor beside it.
async fn pair(field: &Field, limits: Limits) -> (Made, GuestLink) {
    sh(&field.link, "true").await;
    field.another(Limits { cpu_millis: limits.cpu_millis.min(1_000), ..limits }).await
}

/// Runs this while the neighbour works, and gives what it said; nothing when its sandbox ended.
async fn beside(field: &Field, attacker: &GuestLink, program: &str, timeout: Duration) -> Option<Said> {
    let mut spec = shell("");
    spec.argv = ["python3", "-c", program].map(str::to_owned).to_vec();
    spec.timeout = Some(timeout);
    let mut attack = attacker.start(spec).await.unwrap();
    let attack = tokio::spawn(async move { listen(&mut *attack).await });
    let mut rounds = 0;
    while !attack.is_finished() || rounds == 0 {
        sh(&field.link, "true").await;
        rounds += 1;
    }
    attack.await.unwrap()
}

/// A kernel in user space does not outlive the limits of the host's: its sandbox ends, nothing else does.
async fn ended_alone(field: &Field, made: &Made) {
    assert!(field.has_own_kernel());
    while field.world.host.list().await.unwrap().contains(made) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    field.world.host.destroy(made.attachment.sandbox).await.unwrap();
    assert_eq!(sh(&field.link, "echo alive").await, "alive");
}

async fn q01_a_fork_bomb_and_too_many_threads(field: &mut Field) {
    let (made, attacker) = pair(field, Limits { pids: 100, ..limits() }).await;
    let bomb = "
import os
while True:
    try:
        if os.fork() == 0: os.setsid()
    except OSError: pass
";
    let Some(said) = beside(field, &attacker, bomb, Duration::from_millis(700)).await else {
        return ended_alone(field, &made).await;
    };
    assert!(said.end.timed_out, "{:?} {}", said.end, said.all());
    let killing = Instant::now();
    attacker.kill_all().await.unwrap();
    assert!(killing.elapsed() < Duration::from_secs(5));
    let threads = "
import threading, time
count = 0
try:
    while count < 100000:
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start(); count += 1
except RuntimeError: pass
print(count < 100, flush=True)
import os; os._exit(0)
";
    // gVisor needs a quarter of a minute to run into the limit, and longer beside other tests.
    let Some(said) = beside(field, &attacker, threads, Duration::from_secs(90)).await else {
        return ended_alone(field, &made).await;
    };
    assert_eq!(said.out(), "True", "{:?} {}", said.end, said.all());
    assert!(count(&counter(&made, "pids", "pids.events"), "max") > 0);
    assert_eq!(sh(&attacker, "echo alive").await, "alive");
}

async fn q02_memory_without_end(field: &mut Field) {
    let (made, attacker) = pair(field, Limits { memory_bytes: 160 << 20, ..limits() }).await;
    let hog = "x = bytearray(400 << 20); print(len(x))";
    let said = beside(field, &attacker, hog, Duration::from_secs(30)).await;
    // Nobody else was hit.
    assert_eq!(count(&field.counter("memory", "memory.oom_control"), "oom_kill"), 0);
    let Some(said) = said else { return ended_alone(field, &made).await };
    assert!(!said.out().contains("419430400"), "{}", said.all());
    assert!(!said.end.is_success(), "{:?}", said.end);
    let kills = counter(&made, "memory", "memory.oom_control");
    assert!(count(&kills, "oom_kill") > 0, "{kills}");
    assert_eq!(said.end.exceeded, Some(Exceeded::Memory(160 << 20)));
    assert_eq!(sh(&attacker, "echo alive").await, "alive");
}

async fn q03_disk_inodes_holes_and_memory_files(field: &mut Field) {
    let (made, attacker) = pair(field, Limits { disk_bytes: 64 << 20, ..limits() }).await;
    let fill = "
import os
def until_full(action):
    try:
        while True: action()
    except OSError as error: return error.errno
big = open('/big', 'wb', buffering=0)
print(until_full(lambda: big.write(b'x' * (1 << 20))), 20 << 20 < os.stat('/big').st_size < 64 << 20)
big.close(); os.unlink('/big')
os.mkdir('/many'); names = iter(range(10 ** 7))
print(until_full(lambda: open(f'/many/{next(names)}', 'w').close()))
";
    let said = beside(field, &attacker, fill, Duration::from_secs(60)).await.unwrap();
    assert_eq!(said.out(), "28 True\n28", "{:?} {}", said.end, said.all());
    let image = field.world.data.path().join(format!("workspaces/{}/disk.img", made.attachment.sandbox));
    let taken = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(image).unwrap()) * 512;
    assert!(taken <= 65 << 20, "{taken}");
    sh(&attacker, "rm -r /many; truncate -s 1T /hole; rm /hole; echo fits >/again").await;
    sh(&field.link, "dd if=/dev/zero of=/mine bs=1M count=50 2>/dev/null && rm /mine").await;
    // Files in memory count as memory.
    let (made, attacker) = pair(field, Limits { memory_bytes: 160 << 20, ..limits() }).await;
    let fill = "[open('/dev/shm/x', 'ab').write(b'x' * (1 << 20)) for _ in range(500)]";
    if beside(field, &attacker, fill, Duration::from_secs(30)).await.is_none() {
        return ended_alone(field, &made).await;
    }
    let peak: u64 = counter(&made, "memory", "memory.max_usage_in_bytes").trim().parse().unwrap();
    assert!(peak <= 160 << 20, "{peak}");
}

/// Resident memory of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Bytes of output that are taken where nobody says how many (`PATCHYARD_FLOOD=10000000000` is the row's
/// own size).
const FLOOD: u64 = 100_000_000;

async fn q04_output_without_end(field: &mut Field) {
    let (_, attacker) = pair(field, limits()).await;
    let before = resident();
    // Nobody takes it: it stops by itself.
    let mut spec = shell("exec cat /dev/zero");
    spec.timeout = None;
    let mut silent = attacker.start(spec).await.unwrap();
    for _ in 0..20 {
        sh(&field.link, "true").await;
    }
    // Somebody takes it: as long as it goes on, at a steady size.
    let wanted = std::env::var("PATCHYARD_FLOOD").ok().and_then(|bytes| bytes.parse().ok()).unwrap_or(FLOOD);
    let (mut taken, begun) = (0_u64, Instant::now());
    while taken < wanted {
        let ExecEvent::Stdout(bytes) = silent.next().await.unwrap() else { panic!() };
        taken += bytes.len() as u64;
    }
    println!("{:?}: {taken} bytes of output in {} ms", field.ground, begun.elapsed().as_millis());
    drop(silent);
    // Single bytes, as fast as they come.
    let drops = "import os\nfor _ in range(5000): os.write(1, b'x')";
    assert_eq!(beside(field, &attacker, drops, Duration::from_secs(60)).await.unwrap().stdout.len(), 5_000);
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown}");
    attacker.kill_all().await.unwrap();
    assert_eq!(sh(&attacker, "echo alive").await, "alive");
}

async fn q06_every_core_spun(field: &mut Field) {
    // Far less than a core, so that it shows on a busy host as well.
    let limits = Limits { cpu_millis: 100, ..limits() };
    let (made, attacker) = pair(field, limits).await;
    let spin = "
import os, time
for _ in range(3): os.fork()
end = time.monotonic() + 1
while time.monotonic() < end: pass
";
    beside(field, &attacker, spin, Duration::from_secs(20)).await;
    let stat = counter(&made, "cpu", "cpu.stat");
    assert!(count(&stat, "nr_throttled") > 0, "{stat}");
    let quota = counter(&made, "cpu", "cpu.cfs_quota_us");
    assert_eq!(quota.trim(), "10000");
}

async fn q07_a_storm_of_dirty_pages(field: &mut Field) {
    let (made, attacker) = pair(field, Limits { memory_bytes: 160 << 20, ..limits() }).await;
    let storm = "
import os
piece = os.urandom(1 << 20)
for round in range(4):
    with open('/dirty', 'wb', buffering=0) as file:
        for _ in range(120): file.write(piece)
print('written')
";
    let said = beside(field, &attacker, storm, Duration::from_secs(60)).await.unwrap();
    assert_eq!(said.out(), "written", "{:?} {}", said.end, said.all());
    // What it has not written yet counts as its memory, so it has to wait rather than fill the host's.
    let peak: u64 = counter(&made, "memory", "memory.max_usage_in_bytes").trim().parse().unwrap();
    assert!(peak <= 160 << 20, "{peak}");
}

async fn q09_open_files_without_end(field: &mut Field) {
    let (_, attacker) = pair(field, Limits { open_files: 512, ..limits() }).await;
    let open = "
import os, resource
opened = []
try:
    while True: opened.append(os.open('/dev/null', 0))
except OSError as error: print(error.errno, len(opened) < 512)
try: resource.setrlimit(resource.RLIMIT_NOFILE, (100000, 100000)); print('raised')
except (ValueError, OSError): print('kept')
";
    let said = beside(field, &attacker, open, Duration::from_secs(20)).await.unwrap();
    assert_eq!(said.out(), "24 True\nkept", "{}", said.all());
}

/// A gigabyte of zeros in a megabyte: unfolded where its disk ends, and read from outside in parts.
async fn q10_an_archive_that_unfolds(field: &mut Field) {
    let (_, attacker) = pair(field, Limits { disk_bytes: 64 << 20, ..limits() }).await;
    let bomb = "
import gzip, os
with gzip.open('/bomb.gz', 'wb', 1) as file:
    for _ in range(200): file.write(b'\\0' * (1 << 20))
print(os.stat('/bomb.gz').st_size < 2 << 20)
try:
    with gzip.open('/bomb.gz') as file, open('/unfolded', 'wb') as out:
        while piece := file.read(1 << 20): out.write(os.urandom(16) + piece)
except OSError as error: print(error.errno)
";
    let said = beside(field, &attacker, bomb, Duration::from_secs(60)).await.unwrap();
    assert_eq!(said.out(), "True\n28", "{:?} {}", said.end, said.all());
    let read = attacker.read_file("/unfolded", 0, 1 << 20).await.unwrap();
    assert!(read.bytes.len() == 1 << 20 && read.size > 20 << 20);
    assert_eq!(python(&attacker, "import os; os.unlink('/unfolded'); print('room')").await.out(), "room");
}

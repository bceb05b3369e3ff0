//! What a sandbox notices of another one that takes all it can get.
//!
//! ```text
//!   probe:     `true` by the guest, every 20 ms ──── quiet ────│──── beside the attack ────
//!   attacker:  one core at the most                            └─ runs until it is killed
//! ```

use std::time::{Duration, Instant};

use protocol::hands::{ExecEvent, ExecSpec, Hands as _};
use protocol::ids::ExecId;
use protocol::sandbox_spec::Limits;
use sandbox::guest_link::GuestLink;
use serde_json::json;
use ulid::Ulid;

use crate::figure::{Samples, line, round};
use crate::host::Host;
use crate::{Bench, Failure};

/// Between two probes.
const EVERY: Duration = Duration::from_millis(20);

/// What the attacker may use.
const CAPPED: Limits =
    Limits { memory_bytes: 512 << 20, cpu_millis: 1_000, pids: 512, disk_bytes: 1 << 30, open_files: 4_096 };

/// Python that does not end by itself.
const ATTACKS: &[(&str, &str)] = &[
    (
        "a fork bomb",
        "import os\nwhile True:\n  try:\n    if os.fork() == 0: os.setsid()\n  except OSError: pass",
    ),
    (
        "100,000 threads",
        "import threading, time\nwhile True:\n  try: threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n  except RuntimeError: pass",
    ),
    (
        "memory without end",
        "import subprocess, sys\nwhile True: subprocess.run([sys.executable, '-c', 'x = [bytearray(1 << 24) for _ in range(999)]'])",
    ),
    (
        "a disk filled and emptied",
        "import os\nwhile True:\n  f = os.open('/f', os.O_CREAT | os.O_WRONLY)\n  try:\n    while True: os.write(f, b'x' * (1 << 20))\n  except OSError: pass\n  os.close(f); os.unlink('/f')",
    ),
    (
        "inodes filled and emptied",
        "import os, shutil\nwhile True:\n  os.mkdir('/m')\n  try:\n    for n in range(10**7): open(f'/m/{n}', 'w').close()\n  except OSError: pass\n  shutil.rmtree('/m')",
    ),
    ("output without end", "import os\nwhile True: os.write(1, b'x' * 65536)"),
    ("single letters of output", "import os\nwhile True: os.write(1, b'x')"),
    (
        "open files without end",
        "import os\nwhile True:\n  o = []\n  try:\n    while True: o.append(os.open('/dev/null', 0))\n  except OSError: pass\n  for f in o: os.close(f)",
    ),
    ("every core spun", "import os\nfor _ in range(5): os.fork()\nwhile True: pass"),
    (
        "dirty pages, synced",
        "import os\nb = os.urandom(1 << 20)\nwhile True:\n  f = os.open('/d', os.O_CREAT | os.O_WRONLY)\n  for _ in range(200): os.write(f, b)\n  os.fsync(f); os.close(f)",
    ),
];

pub(crate) async fn run(bench: &Bench) -> Result<(), Failure> {
    let host = Host::start(bench)?;
    let (neighbour, probe) = host.create().await?;
    let time = EVERY * u32::try_from(bench.runs * 5).unwrap_or(u32::MAX);
    measure(&probe, time / 4).await?;
    for (name, program) in ATTACKS {
        let (attacker, link) = host.create_with(CAPPED).await?;
        let quiet = measure(&probe, time).await?;
        let argv = ["python3", "-c", program].map(str::to_owned).to_vec();
        let mut attack = link.start(ExecSpec::new(ExecId::from(Ulid::generate()), argv, "/")).await?;
        let taking = tokio::spawn(async move { while attack.next().await.is_ok() {} });
        // So that it is at its limit.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let beside = measure(&probe, time).await?;
        taking.abort();
        let ending = Instant::now();
        host.destroy(&attacker).await?;
        line(&json!({
            "figure": format!("another sandbox's `true` beside {name}"),
            "quiet_p95_ms": round(quiet.percentile(0.95)),
            "beside_p50_ms": round(beside.percentile(0.5)),
            "beside_p95_ms": round(beside.percentile(0.95)),
            "added_p95_ms": round(beside.percentile(0.95) - quiet.percentile(0.95)),
            "ended_ms": round(ending.elapsed().as_secs_f64() * 1000.0),
            "budget": "at most 50 ms added",
        }));
    }
    host.destroy(&neighbour).await
}

/// How long a command takes, again and again.
async fn measure(link: &GuestLink, time: Duration) -> Result<Samples, Failure> {
    let mut samples = Samples::default();
    let begun = Instant::now();
    let mut next = tokio::time::interval(EVERY);
    next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while begun.elapsed() < time {
        next.tick().await;
        let start = Instant::now();
        let exec = ExecId::from(Ulid::generate());
        let mut execution = link.start(ExecSpec::new(exec, vec!["/bin/true".into()], "/")).await?;
        while !matches!(execution.next().await?, ExecEvent::Exited(_)) {}
        samples.add(start.elapsed());
    }
    Ok(samples)
}

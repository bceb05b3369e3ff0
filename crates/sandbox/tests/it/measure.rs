//! Figures, printed: `cargo nextest run -p sandbox --run-ignored all -E 'test(measure)' --no-capture`.

use std::process::Command;
use std::time::{Duration, Instant};

use protocol::hands::Hands;
use sandbox::guest_link::GuestLink;

use crate::world::{World, is_root, limits, run, shell};

const ROUNDS: usize = 20;

/// Between two rounds of anything.
const PAUSE: Duration = Duration::from_millis(100);

fn print(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let (least, middle, high) = (times[0], times[times.len() / 2], times[times.len() * 9 / 10]);
    println!("{name:<44} min {:7.2}  p50 {:7.2}  p90 {:7.2} ms", ms(least), ms(middle), ms(high));
}

/// `run` to the end, or `create` and `start` only.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bare {
    Run,
    Start,
}

/// The bundle that the runtime itself proposes, on the same image, running `true`.
fn bare(runtime: &str, what: Bare) -> Vec<Duration> {
    let bundle = tempfile::tempdir().unwrap();
    let spec = Command::new(runtime).args(["spec"]).current_dir(bundle.path()).status().unwrap();
    assert!(spec.success());
    let path = bundle.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["true"]);
    config["root"]["path"] = "/var/lib/patchyard/images/slim/rootfs".into();
    std::fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
    (0..ROUNDS)
        .map(|round| {
            let id = format!("bare-{}-{round}", std::process::id());
            let order = match what {
                Bare::Run => "$0 run --bundle $1 $2",
                Bare::Start => "$0 create --bundle $1 $2 && $0 start $2",
            };
            let script = format!(
                "umount /sys/fs/cgroup/unified 2>/dev/null; date +%s%N; ({order}) >/dev/null; date +%s%N; \
                 $0 delete --force $2 2>/dev/null"
            );
            let output = Command::new("unshare")
                .args(["-m", "sh", "-c", &script, runtime])
                .arg(bundle.path())
                .arg(&id)
                .stdin(std::io::pipe().unwrap().0)
                .output()
                .unwrap();
            let words = String::from_utf8(output.stdout).unwrap();
            let times: Vec<u64> = words.lines().map(|line| line.parse().unwrap()).collect();
            std::thread::sleep(PAUSE);
            assert_eq!(times.len(), 2, "{}", String::from_utf8_lossy(&output.stderr));
            Duration::from_nanos(times[1] - times[0])
        })
        .collect()
}

#[tokio::test]
#[ignore = "a measurement"]
async fn measure_starts_ends_and_calls() {
    if !is_root() {
        return;
    }
    for runtime in ["crun", "runc"] {
        let world = World::with_runtime(Some(runtime));
        world.host.probe(false).await.unwrap();
        let (mut made, mut greeted, mut first, mut ended) = (vec![], vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            let session = world.session();
            let start = Instant::now();
            let made_one = world.make(session, limits()).await;
            made.push(start.elapsed());
            let link = GuestLink::connect(&made_one).await.unwrap();
            greeted.push(start.elapsed());
            assert!(run(&link, shell("true")).await.end.is_success());
            first.push(start.elapsed());
            let start = Instant::now();
            world.host.destroy(made_one.attachment.sandbox).await.unwrap();
            ended.push(start.elapsed());
            // The kernel takes network namespaces down later, and lets the next one wait for that.
            tokio::time::sleep(PAUSE).await;
        }
        print(&format!("{runtime}: bare bundle, run true"), bare(runtime, Bare::Run));
        print(&format!("{runtime}: bare bundle, create and start true"), bare(runtime, Bare::Start));
        print(&format!("{runtime}: create"), made);
        print(&format!("{runtime}: create to guest's hello"), greeted);
        print(&format!("{runtime}: create to end of `sh -c true`"), first);
        print(&format!("{runtime}: destroy"), ended);
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    let mut calls = Vec::new();
    let mut stats = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        let mut spec = shell("");
        spec.argv = vec!["/bin/true".into()];
        assert!(run(&link, spec).await.end.is_success());
        calls.push(start.elapsed());
        let start = Instant::now();
        link.stat("/etc/passwd").await.unwrap();
        stats.push(start.elapsed());
    }
    print("run /bin/true through the guest", calls);
    print("stat through the guest", stats);
    let start = Instant::now();
    let said = run(&link, shell("head -c 200000000 /dev/zero")).await;
    assert_eq!(said.stdout.len(), 200_000_000);
    println!("output through the guest {:.0} MB/s", 200.0 / start.elapsed().as_secs_f64());
}

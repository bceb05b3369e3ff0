//! Tunnels from inside of sandboxes, beside srt: the whole way that a program's bytes go.
//!
//! ```text
//!  ours: visitor in each of several sandboxes ─▶ listener in its network ─▶ egress ─▶ origin
//!  srt:  visitor in a sandbox of srt ─▶ socat ─▶ socket ─▶ socat ─▶ its proxy ─▶ origin
//!  direct: visitor ─▶ origin
//! ```
//!
//! Ours lets each sandbox begin 200 connections at once and 50 a second after that, so several share them;
//! srt has no such limit, and one sandbox.

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::hands::{ExecEvent, ExecSpec, Hands as _};
use protocol::ids::ExecId;
use sandbox::guest_link::GuestLink;
use serde_json::{Value, json};
use testkit::internet::{Internet, Names, alone};
use tokio::process::Command;
use ulid::Ulid;

use crate::figure::{line, round};
use crate::host::Host;
use crate::outlet::{Outlet, Terms};
use crate::proxies::{BARE, NAMED};
use crate::tunnels::{BULK, answer};
use crate::{Bench, Failure};

/// Sandboxes that share the tunnels, the clients in each, and the tunnels of each.
const SANDBOXES: usize = 8;
const CLIENTS: usize = 2;
const EACH: usize = 100;

const ROUNDS: usize = 5;

/// Until the bucket of a sandbox is full again.
const PAUSE: Duration = Duration::from_secs(3);

/// Where the visitor lies inside.
const VISITOR: &str = "/usr/local/bin/visitor";

pub(crate) async fn run(bench: &Bench) -> Result<(), Failure> {
    let bench = Bench { patchyard: bench.patchyard.clone(), runs: bench.runs, only: None };
    let measured = tokio::task::spawn_blocking(move || {
        alone(|internet| async move {
            if let Err(error) = measure(&bench, &internet).await {
                line(&json!({ "figure": "tunnels from inside", "error": error.to_string() }));
            }
        });
    });
    Ok(measured.await?)
}

async fn measure(bench: &Bench, internet: &Internet) -> Result<(), Failure> {
    let names = Names::serve(internet.packets("93.184.216.53:53"));
    names.set("echo.wild.test", &["93.184.216.34"]);
    names.last(60);
    tokio::spawn(answer(internet.listen(BARE)));
    let host = Host::start(bench)?;
    let outlet = Outlet::start(std::process::Command::new(&bench.patchyard), host.dir.path(), None)?;
    let mut inside = Vec::new();
    for number in 0..SANDBOXES {
        let (attachment, link) = host.create().await?;
        let record = host.dir.path().join(format!("record-{number}"));
        let (doors, sockets) = host.listen(&attachment).await?;
        let (domains, secrets) = (vec!["*.wild.test:8443".into()], vec![]);
        let terms = Terms { domains, secrets, doors, sockets, record: &record };
        outlet.bind((attachment.sandbox, host.session()), terms).await?;
        bring_visitor(&link).await?;
        inside.push((attachment, link));
    }
    let links: Vec<&GuestLink> = inside.iter().map(|(_, link)| link).collect();
    let measured = compare(&links, Srt::installed(host.dir.path())?.as_ref()).await;
    for (attachment, _) in &inside {
        host.destroy(attachment).await?;
    }
    measured
}

/// Each way in turn, some times.
async fn compare(links: &[&GuestLink], srt: Option<&Srt>) -> Result<(), Failure> {
    let (mut connect, mut captured, mut theirs, mut direct) = (vec![], vec![], vec![], vec![]);
    let (mut much, mut their_much) = (vec![], vec![]);
    let all = SANDBOXES * EACH;
    let (clients, one, count) = (CLIENTS.to_string(), EACH.to_string(), all.to_string());
    let together = (SANDBOXES * CLIENTS).to_string();
    for _ in 0..ROUNDS {
        let words = ["--host", NAMED, "--clients", &clients, "--count", &one];
        let proxied = [&words[..], &["--proxy", "http://127.0.0.1:3128"]].concat();
        connect.push(rate(all, &visits(links, &proxied).await?));
        tokio::time::sleep(PAUSE).await;
        captured.push(rate(all, &visits(links, &words).await?));
        tokio::time::sleep(PAUSE).await;
        let fetch = ["--host", NAMED, "--fetch", "--proxy", "http://127.0.0.1:3128"];
        much.push(rate(BULK, &visits(&links[..1], &fetch).await?) / 1e6);
        let words = ["--host", BARE, "--clients", &together, "--count", &count];
        direct.push(rate(all, &[visit_here(&words).await?]));
        if let Some(srt) = srt {
            let words = ["--host", NAMED, "--clients", &together, "--count", &count];
            theirs.push(rate(all, &[srt.visit(&words).await?]));
            their_much.push(rate(BULK, &[srt.visit(&["--host", NAMED, "--fetch"]).await?]) / 1e6);
        }
    }
    let [connect, captured, theirs, direct, much, their_much] =
        [connect, captured, theirs, direct, much, their_much].map(middle);
    line(&json!({
        "figure": "tunnels a second from inside", "by_connect": round(connect), "captured": round(captured),
        "srt": round(theirs), "direct": round(direct), "ratio_connect": round(connect / theirs),
        "ratio_captured": round(captured / theirs), "budget": "≥ 10 times srt by CONNECT, ≥ 6 times captured",
    }));
    line(&json!({
        "figure": "64 MiB from inside", "mb_per_s": round(much), "srt_mb_per_s": round(their_much),
        "ratio": round(much / their_much), "budget": "≥ 10 times srt",
    }));
    Ok(())
}

fn middle(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
}

/// When a visitor began and ended.
struct Span(u64, u64);

/// How many of something there were in a second, from the first beginning to the last end.
#[expect(clippy::cast_precision_loss)]
fn rate(count: usize, spans: &[Span]) -> f64 {
    let begin = spans.iter().map(|span| span.0).min().unwrap_or_default();
    let end = spans.iter().map(|span| span.1).max().unwrap_or_default();
    count as f64 / (end.saturating_sub(begin)) as f64 * 1e6
}

fn span(said: &[u8]) -> Result<Span, Failure> {
    let said: Value = serde_json::from_slice(said)
        .map_err(|error| format!("a visitor said {:?}: {error}", String::from_utf8_lossy(said)))?;
    let at = |name: &str| said[name].as_u64().ok_or("a visitor did not say when");
    Ok(Span(at("begin_us")?, at("end_us")?))
}

async fn visits(links: &[&GuestLink], words: &[&str]) -> Result<Vec<Span>, Failure> {
    let mut running = Vec::new();
    for link in links {
        let argv = [VISITOR, "visit"].iter().chain(words).map(ToString::to_string).collect();
        running.push(link.start(ExecSpec::new(ExecId::from(Ulid::generate()), argv, "/")).await?);
    }
    let mut spans = Vec::new();
    for mut execution in running {
        let mut said = Vec::new();
        while let ExecEvent::Stdout(bytes) | ExecEvent::Stderr(bytes) = execution.next().await? {
            said.extend(bytes);
        }
        spans.push(span(&said)?);
    }
    Ok(spans)
}

/// Copies this program into a sandbox.
async fn bring_visitor(link: &GuestLink) -> Result<(), Failure> {
    let script = format!("cat >{VISITOR} && chmod 755 {VISITOR}");
    let argv = vec!["sh".into(), "-c".into(), script];
    let spec = ExecSpec { stdin: true, ..ExecSpec::new(ExecId::from(Ulid::generate()), argv, "/") };
    let mut execution = link.start(spec).await?;
    for part in std::fs::read(std::env::current_exe()?)?.chunks(256 * 1024) {
        execution.write_stdin(part).await?;
    }
    execution.close_stdin().await?;
    while !matches!(execution.next().await?, ExecEvent::Exited(_)) {}
    Ok(())
}

async fn visit_here(words: &[&str]) -> Result<Span, Failure> {
    let said = Command::new(std::env::current_exe()?).arg("visit").args(words).output().await?;
    span(&said.stdout)
}

/// srt with a list of the one host, in a mount namespace where that has an address.
struct Srt {
    program: PathBuf,
    settings: PathBuf,
    hosts: PathBuf,
}

impl Srt {
    fn installed(folder: &Path) -> Result<Option<Self>, Failure> {
        let Ok(program) = std::fs::canonicalize("target/tools/srt/node_modules/.bin/srt") else {
            return Ok(None);
        };
        let (settings, hosts) = (folder.join("srt.json"), folder.join("hosts"));
        let allowed = json!({
            "network": { "allowedDomains": ["echo.wild.test"], "deniedDomains": [] },
            "filesystem": { "denyRead": [], "allowWrite": ["/tmp"], "denyWrite": [] },
        });
        std::fs::write(&settings, allowed.to_string())?;
        std::fs::write(&hosts, "127.0.0.1 localhost\n93.184.216.34 echo.wild.test\n")?;
        Ok(Some(Self { program, settings, hosts }))
    }

    async fn visit(&self, words: &[&str]) -> Result<Span, Failure> {
        let visitor = std::env::current_exe()?;
        let command = format!("{} visit {} --proxy $HTTPS_PROXY", visitor.display(), words.join(" "));
        let said = Command::new("unshare")
            .args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""])
            .arg(&self.hosts)
            .arg(&self.program)
            .arg("--settings")
            .arg(&self.settings)
            .args(["-c", &command])
            .output()
            .await?;
        span(&said.stdout)
            .map_err(|error| format!("srt: {error}; {}", String::from_utf8_lossy(&said.stderr)).into())
    }
}

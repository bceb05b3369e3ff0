//! `patchyard demo`: one whole task on a bundled repository.
//!
//! ```text
//!  temporary data directory ─▶ serve (supervisor, sandbox-host, server) ─▶ task ─▶ diff, tests, URL
//!                                  ▲
//!       no key: a scripted model ──┘  played by this process, over the same HTTP as a real one
//! ```

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use client::Client;
use model_gateway::scripted::{ScriptedServer, demo};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::api::{CreateSession, RepositorySource};
use protocol::event::{Event, EventBody};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};
use ulid::Ulid;

use crate::args::{Demo, OutputFormat};
use crate::bundle;
use crate::commands::remote;
use crate::connection::variable;
use crate::error::Failure;
use crate::output::{from_elsewhere, line, note, plain};

pub(crate) async fn run(options: Demo) -> Result<ExitCode, Failure> {
    let internal = |error: std::io::Error| Failure::Internal(error.to_string());
    // The server's account has to get through to its folder, and nobody may look around.
    let dir = tempfile::Builder::new()
        .prefix("patchyard-demo-")
        .permissions(Permissions::from_mode(0o711))
        .tempdir()
        .map_err(internal)?;
    let mut end = ends().map_err(internal)?;
    let scripted = match has_key() {
        true => None,
        false => Some(demo::start().await.map_err(internal)?),
    };
    if scripted.is_some() {
        line(
            "There is no model key, so a SCRIPTED model plays the agent's part. The loop, the tools and the",
        );
        line("sandbox are real. Set ANTHROPIC_API_KEY to see a real model do the work.");
    }
    let (mut child, lines) = spawn(&dir.path().join("data"), scripted.as_ref())?;
    let result = tokio::select! {
        result = whole(&options, lines, dir.path(), scripted.is_some()) => result,
        () = &mut end => {
            note("patchyard: the demo is stopped");
            Ok(ExitCode::from(INTERRUPTED))
        }
        _ = child.wait() => Err(Failure::Failed("the demo's server ended; see `patchyard doctor`".into())),
    };
    stop(&mut child).await;
    result
}

/// The exit code of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Comes when somebody wants the demo to end; watched from now on.
fn ends() -> std::io::Result<Pin<Box<dyn Future<Output = ()> + Send>>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(Box::pin(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }))
}

/// The task on a server that was just started, and the time after it with `--keep`.
async fn whole(options: &Demo, lines: ServerLines, dir: &Path, scripted: bool) -> Result<ExitCode, Failure> {
    let server = DemoServer::hear(lines, &dir.join("data")).await?;
    let code = task(&server, dir, scripted).await?;
    if options.keep {
        line(&format!("the server stays up: {}", server.login_url));
        line("stop it with Ctrl-C");
        std::future::pending::<()>().await;
    }
    Ok(code)
}

fn has_key() -> bool {
    variable("ANTHROPIC_API_KEY").or_else(|| variable("ANTHROPIC_AUTH_TOKEN")).is_some()
}

/// A `serve` of our own on a free port.
struct DemoServer {
    address: String,
    login_url: String,
    token: String,
}

/// What the server prints.
type ServerLines = Lines<BufReader<ChildStdout>>;

/// Starts the server; it ends with this process.
fn spawn(data: &Path, scripted: Option<&ScriptedServer>) -> Result<(Child, ServerLines), Failure> {
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    command.arg("--parent-death").arg(std::process::id().to_string());
    if let Some(scripted) = scripted {
        command
            .env("ANTHROPIC_BASE_URL", scripted.base_url())
            .env("ANTHROPIC_API_KEY", "scripted")
            .env("ANTHROPIC_MODEL", demo::MODEL);
    }
    command.env_remove("PATCHYARD_CONFIG").stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    let Some(stdout) = child.stdout.take() else {
        return Err(Failure::Internal("the demo's server has no output".into()));
    };
    Ok((child, BufReader::new(stdout).lines()))
}

/// Ends the server with its sandboxes.
async fn stop(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    if tokio::time::timeout(Duration::from_secs(90), child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

fn failed(error: std::io::Error) -> Failure {
    Failure::Internal(format!("the demo's server did not start: {error}"))
}

impl DemoServer {
    /// Reads what the server says of itself.
    async fn hear(mut lines: ServerLines, data: &Path) -> Result<Self, Failure> {
        let mut next = async |what: &str| {
            let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await;
            match line {
                Ok(Ok(Some(line))) => Ok(line),
                _ => {
                    Err(Failure::Failed(format!("the demo's server said no {what}; see `patchyard doctor`")))
                }
            }
        };
        let listening = next("address").await?;
        let signing_in = next("login address").await?;
        // What it says later nobody reads; the pipe must not fill up.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let address = listening.trim_start_matches("listening on ").to_owned();
        let login_url = signing_in.rsplit(' ').next().unwrap_or_default().to_owned();
        let token = std::fs::read_to_string(data.join("token")).map_err(failed)?;
        Ok(Self { address, login_url, token })
    }
}

async fn task(server: &DemoServer, dir: &Path, scripted: bool) -> Result<ExitCode, Failure> {
    let client = Client::new(&server.address, Some(server.token.trim().to_owned()))?;
    let repository = make_repository(dir)?;
    let bundle = bundle::make(&repository, None)?;
    let upload = client.upload(&bundle.path).await?;
    line(&format!("task: {}", demo::PROMPT));
    let body = CreateSession {
        prompt: demo::PROMPT.into(),
        repository: RepositorySource::Bundle {
            upload: upload.upload,
            name: bundle.name.clone(),
            branch: bundle.branch.clone(),
        },
        agent: None,
        environment: None,
        image: None,
    };
    let view = client.create_session(&body, &Ulid::generate().to_string()).await?;
    let id = view.id;
    note(&format!("session {id} · {}", client.session_url(id)));
    let outcome = remote::wait(&client, view, OutputFormat::Text).await?;

    let events = client.events(id, 0).await?.events;
    let tests = test_runs(&events);
    let patch = client.patch(id).await?;
    line("\n── the change ──");
    from_elsewhere(&patch);
    line("\n── the tests, run inside the sandbox ──");
    if let [first, .., last] = tests.as_slice() {
        line(&format!("before: {first}"));
        line(&format!("after:  {last}"));
    } else {
        line("the agent did not run them before and after");
    }
    line("");
    remote::finish(&outcome, OutputFormat::Text);
    let passed = tests.len() > 1 && tests.last().is_some_and(|run| run.passed);
    let said_so = !scripted || last_words(&events).is_some_and(demo::outcome_ok);
    if outcome.is_completed() && !patch.is_empty() && passed && said_so {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::Failed(if scripted {
        "the demo did not come to its end: the scripted model saw something that a working patchyard would not show it; read the transcript above".into()
    } else {
        "the model did not show the tests passing; read the transcript above".to_owned()
    }))
}

/// The bundled repository, as a user's own would be.
fn make_repository(dir: &Path) -> Result<std::path::PathBuf, Failure> {
    let path = dir.join("slugify");
    let failed = |error: std::io::Error| Failure::Internal(format!("the demo's repository: {error}"));
    std::fs::create_dir(&path).map_err(failed)?;
    for (name, content) in demo::FILES {
        std::fs::write(path.join(name), content).map_err(failed)?;
    }
    for args in [
        &["init", "-q", "-b", "main"][..],
        &["add", "-A"],
        &["commit", "-q", "-m", "A small package with a bug"],
    ] {
        let status = std::process::Command::new("git")
            .args(["-c", "user.name=demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgSign=false"])
            .args(args)
            .current_dir(&path)
            .env_remove("GIT_DIR")
            .status()
            .map_err(failed)?;
        if !status.success() {
            return Err(Failure::Failed(
                "git could not make the demo's repository; install git 2.37 or newer".into(),
            ));
        }
    }
    Ok(path)
}

/// One run of the tests.
struct TestRun {
    passed: bool,
    words: String,
}

impl std::fmt::Display for TestRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", if self.passed { "pass" } else { "FAIL" }, self.words)
    }
}

/// The runs of the tests that the log shows, in order.
fn test_runs(events: &[Event]) -> Vec<TestRun> {
    let calls: Vec<&str> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::ToolCall(call)
                if call.input["command"].as_str().is_some_and(|c| c.contains("unittest")) =>
            {
                Some(call.call.as_str())
            }
            _ => None,
        })
        .collect();
    events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::ToolResult(result) if calls.contains(&result.call.as_str()) => {
                let words = result.content.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
                Some(TestRun { passed: result.detail["exit_code"] == 0, words: plain(words) })
            }
            _ => None,
        })
        .collect()
}

fn last_words(events: &[Event]) -> Option<&str> {
    events.iter().rev().find_map(|event| match &event.body {
        EventBody::AgentMessage(block) => Some(block.text.as_str()),
        _ => None,
    })
}

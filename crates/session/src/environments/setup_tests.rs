//! A setup script tried out: a sandbox of its own, the output as it comes, nothing left.
//!
//! ```text
//!  request ─▶ queued ─▶ running: repository · sandbox · clone · script ─▶ passed | failed ─ an hour ─▶ forgotten
//!             (two at a time)                     │ cancelled, deadline
//!                                                 └─▶ sandbox and repository go in every case
//! ```
//!
//! The repository of a test has the id of a session that nobody knows: what a crash leaves of it goes
//! at the next start, with the sandbox.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use git_proxy::Modules;
use protocol::environment::{EnvironmentSettings, SetupTest, SetupTestState};
use protocol::hands::{ExecEvent, Hands as _};
use protocol::ids::{EnvironmentId, SandboxId, SessionId, SetupTestId};
use sandbox::guest_link::GuestLink;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::EnvironmentError;
use crate::create::NewRepository;
use crate::driver::LiveSandbox;
use crate::error::SessionError;
use crate::networks::Ground;
use crate::provision::exec::{Kept, command, script};
use crate::provision::workspace::Wanted;
use crate::provision::{self, plan, setup, workspace};
use crate::registry::{Sessions, Shared};

/// Tests that run at the same time.
const RUNNING: usize = 2;

/// Tests that wait or run.
const MAX_OPEN: usize = 8;

/// How long a test is kept after its end.
const KEPT: Duration = Duration::from_secs(3600);

/// How long a reader waits for something new.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where an empty workspace is.
const EMPTY_WORKSPACE: &str = "/workspace/empty";

/// The branch of a test's repository.
const BRANCH: &str = "patchyard/setup-test";

/// The tests of a server.
pub(crate) struct SetupTests {
    all: Mutex<HashMap<SetupTestId, Arc<Test>>>,
    running: Semaphore,
}

struct Test {
    environment: EnvironmentId,
    begun: Instant,
    progress: watch::Sender<Progress>,
    stop: CancellationToken,
}

struct Progress {
    state: SetupTestState,
    message: String,
    kept: Kept,
    output: String,
    ended: Option<Instant>,
}

impl SetupTests {
    pub(crate) fn new() -> Self {
        Self { all: Mutex::default(), running: Semaphore::new(RUNNING) }
    }

    /// Ends all that run.
    pub(crate) fn stop(&self) {
        for test in self.all.lock().unwrap_or_else(PoisonError::into_inner).values() {
            test.stop.cancel();
        }
    }

    fn find(&self, id: SetupTestId) -> Result<Arc<Test>, EnvironmentError> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&id).cloned().ok_or(EnvironmentError::NoTest(id))
    }

    fn add(&self, id: SetupTestId, environment: EnvironmentId) -> Result<Arc<Test>, EnvironmentError> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, test| test.progress.borrow().ended.is_none_or(|ended| ended.elapsed() < KEPT));
        let open = all.values().filter(|test| test.progress.borrow().ended.is_none()).count();
        if open >= MAX_OPEN {
            return Err(EnvironmentError::TooManyTests(open));
        }
        let progress = Progress {
            state: SetupTestState::Queued,
            message: "waiting for other tests to end".into(),
            kept: Kept::default(),
            output: String::new(),
            ended: None,
        };
        let (progress, _) = watch::channel(progress);
        let test =
            Arc::new(Test { environment, begun: Instant::now(), progress, stop: CancellationToken::new() });
        all.insert(id, Arc::clone(&test));
        Ok(test)
    }
}

impl Test {
    fn shown(&self, id: SetupTestId, after: u64) -> SetupTest {
        let progress = self.progress.borrow();
        let from = usize::try_from(after).unwrap_or(usize::MAX).min(progress.output.len());
        let from = progress.output.floor_char_boundary(from);
        let ended = progress.ended.unwrap_or_else(Instant::now);
        SetupTest {
            id,
            environment: self.environment,
            state: progress.state,
            message: progress.message.clone(),
            output: progress.output[from..].to_owned(),
            next: progress.output.len() as u64,
            truncated: progress.kept.is_cut(),
            duration_ms: u64::try_from((ended - self.begun).as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn says(&self, message: &str) {
        self.progress.send_modify(|progress| {
            progress.state = SetupTestState::Running;
            message.clone_into(&mut progress.message);
        });
    }

    fn prints(&self, bytes: &[u8]) {
        self.progress.send_modify(|progress| {
            let head = progress.kept.take(bytes);
            progress.output.push_str(&String::from_utf8_lossy(head));
        });
    }

    fn ends(&self, outcome: Result<String, String>) {
        self.progress.send_modify(|progress| {
            let rest = progress.kept.end();
            progress.output.push_str(&rest);
            (progress.state, progress.message) = match outcome {
                Ok(message) => (SetupTestState::Passed, message),
                Err(message) => (SetupTestState::Failed, message),
            };
            progress.ended = Some(Instant::now());
        });
    }
}

impl Sessions {
    /// Tries a setup script out, in the environment as it is kept or as it is about to be.
    pub async fn test_setup(
        &self,
        id: EnvironmentId,
        given: Option<EnvironmentSettings>,
        repository: Option<NewRepository>,
    ) -> Result<SetupTest, SessionError> {
        let stored = self.shared.store.environment(id).await?;
        let settings = match given {
            Some(settings) => self.checked(settings).await?,
            None => stored.settings,
        };
        self.check_image(&settings.image).await?;
        self.check_tier(&settings).await?;
        let (test_id, shared) = (SetupTestId::from(Ulid::generate()), Arc::clone(&self.shared));
        let test = shared.setup_tests.add(test_id, id)?;
        let shown = test.shown(test_id, 0);
        self.shared.background.spawn(async move {
            let outcome = run(&shared, &test, &settings, repository).await;
            test.ends(outcome);
        });
        Ok(shown)
    }

    /// A test as it is: at once where there is something new after that byte, or when there is, or
    /// after a while.
    pub async fn setup_test(&self, id: SetupTestId, after: u64) -> Result<SetupTest, SessionError> {
        let test = self.shared.setup_tests.find(id)?;
        let mut progress = test.progress.subscribe();
        let news = progress.wait_for(|now| now.state.is_over() || now.output.len() as u64 > after);
        // Nothing new is an answer, too.
        let _ = tokio::time::timeout(PATIENCE, news).await;
        Ok(test.shown(id, after))
    }

    /// Ends a test.
    pub fn cancel_setup_test(&self, id: SetupTestId) -> Result<(), SessionError> {
        self.shared.setup_tests.find(id)?.stop.cancel();
        Ok(())
    }
}

/// Waits for its turn, runs, and takes everything down again.
async fn run(
    shared: &Arc<Shared>,
    test: &Test,
    settings: &EnvironmentSettings,
    repository: Option<NewRepository>,
) -> Result<String, String> {
    let stopped = || Err("it was stopped".to_owned());
    let _turn = tokio::select! {
        turn = shared.setup_tests.running.acquire() => turn.map_err(|error| error.to_string())?,
        () = test.stop.cancelled() => return stopped(),
    };
    let (sandbox, session) = (SandboxId::from(Ulid::generate()), SessionId::from(Ulid::generate()));
    let work = try_out(shared, test, settings, repository, sandbox, session);
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = test.stop.cancelled() => stopped(),
    };
    shared.destroy(sandbox).await;
    if let Err(error) = shared.repositories.delete(session).await {
        tracing::warn!(%error, "the repository of a setup test stays until the next start");
    }
    outcome
}

async fn try_out(
    shared: &Arc<Shared>,
    test: &Test,
    settings: &EnvironmentSettings,
    repository: Option<NewRepository>,
    sandbox: SandboxId,
    session: SessionId,
) -> Result<String, String> {
    let wanted = match repository {
        None => None,
        Some(repository) => {
            test.says("fetching the repository");
            let (origin, imported) = crate::create::import(shared, session, repository)
                .await
                .map_err(|error| error.to_string())?;
            let started = shared.repositories.start_branch(session, BRANCH, &imported.base).await;
            started.map_err(|error| error.to_string())?;
            let path = format!("/workspace/{}", origin.name);
            let (modules, pointers) = (Modules::default(), Vec::new());
            let mut wanted = Wanted { path, branch: BRANCH.into(), commit: imported.base, modules, pointers };
            wanted.bring(shared, session, origin.url.as_deref()).await;
            for remark in wanted.missing() {
                test.prints(format!("{remark}\n").as_bytes());
            }
            Some(wanted)
        }
    };
    test.says("starting the sandbox");
    let spec = super::sandbox_spec(settings, &settings.image);
    let owner = wanted.as_ref().map(|_| session);
    let bound = (session, Ground::Tried(shared.config.network.rules(settings)));
    let starting = provision::start(shared, sandbox, owner, spec, bound);
    let live = within(shared.config.deadlines.sandbox, "the start of the sandbox", starting).await?;
    for sentence in &live.unenforced {
        test.prints(format!("{sentence}\n").as_bytes());
    }
    test.says("preparing the workspace");
    let preparing = prepare(&live, test, wanted.as_ref());
    within(shared.config.deadlines.workspace, "the clone", preparing).await?;
    if settings.setup_script.trim().is_empty() {
        return Ok("there is no setup script; a sandbox was made, and all is well".into());
    }
    test.says("running the setup script");
    let path = wanted.as_ref().map_or(EMPTY_WORKSPACE, |wanted| &wanted.path);
    let mut env = plan::own_variables(shared, settings);
    env.extend(provision::ours(&session.to_string(), path));
    run_script(&live, test, settings, path, env, shared.config.deadlines.setup).await
}

async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let seconds = limit.as_secs();
    let late = |_| format!("{what} took over {seconds} s and was given up");
    tokio::time::timeout(limit, work).await.map_err(late)?
}

async fn prepare(live: &LiveSandbox, test: &Test, wanted: Option<&Wanted>) -> Result<(), String> {
    let spec = match wanted {
        Some(wanted) => workspace::clone_command(wanted),
        None => {
            let text = format!("mkdir -p {EMPTY_WORKSPACE} && git init --quiet {EMPTY_WORKSPACE}");
            command(script(&text), "/", Vec::new(), Duration::from_secs(60))
        }
    };
    let end = print(&live.link, test, spec).await?;
    if end.is_success() { Ok(()) } else { Err("the workspace could not be made; its output says why".into()) }
}

async fn run_script(
    live: &LiveSandbox,
    test: &Test,
    settings: &EnvironmentSettings,
    path: &str,
    env: Vec<(String, String)>,
    limit: Duration,
) -> Result<String, String> {
    let begun = Instant::now();
    let argv = setup::place(&live.link, &settings.setup_script).await?;
    let spec = setup::command_of(argv, path, env, limit);
    let end = print(&live.link, test, spec).await?;
    if !end.is_success() {
        return Err(setup::failure(&end, limit, ""));
    }
    let left = setup::left_running(&live.link).await?;
    let mut message = format!("the setup script ended with 0 after {} s", begun.elapsed().as_secs());
    if !left.is_empty() {
        message.push_str("; in a session it would be ");
        message.push_str(&setup::not_kept(&left));
    }
    Ok(message)
}

async fn print(
    link: &GuestLink,
    test: &Test,
    spec: protocol::hands::ExecSpec,
) -> Result<protocol::hands::ExecEnd, String> {
    let mut execution = link.start(spec).await.map_err(|error| error.to_string())?;
    loop {
        match execution.next().await.map_err(|error| error.to_string())? {
            ExecEvent::Stdout(bytes) | ExecEvent::Stderr(bytes) => test.prints(&bytes),
            ExecEvent::Exited(end) => return Ok(end),
        }
    }
}

//! Background tasks: commands that run while the agent goes on.
//!
//! ```text
//!  Bash(run_in_background) ─▶ running ── ends ─▶ ended ── told with the next result, or by TaskOutput
//!       ▲                        │ TaskStop: SIGTERM, 2 s, SIGKILL
//!       └── taken up again by the next process, from the log and the journal of the hands
//! ```

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::event::EventBody;
use protocol::hands::{ExecEnd, ExecEvent, ExecSignal, ExecSpec, Execution, HandsError};
use protocol::ids::ExecId;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::bench::{Workbench, exec_of, lock};
use super::call::{TaskOutputInput, TaskStopInput};
use super::run::Run;
use crate::history::INTERRUPTED;
use crate::outcome::Outcome;
use crate::stream_text::{capped, plain};

const DEFAULT_WAIT: Duration = Duration::from_secs(30);
const MAX_WAIT: Duration = Duration::from_secs(600);

/// What is kept of a task's output: its end.
const MAX_KEPT: usize = 1024 * 1024;

/// Tasks that are kept, running and ended.
const MAX_TASKS: usize = 32;

/// Characters that the model reads at a time.
const MAX_TEXT: usize = 30_000;

/// How long a task has to end after SIGTERM, and how long a signal may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The tasks of a session, oldest first; all are let go when this is dropped.
#[derive(Default)]
pub(crate) struct Tasks {
    list: Mutex<Vec<Arc<Task>>>,
    /// Tasks of the log that this process has not taken up.
    remembered: Mutex<Vec<Remembered>>,
}

/// A task as the log tells of it.
struct Remembered {
    call: String,
    command: String,
    /// Its id, once it was begun.
    id: Option<String>,
    told: bool,
}

struct Task {
    exec: ExecId,
    id: String,
    command: String,
    kept: Arc<Mutex<Kept>>,
    end: watch::Receiver<Option<TaskEnd>>,
    stop: CancellationToken,
    pump: JoinHandle<()>,
}

#[derive(Default)]
struct Kept {
    output: VecDeque<u8>,
    /// Bytes that came in all.
    total: u64,
    /// Whether the model knows of the end.
    told: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum TaskEnd {
    Exited(ExecEnd),
    Lost(String),
}

impl Drop for Task {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Tasks {
    /// Starts a command and returns at once.
    pub(super) async fn start(&self, with: Run<'_>, spec: ExecSpec, command: &str) -> Outcome {
        if let Err(reason) = self.make_room(with.bench) {
            return Outcome::failed(reason);
        }
        let (exec, id) = (spec.exec, format!("task_{}", spec.exec.short()));
        let execution = match with.begin(spec).await {
            Ok(execution) => execution,
            Err(error) => return Outcome::hands(&error),
        };
        self.enter(exec, &id, command, Ok(execution), false);
        let content = format!(
            "The command runs in the background as task {id}. Use TaskOutput to see its output and TaskStop \
             to stop it; you will be told when it ends."
        );
        Outcome::ok(content, json!({ "background_task_id": id }))
    }

    fn enter(
        &self,
        exec: ExecId,
        id: &str,
        command: &str,
        execution: Result<Box<dyn Execution>, HandsError>,
        told: bool,
    ) {
        let (ended, end) = watch::channel(None);
        let kept = Arc::new(Mutex::new(Kept { told, ..Kept::default() }));
        let stop = CancellationToken::new();
        let pump = tokio::spawn({
            let (kept, stop) = (Arc::clone(&kept), stop.clone());
            async move {
                let end = match execution {
                    Ok(execution) => attend(execution, &stop, &kept).await.map_err(|error| error.to_string()),
                    Err(HandsError::NotFound { .. }) => Err("the sandbox that it ran in is gone".to_owned()),
                    Err(error) => Err(error.to_string()),
                };
                ended.send_replace(Some(end.map_or_else(TaskEnd::Lost, TaskEnd::Exited)));
            }
        });
        let (id, command) = (id.to_owned(), command.to_owned());
        lock(&self.list).push(Arc::new(Task { exec, id, command, kept, end, stop, pump }));
    }

    /// Notes what an event of an earlier process tells of tasks.
    pub(crate) fn remember(&self, body: &EventBody) {
        let mut remembered = lock(&self.remembered);
        match body {
            EventBody::ToolCall(call) if call.input["run_in_background"] == true => {
                let command = call.input["command"].as_str().unwrap_or_default().to_owned();
                remembered.push(Remembered { call: call.call.clone(), command, id: None, told: false });
            }
            EventBody::ToolResult(result) => {
                for task in remembered.iter_mut() {
                    if task.call == result.call {
                        task.id = result.detail["background_task_id"].as_str().map(ToOwned::to_owned);
                    } else if let Some(id) = &task.id {
                        task.told |= result.content.contains(&format!("<task-id>{id}</task-id>"))
                            || (result.detail["task_id"] == id.as_str()
                                && result.detail["status"] != "running");
                    }
                }
            }
            _ => {}
        }
    }

    /// Takes up the newest of the remembered tasks: what they said comes again.
    pub(crate) async fn take_up(&self, bench: &Workbench) {
        let remembered = std::mem::take(&mut *lock(&self.remembered));
        let begun = remembered.into_iter().filter(|task| task.id.is_some()).collect::<Vec<_>>();
        for task in begun.iter().skip(begun.len().saturating_sub(MAX_TASKS)) {
            let exec = exec_of(&task.call);
            let execution = bench.hands.attach(exec).await;
            // Of one that is gone, and whose end the model knows, there is nothing left to say.
            if execution.is_ok() || !task.told {
                self.enter(exec, task.id.as_deref().unwrap_or_default(), &task.command, execution, task.told);
            }
        }
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        lock(&self.list).iter().filter(|task| task.end.borrow().is_none()).count()
    }

    /// Ends all that run: SIGTERM, then SIGKILL. What heeds neither in time is left alone.
    pub(crate) async fn end_all(&self) {
        let running: Vec<_> =
            lock(&self.list).iter().map(|task| (task.stop.clone(), task.end.clone())).collect();
        running.iter().for_each(|(stop, _)| stop.cancel());
        for (_, mut end) in running {
            let _ = timeout(3 * PATIENCE, end.wait_for(Option::is_some)).await;
        }
    }

    /// Those that run, a line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let list = lock(&self.list);
        let running = list.iter().filter(|task| task.end.borrow().is_none());
        running
            .map(|task| format!("task {}: {}", task.id, task.command.lines().next().unwrap_or_default()))
            .collect()
    }

    /// What the model does not know yet: a notice for each task that ended since the last call.
    pub(crate) fn notices(&self) -> String {
        let mut text = String::new();
        for task in lock(&self.list).iter() {
            let Some(end) = task.end.borrow().clone() else { continue };
            if std::mem::replace(&mut lock(&task.kept).told, true) {
                continue;
            }
            let command: String = task.command.chars().take(200).collect();
            let _ = write!(
                text,
                "\n\n<task-notification>\n<task-id>{}</task-id>\n<status>{}</status>\n<summary>The background \
                 command `{command}` {}. TaskOutput has its output.</summary>\n</task-notification>",
                task.id,
                status(&end),
                words(&end),
            );
        }
        text
    }

    /// Drops the oldest ended task where there are too many.
    fn make_room(&self, bench: &Workbench) -> Result<(), String> {
        let mut list = lock(&self.list);
        if list.len() < MAX_TASKS {
            return Ok(());
        }
        let Some(ended) = list.iter().position(|task| task.end.borrow().is_some()) else {
            return Err(format!("{MAX_TASKS} background tasks run already; stop one with TaskStop first"));
        };
        bench.hands.release(list.remove(ended).exec);
        Ok(())
    }

    fn find(&self, id: &str) -> Result<Arc<Task>, String> {
        let list = lock(&self.list);
        list.iter().find(|task| task.id == id).cloned().ok_or_else(|| {
            let known: Vec<&str> = list.iter().map(|task| task.id.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            format!("there is no background task `{id}`; known tasks: {known}")
        })
    }
}

/// Takes the output of a task until it ends or is stopped.
async fn attend(
    mut execution: Box<dyn Execution>,
    stop: &CancellationToken,
    kept: &Mutex<Kept>,
) -> Result<ExecEnd, HandsError> {
    let mut kill_at = None;
    let mut stopping = false;
    loop {
        tokio::select! {
            event = execution.next() => match event? {
                ExecEvent::Stdout(bytes) | ExecEvent::Stderr(bytes) => lock(kept).push(&bytes),
                ExecEvent::Exited(end) => return Ok(end),
            },
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                let _ = timeout(PATIENCE, execution.signal(ExecSignal::Terminate)).await;
                kill_at = Some(Instant::now() + PATIENCE);
            }
            () = sleep_until(kill_at.unwrap_or_else(Instant::now)), if kill_at.is_some() => {
                kill_at = None;
                let _ = timeout(PATIENCE, execution.signal(ExecSignal::Kill)).await;
            }
        }
    }
}

impl Kept {
    fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        self.output.extend(&bytes[bytes.len().saturating_sub(MAX_KEPT)..]);
        let over = self.output.len().saturating_sub(MAX_KEPT);
        self.output.drain(..over);
    }

    fn text(&self) -> String {
        let (head, rest) = self.output.as_slices();
        plain(&String::from_utf8_lossy(&[head, rest].concat()))
    }
}

/// `TaskOutput`.
pub(super) async fn output(input: &TaskOutputInput, with: Run<'_>) -> Outcome {
    let task = match with.bench.tasks.find(&input.task_id) {
        Ok(task) => task,
        Err(reason) => return Outcome::failed(reason),
    };
    if input.block {
        let wait = input.timeout.map_or(DEFAULT_WAIT, Duration::from_millis).min(MAX_WAIT);
        let mut end = task.end.clone();
        let ended = timeout(wait, end.wait_for(Option::is_some));
        if with.stop.run_until_cancelled(ended).await.is_none() {
            return Outcome::failed(INTERRUPTED);
        }
    }
    report(&task)
}

/// `TaskStop`.
pub(super) async fn stop(input: &TaskStopInput, with: Run<'_>) -> Outcome {
    let task = match with.bench.tasks.find(&input.task_id) {
        Ok(task) => task,
        Err(reason) => return Outcome::failed(reason),
    };
    task.stop.cancel();
    let mut end = task.end.clone();
    // SIGTERM and SIGKILL have their times; what still runs then is told as running.
    let _ = timeout(3 * PATIENCE, end.wait_for(Option::is_some)).await;
    report(&task)
}

/// How a task stands, with what it printed.
fn report(task: &Task) -> Outcome {
    let end = task.end.borrow().clone();
    let mut kept = lock(&task.kept);
    kept.told |= end.is_some();
    let state = end.as_ref().map_or_else(|| "still runs".to_owned(), words);
    let mut content = format!("The task {} {state}.", task.id);
    let text = kept.text();
    let dropped = kept.total - kept.output.len() as u64;
    if dropped > 0 {
        let _ = write!(content, " The first {dropped} bytes of its output were not kept.");
    }
    let text = text.trim_end();
    if text.is_empty() {
        content.push_str(" It printed nothing so far.");
    } else {
        let _ = write!(content, " Its output:\n\n{}", capped(text, MAX_TEXT, "").text);
    }
    let status = end.as_ref().map_or("running", status);
    let exit_code = match &end {
        Some(TaskEnd::Exited(end)) => json!(end.code),
        _ => Value::Null,
    };
    Outcome::ok(content, json!({ "task_id": task.id, "status": status, "exit_code": exit_code }))
}

fn status(end: &TaskEnd) -> &'static str {
    match end {
        TaskEnd::Exited(end) if end.is_success() => "completed",
        TaskEnd::Exited(end) if end.signal.is_some() => "killed",
        TaskEnd::Exited(_) | TaskEnd::Lost(_) => "failed",
    }
}

fn words(end: &TaskEnd) -> String {
    match end {
        TaskEnd::Exited(end) => match (end.code, end.signal) {
            (Some(code), _) => format!("ended with exit code {code}"),
            (None, Some(signal)) => match end.exceeded {
                Some(exceeded) => format!("was ended by signal {signal}: {exceeded}"),
                None => format!("was ended by signal {signal}"),
            },
            (None, None) => "ended".to_owned(),
        },
        TaskEnd::Lost(error) => format!("was lost: {error}"),
    }
}

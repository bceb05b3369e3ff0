//! Shells of people in sandboxes.
//!
//! ```text
//!   open ─▶ task: the command on its terminal ─┬─ output ─▶ the last 256 KiB, and every viewer
//!                                              ├─ input, size ◀─ viewers
//!                                              └─ over: by itself · closed · sandbox gone · unwatched
//! ```
//!
//! A shell belongs to the server, not to a connection: who looks can go and come back. The log says
//! that one was opened and how it ended; what was typed is nobody's but the person's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use protocol::event::EventBody;
use protocol::hands::{ExecEvent, ExecSignal, ExecSpec, Execution, Hands as _, HandsError, TerminalSize};
use protocol::ids::{ExecId, SessionId, ShellId};
use protocol::shell::{OpenShell, Shell, ShellNotice};
use tokio::sync::mpsc;
use tokio::time::Instant;
use ulid::Ulid;

use crate::driver::{Handle, Look};
use crate::error::SessionError;
use crate::registry::Sessions;

/// Shells of one session at a time.
const MAX_SHELLS: usize = 8;

/// What a viewer that comes later still sees.
const SCROLLBACK: usize = 256 * 1024;

/// Pieces of output that may wait for one viewer.
const BEHIND: usize = 256;

/// How long what a finished shell printed waits for whoever opened it.
const FIRST_LOOK: Duration = Duration::from_secs(30);

/// How long a shell lives that nobody looks at.
const UNWATCHED: Duration = Duration::from_secs(30 * 60);

/// All shells of a server. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Shells(Arc<Mutex<BTreeMap<(SessionId, ShellId), Entry>>>);

#[derive(Clone)]
struct Entry {
    facts: Shell,
    orders: mpsc::Sender<Order>,
}

enum Order {
    Watch(mpsc::Sender<ShellOutput>),
    Input(Vec<u8>),
    Resize(TerminalSize),
    Close,
}

/// What a viewer sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShellOutput {
    /// Bytes for a terminal.
    Bytes(Vec<u8>),
    /// Something about the shell.
    Notice(ShellNotice),
}

/// Somebody who looks at a shell and types.
pub struct ShellViewer {
    output: mpsc::Receiver<ShellOutput>,
    orders: mpsc::Sender<Order>,
}

impl ShellViewer {
    /// The next thing that it shows; nothing after its end, or when this viewer was let go.
    pub async fn next(&mut self) -> Option<ShellOutput> {
        self.output.recv().await
    }

    /// Types.
    pub async fn input(&self, bytes: Vec<u8>) {
        let _ = self.orders.send(Order::Input(bytes)).await;
    }

    /// Says how large the viewer's terminal is.
    pub async fn resize(&self, size: TerminalSize) {
        let _ = self.orders.send(Order::Resize(size)).await;
    }
}

impl Sessions {
    /// Opens a shell in a session's living sandbox.
    pub async fn open_shell(&self, session: SessionId, request: OpenShell) -> Result<Shell, SessionError> {
        let handle = self.handle(session).await?;
        let look = handle.look().await?;
        let open = self.shells.of(session).len();
        if open >= MAX_SHELLS {
            return Err(SessionError::ManyShells(open));
        }
        let shell = ShellId::from(Ulid::generate());
        let spec = spec(&look, &request);
        let facts = Shell { shell, title: title(&spec.argv), opened_at: Timestamp::now(), viewers: 0 };
        let execution = look.link.start(spec).await?;
        handle.note(EventBody::ShellOpened { shell, command: request.command }).await?;
        let (orders, inbox) = mpsc::channel(64);
        let entry = Entry { facts: facts.clone(), orders };
        self.shells.table().insert((session, shell), entry);
        let task = Task {
            shells: self.shells.clone(),
            key: (session, shell),
            handle,
            execution,
            inbox,
            scrollback: VecDeque::new(),
            viewers: Vec::new(),
            watched: false,
        };
        tokio::spawn(task.run());
        Ok(facts)
    }

    /// The shells that run in a session.
    pub async fn shells(&self, session: SessionId) -> Result<Vec<Shell>, SessionError> {
        self.shared.store.session(session).await?;
        Ok(self.shells.of(session))
    }

    /// Looks at a shell: what it printed last comes first.
    pub async fn watch_shell(&self, session: SessionId, shell: ShellId) -> Result<ShellViewer, SessionError> {
        let orders = self.shells.orders(session, shell)?;
        let (viewer, output) = mpsc::channel(BEHIND);
        orders.send(Order::Watch(viewer)).await.map_err(|_| SessionError::NoShell(shell))?;
        Ok(ShellViewer { output, orders })
    }

    /// Ends a shell and what runs in it.
    pub async fn close_shell(&self, session: SessionId, shell: ShellId) -> Result<(), SessionError> {
        let orders = self.shells.orders(session, shell)?;
        orders.send(Order::Close).await.map_err(|_| SessionError::NoShell(shell))
    }
}

impl Shells {
    fn table(&self) -> std::sync::MutexGuard<'_, BTreeMap<(SessionId, ShellId), Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, session: SessionId) -> Vec<Shell> {
        let table = self.table();
        table.iter().filter(|((of, _), _)| *of == session).map(|(_, entry)| entry.facts.clone()).collect()
    }

    fn orders(&self, session: SessionId, shell: ShellId) -> Result<mpsc::Sender<Order>, SessionError> {
        let table = self.table();
        table.get(&(session, shell)).map(|entry| entry.orders.clone()).ok_or(SessionError::NoShell(shell))
    }
}

/// The command: what was asked for, else bash where there is one.
fn spec(look: &Look, request: &OpenShell) -> ExecSpec {
    let usual = ["sh", "-c", "if command -v bash >/dev/null; then exec bash -l; else exec sh -l; fi"];
    let argv =
        if request.command.is_empty() { usual.map(str::to_owned).to_vec() } else { request.command.clone() };
    ExecSpec {
        env: look.environment.clone(),
        terminal: Some(request.size),
        stdin: true,
        ..ExecSpec::new(ExecId::from(Ulid::generate()), argv, &look.workspace)
    }
}

fn title(argv: &[String]) -> String {
    if argv.len() == 3 && argv[0] == "sh" {
        "shell".to_owned()
    } else {
        argv.join(" ").chars().take(80).collect()
    }
}

/// One shell.
struct Task {
    shells: Shells,
    key: (SessionId, ShellId),
    handle: Handle,
    execution: Box<dyn Execution>,
    inbox: mpsc::Receiver<Order>,
    scrollback: VecDeque<u8>,
    viewers: Vec<mpsc::Sender<ShellOutput>>,
    /// Whether anybody ever looked.
    watched: bool,
}

impl Task {
    async fn run(mut self) {
        let started = Instant::now();
        let (code, reason) = self.serve().await;
        self.wait_for_a_first_viewer().await;
        self.shells.table().remove(&self.key);
        for viewer in self.viewers.drain(..) {
            let notice = ShellNotice::Ended { code, reason: reason.clone() };
            let _ = viewer.try_send(ShellOutput::Notice(notice));
        }
        let (session, shell) = self.key;
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let body = EventBody::ShellClosed { shell, duration_ms, code, reason };
        if let Err(error) = self.handle.note(body).await {
            tracing::debug!(%session, %error, "the end of a shell could not be recorded");
        }
    }

    /// A short command may be over before whoever opened it looks: what it printed waits for that.
    async fn wait_for_a_first_viewer(&mut self) {
        let until = Instant::now() + FIRST_LOOK;
        while !self.watched
            && let Ok(Some(order)) = tokio::time::timeout_at(until, self.inbox.recv()).await
        {
            match order {
                Order::Watch(viewer) => self.watch(viewer),
                Order::Close => return,
                Order::Input(_) | Order::Resize(_) => {}
            }
        }
    }

    /// Serves the shell to its end: its exit code, or why it ended otherwise.
    async fn serve(&mut self) -> (Option<i32>, Option<String>) {
        let mut unwatched = Instant::now() + UNWATCHED;
        loop {
            self.viewers.retain(|viewer| !viewer.is_closed());
            self.tell_viewers();
            if !self.viewers.is_empty() {
                unwatched = Instant::now() + UNWATCHED;
            }
            tokio::select! {
                event = self.execution.next() => match event {
                    Ok(ExecEvent::Stdout(bytes) | ExecEvent::Stderr(bytes)) => self.show(&bytes),
                    Ok(ExecEvent::Exited(end)) => return (end.code, end.exceeded.map(|limit| limit.to_string())),
                    Err(error) => return (None, Some(error.to_string())),
                },
                Some(order) = self.inbox.recv() => match self.obey(order).await {
                    Ok(true) => {}
                    Ok(false) => return self.kill("closed").await,
                    Err(error) => return (None, Some(error.to_string())),
                },
                () = tokio::time::sleep_until(unwatched) => return self.kill("nobody looked for half an hour").await,
            }
        }
    }

    /// Does what a viewer wants; false when that is the end.
    async fn obey(&mut self, order: Order) -> Result<bool, HandsError> {
        match order {
            Order::Watch(viewer) => self.watch(viewer),
            // Waits only once far more was typed than a terminal holds, and not for long: a shell that
            // does not read must still be heard and closed.
            Order::Input(bytes) => {
                let written =
                    tokio::time::timeout(Duration::from_secs(5), self.execution.write_stdin(&bytes));
                match written.await {
                    Ok(written) => written?,
                    Err(_) => tracing::debug!("a shell does not read what is typed"),
                }
            }
            Order::Resize(size) => self.execution.resize(size).await?,
            Order::Close => return Ok(false),
        }
        Ok(true)
    }

    fn watch(&mut self, viewer: mpsc::Sender<ShellOutput>) {
        self.watched = true;
        let seen: Vec<u8> = self.scrollback.iter().copied().collect();
        if seen.is_empty() || viewer.try_send(ShellOutput::Bytes(seen)).is_ok() {
            self.viewers.push(viewer);
        }
    }

    async fn kill(&mut self, reason: &str) -> (Option<i32>, Option<String>) {
        let _ = self.execution.signal(ExecSignal::Kill).await;
        (None, Some(reason.to_owned()))
    }

    fn show(&mut self, bytes: &[u8]) {
        self.scrollback.extend(bytes);
        let over = self.scrollback.len().saturating_sub(SCROLLBACK);
        self.scrollback.drain(..over);
        self.viewers.retain(|viewer| match viewer.try_send(ShellOutput::Bytes(bytes.to_vec())) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                // It is let go, and learns so as soon as it reads again.
                let viewer = viewer.clone();
                tokio::spawn(async move {
                    let _ = viewer.send(ShellOutput::Notice(ShellNotice::Behind)).await;
                });
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
    }

    fn tell_viewers(&self) {
        if let Some(entry) = self.shells.table().get_mut(&self.key) {
            entry.facts.viewers = u32::try_from(self.viewers.len()).unwrap_or(u32::MAX);
        }
    }
}

//! Sandboxes: what runs in them, and what it left.
//!
//! A command is known by its text. Those of tools say what they do, all others are scripts of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use protocol::hands::{ExecEnd, ExecSignal, ExecSpec, HandsError};
use protocol::ids::{ExecId, SessionId};
use tokio::sync::Notify;

use crate::git::{Files, Git};
use crate::kernel;
use crate::world::World;

const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;

/// A sandbox with its guest.
pub(crate) struct Sandbox {
    pub(crate) session: Option<SessionId>,
    pub(crate) files: Files,
    /// Files besides the workspace.
    pub(crate) others: BTreeMap<String, Vec<u8>>,
    /// Parts of files that are being written.
    pub(crate) parts: BTreeMap<String, Vec<u8>>,
    pub(crate) commands: BTreeMap<ExecId, Command>,
    /// Kept commands of which nothing is left.
    pub(crate) forgotten: BTreeSet<ExecId>,
    /// The newest connection; earlier ones are over.
    pub(crate) connection: u64,
    /// Told when something changed that connections wait for.
    pub(crate) changed: Arc<Notify>,
    /// The newest commit that was made inside.
    commit: Option<String>,
}

/// A command, and how it goes on.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    kept: bool,
    released: bool,
    /// What it says, and when.
    pub(crate) lines: Vec<(Duration, String)>,
    ends: Duration,
    code: i32,
    pub(crate) end: Option<ExecEnd>,
    /// What it leaves in the workspace when it ends well.
    mark: Option<String>,
    /// It heeds no signal but the last.
    deaf: bool,
}

/// What the model lets a command do.
pub(crate) struct Order {
    pub(crate) call: String,
    pub(crate) millis: u64,
    pub(crate) lines: u64,
    pub(crate) marks: bool,
    pub(crate) deaf: bool,
    pub(crate) code: i32,
}

impl Order {
    /// As the command of a call.
    pub(crate) fn text(&self) -> String {
        let Self { call, millis, lines, marks, deaf, code } = self;
        format!("sim-call {call} {millis} {lines} {} {} {code}", u8::from(*marks), u8::from(*deaf))
    }

    fn parse(script: &str) -> Option<Self> {
        let (_, order) = script.split_once("sim-call ")?;
        let words: Vec<&str> = order.split_whitespace().collect();
        let [call, millis, lines, marks, deaf, code] = words[..] else { return None };
        Some(Self {
            call: call.to_owned(),
            millis: millis.parse().ok()?,
            lines: lines.parse().ok()?,
            marks: marks == "1",
            deaf: deaf == "1",
            code: code.parse().ok()?,
        })
    }

    /// What it says line by line.
    pub(crate) fn line(call: &str, number: u64) -> String {
        format!("said {call} {number}")
    }
}

impl Sandbox {
    pub(crate) fn new(session: Option<SessionId>, files: Files) -> Self {
        Self {
            session,
            files,
            others: BTreeMap::new(),
            parts: BTreeMap::new(),
            commands: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            connection: 0,
            changed: Arc::default(),
            commit: None,
        }
    }

    /// What should have happened by now has.
    pub(crate) fn advance(&mut self) {
        let now = kernel::elapsed();
        for command in self.commands.values_mut() {
            if command.end.is_none() && command.ends <= now {
                command.end = Some(ExecEnd { code: Some(command.code), ..ExecEnd::default() });
                self.files.extend(command.mark.take());
            }
        }
    }

    /// Whether a command may begin under this id.
    fn may_start(&self, exec: ExecId) -> Result<(), HandsError> {
        let refused = |reason: &str| HandsError::Io { path: exec.to_string(), reason: reason.into() };
        if self.commands.contains_key(&exec) {
            return Err(refused("a command with this id runs already"));
        }
        if self.forgotten.contains(&exec) {
            return Err(refused("this command ran before"));
        }
        Ok(())
    }

    pub(crate) fn attach(&self, exec: ExecId) -> Result<(), HandsError> {
        if self.forgotten.contains(&exec) {
            return Err(HandsError::Io { path: exec.to_string(), reason: "this command ran before".into() });
        }
        match self.commands.get(&exec).filter(|command| command.kept) {
            Some(_) => Ok(()),
            None => Err(HandsError::NotFound { path: exec.to_string() }),
        }
    }

    /// The host has the outcome of a kept command.
    pub(crate) fn release(&mut self, exec: ExecId) {
        let Some(command) = self.commands.get_mut(&exec).filter(|command| command.kept) else { return };
        command.released = true;
        if command.end.is_some() {
            self.let_go(exec);
        }
    }

    /// The end of a command was told to the host.
    pub(crate) fn told(&mut self, exec: ExecId) {
        if self.commands.get(&exec).is_some_and(|command| !command.kept) {
            self.commands.remove(&exec);
        } else if self.commands.get(&exec).is_some_and(|command| command.released) {
            self.let_go(exec);
        }
    }

    fn let_go(&mut self, exec: ExecId) {
        self.commands.remove(&exec);
        self.forgotten.insert(exec);
    }

    pub(crate) fn signal(&mut self, exec: ExecId, signal: ExecSignal) -> Result<(), HandsError> {
        self.advance();
        let running = self.commands.get_mut(&exec).filter(|command| command.end.is_none());
        match running {
            Some(command) if signal == ExecSignal::Kill => command.die(SIGKILL),
            Some(command) if !command.deaf => command.die(SIGINT),
            Some(_) => {}
            None if signal == ExecSignal::Kill => {}
            None => return Err(HandsError::NotFound { path: exec.to_string() }),
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// Kills what runs; what is kept only with `kept_too`.
    pub(crate) fn kill(&mut self, kept_too: bool) {
        self.advance();
        for command in self.commands.values_mut().filter(|command| kept_too || !command.kept) {
            command.die(SIGKILL);
        }
        self.changed.notify_waiters();
    }
}

impl Command {
    fn die(&mut self, signal: i32) {
        if self.end.is_none() {
            let now = kernel::elapsed();
            self.lines.retain(|(at, _)| *at <= now);
            self.end = Some(ExecEnd { signal: Some(signal), ..ExecEnd::default() });
        }
    }

    /// When there is something to say that was not said.
    pub(crate) fn next(&self, said: usize) -> Duration {
        self.lines.get(said).map_or(self.ends, |(at, _)| *at)
    }
}

/// Begins a command in a sandbox.
pub(crate) fn start(
    world: &mut World,
    id: protocol::ids::SandboxId,
    spec: &ExecSpec,
    repos: &Path,
) -> Result<(), HandsError> {
    let took = Duration::from_millis(world.dice.u64(1..40));
    let Some(sandbox) = world.sandboxes.get_mut(&id) else { return Err(HandsError::Gone("over".into())) };
    sandbox.may_start(spec.exec)?;
    sandbox.advance();
    let began = kernel::elapsed();
    let mut command = Command {
        kept: spec.kept,
        released: false,
        lines: Vec::new(),
        ends: began + took,
        code: 0,
        end: None,
        mark: None,
        deaf: false,
    };
    let script = spec.argv.last().map(String::as_str).unwrap_or_default();
    let is_tool = Order::parse(script);
    match &is_tool {
        Some(order) => {
            let lasts = Duration::from_millis(order.millis);
            let count = u32::try_from(order.lines).unwrap_or(1);
            let at = |number: u32| began + lasts * (number + 1) / (count + 1);
            command.lines = (0..count)
                .map(|number| (at(number), Order::line(&order.call, number.into()) + "\n"))
                .collect();
            (command.ends, command.code, command.deaf) = (began + lasts, order.code, order.deaf);
            command.mark = order.marks.then(|| order.call.clone());
        }
        None => match ours(sandbox, &mut world.git, spec, script, repos) {
            Ok(said) => command.lines = vec![(began, said)],
            Err(words) => (command.lines, command.code) = (vec![(began, words)], 1),
        },
    }
    sandbox.commands.insert(spec.exec, command);
    let session = sandbox.session;
    match is_tool {
        Some(order) => ran(world, session, &order.call),
        None => cloned(world, id, session, script),
    }
    Ok(())
}

/// A script of ours: what it prints.
fn ours(
    sandbox: &mut Sandbox,
    git: &mut Git,
    spec: &ExecSpec,
    script: &str,
    repos: &Path,
) -> Result<String, String> {
    let variable = |wanted: &str| {
        let found = spec.env.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let repository =
        || repos.join(format!("{}.git", sandbox.session.map(|id| id.to_string()).unwrap_or_default()));
    if spec.argv.iter().any(|arg| arg == "bundle") {
        return sandbox
            .commit
            .as_ref()
            .map(|commit| format!("checkpoint {commit}"))
            .ok_or("no commit".into());
    }
    if script.contains("git clone --quiet") {
        let tip = git.branch(&repository(), &variable("BRANCH")).ok_or("no such branch")?;
        sandbox.files = git.files(&tip).cloned().ok_or("no such commit")?;
    } else if script.contains("write-tree") {
        let tip = variable("TIP");
        if git.files(&tip) == Some(&sandbox.files) {
            return Ok(tip);
        }
        let commit = git.commit(sandbox.files.clone(), Some(&tip));
        sandbox.commit = Some(commit.clone());
        return Ok(commit);
    } else if script.contains("read-tree -u --reset") {
        sandbox.files = git.files(&variable("COMMIT")).cloned().ok_or("no such commit")?;
    }
    Ok(String::new())
}

/// A call's command began.
fn ran(world: &mut World, session: Option<SessionId>, call: &str) {
    let times = world.ran.entry(call.to_owned()).or_default();
    *times += 1;
    let times = *times;
    if times > 1 {
        world.broken(format!("the command of {call} ran {times} times"));
    }
    let may_be_unseen = session.is_none_or(|session| world.is_going(session));
    if !world.called.contains(call) && !may_be_unseen && !world.dead {
        world.broken(format!("the command of {call} began before its call was durable"));
    }
}

/// A workspace was made: of the newest checkpoint that there is.
fn cloned(world: &mut World, id: protocol::ids::SandboxId, session: Option<SessionId>, script: &str) {
    let Some(session) = session.filter(|_| script.contains("git clone --quiet") && !world.dead) else {
        return;
    };
    let expected = world.newest.get(&session).and_then(|commit| world.git.files(commit));
    let found = world.sandboxes.get(&id).map(|sandbox| &sandbox.files);
    if let (Some(expected), Some(found)) = (expected, found)
        && expected != found
    {
        let (expected, found) = (expected.clone(), found.clone());
        world.broken(format!("{session} was cloned with {found:?}, its newest checkpoint has {expected:?}"));
    }
}

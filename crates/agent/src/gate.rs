//! What stands between a call of the model and its tool: rules, hooks, the person.
//!
//! ```text
//!  call ─▶ PreToolUse hooks ─▶ rules and mode ─▶ PermissionRequest hooks ─▶ the person ─▶ the tool runs
//!              │ deny              │ deny               │ deny                │ no
//!              └───────────────────┴────────────────────┴─────────────────────┴──▶ the result says which
//!                                                                    rule of which file, or which hook
//! ```

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use policy::permissions::{Permissions, Reason, ToolUse, Verdict};
use protocol::agent_port::{AgentPort, PortError, UseAnswer, UseQuestion};
use protocol::event::{EventBody, QuestionOption, SessionError};
use protocol::ids::PromptId;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::config::AgentConfig;
use crate::hooks::{self, Decision, Event, Hooks, Said};
use crate::library::Command;
use crate::outcome::Outcome;
use crate::settings::Settings;
use crate::steering::Steering;
use crate::threads::Thread;
use crate::tools::{Workbench, attend, new_exec};

/// How long it may take to find out where a link leads to.
const LOOK: Duration = Duration::from_secs(5);

/// Rules that allow, and who says so.
type Granted = (String, Vec<String>);

/// Rules and hooks of a session.
pub(crate) struct Gate {
    settings: Settings,
    /// The workspace, and what `~` is.
    places: (String, String),
    /// What is allowed for this turn besides, and all rules together.
    rules: SyncMutex<(Vec<Granted>, Arc<Permissions>)>,
    steering: Steering,
    /// The changes of it that the rules know of.
    heeded: SyncMutex<u64>,
    /// Whether the mode is that of a kind of agent, whatever the driver sets.
    keeps_mode: bool,
    hooks: Hooks,
    session: String,
    transcript: String,
    /// Set for an agent of a thread.
    pub(crate) thread: Option<Thread>,
    /// One question at a time, of all agents of the session.
    pub(crate) asking: Arc<Mutex<()>>,
    /// What was told of hooks already.
    told: SyncMutex<HashSet<String>>,
}

/// Where and when a hook runs.
#[derive(Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) bench: &'a Workbench,
    pub(crate) port: &'a dyn AgentPort,
    pub(crate) stop: &'a CancellationToken,
    pub(crate) prompt: PromptId,
    /// Whether a process that died may have begun what happens.
    pub(crate) resumed: bool,
}

/// A use that wants to happen.
pub(crate) struct Wish<'a> {
    pub(crate) call: &'a str,
    pub(crate) tool: &'a str,
    pub(crate) title: &'a str,
    pub(crate) input: &'a Value,
    pub(crate) read_only: bool,
}

impl Gate {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        // What is no rule was told when the settings were read.
        let workspace = config.workspace.trim_end_matches('/');
        let (permissions, _) = config.settings.permissions(workspace, &config.home, &[]);
        Self {
            settings: config.settings.clone(),
            places: (workspace.to_owned(), config.home.clone()),
            rules: SyncMutex::new((Vec::new(), Arc::new(permissions))),
            steering: config.steering.clone(),
            heeded: SyncMutex::new(0),
            keeps_mode: false,
            transcript: config.transcript.clone(),
            hooks: config.settings.hooks.clone(),
            session: config.session.clone(),
            thread: None,
            asking: Arc::default(),
            told: SyncMutex::default(),
        }
    }

    pub(crate) fn session(&self) -> &str {
        &self.session
    }

    pub(crate) fn permissions(&self) -> Arc<Permissions> {
        self.heed_steering();
        Arc::clone(&self.rules.lock().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// Keeps to the mode of the settings from here on.
    pub(crate) fn keep_mode(&mut self) {
        self.keeps_mode = true;
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.1 = self.compile(&rules.0);
    }

    /// Takes over what the driver changed.
    pub(crate) fn heed_steering(&self) {
        let mut heeded = self.heeded.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = self.steering.changes();
        if *heeded != changes {
            *heeded = changes;
            let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
            rules.1 = self.compile(&rules.0);
        }
    }

    /// Allows what a command or skill says that it needs, until [`Gate::revoke`]. A rule that denies or asks holds
    /// all the same.
    pub(crate) fn grant(&self, command: &Command) {
        if command.allowed_tools.is_empty() {
            return;
        }
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.0.push((format!("the command /{}", command.name), command.allowed_tools.clone()));
        rules.1 = self.compile(&rules.0);
    }

    /// Takes back what was granted: the turn is over.
    pub(crate) fn revoke(&self) {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if !rules.0.is_empty() {
            *rules = (Vec::new(), self.compile(&[]));
        }
    }

    fn compile(&self, granted: &[Granted]) -> Arc<Permissions> {
        let (workspace, home) = &self.places;
        let settings = self.settings.steered(&self.steering.now(), self.keeps_mode);
        Arc::new(settings.permissions(workspace, home, granted).0)
    }

    /// Whether commands inside of commands and skills do not run.
    pub(crate) fn runs_no_commands(&self) -> bool {
        self.settings.no_skill_commands
    }

    /// Whether a path is in the workspace, as it is named and where links lead to.
    pub(crate) async fn is_inside(&self, path: &str, bench: &Workbench) -> bool {
        let inside = |path: &str| Path::new(path).starts_with(&bench.workspace);
        inside(path) && real_path(bench, path).await.is_some_and(|real| inside(&real))
    }

    /// Runs the hooks of a moment, all at the same time, and tells the person what they say to them.
    /// `more` is what they read besides what all hooks do.
    pub(crate) async fn hooks(
        &self,
        event: Event,
        subject: &str,
        more: Value,
        moment: Moment<'_>,
    ) -> Result<Said, PortError> {
        let mut said = Said::default();
        let fits =
            |handler: &&hooks::Handler| subject.is_empty() || handler.fits(subject, &more["tool_input"]);
        let handlers: Vec<_> = self.hooks.of(event, subject).into_iter().filter(fits).collect();
        if handlers.is_empty() {
            return Ok(said);
        }
        let cwd = moment.bench.cwd();
        let mut input = json!({
            "session_id": self.session,
            "transcript_path": self.transcript,
            "cwd": cwd,
            "hook_event_name": event.name(),
            "prompt_id": moment.prompt.to_string(),
            "permission_mode": self.permissions().mode().name(),
        });
        if let Some(thread) = &self.thread {
            input["agent_id"] = thread.id.clone().into();
            input["agent_type"] = thread.kind.clone().into();
        }
        if let (Some(input), Value::Object(more)) = (input.as_object_mut(), more) {
            input.extend(more);
        }
        let bench = moment.bench;
        let mut env = bench.spec(Vec::new()).env;
        env.push(("CLAUDE_CODE_SESSION_ID".into(), self.session.clone()));
        if let (Event::SessionStart, Some(file)) = (event, bench.env_file()) {
            env.push(("CLAUDE_ENV_FILE".into(), file.to_owned()));
        }
        let (hands, places) = (&*bench.hands, (cwd.as_str(), bench.workspace.as_str()));
        let told = (env.as_slice(), &input);
        let call = input["tool_use_id"].as_str();
        let running = handlers.iter().map(|handler| async move {
            match handler.callback() {
                Some(hook) => hooks::call(moment.port, handler, (hook, told.1, call), moment.stop).await,
                None => hooks::run(hands, handler, new_exec(), places, told, moment.stop).await,
            }
        });
        let all = join_all(running).await;
        if moment.stop.is_cancelled() {
            return Ok(said);
        }
        for (handler, ran) in handlers.iter().zip(&all) {
            said.join(event, handler, ran);
        }
        self.tell(&said, moment.port).await?;
        Ok(said)
    }

    /// The same failure is told once.
    async fn tell(&self, said: &Said, port: &dyn AgentPort) -> Result<(), PortError> {
        let told = |code: &str, message: &String| {
            let (code, message) = (code.to_owned(), message.clone());
            EventBody::Error(SessionError { code, message, retry_in_ms: None })
        };
        let mut bodies: Vec<EventBody> =
            said.messages.iter().map(|text| told("hook_message", text)).collect();
        {
            let mut known = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = said.failures.iter().filter(|text| known.insert((*text).clone()));
            bodies.extend(fresh.map(|text| told("hook_failed", text)));
        }
        if !bodies.is_empty() {
            port.append(bodies).await?;
        }
        Ok(())
    }

    /// Whether a use may happen; the input that it happens with, or the result that it has instead.
    /// `hook` is what `PreToolUse` hooks decided.
    pub(crate) async fn pass(
        &self,
        wish: Wish<'_>,
        hook: Option<(Decision, String)>,
        moment: Moment<'_>,
    ) -> Result<Result<Option<Value>, Outcome>, PortError> {
        if let Some((Decision::Deny, reason)) = &hook {
            return Ok(Err(denied(format!("PreToolUse:{} hook error: {reason}", wish.tool), None)));
        }
        let paths = self.paths(&wish, moment.bench).await;
        let cwd = PathBuf::from(moment.bench.cwd());
        let Wish { tool, input, read_only, .. } = wish;
        let verdict =
            self.permissions().decide(&ToolUse { tool, input, cwd: &cwd, paths: &paths, read_only });
        let verdict = match (verdict, hook) {
            (Verdict::Allow, Some((Decision::Ask, reason))) => {
                Verdict::Ask(Reason { rule: None, what: format!("a hook asks first: {reason}") })
            }
            // A hook stands in for the person, not for a rule that asks.
            (Verdict::Ask(Reason { rule: None, .. }), Some((Decision::Allow, _))) => Verdict::Allow,
            (verdict, _) => verdict,
        };
        match verdict {
            Verdict::Allow => Ok(Ok(None)),
            Verdict::Deny(reason) => {
                let text =
                    format!("{tool} was not run: {reason}. Do not try to reach the same by another way.");
                Ok(Err(denied(text, Some(&reason))))
            }
            Verdict::Ask(reason) => self.ask(&wish, &reason, moment).await,
        }
    }

    async fn ask(
        &self,
        wish: &Wish<'_>,
        reason: &Reason,
        moment: Moment<'_>,
    ) -> Result<Result<Option<Value>, Outcome>, PortError> {
        let _one = self.asking.lock().await;
        let tool = wish.tool;
        let more = json!({ "tool_name": tool, "tool_input": wish.input, "permission_suggestions": [] });
        let said = self.hooks(Event::PermissionRequest, tool, more, moment).await?;
        match said.decision {
            Some((Decision::Deny, why)) => {
                return Ok(Err(denied(
                    format!("{tool} was not run: a PermissionRequest hook refused it: {why}"),
                    Some(reason),
                )));
            }
            Some((Decision::Allow, _)) => return Ok(Ok(said.input)),
            _ => {}
        }
        let question = UseQuestion {
            call: wish.call.to_owned(),
            tool: tool.to_owned(),
            title: wish.title.to_owned(),
            input: wish.input.clone(),
            reason: reason.to_string(),
            agent: None,
        };
        match moment.stop.run_until_cancelled(moment.port.may_use(&question)).await {
            None => return Ok(Err(Outcome::failed("not run: interrupted by the user"))),
            Some(answer) => match answer? {
                Some(UseAnswer::Allow { input }) => return Ok(Ok(input)),
                Some(UseAnswer::Deny { message }) => return Ok(Err(denied(message, Some(reason)))),
                None => {}
            },
        }
        let option = |id: &str, label: &str| QuestionOption { id: id.into(), label: label.into() };
        let options = vec![option("deny", "Refuse"), option("allow", "Allow this once")];
        let mut reasons = reason.to_string();
        if let Some(first) = reasons.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let text = format!("The agent wants to use {tool}: {}\n\n{reasons}. Allow it?", wish.title);
        let Some(answer) = moment.stop.run_until_cancelled(moment.port.ask(text, options)).await else {
            return Ok(Err(Outcome::failed("not run: interrupted by the user")));
        };
        let answer = answer?;
        if answer.option == "allow" {
            return Ok(Ok(None));
        }
        let who = if answer.by_deadline { "nobody answered in time" } else { "the person refused it" };
        let text = format!(
            "{tool} was not run: {reason}, and {who}. Go on without it, or end your turn and say what is missing."
        );
        Ok(Err(denied(text, Some(reason))))
    }

    /// What a use is about, as it is named and where links lead to; the latter only where it matters.
    async fn paths(&self, wish: &Wish<'_>, bench: &Workbench) -> Vec<PathBuf> {
        let text = |field: &str| wish.input[field].as_str();
        let named = match wish.tool {
            "Read" | "Edit" | "Write" => text("file_path"),
            "NotebookEdit" => text("notebook_path"),
            "Glob" | "Grep" => Some(text("path").unwrap_or(".")),
            _ => None,
        };
        let Some(named) = named else { return Vec::new() };
        let mut paths = vec![bench.absolute(named)];
        if let Some(pattern) =
            text("pattern").filter(|pattern| wish.tool == "Glob" && pattern.starts_with('/'))
        {
            let plain = pattern.find(['*', '?', '[', '{']).map_or(pattern, |end| &pattern[..end]);
            paths.push(bench.absolute(plain));
        }
        if self.permissions().looks_at_paths() {
            for path in paths.clone() {
                if let Some(real) = real_path(bench, &path).await.filter(|real| *real != path) {
                    paths.push(real);
                }
            }
        }
        paths.into_iter().map(PathBuf::from).collect()
    }
}

/// Where a path leads to; nothing where that cannot be said, as for a file in a folder to be made.
async fn real_path(bench: &Workbench, path: &str) -> Option<String> {
    let mut spec = bench.spec(["readlink", "-f", "--", path].map(str::to_owned).into());
    spec.cwd = "/".into();
    spec.timeout = Some(LOOK);
    let mut execution = bench.hands.start(spec).await.ok()?;
    let mut said = Vec::new();
    let mut take = |bytes: &[u8], is_error: bool| {
        if !is_error && said.len() < 16 * 1024 {
            said.extend_from_slice(bytes);
        }
    };
    let ended = attend(execution.as_mut(), &CancellationToken::new(), &mut take).await.ok()?;
    let real = String::from_utf8(said).ok()?;
    let real = real.strip_suffix('\n')?;
    (ended.end.is_success() && real.starts_with('/')).then(|| real.to_owned())
}

fn denied(text: String, reason: Option<&Reason>) -> Outcome {
    let rule = reason.and_then(|reason| reason.rule.as_ref());
    let detail = match rule {
        Some((rule, source)) => json!({ "denied": { "rule": rule, "source": source } }),
        None => json!({ "denied": {} }),
    };
    Outcome { detail, ..Outcome::failed(text) }
}

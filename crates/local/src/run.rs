//! One run: from its options to its exit code.
//!
//! ```text
//!  options ─▶ conversation, settings ─▶ prompt ─▶ agent made, SessionStart ─▶ init ─▶ turn ─▶ result ─┐
//!                                          ▲                                                           │ stream-json:
//!                                          └──────────── the next prompt, until the input ends ────────┘ again
//!  SIGINT ends the turn, SIGTERM the run; both end what commands are left
//! ```

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use agent::{PatchyardAgent, Steering};
use protocol::agent_port::{Agent as _, TurnEnd, TurnInput};
use protocol::ids::TurnId;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::control::Control;
use crate::conversation::{self, Begun};
use crate::desk::Desk;
use crate::error::LocalError;
use crate::hands::LocalHands;
use crate::home::Home;
use crate::input::{Input, Prompt};
use crate::model::Models;
use crate::options::{Format, Options};
use crate::port::{LocalPort, Parts};
use crate::project::{self, Project};
use crate::setup::{self, Ground};
use crate::stream::{Output, Report};

/// How a run ends that was told to.
const TERMINATED: u8 = 143;
const INTERRUPTED: u8 = 130;

/// Runs, and gives the exit code. `program` are our hands; `remark` tells the person what is not for the output.
///
/// # Errors
///
/// What keeps the run from beginning or going on.
pub async fn run(
    options: Options,
    program: Vec<String>,
    remark: &mut (dyn FnMut(&str) + Send),
) -> Result<u8, LocalError> {
    let home = Home::of_environment();
    let failed = |source| LocalError::File { path: PathBuf::from("."), source };
    let folder = std::env::current_dir().and_then(|folder| folder.canonicalize()).map_err(failed)?;
    let project = project::read(&home, &folder, &options)?;
    project.remarks.iter().for_each(|text| remark(text));
    let models = Models::find(&project.settings)?;
    let begun = conversation::begin(&home, &folder, &options)?;
    let steering = Steering::default();
    setup::steer(&steering, &options, &project)?;
    let output = Output::start();
    let control = Control::new(output.clone());
    let port = Arc::new(LocalPort::new(Parts {
        output: output.clone(),
        control: control.clone(),
        steering: steering.clone(),
        transcript: begun.transcript,
        session: begun.session.clone(),
        format: options.format,
        partial_messages: options.partial_messages,
        asked: options.asked.clone(),
        retries: models.retries(),
    }));
    let input = Input::open(options.stream_input)?;
    let first = options.prompt.clone().map(|text| Prompt::new(text, None));
    let desk = Desk::new(input, Arc::clone(&port), models.clone(), &options, first);
    let Begun { session, path, events, source, scratch, .. } = begun;
    let transcript = path.as_deref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    let run = Run {
        home: &home,
        folder: &folder,
        options: &options,
        program: &program,
        models,
        steering,
        control,
        port,
        desk,
        session,
        transcript,
        scratch: scratch.path(),
        source,
        last: None,
    };
    let code = Box::pin(run.go(project, &events, remark)).await;
    output.finish();
    code
}

struct Run<'a> {
    home: &'a Home,
    folder: &'a Path,
    options: &'a Options,
    program: &'a [String],
    models: Models,
    steering: Steering,
    control: Control,
    port: Arc<LocalPort>,
    desk: Desk,
    session: String,
    transcript: String,
    scratch: &'a Path,
    source: &'static str,
    last: Option<Report>,
}

/// The agent at work, and its hands.
struct AtWork {
    agent: PatchyardAgent,
    hands: Arc<LocalHands>,
    servers: Arc<agent::mcp::Servers>,
}

impl Run<'_> {
    async fn go(
        mut self,
        project: Project,
        events: &[protocol::event::Event],
        remark: &mut (dyn FnMut(&str) + Send),
    ) -> Result<u8, LocalError> {
        let mut project = Some(project);
        let (mut at_work, mut stopped) = (None, false);
        let mut outcome = Ok(());
        while let Some(prompt) = self.desk.prompt().await {
            if let Some(project) = project.take() {
                let stop = CancellationToken::new();
                at_work = Some(self.make(project, events, &stop, remark).await?);
                if self.desk.is_terminated() {
                    break;
                }
                // An interrupt that came meanwhile was for the prompt.
                stopped = stop.is_cancelled();
            }
            let Some(at_work) = &mut at_work else { break };
            outcome = self.turn(at_work, prompt, std::mem::take(&mut stopped)).await;
            if outcome.is_err() || self.desk.is_terminated() {
                break;
            }
        }
        if let Some(AtWork { mut agent, hands, servers }) = at_work {
            let port = Arc::clone(&self.port);
            // Whatever went wrong before, the end is the end.
            let _ = self.desk.attend(agent.close("other", &*port)).await;
            self.control.close();
            drop((agent, servers));
            hands.end().await;
        }
        outcome?;
        self.answer();
        Ok(self.code())
    }

    /// Makes the agent with all that it works with, and begins its session.
    async fn make(
        &mut self,
        project: Project,
        events: &[protocol::event::Event],
        stop: &CancellationToken,
        remark: &mut (dyn FnMut(&str) + Send),
    ) -> Result<AtWork, LocalError> {
        let ground = Ground {
            home: self.home,
            folder: self.folder,
            session: &self.session,
            transcript: self.transcript.clone(),
            scratch: self.scratch.to_owned(),
            options: self.options,
            program: self.program,
        };
        let with = (&self.steering, &self.control);
        let (config, hands, remarks) =
            setup::configure(&ground, project, &self.models, with, &self.desk.introduction)?;
        remarks.iter().for_each(|text| remark(text));
        self.port.equip(&config);
        let servers = Arc::clone(&config.servers);
        let mut agent = PatchyardAgent::new(config);
        agent.restore(events).await?;
        let port = Arc::clone(&self.port);
        port.watch(stop);
        self.desk.attend(agent.open(self.source, &*port, stop)).await?;
        Ok(AtWork { agent, hands, servers })
    }

    async fn turn(&mut self, at_work: &mut AtWork, prompt: Prompt, stopped: bool) -> Result<(), LocalError> {
        let model = match self.steering.model() {
            Some(model) => model,
            None => self.models.client(self.options.model.as_deref())?,
        };
        let model = model.config().model.clone();
        let stop = self.port.begin(&prompt, &model)?;
        if stopped {
            stop.cancel();
        }
        self.init(at_work, &model);
        prompt.stands(&self.port, "started");
        if self.options.replay_prompts {
            self.port.tell(json!({
                "type": "user", "message": { "role": "user", "content": prompt.text }, "isReplay": true,
                "parent_tool_use_id": null,
            }));
        }
        let input = TurnInput {
            turn: TurnId::from(Ulid::generate()),
            prompt: prompt.id,
            text: prompt.text.clone(),
            resumed: false,
        };
        let port = Arc::clone(&self.port);
        let work = pin!(at_work.agent.turn(input, &*port, stop));
        self.desk.runs(true);
        let end: TurnEnd = self.desk.attend(work).await;
        self.desk.runs(false);
        let left: VecDeque<Prompt> = self.port.left();
        self.desk.put_back(left);
        let report = self.port.end(&end, self.desk.queued())?;
        prompt.stands(&self.port, "completed");
        self.port.taken().iter().for_each(|prompt| prompt.stands(&self.port, "completed"));
        self.last = Some(report);
        Ok(())
    }

    /// Tells drivers what the turn has.
    fn init(&self, at_work: &AtWork, model: &str) {
        let offer = at_work.agent.offer();
        let servers: Vec<_> = at_work
            .servers
            .states()
            .into_iter()
            .map(|(name, status, source)| json!({ "name": name, "status": status, "source": source }))
            .collect();
        // The original's own name for it.
        let tools = offer.tools.iter().map(|tool| if tool == "Agent" { "Task" } else { tool });
        self.port.tell(json!({
            "type": "system",
            "subtype": "init",
            "cwd": self.folder.to_string_lossy(),
            "tools": tools.collect::<Vec<_>>(),
            "mcp_servers": servers,
            "model": model,
            "permissionMode": at_work.agent.mode(),
            "slash_commands": offer.commands,
            "apiKeySource": self.models.key_source,
            "claude_code_version": concat!(env!("CARGO_PKG_VERSION"), " (patchyard)"),
            "output_style": "default",
            "agents": offer.agents,
            "skills": offer.skills,
            "plugins": [],
            "capabilities": [],
            "memory_paths": {},
            "fast_mode_state": "off",
        }));
    }

    /// What a run prints at its end.
    fn answer(&self) {
        let Some(report) = &self.last else { return };
        match self.options.format {
            Format::Text => self.port.output.line(report.text.clone()),
            Format::Json => self.port.output.json(&self.port.whole(report)),
            Format::Stream => {}
        }
    }

    fn code(&self) -> u8 {
        match &self.last {
            _ if self.desk.is_terminated() => TERMINATED,
            Some(report) if report.interrupted && self.options.stream_input => 0,
            Some(report) if report.interrupted => INTERRUPTED,
            Some(report) => u8::from(report.is_error),
            None => 0,
        }
    }
}

//! The servers of one session.
//!
//! ```text
//!  declared ─ lists, settings ─▶ off, or waiting for the operator's approval
//!      │
//!      └─▶ starting ─▶ connected ─ it dies ─▶ started again with the next call
//!              └─▶ failed ─▶ tried again with the next turn
//! ```
//!
//! They start when the sandbox is ready, all at the same time, and end with it. A turn waits for those that
//! start, and each has `MCP_TIMEOUT` for that.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use model_gateway::Tool;
use policy::mcp::Reach;
use protocol::agent_port::Connected;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connection::{Connection, Facts, Place};
use super::declared::{Declared, Server, Source, Way};
use super::expand::Variables;
use super::http::address;
use super::names::normal;
use super::offer;
use crate::settings::{Refusal, Settings};
use crate::tools::lock;

/// How long a server may take to start, unless `MCP_TIMEOUT` says otherwise; and the longest that it can say.
const START: Duration = Duration::from_secs(30);
const MAX_START: Duration = Duration::from_secs(300);

/// How long a call may take, unless `MCP_TOOL_TIMEOUT` or the server's entry says otherwise; and the longest.
const CALL: Duration = Duration::from_secs(600);
const MAX_CALL: Duration = Duration::from_secs(6 * 3600);

/// Tokens of a result, unless `MAX_MCP_OUTPUT_TOKENS` says otherwise; and the most.
const OUTPUT: usize = 25_000;
const MAX_OUTPUT: usize = 100_000;

/// Characters of a token, about.
const CHARACTERS: usize = 4;

/// How often in a row a server is started again after it died, or did not start.
const RESTARTS: u32 = 5;

/// How long a server that says that its tools changed may take to tell of them.
const LOOK: Duration = Duration::from_secs(10);

/// How a server stands.
#[derive(Clone)]
pub(crate) enum State {
    /// It is not used; why.
    Off(String),
    /// The operator has to approve of it first.
    Unapproved(String),
    Starting,
    Connected(Arc<Connection>),
    Failed(String),
}

/// What variables say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) start: Duration,
    pub(super) call: Duration,
    /// Characters.
    pub(super) output: usize,
}

impl Limits {
    fn of(env: &[(String, String)]) -> Self {
        let number = |name: &str| {
            let value = env.iter().find(|(known, _)| known == name).map(|(_, value)| value.trim());
            value.and_then(|value| value.parse::<u64>().ok()).filter(|number| *number > 0)
        };
        let time = |name, usual, most| number(name).map_or(usual, Duration::from_millis).min(most);
        let tokens = number("MAX_MCP_OUTPUT_TOKENS").and_then(|tokens| usize::try_from(tokens).ok());
        Self {
            start: time("MCP_TIMEOUT", START, MAX_START),
            call: time("MCP_TOOL_TIMEOUT", CALL, MAX_CALL),
            output: tokens.unwrap_or(OUTPUT).min(MAX_OUTPUT) * CHARACTERS,
        }
    }
}

/// Where servers run, as a session says it.
pub struct ServersPlace {
    /// What runs their programs.
    pub hands: Arc<dyn protocol::hands::Hands>,
    /// Their working directory.
    pub workspace: String,
    /// What `~` is there.
    pub home: String,
    /// Variables of the session's commands.
    pub environment: Vec<(String, String)>,
    /// The program inside that carries connections out, and what stands before its words.
    pub guest_program: Vec<String>,
    /// Authorities, PEM, that programs inside trust.
    pub authorities: Vec<String>,
    /// Servers that live with whoever drives the agent.
    pub driver: Option<Arc<dyn DriverServers>>,
}

/// Servers that live with whoever drives the agent.
pub trait DriverServers: Send + Sync {
    /// A stream to the server of this name: a message of the protocol a line, both ways.
    fn open(&self, name: &str) -> tokio::io::DuplexStream;
}

/// All servers of a session. They end when this is dropped.
#[derive(Default)]
pub struct Servers {
    pub(super) all: Vec<Arc<Live>>,
    pub(super) limits: Option<Limits>,
    _ends: Option<DropGuard>,
}

/// One server.
pub(super) struct Live {
    pub(super) declared: Server,
    /// What could not be filled in.
    remark: Option<String>,
    pub(super) state: watch::Sender<State>,
    /// What it had when it was connected last.
    facts: Mutex<Option<Arc<Facts>>>,
    starts: Mutex<u32>,
    /// One start at a time.
    starting: tokio::sync::Mutex<()>,
    place: Arc<Place>,
    limits: Limits,
    ends: CancellationToken,
}

impl Servers {
    /// Starts the servers that may be used.
    #[must_use]
    pub fn start(declared: &Declared, settings: &Settings, place: ServersPlace) -> Self {
        let env = settings.environment(&place.environment);
        let limits = Limits::of(&env);
        let known: Vec<(String, String)> =
            [("HOME".to_owned(), place.home)].into_iter().chain(env.clone()).collect();
        let place = Arc::new(Place {
            hands: place.hands,
            workspace: place.workspace,
            env,
            guest_program: place.guest_program,
            authorities: place.authorities,
            driver: place.driver,
        });
        let ends = CancellationToken::new();
        let one = |server: &Server| {
            let mut variables = Variables::new(&known);
            let way = variables.fill(&server.way);
            let state = may_start(server, &way, settings);
            let starts = matches!(state, State::Starting);
            let live = Arc::new(Live {
                declared: Server { way, ..server.clone() },
                remark: variables.remark(),
                state: watch::Sender::new(state),
                facts: Mutex::default(),
                starts: Mutex::new(0),
                starting: tokio::sync::Mutex::default(),
                place: Arc::clone(&place),
                limits,
                ends: ends.clone(),
            });
            if starts {
                tokio::spawn(start(Arc::clone(&live)));
            }
            live
        };
        let all = declared.servers.iter().map(one).collect();
        Self { all, limits: Some(limits), _ends: Some(ends.drop_guard()) }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The longest that [`Servers::settle`] may take.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.limits.map_or(Duration::ZERO, |limits| limits.start + LOOK)
    }

    /// Waits until every server is connected or has failed.
    pub async fn settle(&self) {
        for live in &self.all {
            live.settled().await;
        }
    }

    /// For a new turn: tries again what failed, asks anew what says that it changed, and waits for that.
    pub(crate) async fn refresh(&self) {
        let again = |live: &Arc<Live>| {
            let failed = live.state.send_if_modified(|state| {
                let failed = matches!(state, State::Failed(_)) && live.may_start_again();
                if failed {
                    *state = State::Starting;
                }
                failed
            });
            failed.then(|| tokio::spawn(start(Arc::clone(live))));
        };
        self.all.iter().for_each(again);
        for live in &self.all {
            if let State::Connected(connection) = live.settled().await
                && connection.take_changed()
                && matches!(timeout(LOOK, connection.look()).await, Ok(Ok(())))
            {
                *lock(&live.facts) = Some(connection.facts());
            }
        }
    }

    /// The tools of all servers, always in the same order.
    pub(crate) fn tools(&self) -> Vec<Tool> {
        offer::tools(&self.known())
    }

    /// Servers and what they have, or had.
    pub(super) fn known(&self) -> Vec<(&str, Arc<Facts>)> {
        let facts = |live: &'_ Arc<Live>| lock(&live.facts).clone();
        self.all.iter().filter_map(|live| Some((live.declared.name.as_str(), facts(live)?))).collect()
    }

    /// A server by its name, as it is written or as it stands in names of tools.
    pub(super) fn find(&self, name: &str) -> Option<&Arc<Live>> {
        let by_name = self.all.iter().find(|live| live.declared.name == name);
        by_name.or_else(|| self.all.iter().find(|live| normal(&live.declared.name) == name))
    }

    /// How each server stands.
    pub(crate) fn connected(&self) -> Connected {
        let lines = self.all.iter().map(|live| format!("{}: {}", live.declared.name, live.words())).collect();
        let failures = self.failures();
        let told = || {
            let (failed, all) = (failures.len(), self.all.len());
            format!("{failed} of {all} MCP servers do not work: {}", failures.join("; "))
        };
        Connected { lines, wrong: (!failures.is_empty()).then(told) }
    }

    /// Name, state and source of each, in the words of the command line's protocol.
    #[must_use]
    pub fn states(&self) -> Vec<(String, &'static str, &'static str)> {
        let state = |live: &Arc<Live>| match &*live.state.borrow() {
            State::Off(_) => "disabled",
            State::Unapproved(_) | State::Starting => "pending",
            State::Connected(_) => "connected",
            State::Failed(_) => "failed",
        };
        let one = |live: &Arc<Live>| (live.declared.name.clone(), state(live), live.declared.source.name());
        self.all.iter().map(one).collect()
    }

    /// Those that should work and do not.
    pub(crate) fn failures(&self) -> Vec<String> {
        let failed = |live: &&Arc<Live>| matches!(*live.state.borrow(), State::Failed(_));
        let line = |live: &Arc<Live>| format!("{}: {}", live.declared.name, live.words());
        self.all.iter().filter(failed).map(line).collect()
    }
}

impl Live {
    /// The state, once it does not start any more.
    async fn settled(&self) -> State {
        let mut states = self.state.subscribe();
        let settled = states.wait_for(|state| !matches!(state, State::Starting));
        // A start has its own end; this is for one that was lost.
        match timeout(self.limits.start + LOOK, settled).await {
            Ok(Ok(state)) => state.clone(),
            Ok(Err(_)) | Err(_) => State::Failed("it did not start".into()),
        }
    }

    /// The connection; a server that died is started again.
    pub(super) async fn connection(self: &Arc<Self>) -> Result<(Arc<Connection>, bool), String> {
        match self.settled().await {
            State::Off(why) | State::Unapproved(why) => return Err(why),
            State::Connected(connection) if !connection.is_over() => return Ok((connection, false)),
            State::Connected(_) | State::Failed(_) | State::Starting => {}
        }
        let _one = self.starting.lock().await;
        // Another call may have done it.
        if let State::Connected(connection) = &*self.state.borrow()
            && !connection.is_over()
        {
            return Ok((Arc::clone(connection), false));
        }
        if !self.may_start_again() {
            return Err(format!("it was started again {RESTARTS} times in a row, and is not any more"));
        }
        open(self).await.map(|connection| (connection, true))
    }

    /// How long a call may take.
    pub(super) fn call_limit(&self) -> Duration {
        self.declared.timeout.unwrap_or(self.limits.call).min(MAX_CALL)
    }

    /// A call had an answer.
    pub(super) fn worked(&self) {
        *lock(&self.starts) = 1;
    }

    fn may_start_again(&self) -> bool {
        *lock(&self.starts) <= RESTARTS
    }

    /// How it stands, in words.
    pub(super) fn words(&self) -> String {
        let words = match &*self.state.borrow() {
            State::Off(why) => format!("not used: {why}"),
            State::Unapproved(why) => format!("needs approval: {why}"),
            State::Starting => "starting".to_owned(),
            State::Connected(connection) if connection.is_over() => {
                "ended; the next call starts it again".to_owned()
            }
            State::Connected(connection) => offer::summary(&self.declared.name, &connection.facts()),
            State::Failed(why) => format!("failed: {why}"),
        };
        match &self.remark {
            Some(remark) => format!("{words}; {remark}"),
            None => words,
        }
    }
}

/// What lists and settings say of a server.
fn may_start(server: &Server, way: &Way, settings: &Settings) -> State {
    let argv: Vec<String>;
    let url;
    let reach = match way {
        Way::Stdio { command, args, .. } => {
            argv = std::iter::once(command).chain(args).cloned().collect();
            Reach::Command(&argv)
        }
        Way::Http { url: text, .. } => match address(text) {
            Ok(parsed) => {
                url = parsed;
                Reach::Url(url.as_str())
            }
            Err(why) => return State::Off(why),
        },
        Way::Driver => Reach::Command(&[]),
    };
    match settings.servers.decide(server.source != Source::Repository, &server.name, reach) {
        Ok(()) => State::Starting,
        Err(Refusal::Off(why)) => State::Off(why),
        Err(Refusal::Unapproved(why)) => State::Unapproved(why),
    }
}

async fn start(live: Arc<Live>) {
    let _one = live.starting.lock().await;
    let _ = open(&live).await;
}

/// Opens a connection, within its time; the state says what came of it.
async fn open(live: &Live) -> Result<Arc<Connection>, String> {
    *lock(&live.starts) += 1;
    let limit = live.limits.start;
    let opening =
        timeout(limit, Box::pin(Connection::open(&live.declared.name, &live.declared.way, &live.place)));
    let opened = match live.ends.run_until_cancelled(opening).await {
        None => Err("the session is over".to_owned()),
        Some(Err(_)) => Err(format!("it did not start within {} s", limit.as_secs_f64())),
        Some(Ok(opened)) => opened,
    };
    let opened = opened.map(Arc::new);
    live.state.send_replace(match &opened {
        Ok(connection) => {
            *lock(&live.facts) = Some(connection.facts());
            State::Connected(Arc::clone(connection))
        }
        Err(why) => State::Failed(why.clone()),
    });
    opened
}

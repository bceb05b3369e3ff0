//! What outlives the server: the seed's dice, the machines of the far side, what clients know, and the trace.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use protocol::event::{Event, EventBody};
use protocol::ids::{LayerId, PromptId, SandboxId, Seq, SessionId};
use protocol::prompt::Delivery;

use crate::git::{Files, Git};
use crate::kernel;
use crate::sandboxes::Sandbox;

/// The longest text of one line of the trace.
const MAX_LINE: usize = 400;

/// Everything but the server.
pub(crate) struct World {
    pub(crate) dice: fastrand::Rng,
    /// Nothing fails any more: what was asked for has to come about.
    pub(crate) heals: bool,
    /// The server died; what its tasks do until they are gone counts for nothing.
    pub(crate) dead: bool,
    pub(crate) git: Git,
    pub(crate) sandboxes: BTreeMap<SandboxId, Sandbox>,
    /// Sandboxes that were ended, also before they were made: the host remembers them.
    pub(crate) ended: BTreeSet<SandboxId>,
    pub(crate) layers: BTreeMap<LayerId, Files>,
    /// How often the command of a call ran.
    pub(crate) ran: BTreeMap<String, u32>,
    /// Answers that the model began, by session.
    pub(crate) answered: BTreeMap<SessionId, u64>,
    /// Numbers of calls so far.
    pub(crate) calls: u64,
    /// Prompts that the model was shown.
    pub(crate) shown: BTreeSet<usize>,
    pub(crate) sessions: Vec<SessionRecord>,
    pub(crate) prompts: Vec<PromptRecord>,
    /// Prompts that were taken back, as the server said.
    pub(crate) cancelled: BTreeSet<PromptId>,
    /// What viewers saw.
    pub(crate) published: BTreeMap<SessionId, BTreeMap<Seq, Event>>,
    /// Calls and checkpoints among that.
    pub(crate) called: BTreeSet<String>,
    pub(crate) newest: BTreeMap<SessionId, String>,
    /// Promises that did not hold.
    pub(crate) violations: Vec<String>,
    trace: String,
}

/// A session as its client knows it.
#[derive(Debug, Clone)]
pub(crate) struct SessionRecord {
    /// Once the server said so.
    pub(crate) id: Option<SessionId>,
    pub(crate) first: usize,
    pub(crate) deleting: bool,
    pub(crate) deleted: bool,
}

/// A prompt as its client knows it.
#[derive(Debug, Clone)]
pub(crate) struct PromptRecord {
    pub(crate) session: usize,
    pub(crate) text: String,
    pub(crate) delivery: Delivery,
    pub(crate) state: Sent,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Sent, or about to be, and no answer yet.
    Pending,
    /// The receipt.
    Accepted(PromptId),
    /// The server did not want it.
    Refused,
}

/// The world, shared by its tasks.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            dice: fastrand::Rng::with_seed(seed),
            heals: false,
            dead: false,
            git: Git::default(),
            sandboxes: BTreeMap::new(),
            ended: BTreeSet::new(),
            layers: BTreeMap::new(),
            ran: BTreeMap::new(),
            answered: BTreeMap::new(),
            calls: 0,
            shown: BTreeSet::new(),
            sessions: Vec::new(),
            prompts: Vec::new(),
            cancelled: BTreeSet::new(),
            published: BTreeMap::new(),
            called: BTreeSet::new(),
            newest: BTreeMap::new(),
            violations: Vec::new(),
            trace: String::new(),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// A line of the trace.
    pub(crate) fn tell(&self, text: impl AsRef<str>) {
        self.lock().tell(text);
    }

    /// A fault happens in one of so many cases, and in none once all heals.
    pub(crate) fn fault(&self, one_in: u32) -> bool {
        let mut world = self.lock();
        let happens = world.dice.u32(..one_in) == 0;
        happens && !world.heals
    }

    /// Whether something happens, in one of so many cases.
    pub(crate) fn one_in(&self, cases: u32) -> bool {
        self.lock().dice.u32(..cases) == 0
    }

    /// A number of the dice.
    pub(crate) fn roll(&self, range: std::ops::Range<u64>) -> u64 {
        self.lock().dice.u64(range)
    }

    /// Waits for some milliseconds of the simulated time.
    pub(crate) async fn wait(&self, millis: std::ops::Range<u64>) {
        let millis = self.roll(millis);
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// A promise does not hold.
    pub(crate) fn broken(&self, what: impl AsRef<str>) {
        self.lock().broken(what);
    }
}

impl World {
    pub(crate) fn tell(&mut self, text: impl AsRef<str>) {
        let text: String = text.as_ref().chars().take(MAX_LINE).collect();
        let text = text.replace('\n', "⏎");
        let _ = writeln!(self.trace, "{:>12.3} {text}", kernel::elapsed().as_secs_f64());
    }

    pub(crate) fn broken(&mut self, what: impl AsRef<str>) {
        let what = what.as_ref();
        self.tell(format!("BROKEN {what}"));
        self.violations.push(what.to_owned());
    }

    pub(crate) fn trace(&self) -> &str {
        &self.trace
    }

    /// A viewer sees an event.
    pub(crate) fn see(&mut self, event: &Event) {
        let body = serde_json::to_string(&event.body).unwrap_or_default();
        self.tell(format!("log {} {} epoch {} {body}", event.session, event.seq, event.epoch));
        match &event.body {
            EventBody::ToolCall(call) => drop(self.called.insert(call.call.clone())),
            EventBody::Checkpoint(checkpoint) => {
                self.newest.insert(event.session, checkpoint.commit.clone());
            }
            _ => {}
        }
        let seen = self.published.entry(event.session).or_default();
        if let Some(other) = seen.insert(event.seq, event.clone())
            && other != *event
        {
            self.broken(format!("{} has two events {}", event.session, event.seq));
        }
    }

    /// Whether the client of a session wants it gone.
    pub(crate) fn is_going(&self, session: SessionId) -> bool {
        self.sessions.iter().any(|record| record.id == Some(session) && (record.deleting || record.deleted))
    }
}

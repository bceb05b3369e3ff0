//! What may be changed about an agent while it works, by whoever drives it.
//!
//! ```text
//!  driver ── Steering ── mode, rules and folders of this session ──▶ the gate, with the next call
//!                    └── model ──▶ the next request
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model_gateway::ModelClient;
use policy::permissions::{Effect, Mode, RuleSource};

/// Whose rules are that were made while the agent works.
const SESSION: &str = "this session";

/// A handle on what can be changed; clones are about the same agent.
#[derive(Clone, Default)]
pub struct Steering(Arc<Mutex<Held>>);

/// What was changed so far.
#[derive(Clone, Default)]
pub(crate) struct Held {
    /// Counts changes of what the gate goes by.
    pub(crate) changes: u64,
    pub(crate) mode: Option<Mode>,
    pub(crate) rules: Vec<RuleSource>,
    pub(crate) folders: Vec<String>,
    model: Option<ModelClient>,
}

impl Steering {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Held {
        self.held().clone()
    }

    pub(crate) fn changes(&self) -> u64 {
        self.held().changes
    }

    /// Sets the permission mode.
    pub fn set_mode(&self, mode: Mode) {
        let mut held = self.held();
        held.mode = Some(mode);
        held.changes += 1;
    }

    /// The mode that was set.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        self.held().mode
    }

    /// Sets rules that hold from the beginning to the end, whatever is changed later; `name` is whose they are.
    pub fn fix_rules(&self, name: &str, effect: Effect, rules: Vec<String>) {
        let mut source = RuleSource { name: name.to_owned(), ..nothing() };
        *list(&mut source, effect) = rules;
        let mut held = self.held();
        held.rules.push(source);
        held.changes += 1;
    }

    /// Changes the rules of this session.
    pub fn change_rules(&self, effect: Effect, change: impl FnOnce(&mut Vec<String>)) {
        let mut held = self.held();
        let at = held.rules.iter().position(|source| source.name == SESSION);
        let at = at.unwrap_or_else(|| {
            held.rules.push(RuleSource { name: SESSION.to_owned(), ..nothing() });
            held.rules.len() - 1
        });
        change(list(&mut held.rules[at], effect));
        held.changes += 1;
    }

    /// Takes a folder into what is worked on.
    pub fn add_folder(&self, folder: String) {
        let mut held = self.held();
        held.folders.push(folder);
        held.changes += 1;
    }

    /// Takes a folder out again.
    pub fn remove_folder(&self, folder: &str) {
        let mut held = self.held();
        held.folders.retain(|other| other != folder);
        held.changes += 1;
    }

    /// Sets the model that is asked from the next request on.
    pub fn set_model(&self, model: ModelClient) {
        self.held().model = Some(model);
    }

    /// The model that was set.
    #[must_use]
    pub fn model(&self) -> Option<ModelClient> {
        self.held().model.clone()
    }
}

fn nothing() -> RuleSource {
    let base = std::path::PathBuf::new();
    RuleSource { name: String::new(), base, deny: Vec::new(), ask: Vec::new(), allow: Vec::new() }
}

fn list(source: &mut RuleSource, effect: Effect) -> &mut Vec<String> {
    match effect {
        Effect::Deny => &mut source.deny,
        Effect::Ask => &mut source.ask,
        Effect::Allow => &mut source.allow,
    }
}

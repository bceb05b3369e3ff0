//! What may be changed about an agent while it works, by whoever drives it.
//!
//! ```text
//!  driver ── Steering ── mode, rules and folders of this session ──▶ the gate, with the next call
//!                    └── model ──▶ the next request
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model_gateway::ModelClient;
use policy::permissions::{Effect, Mode, RuleSource};

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

    /// Adds rules of this session.
    pub fn add_rules(&self, effect: Effect, rules: Vec<String>) {
        let mut held = self.held();
        let (mut deny, mut ask, mut allow) = (Vec::new(), Vec::new(), Vec::new());
        match effect {
            Effect::Deny => deny = rules,
            Effect::Ask => ask = rules,
            Effect::Allow => allow = rules,
        }
        let (name, base) = ("this session".to_owned(), std::path::PathBuf::new());
        held.rules.push(RuleSource { name, base, deny, ask, allow });
        held.changes += 1;
    }

    /// Takes rules of this session back.
    pub fn remove_rules(&self, effect: Effect, rules: &[String]) {
        let mut held = self.held();
        for source in &mut held.rules {
            let list = match effect {
                Effect::Deny => &mut source.deny,
                Effect::Ask => &mut source.ask,
                Effect::Allow => &mut source.allow,
            };
            list.retain(|rule| !rules.contains(rule));
        }
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

//! People: they send, send again, change, take back, stop, go back, put away and delete, by the dice.
//!
//! What they were told they hold the server to; what they were not told they ask again, with the same key.

use std::path::PathBuf;
use std::time::Duration;

use protocol::event::{EventBody, Rewound};
use protocol::ids::SessionId;
use protocol::prompt::Delivery;
use session::{NewRepository, NewSession, SessionError, Sessions};
use store::{Accepted, IdempotencyKey, StoreError};

use crate::model::PROMPT;
use crate::world::{PromptRecord, Sent, SessionRecord, Shared};

/// Sessions of one world.
const SESSIONS: usize = 3;

/// Prompts of one world.
const PROMPTS: usize = 24;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(90);

/// One client, against two servers that share a store: the second one takes sessions over.
pub(crate) struct Client {
    pub(crate) world: Shared,
    pub(crate) servers: [Sessions; 2],
    pub(crate) bundle: PathBuf,
    /// Each client acts for itself; only one asks for what was left unanswered.
    pub(crate) number: usize,
}

impl Client {
    /// Acts until the runtime goes, or until all is sent in a world that heals.
    pub(crate) async fn run(self) {
        if self.number == 0 {
            self.send_again().await;
        }
        loop {
            self.world.wait(200..9000).await;
            if self.world.lock().heals {
                return;
            }
            self.act().await;
        }
    }

    /// Asks again for what has no answer yet.
    async fn send_again(&self) {
        let sessions = self.world.lock().sessions.len();
        for number in 0..sessions {
            if self.world.lock().sessions[number].id.is_none() {
                self.create(number).await;
            }
        }
        let prompts = self.world.lock().prompts.len();
        for number in 0..prompts {
            if self.world.lock().prompts[number].state == Sent::Pending {
                self.prompt(number).await;
            }
        }
        let deleting: Vec<SessionId> = {
            let world = self.world.lock();
            let open = world.sessions.iter().filter(|record| record.deleting && !record.deleted);
            open.filter_map(|record| record.id).collect()
        };
        for id in deleting {
            self.delete(id).await;
        }
    }

    async fn act(&self) {
        let sessions: Vec<usize> = {
            let world = self.world.lock();
            let usable = world.sessions.iter().enumerate();
            usable
                .filter(|(_, record)| record.id.is_some() && !record.deleting)
                .map(|(number, _)| number)
                .collect()
        };
        let made = self.world.lock().sessions.len();
        if made < SESSIONS && (sessions.is_empty() || self.world.one_in(6)) {
            let number = self.new_prompt(made, Delivery::Next);
            let record = SessionRecord { id: None, first: number, deleting: false, deleted: false };
            self.world.lock().sessions.push(record);
            return self.create(made).await;
        }
        if sessions.is_empty() {
            return;
        }
        let at = sessions[self.world.roll(0..sessions.len() as u64) as usize];
        let Some(id) = self.world.lock().sessions[at].id else { return };
        match self.world.roll(0..100) {
            0..45 if self.world.lock().prompts.len() < PROMPTS => {
                let delivery = match self.world.roll(0..10) {
                    0..6 => Delivery::Next,
                    6..8 => Delivery::Later,
                    _ => Delivery::Now,
                };
                let number = self.new_prompt(at, delivery);
                self.prompt(number).await;
            }
            45..55 => self.change(id).await,
            55..63 => self.told("stop", id, async |one: &Sessions| one.handle(id).await?.stop().await).await,
            63..72 => self.rewind(id).await,
            72..76 => {
                let archived = self.world.one_in(2);
                self.told("archive", id, async |one: &Sessions| {
                    one.handle(id).await?.archive(archived).await
                })
                .await;
            }
            76..78 => {
                self.world.lock().sessions[at].deleting = true;
                self.delete(id).await;
            }
            78..90 => {
                self.told("retry", id, async |one: &Sessions| one.handle(id).await?.retry().await).await
            }
            _ => self.take_over(id).await,
        }
    }

    fn new_prompt(&self, session: usize, delivery: Delivery) -> usize {
        let mut world = self.world.lock();
        let number = world.prompts.len();
        let text = format!("{PROMPT}{number}] work on it");
        world.prompts.push(PromptRecord { session, text, delivery, state: Sent::Pending });
        number
    }

    /// The server that is asked: seldom the second one.
    fn server(&self) -> &Sessions {
        &self.servers[usize::from(self.world.fault(12))]
    }

    /// Does something whose outcome binds nobody.
    async fn told<F>(&self, what: &str, id: SessionId, act: F)
    where
        F: AsyncFnOnce(&Sessions) -> Result<(), SessionError>,
    {
        self.world.tell(format!("client {what} {id}"));
        let outcome = tokio::time::timeout(PATIENCE, act(self.server())).await;
        self.world.tell(format!("client {what} {id}: {}", said(&outcome)));
    }

    async fn create(&self, number: usize) {
        let (first, text) = {
            let world = self.world.lock();
            let first = world.sessions[number].first;
            (first, world.prompts[first].text.clone())
        };
        while self.world.lock().sessions[number].id.is_none() {
            let new = NewSession {
                prompt: text.clone(),
                repository: NewRepository::Bundle {
                    path: self.bundle.clone(),
                    name: "repo".into(),
                    branch: None,
                },
                agent: None,
                environment: None,
                image: None,
                key: Some(key("sessions", number, &text)),
            };
            self.world.tell(format!("client creates session {number}"));
            let outcome = tokio::time::timeout(PATIENCE, self.servers[0].create(new)).await;
            self.world.tell(format!("client creates session {number}: {}", said(&outcome)));
            if let Ok(Ok(Accepted { answer, .. })) = outcome {
                self.world.lock().sessions[number].id = Some(answer.id);
                self.first_prompt(answer.id, first).await;
            } else {
                self.world.wait(500..3000).await;
            }
        }
    }

    /// The receipt of a session's first prompt is in its log.
    async fn first_prompt(&self, id: SessionId, number: usize) {
        let text = self.world.lock().prompts[number].text.clone();
        let seen = self.world.lock().published.get(&id).cloned().unwrap_or_default();
        let prompt = seen.values().find_map(|event| match &event.body {
            EventBody::PromptQueued { prompt, text: queued, .. } if *queued == text => Some(*prompt),
            _ => None,
        });
        match prompt {
            Some(prompt) => self.world.lock().prompts[number].state = Sent::Accepted(prompt),
            None => self.world.broken(format!("{id} was made without its first prompt")),
        }
    }

    async fn prompt(&self, number: usize) {
        let PromptRecord { session, text, delivery, .. } = self.world.lock().prompts[number].clone();
        let Some(id) = self.world.lock().sessions[session].id else { return };
        loop {
            self.world.tell(format!("client sends prompt {number} to {id}"));
            let key = key("prompts", number, &text);
            let sending = self.server().prompt(id, text.clone(), delivery, Some(key));
            let outcome = tokio::time::timeout(PATIENCE, sending).await;
            self.world.tell(format!("client sends prompt {number}: {}", said(&outcome)));
            match outcome {
                Ok(Ok(Accepted { answer: (prompt, _), .. })) => {
                    let before = std::mem::replace(
                        &mut self.world.lock().prompts[number].state,
                        Sent::Accepted(prompt),
                    );
                    if matches!(before, Sent::Accepted(other) if other != prompt) {
                        self.world.broken(format!("prompt {number} has two receipts"));
                    }
                    // Some send again although they were heard.
                    if !self.world.one_in(4) {
                        return self.misuse(number, id).await;
                    }
                }
                Ok(Err(SessionError::Store(StoreError::QueueFull(_)))) => {
                    let before =
                        std::mem::replace(&mut self.world.lock().prompts[number].state, Sent::Refused);
                    if before != Sent::Pending {
                        self.world.broken(format!("prompt {number} was accepted, and is refused now"));
                    }
                    return;
                }
                Ok(Err(SessionError::Store(StoreError::NoSession(_)))) => {
                    if !self.world.lock().is_going(id) {
                        self.world.broken(format!("{id} is not known any more"));
                    }
                    self.world.lock().prompts[number].state = Sent::Refused;
                    return;
                }
                _ => self.world.wait(300..4000).await,
            }
        }
    }

    /// The key of a prompt with another text is refused.
    async fn misuse(&self, number: usize, id: SessionId) {
        if !self.world.one_in(6) {
            return;
        }
        let other = "something else".to_owned();
        let key = key("prompts", number, &other);
        let sending = self.servers[0].prompt(id, other, Delivery::Next, Some(key));
        if let Ok(Ok(_)) = tokio::time::timeout(PATIENCE, sending).await {
            self.world.broken(format!("the key of prompt {number} was taken for another text"));
        }
    }

    /// Edits a prompt that waits, or takes it back.
    async fn change(&self, id: SessionId) {
        let Ok(handle) = self.server().handle(id).await else { return };
        let Ok(Ok(waiting)) = tokio::time::timeout(PATIENCE, handle.queue()).await else { return };
        let Some(one) = waiting.last() else { return };
        if self.world.one_in(2) {
            let text = format!("{} (edited)", one.text);
            let edit = async |server: &Sessions| {
                server.edit_prompt(id, one.prompt, Some(text), None).await.map(drop)
            };
            return self.told("edits a prompt of", id, edit).await;
        }
        self.world.tell(format!("client takes {} back", one.prompt));
        let outcome = tokio::time::timeout(PATIENCE, handle.cancel_prompt(one.prompt)).await;
        self.world.tell(format!("client takes {} back: {}", one.prompt, said(&outcome)));
        if matches!(outcome, Ok(Ok(()))) {
            self.world.lock().cancelled.insert(one.prompt);
        }
    }

    async fn rewind(&self, id: SessionId) {
        let points: Vec<u64> = {
            let world = self.world.lock();
            let events = world.published.get(&id).into_iter().flat_map(|seen| seen.values());
            let points = events.filter(|event| matches!(event.body, EventBody::Checkpoint(_)));
            points.map(|event| event.seq).collect()
        };
        if points.is_empty() {
            return;
        }
        let to = points[self.world.roll(0..points.len() as u64) as usize];
        let wanted = Rewound { to, files: !self.world.one_in(4), conversation: self.world.one_in(2) };
        let act = async |one: &Sessions| one.handle(id).await?.rewind(wanted).await.map(drop);
        self.told("goes back in", id, act).await;
    }

    async fn delete(&self, id: SessionId) {
        loop {
            self.world.tell(format!("client deletes {id}"));
            let outcome = tokio::time::timeout(PATIENCE, self.server().delete(id)).await;
            self.world.tell(format!("client deletes {id}: {}", said(&outcome)));
            let gone = matches!(outcome, Ok(Ok(()) | Err(SessionError::Store(StoreError::NoSession(_)))));
            if gone {
                let mut world = self.world.lock();
                world
                    .sessions
                    .iter_mut()
                    .filter(|record| record.id == Some(id))
                    .for_each(|record| record.deleted = true);
                return;
            }
            self.world.wait(500..3000).await;
        }
    }

    /// The second server claims a session that the first one works on; the first is not told.
    async fn take_over(&self, id: SessionId) {
        self.world.tell(format!("server 2 takes {id} over"));
        let outcome = self.servers[1].handle(id).await.map(drop);
        self.world.tell(format!("server 2 takes {id} over: {}", said(&Ok(outcome))));
    }
}

fn key(scope: &str, number: usize, text: &str) -> IdempotencyKey {
    IdempotencyKey { scope: scope.to_owned(), key: number.to_string(), fingerprint: text.as_bytes().to_vec() }
}

fn said<T>(outcome: &Result<Result<T, SessionError>, tokio::time::error::Elapsed>) -> String {
    match outcome {
        Ok(Ok(_)) => "done".into(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer".into(),
    }
}

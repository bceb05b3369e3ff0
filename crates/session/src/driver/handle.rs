//! What callers hold of a driver.

use protocol::event::{Answer, EventBody, Rewound};
use protocol::ids::{PromptId, QuestionId, Seq, SessionId};
use protocol::prompt::{Delivery, QueuedPrompt};
use sandbox::guest_link::GuestLink;
use store::{Accepted, IdempotencyKey};
use tokio::sync::{mpsc, oneshot};

use crate::error::SessionError;

type Reply<T> = oneshot::Sender<Result<T, SessionError>>;

pub(crate) enum Request {
    Prompt {
        text: String,
        delivery: Delivery,
        key: Option<IdempotencyKey>,
        reply: Reply<Accepted<(PromptId, Seq)>>,
    },
    /// The prompts that wait.
    Queue {
        reply: Reply<Vec<QueuedPrompt>>,
    },
    EditPrompt {
        prompt: PromptId,
        text: Option<String>,
        delivery: Option<Delivery>,
        reply: Reply<QueuedPrompt>,
    },
    CancelPrompt {
        prompt: PromptId,
        reply: Reply<()>,
    },
    Stop {
        reply: Reply<()>,
    },
    Retry {
        reply: Reply<()>,
    },
    Answer {
        question: QuestionId,
        answer: Answer,
        reply: Reply<()>,
    },
    Archive {
        archived: bool,
        reply: Reply<()>,
    },
    Rewind {
        wanted: Rewound,
        reply: Reply<Seq>,
    },
    /// The living sandbox, for a person who looks into it.
    Look {
        reply: Reply<Look>,
    },
    /// Something that a person did in the sandbox.
    Note {
        bodies: Vec<EventBody>,
        reply: Reply<()>,
    },
    Delete {
        reply: Reply<()>,
    },
    Shutdown {
        done: oneshot::Sender<()>,
    },
}

/// A session's sandbox, as a person looks into it.
pub(crate) struct Look {
    pub(crate) link: GuestLink,
    pub(crate) workspace: String,
    /// Variables of every command.
    pub(crate) environment: Vec<(String, String)>,
}

/// A live session. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    id: SessionId,
    requests: mpsc::Sender<Request>,
}

impl Handle {
    pub(crate) fn new(id: SessionId, requests: mpsc::Sender<Request>) -> Self {
        Self { id, requests }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.requests.is_closed()
    }

    /// Queues a prompt; durable when this returns.
    pub async fn prompt(
        &self,
        text: String,
        delivery: Delivery,
        key: Option<IdempotencyKey>,
    ) -> Result<Accepted<(PromptId, Seq)>, SessionError> {
        self.ask(|reply| Request::Prompt { text, delivery, key, reply }).await
    }

    /// The prompts that wait, in the order in which turns begin with them.
    pub async fn queue(&self) -> Result<Vec<QueuedPrompt>, SessionError> {
        self.ask(|reply| Request::Queue { reply }).await
    }

    /// Changes a prompt that waits; what is not given stays.
    pub(crate) async fn edit_prompt(
        &self,
        prompt: PromptId,
        text: Option<String>,
        delivery: Option<Delivery>,
    ) -> Result<QueuedPrompt, SessionError> {
        self.ask(|reply| Request::EditPrompt { prompt, text, delivery, reply }).await
    }

    /// Takes a prompt back that waits.
    pub async fn cancel_prompt(&self, prompt: PromptId) -> Result<(), SessionError> {
        self.ask(|reply| Request::CancelPrompt { prompt, reply }).await
    }

    /// Stops the turn, or the preparation and the prompts that wait for it.
    pub async fn stop(&self) -> Result<(), SessionError> {
        self.ask(|reply| Request::Stop { reply }).await
    }

    /// Tries a failed preparation again; the prompts that wait for it run then.
    pub async fn retry(&self) -> Result<(), SessionError> {
        self.ask(|reply| Request::Retry { reply }).await
    }

    /// Answers an open question.
    pub async fn answer(&self, question: QuestionId, option: String) -> Result<(), SessionError> {
        let answer = Answer { option, by_deadline: false };
        self.ask(|reply| Request::Answer { question, answer, reply }).await
    }

    /// Hides the session and takes its sandbox down, or brings it back to the list.
    pub async fn archive(&self, archived: bool) -> Result<(), SessionError> {
        self.ask(|reply| Request::Archive { archived, reply }).await
    }

    /// Goes back to a checkpoint, while nothing runs; the seq of the last event about it.
    pub async fn rewind(&self, wanted: Rewound) -> Result<Seq, SessionError> {
        self.ask(|reply| Request::Rewind { wanted, reply }).await
    }

    /// The living sandbox.
    pub(crate) async fn look(&self) -> Result<Look, SessionError> {
        self.ask(|reply| Request::Look { reply }).await
    }

    /// Records what a person did in the sandbox.
    pub(crate) async fn note(&self, body: EventBody) -> Result<(), SessionError> {
        self.note_all(vec![body]).await
    }

    /// Records what belongs together: all of it, or nothing.
    pub(crate) async fn note_all(&self, bodies: Vec<EventBody>) -> Result<(), SessionError> {
        self.ask(|reply| Request::Note { bodies, reply }).await
    }

    /// Deletes the session with everything that belongs to it.
    pub async fn delete(&self) -> Result<(), SessionError> {
        self.ask(|reply| Request::Delete { reply }).await
    }

    /// Ends the turn, records the workspace, takes the sandbox down.
    pub(crate) async fn shut_down(&self) {
        let (done, finished) = oneshot::channel();
        if self.requests.send(Request::Shutdown { done }).await.is_ok() {
            let _ = finished.await;
        }
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, SessionError> {
        let (reply, answer) = oneshot::channel();
        let gone = || SessionError::Recovering(self.id);
        self.requests.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

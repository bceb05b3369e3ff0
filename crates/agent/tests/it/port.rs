//! A session's log in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use async_trait::async_trait;
use protocol::agent_port::{AgentPort, PortError};
use protocol::event::{Answer, BlobRef, Event, EventBody, LiveDelta, QuestionOption, ToolCall, ToolResult};
use protocol::ids::{PromptId, Seq, SessionId, TurnId};
use protocol::prompt::Delivery;

type OnLive = Box<dyn Fn(&LiveDelta) + Send + Sync>;
type OnEvent = Box<dyn Fn(&EventBody) + Send + Sync>;

#[derive(Default)]
pub(crate) struct MemoryPort {
    events: Mutex<Vec<Event>>,
    /// How many bodies each append had.
    pub(crate) appends: Mutex<Vec<usize>>,
    live: Mutex<Vec<LiveDelta>>,
    pub(crate) blobs: Mutex<HashMap<String, Vec<u8>>>,
    pub(crate) turn: Mutex<Option<TurnId>>,
    /// Prompts that wait for the next request.
    pub(crate) waiting: Mutex<Vec<&'static str>>,
    pub(crate) answers: Mutex<VecDeque<&'static str>>,
    pub(crate) asked: Mutex<Vec<String>>,
    pub(crate) on_live: Mutex<Option<OnLive>>,
    pub(crate) on_event: Mutex<Option<OnEvent>>,
}

impl MemoryPort {
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    pub(crate) fn bodies(&self) -> Vec<EventBody> {
        self.events().into_iter().map(|event| event.body).collect()
    }

    pub(crate) fn kinds(&self) -> Vec<String> {
        self.bodies().iter().map(|body| body.kind().to_owned()).collect()
    }

    pub(crate) fn live_deltas(&self) -> Vec<LiveDelta> {
        self.live.lock().unwrap().clone()
    }

    pub(crate) fn calls(&self) -> Vec<ToolCall> {
        let only = |body| if let EventBody::ToolCall(call) = body { Some(call) } else { None };
        self.bodies().into_iter().filter_map(only).collect()
    }

    pub(crate) fn results(&self) -> Vec<ToolResult> {
        let only = |body| if let EventBody::ToolResult(result) = body { Some(result) } else { None };
        self.bodies().into_iter().filter_map(only).collect()
    }

    /// The text of the last message.
    pub(crate) fn last_text(&self) -> String {
        let only = |body| if let EventBody::AgentMessage(block) = body { Some(block.text) } else { None };
        self.bodies().into_iter().rev().find_map(only).unwrap_or_default()
    }

    pub(crate) fn errors(&self) -> Vec<String> {
        let only = |body| if let EventBody::Error(error) = body { Some(error.code) } else { None };
        self.bodies().into_iter().filter_map(only).collect()
    }

    pub(crate) fn push(&self, bodies: Vec<EventBody>) -> Seq {
        self.appends.lock().unwrap().push(bodies.len());
        let turn = *self.turn.lock().unwrap();
        let mut events = self.events.lock().unwrap();
        for body in bodies {
            if let Some(on_event) = &*self.on_event.lock().unwrap() {
                on_event(&body);
            }
            let seq = events.len() as Seq + 1;
            events.push(Event {
                session: SessionId::from_parts(1, 1),
                seq,
                at: "2026-11-20T12:00:00Z".parse().unwrap(),
                epoch: 1,
                turn,
                causation: None,
                body,
            });
        }
        events.len() as Seq
    }
}

#[async_trait]
impl AgentPort for MemoryPort {
    async fn append(&self, bodies: Vec<EventBody>) -> Result<Seq, PortError> {
        Ok(self.push(bodies))
    }

    fn live(&self, delta: LiveDelta) {
        if let Some(on_live) = &*self.on_live.lock().unwrap() {
            on_live(&delta);
        }
        self.live.lock().unwrap().push(delta);
    }

    async fn put_blob(&self, bytes: Vec<u8>, truncated: bool) -> Result<BlobRef, PortError> {
        let mut blobs = self.blobs.lock().unwrap();
        let blob = format!("blob{}", blobs.len());
        let size = bytes.len() as u64;
        blobs.insert(blob.clone(), bytes);
        Ok(BlobRef { blob, size, truncated })
    }

    async fn take_prompts(&self) -> Result<Vec<(PromptId, String)>, PortError> {
        let texts = std::mem::take(&mut *self.waiting.lock().unwrap());
        let prompts = texts.into_iter().enumerate();
        let prompts: Vec<_> =
            prompts.map(|(at, text)| (PromptId::from_parts(9_000 + at as u64, 0), text.to_owned())).collect();
        for (prompt, text) in &prompts {
            let (prompt, text) = (*prompt, text.clone());
            self.push(vec![EventBody::PromptQueued { prompt, text, delivery: Delivery::Next }]);
        }
        self.push(prompts.iter().map(|(prompt, _)| EventBody::PromptDelivered { prompt: *prompt }).collect());
        Ok(prompts)
    }

    fn refused_since(&self, _since: std::time::Instant) -> Vec<protocol::event::NetworkDenied> {
        Vec::new()
    }

    async fn ask(&self, text: String, options: Vec<QuestionOption>) -> Result<Answer, PortError> {
        assert!(options.len() >= 2);
        self.asked.lock().unwrap().push(text);
        let answer = self.answers.lock().unwrap().pop_front();
        let option = answer.unwrap_or(&options[0].id).to_owned();
        Ok(Answer { option, by_deadline: answer.is_none() })
    }
}

//! One answer of a scripted model.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model_gateway::scripted::{Fault, Gate, Reply};
use serde_json::{Value, json};

type Compute = Arc<dyn Fn(&Value) -> Turn + Send + Sync>;

/// One answer, or one failure.
#[derive(Clone, Default)]
pub struct Turn(Reply, Option<Compute>);

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.1.is_some() { f.write_str("Turn(computed)") } else { self.0.fmt(f) }
    }
}

impl Turn {
    /// An answer without blocks.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// An answer that depends on the request's body.
    #[must_use]
    pub fn computed(compute: impl Fn(&Value) -> Self + Send + Sync + 'static) -> Self {
        Self(Reply::default(), Some(Arc::new(compute)))
    }

    /// An answer of one text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self(Reply::text(text), None)
    }

    /// An answer of one tool call.
    #[must_use]
    pub fn tool(name: &str, input: Value) -> Self {
        Self::empty().and_tool(name, input)
    }

    /// Adds a text block.
    #[must_use]
    pub fn and_text(self, text: &str) -> Self {
        Self(self.0.and_text(text), None)
    }

    /// Adds a tool call. An input given as a JSON string is streamed as it stands, for broken calls.
    #[must_use]
    pub fn and_tool(self, name: &str, input: Value) -> Self {
        Self(self.0.and_tool(name, input), None)
    }

    /// Adds a thought.
    #[must_use]
    pub fn and_thinking(self, thinking: &str, signature: &str) -> Self {
        Self(self.0.and_thinking(thinking, signature), None)
    }

    /// Adds a block of any kind.
    #[must_use]
    pub fn and_block(mut self, block: Value) -> Self {
        self.0.blocks.push(block);
        self
    }

    /// Sets the stop reason.
    #[must_use]
    pub fn stop_reason(mut self, reason: &str) -> Self {
        self.0.stop_reason = Some(reason.to_owned());
        self
    }

    /// Sets the counts of tokens: input, output, read from the cache, written to it.
    #[must_use]
    pub fn usage(mut self, [input, output, read, written]: [u64; 4]) -> Self {
        self.0.usage = json!({
            "input_tokens": input,
            "output_tokens": output,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
        });
        self
    }

    /// Sets the characters of one delta.
    #[must_use]
    pub fn chunk(mut self, characters: usize) -> Self {
        self.0.chunk = characters;
        self
    }

    /// Sets the pause between deltas.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.0.pause = pause;
        self
    }

    /// Waits at a gate after so many events; a gate that nobody opens is silence.
    #[must_use]
    pub fn hold(mut self, after_events: usize, gate: &Gate) -> Self {
        self.0.hold = Some((after_events, gate.clone()));
        self
    }

    /// A plain HTTP error with the API's usual kind for its status.
    #[must_use]
    pub fn error(status: u16, message: &str) -> Self {
        let kind = match status {
            400 => "invalid_request_error",
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            529 => "overloaded_error",
            _ => "api_error",
        };
        let (kind, message) = (kind.to_owned(), message.to_owned());
        Self(Reply::default().fault(Fault::Http { status, kind, message, headers: Vec::new() }), None)
    }

    /// Adds a header to an HTTP error.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Some(Fault::Http { headers, .. }) = &mut self.0.fault {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Breaks off with an `error` event after so many events.
    #[must_use]
    pub fn stream_error(self, after_events: usize, kind: &str, message: &str) -> Self {
        let (kind, message) = (kind.to_owned(), message.to_owned());
        Self(self.0.fault(Fault::StreamError { after_events, kind, message }), None)
    }

    /// Cuts the connection after so many bytes of the stream.
    #[must_use]
    pub fn cut_after(self, bytes: usize) -> Self {
        Self(self.0.fault(Fault::CutAfter { bytes }), None)
    }

    /// Sends an event that is no JSON after so many events.
    #[must_use]
    pub fn malformed_after(self, events: usize) -> Self {
        Self(self.0.fault(Fault::MalformedAfter { events }), None)
    }

    /// Answers with something that is no model stream.
    #[must_use]
    pub fn raw(status: u16, content_type: &str, body: &str) -> Self {
        let (content_type, body) = (content_type.to_owned(), body.to_owned());
        Self(Reply::default().fault(Fault::Raw { status, content_type, body }), None)
    }

    pub(super) fn reply(&self, body: &Value) -> Reply {
        match &self.1 {
            Some(compute) => compute(body).reply(body),
            None => self.0.clone(),
        }
    }
}

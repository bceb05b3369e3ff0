//! The running server and what it recorded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model_gateway::scripted::{Call, Fault, Player, Reply, ScriptedServer};
use serde_json::Value;
use tokio::sync::watch;

use super::check;
use super::script::Script;

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The body's bytes.
    pub bytes: Vec<u8>,
    /// The body.
    pub body: Value,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, String)>,
}

impl Recorded {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct State {
    script: Script,
    requests: Vec<Recorded>,
    violations: Vec<String>,
    /// The stable part of the newest request by conversation.
    newest: HashMap<String, String>,
}

struct Recorder {
    state: Mutex<State>,
    count: watch::Sender<usize>,
}

/// A scripted model behind real HTTP; it stops when this is dropped.
pub struct ScriptedModel {
    server: ScriptedServer,
    recorder: Arc<Recorder>,
}

impl ScriptedModel {
    /// Starts a server for this script on a free port.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start(script: Script) -> Self {
        let recorder = Arc::new(Recorder {
            state: Mutex::new(State { script, ..State::default() }),
            count: watch::Sender::new(0),
        });
        let server = match ScriptedServer::start(Arc::clone(&recorder) as Arc<dyn Player>).await {
            Ok(server) => server,
            Err(error) => panic!("the scripted model found no port: {error}"),
        };
        Self { server, recorder }
    }

    /// Where it listens.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.server.base_url()
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.recorder.state().requests.clone()
    }

    /// Waits until so many requests came.
    pub async fn wait_for_requests(&self, count: usize) {
        let mut seen = self.recorder.count.subscribe();
        // The sender lives as long as this server, so that the wait cannot fail.
        let _ = seen.wait_for(|seen| *seen >= count).await;
    }

    /// What was wrong with the requests so far; also a request for which the script had no answer.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.recorder.state().violations.clone()
    }

    /// Fails the test when a request broke an invariant.
    ///
    /// # Panics
    /// With all breaches.
    pub fn assert_clean(&self) {
        let violations = self.violations();
        assert!(violations.is_empty(), "requests broke invariants:\n{}", violations.join("\n"));
    }
}

impl Recorder {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Player for Recorder {
    fn play(&self, call: &Call) -> Reply {
        let mut state = self.state();
        let number = state.requests.len() + 1;
        let mut wrong = check::request(&call.body, &call.bytes);
        let stable = check::stable_part(&call.bytes);
        let conversation =
            if state.script.many_conversations { call.body["system"].to_string() } else { String::new() };
        let before = state.newest.insert(conversation, stable.clone());
        if let Some(broken) = before.and_then(|before| check::follows(&before, &stable)) {
            match state.script.shortens.checked_sub(1) {
                Some(left) => state.script.shortens = left,
                None => wrong.push(broken),
            }
        }
        let turn = state.script.next(&call.body);
        if turn.is_none() {
            wrong.push("the script has no answer left".into());
        }
        state.violations.extend(wrong.into_iter().map(|line| format!("request {number}: {line}")));
        state.requests.push(Recorded {
            bytes: call.bytes.to_vec(),
            body: call.body.clone(),
            headers: call.headers.clone(),
        });
        drop(state);
        self.count.send_modify(|count| *count += 1);
        turn.map_or_else(
            || {
                Reply::default().fault(Fault::Http {
                    status: 400,
                    kind: "invalid_request_error".into(),
                    message: "the script has no answer left".into(),
                    headers: Vec::new(),
                })
            },
            |turn| turn.reply(&call.body),
        )
    }
}

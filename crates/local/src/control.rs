//! What we ask of whoever drives us, over the streams.
//!
//! ```text
//!  control_request{request_id, request} ─▶ driver ─▶ control_response{response{request_id, …}}
//!        └── not wanted any more ─▶ control_cancel_request{request_id}
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent::mcp::DriverServers;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::{mpsc, oneshot};

use crate::stream::Output;
use crate::uuid;

/// Bytes between the protocol of a server that lives with the driver and us.
const PIPE: usize = 64 * 1024;

/// The longest message of that protocol.
const MAX_MESSAGE: u64 = 16 * 1024 * 1024;

type Answer = Result<Value, String>;

/// Open requests to the driver; clones are of the same.
#[derive(Clone)]
pub(crate) struct Control {
    output: Output,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    waiting: HashMap<String, oneshot::Sender<Answer>>,
    /// Whether nobody answers any more.
    is_over: bool,
}

/// One request; dropped before its answer it is withdrawn.
struct Asked<'a> {
    control: &'a Control,
    id: String,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.control.held().waiting.remove(&self.id).is_some() {
            let withdrawn = json!({ "type": "control_cancel_request", "request_id": self.id });
            self.control.output.json(&withdrawn);
        }
    }
}

impl Control {
    pub(crate) fn new(output: Output) -> Self {
        Self { output, open: Arc::default() }
    }

    fn held(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn ask(&self, request: Value) -> Answer {
        let id = uuid::fresh();
        let (sender, answer) = oneshot::channel();
        {
            let mut open = self.held();
            if open.is_over {
                return Err("the driver of this session is gone".into());
            }
            open.waiting.insert(id.clone(), sender);
        }
        let asked = Asked { control: self, id };
        self.output.json(&json!({ "type": "control_request", "request_id": asked.id, "request": request }));
        answer.await.unwrap_or_else(|_| Err("the driver of this session is gone".into()))
    }

    /// Takes an answer in.
    pub(crate) fn answered(&self, response: &Value) {
        let Some(id) = response["request_id"].as_str() else { return };
        let Some(waiting) = self.held().waiting.remove(id) else { return };
        let answer = match response["subtype"].as_str() {
            Some("success") => Ok(response["response"].clone()),
            _ => Err(response["error"].as_str().unwrap_or("the driver gave no reason").to_owned()),
        };
        let _ = waiting.send(answer);
    }

    /// Nobody answers any more.
    pub(crate) fn close(&self) {
        let mut open = self.held();
        open.is_over = true;
        open.waiting.clear();
    }

    /// Answers a request of the driver.
    pub(crate) fn reply(&self, id: &Value, answer: Result<Value, (String, &'static str)>) {
        let response = match answer {
            Ok(response) => json!({ "subtype": "success", "request_id": id, "response": response }),
            Err((error, code)) => {
                json!({ "subtype": "error", "request_id": id, "error": error, "error_code": code })
            }
        };
        self.output.json(&json!({ "type": "control_response", "response": response }));
    }
}

impl DriverServers for Control {
    fn open(&self, name: &str) -> tokio::io::DuplexStream {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        tokio::spawn(carry(self.clone(), name.to_owned(), theirs));
        ours
    }
}

/// Carries messages between the protocol and the server behind the driver; several may be open at a time.
async fn carry(control: Control, server: String, stream: tokio::io::DuplexStream) {
    let (read, mut write) = tokio::io::split(stream);
    let mut read = BufReader::new(read);
    let (answers, mut answered) = mpsc::channel::<Value>(16);
    tokio::spawn(async move {
        while let Some(answer) = answered.recv().await {
            if write.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
                return;
            }
        }
    });
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut read).take(MAX_MESSAGE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let Ok(message) = serde_json::from_slice::<Value>(&line) else { continue };
        let request = json!({ "subtype": "mcp_message", "server_name": server, "message": message });
        let (control, answers) = (control.clone(), answers.clone());
        tokio::spawn(async move {
            let id = message["id"].clone();
            let answer = control.ask(request).await;
            // Notifications are acknowledged, which the protocol does not know.
            if id.is_null() {
                return;
            }
            let answer = match answer {
                Ok(answer) => answer["mcp_response"].clone(),
                Err(why) => {
                    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32603, "message": why } })
                }
            };
            let _ = answers.send(answer).await;
        });
    }
}

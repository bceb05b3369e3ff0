//! Standard output, a line at a time, without ever waiting for whoever reads it.

use std::io::Write as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use serde_json::Value;

/// Where lines go; clones write to the same place.
#[derive(Clone)]
pub(crate) struct Output(Arc<Mutex<Option<Writer>>>);

/// The thread that writes, and the way to it.
struct Writer {
    sender: Sender<String>,
    thread: JoinHandle<()>,
}

impl Output {
    /// Begins to write.
    pub(crate) fn start() -> Self {
        let (sender, lines) = channel();
        let thread = std::thread::spawn(move || write(&lines));
        Self(Arc::new(Mutex::new(Some(Writer { sender, thread }))))
    }

    /// Writes a line.
    pub(crate) fn line(&self, text: String) {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = &*open {
            let _ = writer.sender.send(text);
        }
    }

    /// Writes a value as a line.
    pub(crate) fn json(&self, value: &Value) {
        self.line(value.to_string());
    }

    /// Waits until all is written.
    pub(crate) fn finish(&self) {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Writer { sender, thread }) = open {
            drop(sender);
            let _ = thread.join();
        }
    }
}

fn write(lines: &Receiver<String>) {
    let mut out = std::io::stdout().lock();
    while let Ok(line) = lines.recv() {
        // A reader that went away ends nothing: the work goes on without it.
        let _ = writeln!(out, "{line}");
        let _ = out.flush();
    }
}

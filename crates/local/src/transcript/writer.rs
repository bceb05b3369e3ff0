//! Appends lines.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use protocol::event::EventBody;
use protocol::usage::Usage;
use serde_json::{Value, json};

use super::record::{Fields, of_event, of_prompt};
use crate::uuid;

/// What all lines of a conversation say.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) session: String,
    pub(crate) cwd: String,
    pub(crate) branch: String,
}

/// A conversation that is being written; without a file nothing is.
pub(crate) struct Transcript {
    facts: Facts,
    main: Option<Chain>,
    /// Where agents that were sent are written, and what was begun there.
    threads: Option<(PathBuf, HashMap<String, Chain>)>,
}

/// One file, and its newest line.
struct Chain {
    file: File,
    parent: Option<String>,
}

impl Transcript {
    /// Nothing is written down.
    pub(crate) fn none(facts: Facts) -> Self {
        Self { facts, main: None, threads: None }
    }

    /// Appends to this file, whose newest line is `parent`; makes it where it is not there.
    pub(crate) fn open(path: &Path, parent: Option<String>, facts: Facts) -> io::Result<Self> {
        let main = Chain::open(path, parent)?;
        let threads = path.with_extension("").join("subagents");
        Ok(Self { facts, main: Some(main), threads: Some((threads, HashMap::new())) })
    }

    /// Writes a prompt down.
    pub(crate) fn prompt(&mut self, prompt: &str, text: &str, delivered: bool) -> io::Result<()> {
        self.write(vec![of_prompt(prompt, text, delivered)])
    }

    /// Writes events down, in one go.
    pub(crate) fn events(&mut self, bodies: &[EventBody], model: &str) -> io::Result<()> {
        let used = |body: &EventBody| match body {
            EventBody::Usage { usage, .. } => Some(*usage),
            _ => None,
        };
        let usage: Option<Usage> = bodies.iter().find_map(used);
        self.write(bodies.iter().flat_map(|body| of_event(body, model, usage.as_ref())).collect())?;
        for body in bodies {
            match body {
                EventBody::ThreadStarted(started) => {
                    let prompt = of_prompt(&started.thread, &started.prompt, false);
                    self.of_thread(&started.thread, vec![prompt])?;
                }
                EventBody::ThreadEvent(inner) => {
                    self.of_thread(&inner.thread, of_event(&inner.event, model, None))?;
                }
                EventBody::ThreadEnded(ended) => {
                    if let Some((_, open)) = &mut self.threads {
                        open.remove(&ended.thread);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn write(&mut self, lines: Vec<Fields>) -> io::Result<()> {
        match &mut self.main {
            Some(chain) => chain.write(lines, &self.facts, false),
            None => Ok(()),
        }
    }

    fn of_thread(&mut self, thread: &str, lines: Vec<Fields>) -> io::Result<()> {
        let Some((folder, open)) = &mut self.threads else { return Ok(()) };
        let chain = match open.entry(thread.to_owned()) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                // The model chose the id.
                let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
                let name: String = thread.chars().map(plain).take(80).collect();
                entry.insert(Chain::open(&folder.join(format!("agent-{name}.jsonl")), None)?)
            }
        };
        chain.write(lines, &self.facts, true)
    }
}

impl Chain {
    fn open(path: &Path, parent: Option<String>) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        // What was killed while it wrote left a line without an end.
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(Self { file, parent })
    }

    fn write(&mut self, lines: Vec<Fields>, facts: &Facts, is_thread: bool) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            let id = uuid::fresh();
            let mut whole = json!({
                "parentUuid": self.parent.replace(id.clone()),
                "isSidechain": is_thread,
                "userType": "external",
                "entrypoint": "sdk-cli",
                "cwd": facts.cwd,
                "sessionId": facts.session,
                "version": env!("CARGO_PKG_VERSION"),
                "gitBranch": facts.branch,
                "uuid": id,
                "timestamp": jiff::Timestamp::now().to_string(),
            });
            if let Value::Object(whole) = &mut whole {
                whole.extend(line);
            }
            serde_json::to_writer(&mut text, &whole)?;
            text.push(b'\n');
        }
        // One write, so that lines of two processes do not mix.
        self.file.write_all(&text)
    }
}

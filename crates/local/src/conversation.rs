//! Which conversation a run is about.
//!
//! | options | | file |
//! |---|---|---|
//! | none, or `--session-id` | a new one | made, unless it is there |
//! | `--resume ID`, `--continue` | goes on | appended to |
//! | with `--fork-session` | a new one that begins with another | its lines again, under the new id |

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use protocol::event::Event;
use tempfile::TempDir;

use crate::error::LocalError;
use crate::home::Home;
use crate::options::{Conversation, Options};
use crate::setup::{ENV_FILE, branch};
use crate::transcript::{Facts, Transcript, newest, of_id, read};
use crate::uuid;

/// A conversation that a run goes on with.
pub(crate) struct Begun {
    pub(crate) session: String,
    /// Its file, where there is one.
    pub(crate) path: Option<PathBuf>,
    pub(crate) transcript: Transcript,
    /// What happened before.
    pub(crate) events: Vec<Event>,
    /// How it begins, as hooks read it.
    pub(crate) source: &'static str,
    pub(crate) scratch: Scratch,
}

/// Where the agent's own files are: beside the conversation, or gone with the run.
pub(crate) enum Scratch {
    Beside(PathBuf),
    Passing(TempDir),
}

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Beside(path) => path,
            Self::Passing(folder) => folder.path(),
        }
    }
}

/// Finds or makes it.
pub(crate) fn begin(home: &Home, folder: &Path, options: &Options) -> Result<Begun, LocalError> {
    let known = match &options.conversation {
        Conversation::New => None,
        Conversation::Newest => Some(newest(home, folder).ok_or(LocalError::NothingToContinue)?),
        Conversation::Of(id) => {
            let path = of_id(home, folder, id).ok_or_else(|| LocalError::NoSession(id.clone()))?;
            Some((path, id.clone()))
        }
    };
    let wanted = options.session_id.clone();
    if let Some(id) = wanted.as_ref().filter(|id| !uuid::is_one(id)) {
        return Err(LocalError::Usage(format!("--session-id: `{id}` is no UUID")));
    }
    if wanted.is_some() && known.is_some() && !options.fork {
        return Err(LocalError::Usage(
            "--session-id names a new conversation; with --resume or --continue it needs --fork-session"
                .into(),
        ));
    }
    let (past, source) = match &known {
        None => (None, "startup"),
        Some((path, _)) => {
            let failed = |source| LocalError::File { path: path.clone(), source };
            (Some(read(path).map_err(failed)?), if options.fork { "fork" } else { "resume" })
        }
    };
    let goes_on = known.filter(|_| !options.fork);
    let (session, path) = match goes_on {
        Some((path, id)) => (id, path),
        None => {
            let id = wanted.unwrap_or_else(uuid::fresh);
            if of_id(home, folder, &id).is_some() {
                return Err(LocalError::InUse(id));
            }
            let path = home.conversations(folder).join(format!("{id}.jsonl"));
            (id, path)
        }
    };
    let past = past.unwrap_or_default();
    let cwd = folder.to_string_lossy().into_owned();
    let facts = Facts { session: session.clone(), cwd, branch: branch(folder).unwrap_or_default() };
    let failed = |source| LocalError::File { path: path.clone(), source };
    if options.forget {
        let scratch = tempfile::Builder::new().prefix("patchyard-").tempdir().map_err(failed)?;
        let (transcript, scratch) = (Transcript::none(facts), Scratch::Passing(scratch));
        return Ok(Begun { session, path: None, transcript, events: past.events, source, scratch });
    }
    if options.fork {
        copy(&path, &session, &past.lines).map_err(failed)?;
    }
    let transcript = Transcript::open(&path, past.last, facts).map_err(failed)?;
    let scratch = path.with_extension("").join("files");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&scratch).map_err(failed)?;
    // What hooks of an earlier run left there, those of this one leave again.
    let _ = fs::remove_file(scratch.join(ENV_FILE));
    let scratch = Scratch::Beside(scratch);
    Ok(Begun { session, path: Some(path), transcript, events: past.events, source, scratch })
}

/// Says the lines of another conversation again.
fn copy(path: &Path, session: &str, lines: &[serde_json::Value]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut text = Vec::new();
    for line in lines {
        let mut line = line.clone();
        line["sessionId"] = session.into();
        serde_json::to_writer(&mut text, &line)?;
        text.push(b'\n');
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(&text)
}

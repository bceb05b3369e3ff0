//! Something in place of the program git, for a simulation in which no process may run.
//!
//! Only what runs to its end is played ([`crate::command`]); who streams a git's input and output gets the
//! program.

use std::path::PathBuf;
use std::sync::OnceLock;

use tokio::process::Command;

use crate::command::Ended;

/// A run of git.
#[derive(Debug)]
pub struct Invocation {
    /// The repository, where there is one.
    pub repository: Option<PathBuf>,
    /// The command and its arguments.
    pub args: Vec<String>,
    /// What it reads.
    pub input: Vec<u8>,
}

/// How it ended: whether well, what it printed, and what it said beside.
pub type Outcome = (bool, Vec<u8>, String);

type Player = Box<dyn Fn(Invocation) -> Outcome + Send + Sync>;

static PLAYER: OnceLock<Player> = OnceLock::new();

/// From here on this answers instead of git, in the whole process. The first one stays.
pub fn instead_of_git(player: impl Fn(Invocation) -> Outcome + Send + Sync + 'static) {
    let _ = PLAYER.set(Box::new(player));
}

/// The end of a run, where somebody plays git.
pub(crate) fn play(command: &Command, input: &[u8]) -> Option<Ended> {
    let player = PLAYER.get()?;
    let mut args = command.as_std().get_args().map(|arg| arg.to_string_lossy().into_owned());
    let (mut repository, mut rest) = (None, Vec::new());
    while let Some(arg) = args.next() {
        match arg.as_str() {
            // Settings change nothing in a play.
            "-c" if rest.is_empty() => drop(args.next()),
            "--git-dir" if rest.is_empty() => repository = args.next().map(PathBuf::from),
            "--literal-pathspecs" if rest.is_empty() => {}
            _ => rest.push(arg),
        }
    }
    let (success, stdout, words) = player(Invocation { repository, args: rest, input: input.to_vec() });
    Some(Ended { success, stdout, stderr: words.into_bytes() })
}

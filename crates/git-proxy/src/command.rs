//! How git is run on the host: no configuration, no environment, no prompt, no program of the
//! repository's, a deadline, and a cap on what it may print.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use failpoint::{Side, reached};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::error::GitError;

/// What one git may print that is kept in memory.
const MAX_OUTPUT: u64 = 64 * 1024 * 1024;

/// The most memory that one git may ask for at once. A delta says how large its result is, and git
/// asks for all of it before it looks further: a few kilobytes of a pack can name gigabytes.
const MAX_ALLOCATION: &str = "1g";

/// So many gits run at once; more wait.
static TURNS: Semaphore = Semaphore::const_new(8);

/// The same for those that wait for another machine, so that slow ones hold nobody else up.
static REMOTE_TURNS: Semaphore = Semaphore::const_new(4);

/// The most characters of git's words that are passed on at a time.
const MAX_WORDS: usize = 300;

/// How long one git may take once it runs.
const DEADLINE: Duration = Duration::from_secs(300);

/// Settings of every git. Objects are checked as they come in, but for flaws of old tools that
/// many real histories have and that harm nobody.
const SETTINGS: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.quotePath", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("protocol.allow", "never"),
    ("protocol.file.allow", "always"),
    ("protocol.http.allow", "always"),
    ("protocol.https.allow", "always"),
    ("http.followRedirects", "false"),
    ("transfer.fsckObjects", "true"),
    ("fetch.fsck.zeroPaddedFilemode", "ignore"),
    ("fetch.fsck.missingSpaceBeforeDate", "ignore"),
    ("fetch.fsck.missingNameBeforeEmail", "ignore"),
    ("fetch.fsck.missingSpaceBeforeEmail", "ignore"),
    ("fetch.fsck.badTimezone", "ignore"),
    ("fetch.fsck.missingTaggerEntry", "ignore"),
    ("fetch.fsck.zeroPaddedDate", "ignore"),
];

/// How a git ended.
pub(crate) struct Ended {
    pub(crate) success: bool,
    /// What it printed.
    pub(crate) stdout: Vec<u8>,
    /// What it said beside.
    pub(crate) stderr: Vec<u8>,
}

/// A git on one of our repositories, or on none.
pub(crate) struct Git {
    action: &'static str,
    command: Command,
    input: Vec<u8>,
}

impl Git {
    /// `action` names it in errors.
    pub(crate) fn new(action: &'static str, repository: Option<&Path>) -> Self {
        let mut command = Command::new("git");
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C.UTF-8")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env("GIT_ALLOC_LIMIT", MAX_ALLOCATION)
            .current_dir("/")
            .kill_on_drop(true)
            .stdin(Stdio::null());
        for (name, value) in SETTINGS {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        if let Some(repository) = repository {
            command.arg("--git-dir").arg(repository);
        }
        Self { action, command, input: Vec::new() }
    }

    /// One more argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// More arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// What it reads.
    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.command.stdin(Stdio::piped());
        self.input = input.into();
        self
    }

    /// A variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// The command, for who streams its input and output.
    pub(crate) fn into_command(self) -> Command {
        self.command
    }

    /// Runs it when it is its turn; gives what it printed.
    pub(crate) async fn run(self) -> Result<Vec<u8>, GitError> {
        let action = self.action;
        let Ended { success, stdout, stderr } = self.ended().await?;
        if success { Ok(stdout) } else { Err(GitError::Git { action, words: reason(&stderr) }) }
    }

    /// Runs it when it is its turn; gives how it ended, well or not.
    pub(crate) async fn ended(mut self) -> Result<Ended, GitError> {
        let action = self.action;
        let turns = if is_remote(action) { &REMOTE_TURNS } else { &TURNS };
        let _turn = turns.acquire().await.map_err(|error| GitError::Start(std::io::Error::other(error)))?;
        reached(Side::Before, "git", || action.into());
        #[cfg(feature = "stand-in")]
        if let Some(ended) = crate::stand_in::play(&self.command, &self.input) {
            return Ok(ended);
        }
        let mut child =
            self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(GitError::Start)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let give = async {
            if let Some(mut stdin) = stdin {
                // Who does not read it all says why.
                let _ = stdin.write_all(&self.input).await;
            }
        };
        let work = async {
            let (out, err) = (read_capped(stdout, MAX_OUTPUT), read_capped(stderr, 64 * 1024));
            let (out, err, ()) = tokio::join!(out, err, give);
            (out, err, child.wait().await)
        };
        let Ok((out, err, status)) = tokio::time::timeout(DEADLINE, work).await else {
            return Err(GitError::Timeout { action, seconds: DEADLINE.as_secs() });
        };
        reached(Side::After, "git", || action.into());
        let failed = |words: String| GitError::Git { action, words };
        let stdout = out.map_err(|error| failed(error.to_string()))?;
        let status = status.map_err(|error| failed(error.to_string()))?;
        Ok(Ended { success: status.success(), stdout, stderr: err.unwrap_or_default() })
    }

    /// Runs it; gives what it printed as trimmed text.
    pub(crate) async fn text(self) -> Result<String, GitError> {
        Ok(String::from_utf8_lossy(&self.run().await?).trim().to_owned())
    }
}

/// Whether git talks to another repository's machine in this action.
pub(crate) fn is_remote(action: &str) -> bool {
    matches!(action, "ls-remote" | "fetch" | "push")
}

async fn read_capped(pipe: Option<impl AsyncRead + Unpin>, cap: u64) -> std::io::Result<Vec<u8>> {
    let Some(pipe) = pipe else { return Ok(Vec::new()) };
    let mut bytes = Vec::new();
    let mut pipe = pipe.take(cap + 1);
    pipe.read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > cap {
        return Err(std::io::Error::other(format!("it printed more than {cap} bytes")));
    }
    Ok(bytes)
}

/// git's first error line, which has the reason (later ones say what it led to), or the last line at
/// all, cut.
pub(crate) fn reason(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines()
        .find(|line| line.starts_with("fatal:") || line.starts_with("error:"))
        .or_else(|| lines().next_back())
        .unwrap_or("it gave no reason");
    let line = line.trim_start_matches("fatal: ").trim_start_matches("error: ");
    plain(line.trim_end_matches('.'))
}

/// Words of another program as a line may hold them, cut.
pub(crate) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect()
}

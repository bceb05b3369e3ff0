//! A program run to its end.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use super::must::Must as _;

/// The longest that a test waits for one thing. Long: the machine may be busy with other tests.
pub const DEADLINE: Duration = Duration::from_secs(150);

/// What a program left.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output as one JSON value.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).must(&format!("one JSON value on standard output of {self:?}"))
    }

    /// Fails the test unless the exit code is this.
    ///
    /// # Panics
    /// With everything that the program said.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "exit code\n── stdout ──\n{}\n── stderr ──\n{}",
            self.text(),
            self.stderr
        );
        self
    }
}

/// Runs a program to its end, without input.
///
/// # Panics
/// When it cannot be started or does not end within [`DEADLINE`].
pub async fn run(mut command: Command) -> Finished {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let shown = format!("{command:?}");
    let child = command.spawn().must(&shown);
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output()).await;
    let output = output.must(&format!("the end of {shown}")).must(&shown);
    Finished {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

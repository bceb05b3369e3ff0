//! Large files (git LFS) that a session made: brought home with its checkpoints, sent before its branch.
//!
//! ```text
//!   checkpoint in the repository ─▶ pointers that are new, content that is not here ─▶ read from the sandbox
//!   push planned ─▶ content to where the branch goes ─▶ branch     or the branch is not pushed, and why
//! ```

use std::time::Duration;

use git_proxy::{Remote, WantedFile};
use protocol::hands::{ExecEvent, ExecSpec, Hands as _};
use protocol::ids::ExecId;
use protocol::view::SessionView;
use ulid::Ulid;

use crate::driver::LiveSandbox;
use crate::provision::workspace_path;
use crate::registry::Shared;

/// How long one may take to come.
const LIMIT: Duration = Duration::from_secs(120);

/// Brings the content of large files that a checkpoint has on top of an earlier one; which could not be had.
/// What is nowhere in the sandbox either is a pointer that was there before.
pub(crate) async fn bring_home(
    shared: &Shared,
    facts: &SessionView,
    sandbox: &LiveSandbox,
    (commit, earlier): (&str, &str),
) -> Vec<String> {
    let known = [facts.base.clone(), facts.head.clone(), earlier.to_owned()];
    let wanted = match shared.repositories.wanted_large_files(facts.id, commit, &known).await {
        Ok(wanted) => wanted,
        Err(error) => return vec![error.to_string()],
    };
    let (mut room, mut failed) = (shared.config.lfs.bytes, Vec::new());
    for file in wanted {
        let Some(left) = room.checked_sub(file.size()) else {
            failed.push("they are more than `lfs_bytes` in [repositories]".into());
            break;
        };
        room = left;
        if let Err(reason) = one(facts, sandbox, &file).await {
            failed.push(reason);
        }
    }
    failed
}

async fn one(facts: &SessionView, sandbox: &LiveSandbox, file: &WantedFile) -> Result<(), String> {
    // The workspace's own, or the checkpoint's where its .git is gone.
    let text = "for at in \"$WORKSPACE/.git\" /var/lib/patchyard/checkpoint.git; do \
                if [ -f \"$at/lfs/objects/$PLACE\" ]; then exec cat \"$at/lfs/objects/$PLACE\"; fi; done; exit 9";
    let argv = ["sh", "-c", text].map(ToOwned::to_owned).into();
    let env = [("WORKSPACE", workspace_path(facts)), ("PLACE", file.place())];
    let spec = ExecSpec {
        env: env.map(|(name, value)| (name.to_owned(), value)).into(),
        timeout: Some(LIMIT),
        ..ExecSpec::new(ExecId::from(Ulid::generate()), argv, "/")
    };
    let mut execution = sandbox.link.start(spec).await.map_err(|error| error.to_string())?;
    let mut incoming = file.begin().await.map_err(|error| error.to_string())?;
    loop {
        match execution.next().await.map_err(|error| error.to_string())? {
            ExecEvent::Stdout(bytes) => {
                if let Err(reason) = incoming.push(bytes.into()).await {
                    let _ = execution.signal(protocol::hands::ExecSignal::Kill).await;
                    return Err(reason);
                }
            }
            ExecEvent::Stderr(_) => {}
            ExecEvent::Exited(end) if end.code == Some(9) => return Ok(()),
            ExecEvent::Exited(end) if end.is_success() => return incoming.end().await,
            ExecEvent::Exited(_) => return Err("the sandbox could not read one".into()),
        }
    }
}

/// Sends what a commit needs to where it is about to be pushed. The error says why it must not be.
pub(crate) async fn send(
    shared: &Shared,
    view: &SessionView,
    commit: &str,
    remote: &Remote,
) -> Result<(), String> {
    let known = there(view);
    let (repositories, way) = (&shared.repositories, (remote, &shared.git));
    let sent = repositories.publish_large_files(view.id, &view.branch, (commit, &known), way).await;
    sent.unwrap_or_else(|error| Err(error.to_string()))
}

/// Whether a commit has large files that its remote may not have.
pub(crate) async fn are_new(shared: &Shared, view: &SessionView, commit: &str) -> bool {
    shared.repositories.brings_large_files(view.id, commit, &there(view)).await.unwrap_or(false)
}

/// Commits whose large files are where the session came from.
fn there(view: &SessionView) -> [String; 1] {
    [view.head.clone()]
}

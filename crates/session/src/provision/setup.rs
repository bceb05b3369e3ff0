//! The setup script of an environment.
//!
//! ```text
//!  script ─▶ a file inside ─▶ bash FILE, or as its first line says ─▶ ended with 0?
//!                                                                      └▶ anything left running?
//! ```

use std::time::Duration;

use protocol::hands::{ExecEnd, ExecSpec, Hands as _};
use sandbox::guest_link::GuestLink;

use super::exec::{ask, command, ending, script};

/// Where the script is while it runs.
const FILE: &str = "/var/lib/patchyard/setup-script";

/// What a setup script is told, besides its lines: how long looking for processes may take.
const LOOK: Duration = Duration::from_secs(10);

// Every process but the first, this one and those that are dead already; what is about to end gets a
// second. The shell's own words only, so that nothing of ours is found.
const LEFT_RUNNING: &str = r#"look() {
    found=
    for place in /proc/[0-9]*; do
        pid=${place#/proc/}
        [ "$pid" != 1 ] && [ "$pid" != $$ ] || continue
        { read -r line < "$place/stat"; } 2>/dev/null || continue
        after=${line##*) }
        case $after in Z*|X*) continue ;; esac
        name=${line#*(}
        found="$found ${name%)*}"
    done
}
for try in 1 2 3 4 5 6 7 8 9 10; do
    look
    [ -n "$found" ] || exit 0
    sleep 0.1
done
look
echo "$found""#;

/// Brings the script inside and says how it is to be started.
pub(crate) async fn place(link: &GuestLink, text: &str) -> Result<Vec<String>, String> {
    let failed = |error| format!("the setup script could not be brought into the sandbox: {error}");
    link.write_file(FILE, text.as_bytes()).await.map_err(failed)?;
    if text.starts_with("#!") {
        return Ok(script(&format!("chmod 700 {FILE} && exec {FILE}")));
    }
    Ok([shell(link).await, FILE].map(ToOwned::to_owned).into())
}

/// The shell of scripts and hooks: bash where the image has it.
pub(crate) async fn shell(link: &GuestLink) -> &'static str {
    match link.stat("/bin/bash").await {
        Ok(_) => "bash",
        Err(_) => "sh",
    }
}

/// The command that runs it, as root of the sandbox.
pub(crate) fn command_of(
    argv: Vec<String>,
    workspace: &str,
    env: Vec<(String, String)>,
    limit: Duration,
) -> ExecSpec {
    // The one command that may gain rights by setuid programs.
    ExecSpec { new_privileges: true, ..command(argv, workspace, env, limit) }
}

/// Takes the script out again.
pub(crate) async fn take_away(link: &GuestLink) {
    let spec = command(["rm", "-f", FILE].map(ToOwned::to_owned).into(), "/", Vec::new(), LOOK);
    if let Err(error) = ask(link, spec, 0).await {
        tracing::debug!(%error, "the setup script stays in the sandbox");
    }
}

/// Why a setup failed, with its last lines.
pub(crate) fn failure(end: &ExecEnd, limit: Duration, last_lines: &str) -> String {
    let mut text = format!("the setup script {}", ending(end, limit));
    if !last_lines.is_empty() {
        text.push_str(": ");
        text.push_str(&last_lines.replace('\n', " · "));
    }
    text
}

/// The names of what a script left running; empty when a sandbox is quiet and its files can be kept.
pub(crate) async fn left_running(link: &GuestLink) -> Result<Vec<String>, String> {
    let (end, said) = ask(link, command(script(LEFT_RUNNING), "/", Vec::new(), LOOK), 4096).await?;
    if !end.is_success() {
        return Err("the processes of the sandbox could not be listed".into());
    }
    let said = String::from_utf8_lossy(&said);
    let names = said.split_whitespace().take(20);
    Ok(names.map(|name| name.chars().filter(|c| !c.is_control()).take(20).collect()).collect())
}

/// What is told of a script that left something running.
pub(crate) fn not_kept(left: &[String]) -> String {
    let mut names = left.to_vec();
    names.sort();
    names.dedup();
    format!(
        "not kept for later sessions: it left {} running ({}); start what has to run in a SessionStart hook of \
         the repository instead",
        if left.len() == 1 { "a process".to_owned() } else { format!("{} processes", left.len()) },
        names.join(", ")
    )
}

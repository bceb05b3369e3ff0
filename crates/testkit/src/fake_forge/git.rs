//! The repositories behind the forge: what is asked of them, and pushes to them.

use std::path::Path;
use std::process::Command;

use crate::harness::Must as _;

/// Refuses pushes to protected branches in the forge's words.
const HOOK: &str = r#"#!/bin/sh
if grep -qxF "$1" protected 2>/dev/null; then
    echo "error: GH006: Protected branch update failed for $1." >&2
    exit 1
fi
"#;

/// What git says of a repository; nothing where it fails.
pub(super) fn git(bare: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "-C"])
        .arg(bare)
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where a branch points.
pub(super) fn tip(bare: &Path, branch: &str) -> Option<String> {
    let name = format!("refs/heads/{branch}^{{commit}}");
    let sha = git(bare, &["rev-parse", "--verify", "--quiet", "--end-of-options", &name])?;
    Some(sha.trim().to_owned())
}

/// Names and commits of all branches.
pub(super) fn branches(bare: &Path) -> Vec<(String, String)> {
    let listed = git(bare, &["for-each-ref", "--format=%(refname:lstrip=2)%00%(objectname)", "refs/heads"]);
    let lines = listed.unwrap_or_default();
    lines
        .lines()
        .filter_map(|line| line.split_once('\0'))
        .map(|(name, sha)| (name.into(), sha.into()))
        .collect()
}

/// How many commits one has that the other has not.
pub(super) fn ahead(bare: &Path, base: &str, head: &str) -> u64 {
    let counted = git(bare, &["rev-list", "--count", &format!("{base}..{head}")]);
    counted.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Makes a repository refuse what the forge would.
pub(super) fn guard(bare: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let hook = bare.join("hooks/update");
    std::fs::create_dir_all(bare.join("hooks")).must("a folder for hooks");
    std::fs::write(&hook, HOOK).must("a hook");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).must("a hook that runs");
}

/// Writes down which branches are protected.
pub(super) fn protect(bare: &Path, branches: &[String]) {
    let lines: String = branches.iter().map(|branch| format!("refs/heads/{branch}\n")).collect();
    std::fs::write(bare.join("protected"), lines).must("the list of protected branches");
}

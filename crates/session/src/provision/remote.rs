//! The way from the workspace to the repository that it came from.
//!
//! ```text
//!   origin = https://git.example.org/team/thing.git          what people and programs see
//!     └ git's configuration of the sandbox: https://git.example.org/, git@git.example.org: and
//!       ssh://git@git.example.org/ stand for http://127.0.0.1:3131/git.example.org/, the git proxy
//!   a submodule's address, where it was fetched for the session, in a file of its own beside that
//! ```
//!
//! Nothing here holds a credential, and none is needed: the listener is the identity.

use std::time::Duration;

use git_proxy::{Module, root};
use policy::repository::RepositoryUrl;
use protocol::egress::GIT_PORT;
use protocol::view::SessionView;
use sandbox::guest_link::GuestLink;

use super::exec::{StepLog, command, script};
use super::{modules, workspace_path};
use crate::gateways::address;

/// How long git may take inside.
const GIT: Duration = Duration::from_secs(30);

// A layer that was kept has those of the session that made it: of the same repository.
const ATTACH: &str = r#"set -eu
git config --system --get-all include.path | grep -qxF "$WAYS_FILE" ||
    git config --system --add include.path "$WAYS_FILE"
printf '%s' "$WAYS" > "$WAYS_FILE"
[ -n "$ADDRESS" ] || exit 0
git -C "$WORKSPACE" remote set-url origin "$ADDRESS"
git config --system --unset-all "url.$DOOR.insteadOf" || :
for place in $PLACES; do
    git config --system --add "url.$DOOR.insteadOf" "$place"
done"#;

/// Where git finds the ways to submodules.
const WAYS_FILE: &str = "/etc/gitconfig.patchyard";

/// Lets `origin` be the repository's address, and git find the proxy behind it and behind submodules.
pub(crate) async fn attach(
    log: &mut StepLog<'_>,
    link: &GuestLink,
    facts: &SessionView,
    modules: &[Module],
) -> Result<(), String> {
    let url = address(facts);
    let door = url.as_ref().and_then(door);
    if door.is_none() && modules.is_empty() {
        return Ok(());
    }
    let url = url.map(|url| url.to_string()).unwrap_or_default();
    let (door, places) = door.unwrap_or_default();
    let env = [
        ("WORKSPACE", workspace_path(facts)),
        ("ADDRESS", url.clone()),
        ("DOOR", door),
        ("PLACES", places.join(" ")),
        ("WAYS", modules::ways(modules)),
        ("WAYS_FILE", WAYS_FILE.into()),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value)).into();
    let end = log.run(link, command(script(ATTACH), "/", env, GIT)).await?;
    if end.is_success() {
        return Ok(());
    }
    let last = log.last_lines(1);
    Err(format!("the workspace could not be attached to {url}: {last}"))
}

/// The proxy's address for the repositories of a host, and the beginnings of addresses that it stands for.
fn door(url: &RepositoryUrl) -> Option<(String, [String; 3])> {
    let RepositoryUrl::Http { host, .. } = url else { return None };
    let root = root(url)?;
    let authority = root.split_once("://")?.1;
    let places = [format!("{root}/"), format!("git@{host}:"), format!("ssh://git@{host}/")];
    Some((format!("http://127.0.0.1:{GIT_PORT}/{authority}/"), places))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_reached_by_the_door_under_all_its_names() {
        let url = RepositoryUrl::parse("https://git.example.org:8443/team/thing.git", &[]).unwrap();
        let (door, places) = door(&url).unwrap();
        assert_eq!(door, "http://127.0.0.1:3131/git.example.org:8443/");
        assert_eq!(
            places,
            ["https://git.example.org:8443/", "git@git.example.org:", "ssh://git@git.example.org/"]
        );
    }
}

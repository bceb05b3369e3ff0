//! Submodules in the workspace.
//!
//! ```text
//!   .gitmodules ─▶ git_proxy: fetched outside, beside the session's repository ─▶ modules/<key>.git, read-only
//!                     └ in the workspace: git submodule update, from there, offline
//!   origin of each = its real address ─▶ /etc/gitconfig.patchyard ─▶ the git proxy
//! ```

use std::time::Duration;

use async_trait::async_trait;
use git_proxy::{Credential, Credentials, Module, Modules, root};
use policy::repository::RepositoryUrl;
use protocol::egress::GIT_PORT;
use protocol::ids::SessionId;
use store::Store;

use crate::credentials::credential_for;
use crate::registry::Shared;

/// How much longer than a sandbox without submodules one with them may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(160);

/// The part of a workspace's scripts that checks submodules out. It goes on over what cannot be had: a
/// session with an empty folder is worth more than none.
pub(crate) const CHECK_OUT: &str = r#"
printf '%s' "$MODULES" | while IFS='	' read -r within name path url store; do
    repository=$WORKSPACE/$within store=$REPOSITORY/modules/$store
    if said=$(git -C "$repository" config "submodule.$name.url" "$url" 2>&1 &&
        git -C "$repository" -c protocol.file.allow=always -c "url.$store.insteadOf=$url" \
            submodule --quiet update --init --no-recommend-shallow --reference "$store" -- "$path" 2>&1); then
        continue
    fi
    printf 'The submodule `%s` in `%s` is left empty: %s\n' "$path" "$within" "$(printf '%s' "$said" | tail -n 1)"
done"#;

/// Who the server is at the hosts of submodules.
struct OfStore<'a> {
    store: &'a Store,
    allowed: bool,
}

#[async_trait]
impl Credentials for OfStore<'_> {
    async fn of(&self, url: &RepositoryUrl) -> Option<Credential> {
        credential_for(self.store, self.allowed, url).await.ok().flatten()
    }
}

/// Fetches the submodules of a commit for a session that came from `url`.
pub(crate) async fn bring(shared: &Shared, session: SessionId, url: Option<&str>, commit: &str) -> Modules {
    let rules = &shared.config.fetch;
    let url = url.and_then(|url| RepositoryUrl::parse(url, &rules.file_roots).ok());
    let credentials = OfStore { store: &shared.store, allowed: shared.config.personal_tokens };
    let work = shared.repositories.fetch_modules(session, (url.as_ref(), commit), &credentials, rules);
    work.await.unwrap_or_else(|error| Modules {
        found: Vec::new(),
        remarks: vec![format!("The submodules are left out: {error}.")],
    })
}

/// The variable that [`CHECK_OUT`] reads.
pub(crate) fn lines(modules: &[Module]) -> String {
    let line =
        |one: &Module| format!("{}\t{}\t{}\t{}\t{}\n", one.within, one.name, one.path, one.url, one.store);
    modules.iter().map(line).collect()
}

/// git's configuration that lets the git proxy stand for the addresses of submodules.
pub(crate) fn ways(modules: &[Module]) -> String {
    let way = |one: &Module| {
        let url = RepositoryUrl::parse(&one.url, &[]).ok()?;
        let authority = root(&url)?.split_once("://")?.1.to_owned();
        let path = one.url.split_once(&authority)?.1;
        Some(format!(
            "[url \"http://127.0.0.1:{GIT_PORT}/{authority}{path}\"]\n\tinsteadOf = \"{}\"\n",
            one.url
        ))
    };
    modules.iter().filter_map(way).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submodule_is_reached_by_the_door_under_its_own_address() {
        let module = |url: &str| Module {
            within: ".".into(),
            name: "n".into(),
            path: "p".into(),
            url: url.into(),
            store: "k.git".into(),
        };
        let all = [module("https://h.test:8443/o/lib.git"), module("file:///srv/lib")];
        assert_eq!(
            ways(&all),
            "[url \"http://127.0.0.1:3131/h.test:8443/o/lib.git\"]\n\tinsteadOf = \"https://h.test:8443/o/lib.git\"\n"
        );
        assert_eq!(lines(&all[1..]), ".\tn\tp\tfile:///srv/lib\tk.git\n");
    }
}

//! Large files (git LFS) in the workspace.
//!
//! ```text
//!   pointers of the commit ─▶ git_proxy: fetched outside ─▶ repository.git/lfs/objects, read-only
//!   git's filter `lfs` in the sandbox ─▶ lfs.sh ─▶ real files, in images with and without git-lfs
//! ```

use git_proxy::Remote;
use policy::push::PushRules;
use policy::repository::RepositoryUrl;
use protocol::ids::SessionId;

use crate::credentials::credential_for;
use crate::registry::Shared;

/// The filter, where the scripts of the preparation put it.
pub(crate) const FILTER: &str = include_str!("lfs.sh");

/// The part of a workspace's scripts that lets git know the filter, instead of an installed git-lfs's: that
/// one would ask a host which is not there yet. A filter cannot be unset for one command, so it is the system's
/// from then on; who runs `git lfs install` inside has git-lfs's again.
pub(crate) const INSTALL: &str = r#"
mkdir -p /var/lib/patchyard
printf '%s' "$LFS_FILTER" > /var/lib/patchyard/lfs
chmod 755 /var/lib/patchyard/lfs
git config --system --unset-all filter.lfs.process || :
git config --system filter.lfs.required false
git config --system filter.lfs.clean '/var/lib/patchyard/lfs clean'
git config --system filter.lfs.smudge '/var/lib/patchyard/lfs smudge'
export GIT_CONFIG_GLOBAL=/dev/null
"#;

/// Fetches the large files of a commit for a session that came from `url`; which stay pointers, and why.
pub(crate) async fn bring(
    shared: &Shared,
    session: SessionId,
    url: Option<&str>,
    commit: &str,
) -> Vec<String> {
    let remote = match url.and_then(|url| RepositoryUrl::parse(url, &[]).ok()) {
        Some(url) => {
            let allowed = shared.config.personal_tokens;
            let credential = credential_for(&shared.store, allowed, &url).await.ok().flatten();
            Some(Remote { url, credential, push: PushRules::default() })
        }
        None => None,
    };
    let way = (remote.as_ref(), &shared.git);
    let fetched = shared.repositories.fetch_large_files(session, commit, way, shared.config.lfs).await;
    match fetched {
        Ok(files) => files.remarks,
        Err(error) => vec![format!("Large files (LFS) stay pointers: {error}.")],
    }
}

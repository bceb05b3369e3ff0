//! Which submodules of a repository are fetched, from where, and who the server is there.
//!
//! ```text
//!   .gitmodules (hostile) ─▶ name, path ── checked ──▶ a place in the workspace       (or why not)
//!                         └▶ url ── resolved ──▶ RepositoryUrl, rules as for `--repo`   (or why not)
//!                                      └─ may_show ──▶ whether its host is shown the server's credential
//! ```
//!
//! What a repository names as its submodule its authors chose, not the person who began the session. So the
//! credential of the server goes to repositories of the session's own owner alone, and to those that the
//! operator names: else whoever is worked for could have any private repository brought into the sandbox.

use std::path::PathBuf;

use crate::repository::{RepositoryUrl, RepositoryUrlError};

/// The longest name, path or address.
const MAX_TEXT: usize = 1024;

/// Why a submodule is left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmoduleError {
    /// The name would be no folder of its own below `.git/modules`.
    #[error("its name is no plain one; give it the name of its folder in .gitmodules")]
    Name,
    /// The path leads elsewhere.
    #[error(
        "its path is none that may be written; a path has no `..`, no `.git`, and no `-` at its beginning"
    )]
    Path,
    /// Two of them are one on some machines.
    #[error("another submodule has the same name or place, or one around it")]
    Twice,
    /// It is to be found beside a repository that has no address.
    #[error("its address is relative, and this session came without an address; begin one with `--repo URL`")]
    Relative,
    /// It leads above the host.
    #[error("its relative address leads out of the host")]
    Above,
    /// The address.
    #[error(transparent)]
    Url(#[from] RepositoryUrlError),
}

/// Whether a name may be that of a folder below `.git/modules`.
pub fn check_name(name: &str) -> Result<(), SubmoduleError> {
    if is_plain(name) { Ok(()) } else { Err(SubmoduleError::Name) }
}

/// Whether a path may be written in a workspace.
pub fn check_path(path: &str) -> Result<(), SubmoduleError> {
    if is_plain(path) { Ok(()) } else { Err(SubmoduleError::Path) }
}

/// Relative, of plain parts, none of which any file system takes for `.git` or for another one.
fn is_plain(path: &str) -> bool {
    let odd = |c: char| c.is_control() || c == '\\' || c == ':' || is_invisible(c);
    let part = |part: &str| {
        let folded = part.to_lowercase();
        // What Windows and old names of it take for `.git`: dots and spaces at the end, `GIT~1`.
        let bare = folded.trim_end_matches(['.', ' ']);
        !bare.is_empty() && bare != ".git" && bare != "git~1"
    };
    let plain = (1..=MAX_TEXT).contains(&path.len()) && !path.starts_with('-') && !path.chars().any(odd);
    plain && path.split('/').all(part)
}

/// Characters that HFS+ leaves out when it compares names.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

/// Whether two names or paths are the same or one lies in the other, on a file system that knows no case.
#[must_use]
pub fn collide(one: &str, other: &str) -> bool {
    let (one, other) = (one.to_lowercase(), other.to_lowercase());
    let around =
        |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    one == other || around(&one, &other) || around(&other, &one)
}

/// Where a submodule is fetched, for a repository that is at `base`. Addresses of ssh stand for the same
/// ones over HTTPS.
pub fn resolve(
    base: Option<&RepositoryUrl>,
    text: &str,
    file_roots: &[PathBuf],
) -> Result<RepositoryUrl, SubmoduleError> {
    let cut = || RepositoryUrlError::NotUrl(text.chars().filter(|c| !c.is_control()).take(200).collect());
    if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
        return Err(cut().into());
    }
    if text.starts_with("./") || text.starts_with("../") {
        let base = base.ok_or(SubmoduleError::Relative)?;
        let roots = if matches!(base, RepositoryUrl::File { .. }) { file_roots } else { &[] };
        return Ok(RepositoryUrl::parse(&beside(base, text)?, roots)?);
    }
    let over_ssh = match text.split_once("://") {
        Some(("ssh" | "git+ssh", rest)) => {
            let (authority, path) = rest.split_once('/').ok_or_else(cut)?;
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            // The port is that of ssh.
            let bare =
                host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
            Some((bare.map_or(host, |(host, _)| host), path))
        }
        Some(("http" | "https", _)) => None,
        Some((scheme, _)) => return Err(RepositoryUrlError::Scheme(scheme.chars().take(20).collect()).into()),
        None => {
            let (authority, path) = text.split_once(':').ok_or_else(cut)?;
            // `ext::…`, and paths of this machine with a colon in them.
            if authority.contains('/') || path.starts_with(':') {
                return Err(cut().into());
            }
            Some((authority.rsplit_once('@').map_or(authority, |(_, host)| host), path))
        }
    };
    let Some((host, path)) = over_ssh else { return Ok(RepositoryUrl::parse(text, &[])?) };
    // The session's own host may have another port than the usual one.
    let root = base.and_then(root_of).filter(|(_, own)| own.eq_ignore_ascii_case(host));
    let root = root.map_or_else(|| format!("https://{host}"), |(root, _)| root);
    Ok(RepositoryUrl::parse(&format!("{root}/{}", path.trim_start_matches('/')), &[])?)
}

/// `https://git.example.org:8443` and `git.example.org`.
fn root_of(url: &RepositoryUrl) -> Option<(String, &str)> {
    let RepositoryUrl::Http { url, host, .. } = url else { return None };
    let behind = url.find("://")? + 3;
    let end = url[behind..].find('/').map_or(url.len(), |at| behind + at);
    Some((url[..end].to_owned(), host))
}

/// The address that a relative one means: each `../` takes a part away.
fn beside(base: &RepositoryUrl, text: &str) -> Result<String, SubmoduleError> {
    let whole = base.to_string();
    let (root, path) = match whole.strip_prefix("file://") {
        Some(path) => ("file://".to_owned(), path),
        None => {
            let (root, _) = root_of(base).ok_or(SubmoduleError::Above)?;
            let path = &whole[root.len()..];
            (root, path)
        }
    };
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    for part in text.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop().ok_or(SubmoduleError::Above)?;
        } else {
            parts.push(part);
        }
    }
    if parts.is_empty() { Err(SubmoduleError::Above) } else { Ok(format!("{root}/{}", parts.join("/"))) }
}

/// Whether the server may show its credential for a submodule of a session that works on `own`. `named` are
/// beginnings of addresses that the operator named.
#[must_use]
pub fn may_show(own: Option<&RepositoryUrl>, url: &RepositoryUrl, named: &[String]) -> bool {
    let text = url.to_string();
    let below = |named: &String| {
        let named = named.trim_end_matches('/');
        text.strip_prefix(named).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    named.iter().any(below) || own.and_then(owner).is_some_and(|own| owner(url).as_ref() == Some(&own))
}

/// The host and the first part of the path, which forges give to a person or a team; of a folder of this
/// machine, the folder that it is in.
fn owner(url: &RepositoryUrl) -> Option<String> {
    let text = url.to_string();
    let RepositoryUrl::Http { .. } = url else {
        return Some(text.trim_end_matches('/').rsplit_once('/')?.0.into());
    };
    let (root, _) = root_of(url)?;
    let path = text[root.len()..].trim_matches('/');
    // At the root of a host nobody owns a part of it.
    Some(
        path.split_once('/')
            .map_or_else(|| root.clone(), |(first, _)| format!("{root}/{}", first.to_lowercase())),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> RepositoryUrl {
        RepositoryUrl::parse(text, &[PathBuf::from("/srv/git")]).unwrap()
    }

    #[test]
    fn a_name_and_a_path_stay_where_they_belong_on_every_file_system() {
        for plain in ["lib", "third party/lib", "a/b/c", ".github-lib", "git", "…/x", "a-", "lib.git"] {
            assert!(check_path(plain).is_ok() && check_name(plain).is_ok(), "{plain}");
        }
        for odd in [
            "",
            "/",
            "/etc",
            "..",
            "../x",
            "a/../b",
            "a/..",
            ".",
            "./a",
            "a//b",
            "a/",
            "-x",
            "--upload-pack=x",
            ".git",
            "a/.git",
            ".GIT/hooks",
            "a/.Git",
            ".git.",
            ".git ",
            "git~1",
            "GIT~1/x",
            ".g\u{200c}it",
            "a\\b",
            "a\\..\\b",
            "a:b",
            "a\nb",
            "a\rb",
            "a\tb",
            "a\0b",
            "... ",
            "x/. ./y",
        ] {
            assert_eq!(
                (check_path(odd), check_name(odd)),
                (Err(SubmoduleError::Path), Err(SubmoduleError::Name)),
                "{odd:?}"
            );
        }
        assert!(check_path(&"x".repeat(MAX_TEXT + 1)).is_err());
        assert!(collide("Lib", "lib") && collide("a", "A/b") && collide("a/b", "a"));
        assert!(!collide("a", "ab") && !collide("a/b", "a/c"));
    }

    #[test]
    fn an_address_is_one_that_repo_takes_or_none() {
        let own = url("https://git.example.org:8443/team/sub/app.git");
        for (text, wanted) in [
            ("https://h.test/o/lib.git", "https://h.test/o/lib.git"),
            ("../lib.git", "https://git.example.org:8443/team/sub/lib.git"),
            ("../../../other/lib", "https://git.example.org:8443/other/lib"),
            ("./lib", "https://git.example.org:8443/team/sub/app.git/lib"),
            ("git@git.example.org:team/lib.git", "https://git.example.org:8443/team/lib.git"),
            ("git@h.test:team/lib.git", "https://h.test/team/lib.git"),
            ("ssh://git@h.test:2222/team/lib", "https://h.test/team/lib"),
            ("ssh://git@git.example.org/team/lib", "https://git.example.org:8443/team/lib"),
            ("h.test:lib", "https://h.test/lib"),
        ] {
            assert_eq!(
                resolve(Some(&own), text, &[]).map(|url| url.to_string()).as_deref(),
                Ok(wanted),
                "{text}"
            );
        }
        let roots = [PathBuf::from("/srv/git")];
        for text in [
            "../../../../lib",
            "../../..",
            "file:///srv/git/x",
            "/srv/git/x",
            "ext::sh -c id",
            "git://h.test/x",
            "https://user:word@h.test/x",
            "https://token@h.test/x",
            "-u./x",
            "lib",
            "a/b:c",
            "",
            "ssh://h.test",
            "https://h.test/x\ny",
            "fd::3",
            "..",
        ] {
            assert!(resolve(Some(&own), text, &roots).is_err(), "{text}");
        }
        assert_eq!(resolve(None, "../lib", &[]), Err(SubmoduleError::Relative));
        let folder = url("file:///srv/git/app.git");
        assert_eq!(
            resolve(Some(&folder), "../lib.git", &roots).unwrap().to_string(),
            "file:///srv/git/lib.git"
        );
        assert!(resolve(Some(&folder), "../../other/lib.git", &roots).is_err());
    }

    /// Row G11 of the escape matrix.
    #[test]
    fn the_credential_goes_to_the_sessions_own_owner_and_to_whom_the_operator_names() {
        let own = url("https://h.test/Team/app.git");
        let may = |text: &str, named: &[&str]| {
            let named: Vec<String> = named.iter().map(|&one| one.to_owned()).collect();
            may_show(Some(&own), &url(text), &named)
        };
        assert!(may("https://h.test/team/secret.git", &[]) && may("https://h.test/Team/sub/x", &[]));
        for other in [
            "https://h.test/teams/x",
            "https://h.test/other/x",
            "https://h.test:444/team/x",
            "https://h.test/team",
        ] {
            assert!(!may(other, &[]), "{other}");
            assert!(!may_show(None, &url(other), &[]), "{other}");
        }
        assert!(may("https://h.test/other/x.git", &["https://h.test/other/"]));
        assert!(may("https://h.test/other/x.git", &["https://h.test/other/x.git"]));
        assert!(!may("https://h.test/other/x.git", &["https://h.test/oth"]));
        assert!(may_show(Some(&url("file:///srv/git/a")), &url("file:///srv/git/b"), &[]));
        assert!(!may_show(Some(&url("file:///srv/git/a")), &url("file:///srv/git/x/b"), &[]));
    }

    proptest! {
        #[test]
        fn nothing_leads_to_another_scheme_or_keeps_a_user(text in "[a-z@:/.~-]{0,40}") {
            let own = url("https://h.test/o/app.git");
            if let Ok(found) = resolve(Some(&own), &text, &[PathBuf::from("/")]) {
                let RepositoryUrl::Http { url, .. } = found else { panic!("{text}") };
                prop_assert!(url.starts_with("https://") || text.starts_with("http://"), "{}", url);
                let authority = url.split('/').nth(2).unwrap();
                prop_assert!(!authority.contains('@'), "{}", url);
            }
        }
    }
}

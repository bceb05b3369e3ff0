//! Which refs a session may push to.
//!
//! ```text
//!  commands ── PushRules::judge ──▶ all pass, or none does, each with its reason
//! ```
//!
//! Names are compared byte for byte: nothing of a ref is normalised, and no beginning of one is enough.

use std::collections::BTreeSet;

/// One command of a push: what a ref shall be afterwards. Object names are lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushCommand {
    /// What the client believes that it is; all zeros where there is none yet.
    pub old: String,
    /// What it shall be; all zeros where it shall go.
    pub new: String,
    /// The whole name, such as `refs/heads/main`; bytes of the client's.
    pub name: Vec<u8>,
}

impl PushCommand {
    /// Whether the ref shall go.
    #[must_use]
    pub fn is_delete(&self) -> bool {
        is_zero(&self.new)
    }

    /// Whether the ref is not there yet.
    #[must_use]
    pub fn is_create(&self) -> bool {
        is_zero(&self.old)
    }

    /// The name as people may see it: one line, cut.
    #[must_use]
    pub fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.name);
        text.chars().map(|c| if c.is_control() { '?' } else { c }).take(250).collect()
    }
}

fn is_zero(object: &str) -> bool {
    object.bytes().all(|byte| byte == b'0')
}

/// The branches that a session may push to. None is none at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushRules {
    branches: BTreeSet<String>,
    /// For branches that others have too: where they may be for a push to be taken.
    known: Option<BTreeSet<String>>,
}

/// Why a ref may not be pushed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum RefError {
    #[error("the same ref is named twice")]
    Twice,
    #[error("branches cannot be deleted from a session")]
    Delete,
    #[error("tags cannot be pushed from a session")]
    Tag,
    #[error("notes cannot be pushed from a session")]
    Notes,
    #[error("this is no branch")]
    Special,
    #[error("this is another branch")]
    Other,
    #[error(
        "the branch has commits there that this session did not push; fetch and merge them, and they are pushed \
         when the turn ends"
    )]
    Moved,
}

/// What is said of a ref that could have been pushed alone.
const BESIDE: &str = "not pushed: another ref in this push was refused";

impl PushRules {
    /// Those that may push to these branches, `main` for `refs/heads/main`.
    #[must_use]
    pub fn of<'a>(branches: impl IntoIterator<Item = &'a str>) -> Self {
        let branches = branches.into_iter().map(|branch| format!("refs/heads/{branch}")).collect();
        Self { branches, known: None }
    }

    /// The same for branches that others have, too: a push has to begin from one of these commits, so that
    /// none of theirs is lost.
    #[must_use]
    pub fn from_tips<'a>(self, tips: impl IntoIterator<Item = &'a str>) -> Self {
        Self { known: Some(tips.into_iter().map(ToOwned::to_owned).collect()), ..self }
    }

    /// Where one may push, for people: `may push to a only`.
    #[must_use]
    pub fn told(&self) -> String {
        let names = self.branches.iter().filter_map(|name| name.strip_prefix("refs/heads/"));
        let names: Vec<&str> = names.collect();
        if names.is_empty() {
            "this session may not push".into()
        } else {
            format!("this session may push to {} only", names.join(", "))
        }
    }

    /// Whether this is the full name of a branch that one may push to.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        self.branches.contains(name)
    }

    /// Whether all of it may be pushed; a reason for each command where not.
    pub fn judge(&self, commands: &[PushCommand]) -> Result<(), Vec<String>> {
        let mut seen = BTreeSet::new();
        let judged: Vec<_> = commands
            .iter()
            .map(|command| if seen.insert(&command.name) { self.one(command) } else { Err(RefError::Twice) })
            .collect();
        if judged.iter().all(Result::is_ok) {
            return Ok(());
        }
        let told = |judged: Result<(), RefError>| match judged {
            Ok(()) => BESIDE.to_owned(),
            Err(error) => format!("{error}; {}", self.told()),
        };
        Err(judged.into_iter().map(told).collect())
    }

    fn one(&self, command: &PushCommand) -> Result<(), RefError> {
        let name = command.name.as_slice();
        let allowed = std::str::from_utf8(name).is_ok_and(|name| self.branches.contains(name));
        match name {
            _ if allowed && !command.is_delete() => match &self.known {
                Some(known) if !known.contains(&command.old) => Err(RefError::Moved),
                _ => Ok(()),
            },
            _ if command.is_delete() => Err(RefError::Delete),
            _ if name.starts_with(b"refs/tags/") => Err(RefError::Tag),
            _ if name.starts_with(b"refs/notes/") => Err(RefError::Notes),
            _ if name.starts_with(b"refs/heads/") => Err(RefError::Other),
            _ => Err(RefError::Special),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ZERO: &str = "0000000000000000000000000000000000000000";
    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const OWN: &str = "refs/heads/patchyard/fix-1";

    fn command(old: &str, new: &str, name: impl AsRef<[u8]>) -> PushCommand {
        PushCommand { old: old.into(), new: new.into(), name: name.as_ref().to_vec() }
    }

    /// Rows G01 to G03 of the escape matrix.
    #[test]
    fn only_the_sessions_branch_may_be_pushed_and_only_all_or_nothing() {
        let rules = PushRules::of(["patchyard/fix-1"]);
        assert_eq!(rules.judge(&[command(ZERO, A, OWN)]), Ok(()));
        assert_eq!(rules.judge(&[command(A, A, OWN)]), Ok(()));
        for (name, said) in [
            ("refs/heads/main", "another branch"),
            ("refs/heads/patchyard/fix-10", "another branch"),
            ("refs/heads/patchyard/fix-1/x", "another branch"),
            ("refs/heads/Patchyard/fix-1", "another branch"),
            ("refs/heads/patchyard/../patchyard/fix-1", "another branch"),
            ("refs/heads/patchyard/fix-1\n", "another branch"),
            ("refs/heads//patchyard/fix-1", "another branch"),
            ("refs/tags/patchyard/fix-1", "tags"),
            ("refs/notes/commits", "notes"),
            ("refs/pull/1/head", "no branch"),
            ("refs/for/main", "no branch"),
            ("refs/changes/1/1/1", "no branch"),
            ("refs/replace/aa", "no branch"),
            ("refs/merge-requests/1", "no branch"),
            ("HEAD", "no branch"),
            ("patchyard/fix-1", "no branch"),
            ("", "no branch"),
        ] {
            let reasons = rules.judge(&[command(ZERO, A, name), command(ZERO, A, OWN)]).unwrap_err();
            assert!(reasons[0].contains(said), "{name}: {reasons:?}");
            assert!(reasons[0].ends_with("may push to patchyard/fix-1 only"), "{reasons:?}");
            assert_eq!(reasons[1], BESIDE);
        }
        let deleted = rules.judge(&[command(A, ZERO, OWN)]).unwrap_err();
        assert!(deleted[0].contains("cannot be deleted"), "{deleted:?}");
        let twice = rules.judge(&[command(ZERO, A, OWN), command(A, A, OWN)]).unwrap_err();
        assert_eq!((twice[0].as_str(), twice[1].contains("named twice")), (BESIDE, true));
        let none = PushRules::default().judge(&[command(ZERO, A, OWN)]).unwrap_err();
        assert!(none[0].ends_with("may not push"), "{none:?}");
        assert!(PushRules::of([""]).judge(&[command(ZERO, A, "refs/heads/main")]).is_err());
    }

    #[test]
    fn a_branch_of_others_is_pushed_from_what_the_session_knows_alone() {
        const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
        let name = "refs/heads/feature";
        let rules = PushRules::of(["feature"]).from_tips([A]);
        assert_eq!(rules.judge(&[command(A, B, name)]), Ok(()));
        for old in [B, ZERO] {
            let reasons = rules.judge(&[command(old, A, name)]).unwrap_err();
            assert!(reasons[0].contains("commits there that this session did not push"), "{reasons:?}");
        }
        assert!(rules.judge(&[command(A, ZERO, name)]).unwrap_err()[0].contains("cannot be deleted"));
        assert!(rules.judge(&[command(A, B, "refs/heads/main")]).unwrap_err()[0].contains("another branch"));
        assert!(PushRules::of(["feature"]).from_tips([]).judge(&[command(A, B, name)]).is_err());
    }

    proptest! {
        #[test]
        fn nothing_passes_but_the_very_bytes_and_reasons_are_one_line(
            names in proptest::collection::vec(
                prop_oneof![Just(OWN.as_bytes().to_vec()), proptest::collection::vec(any::<u8>(), 0..40)], 1..5
            ),
            delete in any::<bool>(),
        ) {
            let rules = PushRules::of(["patchyard/fix-1"]);
            let new = if delete { ZERO } else { A };
            let commands: Vec<_> = names.iter().map(|name| command(ZERO, new, name)).collect();
            let own = names.len() == 1 && names[0] == OWN.as_bytes() && !delete;
            match rules.judge(&commands) {
                Ok(()) => prop_assert!(own),
                Err(reasons) => {
                    prop_assert!(!own && reasons.len() == names.len());
                    prop_assert!(reasons.iter().all(|reason| !reason.contains(char::is_control)));
                }
            }
            prop_assert!(commands.iter().all(|command| !command.shown().contains(char::is_control)));
        }
    }
}

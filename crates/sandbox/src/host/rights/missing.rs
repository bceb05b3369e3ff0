//! What an ordinary user lacks, and how to get it.

use std::fmt;
use std::io;

use super::ranges::Hint;

/// One thing that is missing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Missing {
    /// The tools that write the maps find the user's ranges by its name.
    #[error("the id {0} has no account, so nothing can be given to it; use an account of this machine")]
    Account(u32),
    /// What writes the maps.
    #[error("{0} is not installed; install it: apt-get install uidmap")]
    Program(&'static str),
    /// Nothing in `/etc/subuid` or `/etc/subgid`.
    #[error("{file} gives `{name}` no ids; give some, as root: {hint}")]
    Range { file: &'static str, name: String, hint: Hint },
    /// Less than one sandbox takes.
    #[error("`{name}` was given too few ids for a sandbox, which takes {least}; give more, as root: {hint}")]
    TooFew { name: String, least: u32, hint: Hint },
    /// The kernel makes no user namespace.
    #[error("no user namespace can be made ({source}); {}", mend_namespaces(.source))]
    Namespace {
        #[source]
        source: io::Error,
    },
    /// The maps were not written.
    #[error("the ids could not be taken: {0}")]
    Map(String),
    /// The namespace gives no right to mount.
    #[error("nothing can be mounted in a user namespace ({source}); {}", mend_mounts())]
    Mount {
        #[source]
        source: io::Error,
    },
    /// The namespace of the living sandboxes cannot be had.
    #[error("the user namespace of the sandboxes that run cannot be entered ({source}); end their processes")]
    Rejoin {
        #[source]
        source: io::Error,
    },
    /// What all of the user's `sandbox-host`s share has no place.
    #[error("the folder {path} cannot be used ({source}); make it, and give it to the user")]
    State {
        path: String,
        #[source]
        source: io::Error,
    },
    /// A step in between.
    #[error("could not {what}: {source}")]
    Io {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

/// All that is missing.
#[derive(Debug)]
pub(super) struct AllMissing {
    /// The account, or its number.
    pub(super) who: String,
    /// At least one.
    pub(super) missing: Vec<Missing>,
}

impl AllMissing {
    pub(super) fn one(who: String, missing: Missing) -> Self {
        Self { who, missing: vec![missing] }
    }
}

impl fmt::Display for AllMissing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "as the ordinary user {} no sandbox can be made: ", self.who)?;
        for (index, missing) in self.missing.iter().enumerate() {
            write!(f, "{}{missing}", if index > 0 { "; " } else { "" })?;
        }
        write!(f, "; or start it as root")
    }
}

fn setting(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
    Some(text.trim().to_owned())
}

fn mend_namespaces(source: &io::Error) -> String {
    if setting("user/max_user_namespaces").as_deref() == Some("0") {
        return "allow them, as root: sysctl -w user.max_user_namespaces=15000".into();
    }
    if setting("kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        return "allow them, as root: sysctl -w kernel.unprivileged_userns_clone=1".into();
    }
    if source.raw_os_error() == Some(libc::ENOSPC) {
        return "there are too many: raise the limit, as root: sysctl -w user.max_user_namespaces=60000"
            .into();
    }
    "what confines this process, such as a container's filter of system calls, has to allow them".into()
}

fn mend_mounts() -> String {
    if setting("kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        let program =
            std::env::current_exe().map_or_else(|_| "patchyard".into(), |path| path.display().to_string());
        return format!(
            "AppArmor restricts what may be done there: give the program a profile, as root: \
             printf 'abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile patchyard {program} \
             flags=(unconfined) {{ userns, }}\\n' > /etc/apparmor.d/patchyard && systemctl reload apparmor, or \
             lift the restriction: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        );
    }
    "what confines this process, such as a security module, has to allow it".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_told_in_one_line_with_the_way_to_get_it() {
        let hint = Hint::of("ann");
        let missing = AllMissing {
            who: "`ann`".into(),
            missing: vec![
                Missing::Program("newuidmap"),
                Missing::Range { file: "/etc/subuid", name: "ann".into(), hint },
            ],
        };
        let words = missing.to_string();
        assert!(
            words.starts_with("as the ordinary user `ann` no sandbox can be made: newuidmap is not"),
            "{words}"
        );
        assert!(
            words.contains("uidmap; /etc/subuid gives `ann` no ids; give some, as root: usermod"),
            "{words}"
        );
        assert!(words.ends_with(" ann; or start it as root") && !words.contains('\n'), "{words}");
    }

    #[test]
    fn a_kernel_that_says_no_is_told_with_what_makes_it_say_yes() {
        for (code, word) in [(libc::ENOSPC, "max_user_namespaces"), (libc::EPERM, "allow them")] {
            let source = io::Error::from_raw_os_error(code);
            let words = Missing::Namespace { source }.to_string();
            assert!(words.contains("no user namespace can be made") && words.contains(word), "{words}");
        }
        let words = Missing::Mount { source: io::Error::from_raw_os_error(libc::EPERM) }.to_string();
        assert!(
            words.contains("nothing can be mounted") && words.contains("Operation not permitted"),
            "{words}"
        );
    }
}

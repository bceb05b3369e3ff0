//! Typed ids: a prefix that names the kind, then a ULID.
//!
//! `ses_01JD…` sorts by creation time and survives a double click in a terminal.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// A text that is no id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind} id: expected `{prefix}` and 26 letters and digits")]
pub struct BadId {
    /// What was given, cut to 64 characters.
    pub text: String,
    /// The wanted kind with its article, such as `a session`.
    pub kind: &'static str,
    /// The wanted prefix, such as `ses_`.
    pub prefix: &'static str,
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// What every id of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// An id from its creation time (unix milliseconds) and 80 random bits.
            #[must_use]
            pub fn from_parts(unix_ms: u64, random: u128) -> Self {
                Self(Ulid::from_parts(unix_ms, random))
            }

            /// The last eight characters in lower case, for branch names and short displays.
            #[must_use]
            pub fn short(&self) -> String {
                let text = self.0.to_string().to_ascii_lowercase();
                text[text.len() - 8..].to_owned()
            }
        }

        impl From<Ulid> for $name {
            fn from(ulid: Ulid) -> Self {
                Self(ulid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                text.strip_prefix($prefix)
                    .and_then(|ulid| Ulid::from_string(ulid).ok())
                    .map(Self)
                    .filter(|id| id.to_string() == text)
                    .ok_or_else(|| BadId {
                        text: text.chars().take(64).collect(),
                        kind: $kind,
                        prefix: $prefix,
                    })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .examples([concat!($prefix, "01JD3Q4F7Z8XK2M5N6P7R8S9TV")])
                    .into()
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}
    };
}

typed_id!(
    /// One conversation with one agent on one workspace.
    SessionId, "ses_", "a session"
);
typed_id!(
    /// A message of the user.
    PromptId, "prm_", "a prompt"
);
typed_id!(
    /// From a prompt to idle.
    TurnId, "trn_", "a turn"
);
typed_id!(
    /// One isolated machine; a session may use several, one after the other.
    SandboxId, "sbx_", "a sandbox"
);
typed_id!(
    /// What a sandbox wrote, kept for later sandboxes to stand on.
    LayerId, "lay_", "a layer"
);
typed_id!(
    /// A named set of image, limits, variables, setup script and network level.
    EnvironmentId, "env_", "an environment"
);
typed_id!(
    /// A setup script that is tried out.
    SetupTestId, "tst_", "a setup test"
);
typed_id!(
    /// One started command in a sandbox.
    ExecId, "exe_", "an execution"
);
typed_id!(
    /// A person's shell in a sandbox.
    ShellId, "shl_", "a shell"
);
typed_id!(
    /// Something that the person is asked.
    QuestionId, "qst_", "a question"
);
typed_id!(
    /// A token of a terminal or a script.
    TokenId, "tok_", "a token"
);

/// The place of an event in its session: dense from 1, the only cursor within a session.
pub type Seq = u64;

/// The place of an event in the whole store, for streams over several sessions.
pub type Pos = u64;

/// The generation of a session's writer: only the newest may append.
pub type Epoch = u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_writes() {
        let id = SessionId::from_parts(1_790_000_000_000, 42);
        assert_eq!(id.to_string().parse::<SessionId>().unwrap(), id);
        assert_eq!(id.short().len(), 8);
    }

    #[test]
    fn another_kind_or_a_damaged_id_is_refused() {
        let id = SessionId::from_parts(1_790_000_000_000, u128::MAX).to_string();
        for text in
            ["", "ses_", "prm_01JD3Q4F7Z8XK2M5N6P7R8S9TV", &id[..20], &format!("{id}/.."), &id.to_lowercase()]
        {
            assert!(text.parse::<SessionId>().is_err(), "{text}");
        }
    }
}

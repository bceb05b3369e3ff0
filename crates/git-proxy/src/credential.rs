//! What a server of repositories is shown: a user and a token.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A user and a token of one host. Nothing that crosses to a sandbox holds one.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    user: String,
    token: String,
}

impl Credential {
    /// One of this user and token.
    #[must_use]
    pub fn new(user: impl Into<String>, token: impl Into<String>) -> Self {
        Self { user: user.into(), token: token.into() }
    }

    /// The value of the field `Authorization`.
    pub(crate) fn header(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.token)))
    }

    /// What must not be said back: the token, and the form in which it is sent.
    pub(crate) fn words(&self) -> [String; 2] {
        [STANDARD.encode(format!("{}:{}", self.user, self.token)), self.token.clone()]
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("user", &self.user).finish_non_exhaustive()
    }
}

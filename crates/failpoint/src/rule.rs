//! Rules that a test breaks on purpose, to see that it would be noticed.

#[cfg(debug_assertions)]
use std::sync::LazyLock;

/// The variable that names the rule that does not hold in this process.
pub const BROKEN: &str = "PATCHYARD_BROKEN_RULE";

/// Something that holds everywhere, and that a test can switch off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Only the newest epoch of a session appends.
    Fencing,
    /// What nobody has committed nobody sees.
    PublishAfterCommit,
    /// A prompt is taken from the queue before the agent has it.
    QueueTake,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fencing, Self::PublishAfterCommit, Self::QueueTake];

    /// Its name in [`BROKEN`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fencing => "fencing",
            Self::PublishAfterCommit => "publish-after-commit",
            Self::QueueTake => "queue-take",
        }
    }
}

/// Whether a test broke this rule.
#[cfg(debug_assertions)]
#[must_use]
pub fn is_broken(rule: Rule) -> bool {
    static NAMED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var(BROKEN).ok());
    NAMED.as_deref() == Some(rule.name())
}

/// It holds.
#[cfg(not(debug_assertions))]
#[inline(always)]
#[must_use]
pub fn is_broken(_rule: Rule) -> bool {
    false
}

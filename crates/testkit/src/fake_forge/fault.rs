//! What goes wrong on purpose.

use std::time::Duration;

/// What happens instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status, and nothing is done.
    Status(u16),
    /// It is done, and the answer is lost: 502.
    Lost,
    /// It is done, and no answer ever comes.
    Held,
    /// The secondary limit, for so many seconds.
    Secondary(u64),
    /// The hour's limit is used up, for so many seconds.
    Exhausted(u64),
    /// The answer comes after so long.
    Slow(Duration),
    /// A page for people.
    Page,
}

/// A fault that waits for requests.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    /// What the line of a request has in it.
    pub(super) part: String,
    pub(super) fault: Fault,
    pub(super) times: usize,
}

/// The fault of a request, if one waits for it; it is used up by that.
pub(super) fn take(all: &mut Vec<Waiting>, line: &str) -> Option<Fault> {
    let at = all.iter().position(|waiting| line.contains(&waiting.part))?;
    let fault = all[at].fault.clone();
    all[at].times = all[at].times.saturating_sub(1);
    if all[at].times == 0 {
        all.remove(at);
    }
    Some(fault)
}

//! Names that stand for addresses of large files, which stay outside.
//!
//! ```text
//!   batch answer: href, fields ─▶ ticket ─▶ http://127.0.0.1:3131/lfs/<64 hex digits>       inside
//!   the name ─▶ its ticket, of this door alone, for an hour
//! ```

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::lfs::batch::Action;
use crate::lfs::pointer::Pointer;

/// How long a name holds.
const LIFE: Duration = Duration::from_secs(3600);

/// How many a sandbox may have, and the bytes of what they stand for; the oldest go first.
const MOST: usize = 8192;
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// What a name is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Download,
    Upload,
    Verify,
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    /// The repository's stored address.
    pub(super) repository: String,
    pub(super) pointer: Pointer,
    pub(super) action: Action,
    pub(super) authenticated: bool,
    pub(super) for_what: Use,
}

impl Ticket {
    /// About what it takes.
    fn weight(&self) -> usize {
        let fields = self.action.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        self.repository.len() + self.action.href.as_str().len() + fields.sum::<usize>()
    }
}

/// The tickets of a door.
#[derive(Default)]
pub(super) struct Tickets(Mutex<All>);

#[derive(Default)]
struct All {
    by_name: HashMap<String, Arc<Ticket>>,
    in_order: VecDeque<(Instant, String)>,
    bytes: usize,
}

impl Tickets {
    /// A name for this that nobody can guess; nothing where the system has no such thing.
    pub(super) fn issue(&self, ticket: Ticket, now: Instant) -> Option<String> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).ok()?;
        let name: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.bytes += ticket.weight();
        all.tidy(now, MOST - 1);
        all.in_order.push_back((now, name.clone()));
        all.by_name.insert(name.clone(), Arc::new(ticket));
        Some(name)
    }

    /// What a name stands for.
    pub(super) fn find(&self, name: &str, now: Instant) -> Option<Arc<Ticket>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.tidy(now, MOST);
        all.by_name.get(name).cloned()
    }
}

impl All {
    fn tidy(&mut self, now: Instant, most: usize) {
        let old = |(at, _): &(Instant, String)| now.duration_since(*at) >= LIFE;
        while self.in_order.len() > most || self.bytes > MAX_BYTES || self.in_order.front().is_some_and(old) {
            // One alone may be more than all should be.
            let Some((_, name)) = self.in_order.pop_front() else { return };
            self.bytes -= self.by_name.remove(&name).map_or(0, |ticket| ticket.weight());
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::Url;

    use super::*;
    use crate::lfs::pointer::Oid;

    #[test]
    fn a_name_holds_for_a_while_and_the_oldest_go_first() {
        let (tickets, start) = (Tickets::default(), Instant::now());
        let href = Url::parse("https://h.test/x").unwrap();
        let ticket = Ticket {
            repository: "r".into(),
            pointer: Pointer { oid: Oid::of_digest([1; 32]), size: 1 },
            action: Action { href, headers: Default::default() },
            authenticated: false,
            for_what: Use::Download,
        };
        let name = tickets.issue(ticket.clone(), start).unwrap();
        assert!(name.len() == 64 && tickets.find(&name, start).is_some());
        assert!(tickets.find(&name[1..], start).is_none());
        let other = tickets.issue(ticket.clone(), start).unwrap();
        assert_ne!(name, other);
        for _ in 0..MOST - 1 {
            tickets.issue(ticket.clone(), start).unwrap();
        }
        assert!(tickets.find(&name, start).is_none() && tickets.find(&other, start).is_some());
        assert!(tickets.find(&other, start + LIFE).is_none());
        // Large ones are fewer.
        let mut large = ticket;
        let field = "x".repeat(MAX_BYTES / 4).parse().unwrap();
        large.action.headers.insert("authorization", field);
        let names: Vec<String> =
            (0..5).map(|_| tickets.issue(large.clone(), start + LIFE).unwrap()).collect();
        let kept = names.iter().filter(|name| tickets.find(name, start + LIFE).is_some());
        assert_eq!(kept.count(), 3);
    }
}

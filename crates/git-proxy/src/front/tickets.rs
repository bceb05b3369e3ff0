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

/// How many a sandbox may have; the oldest go first.
const MOST: usize = 8192;

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

/// The tickets of a door.
#[derive(Default)]
pub(super) struct Tickets(Mutex<All>);

#[derive(Default)]
struct All {
    by_name: HashMap<String, Arc<Ticket>>,
    in_order: VecDeque<(Instant, String)>,
}

impl Tickets {
    /// A name for this that nobody can guess; nothing where the system has no such thing.
    pub(super) fn issue(&self, ticket: Ticket, now: Instant) -> Option<String> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).ok()?;
        let name: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        while self.in_order.len() > most || self.in_order.front().is_some_and(old) {
            if let Some((_, name)) = self.in_order.pop_front() {
                self.by_name.remove(&name);
            }
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
    }
}

//! What sandboxes were refused, told in the logs of their sessions: once for each host, not too often.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use protocol::egress::{Notice, Via};
use protocol::event::{EventBody, NetworkDenied};
use protocol::network::DenyReason;

use crate::registry::Sessions;

/// How long the same refusal is not told again.
const QUIET: Duration = Duration::from_secs(600);

/// The most refusals that are told of one sandbox in that time; all are on record.
const MOST: usize = 60;

/// How often people are asked about one sandbox within an hour; what is refused beyond that is told
/// without asking.
const MOST_ASKED: usize = 20;
const HOUR: Duration = Duration::from_secs(3600);

/// What was told of one sandbox lately.
#[derive(Debug, Default)]
pub(super) struct Told {
    lately: HashMap<(String, u16, DenyReason), Instant>,
    asked: VecDeque<Instant>,
}

impl Told {
    /// Whether this is worth an event.
    fn is_new(&mut self, notice: &Notice, now: Instant) -> bool {
        self.lately.retain(|_, at| now.duration_since(*at) < QUIET);
        let Some(reason) = notice.decided.reason else { return false };
        let key = (notice.decided.host.clone(), notice.decided.port, reason);
        if self.lately.len() >= MOST || self.lately.contains_key(&key) {
            return false;
        }
        self.lately.insert(key, now);
        true
    }

    /// Whether a person may be asked once more.
    fn may_ask(&mut self, now: Instant) -> bool {
        while self.asked.front().is_some_and(|at| now.duration_since(*at) >= HOUR) {
            self.asked.pop_front();
        }
        let may = self.asked.len() < MOST_ASKED;
        if may {
            self.asked.push_back(now);
        }
        may
    }

    /// A person decided about this: the next refusal is news.
    pub(super) fn forget(&mut self, host: &str, port: u16) {
        self.lately.retain(|(known, at, _), _| known != host || *at != port);
    }
}

/// Tells a session of a refusal.
pub(super) async fn tell(sessions: &Sessions, notice: Notice) {
    let networks = &sessions.shared.networks;
    let askable = {
        let mut bound = networks.bound();
        let Some(one) = bound.get_mut(&notice.sandbox).filter(|one| one.session == notice.session) else {
            return;
        };
        // A name that is only asked for was not dialled yet.
        let now = Instant::now();
        if notice.decided.via == Via::Dns || !one.told.is_new(&notice, now) {
            return;
        }
        notice.decided.askable && one.told.may_ask(now)
    };
    let decided = notice.decided;
    let Some(reason) = decided.reason else { return };
    let denied = NetworkDenied {
        host: decided.host,
        port: decided.port,
        via: decided.via,
        reason,
        rule: decided.rule,
        askable,
    };
    // Setup tests and rebuilds have no log.
    if let Some(handle) = sessions.live_handle(notice.session).await
        && let Err(error) = handle.note(EventBody::NetworkDenied(denied)).await
    {
        tracing::debug!(session = %notice.session, %error, "a refusal could not be told");
    }
}

#[cfg(test)]
mod tests {
    use protocol::egress::Decided;
    use ulid::Ulid;

    use super::*;

    fn notice(host: &str) -> Notice {
        Notice {
            session: Ulid::from_parts(1, 1).into(),
            sandbox: Ulid::from_parts(1, 2).into(),
            decided: Decided {
                via: Via::Connect,
                host: host.into(),
                port: 443,
                original: None,
                sni: None,
                method: None,
                path: None,
                resolved: Vec::new(),
                rule: None,
                reason: Some(DenyReason::NotAllowed),
                askable: true,
            },
        }
    }

    #[test]
    fn the_same_refusal_is_told_once_in_a_while_and_many_are_not_all_told() {
        let (mut told, start) = (Told::default(), Instant::now());
        assert!(told.is_new(&notice("a.test"), start));
        assert!(!told.is_new(&notice("a.test"), start + QUIET / 2));
        assert!(told.is_new(&notice("a.test"), start + QUIET));
        let many = (0..200).filter(|number| told.is_new(&notice(&format!("h{number}.test")), start + QUIET));
        assert_eq!(many.count(), MOST - 1);
    }

    #[test]
    fn people_are_asked_so_often_and_told_anew_after_they_decided() {
        let (mut told, start) = (Told::default(), Instant::now());
        assert_eq!((0..50).filter(|_| told.may_ask(start)).count(), MOST_ASKED);
        assert!(!told.may_ask(start + HOUR - QUIET));
        assert_eq!((0..50).filter(|_| told.may_ask(start + HOUR)).count(), MOST_ASKED);
        assert!(told.is_new(&notice("a.test"), start));
        told.forget("a.test", 80);
        told.forget("b.test", 443);
        assert!(!told.is_new(&notice("a.test"), start));
        told.forget("a.test", 443);
        assert!(told.is_new(&notice("a.test"), start));
    }
}

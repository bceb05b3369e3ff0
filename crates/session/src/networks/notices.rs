//! What sandboxes were refused, told in the logs of their sessions: once for each host, not too often.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use protocol::egress::{Notice, Via};
use protocol::event::{EventBody, NetworkDenied};
use protocol::network::DenyReason;

use super::Networks;
use crate::registry::Sessions;

/// How long the same refusal is not told again.
const QUIET: Duration = Duration::from_secs(600);

/// The most refusals that are told of one sandbox in that time; all are on record.
const MOST: usize = 60;

/// How often people are asked about one sandbox within an hour; what is refused beyond that is told
/// without asking.
const MOST_ASKED: usize = 20;
const HOUR: Duration = Duration::from_secs(3600);

/// The most refusals that are remembered for the agent.
const MOST_REMEMBERED: usize = 8;

/// What was told of one sandbox lately.
#[derive(Debug, Default)]
pub(super) struct Told {
    lately: HashMap<(String, u16, DenyReason), Instant>,
    asked: VecDeque<Instant>,
    /// The newest of all refusals, also of those that are not told, for the agent.
    newest: VecDeque<(Instant, NetworkDenied)>,
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

    /// Remembers a refusal for who asks what was refused since a moment.
    fn remember(&mut self, denied: &NetworkDenied, now: Instant) {
        self.newest.retain(|(_, old)| (&old.host, old.port) != (&denied.host, denied.port));
        if self.newest.len() >= MOST_REMEMBERED {
            self.newest.pop_front();
        }
        self.newest.push_back((now, denied.clone()));
    }

    /// The refusals since a moment, each host and port once.
    pub(super) fn since(&self, since: Instant) -> Vec<NetworkDenied> {
        let newer = self.newest.iter().filter(|(at, _)| *at >= since);
        newer.map(|(_, denied)| denied.clone()).collect()
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
    let Some(denied) = news(&sessions.shared.networks, &notice, Instant::now()) else { return };
    // Setup tests and rebuilds have no log.
    if let Some(handle) = sessions.live_handle(notice.session).await
        && let Err(error) = handle.note(EventBody::NetworkDenied(denied)).await
    {
        tracing::debug!(session = %notice.session, %error, "a refusal could not be told");
    }
}

/// What is to be told of a refusal, where anything is.
fn news(networks: &Networks, notice: &Notice, now: Instant) -> Option<NetworkDenied> {
    let mut bound = networks.bound();
    let one = bound.get_mut(&notice.sandbox).filter(|one| one.session == notice.session)?;
    let decided = &notice.decided;
    // A name that is only asked for was not dialled yet.
    if decided.via == Via::Dns {
        return None;
    }
    let denied = NetworkDenied {
        host: decided.host.clone(),
        port: decided.port,
        via: decided.via,
        reason: decided.reason?,
        rule: decided.rule.clone(),
        askable: decided.askable,
    };
    one.told.remember(&denied, now);
    if !one.told.is_new(notice, now) {
        return None;
    }
    let askable = denied.askable && one.told.may_ask(now);
    Some(NetworkDenied { askable, ..denied })
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
                reason: Some(DenyReason::NotAllowed),
                askable: true,
                ..Decided::of(Via::Connect, host.into(), 443)
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

    #[test]
    fn the_agent_hears_of_the_newest_refusals_each_once() {
        let (mut told, start) = (Told::default(), Instant::now());
        let denied = |host: &str, reason| NetworkDenied {
            host: host.into(),
            port: 443,
            via: Via::Connect,
            reason,
            rule: None,
            askable: true,
        };
        let later = start + Duration::from_secs(1);
        told.remember(&denied("a.test", DenyReason::NotAllowed), start);
        told.remember(&denied("b.test", DenyReason::NotAllowed), start);
        told.remember(&denied("a.test", DenyReason::Denylist), later);
        let hosts =
            |since| told.since(since).into_iter().map(|one| (one.host, one.reason)).collect::<Vec<_>>();
        let (a, b) =
            (("a.test".to_owned(), DenyReason::Denylist), ("b.test".to_owned(), DenyReason::NotAllowed));
        assert_eq!(hosts(start), [b, a.clone()]);
        assert_eq!(hosts(later), [a]);
        assert_eq!(hosts(later + Duration::from_millis(1)), []);
        (0..50)
            .for_each(|number| told.remember(&denied(&format!("h{number}.test"), DenyReason::RawIp), later));
        assert_eq!(told.since(start).len(), MOST_REMEMBERED);
    }
}

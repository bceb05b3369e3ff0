//! What sandboxes were refused, told in the logs of their sessions: once for each host, not too often.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use policy::host::Host;
use protocol::egress::{Notice, Via};
use protocol::event::{EventBody, NetworkDenied};
use protocol::network::DenyReason;

use super::Networks;
use crate::registry::Sessions;

/// How long the same refusal is not told again.
const QUIET: Duration = Duration::from_secs(600);

/// The most refusals that are told of one sandbox in that time; all are on record.
const MOST: usize = 60;

/// How often people are asked about one sandbox within an hour, and how many questions may wait for them;
/// what is refused beyond that is told without asking.
const MOST_ASKED: usize = 20;
const HOUR: Duration = Duration::from_secs(3600);
const MOST_WAITING: usize = 3;

/// The most refusals that are remembered for the agent.
const MOST_REMEMBERED: usize = 8;

/// What was told of one sandbox lately.
#[derive(Debug, Default)]
pub(super) struct Told {
    lately: HashMap<(String, u16, DenyReason), Instant>,
    asked: VecDeque<Instant>,
    /// Questions without an answer, by domain: since when, and about which hosts.
    waiting: HashMap<String, (Instant, HashSet<(String, u16)>)>,
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

    /// Whether a person may be asked about this, too. Hosts of one domain are one question, which waits
    /// until each is decided about, or is as old as what is told anew.
    fn may_ask(&mut self, domain: &str, place: (String, u16), now: Instant) -> bool {
        while self.asked.front().is_some_and(|at| now.duration_since(*at) >= HOUR) {
            self.asked.pop_front();
        }
        self.waiting.retain(|_, (since, _)| now.duration_since(*since) < QUIET);
        if let Some((_, places)) = self.waiting.get_mut(domain) {
            places.insert(place);
            return true;
        }
        let may = self.asked.len() < MOST_ASKED && self.waiting.len() < MOST_WAITING;
        if may {
            self.asked.push_back(now);
            self.waiting.insert(domain.to_owned(), (now, HashSet::from([place])));
        }
        may
    }

    /// A person decided about this: the next refusal is news.
    pub(super) fn forget(&mut self, host: &str, port: u16) {
        self.lately.retain(|(known, at, _), _| known != host || *at != port);
        let place = (host.to_owned(), port);
        for (_, places) in self.waiting.values_mut() {
            places.remove(&place);
        }
        self.waiting.retain(|_, (_, places)| !places.is_empty());
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
        domain: None,
    };
    one.told.remember(&denied, now);
    if !one.told.is_new(notice, now) {
        return None;
    }
    let host = Host::parse(denied.host.as_bytes()).ok().filter(|_| denied.askable);
    let domain = host.map(|host| host.registrable());
    let domain = domain.filter(|domain| one.told.may_ask(domain, (denied.host.clone(), denied.port), now));
    Some(NetworkDenied { askable: domain.is_some(), domain, ..denied })
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
        // Each is answered at once, so that none waits.
        let ask = |told: &mut Told, number: usize, now| {
            let host = format!("h{number}.test");
            let may = told.may_ask(&host, (host.clone(), 443), now);
            told.forget(&host, 443);
            may
        };
        assert_eq!((0..50).filter(|number| ask(&mut told, *number, start)).count(), MOST_ASKED);
        assert!(!ask(&mut told, 99, start + HOUR - QUIET));
        assert_eq!((0..50).filter(|number| ask(&mut told, *number, start + HOUR)).count(), MOST_ASKED);
        assert!(told.is_new(&notice("a.test"), start));
        told.forget("a.test", 80);
        told.forget("b.test", 443);
        assert!(!told.is_new(&notice("a.test"), start));
        told.forget("a.test", 443);
        assert!(told.is_new(&notice("a.test"), start));
    }

    #[test]
    fn hosts_of_one_domain_are_one_question_and_three_wait_at_most() {
        let (mut told, start) = (Told::default(), Instant::now());
        let ask = |told: &mut Told, host: &str, now| {
            let domain = Host::parse(host.as_bytes()).unwrap().registrable();
            told.may_ask(&domain, (host.to_owned(), 443), now)
        };
        for host in ["a.example.com", "b.example.co.uk", "8.8.8.8"] {
            assert!(ask(&mut told, host, start), "{host}");
        }
        assert!(!ask(&mut told, "other.org", start), "a fourth question");
        assert!(ask(&mut told, "c.example.com", start) && ask(&mut told, "example.com", start));
        assert_eq!((told.asked.len(), told.waiting.len()), (3, 3));
        // A question waits until all of its hosts are decided about.
        for host in ["a.example.com", "c.example.com"] {
            told.forget(host, 443);
        }
        assert!(!ask(&mut told, "other.org", start));
        told.forget("example.com", 443);
        assert!(ask(&mut told, "other.org", start));
        // Nobody answers: after a while it is asked again.
        assert!(!ask(&mut told, "more.org", start + QUIET / 2) && ask(&mut told, "more.org", start + QUIET));
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
            domain: None,
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

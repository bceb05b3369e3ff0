//! A person at a terminal, who is asked while the connection waits.
//!
//! ```text
//!   no rule, or one that says ask ─▶ Ask ─┬─ once ────▶ this connection
//!                                         ├─ session ─▶ a rule that allows
//!                                         ├─ no ──────▶ a rule that denies
//!                                         └─ a minute ▶ refused, asked again another time
//! ```
//!
//! One question at a time, and no more than a person would read in an hour: the rest is refused.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::{Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use policy::host::Host;
use policy::local::DomainRule;
use policy::network::Decision;
use protocol::egress::Notice;
use protocol::local::{Answer, FromPerson, MAX_LINE, ToPerson};
use protocol::network::{DenyReason, NetworkRules};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;

use crate::binding::{Binding, Rules};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most questions in [`HOUR`].
const QUESTIONS: usize = 20;
const HOUR: Duration = Duration::from_secs(3600);

/// The most refusals that are told apart.
const TOLD: usize = 50;

/// Whoever sits there.
#[derive(Debug)]
pub(crate) struct Person {
    /// Nobody answers, so nobody is asked; but somebody reads.
    answers: Option<Mutex<BufReader<OwnedReadHalf>>>,
    words: Mutex<OwnedWriteHalf>,
    state: StdMutex<State>,
}

#[derive(Debug)]
struct State {
    rules: NetworkRules,
    /// Hosts that are asked about although a rule allows them.
    asked: Vec<DomainRule>,
    /// Of those, what was allowed for good.
    settled: HashSet<(Host, u16)>,
    questions: VecDeque<Instant>,
    number: u32,
    told: HashSet<(String, u16, DenyReason)>,
}

impl Person {
    /// Somebody at the other end of a stream, and the rules that they may add to.
    pub(crate) fn new(link: UnixStream, answers: bool, rules: NetworkRules, asked: Vec<DomainRule>) -> Self {
        let (from, to) = link.into_split();
        let state = State {
            rules,
            asked,
            settled: HashSet::new(),
            questions: VecDeque::new(),
            number: 0,
            told: HashSet::new(),
        };
        Self {
            answers: answers.then(|| Mutex::new(BufReader::new(from))),
            words: Mutex::new(to),
            state: StdMutex::new(state),
        }
    }

    /// Asks, if there is a question, and puts the answer among the rules. An error is a refusal that the
    /// rules do not know of.
    pub(crate) async fn consult(&self, binding: &Binding, host: &Host, port: u16) -> Result<(), DenyReason> {
        let Some(answers) = &self.answers else { return Ok(()) };
        if !self.has_question(binding, host, port) {
            return Ok(());
        }
        let mut answers = answers.lock().await;
        // It may have been answered while another one was open.
        if !self.has_question(binding, host, port) {
            return Ok(());
        }
        let Some(number) = self.state().next_question(Instant::now()) else {
            return Err(DenyReason::Rate);
        };
        self.say(&ToPerson::Ask { number, host: host.to_string(), port }).await;
        let answer = tokio::time::timeout(PATIENCE, answer_to(number, &mut answers)).await;
        let Ok(Some(answer)) = answer else {
            self.say(&ToPerson::Withdraw).await;
            return Err(DenyReason::AskTimeout);
        };
        self.take(binding, host, port, answer);
        Ok(())
    }

    fn has_question(&self, binding: &Binding, host: &Host, port: u16) -> bool {
        match binding.policy().decide(host, port) {
            Decision::Deny(denial) => denial.askable,
            Decision::Allow(_) => {
                let state = self.state();
                state.asked.iter().any(|rule| rule.concerns(host, port))
                    && !state.settled.contains(&(host.clone(), port))
            }
        }
    }

    fn take(&self, binding: &Binding, host: &Host, port: u16, answer: Answer) {
        let is_allowed = matches!(binding.policy().decide(host, port), Decision::Allow(_));
        let mut state = self.state();
        match (answer, is_allowed) {
            (Answer::Once, true) => return,
            (Answer::Once, false) => {
                binding.once.allow(host.clone(), port, Instant::now());
                return;
            }
            (Answer::Session, true) => {
                state.settled.insert((host.clone(), port));
                return;
            }
            (Answer::Session, false) => state.rules.session_allow.push(written(host, port)),
            (Answer::No, _) => state.rules.session_deny.push(written(host, port)),
        }
        match Rules::alone(&state.rules) {
            Ok(rules) => {
                binding.change(rules);
            }
            Err(error) => tracing::error!(%error, "an answer is no rule"),
        }
    }

    /// Tells of a refusal that was not told of yet.
    pub(crate) async fn tell(&self, notice: Notice) {
        let Some(reason) = notice.decided.reason else { return };
        let (host, port) = (notice.decided.host, notice.decided.port);
        let is_known = {
            let mut state = self.state();
            state.told.len() >= TOLD || !state.told.insert((host.clone(), port, reason))
        };
        if !is_known {
            self.say(&ToPerson::Refused { host, port, reason }).await;
        }
    }

    async fn say(&self, what: &ToPerson) {
        if let Ok(mut line) = serde_json::to_vec(what) {
            line.push(b'\n');
            // Who is not there any more is not told.
            let _ = self.words.lock().await.write_all(&line).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_question(&mut self, now: Instant) -> Option<u32> {
        while self.questions.front().is_some_and(|asked| now.duration_since(*asked) >= HOUR) {
            self.questions.pop_front();
        }
        if self.questions.len() >= QUESTIONS {
            return None;
        }
        self.questions.push_back(now);
        self.number += 1;
        Some(self.number)
    }
}

/// A pattern for exactly this.
fn written(host: &Host, port: u16) -> String {
    match host {
        Host::V6(address) => format!("[{address}]:{port}"),
        host => format!("{host}:{port}"),
    }
}

/// The answer to this question; answers to earlier ones came too late. Nothing when nobody is there.
async fn answer_to(number: u32, answers: &mut BufReader<OwnedReadHalf>) -> Option<Answer> {
    loop {
        let line = next_line(answers).await.ok()?;
        let said: FromPerson = serde_json::from_slice(&line).ok()?;
        if said.number == number {
            return Some(said.answer);
        }
    }
}

async fn next_line(from: &mut BufReader<OwnedReadHalf>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.take(MAX_LINE as u64).read_until(b'\n', &mut line).await?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_more_is_asked_than_a_person_would_read() {
        let rules = NetworkRules::of(protocol::environment::NetworkLevel::None {}, Default::default());
        let mut state = State {
            rules,
            asked: Vec::new(),
            settled: HashSet::new(),
            questions: VecDeque::new(),
            number: 0,
            told: HashSet::new(),
        };
        let start = Instant::now();
        let asked = (0..30).filter_map(|second| state.next_question(start + Duration::from_secs(second)));
        assert_eq!(asked.collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
        assert_eq!(state.next_question(start + HOUR - Duration::from_secs(1)), None);
        assert_eq!(state.next_question(start + HOUR), Some(21));
    }

    #[test]
    fn an_answer_is_a_rule_for_exactly_what_was_asked() {
        for (host, port) in [("a.test", 443), ("8.8.8.8", 53), ("[2606:2800:220:1::34]", 8443)] {
            let host: Host = host.parse().unwrap();
            let pattern = policy::pattern::Pattern::parse(&written(&host, port)).unwrap();
            assert!(pattern.matches(&host, port) && !pattern.matches(&host, port + 1));
        }
    }
}

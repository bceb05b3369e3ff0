//! What a command said and nobody took yet.
//!
//! ```text
//!   window   what the guest may still send     ┐ together never more
//!   stdout, stderr, order   what waits here    │ than the initial credit
//!   taken    taken, not yet credited again     ┘
//! ```
//!
//! The order is kept as runs of one output, so that a guest that sends single bytes by turns costs a
//! few bytes each and not an allocation.

use std::collections::VecDeque;

use protocol::guest::INITIAL_CREDIT;
use protocol::hands::{ExecEnd, ExecEvent};

use super::wire::LinkError;

/// So much is taken before the guest is told.
const CREDIT_STEP: u64 = INITIAL_CREDIT / 4;

/// The most bytes of one event.
const PIECE: usize = 64 * 1024;

/// The queue of one command.
#[derive(Debug)]
pub(super) struct Queue {
    stdout: VecDeque<u8>,
    stderr: VecDeque<u8>,
    order: VecDeque<(bool, usize)>,
    window: u64,
    taken: u64,
    end: Option<ExecEnd>,
    /// Nobody will take anything any more.
    detached: bool,
}

impl Queue {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            stdout: VecDeque::new(),
            stderr: VecDeque::new(),
            order: VecDeque::new(),
            window: INITIAL_CREDIT,
            taken: 0,
            end: None,
            detached: false,
        }
    }

    /// Takes output in; gives the credit that is to be sent.
    pub(super) fn push(&mut self, stderr: bool, bytes: &[u8]) -> Result<u64, LinkError> {
        let length = bytes.len() as u64;
        if length == 0 {
            return Err(LinkError::Rules("output without bytes"));
        }
        self.window = self.window.checked_sub(length).ok_or(LinkError::Rules("output beyond its credit"))?;
        if self.detached {
            return Ok(self.credit(length));
        }
        let buffer = if stderr { &mut self.stderr } else { &mut self.stdout };
        buffer.extend(bytes);
        match self.order.back_mut() {
            Some((same, run)) if *same == stderr => *run += bytes.len(),
            _ => self.order.push_back((stderr, bytes.len())),
        }
        Ok(0)
    }

    /// The next thing, and the credit that is to be sent; nothing while the command is silent.
    pub(super) fn pop(&mut self) -> Option<(ExecEvent, u64)> {
        let Some((stderr, run)) = self.order.front_mut() else {
            return self.end.map(|end| (ExecEvent::Exited(end), 0));
        };
        let (stderr, length) = (*stderr, (*run).min(PIECE));
        *run -= length;
        if *run == 0 {
            self.order.pop_front();
        }
        let buffer = if stderr { &mut self.stderr } else { &mut self.stdout };
        let bytes: Vec<u8> = buffer.drain(..length).collect();
        let credit = self.credit(length as u64);
        Some((if stderr { ExecEvent::Stderr(bytes) } else { ExecEvent::Stdout(bytes) }, credit))
    }

    /// The command ended; what it said before can still be taken.
    pub(super) fn finish(&mut self, end: ExecEnd) {
        self.end = Some(end);
    }

    /// Drops what waits and all that follows; gives the credit that is to be sent.
    pub(super) fn detach(&mut self) -> u64 {
        self.detached = true;
        self.order.clear();
        let dropped = self.stdout.len() + self.stderr.len();
        (self.stdout, self.stderr) = (VecDeque::new(), VecDeque::new());
        self.credit(dropped as u64)
    }

    fn credit(&mut self, taken: u64) -> u64 {
        self.taken += taken;
        if self.taken < CREDIT_STEP || self.end.is_some() {
            return 0;
        }
        self.window += self.taken;
        std::mem::take(&mut self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_runs_are_joined() {
        let mut queue = Queue::new();
        for (stderr, text) in [(false, "a"), (false, "b"), (true, "c"), (false, "d")] {
            assert_eq!(queue.push(stderr, text.as_bytes()).unwrap(), 0);
        }
        queue.finish(ExecEnd::default());
        let said: Vec<ExecEvent> =
            std::iter::from_fn(|| queue.pop()).map(|(event, _)| event).take(4).collect();
        let expected = [
            ExecEvent::Stdout(b"ab".to_vec()),
            ExecEvent::Stderr(b"c".to_vec()),
            ExecEvent::Stdout(b"d".to_vec()),
            ExecEvent::Exited(ExecEnd::default()),
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn no_more_than_the_credit_is_ever_kept() {
        let mut queue = Queue::new();
        let piece = vec![0; 128 * 1024];
        for _ in 0..4 {
            queue.push(false, &piece).unwrap();
        }
        assert!(queue.push(false, b"x").is_err());
        let mut credited = 0;
        while let Some((_, credit)) = queue.pop() {
            credited += credit;
        }
        assert_eq!(credited, INITIAL_CREDIT);
        queue.push(true, &piece).unwrap();
        assert!(queue.push(true, b"").is_err());
    }

    #[test]
    fn a_detached_queue_keeps_the_command_going() {
        let mut queue = Queue::new();
        queue.push(false, &[0; 100_000]).unwrap();
        let mut credited = queue.detach();
        for _ in 0..100 {
            credited += queue.push(false, &[0; 100_000]).unwrap();
        }
        assert!(credited > 9_000_000);
        assert!(queue.stdout.is_empty());
    }
}

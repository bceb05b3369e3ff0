//! What a kept command said, on the sandbox's disk, until the host says that it is safe.
//!
//! ```text
//!   pump ──▶ journal: a file without a name, at most JOURNAL_BYTES ──▶ sender ══▶ the host of now
//!              │ full                                                  ▲   from the first byte on
//!              └──▶ one piece beyond, handed through when all before is sent
//! ```
//!
//! The file has no name, so that nothing has to be tidied up and no tool of the sandbox writes into it.
//! Which output a byte is of is kept as runs in memory; their number is bounded, too.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::rc::Rc;

use protocol::guest::{FromGuest, JOURNAL_BYTES};
use protocol::hands::ExecEnd;
use protocol::ids::ExecId;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::commands::Running;
use crate::connection::Outbox;

/// Folders on the sandbox's disk, the first that takes a file.
const FOLDERS: [&str; 3] = ["/var/lib/patchyard", "/var/tmp", "/tmp"];

/// The most changes between the two outputs that are remembered.
const MAX_RUNS: usize = 16_384;

/// The most bytes of one frame.
const PIECE: usize = 64 * 1024;

/// The journal of one command.
#[derive(Debug)]
pub struct Journal {
    spool: RefCell<Spool>,
    /// Told when there is more to send.
    more: Notify,
    /// Told when the pump may go on.
    room: Notify,
    sender: RefCell<Option<AbortHandle>>,
    /// Whether the host has the outcome.
    pub released: Cell<bool>,
}

#[derive(Debug, Default)]
struct Spool {
    /// Nothing when no folder took a file.
    file: Option<File>,
    /// Which output, and where its run ends.
    runs: Vec<(bool, u64)>,
    written: u64,
    is_full: bool,
    beyond: Option<(bool, Vec<u8>)>,
    /// Bytes that were handed through and are not in the file.
    passed: u64,
    end: Option<ExecEnd>,
}

/// What a sender does next.
enum Next {
    Output {
        stderr: bool,
        bytes: Vec<u8>,
    },
    Exited(ExecEnd),
    /// There is something, but the host takes no more yet.
    Credit,
    /// There is nothing yet.
    More,
}

impl Journal {
    /// The empty journal of this command.
    #[must_use]
    pub fn open(exec: ExecId) -> Self {
        let file = FOLDERS.iter().find_map(|folder| nameless(folder, exec));
        let spool = Spool { is_full: file.is_none(), file, ..Spool::default() };
        Self {
            spool: RefCell::new(spool),
            more: Notify::new(),
            room: Notify::new(),
            sender: RefCell::default(),
            released: Cell::new(false),
        }
    }

    /// How many bytes it takes now.
    #[must_use]
    pub fn room(&self) -> usize {
        let spool = self.spool.borrow();
        match (spool.is_full, &spool.beyond) {
            (false, _) => usize::try_from(JOURNAL_BYTES - spool.written).unwrap_or(PIECE).min(PIECE),
            (true, None) => PIECE,
            (true, Some(_)) => 0,
        }
    }

    /// Waits for room.
    pub async fn room_came(&self) {
        self.room.notified().await;
    }

    /// Takes output in.
    pub fn push(&self, stderr: bool, bytes: Vec<u8>) {
        let mut spool = self.spool.borrow_mut();
        if let Err(bytes) = spool.write(stderr, bytes) {
            spool.is_full = true;
            spool.beyond = Some((stderr, bytes));
        }
        drop(spool);
        self.more.notify_one();
    }

    /// The command ended, and all that it said is here.
    pub fn finish(&self, end: ExecEnd) {
        self.spool.borrow_mut().end = Some(end);
        self.more.notify_one();
    }

    /// Whether the command ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.spool.borrow().end.is_some()
    }

    /// Sends everything to this host, in place of an earlier one.
    pub fn attach(self: &Rc<Self>, exec: ExecId, running: &Rc<Running>, outbox: &Outbox) {
        let task = send(Rc::clone(self), exec, Rc::clone(running), outbox.clone());
        let sender = tokio::task::spawn_local(task).abort_handle();
        if let Some(old) = self.sender.replace(Some(sender)) {
            old.abort();
        }
    }

    /// What comes at this place, for so much credit. `missing` was passed through before.
    fn next(&self, cursor: &mut u64, missing: &mut u64, credit: u64) -> Next {
        let mut spool = self.spool.borrow_mut();
        let most = usize::try_from(credit).unwrap_or(PIECE).min(PIECE);
        if *cursor < spool.written {
            if most == 0 {
                return Next::Credit;
            }
            let (stderr, bytes) = spool.read(*cursor, most);
            *cursor += bytes.len() as u64;
            return Next::Output { stderr, bytes };
        }
        if *missing > 0 {
            let text = format!("\n[{missing} bytes of output were not kept]\n");
            if most < text.len() {
                return Next::Credit;
            }
            *missing = 0;
            return Next::Output { stderr: false, bytes: text.into_bytes() };
        }
        if let Some((stderr, mut bytes)) = spool.beyond.take() {
            let rest = bytes.split_off(bytes.len().min(most));
            spool.passed += bytes.len() as u64;
            if rest.is_empty() {
                self.room.notify_one();
            } else {
                spool.beyond = Some((stderr, rest));
            }
            return if bytes.is_empty() { Next::Credit } else { Next::Output { stderr, bytes } };
        }
        spool.end.map_or(Next::More, Next::Exited)
    }
}

impl Spool {
    /// Writes what fits whole; gives back what does not.
    fn write(&mut self, stderr: bool, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        let Some(file) = self.file.as_ref().filter(|_| !self.is_full) else { return Err(bytes) };
        let end = self.written + bytes.len() as u64;
        let is_new_run = self.runs.last().is_none_or(|(last, _)| *last != stderr);
        if end > JOURNAL_BYTES || (is_new_run && self.runs.len() == MAX_RUNS) {
            return Err(bytes);
        }
        // A full disk, for one: what was written of it is not counted.
        if file.write_all_at(&bytes, self.written).is_err() {
            return Err(bytes);
        }
        match self.runs.last_mut() {
            Some(run) if !is_new_run => run.1 = end,
            _ => self.runs.push((stderr, end)),
        }
        self.written = end;
        self.is_full = end == JOURNAL_BYTES;
        Ok(())
    }

    /// Bytes of one run from this place on.
    fn read(&self, from: u64, most: usize) -> (bool, Vec<u8>) {
        let run = self.runs.partition_point(|(_, end)| *end <= from);
        let (stderr, end) = self.runs.get(run).copied().unwrap_or((false, self.written));
        let length = usize::try_from(end - from).unwrap_or(most).min(most);
        let mut bytes = vec![0; length];
        // A disk that gives back nothing of what it took: zeros stand for it, and all stays in order.
        let _ = self.file.as_ref().map(|file| file.read_exact_at(&mut bytes, from));
        (stderr, bytes)
    }
}

/// A file that nobody else can open.
fn nameless(folder: &str, exec: ExecId) -> Option<File> {
    let path = format!("{folder}/.journal-{exec}");
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path).ok()?;
    fs::remove_file(&path).ok()?;
    Some(file)
}

/// Sends the journal from its beginning, and on as it grows.
async fn send(journal: Rc<Journal>, exec: ExecId, running: Rc<Running>, outbox: Outbox) {
    let (mut cursor, mut missing) = (0, journal.spool.borrow().passed);
    loop {
        match journal.next(&mut cursor, &mut missing, running.credit.get()) {
            Next::Output { stderr, bytes } => {
                running.credit.set(running.credit.get().saturating_sub(bytes.len() as u64));
                outbox.send(&FromGuest::Output { exec, stderr, bytes }).await;
            }
            Next::Exited(end) => return outbox.send(&FromGuest::Exited { exec, end }).await,
            Next::Credit => running.credit_came.notified().await,
            Next::More => journal.more.notified().await,
        }
        if outbox.is_closed() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that a host would get, with so much credit at a time.
    fn all(journal: &Journal, credit: u64) -> (String, String, Option<ExecEnd>) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (mut cursor, mut missing) = (0, journal.spool.borrow().passed);
        loop {
            match journal.next(&mut cursor, &mut missing, credit) {
                Next::Output { stderr: false, bytes } => out.extend(bytes),
                Next::Output { stderr: true, bytes } => err.extend(bytes),
                Next::Exited(end) => return (text(out), text(err), Some(end)),
                Next::Credit | Next::More => return (text(out), text(err), None),
            }
        }
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn every_host_gets_everything_from_the_beginning() {
        let journal = Journal::open(ExecId::from_parts(1, 1));
        journal.push(false, b"one ".to_vec());
        journal.push(true, b"oops".to_vec());
        journal.push(false, b"two".to_vec());
        for credit in [3, 100] {
            assert_eq!(all(&journal, credit), ("one two".into(), "oops".into(), None));
        }
        journal.finish(ExecEnd { code: Some(3), ..ExecEnd::default() });
        let (out, err, end) = all(&journal, 2);
        assert_eq!((out.as_str(), err.as_str(), end.unwrap().code), ("one two", "oops", Some(3)));
    }

    #[test]
    fn what_does_not_fit_passes_through_once_and_is_told_as_missing_after() {
        let journal = Journal::open(ExecId::from_parts(1, 2));
        while !journal.spool.borrow().is_full {
            journal.push(false, vec![b'a'; journal.room()]);
        }
        assert_eq!(journal.spool.borrow().written, JOURNAL_BYTES);
        journal.push(false, b"more".to_vec());
        assert_eq!(journal.room(), 0, "the pump waits for the host");
        let (out, _, _) = all(&journal, 1000);
        assert!(out.ends_with("amore") && out.len() as u64 == JOURNAL_BYTES + 4);
        assert!(journal.room() > 0);
        let (again, _, _) = all(&journal, 1000);
        assert!(again.ends_with("a\n[4 bytes of output were not kept]\n"), "{}", &again[again.len() - 60..]);
    }
}

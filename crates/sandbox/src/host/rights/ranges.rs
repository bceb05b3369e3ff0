//! The ids that an ordinary user was given.
//!
//! ```text
//!   /etc/subuid, /etc/subgid    name:first:count ─▶ maps of the namespace:  0 user 1 · 1 first count · …
//!
//!   maps, seen from inside      0 │ 1 │ 2 ─── 65,536 │ 65,537 ─── 131,071 │ …
//!                             user trial    slot 0             slot 1
//! ```
//!
//! A slot lies in one run of ids of users and one of groups: the kernel maps nothing else at once.

use std::fmt;
use std::fs;
use std::io;

/// Ids of one slot: what programs expect, `nobody` included. One less than root gives, whose last one is
/// the 16-bit word for "no id": of the usual 65,536 ids one is left over for trials.
pub(crate) const SIZE: u32 = 65_535;

/// The inside's id that belongs to no sandbox, for trying things.
pub(crate) const TRIAL: u32 = 1;

/// The first inside id of a sandbox.
const FIRST: u32 = 2;

/// How many sandboxes a hint makes room for.
const ROOM: u32 = 25;

/// One run of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u32,
    pub(super) count: u32,
}

/// One place for a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Given {
    /// Its first id, inside.
    pub(crate) base: u32,
    /// Its first id outside: the same to every namespace that shares it.
    pub(crate) outside: u32,
}

/// What was given to a user in a file of the form `name:first:count`.
pub(super) fn of_user(file: &str, name: &str, id: u32) -> Vec<Run> {
    runs(&fs::read_to_string(file).unwrap_or_default(), name, id)
}

fn runs(text: &str, name: &str, id: u32) -> Vec<Run> {
    let number = id.to_string();
    let run = |line: &str| {
        let mut fields = line.trim().split(':');
        let whose = fields.next()?;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (whose == name || whose == number).then_some(Run { first, count }).filter(|run| run.count > 0)
    };
    text.lines().filter_map(run).collect()
}

/// The arguments of `newuidmap` or `newgidmap` after the process: the caller's own id, then what it was
/// given.
pub(super) fn map(own: u32, runs: &[Run]) -> Vec<String> {
    let mut words = vec![0, own, 1];
    let mut inside: u32 = 1;
    for run in runs {
        // What does not fit into numbers of 32 bits is left out.
        let Some(next) = inside.checked_add(run.count) else { break };
        words.extend([inside, run.first, run.count]);
        inside = next;
    }
    words.iter().map(u32::to_string).collect()
}

/// One line of a process's map.
#[derive(Debug, Clone, Copy)]
struct Extent {
    inside: u32,
    outside: u32,
    count: u32,
}

fn extents(text: &str) -> Vec<Extent> {
    let line = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Extent { inside: next()?, outside: next()?, count: next()? })
    };
    text.lines().filter_map(line).collect()
}

/// The places for sandboxes in the namespace that this process is in.
pub(crate) fn given() -> io::Result<Vec<Given>> {
    let [users, groups] = ["uid_map", "gid_map"].map(|name| fs::read_to_string(format!("/proc/self/{name}")));
    Ok(places(&users?, &groups?))
}

fn places(users: &str, groups: &str) -> Vec<Given> {
    let groups = extents(groups);
    let mut places = Vec::new();
    for user in extents(users) {
        for group in &groups {
            let begin = user.inside.max(group.inside).max(FIRST);
            let end = user.inside.saturating_add(user.count).min(group.inside.saturating_add(group.count));
            let fitting = end.saturating_sub(begin) / SIZE;
            places.extend((0..fitting).map(|index| {
                let base = begin + index * SIZE;
                Given { base, outside: user.outside + (base - user.inside) }
            }));
        }
    }
    places
}

/// How many sandboxes these runs have room for.
pub(super) fn room(users: &[Run], groups: &[Run]) -> usize {
    let text =
        |runs: &[Run]| map(0, runs).chunks(3).map(|line| format!("{}\n", line.join(" "))).collect::<String>();
    places(&text(users), &text(groups)).len()
}

/// What gives a user more ids, to be run by root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hint {
    name: String,
    first: u32,
}

impl Hint {
    /// Behind all that anybody was given.
    pub(super) fn of(name: &str) -> Self {
        let files = ["/etc/subuid", "/etc/subgid"].map(|file| fs::read_to_string(file).unwrap_or_default());
        Self { name: name.to_owned(), first: files.iter().map(|text| behind(text)).max().unwrap_or(FREE) }
    }
}

/// Where distributions begin to give.
const FREE: u32 = 100_000;

fn behind(text: &str) -> u32 {
    let end = |line: &str| {
        let mut fields = line.trim().split(':').skip(1);
        fields.next()?.parse::<u32>().ok()?.checked_add(fields.next()?.parse().ok()?)
    };
    text.lines().filter_map(end).max().unwrap_or(FREE).max(FREE)
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, first } = self;
        let last = first.saturating_add(ROOM * (SIZE + 1) - 1);
        write!(f, "usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_range_has_room_for_one_sandbox_and_a_second_range_for_another() {
        let usual = [Run { first: 100_000, count: 65_536 }];
        assert_eq!(map(1000, &usual), ["0", "1000", "1", "1", "100000", "65536"]);
        assert_eq!(
            places("0 1000 1\n1 100000 65536\n", "0 1000 1\n1 100000 65536\n"),
            [Given { base: 2, outside: 100_001 }]
        );
        let two = [usual[0], Run { first: 300_000, count: 65_535 }];
        assert_eq!((room(&usual, &usual), room(&two, &two), room(&two, &usual)), (1, 2, 1));
        assert_eq!(room(&[Run { first: 1, count: 65_535 }], &two), 0);
    }

    #[test]
    fn a_place_lies_in_one_run_of_both_maps() {
        let users = "0 1000 1\n1 100000 196608\n";
        let groups = "0 1000 1\n1 100000 100000\n100001 500000 100000\n";
        let bases: Vec<u32> = places(users, groups).iter().map(|place| place.base).collect();
        assert_eq!(bases, [2, 100_001], "what crosses from one run into the next is left out");
    }

    #[test]
    fn only_the_users_own_lines_count_and_broken_ones_do_not() {
        let text = "other:1:70000\nme:100000:65536\n# me:1:1\nme:x:2\nme:5\n1000:300000:10\nme:7:0\n";
        let runs = runs(text, "me", 1000);
        assert_eq!(runs, [Run { first: 100_000, count: 65_536 }, Run { first: 300_000, count: 10 }]);
        assert_eq!(behind(text), 300_010);
        assert_eq!(behind(""), 100_000);
    }
}

//! The profile of system calls as a program for the kernel.
//!
//! ```text
//!   wrong architecture ─▶ kill
//!   call number ─▶ binary search over runs of numbers with one outcome ─┬─▶ allow · errno
//!                                                                       └─▶ rules on arguments, in order
//! ```
//!
//! The profile is that of the sessions' sandboxes ([`crate::bundle::seccomp`]), in its OCI form; a word
//! in it that is not understood here is an error, not a gap.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use serde_json::Value;
use syscalls::Sysno;

use crate::bundle::seccomp;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL: u32 = 0x8000_0000;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// `BPF_LD | BPF_W | BPF_ABS`
const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JEQ | BPF_K`
const IF_EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`
const IF_GREATER: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`
const IF_AT_LEAST: u16 = 0x35;
/// `BPF_JMP | BPF_JA`
const JUMP: u16 = 0x05;
/// `BPF_ALU | BPF_AND | BPF_K`
const AND: u16 = 0x54;
/// `BPF_RET | BPF_K`
const RETURN: u16 = 0x06;

/// `EPERM`
const NOT_PERMITTED: u32 = 1;
/// `AF_UNIX`
const UNIX: u64 = 1;
/// `SOCK_DGRAM`, and the bits of the type that say so.
const DATAGRAM: (u64, u64) = (2, 0xf);

/// What cannot be compiled.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the profile of system calls holds something unknown: {0}")]
pub(crate) struct BadProfile(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u16,
    yes: u8,
    no: u8,
    value: u32,
}

const fn plain(code: u16, value: u32) -> Instruction {
    Instruction { code, yes: 0, no: 0, value }
}

/// Something about one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Equal(u64),
    Greater(u64),
    Masked(u64, u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    tests: Vec<(u32, Test)>,
    outcome: u32,
}

/// What a command may do with sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sockets {
    /// Make unix sockets and reach them. Without, a pair of connected streams is all that it gets.
    pub(crate) unix: bool,
    /// Wait for connections.
    pub(crate) listening: bool,
}

/// The program for a command.
pub(crate) fn program(sockets: Sockets) -> Result<Vec<u8>, BadProfile> {
    let mut rules: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    let refuse = |tests| Rule { tests, outcome: ERRNO | NOT_PERMITTED };
    if !sockets.listening {
        rules.insert(number(Sysno::listen), vec![refuse(Vec::new())]);
    }
    if !sockets.unix {
        // First, so before what the profile allows.
        rules.insert(number(Sysno::socket), vec![refuse(vec![(0, Test::Masked(0xffff_ffff, UNIX))])]);
        // A datagram socket of a pair could be connected once more, elsewhere.
        let (value, mask) = DATAGRAM;
        rules.insert(number(Sysno::socketpair), vec![refuse(vec![(1, Test::Masked(mask, value))])]);
    }
    let default = read(&seccomp::profile(seccomp::Errors::Named, false), &mut rules)?;
    let code = assemble(&rules, default);
    Ok(code.iter().flat_map(bytes).collect())
}

fn number(call: Sysno) -> u32 {
    u32::try_from(call.id()).unwrap_or(u32::MAX)
}

fn bytes(instruction: &Instruction) -> [u8; 8] {
    let [a, b] = instruction.code.to_ne_bytes();
    let [e, f, g, h] = instruction.value.to_ne_bytes();
    [a, b, instruction.yes, instruction.no, e, f, g, h]
}

/// Adds the profile's rules; the outcome of everything else.
fn read(profile: &Value, rules: &mut BTreeMap<u32, Vec<Rule>>) -> Result<u32, BadProfile> {
    let bad = |value: &Value| BadProfile(value.to_string());
    for entry in profile["syscalls"].as_array().ok_or_else(|| bad(profile))? {
        let outcome = outcome(&entry["action"], &entry["errnoRet"])?;
        let mut tests = Vec::new();
        for argument in entry["args"].as_array().into_iter().flatten() {
            tests.push(test(argument)?);
        }
        for name in entry["names"].as_array().ok_or_else(|| bad(entry))? {
            let name = name.as_str().ok_or_else(|| bad(entry))?;
            // A call of another architecture, or one that the table does not have: as not allowed.
            if let Ok(call) = Sysno::from_str(name) {
                rules.entry(number(call)).or_default().push(Rule { tests: tests.clone(), outcome });
            }
        }
    }
    outcome(&profile["defaultAction"], &profile["defaultErrnoRet"])
}

fn outcome(action: &Value, errno: &Value) -> Result<u32, BadProfile> {
    match action.as_str() {
        Some("SCMP_ACT_ALLOW") => Ok(ALLOW),
        Some("SCMP_ACT_ERRNO") => errno
            .as_u64()
            .and_then(|errno| u32::try_from(errno).ok())
            .filter(|errno| (1..4096).contains(errno))
            .map(|errno| ERRNO | errno)
            .ok_or_else(|| BadProfile(format!("errno {errno}"))),
        _ => Err(BadProfile(format!("action {action}"))),
    }
}

fn test(argument: &Value) -> Result<(u32, Test), BadProfile> {
    let bad = || BadProfile(argument.to_string());
    let field = |name: &str| argument[name].as_u64().ok_or_else(bad);
    let index = u32::try_from(field("index")?).map_err(|_| bad())?;
    let test = match argument["op"].as_str() {
        Some("SCMP_CMP_EQ") => Test::Equal(field("value")?),
        Some("SCMP_CMP_GT") => Test::Greater(field("value")?),
        Some("SCMP_CMP_MASKED_EQ") => Test::Masked(field("value")?, field("valueTwo")?),
        _ => return Err(bad()),
    };
    if index < 6 { Ok((index, test)) } else { Err(bad()) }
}

/// A run of numbers with one outcome, or one call with rules of its own, from `first` on.
enum Run<'a> {
    Plain(u32),
    Rules(&'a [Rule]),
}

fn assemble(rules: &BTreeMap<u32, Vec<Rule>>, default: u32) -> Vec<Instruction> {
    let mut runs: Vec<(u32, Run<'_>)> = vec![(0, Run::Plain(default))];
    for (call, rules) in rules {
        let run = match rules.as_slice() {
            [rule, ..] if rule.tests.is_empty() => Run::Plain(rule.outcome),
            rules => Run::Rules(rules),
        };
        push(&mut runs, *call, run);
        push(&mut runs, call + 1, Run::Plain(default));
    }
    let mut code = vec![
        plain(LOAD, 4),
        Instruction { code: IF_EQUAL, yes: 1, no: 0, value: ARCHITECTURE },
        plain(RETURN, KILL),
        plain(LOAD, 0),
    ];
    search(&runs, default, &mut code);
    code
}

fn push<'a>(runs: &mut Vec<(u32, Run<'a>)>, first: u32, run: Run<'a>) {
    if runs.last().is_some_and(|(last, _)| *last == first) {
        runs.pop();
    }
    let same = match (runs.last(), &run) {
        (Some((_, Run::Plain(before))), Run::Plain(now)) => before == now,
        _ => false,
    };
    if !same {
        runs.push((first, run));
    }
}

fn search(runs: &[(u32, Run<'_>)], default: u32, code: &mut Vec<Instruction>) {
    if let [(_, run)] = runs {
        match run {
            Run::Plain(outcome) => code.push(plain(RETURN, *outcome)),
            Run::Rules(rules) => {
                for rule in *rules {
                    rule_code(rule, code);
                }
                code.push(plain(RETURN, default));
            }
        }
        return;
    }
    let (low, high) = runs.split_at(runs.len() / 2);
    let first_high = high.first().map_or(0, |(first, _)| *first);
    // The near branch is the high half, by a long jump over the low one.
    code.push(Instruction { code: IF_AT_LEAST, yes: 0, no: 1, value: first_high });
    let jump = code.len();
    code.push(plain(JUMP, 0));
    search(low, default, code);
    if let Ok(distance) = u32::try_from(code.len() - jump - 1) {
        code[jump].value = distance;
    }
    search(high, default, code);
}

/// All tests, one after the other; any that fails leads past the rule's outcome.
fn rule_code(rule: &Rule, code: &mut Vec<Instruction>) {
    const FAIL: u8 = u8::MAX;
    let mut part = Vec::new();
    for (index, test) in &rule.tests {
        let (low, high) = (16 + 8 * index, 20 + 8 * index);
        let equal = |value: u32| Instruction { code: IF_EQUAL, yes: 0, no: FAIL, value };
        match *test {
            Test::Equal(value) => {
                part.extend([plain(LOAD, high), equal(upper(value)), plain(LOAD, low), equal(lower(value))]);
            }
            Test::Masked(mask, value) => {
                for (offset, mask, value) in
                    [(high, upper(mask), upper(value)), (low, lower(mask), lower(value))]
                {
                    if mask != 0 || value != 0 {
                        part.extend([plain(LOAD, offset), plain(AND, mask), equal(value)]);
                    }
                }
            }
            // Above by the upper half, or by the lower one when the upper halves are the same.
            Test::Greater(value) => part.extend([
                plain(LOAD, high),
                Instruction { code: IF_GREATER, yes: 3, no: 0, value: upper(value) },
                equal(upper(value)),
                plain(LOAD, low),
                Instruction { code: IF_GREATER, yes: 0, no: FAIL, value: lower(value) },
            ]),
        }
    }
    part.push(plain(RETURN, rule.outcome));
    let length = part.len();
    for (place, instruction) in part.iter_mut().enumerate() {
        if instruction.no == FAIL {
            instruction.no = u8::try_from(length - place - 1).unwrap_or(FAIL);
        }
    }
    code.append(&mut part);
}

const fn upper(value: u64) -> u32 {
    (value >> 32) as u32
}

const fn lower(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn outcome_of(unix: bool, architecture: u32, call: u32, arguments: [u64; 6]) -> u32 {
        run(Sockets { unix, listening: true }, architecture, call, arguments)
    }

    fn run(sockets: Sockets, architecture: u32, call: u32, arguments: [u64; 6]) -> u32 {
        let code = program(sockets).unwrap();
        assert!(code.len() / 8 <= 4096);
        let mut data = Vec::new();
        data.extend(call.to_ne_bytes());
        data.extend(architecture.to_ne_bytes());
        data.extend(0_u64.to_ne_bytes());
        arguments.iter().for_each(|argument| data.extend(argument.to_ne_bytes()));
        let (mut accumulator, mut place) = (0, 0);
        loop {
            let raw = &code[place * 8..place * 8 + 8];
            let value = u32::from_ne_bytes(raw[4..].try_into().unwrap());
            let branch = |holds: bool| usize::from(if holds { raw[2] } else { raw[3] });
            place += 1;
            match u16::from_ne_bytes([raw[0], raw[1]]) {
                LOAD => {
                    let offset = value as usize;
                    accumulator = u32::from_ne_bytes(data[offset..offset + 4].try_into().unwrap());
                }
                IF_EQUAL => place += branch(accumulator == value),
                IF_GREATER => place += branch(accumulator > value),
                IF_AT_LEAST => place += branch(accumulator >= value),
                JUMP => place += value as usize,
                AND => accumulator &= value,
                RETURN => return value,
                other => panic!("code {other:#x}"),
            }
        }
    }

    fn outcome(call: Sysno, arguments: [u64; 6]) -> u32 {
        outcome_of(false, ARCHITECTURE, number(call), arguments)
    }

    #[test]
    fn every_named_call_has_the_outcome_of_its_list() {
        let known = |list| seccomp::names(list).into_iter().filter_map(|name| Sysno::from_str(name).ok());
        for call in known(seccomp::ALLOWED).filter(|call| *call != Sysno::socketpair) {
            assert_eq!(outcome(call, [0; 6]), ALLOW, "{call}");
        }
        for call in known(seccomp::REFUSED) {
            assert_eq!(outcome(call, [0; 6]), ERRNO | 1, "{call}");
        }
        assert_eq!(outcome(Sysno::clone3, [0; 6]), ERRNO | 38);
        for unknown in [number(Sysno::read) | 0x4000_0000, 5000, u32::MAX] {
            assert_eq!(outcome_of(true, ARCHITECTURE, unknown, [0; 6]), ERRNO | 38);
        }
        assert_eq!(outcome_of(true, 0x4000_0003, 1, [0; 6]), KILL);
    }

    #[test]
    fn arguments_are_looked_at() {
        let with = |index: usize, value| {
            let mut arguments = [0; 6];
            arguments[index] = value;
            arguments
        };
        assert_eq!(outcome(Sysno::clone, with(0, 17)), ALLOW);
        assert_eq!(outcome(Sysno::clone, with(0, 0x1000_0000 | 17)), ERRNO | 1);
        assert_eq!(outcome(Sysno::unshare, with(0, 0x0002_0000)), ERRNO | 1);
        assert_eq!(outcome(Sysno::unshare, with(0, 0x200)), ALLOW);
        assert_eq!(outcome(Sysno::ioctl, with(1, 0x5412)), ERRNO | 1);
        assert_eq!(outcome(Sysno::ioctl, with(1, 0x1_0000_5412)), ERRNO | 1);
        assert_eq!(outcome(Sysno::ioctl, with(1, 0x541c)), ERRNO | 1);
        for request in [0x5401, 0x540e, 0x5413, 0x1_2345] {
            assert_eq!(outcome(Sysno::ioctl, with(1, request)), ALLOW, "{request:#x}");
        }
        assert_eq!(outcome(Sysno::socket, with(0, 2)), ALLOW);
        assert_eq!(outcome(Sysno::socket, with(0, 1)), ERRNO | 1);
        assert_eq!(outcome_of(true, ARCHITECTURE, number(Sysno::socket), with(0, 1)), ALLOW);
        assert_eq!(outcome(Sysno::socket, with(0, 38)), ERRNO | 97);
        assert_eq!(outcome(Sysno::socket, [16, 3, 0, 0, 0, 0]), ALLOW);
        assert_eq!(outcome(Sysno::socket, [16, 3, 9, 0, 0, 0]), ERRNO | 93);
        assert_eq!(outcome(Sysno::socketpair, [1, 0x80001, 0, 0, 0, 0]), ALLOW);
        assert_eq!(outcome(Sysno::socketpair, [1, 0x80002, 0, 0, 0, 0]), ERRNO | 1);
        let deaf = Sockets { unix: true, listening: false };
        assert_eq!(run(deaf, ARCHITECTURE, number(Sysno::listen), [0; 6]), ERRNO | 1);
        assert_eq!(run(deaf, ARCHITECTURE, number(Sysno::connect), [0; 6]), ALLOW);
        assert_eq!(outcome(Sysno::listen, [0; 6]), ALLOW);
        assert_eq!(outcome(Sysno::personality, with(0, 0x0040_0000)), ERRNO | 38);
    }
}

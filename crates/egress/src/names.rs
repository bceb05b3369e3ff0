//! The addresses that stand for names within one sandbox.
//!
//! ```text
//!   name ─▶ number ─▶ 198.18.0.0 + number, fd7a:9c1e:5a11::number
//!   the oldest goes when there are too many; its number is never given to another one
//! ```
//!
//! A connection to an address that stands for nothing (any more) is one to a bare address.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy::host::Host;

/// The addresses that stand for names: 198.18.0.0/15, which RFC 2544 keeps for tests, and a private
/// block of IPv6, RFC 4193.
const STAND_INS_V4: u32 = Ipv4Addr::new(198, 18, 0, 0).to_bits();
const STAND_INS_V6: u128 = Ipv6Addr::new(0xfd7a, 0x9c1e, 0x5a11, 0, 0, 0, 0, 0).to_bits();

/// The most names that have an address at a time.
const MOST: usize = 4096;

/// How many numbers 198.18.0.0/15 has. The first is none: an address that ends with 0 looks wrong.
const NUMBERS: u32 = 1 << 17;

/// Names, and what stands for them.
#[derive(Debug, Default)]
pub(crate) struct Names {
    numbers: HashMap<Host, u32>,
    hosts: HashMap<u32, Host>,
    /// In the order in which they came.
    order: VecDeque<u32>,
    given: u32,
}

impl Names {
    /// The number that stands for a name; nothing when all were given: the sandbox asked for more names
    /// than there are addresses.
    pub(crate) fn number(&mut self, host: &Host) -> Option<u32> {
        if let Some(number) = self.numbers.get(host) {
            return Some(*number);
        }
        let number = self.given + 1;
        if number >= NUMBERS {
            return None;
        }
        self.given = number;
        if self.order.len() >= MOST
            && let Some(oldest) = self.order.pop_front()
            && let Some(host) = self.hosts.remove(&oldest)
        {
            self.numbers.remove(&host);
        }
        self.numbers.insert(host.clone(), number);
        self.hosts.insert(number, host.clone());
        self.order.push_back(number);
        Some(number)
    }

    /// The name that an address stands for.
    pub(crate) fn host(&self, address: IpAddr) -> Option<&Host> {
        self.hosts.get(&number_of(address)?)
    }
}

/// The IPv4 address of a number.
pub(crate) fn v4(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(STAND_INS_V4 + number)
}

/// The IPv6 address of a number.
pub(crate) fn v6(number: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(STAND_INS_V6 + u128::from(number))
}

fn number_of(address: IpAddr) -> Option<u32> {
    let number = match address {
        IpAddr::V4(address) => address.to_bits().checked_sub(STAND_INS_V4)?,
        IpAddr::V6(address) => u32::try_from(address.to_bits().checked_sub(STAND_INS_V6)?).ok()?,
    };
    (number < NUMBERS).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: usize) -> Host {
        Host::parse(format!("h{number}.test").as_bytes()).unwrap()
    }

    #[test]
    fn an_address_never_stands_for_another_name_later() {
        let mut names = Names::default();
        let first = names.number(&host(0)).unwrap();
        assert_eq!(names.number(&host(0)), Some(first));
        for address in [IpAddr::V4(v4(first)), IpAddr::V6(v6(first))] {
            assert_eq!(names.host(address), Some(&host(0)), "{address}");
        }
        for number in 1..=MOST {
            names.number(&host(number)).unwrap();
        }
        assert_eq!(names.host(v4(first).into()), None);
        let again = names.number(&host(0)).unwrap();
        assert_ne!(again, first);
        assert_eq!(names.hosts.len(), MOST);
        for address in ["198.17.255.255", "198.20.0.1", "198.18.0.0", "fd7a:9c1e:5a11:1::1", "127.0.0.1"] {
            assert_eq!(names.host(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn names_end_when_all_addresses_were_given() {
        let mut names = Names::default();
        let given = (0..200_000).filter_map(|number| names.number(&host(number))).count();
        assert_eq!(given, NUMBERS as usize - 1);
    }
}

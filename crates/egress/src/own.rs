//! The addresses of this machine: never dialled for a sandbox, whoever listens there.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;

/// How long what was found holds: networks come and go.
const FRESH: Duration = Duration::from_secs(5);

/// Addresses of interfaces, as of a moment ago. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Own(Arc<Mutex<Option<Found>>>);

/// When, and what.
type Found = (Instant, HashSet<IpAddr>);

impl Own {
    /// Whether an address is one of ours. Every address is, while nobody can say which are.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|(since, _)| since.elapsed() > FRESH) {
            match getifaddrs() {
                Ok(found) => {
                    *known = Some((Instant::now(), found.filter_map(|one| address_of(&one)).collect()))
                }
                Err(error) => {
                    tracing::error!(%error, "the addresses of this machine cannot be found out");
                    *known = None;
                }
            }
        }
        known.as_ref().is_none_or(|(_, addresses)| addresses.contains(&address))
    }
}

fn address_of(interface: &nix::ifaddrs::InterfaceAddress) -> Option<IpAddr> {
    let address = interface.address.as_ref()?;
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_ours_and_others_are_not() {
        let own = Own::default();
        assert!(own.has("127.0.0.1".parse().unwrap()));
        assert!(!own.has("93.184.216.34".parse().unwrap()));
    }
}

//! Names that mean this machine or a private network wherever they are resolved.

use protocol::network::DenyReason;

use crate::host::DnsName;

/// Names, and all names below them, with the class that they belong to. The first that fits counts.
const CLASSES: &[(&str, DenyReason)] = &[
    ("localhost", DenyReason::AddrLoopback),
    ("metadata.google.internal", DenyReason::AddrMetadata),
    ("host.docker.internal", DenyReason::AddrLoopback),
    ("host.containers.internal", DenyReason::AddrLoopback),
    ("internal", DenyReason::AddrPrivate),
    ("local", DenyReason::AddrPrivate),
    ("home.arpa", DenyReason::AddrPrivate),
];

/// The class of a name that is not public, whatever it resolves into; none for every other name.
/// A name of one label is of the local network: no public one has an address.
#[must_use]
pub(crate) fn class(name: &DnsName) -> Option<DenyReason> {
    let named = CLASSES.iter().find(|(special, _)| name.as_str() == *special || name.is_below(special));
    let single = || (!name.as_str().contains('.')).then_some(DenyReason::AddrPrivate);
    named.map(|(_, reason)| *reason).or_else(single)
}

//! Names of forges become addresses that the operator lets the server dial.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use policy::address::AddressRules;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::error::{ForgeError, one_line};

pub(crate) struct Resolver(pub(crate) Arc<AddressRules>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = Arc::clone(&self.0);
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await;
            let found: Vec<SocketAddr> =
                found.map_err(|_| ForgeError::Resolve { host: host.clone() })?.collect();
            for address in found.iter().map(SocketAddr::ip) {
                let refused = |reason| ForgeError::Address { host: host.clone(), address, reason };
                rules.check(&host, address).map_err(refused)?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// An address that is no name is not resolved, so it is checked by itself.
pub(crate) fn check(rules: &AddressRules, url: &Url) -> Result<(), ForgeError> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let Ok(address) = host.parse::<IpAddr>() else { return Ok(()) };
    let refused = |reason| ForgeError::Address { host: host.clone(), address, reason };
    rules.check(&host, address).map_err(refused)
}

/// What a failed request means.
pub(crate) fn why(host: &str, error: &reqwest::Error) -> ForgeError {
    let host = host.to_owned();
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut last = String::new();
    while let Some(error) = cause {
        if let Some(ours) = error.downcast_ref::<ForgeError>() {
            return ours.clone();
        }
        last = error.to_string();
        cause = error.source();
    }
    let why: String = one_line(&last).chars().take(160).collect();
    if last.contains("certificate") {
        ForgeError::Certificate { host, why }
    } else if error.is_timeout() {
        ForgeError::Silent { host }
    } else {
        ForgeError::Unreachable { host, why }
    }
}

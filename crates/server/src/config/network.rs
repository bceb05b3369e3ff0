//! `[network]` of the configuration.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use protocol::egress::Budgets;
use protocol::network::PrivateException;
use protocol::secret::{MAX_SECRET_BYTES, MAX_SECRETS, MIN_SECRET_BYTES, can_be_looked_for};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// `[network]`: what holds for every session, above its environment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// Hosts that every level but none allows, as patterns.
    pub allow: Vec<String>,
    /// Hosts that no level allows, as patterns.
    pub deny: Vec<String>,
    /// Hosts that may have an address in a private or reserved block.
    pub private: Vec<PrivateException>,
    /// Name servers to ask for hosts that sandboxes may reach, with or without a port; those of the system
    /// where there are none.
    #[serde(deserialize_with = "name_servers")]
    pub name_servers: Vec<SocketAddr>,
    /// Files of certificates, PEM: authorities that hosts may be signed by, besides those that the machine
    /// trusts. Sandboxes trust them, too.
    pub authorities: Vec<PathBuf>,
    /// Texts that no sandbox may send anywhere, where what it sends is seen.
    #[serde(deserialize_with = "canaries")]
    pub canaries: Vec<String>,
    /// How much one sandbox may send.
    pub budgets: Budgets,
    /// How many days the record of a session's network stays when the session is deleted or archived.
    pub audit_days: u32,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            deny: Vec::new(),
            private: Vec::new(),
            name_servers: Vec::new(),
            authorities: Vec::new(),
            canaries: Vec::new(),
            budgets: Budgets::default(),
            audit_days: 90,
        }
    }
}

fn name_servers<'de, D: Deserializer<'de>>(given: D) -> Result<Vec<SocketAddr>, D::Error> {
    let address = |text: String| {
        let address =
            text.parse().or_else(|_| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53)));
        address
            .map_err(|_| D::Error::custom(format!("`{text}` is no address of a name server, like 10.0.0.53")))
    };
    Vec::<String>::deserialize(given)?.into_iter().map(address).collect()
}

fn canaries<'de, D: Deserializer<'de>>(given: D) -> Result<Vec<String>, D::Error> {
    let given = Vec::<String>::deserialize(given)?;
    if let Some(text) = given.iter().find(|text| !can_be_looked_for(text)) {
        return Err(D::Error::custom(format!(
            "{text:?} is no canary: it has {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes, without line ends and \
             other control characters; a shorter one would be found everywhere"
        )));
    }
    if given.len() > MAX_SECRETS {
        return Err(D::Error::custom(format!(
            "{} canaries are too many; {MAX_SECRETS} are allowed",
            given.len()
        )));
    }
    Ok(given)
}

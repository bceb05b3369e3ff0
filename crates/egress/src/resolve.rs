//! Names of allowed hosts, resolved outside of every sandbox.
//!
//! ```text
//!   name ─▶ found lately, and still good? ─▶ those
//!                └─▶ A and AAAA asked for ─▶ kept while they are good, half a minute at the most
//! ```

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use policy::host::Host;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most addresses of a host that are looked at.
const MOST: usize = 16;

/// How long an answer is kept that would be good for longer, and how many are.
const KEPT: Duration = Duration::from_secs(30);
const NAMES: usize = 4096;

/// The system's name servers stand here; on a laptop they change with the network.
const SYSTEM: &str = "/etc/resolv.conf";

/// How often it is looked whether they are others.
const LOOK: Duration = Duration::from_secs(1);

/// What answers for names. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Names {
    /// Those that were named, or none for the system's.
    servers: Arc<[SocketAddr]>,
    made: Arc<Mutex<Made>>,
    found: Arc<Mutex<HashMap<String, Found>>>,
}

/// What was found for a name.
struct Found {
    addresses: Vec<IpAddr>,
    until: Instant,
}

struct Made {
    resolver: TokioResolver,
    /// Of the system's file when it was read.
    changed: Option<SystemTime>,
    /// When that was asked last.
    looked: Instant,
}

fn changed() -> Option<SystemTime> {
    std::fs::metadata(SYSTEM).and_then(|file| file.modified()).ok()
}

impl Names {
    /// Asks these servers; those of the system where none is named.
    pub(crate) fn of(servers: &[SocketAddr]) -> io::Result<Self> {
        let made = Made { changed: changed(), resolver: resolver(servers)?, looked: Instant::now() };
        Ok(Self { servers: servers.into(), made: Arc::new(Mutex::new(made)), found: Arc::default() })
    }

    /// The resolver of now: a new one when the system's servers are others.
    fn current(&self) -> TokioResolver {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if self.servers.is_empty() && made.looked.elapsed() >= LOOK {
            made.looked = Instant::now();
            let now = changed();
            if now.is_some() && now != made.changed {
                match resolver(&[]) {
                    Ok(resolver) => *made = Made { resolver, changed: now, looked: made.looked },
                    Err(error) => tracing::warn!(%error, "the system's new name servers cannot be used"),
                }
            }
        }
        made.resolver.clone()
    }

    fn known(&self, name: &str) -> Option<Vec<IpAddr>> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(name).filter(|found| Instant::now() < found.until).map(|found| found.addresses.clone())
    }

    fn keep(&self, name: String, addresses: &[IpAddr], good_until: Instant) {
        let now = Instant::now();
        let until = good_until.min(now + KEPT);
        if until <= now {
            return;
        }
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= NAMES {
            found.retain(|_, found| now < found.until);
        }
        if found.len() < NAMES {
            found.insert(name, Found { addresses: addresses.to_vec(), until });
        }
    }

    /// The addresses of a host; one that is an address has that.
    pub(crate) async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, ()> {
        let name = match host {
            Host::V4(address) => return Ok(vec![IpAddr::V4(*address)]),
            Host::V6(address) => return Ok(vec![IpAddr::V6(*address)]),
            // The dot keeps search lists away.
            Host::Dns(name) => format!("{name}."),
        };
        if let Some(addresses) = self.known(&name) {
            return Ok(addresses);
        }
        match tokio::time::timeout(PATIENCE, self.current().lookup_ip(name.as_str())).await {
            Ok(Ok(found)) => {
                let addresses: Vec<IpAddr> = found.iter().take(MOST).collect();
                self.keep(name, &addresses, found.valid_until());
                Ok(addresses)
            }
            Ok(Err(error)) => {
                tracing::debug!(%host, %error, "a name did not resolve");
                Err(())
            }
            Err(_) => Err(()),
        }
    }
}

fn resolver(servers: &[SocketAddr]) -> io::Result<TokioResolver> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio().map_err(io::Error::other)?
    } else {
        let one = |server: &SocketAddr| {
            let port = |mut connection: ConnectionConfig| {
                connection.port = server.port();
                connection
            };
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(port).into();
            NameServerConfig::new(server.ip(), true, connections)
        };
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(one).collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    // A name is what it says: no search list is tried.
    options.ndots = 0;
    options.timeout = PATIENCE / 2;
    options.attempts = 1;
    options.edns0 = true;
    builder.build().map_err(io::Error::other)
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Names")
    }
}

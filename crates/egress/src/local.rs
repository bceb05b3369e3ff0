//! The proxy of one sandbox that no server knows: rules from the start, another proxy behind it perhaps,
//! and a person instead of a record.
//!
//! ```text
//!   doors ─▶ binding ─ judge ─┬─ asks ─▶ person
//!                             └─ refused ─▶ told when the command has ended
//! ```

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use policy::local::DomainRule;
use policy::network::PolicyError;
use protocol::egress::{Chain, Door, Notice};
use protocol::ids::{SandboxId, SessionId};
use protocol::network::NetworkRules;
use tokio::net::UnixStream;
use tokio::sync::broadcast;

use crate::audit::Audit;
use crate::authorities::Authorities;
use crate::authority::{AuthorityError, Signer, make_authority};
use crate::binding::{Binding, Outside, Rules};
use crate::doors;
use crate::host_tls::HostTls;
use crate::own::Own;
use crate::person::Person;
use crate::resolve::Names;
use crate::upstream::Upstream;

/// How many notices may wait to be told.
const WAITING: usize = 1024;

/// What it is started with.
#[derive(Debug)]
pub struct LocalConfig {
    /// The listeners of the sandbox.
    pub doors: Vec<(Door, OwnedFd)>,
    /// What may be reached.
    pub rules: NetworkRules,
    /// Hosts that are asked about although a rule allows them.
    pub asked: Vec<DomainRule>,
    /// The person's own proxies.
    pub upstream: Upstream,
    /// Where the person is, by [`protocol::local`].
    pub person: StdUnixStream,
    /// Whether questions are answered there.
    pub answers: bool,
    /// Nothing is written down: a file that forgets.
    pub forgets: File,
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum LocalProxyError {
    /// Its rules.
    #[error("the rules of the network cannot be used: {0}")]
    Rules(#[from] PolicyError),
    /// Its certificates.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Its sockets.
    #[error("the proxy cannot serve the sandbox: {0}")]
    Sockets(#[from] io::Error),
}

/// Serves until the sandbox has ended; everything is told then.
///
/// # Errors
///
/// When it cannot begin.
pub async fn run(config: LocalConfig, ended: impl Future<Output = ()>) -> Result<(), LocalProxyError> {
    let rules = Rules::alone(&config.rules)?;
    let resolver = Names::of(&[])?;
    config.person.set_nonblocking(true)?;
    let link = UnixStream::from_std(config.person)?;
    let person = Arc::new(Person::new(link, config.answers, config.rules, config.asked));
    // There is one sandbox and no session: nobody reads these.
    let who = (SandboxId::from(ulid::Ulid::nil()), SessionId::from(ulid::Ulid::nil()));
    let audit = Audit::new(who.1, who.0, config.forgets, Chain::default());
    let notices = broadcast::Sender::new(WAITING);
    let mut told = notices.subscribe();
    // Nothing is opened: no rule is finer than a host, and nobody trusts this authority.
    let signer = Signer::new(who.1, &make_authority(who.1)?)?;
    let host_tls = HostTls::new(&Authorities::default()).map_err(AuthorityError::from)?;
    let outside = Outside { resolver, own: Own::default(), host_tls, notices };
    let binding = Binding::new(who, rules, audit, signer, outside);
    let binding = Arc::new(binding.of_person(Arc::clone(&person), config.upstream));
    for (door, socket) in config.doors {
        doors::open(&binding, door, socket)?;
    }
    tokio::select! {
        () = ended => {}
        () = tell(&person, &mut told) => {}
    }
    binding.gone.cancel();
    while let Ok(notice) = told.try_recv() {
        person.tell(notice).await;
    }
    Ok(())
}

async fn tell(person: &Person, notices: &mut broadcast::Receiver<Notice>) {
    loop {
        match notices.recv().await {
            Ok(notice) => person.tell(notice).await,
            // Fewer are told than there were, as with any that come too often.
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

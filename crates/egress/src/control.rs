//! What the server asks for, and who may ask.
//!
//! ```text
//!   server ── Bind + listeners ─▶ binding, doors open      a second Bind of a sandbox replaces the first
//!          ── Rules ───────────▶ other policy, at once
//!          ── AllowOnce ───────▶ one connection passes, if it comes within a minute
//!          ── Count ───────────▶ counters since the start
//!          ── Watch ───────────▶ notices, until one of both is gone
//! ```
//!
//! Bindings do not end with the connection that made them: while the server is away they go on under
//! the rules that they have.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use policy::host::Host;
use protocol::egress::{AuthorityKey, Chain, Door, EgressAnswer, EgressCounts, EgressRequest, Ground};
use protocol::ids::{SandboxId, SessionId};
use tokio::net::UnixStream;
use tokio::sync::broadcast;

use crate::audit::Audit;
use crate::authority::Signer;
use crate::binding::{Binding, Outside, Rules};
use crate::host_tls::HostTls;
use crate::own::Own;
use crate::shards::Shards;
use crate::tally::Tally;
use crate::{doors, frame, resolve};

/// Records are on the disk within this time.
const SYNC: Duration = Duration::from_millis(100);

/// How many notices may wait for who watches.
const WAITING: usize = 1024;

/// Everything that is bound.
#[derive(Debug)]
pub(crate) struct Control {
    bindings: Mutex<HashMap<SandboxId, Arc<Binding>>>,
    outside: Outside,
    tally: Arc<Tally>,
    shards: Shards,
}

impl Control {
    pub(crate) fn new(resolver: resolve::Names, host_tls: HostTls, shards: Shards) -> Self {
        let notices = broadcast::Sender::new(WAITING);
        let outside = Outside { resolver, own: Own::default(), host_tls, notices };
        Self { bindings: Mutex::default(), outside, tally: Arc::default(), shards }
    }

    /// Serves one connection of the server.
    pub(crate) async fn converse(&self, mut stream: UnixStream) -> io::Result<()> {
        while let Some(request) = frame::receive(&mut stream).await? {
            let answer = match request {
                EgressRequest::Bind { sandbox, session, ground, authority, doors, chain } => {
                    let sockets = frame::receive_descriptors(&stream).await?;
                    self.bind((sandbox, session), ground, &authority, (&doors, sockets), chain)
                }
                EgressRequest::Rules { sandbox, ground } => self.change(sandbox, ground),
                EgressRequest::Unbind { sandbox } => {
                    self.unbind(sandbox);
                    Ok(EgressAnswer::Unbound)
                }
                EgressRequest::AllowOnce { sandbox, host, port } => self.allow_once(sandbox, &host, port),
                EgressRequest::List => Ok(EgressAnswer::Sandboxes { sandboxes: self.list() }),
                EgressRequest::Count => Ok(EgressAnswer::Counts(self.counts())),
                EgressRequest::Watch => return self.watch(stream).await,
            };
            let answer = answer.unwrap_or_else(|message| EgressAnswer::Failed { message });
            frame::send(&mut stream, &answer).await?;
        }
        Ok(())
    }

    fn bind(
        &self,
        who: (SandboxId, SessionId),
        ground: Ground,
        authority: &AuthorityKey,
        (wanted, mut sockets): (&[Door], Vec<OwnedFd>),
        chain: Chain,
    ) -> Result<EgressAnswer, String> {
        let rules = Rules::of(ground)?;
        let signer = Signer::new(who.1, authority).map_err(|error| error.to_string())?;
        let segment = sockets.pop().map(File::from).filter(|_| sockets.len() == wanted.len());
        let segment = segment.ok_or("not as many descriptors came as were told of")?;
        let audit = Audit::new(who.1, who.0, segment, chain).counted_in(&self.tally);
        let binding = Arc::new(Binding::new(who, rules, audit, signer, self.outside.clone()));
        // Whoever came before lets go first.
        self.unbind(who.0);
        // Listeners and what they accept belong to the thread that is entered here.
        let _shard = self.shards.next().enter();
        for (door, socket) in wanted.iter().zip(sockets) {
            doors::open(&binding, *door, socket).map_err(|error| {
                binding.gone.cancel();
                format!("the listeners of {} cannot be used: {error}", who.0)
            })?;
        }
        self.bindings().insert(who.0, binding);
        Ok(EgressAnswer::Bound)
    }

    fn change(&self, sandbox: SandboxId, ground: Ground) -> Result<EgressAnswer, String> {
        let rules = Rules::of(ground)?;
        Ok(EgressAnswer::Changed { closed: self.binding(sandbox)?.change(rules) })
    }

    fn allow_once(&self, sandbox: SandboxId, host: &str, port: u16) -> Result<EgressAnswer, String> {
        let host = Host::parse(host.as_bytes()).map_err(|error| format!("this is no host: {error}"))?;
        let binding = self.binding(sandbox)?;
        if !binding.once.allow(host, port, Instant::now()) {
            return Err(format!("too many connections of {sandbox} that were allowed once did not come yet"));
        }
        Ok(EgressAnswer::AllowedOnce)
    }

    fn binding(&self, sandbox: SandboxId) -> Result<Arc<Binding>, String> {
        self.bindings().get(&sandbox).cloned().ok_or_else(|| format!("{sandbox} is not bound"))
    }

    fn unbind(&self, sandbox: SandboxId) {
        if let Some(binding) = self.bindings().remove(&sandbox) {
            binding.gone.cancel();
        }
    }

    fn counts(&self) -> EgressCounts {
        let bindings = self.bindings();
        self.tally.counts(bindings.len(), bindings.values().map(|binding| binding.open_now()).sum())
    }

    fn list(&self) -> Vec<SandboxId> {
        self.bindings().keys().copied().collect()
    }

    async fn watch(&self, mut stream: UnixStream) -> io::Result<()> {
        let mut notices = self.outside.notices.subscribe();
        frame::send(&mut stream, &EgressAnswer::Watching).await?;
        loop {
            match notices.recv().await {
                Ok(notice) => frame::send(&mut stream, &notice).await?,
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(
                        missed,
                        "denials came faster than the server takes notice; they are on record"
                    );
                }
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            }
        }
    }

    /// Brings records to the disk, for ever.
    pub(crate) async fn sync(&self) {
        let mut ticks = tokio::time::interval(SYNC);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let all: Vec<_> = self.bindings().values().cloned().collect();
            let dirty: Vec<_> = all.iter().filter_map(|binding| binding.audit.settle(false)).collect();
            if dirty.is_empty() {
                continue;
            }
            let synced =
                tokio::task::spawn_blocking(move || dirty.iter().try_for_each(|file| file.sync_data()));
            if let Ok(Err(error)) = synced.await {
                tracing::error!(%error, "audit records may not be on the disk");
            }
        }
    }

    fn bindings(&self) -> std::sync::MutexGuard<'_, HashMap<SandboxId, Arc<Binding>>> {
        self.bindings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

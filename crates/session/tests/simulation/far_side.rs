//! `sandbox-host`, `egress` and the guests at their ends of the real wires, over real sockets.
//!
//! ```text
//!  host.sock ──▶ one task a connection ─▶ World ─▶ answer, late, or not at all
//!  egress.sock ▶ there is no network: `egress` holds nobody's listeners
//!  g-<id>.sock ▶ one task a connection ─▶ World ─▶ replies and output, in order, late
//! ```
//!
//! What they know is in the [`World`] and outlives the server; the tasks go with each life of its, and begin anew.

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::attachment::Attachment;
use protocol::egress::{EgressAnswer, EgressRequest};
use protocol::guest::{self, FromGuest, Hello, Reply, Request, ToGuest, WIRE_VERSION};
use protocol::hands::{FileChunk, HandsError};
use protocol::ids::{ExecId, SandboxId};
use protocol::sandbox_host::{
    HostAnswer, HostErrorCode, HostReport, HostRequest, ImageInfo, Made, SavedLayer,
};
use protocol::sandbox_spec::{Limits, Tier};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::kernel;
use crate::sandboxes::{self, Sandbox};
use crate::world::Shared;

/// The far side of one life of the server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct FarSide {
    world: Shared,
    dir: PathBuf,
}

impl FarSide {
    /// Begins to listen.
    pub(crate) fn start(world: &Shared, dir: &Path) -> Self {
        let this = Self { world: world.clone(), dir: dir.to_owned() };
        let living: Vec<SandboxId> = world.lock().sandboxes.keys().copied().collect();
        living.into_iter().for_each(|id| this.listen(id));
        tokio::spawn(this.clone().host());
        tokio::spawn(this.clone().egress());
        this
    }

    pub(crate) fn host_socket(&self) -> PathBuf {
        self.dir.join("host.sock")
    }

    pub(crate) fn egress_socket(&self) -> PathBuf {
        self.dir.join("egress.sock")
    }

    fn guest_socket(&self, id: SandboxId) -> PathBuf {
        self.dir.join(format!("g-{id}.sock"))
    }

    /// `sandbox-host`, and its successors.
    async fn host(self) {
        loop {
            let _ = std::fs::remove_file(self.host_socket());
            let listener = UnixListener::bind(self.host_socket()).unwrap();
            let mut connections = JoinSet::new();
            let lives = self.world.roll(10..200);
            let dies = tokio::time::sleep(Duration::from_secs(lives));
            tokio::pin!(dies);
            loop {
                tokio::select! {
                    biased;
                    accepted = listener.accept() => drop(connections.spawn(self.clone().host_calls(accepted.unwrap().0))),
                    Some(_) = connections.join_next() => {}
                    () = &mut dies => break,
                }
            }
            if self.world.lock().heals {
                drop(listener);
                connections.detach_all();
                continue;
            }
            self.world.tell("sandbox-host dies");
            drop((listener, connections));
            self.world.wait(50..4000).await;
            self.world.tell("sandbox-host is back");
        }
    }

    async fn host_calls(self, mut stream: UnixStream) {
        while let Some(request) = receive::<HostRequest>(&mut stream).await {
            self.world.wait(1..60).await;
            if self.world.fault(60) {
                self.world.tell(format!("host {} is lost on its way", request.name()));
                return;
            }
            let answer = self.answer(request);
            self.world.wait(1..30).await;
            if self.world.fault(60) {
                self.world.tell("host an answer is lost on its way");
                return;
            }
            // The byte that would carry descriptors.
            let last: &[u8] = if matches!(answer, HostAnswer::GatewaysOpen { .. }) { &[0] } else { &[] };
            if send(&mut stream, &answer, last).await.is_err() {
                return;
            }
        }
    }

    /// `egress`, to whom nothing is ever handed over at level `none`.
    async fn egress(self) {
        let _ = std::fs::remove_file(self.egress_socket());
        let listener = UnixListener::bind(self.egress_socket()).unwrap();
        while let Ok((mut stream, _)) = listener.accept().await {
            let world = self.world.clone();
            tokio::spawn(async move {
                while let Some(request) = receive::<EgressRequest>(&mut stream).await {
                    world.wait(1..20).await;
                    if world.fault(80) {
                        return world.tell("egress loses a connection");
                    }
                    let answer = match request {
                        EgressRequest::List => EgressAnswer::Sandboxes { sandboxes: Vec::new() },
                        EgressRequest::Unbind { .. } => EgressAnswer::Unbound,
                        EgressRequest::Watch => EgressAnswer::Watching,
                        request => panic!("nobody asks here for {request:?}"),
                    };
                    if send(&mut stream, &answer, &[]).await.is_err() {
                        return;
                    }
                }
            });
        }
    }

    fn answer(&self, request: HostRequest) -> HostAnswer {
        let fails =
            matches!(request, HostRequest::Create { .. } | HostRequest::Seal { .. }) && self.world.fault(15);
        self.world.tell(format!(
            "host {}{}",
            serde_json::to_string(&request).unwrap(),
            if fails { " fails" } else { "" }
        ));
        if fails {
            let message = "the simulated disk has a bad day".to_owned();
            return HostAnswer::Failed { code: HostErrorCode::Start, message };
        }
        match request {
            HostRequest::Create { sandbox, session, spec } => {
                let files = match spec.layer {
                    Some(layer) => match self.world.lock().layers.get(&layer) {
                        Some(files) => files.clone(),
                        None => {
                            return HostAnswer::Failed {
                                code: HostErrorCode::NoLayer,
                                message: "gone".into(),
                            };
                        }
                    },
                    None => Default::default(),
                };
                if self.world.lock().ended.contains(&sandbox) {
                    return HostAnswer::Failed {
                        code: HostErrorCode::BadRequest,
                        message: "it was ended".into(),
                    };
                }
                self.world.lock().sandboxes.insert(sandbox, Sandbox::new(session, files));
                self.listen(sandbox);
                HostAnswer::Created(self.made(sandbox))
            }
            HostRequest::Gateways { .. } => HostAnswer::GatewaysOpen { gateways: Vec::new() },
            HostRequest::Destroy { sandbox } => {
                self.end(sandbox);
                HostAnswer::Destroyed
            }
            HostRequest::Seal { sandbox, layer } => match self.end(sandbox) {
                Some(mut ended) => {
                    ended.advance();
                    self.world.lock().layers.insert(layer, ended.files);
                    HostAnswer::Sealed(SavedLayer { layer, bytes: 4096 })
                }
                None => {
                    HostAnswer::Failed { code: HostErrorCode::BadRequest, message: "no such sandbox".into() }
                }
            },
            HostRequest::DropLayer { layer } => {
                self.world.lock().layers.remove(&layer);
                HostAnswer::Dropped
            }
            HostRequest::List => {
                let living: Vec<SandboxId> = self.world.lock().sandboxes.keys().copied().collect();
                HostAnswer::Sandboxes { sandboxes: living.into_iter().map(|id| self.made(id)).collect() }
            }
            HostRequest::Layers => {
                let layers = self
                    .world
                    .lock()
                    .layers
                    .keys()
                    .map(|layer| SavedLayer { layer: *layer, bytes: 4096 })
                    .collect();
                HostAnswer::Layers { layers }
            }
            HostRequest::Images => {
                HostAnswer::Images { images: vec![ImageInfo { name: "slim".into(), id: "1".into() }] }
            }
            HostRequest::Probe { .. } => HostAnswer::Probed(HostReport::default()),
            request => panic!("nobody asks here for {request:?}"),
        }
    }

    fn made(&self, sandbox: SandboxId) -> Made {
        let session = self.world.lock().sandboxes.get(&sandbox).and_then(|found| found.session);
        let attachment = Attachment { session, sandbox, guest_socket: Some(self.guest_socket(sandbox)) };
        let limits = Limits::default();
        Made {
            attachment,
            tier: Tier::Container,
            runtime: "simulated".into(),
            limits,
            unenforced: Vec::new(),
        }
    }

    /// A sandbox is over, with all that ran in it.
    fn end(&self, id: SandboxId) -> Option<Sandbox> {
        self.world.lock().ended.insert(id);
        let ended = self.world.lock().sandboxes.remove(&id)?;
        ended.changed.notify_waiters();
        Some(ended)
    }

    /// Lets a guest be reached.
    fn listen(&self, id: SandboxId) {
        let path = self.guest_socket(id);
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(path).unwrap();
        let this = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = {
                    let mut world = this.world.lock();
                    let Some(sandbox) = world.sandboxes.get_mut(&id) else { return };
                    sandbox.connection += 1;
                    sandbox.changed.notify_waiters();
                    sandbox.connection
                };
                this.world.tell(format!("guest {id} has connection {number}"));
                tokio::spawn(Connection { far_side: this.clone(), id, number }.run(stream));
            }
        });
    }
}

/// One connection to a guest.
#[derive(Clone)]
struct Connection {
    far_side: FarSide,
    id: SandboxId,
    number: u64,
}

impl Connection {
    fn world(&self) -> &Shared {
        &self.far_side.world
    }

    /// Whether it is the sandbox's newest.
    fn stands(&self) -> bool {
        let world = self.world().lock();
        world.sandboxes.get(&self.id).is_some_and(|sandbox| sandbox.connection == self.number)
    }

    /// Ends when it does not stand any more.
    async fn falls(&self) {
        let Some(changed) =
            self.world().lock().sandboxes.get(&self.id).map(|sandbox| sandbox.changed.clone())
        else {
            return;
        };
        while self.stands() {
            changed.notified().await;
        }
    }

    async fn run(self, stream: UnixStream) {
        let (mut reader, writer) = stream.into_split();
        let (outbox, frames) = mpsc::unbounded_channel();
        let read = async {
            let mut header = [0; 4];
            while reader.read_exact(&mut header).await.is_ok() {
                let mut content = vec![0; guest::frame_length(header).unwrap()];
                if reader.read_exact(&mut content).await.is_err() {
                    return;
                }
                self.world().wait(0..12).await;
                if self.has_fallen() {
                    return;
                }
                self.hear(guest::decode(&content).unwrap(), &outbox);
            }
        };
        tokio::select! {
            biased;
            () = self.falls() => {}
            () = read => {}
            () = self.write(writer, frames) => {}
        }
    }

    /// Whether the sandbox died, or its connection, just now.
    fn has_fallen(&self) -> bool {
        if self.world().fault(700) {
            self.world().tell(format!("guest {} dies", self.id));
            self.far_side.end(self.id);
            return true;
        }
        if self.world().fault(700) {
            self.world().tell(format!("guest {} loses its connection", self.id));
            return true;
        }
        !self.stands()
    }

    async fn write(&self, mut writer: OwnedWriteHalf, mut frames: mpsc::UnboundedReceiver<FromGuest>) {
        while let Some(message) = frames.recv().await {
            let slow = self.world().fault(200);
            self.world().wait(if slow { 1000..8000 } else { 0..12 }).await;
            if writer.write_all(&guest::encode(&message).unwrap()).await.is_err() {
                return;
            }
        }
    }

    fn hear(&self, message: ToGuest, outbox: &mpsc::UnboundedSender<FromGuest>) {
        let (id, request) = match message {
            ToGuest::Hello(_) => {
                let hello = Hello { version: WIRE_VERSION, capabilities: Vec::new() };
                let _ = outbox.send(FromGuest::Hello(hello));
                return;
            }
            ToGuest::Request { id, request } => (id, request),
            ToGuest::Credit { .. } | ToGuest::Stdin { .. } => return,
        };
        let attaches = match &request {
            Request::Start(spec) => Some(spec.exec),
            Request::Attach { exec } => Some(*exec),
            _ => None,
        };
        let named = named(&request);
        let reply = self.answer(request);
        self.world().tell(format!(
            "guest {} {named} {}",
            self.id,
            if reply.is_ok() { "done" } else { "refused" }
        ));
        let is_done = reply.is_ok();
        let _ = outbox.send(FromGuest::Reply { id, reply });
        if let Some(exec) = attaches.filter(|_| is_done) {
            tokio::spawn(self.clone().pump(exec, outbox.clone()));
        }
    }

    fn answer(&self, request: Request) -> Result<Reply, HandsError> {
        let mut world = self.world().lock();
        if let Request::Start(spec) = &request {
            let repos = self.far_side.dir.join("data/repos");
            return sandboxes::start(&mut world, self.id, spec, &repos).map(|()| Reply::Done);
        }
        let Some(sandbox) = world.sandboxes.get_mut(&self.id) else {
            return Err(HandsError::Gone("over".into()));
        };
        match request {
            Request::Attach { exec } => sandbox.attach(exec).map(|()| Reply::Done),
            Request::Release { exec } => {
                sandbox.release(exec);
                Ok(Reply::Done)
            }
            Request::Signal { exec, signal } => sandbox.signal(exec, signal).map(|()| Reply::Done),
            Request::KillAll => {
                sandbox.kill(true);
                Ok(Reply::Done)
            }
            Request::KillUnkept => {
                sandbox.kill(false);
                Ok(Reply::Done)
            }
            Request::ReadFile { path, offset, limit } => {
                let Some(bytes) = sandbox.others.get(&path) else {
                    return Err(HandsError::NotFound { path });
                };
                let (from, limit) = (usize::try_from(offset).unwrap(), usize::try_from(limit).unwrap());
                let part = bytes.iter().skip(from).take(limit).copied().collect();
                Ok(Reply::Chunk(FileChunk { bytes: part, size: bytes.len() as u64 }))
            }
            Request::WriteFile { path, bytes, last, .. } => {
                sandbox.parts.entry(path.clone()).or_default().extend(bytes);
                if last {
                    let whole = sandbox.parts.remove(&path).unwrap_or_default();
                    sandbox.others.insert(path, whole);
                }
                Ok(Reply::Done)
            }
            Request::Stat { path } => Err(HandsError::NotFound { path }),
            Request::List { .. } => Ok(Reply::Entries(Vec::new())),
            Request::Resize { .. } => Ok(Reply::Done),
            Request::Start(_) => unreachable!("it was answered before"),
        }
    }

    /// Says what a command says, from the beginning to its end.
    async fn pump(self, exec: ExecId, outbox: mpsc::UnboundedSender<FromGuest>) {
        let mut said = 0;
        loop {
            let (until, changed) = {
                let mut world = self.world().lock();
                let Some(sandbox) = world.sandboxes.get_mut(&self.id) else { return };
                if sandbox.connection != self.number {
                    return;
                }
                sandbox.advance();
                let now = kernel::elapsed();
                let Some(command) = sandbox.commands.get(&exec) else { return };
                let due = command.lines.iter().skip(said).take_while(|(at, _)| *at <= now);
                let due: Vec<String> = due.map(|(_, line)| line.clone()).collect();
                said += due.len();
                for line in due.into_iter().filter(|line| !line.is_empty()) {
                    let _ = outbox.send(FromGuest::Output { exec, stderr: false, bytes: line.into_bytes() });
                }
                if let Some(end) = command.end {
                    let _ = outbox.send(FromGuest::Exited { exec, end });
                    sandbox.told(exec);
                    return;
                }
                (command.next(said).saturating_sub(now), sandbox.changed.clone())
            };
            tokio::select! {
                biased;
                () = changed.notified() => {}
                () = tokio::time::sleep(until) => {}
            }
        }
    }
}

/// A message of the wires that speak JSON.
async fn receive<T: DeserializeOwned>(stream: &mut UnixStream) -> Option<T> {
    let length = stream.read_u32_le().await.ok()?;
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(serde_json::from_slice(&bytes).unwrap())
}

async fn send<T: Serialize>(stream: &mut UnixStream, message: &T, last: &[u8]) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    stream.write_all(&[&length[..], &bytes, last].concat()).await
}

/// A request, for the trace.
fn named(request: &Request) -> String {
    match request {
        Request::Start(spec) => {
            let script = spec.argv.last().map(String::as_str).unwrap_or_default();
            let what = script.find("sim-call").map_or_else(
                || script.lines().find(|line| line.contains("git ")).unwrap_or("a script").trim(),
                |at| &script[at..],
            );
            format!("start {} {what}", spec.exec)
        }
        Request::WriteFile { path, .. } => format!("write {path}"),
        Request::ReadFile { path, .. } => format!("read {path}"),
        request => format!("{request:?}"),
    }
}

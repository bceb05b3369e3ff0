//! One live server: the protocol over its bytes, and what it has.
//!
//! ```text
//!  start ─▶ server/discover ─ no such thing ─▶ initialize ─▶ tools, prompts ─▶ Connection ─▶ calls
//!             (2026-07-28)                    (2024-11-05 … 2025-11-25)             └ progress, to the call
//! ```
//!
//! All that it says is hostile: sizes, counts and times are bounded here and in `wire`, its answers are matched to
//! requests by the protocol's library, and what cannot be a tool is left out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, TryFutureExt as _};
use protocol::hands::{ExecSpec, Hands};
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest, GetPromptRequestParams,
    GetPromptResult, PaginatedRequestParams, Prompt, ProtocolVersion, ReadResourceRequestParams,
    ReadResourceResult, RequestMetaObject, Resource, ServerResult, Tool,
};
use rmcp::service::{
    ClientInitializeError, ClientLifecycleMode, PeerRequestOptions, RequestHandle, RoleClient,
    RunningService, ServiceError, serve_client_with_lifecycle,
};
use rmcp::transport::async_rw::AsyncRwTransport;
use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::declared::Way;
use super::error::{ServerError, in_words, of_start, of_transport};
use super::handler::Handler;
use super::http;
use super::servers::DriverServers;
use super::wire::{Pump, Wire};
use crate::tools::{lock, new_exec};

/// Bytes between the pump and the protocol.
const PIPE: usize = 64 * 1024;

/// The longest message.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// Pages of a list.
const MAX_PAGES: usize = 20;

/// Items of a list.
const MAX_ITEMS: usize = 1_000;

/// How long a server may take to be told that a request is not wanted any more.
const TELL: Duration = Duration::from_secs(2);

/// Where servers run.
pub(crate) struct Place {
    pub(crate) hands: Arc<dyn Hands>,
    pub(crate) workspace: String,
    /// Variables of commands in the sandbox.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) guest_program: Vec<String>,
    /// Certificates, PEM, that are trusted besides the machine's.
    pub(crate) authorities: Vec<String>,
    pub(crate) driver: Option<Arc<dyn DriverServers>>,
}

/// What a server has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) tools: Vec<Tool>,
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) has_resources: bool,
    pub(crate) instructions: Option<String>,
    /// The version of the protocol.
    pub(crate) version: String,
}

/// A server that answers.
pub(crate) struct Connection {
    service: RunningService<RoleClient, Handler>,
    wire: Wire,
    facts: Mutex<Arc<Facts>>,
    _ends: DropGuard,
    _folder: Option<TempDir>,
}

impl Connection {
    /// Starts a server and asks what it has; `way` has its variables filled in.
    pub(crate) async fn open(name: &str, way: &Way, place: &Place) -> Result<Self, String> {
        let [both, older] = modes();
        // A driver passes on what it knows, and may not know what came later.
        if *way == Way::Driver {
            return Self::open_with((name, way), place, older).await.map_err(|(why, _)| why);
        }
        match Self::open_with((name, way), place, both).await {
            // Some end, or say something else than that they do not know it, when they are asked anything before
            // `initialize`.
            Err((_, true)) => Self::open_with((name, way), place, older).await.map_err(|(why, _)| why),
            opened => opened.map_err(|(why, _)| why),
        }
    }

    /// The error says whether another way of asking may do.
    async fn open_with(
        (name, way): (&str, &Way),
        place: &Place,
        mode: ClientLifecycleMode,
    ) -> Result<Self, (String, bool)> {
        let wire = Wire::new();
        let ends = wire.guard();
        let handler = Handler::new(&place.workspace);
        let failed = |error: ClientInitializeError| {
            let is_program = matches!(way, Way::Stdio { .. });
            let gone =
                matches!(error, ClientInitializeError::ConnectionClosed(_)) || wire.gone.is_cancelled();
            let why = match wire.last_words() {
                Some(words) if gone && is_program => format!("it ended: {words}"),
                None if gone && is_program => "it ended without a word".to_owned(),
                Some(words) if is_program => format!("{}: {words}", of_start(&error)),
                // Why there was no connection says more than that there was none.
                Some(words) => words,
                None => of_start(&error),
            };
            // One that was ended, or is out of reach, would be so again.
            let hopeless = wire.kill.is_cancelled() || (!is_program && wire.last_words().is_some());
            (why, !hopeless)
        };
        let plain_failure = |why: String| (why, false);
        let (service, folder) = match way {
            Way::Stdio { command, args, env } => {
                let pipe = start(command, args, env, place, &wire).await.map_err(plain_failure)?;
                let (read, write) = tokio::io::split(pipe);
                let transport = AsyncRwTransport::new_client(read, write).with_max_line_length(MAX_MESSAGE);
                let service = serve_client_with_lifecycle(handler, transport, mode).await.map_err(failed)?;
                (service, None)
            }
            Way::Driver => {
                let driver = place.driver.as_ref();
                let driver = driver.ok_or_else(|| plain_failure("nobody is there who has it".into()))?;
                let (read, write) = tokio::io::split(driver.open(name));
                let transport = AsyncRwTransport::new_client(read, write).with_max_line_length(MAX_MESSAGE);
                let service = serve_client_with_lifecycle(handler, transport, mode).await.map_err(failed)?;
                (service, None)
            }
            Way::Http { url, headers } => {
                let url = http::address(url).map_err(plain_failure)?;
                let opened =
                    http::open(&place.hands, &place.guest_program, &url, headers, &place.authorities, &wire);
                let http::Way { transport, folder } = opened.map_err(plain_failure)?;
                let service = serve_client_with_lifecycle(handler, transport, mode).await.map_err(failed)?;
                (service, Some(folder))
            }
        };
        let connection = Self { service, wire, facts: Mutex::default(), _ends: ends, _folder: folder };
        match connection.look().await {
            Ok(()) => Ok(connection),
            Err(error) => Err((error.to_string(), false)),
        }
    }

    /// Whether nothing can be asked of it any more.
    pub(crate) fn is_over(&self) -> bool {
        self.wire.gone.is_cancelled()
            || self.wire.kill.is_cancelled()
            || self.service.peer().is_transport_closed()
    }

    pub(crate) fn facts(&self) -> Arc<Facts> {
        Arc::clone(&lock(&self.facts))
    }

    /// Whether it said that what it has is something else now; from here on it did not.
    pub(crate) fn take_changed(&self) -> bool {
        self.service.service().take_changed()
    }

    /// Asks what it has.
    pub(crate) async fn look(&self) -> Result<(), ServerError> {
        self.wire.ask();
        let peer = self.service.peer();
        let mut facts = Facts::default();
        if let Some(info) = peer.peer_info() {
            facts.version = info.protocol_version.as_str().to_owned();
            facts.instructions = info.instructions.clone();
            facts.has_resources = info.capabilities.resources.is_some();
            if info.capabilities.tools.is_some() {
                let tools =
                    pages(|page| peer.list_tools(page).map_ok(|page| (page.tools, page.next_cursor)).boxed());
                facts.tools = tools.await.map_err(|error| self.error(error))?;
            }
            if info.capabilities.prompts.is_some() {
                let prompts = pages(|page| {
                    peer.list_prompts(page).map_ok(|page| (page.prompts, page.next_cursor)).boxed()
                });
                // Without them it is of use all the same.
                facts.prompts = prompts.await.unwrap_or_default();
            }
        }
        *lock(&self.facts) = Arc::new(facts);
        Ok(())
    }

    /// Calls a tool. `call` is the id of the model's call, `progress` is shown what the server tells meanwhile.
    pub(crate) async fn call(
        &self,
        (tool, call): (&str, &str),
        arguments: Map<String, Value>,
        limit: Duration,
        progress: &(dyn Fn(String) + Sync),
        stop: &CancellationToken,
    ) -> Result<CallToolResult, ServerError> {
        self.wire.ask();
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let mut meta = RequestMetaObject::default();
        meta.0.insert("claudecode/toolUseId".into(), call.into());
        let options = PeerRequestOptions::no_options().with_meta(meta);
        let sent = self.service.peer().send_request_with_option(request, options).boxed();
        let mut handle = tokio::select! {
            sent = sent => sent.map_err(|error| self.error(error))?,
            () = stop.cancelled() => return Err(ServerError::Stopped),
            () = sleep(limit) => return Err(ServerError::Late(limit)),
        };
        let mut listener = self.service.service().listen(&handle.progress_token);
        let late = sleep(limit);
        tokio::pin!(late);
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut handle.rx => break answer.unwrap_or(Err(ServiceError::TransportClosed)),
                Some(text) = listener.next() => progress(text),
                () = stop.cancelled() => return self.give_up(handle, ServerError::Stopped).await,
                () = &mut late => return self.give_up(handle, ServerError::Late(limit)).await,
                () = self.wire.gone.cancelled() => break Err(ServiceError::TransportClosed),
            }
        };
        match answer.map_err(|error| self.error(error))? {
            ServerResult::CallToolResult(result) => Ok(result),
            ServerResult::EmptyResult(_) => Ok(CallToolResult::default()),
            ServerResult::InputRequiredResult(_) => Err(ServerError::Strange(
                "it asks the person something, which cannot be answered here".into(),
            )),
            _ => Err(ServerError::Strange("it is no result of a tool".into())),
        }
    }

    /// Tells the server that an answer is not wanted any more; one that cannot even be told is ended.
    async fn give_up(
        &self,
        handle: RequestHandle<RoleClient>,
        why: ServerError,
    ) -> Result<CallToolResult, ServerError> {
        if !matches!(timeout(TELL, handle.cancel(Some(why.to_string()))).await, Ok(Ok(()))) {
            self.wire.note("it was ended because it does not listen");
            self.wire.kill.cancel();
        }
        Err(why)
    }

    /// The resources that it tells of.
    pub(crate) async fn resources(&self, limit: Duration) -> Result<Vec<Resource>, ServerError> {
        self.wire.ask();
        let peer = self.service.peer();
        let listed =
            pages(|page| peer.list_resources(page).map_ok(|page| (page.resources, page.next_cursor)).boxed());
        self.within(limit, listed.boxed()).await
    }

    /// Reads one of them.
    pub(crate) async fn read(&self, uri: &str, limit: Duration) -> Result<ReadResourceResult, ServerError> {
        self.wire.ask();
        let read = self.service.peer().read_resource(ReadResourceRequestParams::new(uri));
        self.within(limit, read.boxed()).await
    }

    /// A prompt, filled in.
    pub(crate) async fn prompt(
        &self,
        name: &str,
        arguments: Map<String, Value>,
        limit: Duration,
    ) -> Result<GetPromptResult, ServerError> {
        self.wire.ask();
        let params = GetPromptRequestParams::new(name).with_arguments(arguments);
        self.within(limit, self.service.peer().get_prompt(params).boxed()).await
    }

    async fn within<T>(
        &self,
        limit: Duration,
        asked: BoxFuture<'_, Result<T, ServiceError>>,
    ) -> Result<T, ServerError> {
        tokio::select! {
            answer = asked => answer.map_err(|error| self.error(error)),
            () = sleep(limit) => Err(ServerError::Late(limit)),
            () = self.wire.gone.cancelled() => Err(self.error(ServiceError::TransportClosed)),
        }
    }

    fn error(&self, error: ServiceError) -> ServerError {
        match error {
            ServiceError::McpError(error) => ServerError::Answered(in_words(&error.message)),
            ServiceError::TransportClosed => {
                let words = self.wire.last_words();
                ServerError::Gone(words.unwrap_or_else(|| "it gave no reason".into()))
            }
            ServiceError::TransportSend(error) => {
                ServerError::Gone(self.wire.last_words().unwrap_or_else(|| of_transport(&error)))
            }
            ServiceError::Cancelled { .. } => ServerError::Answered("it cancelled the request".into()),
            ServiceError::Timeout { timeout } => ServerError::Late(timeout),
            error => ServerError::Strange(in_words(&error.to_string())),
        }
    }
}

/// Both eras of the protocol, and the older one alone.
fn modes() -> [ClientLifecycleMode; 2] {
    let auto = ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: Some(ProtocolVersion::V_2025_11_25),
    };
    [auto, ClientLifecycleMode::Initialize]
}

/// Starts the program of a server.
async fn start(
    command: &str,
    args: &[String],
    env: &BTreeMap<String, String>,
    place: &Place,
    wire: &Wire,
) -> Result<tokio::io::DuplexStream, String> {
    let argv = std::iter::once(command.to_owned()).chain(args.iter().cloned()).collect();
    let mut spec = ExecSpec::new(new_exec(), argv, &place.workspace);
    spec.stdin = true;
    spec.env.clone_from(&place.env);
    let own = env.iter().filter(|(name, _)| policy::variables::is_name(name));
    spec.env.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    let execution = place.hands.start(spec).await.map_err(|error| error.to_string())?;
    let (ours, theirs) = tokio::io::duplex(PIPE);
    let (pump, gone) = (Pump { execution, stream: theirs, wire: wire.clone() }, wire.gone.clone());
    tokio::spawn(async move {
        pump.run().await;
        gone.cancel();
    });
    Ok(ours)
}

/// One page of a list, and where the next one begins.
type Page<T> = Result<(Vec<T>, Option<String>), ServiceError>;

/// All pages of a list, as far as it is taken.
async fn pages<'a, T>(
    page: impl Fn(Option<PaginatedRequestParams>) -> BoxFuture<'a, Page<T>>,
) -> Result<Vec<T>, ServiceError> {
    let (mut all, mut cursor) = (Vec::new(), None);
    for _ in 0..MAX_PAGES {
        let params = cursor.map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
        let (items, next) = page(params).await?;
        all.extend(items);
        cursor = next;
        if cursor.is_none() || all.len() >= MAX_ITEMS {
            break;
        }
    }
    all.truncate(MAX_ITEMS);
    Ok(all)
}

//! The processes that the supervisor starts.

use std::os::fd::AsFd as _;
use std::process::ExitCode;

use egress::Authorities;
use egress::process::EgressConfig;
use model_gateway::Secret;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use sandbox::host::{GuestProgram, HostConfig, Rights};
use server::config::Config;
use server::wiring::ModelEnvironment;
use server::{Announce, ServerOptions};
use tokio::signal::unix::{SignalKind, signal};

use super::log::OneLine;
use super::supervisor::announced;
use crate::args::{InternalCommand, InternalServer};
use crate::connection::variable;
use crate::error::Failure;
use crate::output::{line, note};

/// What a process was given before it gave up the rest.
pub(crate) enum Settled {
    /// Nothing is needed later.
    Nothing,
    /// What `sandbox-host` may do.
    SandboxHost(Rights),
    /// Authorities that hosts may be signed by.
    Egress(Authorities),
}

/// What a process of ours does before anything else: it dies with the supervisor, server and egress give
/// up every privilege, and `sandbox-host` takes what rights it can have, which are given. Runs before
/// threads start.
pub(crate) fn settle(command: &InternalCommand) -> Result<Settled, Failure> {
    let settled = match command {
        InternalCommand::SandboxHost { data, .. } => Settled::SandboxHost(Rights::settle(data)),
        InternalCommand::Server(_) => Settled::Nothing,
        InternalCommand::Egress { authorities, .. } => {
            let named = Authorities::read(authorities).map_err(|error| Failure::Failed(error.to_string()))?;
            Settled::Egress(Authorities::of_system().and(named))
        }
    };
    let failed = |error: nix::Error| Failure::Internal(format!("cannot give up privileges: {error}"));
    let becomes = match command {
        InternalCommand::Server(InternalServer { server_uid, server_gid, .. }) => {
            Some((*server_uid, *server_gid))
        }
        InternalCommand::Egress { uid, gid, .. } => Some((*uid, *gid)),
        InternalCommand::SandboxHost { .. } => None,
    };
    if let Some((uid, gid)) = becomes {
        if Uid::effective().is_root() {
            setgroups(&[]).map_err(failed)?;
            setgid(Gid::from_raw(gid)).map_err(failed)?;
            setuid(Uid::from_raw(uid)).map_err(failed)?;
        }
        prctl::set_no_new_privs().map_err(failed)?;
        // Nothing of this account may look into a process that holds keys.
        prctl::set_dumpable(false).map_err(failed)?;
    }
    if matches!(command, InternalCommand::Egress { .. }) {
        egress::confine().map_err(|error| Failure::Internal(error.to_string()))?;
    }
    // After all changes of privilege, which would undo it.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed)?;
    Ok(settled)
}

pub(crate) async fn run(command: InternalCommand, settled: Settled) -> Result<ExitCode, Failure> {
    init_log();
    match (command, settled) {
        (InternalCommand::Server(options), _) => server(options).await,
        (
            InternalCommand::SandboxHost { data, socket, server_uid, server_gid },
            Settled::SandboxHost(rights),
        ) => {
            let guest = GuestProgram::Embedded;
            let config = HostConfig { data_dir: data, socket, server_uid, server_gid, guest, rights };
            let ended = sandbox::host::run(config, stop_signal()?).await;
            ended.map_err(|error| Failure::Failed(error.to_string()))?;
            Ok(ExitCode::SUCCESS)
        }
        (InternalCommand::Egress { server_uid, name_servers, .. }, Settled::Egress(authorities)) => {
            let stdin = std::io::stdin();
            let listener = stdin.as_fd().try_clone_to_owned().map_err(|error| {
                Failure::Internal(format!("the socket of egress did not arrive from the supervisor: {error}"))
            })?;
            let config = EgressConfig { listener: listener.into(), server_uid, name_servers, authorities };
            let stop = stop_signal()?;
            tokio::select! {
                ended = egress::process::run(config) => ended.map_err(|error| Failure::Failed(error.to_string()))?,
                () = stop => {}
            }
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(Failure::Internal("a process was started as another one than it settled as".into())),
    }
}

async fn server(options: InternalServer) -> Result<ExitCode, Failure> {
    let config = match &options.serve.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    let stdin = std::io::stdin();
    let listener = stdin.as_fd().try_clone_to_owned().map_err(|error| {
        Failure::Internal(format!("the listening socket did not arrive from the supervisor: {error}"))
    })?;
    let data = options.serve.data.ok_or_else(|| Failure::Usage("--data is missing".into()))?;
    let said = announced(&data);
    let options_for_server = ServerOptions {
        listener: listener.into(),
        data,
        host_socket: options.host_socket,
        egress_socket: options.egress_socket,
        config,
        model: model_environment(),
    };
    let announce = move |announce: Announce| {
        if options.again {
            return;
        }
        line(&format!("listening on http://{}", announce.address));
        line(&format!("sign in with this address, good once: {}", announce.login_url));
        line(&format!("in a terminal elsewhere: patchyard login {}", announce.terminal_login));
        for missing in &announce.missing {
            note(&format!("! {missing}"));
        }
        if let Err(error) = std::fs::write(&said, "") {
            note(&format!("patchyard: cannot write {}: {error}", said.display()));
        }
    };
    server::run(options_for_server, announce, stop_signal()?).await?;
    Ok(ExitCode::SUCCESS)
}

/// The model's variables; nothing else of the environment reaches the server's parts.
fn model_environment() -> ModelEnvironment {
    ModelEnvironment {
        api_key: variable("ANTHROPIC_API_KEY").map(Secret::new),
        auth_token: variable("ANTHROPIC_AUTH_TOKEN").map(Secret::new),
        base_url: variable("ANTHROPIC_BASE_URL"),
        model: variable("ANTHROPIC_MODEL"),
    }
}

fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|error| Failure::Internal(format!("cannot watch for signals: {error}")))?;
    Ok(async move {
        terminate.recv().await;
    })
}

/// `PATCHYARD_LOG` is a filter such as `info` or `session=debug`.
fn init_log() {
    // Agents and servers in sandboxes must not be able to fill the log with lines about what they send.
    let mut filter = variable("PATCHYARD_LOG").unwrap_or_else(|| "warn".into());
    for talkative in ["agent_client_protocol", "rmcp"] {
        if !filter.contains(talkative) {
            filter.push_str(&format!(",{talkative}=off"));
        }
    }
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(|| OneLine).try_init();
}

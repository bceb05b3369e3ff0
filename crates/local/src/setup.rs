//! What a run works with: the agent, made of options, files and the environment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::mcp::{Servers, ServersPlace};
use agent::{AgentConfig, Caps, Environment, Steering, Where, Words};
use policy::permissions::{Effect, Mode};
use serde_json::Value;

use crate::control::Control;
use crate::error::LocalError;
use crate::hands::{KEPT_BACK, LocalHands};
use crate::home::Home;
use crate::model::Models;
use crate::options::Options;
use crate::project::Project;

/// Variables that say how our agent works, and are read from the environment.
const HOW: [&str; 4] = [
    "CLAUDE_CODE_AUTO_COMPACT_WINDOW",
    "CLAUDE_AUTOCOMPACT_PCT_OVERRIDE",
    "DISABLE_AUTO_COMPACT",
    "DISABLE_COMPACT",
];

/// Where hooks leave variables, beside the agent's own files.
pub(crate) const ENV_FILE: &str = "session-env";

/// What does not change in a run.
pub(crate) struct Ground<'a> {
    pub(crate) home: &'a Home,
    pub(crate) folder: &'a Path,
    pub(crate) session: &'a str,
    /// The conversation's file, as hooks read it.
    pub(crate) transcript: String,
    /// A folder for the agent's own files.
    pub(crate) scratch: PathBuf,
    pub(crate) options: &'a Options,
    /// The program of the hands, and its arguments.
    pub(crate) program: &'a [String],
}

/// What a driver says before the first prompt.
#[derive(Default)]
pub(crate) struct Introduction(pub(crate) Value);

/// Sets mode, rules and folders as the options say; an error where they may not.
pub(crate) fn steer(steering: &Steering, options: &Options, project: &Project) -> Result<(), LocalError> {
    let mode = match options.mode {
        // Without an error, as the original does.
        Some(Mode::BypassPermissions) if project.settings.forbids_bypass() => Some(Mode::Default),
        mode => mode,
    };
    mode.into_iter().for_each(|mode| steering.set_mode(mode));
    let name = "the command line";
    steering.fix_rules(name, Effect::Allow, options.allowed.clone());
    steering.fix_rules(name, Effect::Deny, options.disallowed.clone());
    for folder in &options.folders {
        let folder =
            folder.canonicalize().map_err(|source| LocalError::File { path: folder.clone(), source })?;
        steering.add_folder(folder.to_string_lossy().into_owned());
    }
    Ok(())
}

/// The agent's configuration; its MCP servers begin to start.
pub(crate) fn configure(
    ground: &Ground<'_>,
    project: Project,
    models: &Models,
    (steering, control): (&Steering, &Control),
    introduction: &Introduction,
) -> Result<(AgentConfig, Arc<LocalHands>, Vec<String>), LocalError> {
    let Ground { home, folder, session, options, program, .. } = ground;
    let mut remarks = Vec::new();
    let hands = Arc::new(LocalHands::new(program.to_vec()));
    let model = match &options.fallback_model {
        Some(_) => models.beside_another().client(options.model.as_deref())?,
        None => models.client(options.model.as_deref())?,
    };
    let workspace = folder.to_string_lossy().into_owned();
    let environment =
        Environment { date: today(), platform: platform(), branch: branch(folder).unwrap_or_default() };
    let mut config = AgentConfig::new(model, hands.clone(), workspace.clone(), environment);
    config.fallback = options.fallback_model.as_deref().map(|name| models.client(Some(name))).transpose()?;
    config.steering = steering.clone();
    config.place = Where::Machine;
    let told = &introduction.0;
    let word = |field: &str| told[field].as_str().map(str::to_owned);
    config.words = Words {
        instead: options.system_prompt.clone().or_else(|| word("systemPrompt")),
        besides: options.append_system_prompt.clone().or_else(|| word("appendSystemPrompt")),
    };
    config.tools.clone_from(&options.tools);
    config.transcript.clone_from(&ground.transcript);
    config.scratch = ground.scratch.to_string_lossy().into_owned();
    steering.add_folder(config.scratch.clone());
    config.env_file = Some(format!("{}/{ENV_FILE}", config.scratch));
    config.session = (*session).to_owned();
    config.home = home.home.to_string_lossy().into_owned();
    config.guest_program = program.to_vec();
    config.caps = caps(options);
    config.tool_env = variables(session, &workspace);
    let Project { mut settings, memory, managed_memory, mut library, mut servers, .. } = project;
    remarks.extend(settings.hooks.add_callbacks(&told["hooks"]));
    remarks.extend(library.add_agents(&told["agents"]));
    if let Some(agents) = &options.agents {
        let agents: Value = serde_json::from_str(agents)
            .map_err(|error| LocalError::Usage(format!("--agents is no JSON: {error}")))?;
        remarks.extend(library.add_agents(&agents));
    }
    for name in told["sdkMcpServers"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        servers
            .add_of_driver(name)
            .map_err(|why| LocalError::Usage(format!("the server `{name}`: {why}")))?;
    }
    let inside = ServersPlace {
        hands: hands.clone(),
        workspace,
        home: config.home.clone(),
        environment: whole_environment(&config.tool_env),
        guest_program: program.to_vec(),
        authorities: Vec::new(),
        driver: Some(Arc::new(control.clone())),
    };
    config.servers = Servers::start(&servers, &settings, inside).into();
    config.memory = memory.into();
    config.managed_memory = managed_memory;
    config.settings = settings;
    config.library = library.into();
    Ok((config, hands, remarks))
}

fn caps(options: &Options) -> Caps {
    let mut caps = Caps::default();
    if let Some(most) = options.max_turns {
        caps.requests = most;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let micro = |dollars: f64| (dollars * 1e6) as u64;
    caps.cost_micro_usd = options.max_budget_usd.filter(|dollars| *dollars > 0.0).map(micro);
    caps
}

/// Variables of commands and hooks besides those of the person.
fn variables(session: &str, workspace: &str) -> Vec<(String, String)> {
    let ours = [
        ("CLAUDECODE", "1"),
        ("AI_AGENT", "patchyard"),
        ("CLAUDE_CODE_SESSION_ID", session),
        ("CLAUDE_CODE_ENTRYPOINT", "sdk-cli"),
        ("CLAUDE_PROJECT_DIR", workspace),
        ("PATCHYARD_SESSION_ID", session),
        ("GIT_EDITOR", "true"),
    ];
    let how = HOW.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    ours.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().chain(how).collect()
}

/// What servers may be filled in with: the person's own environment, but for keys of the model.
fn whole_environment(ours: &[(String, String)]) -> Vec<(String, String)> {
    let own = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    own.filter(|(name, _)| !KEPT_BACK.contains(&name.as_str()) && policy::variables::is_name(name))
        .chain(ours.iter().cloned())
        .collect()
}

fn today() -> String {
    jiff::Zoned::now().strftime("%Y-%m-%d").to_string()
}

fn platform() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let name = name.map_or("Linux", |name| name.trim_matches('"'));
    format!("{name}, {}", std::env::consts::ARCH)
}

/// The branch that is checked out, as git's own files say it.
pub(crate) fn branch(folder: &Path) -> Option<String> {
    let git = folder.ancestors().map(|folder| folder.join(".git")).find(|git| git.exists())?;
    let folder = match std::fs::read_to_string(&git) {
        // A worktree or a submodule says where its own is.
        Ok(text) => git.parent()?.join(text.strip_prefix("gitdir: ")?.trim()),
        Err(_) => git,
    };
    let head = std::fs::read_to_string(folder.join("HEAD")).ok()?;
    Some(match head.trim().strip_prefix("ref: refs/heads/") {
        Some(branch) => branch.to_owned(),
        None => head.trim().chars().take(12).collect(),
    })
}

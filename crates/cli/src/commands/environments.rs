//! `patchyard environments …` and `patchyard remote-env`.

use std::process::ExitCode;

use client::Client;
use protocol::environment::{
    EditEnvironment, Environment, EnvironmentSettings, NetworkLevel, SetupTestState, TestSetup,
};
use protocol::network::{Rendering, TestNetwork};
use protocol::sandbox_spec::{TierRequest, Unenforced};
use ulid::Ulid;

use super::remote::send_repository;
use super::secrets;
use crate::args::Global;
use crate::args::environments::{Create, Edit, EnvironmentsCommand, Given, Level, UnenforcedName, text_of};
use crate::connection::connect;
use crate::error::Failure;
use crate::output::{from_elsewhere, in_line, json, line, note, plain};
use crate::sizes::shown;

pub(crate) async fn run(global: &Global, command: EnvironmentsCommand) -> Result<ExitCode, Failure> {
    let client = connect(global)?;
    match command {
        EnvironmentsCommand::List { archived, json: as_json } => list(&client, archived, as_json).await?,
        EnvironmentsCommand::Show { environment, json: as_json } => {
            let found = find(&client, &environment).await?;
            print(&found, as_json);
        }
        EnvironmentsCommand::Create(create) => make(&client, create).await?,
        EnvironmentsCommand::Edit(edit) => change(&client, edit).await?,
        EnvironmentsCommand::Archive { environment, undo } => {
            let found = find(&client, &environment).await?;
            client.archive_environment(found.id, !undo).await?;
            line(&format!("{} {}", if undo { "brought back" } else { "archived" }, named(&found)));
        }
        EnvironmentsCommand::Default { environment } => make_default(&client, &environment).await?,
        EnvironmentsCommand::TestSetup { environment, repo, branch, setup_script, json: as_json } => {
            let repository = match &repo {
                Some(repo) => Some(send_repository(&client, repo, branch.as_deref()).await?),
                None => None,
            };
            let found = find(&client, &environment).await?;
            let settings = match setup_script {
                Some(path) => {
                    Some(EnvironmentSettings { setup_script: text_of(&path)?, ..found.settings.clone() })
                }
                None => None,
            };
            return test_setup(&client, &found, TestSetup { settings, repository }, as_json).await;
        }
        EnvironmentsCommand::NetworkTest { asked, json: as_json } => {
            return test_network(&client, &asked, as_json).await;
        }
        EnvironmentsCommand::Secret(command) => secrets::run(&client, command).await?,
        EnvironmentsCommand::Refresh { environment } => {
            let found = find(&client, &environment).await?;
            client.refresh_environment(found.id).await?;
            line(&format!("the next sessions in {} run their setup anew", named(&found)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `patchyard remote-env [NAME]`.
pub(crate) async fn remote_env(global: &Global, name: Option<String>) -> Result<ExitCode, Failure> {
    let client = connect(global)?;
    match name {
        Some(name) => make_default(&client, &name).await?,
        None => list(&client, false, false).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// By id, or by name: among the archived ones last.
pub(crate) async fn find(client: &Client, wanted: &str) -> Result<Environment, Failure> {
    let mut known = Vec::new();
    for archived in [false, true] {
        for environment in client.environments(archived).await?.environments {
            let name = &environment.settings.name;
            if environment.id.to_string() == wanted || name.eq_ignore_ascii_case(wanted) {
                return Ok(environment);
            }
            if !archived {
                known.push(plain(name));
            }
        }
    }
    Err(Failure::Failed(format!("there is no environment `{wanted}`; this server has {}", known.join(", "))))
}

pub(crate) fn named(environment: &Environment) -> String {
    in_line(&environment.settings.name, 120)
}

async fn list(client: &Client, archived: bool, as_json: bool) -> Result<(), Failure> {
    let environments = client.environments(archived).await?.environments;
    if as_json {
        json(&environments);
        return Ok(());
    }
    for environment in &environments {
        let settings = &environment.settings;
        line(&format!(
            "{}  {} {:<20} {:<12} {:<8} {}",
            environment.id,
            if environment.default { "*" } else { " " },
            named(environment),
            in_line(&settings.image, 120),
            settings.network.name(),
            if settings.setup_script.trim().is_empty() { "" } else { "setup script" },
        ));
    }
    note("* is the default");
    Ok(())
}

fn print(environment: &Environment, as_json: bool) {
    if as_json {
        json(environment);
        return;
    }
    let settings = &environment.settings;
    let limits = &settings.limits;
    line(&named(environment));
    line(&format!("id        {}", environment.id));
    let state = match (environment.archived, environment.default) {
        (true, _) => "archived",
        (false, true) => "default",
        (false, false) => "in use",
    };
    line(&format!("state     {state}, revision {}", environment.revision));
    line(&format!("image     {}", in_line(&settings.image, 120)));
    line(&format!("network   {}", level(&settings.network)));
    if settings.rendering == Rendering::Strict {
        line("          strictly: where anyone can write, the included list is for reading only");
    }
    line(&format!("tier      {}", tier(settings.tier)));
    line(&format!(
        "limits    {} memory, {} cores, {} processes, {} disk, {} open files",
        shown(limits.memory_bytes),
        f64::from(limits.cpu_millis) / 1000.0,
        limits.pids,
        shown(limits.disk_bytes),
        limits.open_files
    ));
    let told = if settings.unenforced == Unenforced::Refuse { "refused" } else { "told" };
    line(&format!("          a limit that cannot be enforced is {told}"));
    line(&format!("nested    {}", if settings.nested_containers { "containers allowed" } else { "no" }));
    block("variables", &settings.variables);
    secrets::print(settings);
    block("setup", &settings.setup_script);
    line(&format!("keeps     {}", if settings.cache_setup { "what setups leave" } else { "nothing" }));
    for cache in &environment.caches {
        line(&format!(
            "          {} at {:.10}: {}, took {} ms, built {}{}",
            in_line(&cache.repository, 120),
            in_line(&cache.commit, 120),
            shown(cache.bytes),
            cache.duration_ms,
            cache.created_at.strftime("%Y-%m-%d %H:%M"),
            cache.used_at.map(|at| format!(", used {}", at.strftime("%Y-%m-%d %H:%M"))).unwrap_or_default()
        ));
    }
    warn(environment);
}

fn block(name: &str, text: &str) {
    if text.trim().is_empty() {
        line(&format!("{name:<9} none"));
        return;
    }
    line(name);
    text.lines().for_each(|text| line(&format!("          {}", plain(text))));
}

fn level(level: &NetworkLevel) -> String {
    match level {
        NetworkLevel::Custom { domains, include_default } => {
            let more = if *include_default { " and the included list" } else { "" };
            format!("custom: {}{more}", plain(&domains.join(", ")))
        }
        other => other.name().to_owned(),
    }
}

fn tier(request: TierRequest) -> String {
    match request {
        TierRequest::AtLeast(tier) => format!("{tier} or stronger"),
        TierRequest::Exactly(tier) => tier.to_string(),
    }
}

pub(crate) fn warn(environment: &Environment) {
    environment.warnings.iter().for_each(|warning| note(&plain(&format!("! {warning}"))));
}

async fn make(client: &Client, create: Create) -> Result<(), Failure> {
    let mut settings = EnvironmentSettings::named(create.name);
    apply(&mut settings, create.given)?;
    let made = client.create_environment(&settings, &Ulid::generate().to_string()).await?;
    done(&made, "made", create.json);
    Ok(())
}

async fn change(client: &Client, edit: Edit) -> Result<(), Failure> {
    let found = find(client, &edit.environment).await?;
    let mut settings = found.settings.clone();
    if let Some(name) = edit.name {
        settings.name = name;
    }
    apply(&mut settings, edit.given)?;
    let edit_of = EditEnvironment { revision: found.revision, settings };
    let edited = client.edit_environment(found.id, &edit_of).await?;
    done(&edited, "changed", edit.json);
    Ok(())
}

fn done(environment: &Environment, what: &str, as_json: bool) {
    if as_json {
        return json(environment);
    }
    line(&format!("{what} {} ({})", named(environment), environment.id));
    warn(environment);
}

/// Takes what was given over into the settings.
fn apply(settings: &mut EnvironmentSettings, given: Given) -> Result<(), Failure> {
    if let Some(image) = given.image {
        settings.image = image;
    }
    network(&mut settings.network, given.network, given.domains, given.include_default)?;
    settings.rendering = given.rendering.map_or(settings.rendering, Into::into);
    if let Some(path) = &given.variables_file {
        settings.variables = text_of(path)?;
    }
    if let Some(path) = &given.setup_script {
        settings.setup_script = text_of(path)?;
    }
    let limits = &mut settings.limits;
    limits.memory_bytes = given.memory.map_or(limits.memory_bytes, |bytes| bytes.0);
    limits.cpu_millis = given.cpus.map_or(limits.cpu_millis, |cores| cores.0);
    limits.pids = given.pids.unwrap_or(limits.pids);
    limits.disk_bytes = given.disk.map_or(limits.disk_bytes, |bytes| bytes.0);
    limits.open_files = given.open_files.unwrap_or(limits.open_files);
    match (given.tier, given.at_least) {
        (Some(tier), _) => settings.tier = TierRequest::Exactly(tier.into()),
        (None, Some(tier)) => settings.tier = TierRequest::AtLeast(tier.into()),
        (None, None) => {}
    }
    match given.unenforced {
        Some(UnenforcedName::Refuse) => settings.unenforced = Unenforced::Refuse,
        Some(UnenforcedName::Tell) => settings.unenforced = Unenforced::Tell,
        None => {}
    }
    settings.nested_containers = given.nested_containers.unwrap_or(settings.nested_containers);
    settings.cache_setup = (settings.cache_setup || given.cache) && !given.no_cache;
    Ok(())
}

fn network(
    now: &mut NetworkLevel,
    given: Option<Level>,
    domains: Vec<String>,
    include_default: bool,
) -> Result<(), Failure> {
    let custom = !domains.is_empty() || include_default;
    *now = match given {
        None if !custom => return Ok(()),
        Some(Level::Custom) | None => NetworkLevel::Custom { domains, include_default },
        Some(_) if custom => {
            return Err(Failure::Usage("--domain and --include-default are for --network custom".into()));
        }
        Some(Level::None) => NetworkLevel::None {},
        Some(Level::Trusted) => NetworkLevel::Trusted {},
        Some(Level::Full) => NetworkLevel::Full {},
    };
    Ok(())
}

async fn make_default(client: &Client, wanted: &str) -> Result<(), Failure> {
    let found = find(client, wanted).await?;
    client.make_default_environment(found.id).await?;
    line(&format!("tasks that name no environment work in {} now", named(&found)));
    Ok(())
}

/// What is asked of `network-test`: the environment, or none for the default one, and the host.
async fn test_network(client: &Client, asked: &[String], as_json: bool) -> Result<ExitCode, Failure> {
    let (environment, target) = match asked {
        [environment, target] => (find(client, environment).await?, target),
        [target] => (default(client).await?, target),
        _ => return Err(Failure::Usage("name an environment and a host, or a host alone".into())),
    };
    let test = TestNetwork { target: target.clone(), network: None, rendering: None };
    let answer = client.test_network(environment.id, &test).await?;
    if as_json {
        json(&answer);
    } else {
        line(&plain(&format!("{}: {}", named(&environment), answer.message)));
    }
    Ok(if answer.allowed { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn default(client: &Client) -> Result<Environment, Failure> {
    let known = client.environments(false).await?.environments;
    let default = known.into_iter().find(|environment| environment.default);
    default.ok_or_else(|| Failure::Failed("this server has no default environment; name one".into()))
}

/// Shows what the script prints as it comes. An interrupt stops the test on the server, too.
async fn test_setup(
    client: &Client,
    environment: &Environment,
    test: TestSetup,
    as_json: bool,
) -> Result<ExitCode, Failure> {
    let mut shown = client.test_setup(environment.id, &test).await?;
    let (id, mut message, mut output) = (shown.id, String::new(), String::new());
    loop {
        if as_json {
            output.push_str(&shown.output);
        } else {
            from_elsewhere(shown.output.as_bytes());
        }
        if shown.state.is_over() {
            break;
        }
        if shown.message != message {
            message.clone_from(&shown.message);
            note(&plain(&format!("… {message}")));
        }
        shown = tokio::select! {
            next = client.setup_test(id, shown.next) => next?,
            _ = tokio::signal::ctrl_c() => {
                client.stop_setup_test(id).await?;
                return Err(Failure::Failed("the setup test was stopped".into()));
            }
        };
    }
    let passed = shown.state == SetupTestState::Passed;
    if as_json {
        shown.output = output;
        json(&shown);
    } else {
        note(&plain(&format!(
            "{} {} ({} ms)",
            if passed { "✓" } else { "✗" },
            shown.message,
            shown.duration_ms
        )));
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

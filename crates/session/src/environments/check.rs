//! What an environment may be. Pure.

use policy::host::Authority;
use policy::pattern::Pattern;
use policy::variables;
use std::collections::BTreeSet;

use protocol::environment::{
    EnvironmentSettings, MAX_DOMAINS, MAX_ENVIRONMENT_NAME, MAX_SETUP_SCRIPT_BYTES, MAX_VARIABLES_BYTES,
    NetworkLevel,
};
use protocol::sandbox_host::TierReport;
use protocol::sandbox_spec::{Limits, Tier, TierRequest};
use protocol::secret::{MAX_SECRETS, SecretBinding};

use super::EnvironmentError;

const MIB: u64 = 1024 * 1024;

/// Name, least, most, and the value of each limit.
fn limits(limits: &Limits) -> [(&'static str, u64, u64, u64); 5] {
    [
        ("memory_bytes", 64 * MIB, 1 << 44, limits.memory_bytes),
        ("cpu_millis", 50, 1_024_000, limits.cpu_millis.into()),
        ("pids", 16, 4_194_304, limits.pids.into()),
        ("disk_bytes", 64 * MIB, 1 << 46, limits.disk_bytes),
        ("open_files", 64, 1 << 30, limits.open_files),
    ]
}

/// The settings as they are kept, or why they are refused.
pub(super) fn settings(mut settings: EnvironmentSettings) -> Result<EnvironmentSettings, EnvironmentError> {
    settings.name = settings.name.trim().to_owned();
    let length = settings.name.chars().count();
    if !(1..=MAX_ENVIRONMENT_NAME).contains(&length) || settings.name.chars().any(char::is_control) {
        return Err(EnvironmentError::Name);
    }
    for (what, given, allowed) in [
        ("variables' text", settings.variables.len(), MAX_VARIABLES_BYTES),
        ("setup script", settings.setup_script.len(), MAX_SETUP_SCRIPT_BYTES),
    ] {
        if given > allowed {
            return Err(EnvironmentError::TooLong { what, given, allowed });
        }
    }
    variables::parse(&settings.variables)?;
    if settings.setup_script.contains('\0') {
        return Err(EnvironmentError::Script);
    }
    if let NetworkLevel::Custom { domains: given, .. } = &mut settings.network {
        if given.len() > MAX_DOMAINS {
            return Err(EnvironmentError::TooManyDomains(given.len()));
        }
        let read = given.iter().map(|pattern| Ok(Pattern::parse(pattern.trim())?.to_string()));
        *given = read.collect::<Result<_, EnvironmentError>>()?;
    }
    secrets(&settings)?;
    for (name, least, most, value) in limits(&settings.limits) {
        if !(least..=most).contains(&value) {
            return Err(EnvironmentError::Limit { name, least, most });
        }
    }
    Ok(settings)
}

fn secrets(settings: &EnvironmentSettings) -> Result<(), EnvironmentError> {
    if settings.secrets.len() > MAX_SECRETS {
        return Err(EnvironmentError::TooManySecrets(settings.secrets.len()));
    }
    let pairs = variables::parse(&settings.variables)?.pairs;
    let mut names: BTreeSet<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    for secret in &settings.secrets {
        secret_binding(secret, names.insert(&secret.name)).map_err(|why| EnvironmentError::Secret {
            name: secret.name.chars().filter(|c| !c.is_control()).take(40).collect(),
            why,
        })?;
    }
    Ok(())
}

fn secret_binding(secret: &SecretBinding, is_first: bool) -> Result<(), String> {
    if !variables::is_name(&secret.name) || variables::is_ours(&secret.name) {
        return Err("needs a name that a variable can have, and that is not one of patchyard's".into());
    }
    if !is_first {
        return Err("has the name of another secret or variable".into());
    }
    if secret.hosts.is_empty() {
        return Err("is bound to no host; name each host that may get it".into());
    }
    for host in &secret.hosts {
        Authority::parse(host.as_bytes())
            .map_err(|error| format!("is bound to `{}`, which is no host: {error}", shown(host)))?;
    }
    let is_token = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase());
    if let Some(method) = secret.methods.iter().find(|method| !is_token(method)) {
        return Err(format!("is bound to `{}`, which is no method; write GET, POST, …", shown(method)));
    }
    let is_path = |text: &String| {
        text.starts_with('/')
            && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"%\\;?#".contains(&byte))
            && !text.split('/').any(|part| part == "." || part == "..")
    };
    match secret.paths.iter().find(|path| !is_path(path)) {
        Some(path) => Err(format!(
            "is bound to `{}`, which is no plain path; begin with / and write no `..`, query or escape",
            shown(path)
        )),
        None => Ok(()),
    }
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// What is allowed but worth a second look.
pub(super) fn warnings(settings: &EnvironmentSettings) -> Vec<String> {
    let mut warnings = variables::parse(&settings.variables).map(|read| read.warnings).unwrap_or_default();
    let online = !matches!(settings.network, NetworkLevel::None {});
    if online && !settings.tier.accepts(Tier::Container) {
        warnings.push(format!(
            "in other tiers than `container` the network level `{}` is reached by the proxy variables only: what \
             does not know of them is offline, and names are not answered inside",
            settings.network.name(),
        ));
    }
    if let NetworkLevel::Custom { domains, .. } = &settings.network {
        let read =
            domains.iter().filter_map(|domain| Some((domain, Pattern::parse(domain).ok()?.caution()?)));
        warnings.extend(read.map(|(domain, caution)| format!("the domain `{domain}` {caution}")));
    }
    warnings
}

/// Whether a tier that will do can be had. A host that gives none at all is not refused here: there the
/// session fails, with the host's own words.
pub(super) fn tier(wanted: TierRequest, tiers: &[TierReport]) -> Result<(), EnvironmentError> {
    let will_do: Vec<&TierReport> = tiers.iter().filter(|report| wanted.accepts(report.tier)).collect();
    let none_at_all = tiers.iter().all(|report| report.runtime.is_none());
    if none_at_all || will_do.iter().any(|report| report.runtime.is_some()) {
        return Ok(());
    }
    let why: Vec<String> = will_do
        .iter()
        .filter_map(|report| Some(format!("{}: {}", report.tier, report.why_not.as_ref()?)))
        .collect();
    let why = if why.is_empty() { "this server knows of none".to_owned() } else { why.join("; ") };
    Err(EnvironmentError::NoTier { wanted: words(wanted), why })
}

fn words(wanted: TierRequest) -> String {
    match wanted {
        TierRequest::AtLeast(Tier::Vm) | TierRequest::Exactly(Tier::Vm) => "`vm`".into(),
        TierRequest::AtLeast(tier) => format!("`{tier}` or stronger"),
        TierRequest::Exactly(tier) => format!("`{tier}`"),
    }
}

/// The names of the settings that differ.
pub(super) fn differences(now: &EnvironmentSettings, sent: &EnvironmentSettings) -> String {
    let (now, sent) = (serde_json::json!(now), serde_json::json!(sent));
    let names: BTreeSet<&str> = now
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| sent.get(name.as_str()) != Some(*value))
        .map(|(name, _)| name.as_str())
        .collect();
    if names.is_empty() { "nothing".into() } else { Vec::from_iter(names).join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut EnvironmentSettings)) -> Result<EnvironmentSettings, EnvironmentError> {
        let mut given = EnvironmentSettings::named(" work ");
        change(&mut given);
        settings(given)
    }

    #[test]
    fn settings_are_kept_clean_or_refused_with_the_reason() {
        assert_eq!(with(|_| {}).unwrap().name, "work");
        let custom = |domains: &[&str]| NetworkLevel::Custom {
            domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            include_default: true,
        };
        let kept = with(|given| given.network = custom(&[" *.Example.org ", "git.Example.org.:22"])).unwrap();
        assert_eq!(kept.network, custom(&["*.example.org", "git.example.org:22"]));
        assert!(with(|given| given.name = "x".repeat(61)).is_err());
        assert!(with(|given| given.name = " \n".into()).is_err());
        assert!(with(|given| given.variables = "A".into()).is_err());
        assert!(with(|given| given.setup_script = "\0".into()).is_err());
        assert!(with(|given| given.network = custom(&["*.org"])).is_err());
        assert!(with(|given| given.limits.memory_bytes = 1).is_err());
        assert!(with(|given| given.limits.pids = 4).is_err());
        assert!(with(|given| given.setup_script = "x".repeat(MAX_SETUP_SCRIPT_BYTES + 1)).is_err());
    }

    #[test]
    fn domains_that_are_closed_or_of_many_owners_are_told() {
        let domains = ["example.org", "localhost", "10.1.2.3:80", "*.netlify.app", "*.corp.internal"];
        let custom = NetworkLevel::Custom { domains: domains.map(Into::into).into(), include_default: false };
        let told = warnings(&EnvironmentSettings { network: custom, ..EnvironmentSettings::named("work") });
        assert!(!told.iter().any(|text| text.contains("`example.org`")), "{told:?}");
        for (domain, words) in [
            ("localhost", "closed at every level"),
            ("10.1.2.3:80", "closed at every level"),
            ("*.corp.internal", "closed at every level"),
            ("*.netlify.app", "everybody who is a customer"),
        ] {
            let wanted = |text: &String| text.contains(&format!("`{domain}`")) && text.contains(words);
            assert!(told.iter().any(wanted), "{domain}: {told:?}");
        }
    }

    #[test]
    fn a_tier_is_had_when_one_that_will_do_has_a_runtime() {
        let report = |tier, runtime: Option<&str>| TierReport {
            tier,
            runtime: runtime.map(ToOwned::to_owned),
            why_not: runtime.is_none().then(|| "not installed".to_owned()),
            lacks: Vec::new(),
            start_ms: Vec::new(),
        };
        let tiers =
            [report(Tier::Container, Some("crun")), report(Tier::Gvisor, None), report(Tier::Vm, None)];
        assert!(tier(TierRequest::AtLeast(Tier::Container), &tiers).is_ok());
        let refused = tier(TierRequest::AtLeast(Tier::Gvisor), &tiers).unwrap_err().to_string();
        assert!(refused.contains("`gvisor` or stronger") && refused.contains("not installed"), "{refused}");
        assert!(tier(TierRequest::Exactly(Tier::Vm), &tiers).is_err());
        assert!(tier(TierRequest::Exactly(Tier::Vm), &[]).is_ok());
    }

    #[test]
    fn what_differs_is_named() {
        let now = EnvironmentSettings::named("work");
        let mut sent = now.clone();
        sent.setup_script = "true".into();
        sent.limits.pids = 99;
        assert_eq!(differences(&now, &sent), "limits, setup_script");
        assert_eq!(differences(&now, &now), "nothing");
    }
}

//! The variables of the command: the caller's, but for what leads to credentials.

use std::env;
use std::ffi::OsString;
use std::path::Path;

use policy::local::{Hidden, LocalPolicy, UnixSockets};
use policy::variables::of_the_proxy;

/// Variables that name a socket of somebody who would act for the caller.
const SOCKETS: &[&str] = &[
    "SSH_AUTH_SOCK",
    "GPG_AGENT_INFO",
    "DBUS_SESSION_BUS_ADDRESS",
    "DBUS_SYSTEM_BUS_ADDRESS",
    "DOCKER_HOST",
    "CONTAINER_HOST",
    "WAYLAND_DISPLAY",
    "TMUX",
];

/// What a masked variable holds: there, but of no use.
const MASK: &str = "masked-by-patchyard-sandbox";

pub(crate) fn environment(policy: &LocalPolicy, temporary: &Path) -> Vec<(OsString, OsString)> {
    let mut variables = Vec::new();
    for (name, value) in env::vars_os() {
        let known = name.to_string_lossy();
        if policy.unix_sockets == UnixSockets::None && SOCKETS.contains(&known.as_ref()) {
            continue;
        }
        match policy.hides(&known) {
            Some(Hidden::Deny) => {}
            Some(Hidden::Mask) => variables.push((name, MASK.into())),
            None => variables.push((name, value)),
        }
    }
    variables.retain(|(name, _)| !["TMPDIR", "TMP", "TEMP", "SANDBOX_RUNTIME"].iter().any(|own| name == own));
    for name in ["TMPDIR", "TMP", "TEMP"] {
        variables.push((name.into(), temporary.into()));
    }
    variables.push(("SANDBOX_RUNTIME".into(), "1".into()));
    // The caller's own proxies are not within reach.
    let proxy = of_the_proxy();
    variables.retain(|(name, _)| !proxy.iter().any(|(own, _)| name == own.as_str()));
    variables.extend(proxy.into_iter().map(|(name, value)| (name.into(), value.into())));
    variables
}

use std::collections::HashSet;

use protocol::sandbox_spec::Limits;
use serde_json::Value;

use super::seccomp::{ALLOWED, REFUSED, names, profile};
use super::*;

fn spec() -> BundleSpec {
    BundleSpec {
        root: "/r".into(),
        root_read_only: false,
        argv: vec!["/init".into()],
        ids: IdRange { base: 600_000_000, size: 65_536 },
        group: Some(Group::whole("/patchyard/sbx_1".into())),
        limits: Limits {
            memory_bytes: 1_000_000,
            cpu_millis: 1_500,
            pids: 7,
            disk_bytes: 1_000_000_000,
            open_files: 1_024,
        },
        unified_cgroups: false,
        nested: false,
        environment: Vec::new(),
        errors: Errors::Named,
        binds: vec![
            Bind { source: "/s".into(), destination: "/d".into(), access: Access::Read },
            Bind { source: "/b".into(), destination: "/e".into(), access: Access::Run },
        ],
    }
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

#[test]
fn without_groups_processes_are_limited_by_user() {
    let kinds = |spec: &BundleSpec| {
        let config = config(spec);
        let rlimits = config["process"]["rlimits"].as_array().unwrap().clone();
        let limit = rlimits.into_iter().find(|limit| limit["type"] == "RLIMIT_NPROC");
        (config["linux"]["resources"].is_object(), limit.map(|limit| limit["hard"].as_u64().unwrap()))
    };
    assert_eq!(kinds(&spec()), (true, None));
    assert_eq!(kinds(&BundleSpec { group: None, ..spec() }), (false, Some(7)));
    let some = Group { pids: false, cpu: false, devices: false, ..Group::whole("/a".into()) }.below("b");
    let some = BundleSpec { group: Some(some), ..spec() };
    assert_eq!(kinds(&some), (true, Some(7)));
    let linux = config(&some)["linux"].clone();
    let resources: Vec<&str> = linux["resources"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!((linux["cgroupsPath"].as_str(), resources), (Some("/a/b"), vec!["memory"]));
}

#[test]
fn every_namespace_is_new_and_root_is_nobody_outside() {
    let config = config(&spec());
    let kinds: Vec<&str> = config["linux"]["namespaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|namespace| {
            assert!(namespace.get("path").is_none());
            namespace["type"].as_str().unwrap()
        })
        .collect();
    assert_eq!(kinds, ["user", "mount", "pid", "network", "ipc", "uts", "cgroup"]);
    for mappings in ["uidMappings", "gidMappings"] {
        let mapping = &config["linux"][mappings][0];
        assert_eq!(
            (&mapping["containerID"], &mapping["hostID"], &mapping["size"]),
            (&0.into(), &600_000_000.into(), &65_536.into())
        );
    }
}

#[test]
fn limits_are_written_with_swap_included() {
    let resources = &config(&spec())["linux"]["resources"];
    assert_eq!(resources["memory"]["limit"], 1_000_000);
    assert_eq!(resources["memory"]["swap"], 1_000_000);
    assert_eq!(resources["memory"]["reservation"], 900_000);
    assert_eq!(resources["pids"]["limit"], 7);
    assert_eq!(resources["cpu"]["quota"], 150_000);
    assert_eq!(resources["cpu"]["period"], 100_000);
}

#[test]
fn no_right_that_reaches_the_host_is_given() {
    for right in ["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_MKNOD", "CAP_SYS_MODULE", "CAP_BPF"] {
        assert!(!capabilities().contains(&right), "{right}");
    }
    let config = config(&spec());
    assert_eq!(strings(&config["process"]["capabilities"]["ambient"]), [""; 0]);
    assert_eq!(strings(&config["process"]["capabilities"]["inheritable"]), [""; 0]);
}

#[test]
fn every_bind_is_read_only_and_nosuid_and_nodev() {
    let config = config(&spec());
    let binds: Vec<&Value> =
        config["mounts"].as_array().unwrap().iter().filter(|mount| mount["type"] == "bind").collect();
    assert_eq!(binds.len(), 2);
    for (bind, executable) in binds.iter().zip([false, true]) {
        let options = strings(&bind["options"]);
        for option in ["bind", "ro", "nosuid", "nodev"] {
            assert!(options.contains(&option), "{option}");
        }
        assert_eq!(options.contains(&"noexec"), !executable);
    }
}

#[test]
fn no_call_is_both_allowed_and_refused() {
    let mut seen = HashSet::new();
    let conditional = ["clone", "clone3", "unshare", "socket", "personality", "ioctl"];
    for call in names(ALLOWED).into_iter().chain(names(REFUSED)).chain(conditional) {
        assert!(seen.insert(call), "{call} is named twice");
    }
}

/// What the rules say of a call, by our own reading of them; `None` is the default.
fn outcomes(call: &str, arguments: [u64; 3]) -> HashSet<(String, Option<u64>)> {
    let matches = |argument: &Value| {
        let given = arguments[usize::try_from(argument["index"].as_u64().unwrap()).unwrap()];
        let value = argument["value"].as_u64().unwrap();
        match argument["op"].as_str().unwrap() {
            "SCMP_CMP_EQ" => given == value,
            "SCMP_CMP_GT" => given > value,
            "SCMP_CMP_MASKED_EQ" => given & value == argument["valueTwo"].as_u64().unwrap(),
            other => panic!("{other}"),
        }
    };
    profile(Errors::Named, false)["syscalls"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|rule| strings(&rule["names"]).contains(&call))
        .filter(|rule| rule["args"].as_array().is_none_or(|arguments| arguments.iter().all(matches)))
        .map(|rule| (rule["action"].as_str().unwrap().to_owned(), rule["errnoRet"].as_u64()))
        .collect()
}

#[test]
fn arguments_decide_and_no_two_rules_disagree() {
    let allowed = HashSet::from([("SCMP_ACT_ALLOW".to_owned(), None)]);
    let refused = HashSet::from([("SCMP_ACT_ERRNO".to_owned(), Some(1))]);
    let no_family = HashSet::from([("SCMP_ACT_ERRNO".to_owned(), Some(97))]);
    let no_protocol = HashSet::from([("SCMP_ACT_ERRNO".to_owned(), Some(93))]);
    let default = HashSet::new();
    let upper = 1_u64 << 32;
    let cases = [
        ("clone", [0x0100_0011, 0, 0], &allowed),
        ("clone", [0x1000_0011, 0, 0], &refused),
        ("clone", [0x7e02_0011, 0, 0], &refused),
        ("unshare", [0x200, 0, 0], &allowed),
        ("unshare", [0x80, 0, 0], &refused),
        ("unshare", [0x4000_0000, 0, 0], &refused),
        ("socket", [1, 1, 0], &allowed),
        ("socket", [2, 3, 0], &allowed),
        ("socket", [16, 3, 0], &allowed),
        ("socket", [16, 3, 12], &no_protocol),
        ("socket", [16, 3, upper], &no_protocol),
        ("socket", [0, 1, 0], &no_family),
        ("socket", [15, 3, 2], &no_family),
        ("socket", [38, 5, 0], &no_family),
        ("socket", [upper | 38, 5, 0], &no_family),
        ("socket", [upper | 2, 1, 0], &no_family),
        ("personality", [0x4_0000, 0, 0], &allowed),
        ("personality", [0x40_0000, 0, 0], &default),
        ("ioctl", [0, 0x5412, 0], &refused),
        ("ioctl", [0, upper | 0x5412, 0], &refused),
        ("ioctl", [0, 0x541c, 0], &refused),
        ("ioctl", [0, 0x5413, 0], &allowed),
        ("ioctl", [0, 0x5401, 0], &allowed),
        ("ioctl", [0, 0x8000_5412, 0], &allowed),
        ("ioctl", [0, upper | 0x5413, 0], &allowed),
    ];
    for (call, arguments, expected) in cases {
        assert_eq!(&outcomes(call, arguments), expected, "{call} {arguments:x?}");
    }
    for request in 0x53f0..0x5430 {
        assert_eq!(outcomes("ioctl", [0, request, 0]).len(), 1, "{request:x}");
    }
}

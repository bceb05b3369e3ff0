//! What an ordinary user lacks is told, with the way to get it.

use serde_json::Value;

use crate::inside::{dir, patchyard, said};
use crate::outside::{Given, USUAL, as_ordinary_user};

/// What `doctor --json` says of these names.
fn doctor() -> impl Fn(&str) -> (bool, String) {
    let output = patchyard(&["doctor", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"].as_bool().unwrap(), output.status.success());
    move |name| {
        let checks = report["checks"].as_array().unwrap();
        let check =
            checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name}: {report}"));
        (check["ok"].as_bool().unwrap(), check["note"].as_str().unwrap().to_owned())
    }
}

/// The sandboxes cannot be made, for these reasons.
fn lacks(words: &[&str]) {
    let (ok, note) = doctor()("sandboxes");
    assert!(!ok && words.iter().all(|word| note.contains(word)), "{note}");
    let refused = patchyard(&["image", "import", "x", dir().join("slim.tar").to_str().unwrap()]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.iter().all(|word| told.contains(word)), "{told}");
    said(&["image", "list"]);
}

#[test]
fn doctor_says_what_an_ordinary_user_has() {
    as_ordinary_user("wanting::inner_doctor", Given::ids(2 * USUAL));
}

#[test]
fn doctor_says_which_ids_are_missing() {
    as_ordinary_user("wanting::inner_no_ids", Given::ids(0));
}

#[test]
fn doctor_says_when_the_ids_are_too_few() {
    as_ordinary_user("wanting::inner_few_ids", Given::ids(1_000));
}

#[test]
fn doctor_says_which_program_is_missing() {
    // The folder of programs without this one.
    let before = "mkdir $ETC/none; mount -t tmpfs none $ETC/none; mkdir $ETC/none/upper $ETC/none/work; \
                  mknod $ETC/none/upper/newuidmap c 0 0; \
                  mount -t overlay x -o lowerdir=/usr/bin,upperdir=$ETC/none/upper,workdir=$ETC/none/work /usr/bin";
    as_ordinary_user("wanting::inner_no_program", Given { before, ..Given::ids(USUAL) });
}

#[test]
fn doctor_says_that_an_id_without_account_can_be_given_nothing() {
    as_ordinary_user("wanting::inner_no_account", Given { account: false, ..Given::ids(USUAL) });
}

#[test]
#[ignore = "run by its outer half as an ordinary user"]
fn inner_doctor() {
    let of = doctor();
    for name in ["crun", "runsc", "tier container", "tier gvisor", "sandboxes"] {
        assert!(of(name).0, "{name}: {}", of(name).1);
    }
    let (ok, note) = of("limit ids");
    assert!(ok && note.contains("2 sandboxes at a time") && note.contains("usermod --add-subuids"), "{note}");
    for (name, words) in [("limit memory", "delegate"), ("limit disk", "started as root")] {
        let (ok, note) = of(name);
        assert!(!ok && note.contains(words), "{name}: {note}");
    }
    let build = patchyard(&["image", "build", "x", "/nonexistent"]);
    assert!(String::from_utf8_lossy(&build.stderr).contains("take root of the machine; run this with sudo"));
    let (ok, note) = of("images");
    assert!(!ok && note.contains("image import"), "{note}");
}

#[test]
#[ignore = "run by its outer half as an ordinary user"]
fn inner_no_ids() {
    lacks(&[
        "/etc/subuid gives `ordinary` no ids",
        "/etc/subgid gives",
        "usermod --add-subuids",
        "start it as root",
    ]);
}

#[test]
#[ignore = "run by its outer half as an ordinary user"]
fn inner_few_ids() {
    lacks(&["`ordinary` was given too few ids", "takes 65536", "usermod --add-subuids"]);
}

#[test]
#[ignore = "run by its outer half as an ordinary user"]
fn inner_no_program() {
    lacks(&["newuidmap is not installed", "apt-get install uidmap"]);
}

#[test]
#[ignore = "run by its outer half as an ordinary user"]
fn inner_no_account() {
    lacks(&["has no account"]);
}

//! What may be written and read.

use serde_json::json;

use crate::world::{World, everybody};

#[test]
fn a_command_writes_below_the_working_directory_and_in_its_tmpdir_only() {
    for who in everybody() {
        let world = World::new(who);
        let said = world.inside(
            "echo in > file && mkdir -p sub && echo in > sub/new && echo in > $TMPDIR/t && cat $TMPDIR/t; \
             echo out > ../outside/file; echo out > ../home/new; echo out > /tmp/patchyard-no; \
             touch ../outside; rm ../outside/file; echo $TMPDIR",
        );
        assert!(said.success(), "{who:?}: {}", said.err());
        assert_eq!(world.read("project/file"), "in\n");
        assert_eq!(world.read("project/sub/new"), "in\n");
        assert_eq!(world.read("outside/file"), "outside\n");
        assert!(!world.exists("home/new") && !std::path::Path::new("/tmp/patchyard-no").exists());
        let temporary = said.out().lines().last().unwrap().to_owned();
        assert!(
            temporary.contains("/patchyard-") && !std::path::Path::new(&temporary).exists(),
            "{temporary}"
        );
        // What it made is the caller's.
        assert!(world.outside("rm -r sub && echo mine > file").success());
        use std::os::unix::fs::MetadataExt as _;
        let owner = |below: &str| std::fs::metadata(world.path(below)).unwrap().uid();
        assert_eq!(owner("project/file"), owner("project"));
    }
}

#[test]
fn settings_open_and_close_paths() {
    for who in everybody() {
        let world = World::new(who);
        world.write("outside/secret/key", "key\n");
        world.write("outside/secret/open/readme", "open\n");
        world.write("project/deep/a/.env", "env\n");
        world.write("project/keep/file", "kept\n");
        world.write("outside/masked", "masked\n");
        let settings = json!({
            "permissions": { "deny": ["Read(.env)", "Edit(./keep/**)", "Edit(./never)"] },
            "sandbox": {
                "filesystem": {
                    "allowWrite": [world.path("outside")],
                    "denyRead": [world.path("outside/secret")],
                    "allowRead": [world.path("outside/secret/open")],
                },
                "credentials": { "files": [{ "path": world.path("outside/masked"), "mode": "mask" }] },
            },
        });
        let said = world.with(
            &settings,
            "cat ../outside/secret/key; cat deep/a/.env; cat ../outside/secret/open/readme; \
             cat ../outside/masked; cat ../outside/file; echo new > ../outside/new; \
             echo no > keep/file; mv keep gone; echo no > never; ls ../outside/secret; exit 0",
        );
        assert_eq!(said.out(), "open\noutside\nopen\n", "{who:?}: {}", said.err());
        assert_eq!(world.read("outside/new"), "new\n");
        assert_eq!(world.read("project/keep/file"), "kept\n");
        assert!(!world.exists("project/never") && !world.exists("project/gone"));
        // Without the settings all of it is there: what was seen above is the settings' doing.
        let said = world.inside("cat ../outside/secret/key deep/a/.env ../outside/masked");
        assert_eq!(said.out(), "key\nenv\nmasked\n");
    }
}

#[test]
fn a_working_directory_below_a_denied_path_has_to_be_opened() {
    for who in everybody() {
        let world = World::new(who);
        let root = world.path("");
        let mut filesystem = json!({ "denyRead": [root] });
        let said = world.with(&json!({ "sandbox": { "filesystem": filesystem } }), "cat file");
        assert_eq!(said.code(), Some(3), "{}", said.err());
        filesystem["allowRead"] = json!(["."]);
        let said =
            world.with(&json!({ "sandbox": { "filesystem": filesystem } }), "cat file; ls ..; echo x > new");
        assert_eq!(said.out(), "text\nproject\n", "{who:?}: {}", said.err());
        assert_eq!(world.read("project/new"), "x\n");
    }
}

#[test]
fn the_whole_machine_is_no_working_directory() {
    for who in everybody() {
        let world = World::new(who);
        for folder in ["/", "/proc", "/dev"] {
            let output = world.sandbox().current_dir(folder).args(["--", "true"]).output().unwrap();
            assert_eq!(output.status.code(), Some(3), "{folder}");
        }
    }
}

//! Whose settings count, and for how much.

use serde_json::json;

use crate::world::{World, everybody};

#[test]
fn the_usual_files_are_read_and_a_repository_loosens_nothing() {
    for who in everybody() {
        let world = World::new(who);
        world.write("outside/secret", "secret\n");
        let user = json!({ "sandbox": { "filesystem": {
            "denyRead": [world.path("outside/secret")], "allowWrite": [world.path("outside")] } } });
        world.write("home/.claude/settings.json", &user.to_string());
        let project = json!({
            "permissions": { "allow": ["Edit(~/**)", "Edit(//**)"] },
            "sandbox": {
                "enabled": false, "excludedCommands": ["*"], "enableWeakerNestedSandbox": true,
                "filesystem": { "disabled": true, "allowRead": [world.path("outside/secret")],
                                "allowWrite": [world.path("home")], "denyWrite": ["./file"] },
                "network": { "allowAllUnixSockets": true },
            },
        });
        world.write("project/.claude/settings.json", &project.to_string());
        world.write("project/.claude/settings.local.json", &project.to_string());
        let said = world.inside(
            "cat ../outside/secret; echo x > ../home/new; echo x > file; echo x > ../outside/new; \
             grep -c Seccomp /proc/self/status; exit 0",
        );
        assert_eq!(said.out().lines().count(), 1, "{who:?}: {}", said.out());
        assert!(!world.exists("home/new") && world.read("project/file") == "text\n");
        assert_eq!(world.read("outside/new"), "x\n", "the user's own settings open");
        for key in ["excludedCommands", "filesystem.disabled", "allowAllUnixSockets", "Edit(~/**)"] {
            assert!(said.err().contains(key), "{key} is told: {}", said.err());
        }
    }
}

#[test]
fn what_is_wrong_is_told_and_a_broken_file_stops() {
    for who in everybody() {
        let world = World::new(who);
        let said = world.with(
            &json!({ "sandbox": { "filesystem": { "denyRead": [7, world.path("outside/file")], "x": 1 },
                                  "network": { "allowedDomains": ["example.org", "a b"], "httpProxyPort": 0 } } }),
            "cat ../outside/file; exit 0",
        );
        assert_eq!(said.out(), "");
        for words in ["entry 1 is no text", "filesystem.x", "httpProxyPort", "`a b` is no domain"] {
            assert_eq!(said.err().matches(words).count(), 1, "{who:?}: {words}: {}", said.err());
        }
        world.write("project/.claude/settings.json", "{ broken");
        let said = world.inside("echo ran");
        assert_eq!((said.code(), said.out().as_str()), (Some(1), ""), "{}", said.err());
        assert_eq!(said.err().lines().count(), 1);
    }
}

#[test]
fn variables_are_kept_back() {
    for who in everybody() {
        let world = World::new(who);
        let settings = json!({ "sandbox": { "credentials": { "envVars": [
            { "name": "DENIED", "mode": "deny" }, { "name": "MASKED", "mode": "mask" } ] } } });
        world.write("home/given.json", &settings.to_string());
        let mut command = world.sandbox();
        command.envs([("DENIED", "s3cret"), ("MASKED", "s3cret"), ("KEPT", "kept")]);
        command.arg("--settings").arg(world.path("home/given.json"));
        command.args([
            "--",
            "sh",
            "-c",
            "echo $KEPT ${DENIED-unset} ${MASKED:+set} $SANDBOX_RUNTIME; \
            cat /proc/*/environ | tr '\\0' '\\n' | grep -c s3cret",
        ]);
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "kept unset set 1\n0\n", "{who:?}");
    }
}

#[test]
fn an_excluded_command_of_the_users_own_settings_runs_outside_and_says_so() {
    for who in everybody() {
        let world = World::new(who);
        let settings = json!({ "sandbox": { "excludedCommands": ["touch ../outside/*"] } });
        world.write("home/given.json", &settings.to_string());
        let mut command = world.sandbox();
        command.arg("--settings").arg(world.path("home/given.json")).args(["--", "touch", "../outside/new"]);
        let output = command.output().unwrap();
        assert!(world.exists("outside/new"), "{who:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("without a sandbox"));
    }
}

#[test]
fn guarding_files_can_be_switched_off_by_the_user_and_the_rest_holds() {
    for who in everybody() {
        let world = World::new(who);
        let settings = json!({ "sandbox": { "filesystem": { "disabled": true } } });
        let said = world.with(
            &settings,
            "echo x > ../outside/new; echo x > .mcp.json; tail -n +3 /proc/net/dev | cut -d: -f1; \
             : >> /proc/sys/kernel/core_pattern",
        );
        assert_eq!(said.out().trim(), "lo", "{who:?}: {}", said.err());
        assert!(!said.success() && world.exists("outside/new") && world.exists("project/.mcp.json"));
        assert!(said.err().contains("files are not guarded"));
    }
}

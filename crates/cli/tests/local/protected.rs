//! Files that other programs would run or trust later.

use std::os::unix::fs::symlink;
use std::process::Stdio;

use crate::world::{Who, World, everybody};

const ABSENT: &[&str] =
    &[".mcp.json", ".bashrc", ".zshrc", ".profile", ".gitconfig", ".gitmodules", ".ripgreprc"];

#[test]
fn what_is_protected_cannot_be_made_and_leaves_nothing_behind() {
    for who in everybody() {
        let world = World::new(who);
        let before = world.listing();
        let script: String = ABSENT
            .iter()
            .map(|name| {
                format!("echo x > {name}; ln -s file {name}; mv file {name}; cp file {name}; rm -f {name}; ")
            })
            .chain([".vscode", ".idea", ".claude"].map(|name| {
                format!("mkdir -p {name}/x; echo x > {name}/settings.json; rm -rf {name}; mv {name} other; ")
            }))
            .collect();
        let said = world
            .inside(&format!("{script} touch alive; git status --porcelain && git add -A && git status -s"));
        assert!(said.success(), "{who:?}: {}", said.err());
        // Git does not see placeholders.
        assert_eq!(said.out(), "?? alive\n?? file\nA  alive\nA  file\n");
        let mut expected = before.clone();
        expected.push("alive".into());
        expected.sort();
        assert_eq!(world.listing(), expected, "{who:?}");
        assert_eq!(world.read("project/file"), "text\n");
        assert_eq!(
            std::fs::read_dir(world.records())
                .unwrap()
                .filter(|e| {
                    let name = e.as_ref().unwrap().file_name();
                    let pid = name.to_string_lossy().strip_prefix("run-").map(str::to_owned);
                    pid.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
                })
                .count(),
            0
        );
    }
}

#[test]
fn what_is_protected_cannot_be_changed_renamed_or_replaced() {
    for who in everybody() {
        let world = World::new(who);
        for (path, text) in [
            (".mcp.json", "{}"),
            (".claude/settings.json", "{}"),
            (".claude/agents/a.md", "a"),
            (".claude/notes", "n"),
            (".vscode/tasks.json", "{}"),
            (".MCP.json", "{}"),
            ("sub/inner/.git/config", "[core]\n"),
            ("sub/inner/.git/hooks/pre-commit", "#!\n"),
            ("sub/inner/.git/HEAD", "ref: refs/heads/x\n"),
            ("sub/.claude/skills/s/SKILL.md", "s"),
        ] {
            world.write(&format!("project/{path}"), text);
        }
        let tree = "find . -type f -not -path './.git/*' | sort | xargs md5sum; cat .git/config";
        let before = world.outside(tree).out();
        let said = world.inside(
            "for f in .mcp.json .MCP.json .claude/settings.json .claude/agents/a.md .vscode/tasks.json \
             .git/config sub/inner/.git/config sub/inner/.git/hooks/pre-commit sub/.claude/skills/s/SKILL.md; \
             do echo bad > $f; rm -f $f; echo x > other; mv other $f; rm -f other; chmod 777 $f; done; \
             mkdir .git/hooks/x; echo x > .git/hooks/pre-commit; echo x > .claude/settings.local.json; \
             mkdir .claude/commands; echo x > sub/inner/.mcp.json; \
             for d in .git .claude sub sub/inner sub/inner/.git sub/.claude; do \
             python3 -c \"import os, sys; os.rename(sys.argv[1], 'moved')\" $d; done; \
             git config user.name evil; cp file .git/made; cp file sub/inner/.git/made; cp file sub/made; exit 0",
        );
        assert!(said.success(), "{who:?}: {}", said.err());
        // The rest of these folders is writable: the protection is not that nothing is.
        for made in [".git/made", "sub/inner/.git/made", "sub/made"] {
            assert!(world.exists(&format!("project/{made}")), "{who:?}: {made}");
            std::fs::remove_file(world.path(&format!("project/{made}"))).unwrap();
        }
        assert_eq!(world.outside(tree).out(), before, "{who:?}: {}", said.err());
        assert!(!world.exists("project/.git/hooks/pre-commit") && !world.exists("project/moved"));
        assert!(
            !world.exists("project/.claude/settings.local.json")
                && !world.exists("project/sub/inner/.mcp.json")
        );
    }
}

#[test]
fn git_works_in_the_sandbox() {
    for who in everybody() {
        let world = World::new(who);
        let said = world.inside(
            "git add -A && git commit -qm one && git checkout -qb two && git mv file other && git commit -qm two \
             && git stash list && git log --oneline | wc -l && git status --porcelain",
        );
        assert_eq!(said.out().trim(), "2", "{who:?}: {}", said.err());
        assert_eq!(world.outside("git log --oneline two | wc -l").out().trim(), "2");
    }
}

#[test]
fn links_in_place_of_what_is_protected_are_held() {
    for who in everybody() {
        let world = World::new(who);
        world.write("project/real", "real\n");
        symlink("real", world.path("project/.bashrc")).unwrap();
        symlink("nowhere", world.path("project/.mcp.json")).unwrap();
        symlink(world.path("outside"), world.path("project/.vscode")).unwrap();
        world.give();
        let said = world.inside(
            "cat .bashrc; echo x > .bashrc; echo x > real; rm -f .bashrc .mcp.json .vscode; echo x > nowhere; \
             echo x > .mcp.json; exit 0",
        );
        assert_eq!(said.out(), "real\n", "{who:?}: {}", said.err());
        assert_eq!(world.read("project/real"), "real\n");
        for link in [".bashrc", ".mcp.json", ".vscode"] {
            assert!(std::fs::symlink_metadata(world.path(&format!("project/{link}"))).unwrap().is_symlink());
        }
    }
}

#[test]
fn a_working_directory_reached_by_a_link_is_the_same() {
    for who in everybody() {
        let world = World::new(who);
        symlink(world.path("project"), world.path("outside/link")).unwrap();
        let mut command = world.sandbox();
        command.current_dir(world.path("outside/link"));
        command.args([
            "--",
            "sh",
            "-c",
            "echo x > made; echo x > .mcp.json; echo x > ../outside/no; echo x > .git/config",
        ]);
        command.output().unwrap();
        assert!(world.exists("project/made"));
        assert!(!world.exists("project/.mcp.json") && !world.exists("outside/no"));
        assert!(world.read("project/.git/config").contains("[user]"));
    }
}

#[test]
fn a_hard_link_is_told_and_none_can_be_made() {
    for who in everybody() {
        let world = World::new(who);
        world.write("project/.mcp.json", "{}");
        let said = world.inside("ln .mcp.json mine; ln .git/config mine; ln ../outside/file mine; ls mine");
        assert!(!said.success() && !world.exists("project/mine"), "{who:?}");
        std::fs::hard_link(world.path("project/.mcp.json"), world.path("project/second")).unwrap();
        assert!(world.inside("true").err().contains(".mcp.json has another name"));
    }
}

#[test]
fn whoever_is_killed_nothing_is_left() {
    use std::io::{BufRead as _, BufReader};
    for who in everybody() {
        for both in [false, true] {
            let world = World::new(who);
            let before = world.listing();
            let mut child = world
                .sandbox()
                .args(["--", "sh", "-c", "echo ready; exec sleep 1000"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
            assert!(world.exists("project/.mcp.json"), "placeholders stand while it runs");
            let keepers =
                std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
            let keeper = keepers.trim().to_owned();
            if both {
                assert!(
                    std::process::Command::new("kill").args(["-STOP", &keeper]).status().unwrap().success()
                );
            }
            child.kill().unwrap();
            child.wait().unwrap();
            if both {
                assert!(
                    std::process::Command::new("kill").args(["-KILL", &keeper]).status().unwrap().success()
                );
            }
            // The command, the keeper and all between hold the other end of this pipe.
            line.clear();
            lines.read_line(&mut line).unwrap();
            assert_eq!(line, "");
            if both {
                assert!(world.exists("project/.mcp.json"), "nobody was left to clean up");
                assert!(world.inside("true").success());
            }
            assert_eq!(world.listing(), before, "{who:?}, both: {both}");
        }
    }
}

#[test]
fn runs_side_by_side_keep_each_others_protection() {
    use std::io::{BufRead as _, BufReader, Write as _};
    for who in [Who::User].into_iter().chain(everybody()) {
        let world = World::new(who);
        let before = world.listing();
        let start = || {
            let mut command = world.sandbox();
            command.args([
                "--",
                "sh",
                "-c",
                "echo ready; read go; echo x > .mcp.json; mkdir .vscode/x; exit 0",
            ]);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
            child
        };
        let (mut first, mut second) = (start(), start());
        for child in [&mut first, &mut second] {
            child.stdin.take().unwrap().write_all(b"go\n").unwrap();
            assert!(child.wait().unwrap().success());
        }
        assert_eq!(world.listing(), before, "{who:?}");
    }
}

//! Building from recipes.

use std::fs;
use std::path::{Path, PathBuf};

use sandbox::images::{Built, ImageError};

use crate::world::{World, file, folder, item, tar};

/// A recipe on top of a tiny system: a shell and what it needs, from this machine.
fn world() -> (World, PathBuf) {
    let world = World::new();
    let mut items =
        vec![folder("usr"), folder("dev"), folder("proc"), folder("run"), folder("tmp"), folder("bin")];
    for path in needed("/bin/sh") {
        let content = fs::read(&path).unwrap();
        let name = path.to_str().unwrap().trim_start_matches('/').to_owned();
        items.push(crate::world::Item { content, mode: 0o755, ..item(tar::EntryType::Regular, &name) });
    }
    items.push(file("etc/resolv.conf", ""));
    world.images.import("tiny", &world.write("tiny.tar", &tar(&items))).unwrap();
    let recipe = world.path("recipe");
    fs::create_dir(&recipe).unwrap();
    (world, recipe)
}

/// A program and the libraries that it is linked with, as the loader lists them.
fn needed(program: &str) -> Vec<PathBuf> {
    let listed = std::process::Command::new("ldd").arg(program).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let words = listed.split_whitespace().filter(|word| word.starts_with('/'));
    [program].into_iter().chain(words).map(|path| Path::new(path).to_owned()).collect()
}

fn build(world: &World, recipe: &Path, force: bool) -> (Result<Built, ImageError>, String) {
    let mut said = Vec::new();
    let built = world.images.build("built", recipe, force, &mut said);
    (built, String::from_utf8(said).unwrap())
}

#[test]
fn a_recipe_is_followed_once_and_again_when_it_changes() {
    let (world, recipe) = world();
    let text = "from = 'tiny'\nworking_dir = '/srv'\n[environment]\nGREETING = 'hello'\n\
                [[file]]\nsource = 'motd'\ntarget = '/etc/motd'\nmode = '0640'\n\
                [[step]]\nrun = 'one.sh'\n\
                [[step]]\nrun = 'two.sh'\noptional = true\ngives = 'a thing'\n";
    fs::write(recipe.join("image.toml"), text).unwrap();
    fs::write(recipe.join("motd"), "welcome").unwrap();
    // The shell alone has to do: there is no other program in the tiny system.
    let one = "echo says $GREETING; echo \"$GREETING $$\" >/made; echo x >/tmp/left; \
               if (echo x >/proc/sys/kernel/hostname) 2>/dev/null; then echo could; exit 1; fi; \
               for place in /root /home /srv /var/lib /sys/kernel; do [ ! -e $place ] || exit 7; done";
    fs::write(recipe.join("one.sh"), one).unwrap();
    fs::write(recipe.join("two.sh"), "echo some >/half; echo 'there is none' >&2; exit 3").unwrap();
    let (built, said) = build(&world, &recipe, false);
    let built = built.unwrap_or_else(|error| panic!("{error}: {said}"));
    assert!(!built.is_cached);
    assert!(said.contains("says hello"), "{said}");
    assert_eq!(built.left_out, ["a thing: there is none"]);
    assert_eq!(world.read("built", "made"), "hello 1\n", "a step is process 1 of its own");
    assert_eq!(world.read("built", "etc/motd"), "welcome");
    assert_eq!(world.read("built", "usr/share/patchyard/left-out"), "a thing: there is none\n");
    for emptied in ["dev", "run", "tmp"] {
        assert_eq!(fs::read_dir(world.tree("built").join(emptied)).unwrap().count(), 0, "{emptied}");
    }
    let config = world.images.config("built").unwrap();
    assert_eq!(config.environment["GREETING"], "hello");
    assert_eq!(config.working_dir.as_deref(), Some("/srv"));
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(world.path("").to_str().unwrap()));

    let (again, said) = build(&world, &recipe, false);
    let again = again.unwrap();
    assert!(again.is_cached && again.digest == built.digest && said.is_empty());
    assert_eq!(again.left_out, built.left_out);
    let (forced, _) = build(&world, &recipe, true);
    assert_eq!(forced.unwrap().digest, built.digest, "the same recipe makes the same image");
    fs::write(recipe.join("motd"), "changed").unwrap();
    let (changed, _) = build(&world, &recipe, false);
    assert!(changed.is_ok_and(|changed| !changed.is_cached && changed.digest != built.digest));
    assert_eq!(world.trees(), 2, "the one that no name refers to is gone");
}

#[test]
fn a_step_that_fails_is_told_and_leaves_the_name_as_it_was() {
    let (world, recipe) = world();
    fs::write(recipe.join("image.toml"), "from = 'tiny'\n[[step]]\nrun = 'bad.sh'").unwrap();
    fs::write(recipe.join("bad.sh"), "echo working; echo 'no such package' >&2; exit 9").unwrap();
    let (failed, said) = build(&world, &recipe, false);
    let words = failed.unwrap_err().to_string();
    assert!(words.contains("the step bad.sh failed (exit status: 9): no such package"), "{words}");
    assert!(said.contains("working"));
    assert_eq!(world.entries(), ["tiny"]);
    fs::write(recipe.join("image.toml"), "from = 'none'").unwrap();
    assert!(matches!(build(&world, &recipe, false).0, Err(ImageError::Unknown { .. })));
}

#[test]
fn links_in_the_base_lead_no_file_of_a_recipe_outside() {
    let (world, recipe) = world();
    let outside = world.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("canary"), "alive").unwrap();
    let out = outside.to_str().unwrap();
    let items = [
        folder("usr"),
        crate::world::symlink("etc", out),
        crate::world::symlink("usr/canary", &format!("{out}/canary")),
        crate::world::symlink("usr/share", out),
        crate::world::symlink("tmp", out),
    ];
    world.images.import("hostile", &world.write("hostile.tar", &tar(&items))).unwrap();
    let text = "from = 'hostile'\n[[file]]\nsource = 'f'\ntarget = '/usr/canary'\n\
                [[file]]\nsource = 'f'\ntarget = '/usr/new'\n";
    fs::write(recipe.join("image.toml"), text).unwrap();
    fs::write(recipe.join("f"), "mine").unwrap();
    build(&world, &recipe, false).0.unwrap();
    assert_eq!(world.read("built", "usr/canary"), "mine");
    // A folder that is a link to nowhere inside takes nothing.
    fs::write(recipe.join("image.toml"), format!("{text}[[file]]\nsource = 'f'\ntarget = '/etc/evil'\n"))
        .unwrap();
    assert!(build(&world, &recipe, false).0.is_err());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(outside.join("canary")).unwrap(), "alive");
}

//! The commands that need no registry.

use std::process::Command;

use crate::registry::{gzip, layer};
use crate::world::World;

#[test]
fn images_are_imported_listed_and_removed() {
    let world = World::new();
    let archive = world.path("archive");
    std::fs::write(&archive, gzip(&layer(&[("usr/x", b"hello")]))).unwrap();
    let archive = archive.to_str().unwrap();
    let said = world.image(&["import", "one", archive]).good();
    assert!(said.starts_with("imported one from an archive of a root file system: sha256:"), "{said}");
    world
        .image(&["import", "one", archive])
        .says(1, &["there is an image `one` already", "patchyard image remove one"]);
    world.image(&["import", "../x", archive]).says(1, &["`../x` is no name for an image"]);
    world.image(&["import", "two", "/nowhere"]).says(1, &["/nowhere", "No such file"]);
    let list = world.list();
    assert_eq!(list.len(), 1);
    assert_eq!(
        (list[0]["name"].as_str(), list[0]["size"].as_u64(), list[0]["in_use"].as_u64()),
        (Some("one"), Some(5), Some(0))
    );
    let table = world.image(&["list"]).good();
    assert!(table.lines().any(|line| line.starts_with("one ") && line.contains("archive")), "{table}");
    assert_eq!(world.image(&["remove", "one"]).good(), "removed one\n");
    world.image(&["remove", "one"]).says(1, &["there is no image `one`"]);
    assert!(world.list().is_empty());
}

#[test]
fn a_recipe_that_makes_no_sense_is_told() {
    let world = World::new();
    let recipe = world.path("recipe");
    std::fs::create_dir(&recipe).unwrap();
    let folder = recipe.to_str().unwrap();
    world.image(&["build", "x", folder]).says(1, &["image.toml", "No such file"]);
    std::fs::write(recipe.join("image.toml"), "base = 'plan9:4'").unwrap();
    world.image(&["build", "x", folder]).says(1, &["`plan9:4` is no base", "debian:RELEASE"]);
}

#[test]
fn who_is_not_root_is_told_before_anything_happens() {
    let binary = env!("CARGO_BIN_EXE_patchyard");
    // The binary may lie where only root can look; then there is nobody to try this.
    let reached =
        Command::new("setpriv").args(["--reuid=65534", "--clear-groups", binary, "version"]).output();
    if reached.is_ok_and(|output| output.status.success()) {
        let command = ["--reuid=65534", "--clear-groups", binary, "image", "remove", "x"];
        let output = Command::new("setpriv").args(command).output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(words.contains("run this with sudo") && output.status.code() == Some(1), "{words}");
    }
}

//! Every form in which an image comes.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use sandbox::images::{Digest, ImageError};
use tar::EntryType;

use crate::world::{Item, World, docker, file, folder, gzip, hard_link, item, layout, symlink, tar, zstd};

/// Two layers: the second replaces, removes and adds.
fn layers() -> Vec<Vec<u8>> {
    let owned = Item { owner: 1000, mode: 0o4755, ..file("usr/bin/tool", "tool") };
    let lower = [
        folder("usr"),
        folder("usr/bin"),
        owned,
        symlink("bin", "usr/bin"),
        hard_link("usr/bin/same", "usr/bin/tool"),
        folder("etc"),
        file("etc/gone", "x"),
        file("etc/kept", "old"),
        folder("var"),
        file("var/one", "1"),
        file("var/sub/two", "2"),
        item(EntryType::Char, "usr/null"),
    ];
    let upper = [
        file("etc/.wh.gone", ""),
        file("etc/kept", "new"),
        file("bin/added", "through a link"),
        file("var/mine", "3"),
        // Also after what the layer itself brings.
        file("var/.wh..wh..opq", ""),
        file("var/sub/deep/four", "4"),
        Item { owner: 100_000, ..file("etc/alien", "") },
    ];
    vec![tar(&lower), tar(&upper)]
}

fn check(world: &World, name: &str) {
    let tree = world.tree(name);
    assert_eq!(world.read(name, "usr/bin/tool"), "tool");
    assert_eq!(world.read(name, "etc/kept"), "new");
    assert_eq!(world.read(name, "usr/bin/added"), "through a link");
    assert!(tree.join("bin").is_symlink());
    let tool = fs::metadata(tree.join("usr/bin/tool")).unwrap();
    assert_eq!((tool.uid(), tool.gid(), tool.permissions().mode() & 0o7777), (1000, 1000, 0o4755));
    assert_eq!((tool.nlink(), tool.mtime()), (2, 1_000_000_000));
    for gone in ["etc/gone", "etc/.wh.gone", "var/one", "var/sub/two", "var/.wh..wh..opq", "usr/null"] {
        assert!(!tree.join(gone).exists(), "{gone}");
    }
    assert_eq!(world.read(name, "var/mine"), "3", "what the layer itself brings stays");
    assert_eq!(world.read(name, "var/sub/deep/four"), "4");
    assert_eq!(fs::metadata(tree.join("etc/alien")).unwrap().uid(), 65_534);
    let config = world.images.config(name).unwrap();
    assert_eq!(config.environment["PATH"], "/opt/bin:/bin");
    assert_eq!(config.environment["NAME"], "x=y");
    assert_eq!((config.working_dir.as_deref(), config.user.as_deref()), (Some("/srv"), Some("1000")));
}

#[test]
fn one_image_in_every_form_is_one_tree() {
    let world = World::new();
    let layers = layers();
    let mixed = layout(&layers, |at, layer| if at == 0 { gzip(layer) } else { zstd(layer) });
    let plain = layout(&layers, |_, layer| layer.to_vec());
    let sources = [
        ("folder", mixed.write(&world.path("layout"))),
        ("plain", plain.write(&world.path("plain-layout"))),
        ("archive", world.write("a", &mixed.as_tar())),
        ("packed", world.write("b", &gzip(&mixed.as_tar()))),
        ("docker", world.write("c", &tar(&docker(&layers)))),
        ("docker-packed", world.write("d", &zstd(&tar(&docker(&layers))))),
    ];
    let mut digests = Vec::new();
    for (name, path) in &sources {
        digests.push(world.images.import(name, path).unwrap().digest);
        check(&world, name);
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]), "the way here is no content");
    assert_eq!(world.trees(), 1);
    assert!(matches!(world.images.import("plain", &sources[0].1), Err(ImageError::Exists(_))));
}

#[test]
fn a_layout_and_a_save_of_a_known_tool_are_read() {
    // skopeo writes these forms as the field does; where it is not installed, ours have to do.
    let world = World::new();
    let source = layout(&layers(), |_, layer| gzip(layer)).alone().write(&world.path("layout"));
    for (name, target) in [("saved", "docker-archive"), ("laid", "oci-archive")] {
        let target_file = world.path(name);
        let copied = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet"])
            .arg(format!("oci:{}", source.display()))
            .arg(format!("{target}:{}:x:1", target_file.display()))
            .output();
        let Ok(copied) = copied else {
            eprintln!("SKIPPED: skopeo is not installed");
            return;
        };
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        world.images.import(name, &target_file).unwrap();
        check(&world, name);
    }
    assert_eq!(world.images.id("saved").unwrap(), world.images.id("laid").unwrap());
}

#[test]
fn a_root_file_system_is_taken_as_it_is() {
    let world = World::new();
    // A folder without `usr` first: what tells the forms apart is not the order.
    let items = [file("etc/.wh.kept", "a name like others"), folder("usr"), file("usr/x", "x")];
    let archive = tar(&items);
    let mut tree = world.path("tree");
    fs::create_dir_all(tree.join("usr")).unwrap();
    fs::create_dir_all(tree.join("etc")).unwrap();
    fs::write(tree.join("usr/x"), "x").unwrap();
    fs::write(tree.join("etc/.wh.kept"), "a name like others").unwrap();
    tree.push(".");
    world.images.import("folder", &tree).unwrap();
    for (name, bytes) in [("plain", archive.clone()), ("gzip", gzip(&archive)), ("zstd", zstd(&archive))] {
        world.images.import(name, &world.write(name, &bytes)).unwrap();
    }
    for (name, program) in [("xz", "xz"), ("bzip2", "bzip2")] {
        let path = world.write(&format!("{name}.tar"), &archive);
        if Command::new(program).arg("--keep").arg(&path).status().is_ok_and(|status| status.success()) {
            let packed = fs::read_dir(world.path("")).unwrap().flatten().map(|entry| entry.path());
            let packed = packed.into_iter().find(|path| {
                path.to_string_lossy().contains(&format!("{name}.tar.")) && path.extension().is_some()
            });
            world.images.import(name, &packed.unwrap()).unwrap();
        }
    }
    let digest = world.images.id("folder").unwrap();
    for name in world.images.list().iter().filter(|name| *name != "slim") {
        assert_eq!(world.read(name, "etc/.wh.kept"), "a name like others");
        assert_eq!(world.images.id(name).unwrap(), digest, "{name}");
    }
}

#[test]
fn what_is_damaged_or_for_others_is_told_and_leaves_nothing() {
    let world = World::new();
    let layers = layers();
    let good = || layout(&layers, |_, layer| gzip(layer));
    let fails = |name: &str, path: &std::path::Path, words: &str| {
        let error = world.images.import(name, path).unwrap_err().to_string();
        assert!(error.contains(words), "{name}: {error}");
        assert!(!error.contains('\n'), "{error}");
    };
    // A byte of a layer.
    let mut damaged = good();
    let layer = &mut damaged.files.last_mut().unwrap().1;
    let middle = layer.len() / 2;
    layer[middle] ^= 1;
    fails("byte", &damaged.write(&world.path("1")), "is damaged: it should be sha256:");
    // A layer cut short, and one with more behind it.
    let mut short = good();
    short.files.last_mut().unwrap().1.truncate(20);
    fails("short", &short.write(&world.path("2")), "is damaged");
    let mut long = good();
    long.files.last_mut().unwrap().1.extend([0; 512]);
    fails("long", &long.write(&world.path("3")), "is damaged");
    // A manifest that is another one.
    let mut manifest = good();
    manifest.files[3].1.push(b' ');
    fails("manifest", &manifest.write(&world.path("4")), "is damaged");
    // Layers in the wrong order: every one is whole, and none is the one that was promised.
    let swapped = layout(&layers, |at, _| layers[1 - at].clone());
    fails("swapped", &swapped.write(&world.path("5")), "unpacked, is damaged");
    let mut docker = docker(&layers);
    docker[1].content = tar(&[file("usr/bin/evil", "x")]);
    fails("docker", &world.write("6", &tar(&docker)), "unpacked, is damaged");
    // Another machine's.
    let mut index = good();
    let here = sandbox::images::Platform::here().architecture;
    let text = String::from_utf8(index.files[1].1.clone()).unwrap().replace(&here, "sparc");
    index.files[1].1 = text.into_bytes();
    let words = format!("not for linux/{here}; it is for: linux/riscv64, linux/sparc");
    fails("platform", &index.write(&world.path("7")), &words);
    // No image at all.
    fails("junk", &world.write("8", b"no tar"), "no tar archive");
    fails("nothing", &world.path("none"), "none");
    fails("poor", &world.write("9", &tar(&[file("README", "x")])), "does not look like a root file system");
    fails("blob", &world.write("10", &tar(&[file("blobs/sha256/x", "x")])), "no document that lists them");
    let missing = world.path("layout");
    good().write(&missing);
    let layer = good().files.last().unwrap().0.clone();
    fs::remove_file(missing.join(layer)).unwrap();
    fails("missing", &missing, "layer blobs/sha256/");
    assert_eq!(world.entries(), Vec::<String>::new());
    assert_eq!(world.trees(), 0);
    assert_ne!(good().manifest, Digest::of(b""));
}

//! Names, trees, and who stands on them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::Barrier;

use sandbox::images::{ImageError, Removed};

use crate::world::{World, file, folder, gzip, layout, tar};

fn archive(world: &World, content: &str) -> std::path::PathBuf {
    world.write(content, &tar(&[folder("usr"), file("usr/x", content)]))
}

#[test]
fn trees_are_shared_by_names_and_go_with_the_last_one() {
    let world = World::new();
    let one = archive(&world, "one");
    let first = world.images.import("a", &one).unwrap().digest;
    assert_eq!(world.images.import("b", &one).unwrap().digest, first);
    let other = archive(&world, "other");
    assert_ne!(world.images.import("c", &other).unwrap().digest, first);
    assert_eq!(world.trees(), 2);
    assert_eq!(world.images.id("a").unwrap(), first);
    assert_eq!(world.images.config("a").unwrap(), sandbox::images::ImageConfig::default());
    let top = fs::metadata(world.path("data/images")).unwrap();
    assert_eq!(top.permissions().mode() & 0o777, 0o700);
    assert_eq!(world.images.remove("a").unwrap(), Removed { in_use: 0 });
    assert_eq!(world.trees(), 2);
    world.images.remove("b").unwrap();
    assert_eq!(world.trees(), 1);
    assert!(matches!(world.images.remove("a"), Err(ImageError::Unknown { .. })));
    assert_eq!(world.entries(), ["c"]);
    let described = world.images.describe().unwrap();
    let described = described.iter().find(|image| image.name == "c").unwrap();
    assert_eq!((described.size, described.in_use), (5, 0));
    assert!(described.source.starts_with("archive of a root file system"), "{}", described.source);
}

#[test]
fn a_tree_stays_while_a_sandbox_stands_on_it() {
    let world = World::new();
    let sandbox = world.path("sandbox");
    fs::create_dir(&sandbox).unwrap();
    world.images.import("a", &archive(&world, "one")).unwrap();
    let tree = world.tree("a");
    drop(world.images.open_for("a", &sandbox).unwrap());
    let described = world.images.describe().unwrap();
    assert_eq!(described.iter().find(|image| image.name == "a").unwrap().in_use, 1);
    assert_eq!(world.images.remove("a").unwrap(), Removed { in_use: 1 });
    assert!(tree.join("usr/x").is_file(), "somebody stands on it");
    assert!(!world.images.list().contains(&"a".to_owned()));
    // Another process, later: what it knows is on disk.
    let later = sandbox::images::Images::of(&world.path("data"));
    later.import("b", &archive(&world, "two")).unwrap();
    assert!(tree.join("usr/x").is_file());
    fs::remove_dir(&sandbox).unwrap();
    later.import("c", &archive(&world, "three")).unwrap();
    assert!(!tree.exists(), "nobody stands on it any more");
    // Who tells that it ended need not be found out.
    fs::create_dir(&sandbox).unwrap();
    drop(later.open_for("c", &sandbox).unwrap());
    later.release(&sandbox).unwrap();
    later.release(&sandbox).unwrap();
    assert_eq!(fs::read_dir(world.path("data/images/.holders")).unwrap().count(), 0);
    assert_eq!(later.remove("c").unwrap(), Removed { in_use: 0 });
}

#[test]
fn a_tree_made_by_hand_serves_and_is_known_by_its_content() {
    let world = World::new();
    let by_hand = world.path("data/images/mine");
    fs::create_dir_all(by_hand.join("rootfs/usr")).unwrap();
    fs::write(by_hand.join("rootfs/usr/x"), "one").unwrap();
    fs::set_permissions(by_hand.join("rootfs/usr/x"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(world.images.list().contains(&"mine".to_owned()));
    let id = world.images.id("mine").unwrap();
    assert_eq!(world.images.id("mine").unwrap(), id);
    assert_eq!(world.images.import("same", &archive(&world, "one")).unwrap().digest, id);
    fs::write(by_hand.join("rootfs/usr/x"), "two").unwrap();
    let changed = world.images.id("mine").unwrap();
    assert_ne!(changed, id);
    // Touched, and yet the same.
    fs::write(by_hand.join("rootfs/usr/x"), "two").unwrap();
    assert_eq!(world.images.id("mine").unwrap(), changed);
    let sandbox = world.path("sandbox");
    fs::create_dir(&sandbox).unwrap();
    drop(world.images.open_for("mine", &sandbox).unwrap());
    assert_eq!(world.images.remove("mine").unwrap(), Removed { in_use: 1 });
    let moved: Vec<_> = world.entries().into_iter().filter(|name| name.starts_with(".old.")).collect();
    assert_eq!(moved.len(), 1, "moved aside, and kept for the sandbox");
    fs::remove_dir(&sandbox).unwrap();
    world.images.remove("same").unwrap();
    assert_eq!(world.entries(), Vec::<String>::new());
}

#[test]
fn a_link_or_another_owner_is_no_image() {
    let world = World::new();
    fs::create_dir_all(world.path("elsewhere/rootfs")).unwrap();
    fs::create_dir_all(world.path("data/images/foreign/rootfs")).unwrap();
    symlink("../../elsewhere", world.path("data/images/link")).unwrap();
    let sandbox = world.path("sandbox");
    fs::create_dir(&sandbox).unwrap();
    assert!(matches!(world.images.open_for("link", &sandbox), Err(ImageError::Io { .. })));
    std::os::unix::fs::chown(world.path("data/images/foreign"), Some(1000), None).unwrap();
    assert!(matches!(world.images.id("foreign"), Err(ImageError::NotRoots(_))));
    assert!(matches!(world.images.open_for("none", &sandbox), Err(ImageError::Unknown { .. })));
    assert!(matches!(world.images.id("../x"), Err(ImageError::Name(_))));
}

#[test]
fn many_at_once_leave_one_tree_and_no_half_image() {
    let world = World::new();
    let layers = [tar(&[folder("usr"), file("usr/x", &"y".repeat(100_000))])];
    let path = layout(&layers, |_, layer| gzip(layer)).write(&world.path("layout"));
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for at in 0..8 {
            let (images, path, start) = (&world.images, &path, &start);
            scope.spawn(move || {
                start.wait();
                let name = format!("n{}", at % 4);
                match images.import(&name, path) {
                    Ok(_) | Err(ImageError::Exists(_)) => {}
                    Err(error) => panic!("{error}"),
                }
                assert!(images.id(&name).is_ok());
            });
        }
    });
    assert_eq!(world.entries(), ["n0", "n1", "n2", "n3"]);
    assert_eq!(world.trees(), 1);
}

#[test]
fn what_the_dead_left_half_done_goes() {
    let world = World::new();
    world.images.import("a", &archive(&world, "one")).unwrap();
    for left in [".new-dead", ".gone-dead", ".trees/half"] {
        fs::create_dir_all(world.path("data/images").join(left).join("rootfs/usr")).unwrap();
    }
    world.images.import("b", &archive(&world, "two")).unwrap();
    assert_eq!(world.entries(), ["a", "b"]);
    assert_eq!(world.trees(), 2);
}

//! Archives that are meant to do harm.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use sandbox::images::{Caps, ImageError};
use tar::EntryType;

use crate::world::{Item, World, file, folder, gzip, hard_link, item, layout, symlink, tar};

/// What a hostile archive would like to change, beside the folder of images. The archives here aim at
/// nothing else: should they succeed one day, the machine that runs the tests is not to suffer.
fn outside(world: &World) -> String {
    let outside = world.path("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("canary"), "alive").unwrap();
    outside.to_str().unwrap().to_owned()
}

fn is_untouched(outside: &str) -> bool {
    let names: Vec<_> = fs::read_dir(outside).unwrap().flatten().map(|entry| entry.file_name()).collect();
    names == ["canary"] && fs::read_to_string(Path::new(outside).join("canary")).unwrap() == "alive"
}

fn import(world: &World, name: &str, items: &[Item]) -> Result<(), ImageError> {
    let path = world.write(&format!("{name}.tar"), &tar(items));
    world.images.import(name, &path).map(|_| ())
}

#[test]
fn names_and_links_lead_to_nothing_outside() {
    let world = World::new();
    let out = outside(&world);
    let up = format!("../../../../../../../../..{out}");
    // These are unpacked, inside.
    import(
        &world,
        "planted",
        &[
            folder("usr"),
            folder(&out),
            symlink("a", &out),
            file("a/evil", "x"),
            symlink("b", &up),
            file("b/evil2", "x"),
            symlink("c", "/"),
            file("c/etc/patchyard-probe", "inside"),
            file(&format!("{out}/absolute"), "x"),
            // A link in the place of a file is replaced, not followed.
            symlink("usr/canary", &format!("{out}/canary")),
            file("usr/canary", "mine"),
            symlink("usr/here", &out),
            folder("usr/here"),
            file("usr/here/evil3", "x"),
        ],
    )
    .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(world.read("planted", "etc/patchyard-probe"), "inside");
    assert_eq!(world.read("planted", "usr/canary"), "mine");
    let inside = world.tree("planted").join(out.trim_start_matches('/'));
    for name in ["evil", "evil2", "absolute"] {
        assert!(inside.join(name).is_file(), "{name}");
    }
    // These are refused.
    for (name, items, words) in [
        ("dots", vec![folder("usr"), file("usr/../../evil", "x")], "goes up by `..`"),
        ("top", vec![folder("usr"), file("../evil", "x")], "goes up by `..`"),
        (
            "hard",
            vec![folder("usr"), hard_link("usr/x", &format!("{out}/canary"))],
            "hard link to what is not",
        ),
        ("hard-up", vec![folder("usr"), hard_link("usr/x", &up)], "goes up by `..`"),
        (
            "hard-by-link",
            vec![symlink("usr", &out), hard_link("x", "usr/canary")],
            "hard link to what is not",
        ),
        ("hard-folder", vec![folder("usr"), hard_link("x", "usr")], "hard link to a folder"),
        ("circle", vec![folder("usr"), symlink("l", "l"), file("l/x", "x")], "Too many levels"),
        ("on-a-file", vec![folder("usr"), file("f", "x"), file("f/x", "x")], "Not a directory"),
        ("dangling", vec![folder("usr"), symlink("l", "nowhere"), file("l/x", "x")], "leads nowhere"),
        ("kind", vec![folder("usr"), item(EntryType::new(b'Z'), "x")], "of a kind that is not known"),
        ("sparse", vec![folder("usr"), item(EntryType::GNUSparse, "x")], "sparse"),
    ] {
        let error = import(&world, name, &items).unwrap_err().to_string();
        assert!(error.contains(words), "{name}: {error}");
    }
    assert!(is_untouched(&out));
    assert_eq!(world.entries(), ["planted"]);
}

#[test]
fn a_layer_writes_and_removes_through_no_link_of_a_layer_below() {
    let world = World::new();
    let out = outside(&world);
    let below =
        tar(&[folder("usr"), folder(&out), symlink("etc", &out), folder("keep"), symlink("keep/out", &out)]);
    let above = tar(&[
        file("etc/evil", "x"),
        file("etc/.wh.canary", ""),
        file("etc/.wh..wh..opq", ""),
        file("keep/.wh.out", ""),
    ]);
    let path = layout(&[below.clone(), above], |_, layer| gzip(layer)).write(&world.path("layout"));
    world.images.import("layered", &path).unwrap();
    assert!(!world.tree("layered").join("keep/out").is_symlink());
    for bad in [".wh...", ".wh..", ".wh.", "usr/.wh..."] {
        let above = tar(&[file(bad, "")]);
        let path = layout(&[below.clone(), above], |_, layer| gzip(layer)).write(&world.path("bad"));
        let error = world.images.import("bad", &path).unwrap_err().to_string();
        assert!(error.contains("removes what cannot be removed"), "{bad}: {error}");
        fs::remove_dir_all(path).unwrap();
    }
    assert!(is_untouched(&out));
}

#[test]
fn bombs_end_at_their_cap() {
    let world = World::new();
    let caps = Caps { bytes: 1 << 20, entries: 1000 };
    let fails = |name: &str, bytes: &[u8], words: &str| {
        let path = world.write(name, bytes);
        let error = world.images.import_capped(name, &path, caps).unwrap_err().to_string();
        assert!(error.contains(words), "{name}: {error}");
    };
    let zeros = "0".repeat(8 << 20);
    fails("bomb", &gzip(&tar(&[folder("usr"), file("usr/zeros", &zeros)])), "more than is allowed");
    // What an entry says of itself is believed only as far as the cap.
    let huge = &mut tar(&[folder("usr"), file("usr/huge", "x")]);
    huge[512 + 124..512 + 136].copy_from_slice(b"77777777777\0");
    let sum: u32 = huge[512..1024]
        .iter()
        .enumerate()
        .map(|(at, byte)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte }))
        .sum();
    huge[512 + 148..512 + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    fails("huge", huge, "more than is allowed");
    let many: Vec<_> = (0..2000).map(|at| symlink(&format!("usr/{at}"), "x")).collect();
    fails("many", &tar(&many), "too many entries");
    // A name that is said to be long, and a comment that is.
    let name = Item { content: vec![b'a'; 2 << 20], ..item(EntryType::GNULongName, "x") };
    let wide = Caps { bytes: 64 << 20, entries: 1000 };
    let path = world.write("name", &gzip(&tar(&[folder("usr"), name])));
    let error = world.images.import_capped("name", &path, wide).unwrap_err().to_string();
    assert!(error.contains("too long"), "{error}");
    // After the last entry comes more.
    let mut tail = tar(&[folder("usr")]);
    tail.extend(vec![0; 8 << 20]);
    fails("tail", &gzip(&tail), "more than is allowed");
    // Two layers share one budget.
    let half = |name: &str| tar(&[folder("usr"), file(name, &zeros[..700 << 10])]);
    let path = layout(&[half("usr/a"), half("usr/b")], |_, layer| gzip(layer)).write(&world.path("layers"));
    let error = world.images.import_capped("layers", &path, caps).unwrap_err().to_string();
    assert!(error.contains("more than is allowed"), "{error}");
    assert_eq!(world.entries(), Vec::<String>::new());
}

#[test]
fn no_depth_breaks_the_unpacking_or_the_cleaning() {
    let world = World::new();
    let mut items = vec![folder("usr")];
    // Each link makes a short name of a long way, from where it goes on.
    for at in 0..400 {
        let parent = if at == 0 { String::new() } else { format!("l{}/", at - 1) };
        items.push(folder(&format!("{parent}d")));
        items.push(symlink(&format!("l{at}"), &format!("/{parent}d")));
    }
    let error = import(&world, "deep", &items).unwrap_err().to_string();
    assert!(error.contains("deep in each other") || error.contains("Too many levels"), "{error}");
    let long = "d/".repeat(2000);
    let mut header_like = Item { content: long.into_bytes(), ..item(EntryType::GNULongName, "x") };
    header_like.content.push(0);
    let error = import(&world, "long", &[folder("usr"), header_like, folder("x")]).unwrap_err().to_string();
    assert!(error.contains("deep in each other"), "{error}");
    assert_eq!(world.entries(), Vec::<String>::new());
}

fn name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => Just("a"), 4 => Just("b"), 2 => Just("usr"), 1 => Just(".."), 1 => Just("."), 1 => Just(""),
        1 => Just(".wh.a"), 1 => Just(".wh..wh..opq"), 1 => Just(".wh..."),
    ];
    (any::<bool>(), prop::collection::vec(part, 1..4))
        .prop_map(|(absolute, parts)| format!("{}{}", if absolute { "/" } else { "" }, parts.join("/")))
}

fn one(outside: String) -> impl Strategy<Value = Item> {
    let target = prop_oneof![
        2 => name(),
        1 => Just(outside.clone()),
        1 => Just(format!("{outside}/canary")),
        1 => Just("../../../../../../../../..".to_owned() + &outside),
    ];
    let kind = prop_oneof![
        3 => Just(EntryType::Regular), 3 => Just(EntryType::Directory), 3 => Just(EntryType::Symlink),
        2 => Just(EntryType::Link), 1 => Just(EntryType::Fifo), 1 => Just(EntryType::Char),
    ];
    (kind, name(), target).prop_map(|(kind, name, link)| Item {
        link,
        content: if kind == EntryType::Regular { b"hostile".to_vec() } else { Vec::new() },
        ..item(kind, &name)
    })
}

#[test]
fn no_archive_changes_anything_outside() {
    let world = World::new();
    let out = outside(&world);
    let cases = std::cell::Cell::new((0, 0));
    let layers = prop::collection::vec(prop::collection::vec(one(out.clone()), 1..12), 1..4);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&layers, |layers| {
        let layers: Vec<_> =
            layers.iter().map(|items| tar(&[&[folder("usr")], items.as_slice()].concat())).collect();
        let path = layout(&layers, |_, layer| layer.to_vec()).write(&world.path("case"));
        let imported = world.images.import("case", &path);
        fs::remove_dir_all(path).unwrap();
        prop_assert!(is_untouched(&out));
        let (good, bad) = cases.get();
        if imported.is_ok() {
            cases.set((good + 1, bad));
            world.images.remove("case").unwrap();
        } else {
            cases.set((good, bad + 1));
        }
        prop_assert_eq!(world.entries(), Vec::<String>::new());
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let (good, bad) = cases.get();
    assert!(good > 20 && bad > 20, "the cases are of one kind only: {good} unpacked, {bad} refused");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any bytes, and good ones with a few changed: an answer, and no panic.
    #[test]
    fn no_bytes_break_the_reader(changes in prop::collection::vec((0_usize..6000, any::<u8>()), 1..20), cut in 0_usize..8000) {
        let world = World::new();
        let mut bytes = tar(&[folder("usr"), file("usr/a", "x"), symlink("usr/b", "a"), hard_link("usr/c", "usr/a")]);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(cut.max(1));
        let path = world.write("x", &bytes);
        let caps = Caps { bytes: 1 << 20, entries: 100 };
        let _ = world.images.import_capped("x", &path, caps);
        let packed = world.write("y", &gzip(&bytes)[..gzip(&bytes).len().min(cut.max(1))]);
        let _ = world.images.import_capped("y", &packed, caps);
    }
}

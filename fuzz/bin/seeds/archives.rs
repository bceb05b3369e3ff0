//! Archives as they are meant to be.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use tar::{Builder, EntryType, Header};

/// Kind, name, where it leads or what it holds.
type Item<'a> = (EntryType, &'a str, &'a str);

fn tar(items: &[Item<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, name, text) in items {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(if *kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        header.set_size(if is_link { 0 } else { text.len() as u64 });
        let field = |field: &mut [u8], text: &str| field[..text.len()].copy_from_slice(text.as_bytes());
        if let Some(gnu) = header.as_gnu_mut() {
            // By hand: the library refuses names that lead elsewhere.
            field(&mut gnu.name, name);
            field(&mut gnu.linkname, if is_link { text } else { "" });
        }
        header.set_cksum();
        let content = if is_link { &[] } else { text.as_bytes() };
        let _ = builder.append(&header, content);
    }
    builder.into_inner().unwrap_or_default()
}

fn folder(name: &str) -> Item<'_> {
    (EntryType::Directory, name, "")
}

fn file<'a>(name: &'a str, text: &'a str) -> Item<'a> {
    (EntryType::Regular, name, text)
}

fn link<'a>(name: &'a str, to: &'a str) -> Item<'a> {
    (EntryType::Symlink, name, to)
}

/// One alone.
pub fn all() -> Vec<Vec<u8>> {
    vec![
        tar(&[folder("tree"), file("tree/a", "one"), folder("tree/b"), file("tree/b/c", "two")]),
        tar(&[file("tree", "a file")]),
        tar(&[folder("usr"), file("usr/a", "x"), link("usr/l", "a"), (EntryType::Link, "usr/h", "usr/a")]),
        tar(&[folder("usr"), (EntryType::XHeader, "x", "14 path=a/bcd\n13 uid=100000\n"), file("a", "text")]),
        tar(&[folder("usr"), (EntryType::GNULongName, "././@LongLink", "usr/a-long-name\0"), file("a", "x")]),
        tar(&[folder("usr"), (EntryType::Char, "usr/null", ""), (EntryType::Fifo, "usr/pipe", "")]),
    ]
}

/// Several above each other.
pub fn layered() -> Vec<Vec<Vec<u8>>> {
    // From where a tree is written, the link leads out of it.
    let out = link("out", "../../../../outside");
    let below = tar(&[folder("usr"), out, file("usr/a", "1"), folder("usr/b"), file("usr/b/c", "2")]);
    let packed = {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let _ = encoder.write_all(&below);
        encoder.finish().unwrap_or_default()
    };
    vec![
        vec![below.clone(), tar(&[file("usr/.wh.a", "")])],
        vec![below.clone(), tar(&[file("usr/b/.wh..wh..opq", ""), file("usr/b/d", "3")])],
        vec![packed, tar(&[link("a", "usr"), file("a/d", "3")])],
        vec![below, tar(&[file("canary", "3"), (EntryType::Link, "usr/canary", "usr/a")])],
    ]
}

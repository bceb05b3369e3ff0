//! Files through the link.

use std::os::unix::process::CommandExt;

use protocol::hands::{FileKind, Hands, HandsError};

use crate::world::{Setting, World, is_root, limits, sh};

#[tokio::test]
async fn five_megabytes_go_in_and_come_out_the_same() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    let bytes: Vec<u8> =
        (0..5_000_000_u32).map(|number| number.to_le_bytes()[(number % 3) as usize]).collect();
    link.write_file("/deep/er/file", &bytes).await.unwrap();
    let read = link.read_file("/deep/er/file", 0, u64::MAX).await.unwrap();
    assert!(read.bytes == bytes && read.size == 5_000_000);
    let part = link.read_file("/deep/er/file", 4_999_990, 100).await.unwrap();
    assert_eq!(part.bytes, bytes[4_999_990..]);
    assert!(link.read_file("/deep/er/file", 9_000_000, 5).await.unwrap().bytes.is_empty());
    link.write_file("/deep/er/file", b"").await.unwrap();
    assert_eq!(link.stat("/deep/er/file").await.unwrap().size, 0);
    assert_eq!(sh(&link, "ls -A /deep/er").await, "file", "no part file is left");
}

#[tokio::test]
async fn permissions_and_links_survive_a_write() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    sh(&link, "mkdir /w; cd /w; printf a >real; chown 5:7 real; chmod 4751 real; ln -s real one; ln -s one two; ln -s missing/x gone; ln -s loop loop").await;
    link.write_file("/w/two", b"new").await.unwrap();
    assert_eq!(
        sh(&link, "cd /w; cat real; stat -c ' %a %u:%g' real; readlink one two").await,
        "new 4751 5:7\none\nreal".replace("one\nreal", "real\none")
    );
    link.write_file("/w/gone", b"made").await.unwrap();
    assert_eq!(
        sh(&link, "cat /w/missing/x; stat -c ' %a' /w/missing/x; readlink /w/gone").await,
        "made 644\nmissing/x"
    );
    assert!(matches!(link.write_file("/w/loop", b"x").await, Err(HandsError::WrongKind { .. })));
    assert!(matches!(link.write_file("/w", b"x").await, Err(HandsError::WrongKind { .. })));
    assert!(matches!(link.write_file("/", b"x").await, Err(HandsError::WrongKind { .. })));
    assert!(matches!(link.write_file("w/x", b"x").await, Err(HandsError::WrongKind { .. })));
    assert!(matches!(link.write_file("/w/real/x", b"x").await, Err(HandsError::WrongKind { .. })));
}

#[tokio::test]
async fn what_is_no_file_is_refused_and_blocks_nobody() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    sh(&link, "mkfifo /fifo; mkdir /folder").await;
    for path in ["/fifo", "/folder", "/dev/zero", "/dev/tty"] {
        let failure = link.read_file(path, 0, 10).await.unwrap_err();
        assert!(matches!(failure, HandsError::WrongKind { .. }), "{path}: {failure}");
    }
    assert!(matches!(link.write_file("/fifo", b"x").await, Err(HandsError::WrongKind { .. })));
    assert!(matches!(link.read_file("/none", 0, 1).await, Err(HandsError::NotFound { .. })));
    assert!(matches!(link.read_file("/none\0", 0, 1).await, Err(HandsError::WrongKind { .. })));
    assert_eq!(sh(&link, "echo alive").await, "alive");
}

#[tokio::test]
async fn facts_and_entries() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    sh(
        &link,
        "mkdir /l; cd /l; mkdir d; printf 123 >f; chmod 640 f; touch -d @1700000000.5 f; ln -s f s; mkfifo p",
    )
    .await;
    let stat = link.stat("/l/s").await.unwrap();
    assert_eq!(
        (stat.kind, stat.size, stat.mode, stat.modified_ms),
        (FileKind::File, 3, 0o640, 1_700_000_000_500)
    );
    let entries = link.list("/l").await.unwrap();
    let entries: Vec<(&str, FileKind)> = entries.iter().map(|entry| (&*entry.name, entry.kind)).collect();
    let expected =
        [("d", FileKind::Directory), ("f", FileKind::File), ("p", FileKind::Other), ("s", FileKind::Symlink)];
    assert_eq!(entries, expected);
    // More than are given, with names so long that not even those fit into one answer.
    sh(&link, "mkdir /m; cd /m; python3 -c \"for i in range(11000): open(f'{i:0200}', 'w')\"").await;
    let many = link.list("/m").await.unwrap();
    assert!((1_000..=10_000).contains(&many.len()), "{}", many.len());
    assert!(many.is_sorted_by(|a, b| a.name < b.name));
    assert!(matches!(link.list("/l/f").await, Err(HandsError::WrongKind { .. })));
}

#[tokio::test]
async fn git_clones_the_session_repository() {
    if !is_root() {
        return;
    }
    let world = World::with(Setting { server: 23_456, ..Setting::default() });
    let session = world.session();
    let repository = world.data.path().join("repos").join(format!("{session}.git"));
    let script = "
        set -e
        git init -q --bare -b main .
        tree=$(printf '100644 blob %s\\tfile\\n' $(echo text | git hash-object -w --stdin) | git mktree)
        commit=$(git -c user.name=a -c user.email=a@b.test commit-tree -m first $tree)
        git update-ref refs/heads/main $commit";
    let mut git = std::process::Command::new("sh");
    let made =
        git.args(["-c", script]).current_dir(&repository).env("HOME", "/").uid(23_456).gid(23_456).status();
    assert!(made.unwrap().success());
    let made = world.make(session, limits()).await;
    let link = sandbox::guest_link::GuestLink::connect(&made).await.unwrap();
    let clone = format!(
        "git clone -q {} /w && cd /w && cat file && git log --format=%s",
        protocol::sandbox_host::REPOSITORY_MOUNT
    );
    assert_eq!(sh(&link, &clone).await, "text\nfirst");
}

#[tokio::test]
async fn the_repository_is_there_and_cannot_be_changed() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    let repository = protocol::sandbox_host::REPOSITORY_MOUNT;
    let head = link.read_file(&format!("{repository}/HEAD"), 0, 100).await.unwrap();
    assert_eq!(head.bytes, b"ref: refs/heads/main\n");
    assert_eq!(sh(&link, &format!("stat -c %u:%g {repository} {repository}/HEAD")).await, "0:0\n0:0");
    sh(&link, &format!("! touch {repository}/x && ! rm {repository}/HEAD && ! chmod 777 {repository}/HEAD"))
        .await;
    sh(&link, "! touch /run/patchyard/bin/x && ! rm /run/patchyard/bin/patchyard-guest").await;
}

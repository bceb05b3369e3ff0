//! Session repositories with real git.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod door;
mod front;
mod large;
mod publish;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use git_proxy::{FetchRules, GitError, Remote, Repositories};
use policy::push::PushRules;
use policy::repository::RepositoryUrl;
use protocol::api::{DiffRowKind, FileStatus};
use protocol::ids::SessionId;

struct Fixture {
    dir: tempfile::TempDir,
    repositories: Repositories,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repositories = Repositories::open(&dir.path().join("data")).await.unwrap();
        Self { dir, repositories }
    }

    /// A repository of a user, with one commit on `main`.
    fn user_repository(&self) -> PathBuf {
        let path = self.dir.path().join("user");
        std::fs::create_dir(&path).unwrap();
        git(&path, &["init", "-q", "-b", "main"]);
        std::fs::write(path.join("a.txt"), "one\ntwo\nthree\n").unwrap();
        std::fs::write(path.join("old.txt"), "a file that moves\nwith two lines\n").unwrap();
        std::fs::write(path.join("CLAUDE.md"), "be kind\n").unwrap();
        git(&path, &["add", "-A"]);
        git(&path, &["commit", "-q", "-m", "first"]);
        path
    }

    async fn import(&self, user: &Path) -> (SessionId, git_proxy::Imported) {
        let session = SessionId::from(ulid::Ulid::generate());
        git(user, &["update-ref", "refs/patchyard/upload/head", "HEAD"]);
        let bundle = self.dir.path().join("upload.bundle");
        git(user, &["bundle", "create", "-q", bundle.to_str().unwrap(), "--all"]);
        let imported = self.repositories.import_bundle(session, &bundle).await.unwrap();
        self.repositories.start_branch(session, "patchyard/work-1", &imported.base).await.unwrap();
        (session, imported)
    }
}

fn remote(url: &RepositoryUrl) -> Remote {
    Remote { url: url.clone(), credential: None, push: PushRules::default() }
}

fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn work_on_a_bundle_comes_back_as_a_diff_and_a_branch() {
    let fixture = Fixture::new().await;
    let user = fixture.user_repository();
    let (session, imported) = fixture.import(&user).await;
    assert_eq!(imported.head, git(&user, &["rev-parse", "HEAD"]));
    assert_eq!(imported.base, imported.head);

    // A stand-in for the sandbox: a clone, a change, a bundle of the branch.
    let workspace = fixture.dir.path().join("workspace");
    git(
        fixture.dir.path(),
        &["clone", "-q", fixture.repositories.path(session).to_str().unwrap(), "workspace"],
    );
    assert_eq!(git(&workspace, &["branch", "--show-current"]), "patchyard/work-1");
    std::fs::write(workspace.join("a.txt"), "one\n2\nthree\nfour\n").unwrap();
    std::fs::rename(workspace.join("old.txt"), workspace.join("new.txt")).unwrap();
    std::fs::write(workspace.join("blob.bin"), [0u8, 1, 2, 255]).unwrap();
    git(&workspace, &["add", "-A"]);
    git(&workspace, &["commit", "-q", "-m", "work"]);
    let bundle = fixture.dir.path().join("checkpoint.bundle");
    let not = format!("^{}", imported.base);
    git(&workspace, &["update-ref", "refs/patchyard/link", "HEAD"]);
    let refs = ["refs/heads/patchyard/work-1", "refs/patchyard/link", &not];
    git(&workspace, &[&["bundle", "create", "-q", bundle.to_str().unwrap()][..], &refs].concat());
    let repositories = &fixture.repositories;
    let head = git(&workspace, &["rev-parse", "HEAD"]);
    assert_eq!(repositories.keep_checkpoint(session, 1, &head).await.unwrap(), None, "it is not there yet");
    let checkpoint = repositories.import_checkpoint(session, "patchyard/work-1", 1, &bundle).await.unwrap();
    assert_eq!(repositories.keep_checkpoint(session, 2, &head).await.unwrap(), Some(checkpoint.clone()));
    assert_eq!(repositories.newest_link(session).await.unwrap(), Some(head.clone()));
    let branch = || git(&repositories.path(session), &["rev-parse", "patchyard/work-1"]);
    assert_eq!(branch(), imported.base, "the branch waits for the turn's end");
    repositories.move_branch(session, "patchyard/work-1", &head).await.unwrap();
    assert_eq!(branch(), head);
    assert_eq!(checkpoint.tree, git(&workspace, &["rev-parse", "HEAD^{tree}"]));

    let diff = fixture.repositories.diff(session, &imported.base, &checkpoint.commit).await.unwrap();
    let files: Vec<_> = diff.files.iter().map(|file| (file.path.as_str(), file.status)).collect();
    assert_eq!(
        files,
        [("a.txt", FileStatus::Modified), ("blob.bin", FileStatus::Added), ("new.txt", FileStatus::Renamed)]
    );
    assert_eq!((diff.stat.additions, diff.stat.deletions, diff.stat.files_changed), (2, 1, 3));

    let rows = fixture
        .repositories
        .file_diff(session, &imported.base, &checkpoint.commit, "a.txt", None)
        .await
        .unwrap()
        .rows;
    assert!(
        rows.iter().any(|row| row.kind == DiffRowKind::Added && row.text == "four" && row.new == Some(4))
    );

    let patch = fixture.repositories.patch(session, &imported.base, &checkpoint.commit).await.unwrap();
    let file = fixture.dir.path().join("work.patch");
    std::fs::write(&file, patch).unwrap();
    git(&user, &["apply", "--check", file.to_str().unwrap()]);

    let memory = fixture.repositories.file(session, &imported.base, "CLAUDE.md", 1000).await.unwrap();
    assert_eq!(memory.as_deref(), Some(&b"be kind\n"[..]));
    assert_eq!(fixture.repositories.file(session, &imported.base, "CLAUDE.md", 3).await.unwrap(), None);
    assert_eq!(fixture.repositories.paths(session, &imported.base).await.unwrap().len(), 3);
    fixture.repositories.delete(session).await.unwrap();
    assert!(fixture.repositories.sessions().await.unwrap().is_empty());
}

/// Many files at once: what is a link, a folder, missing or too large is left out, and many paths take several gits.
#[tokio::test]
async fn many_files_are_read_at_once() {
    let fixture = Fixture::new().await;
    let user = fixture.user_repository();
    let mut wanted =
        vec!["folder".to_owned(), "link".into(), "missing".into(), "large".into(), "-dash".into()];
    std::fs::create_dir(user.join("folder")).unwrap();
    std::os::unix::fs::symlink("a.txt", user.join("link")).unwrap();
    std::fs::write(user.join("large"), [0; 2_000]).unwrap();
    std::fs::write(user.join("-dash"), "dash\n\nblob\n").unwrap();
    let long = "n".repeat(200);
    for number in 0..400 {
        let path = format!("folder/{long}{number}");
        std::fs::write(user.join(&path), number.to_string()).unwrap();
        wanted.push(path);
    }
    std::fs::write(user.join("empty"), "").unwrap();
    wanted.push("empty".into());
    git(&user, &["add", "-A"]);
    git(&user, &["commit", "-q", "-m", "second"]);
    let (session, imported) = fixture.import(&user).await;
    let files = fixture.repositories.files(session, &imported.base, &wanted, 1_000).await.unwrap();
    assert_eq!(files.len(), 402);
    let content =
        |path: &str| files.iter().find(|(other, _)| other == path).map(|(_, bytes)| bytes.as_slice());
    assert_eq!(content("-dash"), Some(&b"dash\n\nblob\n"[..]));
    assert_eq!(content("empty"), Some(&b""[..]));
    assert_eq!(content(&format!("folder/{long}399")), Some(&b"399"[..]));
    for path in ["folder", "link", "missing", "large"] {
        assert_eq!(content(path), None, "{path}");
    }
    assert_eq!(fixture.repositories.files(session, &imported.base, &[], 1).await.unwrap(), []);
}

#[tokio::test]
async fn bytes_that_are_no_bundle_are_refused() {
    let fixture = Fixture::new().await;
    let path = fixture.dir.path().join("garbage");
    std::fs::write(&path, b"# v2 git bundle\nnot really").unwrap();
    let refused = fixture.repositories.import_bundle(SessionId::from(ulid::Ulid::generate()), &path).await;
    assert!(matches!(refused, Err(GitError::BadBundle(_))), "{refused:?}");
}

#[tokio::test]
async fn a_file_address_needs_an_open_root_and_a_known_branch() {
    let fixture = Fixture::new().await;
    let user = fixture.user_repository();
    let roots = vec![fixture.dir.path().canonicalize().unwrap()];
    let rules = FetchRules { file_roots: roots.clone(), ..FetchRules::default() };
    let text = format!("file://{}", user.canonicalize().unwrap().display());
    let url = RepositoryUrl::parse(&text, &roots).unwrap();
    let session = SessionId::from(ulid::Ulid::generate());
    let imported = fixture.repositories.import_url(session, &remote(&url), None, &rules).await.unwrap();
    assert_eq!(imported.branch.as_deref(), Some("main"));
    assert_eq!(imported.head, git(&user, &["rev-parse", "HEAD"]));

    let unknown =
        fixture.repositories.import_url(session, &remote(&url), Some("nope"), &rules).await.unwrap_err();
    assert!(
        unknown.to_string().contains("no branch `nope`") && unknown.to_string().contains("main"),
        "{unknown}"
    );

    // A link inside the root that leads out of it.
    let outside = tempfile::tempdir().unwrap();
    let link = roots[0].join("link");
    std::os::unix::fs::symlink(outside.path(), &link).unwrap();
    let url = RepositoryUrl::parse(&format!("file://{}", link.display()), &roots).unwrap();
    let refused = fixture.repositories.import_url(session, &remote(&url), None, &rules).await;
    assert!(matches!(refused, Err(GitError::Url(_))), "{refused:?}");
}

#[tokio::test]
async fn a_session_shares_the_packs_of_its_mirror_which_follows_the_remote_and_heals() {
    let fixture = Fixture::new().await;
    let user = fixture.user_repository();
    git(&user, &["branch", "passing"]);
    git(&user, &["tag", "-a", "-m", "one", "v1"]);
    let roots = vec![fixture.dir.path().canonicalize().unwrap()];
    let rules = FetchRules { file_roots: roots.clone(), ..FetchRules::default() };
    let text = format!("file://{}", user.canonicalize().unwrap().display());
    let url = RepositoryUrl::parse(&text, &roots).unwrap();
    let data = fixture.dir.path().join("data");
    let take = async || {
        let session = SessionId::from(ulid::Ulid::generate());
        let imported = fixture.repositories.import_url(session, &remote(&url), None, &rules).await.unwrap();
        let repository = data.join(format!("repos/{session}.git"));
        git(&repository, &["fsck", "--strict", "--connectivity-only"]);
        let refs = git(&repository, &["for-each-ref", "--format=%(refname:short)"]);
        let packs = std::fs::read_dir(repository.join("objects/pack")).unwrap().flatten();
        let linked = packs.map(|pack| pack.metadata().unwrap().nlink()).min();
        (imported.head, refs.replace('\n', " "), linked)
    };
    let first = git(&user, &["rev-parse", "HEAD"]);
    assert_eq!(take().await, (first.clone(), "main passing v1".into(), Some(2)));
    assert_eq!(
        take().await,
        (first, "main passing v1".into(), Some(3)),
        "what nobody changed is not fetched"
    );

    git(&user, &["branch", "-D", "passing"]);
    git(&user, &["commit", "-q", "--amend", "-m", "another first"]);
    let second = git(&user, &["rev-parse", "HEAD"]);
    let (head, refs, _) = take().await;
    assert_eq!((head, refs), (second.clone(), "main v1".into()));

    let mirror = std::fs::read_dir(data.join("mirrors")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(mirror.join("packed-refs"), "no refs\n").unwrap();
    let (head, refs, _) = take().await;
    assert_eq!((head, refs), (second, "main v1".into()));
}

#[tokio::test]
async fn an_address_of_this_machine_is_not_dialled() {
    let fixture = Fixture::new().await;
    let url = RepositoryUrl::parse("http://127.0.0.1:9/x.git", &[]).unwrap();
    let session = SessionId::from(ulid::Ulid::generate());
    let refused = fixture.repositories.import_url(session, &remote(&url), None, &FetchRules::default()).await;
    assert!(matches!(refused, Err(GitError::Address { .. })), "{refused:?}");
}

/// A pack entry's data, packed.
fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut packer, bytes).unwrap();
    packer.finish().unwrap()
}

/// A number as deltas have it: seven bits a byte, the smallest first.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// Kind and size before a pack entry's data; the size is under 2048.
fn entry(kind: u8, size: usize) -> [u8; 2] {
    [0x80 | (kind << 4) | (size & 0x0f) as u8, (size >> 4) as u8]
}

#[tokio::test]
async fn a_small_pack_that_names_gigabytes_gets_no_memory() {
    let fixture = Fixture::new().await;
    let base = [0u8; 1024];
    let first = [&entry(3, base.len())[..], &deflate(&base)].concat();
    // The whole base again and again, to 3 GB as far as it says.
    let mut delta = [varint(base.len() as u64), varint(3_000_000_000)].concat();
    delta.extend([0x80 | 0x20, 4].repeat(200));
    let offset = first.len();
    let back = if offset < 128 {
        vec![offset as u8]
    } else {
        vec![0x80 | ((offset >> 7) - 1) as u8, (offset & 0x7f) as u8]
    };
    let second = [&entry(6, delta.len())[..], &back, &deflate(&delta)].concat();
    let pack = [&b"PACK\0\0\0\x02\0\0\0\x02"[..], &first, &second].concat();
    let file = fixture.dir.path().join("hostile.pack");
    std::fs::write(&file, &pack).unwrap();
    let sum = Command::new("sha1sum").arg(&file).output().unwrap().stdout;
    let sum = String::from_utf8(sum).unwrap();
    let sum: Vec<u8> = (0..20).map(|at| u8::from_str_radix(&sum[at * 2..at * 2 + 2], 16).unwrap()).collect();
    let head = format!("# v2 git bundle\n{} refs/patchyard/upload/head\n\n", "1".repeat(40));
    let bundle = fixture.dir.path().join("hostile.bundle");
    std::fs::write(&bundle, [head.as_bytes(), &pack, &sum].concat()).unwrap();
    assert!(std::fs::metadata(&bundle).unwrap().len() < 2000);

    let refused = fixture.repositories.import_bundle(SessionId::from(ulid::Ulid::generate()), &bundle).await;
    let words = refused.unwrap_err().to_string();
    assert!(words.contains("attempting to allocate 3000000001 over limit"), "{words}");
}

#[tokio::test]
async fn a_branch_with_the_name_of_our_folder_is_in_nobodys_way() {
    let fixture = Fixture::new().await;
    let user = fixture.user_repository();
    git(&user, &["checkout", "-q", "-b", "patchyard"]);
    std::fs::write(user.join("a.txt"), "other\n").unwrap();
    git(&user, &["commit", "-q", "-a", "-m", "second"]);
    let (session, imported) = fixture.import(&user).await;
    assert_eq!(imported.base, git(&user, &["rev-parse", "HEAD"]));
    assert_eq!(fixture.repositories.paths(session, &imported.base).await.unwrap().len(), 3);

    let roots = vec![fixture.dir.path().canonicalize().unwrap()];
    let rules = FetchRules { file_roots: roots.clone(), ..FetchRules::default() };
    let text = format!("file://{}", user.canonicalize().unwrap().display());
    let url = RepositoryUrl::parse(&text, &roots).unwrap();
    for (branch, revision) in [("patchyard", "patchyard"), ("main", "main")] {
        let session = SessionId::from(ulid::Ulid::generate());
        let imported =
            fixture.repositories.import_url(session, &remote(&url), Some(branch), &rules).await.unwrap();
        assert_eq!(imported.base, git(&user, &["rev-parse", revision]));
        fixture.repositories.start_branch(session, "patchyard/work-2", &imported.base).await.unwrap();
        assert_eq!(fixture.repositories.paths(session, &imported.base).await.unwrap().len(), 3);
    }
}

#[tokio::test]
async fn other_names_of_objects_are_refused_in_words() {
    let fixture = Fixture::new().await;
    let user = fixture.dir.path().join("long-names");
    std::fs::create_dir(&user).unwrap();
    git(&user, &["init", "-q", "-b", "main", "--object-format=sha256"]);
    git(&user, &["commit", "-q", "--allow-empty", "-m", "first"]);
    git(&user, &["update-ref", "refs/patchyard/upload/head", "HEAD"]);
    let bundle = fixture.dir.path().join("long-names.bundle");
    git(&user, &["bundle", "create", "-q", bundle.to_str().unwrap(), "--all"]);
    let refused = fixture.repositories.import_bundle(SessionId::from(ulid::Ulid::generate()), &bundle).await;
    assert!(matches!(refused, Err(GitError::ObjectFormat(_))), "{refused:?}");

    let roots = vec![fixture.dir.path().canonicalize().unwrap()];
    let rules = FetchRules { file_roots: roots.clone(), ..FetchRules::default() };
    let text = format!("file://{}", user.canonicalize().unwrap().display());
    let url = RepositoryUrl::parse(&text, &roots).unwrap();
    let session = SessionId::from(ulid::Ulid::generate());
    let refused = fixture.repositories.import_url(session, &remote(&url), None, &rules).await;
    assert!(matches!(refused, Err(GitError::ObjectFormat(_))), "{refused:?}");
}

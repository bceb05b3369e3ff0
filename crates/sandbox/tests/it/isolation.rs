//! What a sandbox sees and reaches.

use std::fs;

use protocol::hands::{ExecEvent, ExecSpec, Hands};

use crate::world::{World, eventually, is_root, processes_with, python, run, sh, shell};

#[tokio::test]
async fn there_is_no_interface_but_lo_and_that_is_up() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    assert_eq!(sh(&link, "ls /sys/class/net").await, "lo");
    assert_eq!(sh(&link, "tail -n +3 /proc/net/dev | cut -d: -f1").await.trim(), "lo");
    assert_eq!(sh(&link, "tail -n +2 /proc/net/route").await, "");
    let program = "
import socket
server = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(server.getsockname())
for address in ('1.1.1.1', '10.0.0.1', '169.254.169.254'):
    try:
        socket.create_connection((address, 80), 3)
        print('reached', address)
    except OSError as error:
        print(error.errno)
";
    assert_eq!(python(&link, program).await.out(), "101\n101\n101", "network is unreachable");
}

#[tokio::test]
async fn root_inside_is_nobody_outside() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    assert_eq!(sh(&link, "id -u; stat -c %u / /etc/passwd /root; whoami").await, "0\n0\n0\n0\nroot");
    let mut command = link.start(shell("echo up; exec sleep 2719")).await.unwrap();
    assert_eq!(command.next().await.unwrap(), ExecEvent::Stdout(b"up\n".to_vec()));
    let mut seen = Vec::new();
    eventually("the command shows on the host", || {
        seen = processes_with("sleep\u{0}2719");
        !seen.is_empty()
    })
    .await;
    for pid in seen {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        for kind in ["Uid:", "Gid:"] {
            let ids = status.lines().find_map(|line| line.strip_prefix(kind)).unwrap();
            for id in ids.split_whitespace() {
                let id: u32 = id.parse().unwrap();
                assert!(id >= 600_000_000 && id % 65_536 == 600_000_000 % 65_536, "{status}");
            }
        }
        assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
        // Without the guest's own right to look into others.
        let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
        assert_eq!(u64::from_str_radix(bounding.trim(), 16).unwrap() & (1 << 19), 0);
    }
    // What it writes belongs to its range, and no further ids exist inside.
    sh(&link, "touch /mine && chown 65535 /mine && ! chown 65536 /mine").await;
}

#[tokio::test]
async fn the_host_is_not_there() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let mark = world.data.path().join("mark");
    fs::write(&mark, "x").unwrap();
    let (_, link) = world.sandbox().await;
    sh(&link, &format!("! test -e {} && ! test -e {}", mark.display(), world.data.path().display())).await;
    assert_eq!(sh(&link, "ls -A /home; ls /run/patchyard; hostname").await, "bin\nrepository.git\npatchyard");
    let host_shadow = fs::read_to_string("/etc/shadow").unwrap_or_default();
    assert!(host_shadow.is_empty() || sh(&link, "cat /etc/shadow").await != host_shadow.trim());
    // Nothing in the table of mounts tells where on the host it is.
    let mounts = sh(&link, "cat /proc/self/mounts").await;
    assert!(!mounts.contains(&world.data.path().display().to_string()), "{mounts}");
    // Every mount but the root and what is in memory is read-only.
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let writable = fields[3].split(',').any(|option| option == "rw");
        let may_be = ["/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"];
        let is_device = fields[1].starts_with("/dev/") || fields[1].starts_with("/proc/");
        assert!(!writable || may_be.contains(&fields[1]) || is_device, "{line}");
    }
    for path in
        ["/dev/kvm", "/dev/mem", "/dev/kmsg", "/dev/fuse", "/dev/vda", "/dev/loop0", "/dev/userfaultfd"]
    {
        sh(&link, &format!("! test -e {path}")).await;
    }
}

/// Runtimes give their standard descriptors to the sandbox's root: were they the host's `/dev/null`,
/// a sandbox could take that away from everybody.
#[tokio::test]
async fn devices_of_the_host_stay_the_hosts() {
    use std::os::unix::fs::MetadataExt;
    if !is_root() {
        return;
    }
    for runtime in ["crun", "runc"] {
        let world = World::with_runtime(Some(runtime));
        let (_, link) = world.sandbox().await;
        for device in ["null", "zero", "full", "random", "urandom", "tty"] {
            let path = format!("/dev/{device}");
            sh(&link, &format!("! chmod 0 {path} && ! chown 0 {path}")).await;
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!((metadata.uid(), metadata.mode() & 0o006), (0, 0o006), "{runtime} {path}");
        }
    }
}

#[tokio::test]
async fn two_sandboxes_do_not_see_each_other() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, one) = world.sandbox().await;
    let (_, two) = world.sandbox().await;
    sh(&one, "echo secret >/secret; echo secret >/tmp/secret; echo secret >/dev/shm/secret").await;
    let serve = "
import socket, time
abstract = socket.socket(socket.AF_UNIX); abstract.bind('\\0patchyard-test'); abstract.listen()
port = socket.create_server(('0.0.0.0', 4711))
print('up', flush=True)
time.sleep(1000)
";
    let mut spec = shell("");
    spec.argv = ["python3", "-c", serve].map(str::to_owned).to_vec();
    let mut server = one.start(spec).await.unwrap();
    assert_eq!(server.next().await.unwrap(), ExecEvent::Stdout(b"up\n".to_vec()));
    sh(&two, "! test -e /secret && ! test -e /tmp/secret && ! test -e /dev/shm/secret").await;
    assert_eq!(sh(&two, "pgrep -c python3 || true").await, "0");
    let connect = "
import socket
for make in (lambda: socket.create_connection(('127.0.0.1', 4711), 3),
             lambda: socket.socket(socket.AF_UNIX).connect('\\0patchyard-test')):
    try: make(); print('reached')
    except ConnectionRefusedError: print('refused')
";
    assert_eq!(python(&one, connect).await.out(), "reached\nreached");
    assert_eq!(python(&two, connect).await.out(), "refused\nrefused");
}

#[tokio::test]
async fn an_image_is_never_changed() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, one) = world.sandbox().await;
    sh(
        &one,
        "rm /etc/hostname; echo changed >/etc/debian_version; rm -r /usr/share/perl5; mkdir /usr/share/perl5",
    )
    .await;
    let (_, two) = world.sandbox().await;
    sh(
        &two,
        "test -e /etc/hostname && test -e /usr/share/perl5/Git.pm && ! grep changed /etc/debian_version",
    )
    .await;
}

#[tokio::test]
async fn the_guest_is_out_of_reach_of_its_commands() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    // Another user than any command, with rights that no command has: none may look into it.
    let ids = "id -u; awk '/^(Uid|NoNewPrivs|CapBnd)/ { print $1, $2 }' /proc/1/status /proc/self/status";
    let seen = sh(&link, ids).await;
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..2], ["0", "Uid: 64999"], "{seen}");
    assert_eq!(lines[4], "Uid: 0", "{seen}");
    assert_ne!(lines[5], lines[2], "{seen}");
    assert_eq!(lines[6], "NoNewPrivs: 1", "{seen}");
    let attach = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n\
                  for request in (16, 0x4206): print(libc.ptrace(request, 1, 0, 0), ctypes.get_errno())\n\
                  print(libc.syscall(438, libc.syscall(434, 1, 0), 3, 0), ctypes.get_errno())\n\
                  libc.setresuid(64999, 64999, 64999)\n\
                  print(libc.ptrace(16, 1, 0, 0), ctypes.get_errno())";
    assert_eq!(crate::world::python(&link, attach).await.out(), "-1 1\n-1 1\n-1 1\n-1 1");
    let said = run(&link, shell("kill -9 1; kill -9 -1; echo survived")).await;
    assert!(!said.end.timed_out);
    sh(&link, "! cat /proc/1/environ && ! readlink /proc/1/fd/3 && ! readlink /proc/1/exe && ! (: 2>/dev/null >/proc/1/mem)").await;
    assert_eq!(sh(&link, "echo alive").await, "alive");
}

#[tokio::test]
async fn only_a_command_that_is_meant_to_may_gain_rights() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    let status = "grep NoNewPrivs /proc/self/status";
    assert_eq!(sh(&link, status).await, "NoNewPrivs:\t1");
    let said = run(&link, ExecSpec { new_privileges: true, ..shell(status) }).await;
    assert_eq!(said.out(), "NoNewPrivs:\t0");
}

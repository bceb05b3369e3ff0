//! Rows of the escape matrix that this tier has to hold.

use crate::world::{World, is_root, python, sh, tried};

#[tokio::test]
async fn the_kernels_switches_cannot_be_written() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    for path in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hotplug",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/user/max_user_namespaces",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/proc/sys/fs/binfmt_misc/register",
        "/sys/class/net/lo/mtu",
    ] {
        sh(&link, &format!("! (echo x >{path}) 2>/dev/null")).await;
    }
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
    // Nothing to read where the kernel tells of itself.
    for path in ["/proc/kallsyms", "/proc/kcore", "/proc/kmsg", "/proc/keys", "/proc/interrupts"] {
        assert_eq!(sh(&link, &format!("head -c 100 {path} 2>/dev/null | wc -c")).await, "0", "{path}");
    }
    for path in ["/sys/firmware", "/sys/kernel", "/sys/module", "/sys/fs"] {
        assert_eq!(sh(&link, &format!("ls -A {path} 2>/dev/null | wc -l")).await, "0", "{path}");
    }
}

/// K02, K03, K12, K14: mounts, groups, namespaces, the clock.
#[tokio::test]
async fn nothing_can_be_mounted_or_entered() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    let found = tried(
        &link,
        "
os.makedirs('/m', exist_ok=True)
for kind in (b'proc', b'sysfs', b'cgroup', b'cgroup2', b'debugfs', b'overlay', b'bpf', b'tmpfs'):
    print(call(165, b'none', b'/m', kind, 0, 0))   # mount
print(call(166, b'/proc', 2))                      # umount2
print(call(155, b'/m', b'/m'))                     # pivot_root
print(call(428, -100, b'/', 1))                    # open_tree
print(call(430, b'tmpfs', 0))                      # fsopen
print(call(308, os.open('/proc/self/ns/net', 0), 0))  # setns
print(call(170, b'x', 1))                          # sethostname
print(call(227, 0, ctypes.create_string_buffer(16)))  # clock_settime
print(call(169, 0xfee1dead, 672274793, 0, 0))      # reboot
print(attempt(lambda: os.mknod('/m/null', 0o20666, os.makedev(1, 3))))
print(attempt(lambda: os.mknod('/m/disk', 0o60666, os.makedev(254, 0))))
",
    )
    .await;
    assert!(found.iter().all(|word| word == "EPERM"), "{found:?}");
    assert_eq!(found.len(), 18);
    assert_eq!(sh(&link, "grep -c cgroup /proc/self/mounts || true").await, "0");
}

/// K04, K13: namespaces inside of the sandbox.
#[tokio::test]
async fn no_namespace_can_be_made() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    let found = tried(
        &link,
        "
flags = (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
for flag in flags: print(call(272, flag))                        # unshare
for flag in flags[1:]: print(call(56, flag | 17, 0, 0, 0, 0))     # clone
print(call(56, 0x10000000 | 0x40000000 | 17, 0, 0, 0, 0))
",
    )
    .await;
    assert!(found.iter().all(|word| word == "EPERM") && found.len() == 16, "{found:?}");
    let found = tried(&link, "print(call(435, ctypes.create_string_buffer(88), 88))").await;
    assert_eq!(found, ["ENOSYS"], "clone3");
    // Threads and processes are still made.
    let works = "
import threading, subprocess
t = threading.Thread(target=lambda: print('thread')); t.start(); t.join()
print(subprocess.run(['echo', 'process'], capture_output=True, text=True).stdout.strip())
";
    assert_eq!(python(&link, works).await.out(), "thread\nprocess");
}

/// K05, K06: calls with a history.
#[tokio::test]
async fn dangerous_calls_are_refused() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    let found = tried(
        &link,
        "
for number in (425, 426, 427,   # io_uring_setup, enter, register
               321, 298, 323,   # bpf, perf_event_open, userfaultfd
               246, 320,        # kexec_load, kexec_file_load
               175, 313, 176,   # init_module, finit_module, delete_module
               303, 304,        # name_to_handle_at, open_by_handle_at
               248, 249, 250,   # add_key, request_key, keyctl
               310, 311, 312,   # process_vm_readv, process_vm_writev, kcmp
               103, 163, 167, 179, 438):  # syslog, acct, swapon, quotactl, pidfd_getfd
    print(call(number, 1, 0, 0, 0, 0))
",
    )
    .await;
    assert!(found.iter().all(|word| word == "EPERM") && found.len() == 24, "{found:?}");
    let found = tried(&link, "print(call(999, 0)); print(call(101, 16, 1, 0, 0))").await;
    assert_eq!(found, ["ENOSYS", "EPERM"], "an unknown call; attaching to process 1");
}

/// K09: families of sockets.
#[tokio::test]
async fn only_common_sockets_can_be_made() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    let found = tried(
        &link,
        "
for family, kind, protocol in ((1, 1, 0), (2, 1, 0), (2, 2, 0), (10, 1, 0), (16, 3, 0)):
    print(call(41, family, kind, protocol))
",
    )
    .await;
    assert_eq!(found, ["OK"; 5]);
    let found = tried(
        &link,
        "
# netfilter and other netlinks; packet, ALG, XDP, KEY, TIPC, BLUETOOTH, CAN, VSOCK, NFC, SMC
for family, kind, protocol in ((16, 3, 12), (16, 3, 16), (17, 3, 0), (38, 5, 0), (44, 3, 0), (15, 3, 2),
                               (30, 1, 0), (31, 3, 1), (29, 3, 1), (40, 1, 0), (39, 1, 0), (43, 1, 0)):
    print(call(41, family, kind, protocol))
print(call(41, (1 << 32) | 38, 5, 0))
print(call(41, 2, 3, 1))   # raw
",
    )
    .await;
    assert!(found.iter().all(|word| word != "OK"), "{found:?}");
    assert_eq!(found.len(), 14);
}

/// K08: typing into a terminal.
#[tokio::test]
async fn no_terminal_can_be_typed_into() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    let found = tried(
        &link,
        "
leader, follower = os.openpty()
text = ctypes.create_string_buffer(b'x')
for request in (0x5412, 0x100005412, 0x541c, 0x10000541c): print(call(16, follower, request, text))
size = ctypes.create_string_buffer(8)
for request in (0x5413, 0x5401): print(call(16, follower, request, ctypes.create_string_buffer(64)))
",
    )
    .await;
    assert_eq!(found, ["EPERM", "EPERM", "EPERM", "EPERM", "OK", "OK"]);
}

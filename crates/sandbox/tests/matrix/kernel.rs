//! K: the kernel.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixListener;

use protocol::hands::{ExecSpec, TerminalSize};

use crate::field::Field;
use crate::world::{run, sh, shell};

rows! {
    k01_switches_of_the_kernel,
    k02_mounts_in_a_nested_namespace,
    k03_release_agents_of_control_groups,
    k04_nested_user_and_network_namespaces_with_nft,
    k05_calls_with_a_history,
    k06_memory_and_descriptors_of_other_processes,
    k07_signals_to_everybody,
    k08_typing_into_terminals,
    k09_families_of_sockets,
    k10_sockets_of_the_host,
    k11_devices,
    k12_namespaces_and_roots_of_others,
    k13_namespaces_by_every_call,
    k14_the_clock_and_the_names_of_the_machine,
    k15_what_the_kernel_tells_of_itself,
}

fn all(found: &[String], word: &str) -> bool {
    !found.is_empty() && found.iter().all(|each| each == word)
}

async fn k01_switches_of_the_kernel(field: &mut Field) {
    // That the host's values are as before is looked at after every row.
    let written = field
        .tried(
            "
for path in ('/proc/sys/kernel/core_pattern', '/proc/sys/kernel/modprobe', '/proc/sys/kernel/hotplug',
             '/proc/sys/kernel/sysrq', '/proc/sys/kernel/printk', '/proc/sys/kernel/randomize_va_space',
             '/proc/sys/net/ipv4/ip_forward', '/proc/sys/user/max_user_namespaces', '/proc/sysrq-trigger',
             '/sys/kernel/uevent_helper', '/proc/sys/fs/binfmt_misc/register', '/sys/class/net/lo/mtu',
             '/proc/1/oom_score_adj'):
    print(attempt(lambda: os.write(os.open(path, os.O_WRONLY), b'|/x')))
",
        )
        .await;
    assert_eq!(written.len(), 13);
    let allowed = written.iter().filter(|word| *word == "OK").count();
    assert_eq!(allowed, 0, "{written:?}");
}

async fn k02_mounts_in_a_nested_namespace(field: &mut Field) {
    let found = field
        .tried(
            "
os.makedirs('/m', exist_ok=True)
def mounts():
    for kind in (b'proc', b'sysfs', b'cgroup', b'cgroup2', b'debugfs', b'overlay', b'bpf', b'tmpfs', b'fuse'):
        print(call(165, b'none', b'/m', kind, 0, 0))
    print(call(165, b'/etc', b'/m', b'', 0x1000, 0))           # bind
    for number in (428, 429, 430, 432, 433, 442):              # open_tree, move_mount, fsopen, fsmount, fspick, mount_setattr
        print(call(number, 0, 0, 0, 0, 0))
mounts()
print(call(272, 0x10000000 | 0x20000))                         # unshare user and mount
mounts()
",
        )
        .await;
    assert!(all(&found, "EPERM") && found.len() == 33, "{found:?}");
    assert!(!sh(&field.link, "cat /proc/self/mounts").await.contains(" /m "));
}

async fn k03_release_agents_of_control_groups(field: &mut Field) {
    let found = "find / -xdev \\( -name release_agent -o -name notify_on_release -o -name cgroup.procs \\); \
                 find /sys /proc/sys -name 'release_agent' -o -name 'cgroup.procs' 2>/dev/null; true";
    assert_eq!(sh(&field.link, found).await, "");
    if !field.has_own_kernel() {
        assert_eq!(sh(&field.link, "grep -c cgroup /proc/self/mounts || true").await, "0");
    }
    let agents = fs::read_to_string("/sys/fs/cgroup/memory/release_agent").unwrap_or_default();
    assert!(!agents.contains("/m"), "{agents}");
}

async fn k04_nested_user_and_network_namespaces_with_nft(field: &mut Field) {
    let found = field
        .tried(
            "
print(call(272, 0x10000000))                    # unshare user
print(call(272, 0x10000000 | 0x40000000))       # unshare user and network
print(call(272, 0x40000000))
print(call(56, 0x10000000 | 0x40000000 | 17, 0, 0, 0, 0))
# A batch for nf_tables: begin, a table.
try:
    link = socket.socket(16, 3, 12)
    link.bind((0, 0))
    link.send(bytes.fromhex('14000000100001000100000000000000000a0000'))
    print('OK')
except OSError as error:
    print('EPERM' if error.errno in (1, 13, 22, 93, 94, 97) else error.errno)
for level in (0, 41): print(attempt(lambda: socket.socket().setsockopt(level, 64, b'\\0' * 84)).replace('ENOPROTOOPT', 'EPERM'))
",
        )
        .await;
    assert!(all(&found[..5], "EPERM") && found.len() == 7, "{found:?}");
    // Tables of packets of the old kind: a network stack of its own may have them, for itself.
    assert!(!found.contains(&"OK".to_owned()), "{found:?}");
    let networks: BTreeSet<_> = field
        .processes()
        .iter()
        .filter_map(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).ok())
        .collect();
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert!(!networks.contains(&own), "a process of the sandbox is in the host's network");
    assert!((1..=2).contains(&networks.len()), "{networks:?}");
}

async fn k05_calls_with_a_history(field: &mut Field) {
    let found = field
        .tried(
            "
for number in (425, 426, 427,   # io_uring_setup, enter, register
               321, 298, 323,   # bpf, perf_event_open, userfaultfd
               246, 320,        # kexec_load, kexec_file_load
               175, 313, 176,   # init_module, finit_module, delete_module
               303, 304,        # name_to_handle_at, open_by_handle_at
               248, 249, 250,   # add_key, request_key, keyctl
               103, 163, 167, 179, 300):  # syslog, acct, swapon, quotactl, fanotify_init
    print(call(number, 1, 0, 0, 0, 0))
",
        )
        .await;
    assert!(all(&found, "EPERM") && found.len() == 21, "{found:?}");
    let unknown = if field.has_own_kernel() { "EPERM" } else { "ENOSYS" };
    assert_eq!(field.tried("print(call(999, 0))").await, [unknown]);
}

async fn k06_memory_and_descriptors_of_other_processes(field: &mut Field) {
    let found = field
        .tried(
            "
for number in (310, 311, 312, 438, 440):   # process_vm_readv, writev, kcmp, pidfd_getfd, process_madvise
    print(call(number, 1, 0, 0, 0, 0))
print(call(101, 16, 1, 0, 0))              # ptrace attach to process 1
print(call(101, 0x4206, 1, 0, 0))          # seize
",
        )
        .await;
    assert!(all(&found, "EPERM") && found.len() == 7, "{found:?}");
}

async fn k07_signals_to_everybody(field: &mut Field) {
    let (host, init) = (field.world.host_pid(), field.init());
    // Numbers that a process has outside: none of its own namespace.
    run(&field.link, shell(&format!("kill -9 {host}; kill -9 {init}; kill -9 {}", std::process::id()))).await;
    assert_eq!(sh(&field.link, "echo alive").await, "alive");
    field.attempt("kill -STOP 1; kill -9 1; kill -9 -1").await;
    if field.ended().await {
        return;
    }
    assert_eq!((field.world.host_pid(), field.init()), (host, init));
    assert!(fs::read_to_string(format!("/proc/{host}/stat")).is_ok_and(|stat| !stat.contains(") Z ")));
}

async fn k08_typing_into_terminals(field: &mut Field) {
    let requests = "
text = ctypes.create_string_buffer(b'x')
for request in (0x5412, 0x100005412, 0x541c, 0x10000541c): print(call(16, END, request, text))
";
    let found = field.tried(&requests.replace("END", "os.openpty()[1]")).await;
    assert!(all(&found, "EPERM") && found.len() == 4, "{found:?}");
    // The same on the terminal that a person sits at.
    let program = "python3 -c \"import ctypes, errno\nlibc = ctypes.CDLL(None, use_errno=True)\n\
         for request in (0x5412, 0x541c): print(libc.syscall(16, 0, request, b'x'), ctypes.get_errno())\"";
    let terminal = Some(TerminalSize { rows: 24, columns: 80 });
    let said = run(&field.link, ExecSpec { terminal, ..shell(program) }).await;
    assert_eq!(said.out().replace('\r', ""), "-1 1\n-1 1");
}

async fn k09_families_of_sockets(field: &mut Field) {
    let allowed = "
for family, kind, protocol in ((1, 1, 0), (2, 1, 0), (2, 2, 0), (10, 1, 0), (16, 3, 0)):
    print(call(41, family, kind, protocol))
";
    assert!(all(&field.tried(allowed).await, "OK"));
    let refused = "
# netfilter and other netlinks; packet, ALG, XDP, KEY, TIPC, BLUETOOTH, CAN, VSOCK, NFC, SMC; raw
for family, kind, protocol in ((16, 3, 12), (16, 3, 16), (17, 3, 0), (38, 5, 0), (44, 3, 0), (15, 3, 2),
                               (30, 1, 0), (31, 3, 1), (29, 3, 1), (40, 1, 0), (39, 1, 0), (43, 1, 0),
                               ((1 << 32) | 38, 5, 0), (2, 3, 1), (10, 3, 58)):
    print(call(41, family, kind, protocol))
";
    let found = field.tried(refused).await;
    assert!(found.len() == 15 && !found.contains(&"OK".to_owned()), "{found:?}");
}

async fn k10_sockets_of_the_host(field: &mut Field) {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("patchyard-matrix-{}", field.made.attachment.sandbox);
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let abstract_one = UnixListener::bind_addr(&address).unwrap();
    let path = field.world.data.path().join("host-listener");
    let path_one = UnixListener::bind(&path).unwrap();
    let found = field
        .tried(&format!(
            "
for address in ('\\0{name}', '{}', '{}', '/var/run/docker.sock', '/run/containerd/containerd.sock',
                '/run/dbus/system_bus_socket', '/run/systemd/private'):
    print(attempt(lambda: socket.socket(socket.AF_UNIX).connect(address)))
",
            path.display(),
            field.world.data.path().join("host.sock").display()
        ))
        .await;
    let refused = |word: &String| ["ENOENT", "ECONNREFUSED", "ENOTDIR"].contains(&word.as_str());
    assert!(found.len() == 7 && found.iter().all(refused), "{found:?}");
    for listener in [abstract_one, path_one] {
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "somebody came");
    }
}

async fn k11_devices(field: &mut Field) {
    let found = field
        .tried(
            "
for path in ('kvm', 'mem', 'kmsg', 'fuse', 'vda', 'sda', 'loop0', 'loop-control', 'userfaultfd', 'net/tun',
             'mapper/control', 'port', 'vhost-net', 'vsock', 'uinput', 'snapshot'):
    print(attempt(lambda: os.open('/dev/' + path, os.O_RDONLY)))
",
        )
        .await;
    let absent = |word: &String| ["ENOENT", "EPERM", "EACCES", "ENXIO", "ENODEV"].contains(&word.as_str());
    assert_eq!(found.len(), 16);
    for (number, word) in found.iter().enumerate() {
        // Its own kernel has these two, which end in its own network and in its own file systems.
        let emulated = field.has_own_kernel() && [3, 9].contains(&number);
        assert!(absent(word) || emulated, "{found:?}");
    }
    let found = field
        .tried(
            "
for mode, major, minor in ((0o20666, 1, 1), (0o20666, 1, 3), (0o60666, 254, 0), (0o60666, 7, 0), (0o20666, 10, 232)):
    path = f'/root/device-{major}-{minor}'
    made = attempt(lambda: os.mknod(path, mode, os.makedev(major, minor)))
    print(attempt(lambda: os.open(path, os.O_RDONLY)) if made == 'OK' else made)
",
        )
        .await;
    assert!(found.len() == 5 && found.iter().all(absent), "{found:?}");
    let own = "ls /dev | tr '\\n' ' '";
    for name in sh(&field.link, own).await.split_whitespace() {
        let known = "console core fd full fuse mqueue net null ptmx pts random shm stderr stdin stdout tty urandom zero";
        assert!(
            known.split(' ').any(|each| each == name) && (name != "fuse" || field.has_own_kernel()),
            "{name}"
        );
    }
}

async fn k12_namespaces_and_roots_of_others(field: &mut Field) {
    let found = field
        .tried(
            "
for kind in ('net', 'mnt', 'pid', 'user', 'ipc', 'uts'):
    handle = attempt(lambda: os.open(f'/proc/1/ns/{kind}', 0))
    print('EPERM' if handle in ('EACCES', 'ENOENT') else handle)
own = attempt(lambda: os.open('/proc/self/ns/net', 0))
print(call(308, os.open('/proc/self/ns/net', 0), 0) if own == 'OK' else 'EPERM')
print(call(308, -1, 0), call(155, b'/', b'/'))
# Out of a root by a descriptor from before: comes out at the sandbox's root, not the host's.
os.makedirs('/jail', exist_ok=True)
before = os.open('/', 0)
os.chroot('/jail')
os.fchdir(before)
for _ in range(50): os.chdir('..')
os.chroot('.')
print(os.path.exists('HOST'))
"
            .replace("HOST", field.world.data.path().to_str().unwrap())
            .as_str(),
        )
        .await;
    assert_eq!(found.last().map(String::as_str), Some("False"), "{found:?}");
    assert_eq!(found[7], "EPERM EPERM");
    if field.has_own_kernel() {
        // Names of its own kernel, of process 1, which is the same user; to enter them is refused.
        assert_eq!(found[6], "EPERM", "{found:?}");
    } else {
        assert!(found[..7].iter().all(|word| word == "EPERM"), "{found:?}");
    }
}

async fn k13_namespaces_by_every_call(field: &mut Field) {
    let found = field
        .tried(
            "
flags = (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
for flag in flags: print(call(272, flag))                        # unshare
for flag in flags[1:]: print(call(56, flag | 17, 0, 0, 0, 0))    # clone
for flag in flags[1:]: print(call(56, (1 << 32) | flag | 17, 0, 0, 0, 0))
",
        )
        .await;
    assert!(all(&found, "EPERM") && found.len() == 22, "{found:?}");
    let clone3 = "
arguments = ctypes.create_string_buffer(struct.pack('=11Q', 0x10000000 | 0x40000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0))
ctypes.set_errno(0)
child = libc.syscall(ctypes.c_long(435), arguments, ctypes.c_long(88))
if child == 0: os._exit(0)
print('OK' if child > 0 else errno.errorcode[ctypes.get_errno()])
";
    let made = field.tried(clone3).await;
    if field.has_own_kernel() {
        // Allowed, because its filter has no word for "not there": a namespace of its own kernel. Of the
        // host's there are as many as before.
        let of = |kind: &str| {
            let links = field.processes().into_iter();
            links
                .filter_map(|pid| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok())
                .collect::<BTreeSet<_>>()
        };
        assert!(of("net").len() <= 2 && of("user").len() <= 2, "{made:?} {:?} {:?}", of("net"), of("user"));
    } else {
        assert_eq!(made, ["ENOSYS"]);
    }
}

async fn k14_the_clock_and_the_names_of_the_machine(field: &mut Field) {
    let before = std::time::SystemTime::now();
    let found = field
        .tried(
            "
time = ctypes.create_string_buffer(16)
print(call(227, 0, time), call(164, time, 0), call(159, ctypes.create_string_buffer(208)))  # clock_settime, settimeofday, adjtimex
print(call(170, b'x', 1), call(171, b'x', 1), call(169, 0xfee1dead, 672274793, 0x1234567, 0))  # names, reboot
",
        )
        .await;
    assert_eq!(found, ["EPERM EPERM EPERM", "EPERM EPERM EPERM"]);
    assert!(before.elapsed().is_ok());
    assert_eq!(sh(&field.link, "hostname").await, "patchyard");
}

async fn k15_what_the_kernel_tells_of_itself(field: &mut Field) {
    for path in
        ["/proc/kallsyms", "/proc/kcore", "/proc/kmsg", "/proc/keys", "/proc/interrupts", "/proc/config.gz"]
    {
        assert_eq!(sh(&field.link, &format!("head -c 100 {path} 2>/dev/null | wc -c")).await, "0", "{path}");
    }
    for path in ["/sys/firmware", "/sys/kernel", "/sys/module"] {
        assert_eq!(sh(&field.link, &format!("ls -A {path} 2>/dev/null | wc -l")).await, "0", "{path}");
    }
    assert_ne!(
        field.tried("print(call(103, 3, ctypes.create_string_buffer(64), 64))").await,
        ["OK"],
        "dmesg"
    );
}

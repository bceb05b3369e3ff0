//! Which system calls a sandbox may make.
//!
//! ```text
//!   named in ALLOWED, or allowed for these arguments ─▶ runs
//!   named in REFUSED, or refused for these arguments ─▶ EPERM
//!   any other, newer ones too ──────────────────────▶ ENOSYS, so that programs take their other way
//!   another architecture's numbers ─────────────────▶ killed by the filter
//! ```
//!
//! A call with arguments has rules that never overlap with another outcome, because a filter does not
//! promise an order among the rules of one call. Arguments that the kernel reads as 32 bits are
//! compared as 32 bits: whoever sets the upper half of the register meets the same rule.
//!
//! gVisor's filter knows no error but `EPERM`: see [`Errors`].
//!
//! `ptrace` is allowed: debuggers need it, it reaches only processes of the same sandbox, and process
//! 1 has put itself out of reach. `chroot` is allowed for package managers.

use serde_json::{Value, json};

/// `EPERM`.
const NOT_PERMITTED: u32 = 1;

/// `ENOSYS`.
const NOT_IMPLEMENTED: u32 = 38;

/// The flags of `clone` and `unshare` that make namespaces.
const NAMESPACE_FLAGS: &[u64] = &[
    0x0002_0000, // mount
    0x0200_0000, // cgroup
    0x0400_0000, // uts
    0x0800_0000, // ipc
    0x1000_0000, // user
    0x2000_0000, // pid
    0x4000_0000, // network
];

/// `CLONE_NEWTIME`: `clone` reads these bits as the exit signal, `unshare` as the flag.
const NEW_TIME: u64 = 0x80;

/// `EPROTONOSUPPORT`.
const NO_SUCH_PROTOCOL: u32 = 93;

/// `EAFNOSUPPORT`.
const NO_SUCH_FAMILY: u32 = 97;

/// Families of sockets: unix, IPv4, IPv6.
const SOCKET_FAMILIES: &[u64] = &[1, 2, 10];

/// `AF_NETLINK`, allowed for `NETLINK_ROUTE`, 0, only: that is how programs list interfaces. The
/// highest family that is allowed at all.
const NETLINK: u64 = 16;

/// `TIOCSTI` and `TIOCLINUX`, which type into a terminal; both are 0x541?.
const TERMINAL_INPUT: &[u64] = &[0x5412, 0x541c];

/// What `personality` may set: Linux, 32-bit `uname`, old version, both, "only tell", and no
/// randomised addresses, which debuggers use on their children.
const PERSONALITIES: &[u64] = &[0, 0x8, 0x2_0000, 0x2_0008, 0x4_0000, 0xffff_ffff];

/// Calls that are refused in so many words. The rest of what is not allowed looks like a call that
/// this kernel does not have.
pub const REFUSED: &str = "
    acct add_key adjtimex bpf clock_adjtime clock_settime create_module delete_module fanotify_init
    finit_module fsconfig fsmount fsopen fspick init_module io_uring_enter io_uring_register io_uring_setup
    ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind migrate_pages modify_ldt mount
    mount_setattr move_mount move_pages name_to_handle_at nfsservctl open_by_handle_at open_tree
    perf_event_open pidfd_getfd pivot_root process_madvise process_mrelease process_vm_readv
    process_vm_writev quotactl quotactl_fd reboot request_key set_mempolicy set_mempolicy_home_node
    setdomainname sethostname setns settimeofday stime swapoff swapon syslog umount umount2 userfaultfd
    vhangup vm86 vm86old
";

/// Calls that are allowed whatever their arguments.
pub const ALLOWED: &str = "
    accept accept4 access alarm arch_prctl bind brk cachestat capget capset chdir chmod chown chroot
    clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
    eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fanotify_mark
    fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork
    fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue futex_wait futex_waitv
    futex_wake futimesat get_mempolicy get_robust_list get_thread_area getcpu getcwd getdents getdents64
    getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority
    getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday
    getuid getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy
    io_getevents io_pgetevents io_setup io_submit ioprio_get ioprio_set kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lchown lgetxattr link linkat listen listxattr llistxattr
    lremovexattr lseek lsetxattr lstat madvise map_shadow_stack membarrier memfd_create mincore mkdir
    mkdirat mknod mknodat mlock mlock2 mlockall mmap mprotect mq_getsetattr mq_notify mq_open
    mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall
    munmap nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc
    pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64 pselect6 ptrace pwrite64
    pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages
    removexattr rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
    sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop sendfile sendmmsg sendmsg
    sendto set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setitimer
    setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid setxattr
    shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 socketpair splice stat statfs statx
    symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
    timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill
    truncate umask uname unlink unlinkat utime utimensat utimes vfork vmsplice wait4 waitid waitpid write
    writev
";

/// What containers inside the sandbox are made with, besides namespaces; refused otherwise.
const NESTED: &[&str] = &[
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "keyctl",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "setdomainname",
    "sethostname",
    "setns",
    "umount",
    "umount2",
];

/// Which errors a runtime's filter can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errors {
    /// The one that the profile names.
    Named,
    /// `EPERM` for all. No thread could be started where `clone3` gives that, so it is allowed: its flags
    /// reach the runtime's own kernel only.
    OnlyNotPermitted,
}

/// The names in one of these lists.
#[must_use]
pub fn names(list: &'static str) -> Vec<&'static str> {
    list.split_ascii_whitespace().collect()
}

/// The profile in the form of the OCI runtime specification. With `nested`, containers can be made inside.
#[must_use]
pub fn profile(errors: Errors, nested: bool) -> Value {
    let refused: Vec<&str> =
        names(REFUSED).into_iter().filter(|name| !(nested && NESTED.contains(name))).collect();
    let mut rules = vec![
        json!({ "names": names(ALLOWED), "action": "SCMP_ACT_ALLOW" }),
        refuse(&refused, NOT_PERMITTED),
        match errors {
            // Programs then use `clone`, whose flags a filter can see.
            Errors::Named if !nested => refuse(&["clone3"], NOT_IMPLEMENTED),
            Errors::Named | Errors::OnlyNotPermitted => allow("clone3", &[]),
        },
    ];
    if nested {
        rules.push(json!({ "names": NESTED, "action": "SCMP_ACT_ALLOW" }));
        rules.extend(["clone", "unshare"].map(|call| allow(call, &[])));
    } else {
        rules.extend(namespace_rules("clone", 0));
        rules.extend(namespace_rules("unshare", NEW_TIME));
    }
    rules.extend(socket_rules());
    rules.extend(PERSONALITIES.iter().map(|value| allow("personality", &[equal(0, *value)])));
    rules.extend(terminal_rules());
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": NOT_IMPLEMENTED,
        "architectures": [architecture()],
        "syscalls": rules,
    })
}

const fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" }
}

/// Allowed without any flag that makes a namespace, refused with one.
fn namespace_rules(call: &'static str, more: u64) -> Vec<Value> {
    let flags: Vec<u64> = NAMESPACE_FLAGS.iter().copied().chain((more != 0).then_some(more)).collect();
    let all = flags.iter().fold(0, |all, flag| all | flag);
    let mut rules = vec![allow(call, &[masked(0, all, 0)])];
    rules.extend(flags.iter().map(|flag| refuse_with(call, &[masked(0, *flag, *flag)], NOT_PERMITTED)));
    rules
}

/// Other families look like those that a kernel was built without, which programs are ready for: the
/// audit library, say, takes nothing else for an answer.
fn socket_rules() -> Vec<Value> {
    let mut rules: Vec<Value> = (0..NETLINK)
        .map(|family| {
            let exactly = [equal(0, family)];
            if SOCKET_FAMILIES.contains(&family) {
                allow("socket", &exactly)
            } else {
                refuse_with("socket", &exactly, NO_SUCH_FAMILY)
            }
        })
        .collect();
    rules.push(allow("socket", &[equal(0, NETLINK), equal(2, 0)]));
    rules.push(refuse_with("socket", &[equal(0, NETLINK), greater(2, 0)], NO_SUCH_PROTOCOL));
    rules.push(refuse_with("socket", &[greater(0, NETLINK)], NO_SUCH_FAMILY));
    rules
}

/// `ioctl` with any request but two. A filter knows no "unequal under a mask", so what is allowed is
/// said bit by bit: a request with any bit above the last four that differs from 0x541?, and the
/// fourteen requests 0x541? that are neither.
fn terminal_rules() -> Vec<Value> {
    const PREFIX: u64 = 0x5410;
    let mut rules: Vec<Value> =
        (4..32).map(|bit| 1_u64 << bit).map(|bit| allow("ioctl", &[masked(1, bit, !PREFIX & bit)])).collect();
    for request in PREFIX..PREFIX + 16 {
        let exactly = masked(1, 0xffff_ffff, request);
        rules.push(if TERMINAL_INPUT.contains(&request) {
            refuse_with("ioctl", &[exactly], NOT_PERMITTED)
        } else {
            allow("ioctl", &[exactly])
        });
    }
    rules
}

fn allow(call: &str, arguments: &[Value]) -> Value {
    json!({ "names": [call], "action": "SCMP_ACT_ALLOW", "args": arguments })
}

fn refuse(calls: &[&str], errno: u32) -> Value {
    json!({ "names": calls, "action": "SCMP_ACT_ERRNO", "errnoRet": errno })
}

fn refuse_with(call: &str, arguments: &[Value], errno: u32) -> Value {
    json!({ "names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": arguments })
}

fn equal(index: u32, value: u64) -> Value {
    json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" })
}

fn greater(index: u32, value: u64) -> Value {
    json!({ "index": index, "value": value, "op": "SCMP_CMP_GT" })
}

/// The argument's bits under `mask` are `value`.
fn masked(index: u32, mask: u64, value: u64) -> Value {
    json!({ "index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" })
}

//! What the process gives up before it reads the first byte of a sandbox.
//!
//! ```text
//!   files      none but those that say which name servers there are       Landlock, where the kernel has it
//!   programs   none can be run                                            seccomp
//!   kernel     no mounts, namespaces, tracing, keys, modules, io_uring    seccomp
//!   sockets    IPv4, IPv6, and the server's                               seccomp
//! ```
//!
//! Its user, who owns nothing, and "no new privileges" come from who starts it.

use std::collections::BTreeMap;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    path_beneath_rules,
};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Where it stands which name servers there are. Folders: the file in them is often a new one.
const READ: [&str; 4] = ["/etc", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager"];

/// Calls that are for others.
const REFUSED: [i64; 40] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_personality,
    libc::SYS_quotactl,
];

/// Families of sockets that there may be. Netlink is how resolvers look at the machine's addresses.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Why something could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Files.
    #[error("egress cannot give up its view of files: {0}")]
    Files(#[from] landlock::RulesetError),
    /// Calls.
    #[error("egress cannot give up system calls: {0}")]
    Calls(#[from] seccompiler::Error),
    /// Calls, too.
    #[error("egress cannot give up system calls: {0}")]
    Filter(#[from] seccompiler::BackendError),
}

/// Gives it all up, for good. For the only thread that there is.
///
/// # Errors
///
/// When the kernel refuses. One without Landlock is none: then files are kept apart by the user alone.
pub fn confine() -> Result<(), ConfineError> {
    let abi = ABI::V4;
    Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::BindTcp)?
        .create()?
        .add_rules(path_beneath_rules(READ, AccessFs::from_read(abi)))?
        .restrict_self()?;
    seccompiler::apply_filter(&filter()?)?;
    Ok(())
}

fn filter() -> Result<BpfProgram, ConfineError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.into_iter().map(|call| (call, Vec::new())).collect();
    let other = FAMILIES.into_iter().map(|family| {
        let family = u64::from(family.unsigned_abs());
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)
    });
    let other = SeccompRule::new(other.collect::<Result<_, _>>()?)?;
    rules.insert(libc::SYS_socket, vec![other]);
    let no = u32::from(libc::EPERM.unsigned_abs() as u16);
    let arch = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(no), arch)?.try_into()?)
}

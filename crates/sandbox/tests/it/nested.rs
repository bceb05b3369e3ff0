//! Containers inside a sandbox, where its environment asks for them.

use protocol::sandbox_spec::SandboxSpec;

use crate::world::{World, is_root, limits, python, run, sandbox_id, sh, shell, slim};

/// A container by hand: a user namespace with ids of the second range, own processes and mounts.
const CONTAINER: &str = r#"
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def must(result):
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
ready, mapped = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    must(libc.unshare(0x10000000 | 0x20000 | 0x20000000 | 0x40000000 | 0x4000000))
    os.write(ready[1], b'x'); os.read(mapped[0], 1)
    must(libc.setresgid(0, 0, 0)); must(libc.setresuid(0, 0, 0))
    inner = os.fork()
    if inner == 0:
        os.makedirs('/tmp/c', exist_ok=True)
        must(libc.mount(b'tmpfs', b'/tmp/c', b'tmpfs', 0, None))
        os.mkdir('/tmp/c/proc')
        must(libc.mount(b'proc', b'/tmp/c/proc', b'proc', 0, None))
        must(libc.sethostname(b'inner', 5))
        pids = [name for name in os.listdir('/tmp/c/proc') if name.isdigit()]
        print(os.getuid(), os.uname().nodename, os.getpid(), pids, flush=True)
        os._exit(0)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]))
os.close(ready[1])
if not os.read(ready[0], 1): raise SystemExit('no namespace')
for kind in ('uid', 'gid'): open(f'/proc/{child}/{kind}_map', 'w').write('0 65536 1000')
os.write(mapped[1], b'x')
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"#;

#[tokio::test]
async fn containers_are_made_inside_where_that_is_asked_for_and_only_there() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let spec = SandboxSpec { nested: true, ..slim(limits()) };
    let made = world.host.create(sandbox_id(), Some(world.session()), spec).await.unwrap();
    let link = world.host.link(&made).await.unwrap();
    let said = python(&link, CONTAINER).await;
    assert_eq!(said.out(), "0 inner 1 ['1']", "{}", said.all());
    assert!(sh(&link, "grep NoNewPrivs /proc/self/status").await.ends_with('0'));
    assert_eq!(sh(&link, "awk '{print $3}' /proc/self/uid_map").await, "131072");
    // Setuid programs work, within the sandbox's own ids.
    let su =
        "cp /usr/bin/id /tmp/sid && chmod 4755 /tmp/sid && setpriv --reuid 1000 --clear-groups /tmp/sid -u";
    assert_eq!(sh(&link, su).await, "0");
    // The host is as far as ever.
    for attack in [
        "echo x >/proc/sys/kernel/core_pattern",
        "echo x >/proc/sysrq-trigger",
        "head -c1 /proc/kcore",
        "mount -t sysfs s /mnt && echo x >/mnt/kernel/uevent_helper",
        "mount /dev/vda /mnt",
        "unshare -Urm sh -c 'echo x >/proc/sys/kernel/core_pattern'",
        "nsenter -t 1 -m true",
    ] {
        let said = run(&link, shell(attack)).await;
        assert!(!said.end.is_success() && !said.end.timed_out, "{attack}: {}", said.all());
    }
    let (_, ordinary) = world.sandbox().await;
    let said = python(&ordinary, CONTAINER).await;
    assert!(said.all().contains("no namespace"), "{}", said.all());
    assert_eq!(sh(&ordinary, "awk '{print $3}' /proc/self/uid_map").await, "65536");
    let said = run(&ordinary, shell(su)).await;
    assert_eq!(said.out(), "1000", "no setuid elsewhere: {}", said.all());
}

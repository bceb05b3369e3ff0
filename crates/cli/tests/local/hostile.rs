//! Ways out that have worked elsewhere.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use serde_json::json;

use crate::world::{World, everybody};

#[test]
fn a_link_that_was_planted_leads_nowhere() {
    for who in everybody() {
        let world = World::new(who);
        symlink(world.path("outside"), world.path("project/way")).unwrap();
        symlink("/etc", world.path("project/etc")).unwrap();
        world.give();
        let said = world.inside(
            "echo x > way/file; echo x > way/new; echo x > etc/patchyard-test; ln -s / all; \
             echo x > all/patchyard-test; echo x > /proc/self/root/patchyard-test; \
             echo x > /proc/1/root/patchyard-test; echo x > /proc/self/cwd/../outside/new; exit 0",
        );
        assert!(said.success(), "{who:?}: {}", said.err());
        assert_eq!(world.read("outside/file"), "outside\n");
        assert!(!world.exists("outside/new"));
        for path in ["/patchyard-test", "/etc/patchyard-test"] {
            assert!(!std::path::Path::new(path).exists(), "{who:?}: {path}");
        }
    }
}

#[test]
fn what_a_settings_path_leads_to_is_not_opened_by_a_repository() {
    for who in everybody() {
        let world = World::new(who);
        symlink(world.path("outside"), world.path("project/way")).unwrap();
        let settings = json!({ "sandbox": { "filesystem": { "allowWrite": ["./way"] } } });
        world.write("project/.claude/settings.json", &settings.to_string());
        let said = world.inside("echo x > way/new; exit 0");
        assert!(said.err().contains("leads out of the repository"), "{who:?}: {}", said.err());
        assert!(!world.exists("outside/new"));
    }
}

#[test]
fn the_hosts_kernel_is_out_of_reach() {
    for who in everybody() {
        let world = World::new(who);
        let before = std::fs::read("/proc/sys/kernel/core_pattern").unwrap();
        // Opened only: a success would be harm enough.
        let said = world.inside(
            "for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sysrq-trigger \
             /proc/sys/net/ipv4/ip_forward /proc/sys/user/max_user_namespaces /sys/kernel/uevent_helper \
             /proc/sys/kernel/hostname /proc/self/root/proc/sys/kernel/core_pattern \
             $(find /sys/fs/cgroup -name release_agent -o -name cgroup.procs -maxdepth 2 2>/dev/null); do \
             ( : >> $f ) 2>/dev/null && echo \"opened $f\"; done; \
             mount -t tmpfs x /mnt 2>/dev/null && echo mounted; mount -o remount,rw / 2>/dev/null && echo remounted; \
             umount .git/config 2>/dev/null && echo umounted; mknod $TMPDIR/m c 1 1 2>/dev/null && echo made; \
             unshare -Ur true 2>/dev/null && echo user; unshare -n true 2>/dev/null && echo network; \
             unshare -m true 2>/dev/null && echo mounts; chroot / true 2>/dev/null && echo chroot; exit 0",
        );
        assert_eq!(said.out(), "", "{who:?}");
        assert!(said.success());
        assert_eq!(std::fs::read("/proc/sys/kernel/core_pattern").unwrap(), before);
    }
}

#[test]
fn other_processes_are_not_there() {
    for who in everybody() {
        let world = World::new(who);
        let mut bystander = world.command("sleep").arg("1000").spawn().unwrap();
        let said = world.inside(&format!(
            "kill -9 {pid} 2>/dev/null; kill -9 -1; ls -d /proc/[0-9]* | wc -l; cat /proc/{pid}/environ",
            pid = bystander.id()
        ));
        assert!(bystander.try_wait().unwrap().is_none(), "{who:?}: {}", said.err());
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    }
}

#[test]
fn the_network_is_closed() {
    for who in everybody() {
        let world = World::new(who);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let said = world.inside(&format!(
            "tail -n +3 /proc/net/dev | cut -d: -f1; python3 -c \"import socket\n\
             try: socket.create_connection(('127.0.0.1', {port}), 2); print('connected')\n\
             except OSError: pass\n\
             udp = socket.socket(type=socket.SOCK_DGRAM); udp.connect(('1.1.1.1', 443))\n\
             try: udp.send(b'x'); udp.settimeout(5); udp.recv(1); print('answered')\n\
             except ConnectionRefusedError: print('refused')\"; \
             env -i curl -sS --max-time 5 http://169.254.169.254/latest; \
             ip link add x type dummy 2>/dev/null && echo device; ip route flush table local 2>/dev/null && echo route; \
             nft flush ruleset 2>/dev/null && echo rules; exit 0"
        ));
        let words = "lo\nrefused\npatchyard: 169.254.169.254:80 was refused: the host is a cloud's metadata";
        assert!(said.out().trim_start().starts_with(words), "{who:?}: {} {}", said.out(), said.err());
        assert_eq!(said.out().lines().count(), 3, "{who:?}: {}", said.out());
        drop(listener);
    }
}

#[test]
fn unix_sockets_need_to_be_named() {
    for who in everybody() {
        let world = World::new(who);
        let _named = UnixListener::bind(world.path("outside/named")).unwrap();
        let _other = UnixListener::bind(world.path("outside/other")).unwrap();
        for socket in ["named", "other"] {
            use std::os::unix::fs::PermissionsExt as _;
            let anybody = std::fs::Permissions::from_mode(0o777);
            std::fs::set_permissions(world.path(&format!("outside/{socket}")), anybody).unwrap();
        }
        let script = "python3 -c \"import socket\n\
             a, b = socket.socketpair(); a.send(b'x'); b.recv(1)\n\
             for name in ['named', 'other']:\n\
             \u{20}try: s = socket.socket(socket.AF_UNIX); s.connect('../outside/' + name); print(name)\n\
             \u{20}except OSError as error: pass\n\
             try: socket.socketpair(type=socket.SOCK_DGRAM); print('datagrams')\n\
             except OSError: pass\"; echo ${SSH_AUTH_SOCK-none}";
        let run = |settings: &serde_json::Value| {
            world.write("home/given.json", &settings.to_string());
            let mut command = world.sandbox();
            command.env("SSH_AUTH_SOCK", "/run/agent").arg("--settings").arg(world.path("home/given.json"));
            let output = command.args(["--", "sh", "-c", script]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(run(&json!({})), "none\n", "{who:?}");
        let listed =
            json!({ "sandbox": { "network": { "allowUnixSockets": [world.path("outside/named")] } } });
        assert_eq!(run(&listed), "named\ndatagrams\n/run/agent\n", "{who:?}");
        let all = json!({ "sandbox": { "network": { "allowAllUnixSockets": true } } });
        assert_eq!(run(&all), "named\nother\ndatagrams\n/run/agent\n", "{who:?}");
    }
}

#[test]
fn no_descriptor_is_a_door() {
    for who in everybody() {
        let world = World::new(who);
        let program = world.path("patchyard");
        let program = program.display();
        // A folder that the caller has open, under a number that nobody expects.
        let said = world.outside(&format!(
            "exec 7<../outside; {program} sandbox -- sh -c 'ls /proc/self/fd; cat /proc/self/fd/7/file'"
        ));
        assert!(!said.out().contains("outside"), "{who:?}: {}", said.out());
        assert!(!said.out().lines().any(|number| number.parse::<u32>().unwrap() > 3), "{}", said.out());
        // A folder as standard input is refused.
        let said = world.outside(&format!("{program} sandbox -- true < ../outside"));
        assert_eq!(said.code(), Some(3), "{}", said.err());
        // A file as standard input can be read, from where it stood, and not be written.
        world.write("outside/input", "one\ntwo\n");
        let said = world.outside(&format!(
            "{{ head -c 4 >/dev/null; {program} sandbox -- sh -c 'cat; echo x > /proc/self/fd/0'; }} < ../outside/input"
        ));
        assert!(said.out().ends_with("two\n"), "{who:?}: {} {}", said.out(), said.err());
        assert_eq!(world.read("outside/input"), "one\ntwo\n");
    }
}

#[test]
fn a_denied_file_stays_denied_by_other_ways() {
    for who in everybody() {
        let world = World::new(who);
        world.write("outside/key", "key\n");
        std::fs::hard_link(world.path("outside/key"), world.path("outside/second")).unwrap();
        let settings = json!({ "sandbox": { "filesystem": { "denyRead": [world.path("outside/key")] } } });
        let key = world.path("outside/key");
        let key = key.display();
        let said = world.with(
            &settings,
            &format!(
                "ln -s {key} way; cat way {key} /proc/self/root{key} /proc/1/root{key}; cp {key} copy; \
                 ln {key} hard; cat hard; exec 5<{key} && cat /proc/self/fd/5; exit 0"
            ),
        );
        assert_eq!(said.out(), "", "{who:?}");
        assert!(said.err().contains("key has another name"), "told: {}", said.err());
        assert_eq!(world.with(&settings, "cat ../outside/second").out(), "key\n", "the limit that is told");
    }
}

#[test]
fn nothing_is_typed_into_the_callers_terminal() {
    for who in everybody() {
        let world = World::new(who);
        let script = "import fcntl, os, termios\n\
            for fd in range(3):\n \
            try: fcntl.ioctl(fd, 0x5412, b'x'); print('typed')\n \
            except OSError as error: print(error.errno)\n\
            try: os.open('/dev/tty', os.O_RDWR); print('opened')\n\
            except OSError as error: pass\n";
        let mut command = world.sandbox();
        command.args(["--", "python3", "-c", script]).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n1\n1\n", "{who:?}");
    }
}

//! C: credentials and the control plane.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use protocol::hands::ExecSpec;

use crate::field::Field;
use crate::world::{run, sh, shell};

rows! {
    c01_tokens_in_environments_and_files,
    c05_variables_that_point_the_agent_elsewhere,
    c07_the_guest_looked_into,
    c08_the_control_plane,
}

/// The variables of a command.
const COMMANDS: &str = "HOME LANG LOGNAME PATCHYARD_EXEC PATH SHELL TERM USER";

/// And those of process 1, where it can be looked at.
const GUESTS_TOO: &str = COMMANDS;

/// The world gives `sandbox-host` an environment with a key in it.
async fn c01_tokens_in_environments_and_files(field: &mut Field) {
    let canary = crate::world::CANARY;
    let environment = fs::read(format!("/proc/{}/environ", field.world.host_pid())).unwrap();
    assert!(String::from_utf8_lossy(&environment).contains(canary), "there is something to steal");
    fs::write(field.world.data.path().join("token"), canary).unwrap();
    // The word comes in backwards, so that the search does not find itself.
    let search = format!(
        "
word, names, found = '{}'[::-1].encode(), set(), []
for root in ('/proc', '/etc', '/root', '/run', '/tmp', '/var', '/opt', '/dev/shm', '/home', '/usr/local'):
    for folder, below, files in os.walk(root):
        if root == '/proc': files = [file for file in files if file in ('environ', 'cmdline')]
        for file in files:
            path = os.path.join(folder, file)
            if not (os.path.isfile(path) and os.access(path, os.R_OK)): continue
            try: text = open(path, 'rb').read(1 << 20)
            except OSError: continue
            if word in text: found.append(path)
            if file == 'environ': names |= {{pair.split(b'=')[0].decode() for pair in text.split(b'\\0') if pair}}
print(found, ' '.join(sorted(names)))
",
        canary.chars().rev().collect::<String>()
    );
    let names = if field.has_own_kernel() { GUESTS_TOO } else { COMMANDS };
    assert_eq!(field.tried(&search).await, [format!("[] {names}")]);
    // No core of a process that could hold something.
    assert_eq!(sh(&field.link, "ulimit -c; ulimit -Hc").await, "0\n0");
}

async fn c05_variables_that_point_the_agent_elsewhere(field: &mut Field) {
    // Written everywhere where a shell or a tool could take them from.
    let plant = "for f in /root/.bashrc /etc/environment /etc/profile /root/w.env; do \
                 echo 'export ANTHROPIC_BASE_URL=http://evil.test HTTPS_PROXY=http://evil.test SSL_CERT_FILE=/tmp/ca' >>$f; done";
    sh(&field.link, plant).await;
    let seen = sh(&field.link, "env | grep -ciE 'anthropic|proxy|cert|token|key|secret' || true").await;
    assert_eq!(seen, "0");
    // The model is asked by the server, which has its address and key from its own environment: nothing
    // of a sandbox's takes part. What a command sets for itself stays with it.
    let mut spec = shell("echo $ANTHROPIC_BASE_URL");
    spec.env = vec![("ANTHROPIC_BASE_URL".into(), "http://evil.test".into())];
    assert_eq!(run(&field.link, spec).await.out(), "http://evil.test");
    assert_eq!(sh(&field.link, "echo $ANTHROPIC_BASE_URL").await, "");
}

async fn c07_the_guest_looked_into(field: &mut Field) {
    let found = field
        .tried(
            "
print(call(101, 16, 1, 0, 0), call(101, 0x4206, 1, 0, 0), call(438, 3, 3, 0), call(310, 1, 0, 0, 0, 0, 0))
for name in ('environ', 'mem', 'maps', 'fd/3', 'exe', 'root', 'cwd', 'stack'):
    path = f'/proc/1/{name}'
    print(attempt(lambda: os.readlink(path) if name in ('fd/3', 'exe', 'root', 'cwd') else os.read(os.open(path, os.O_RDONLY), 10)))
print(attempt(lambda: os.open('/proc/1/mem', os.O_RDWR)))
",
        )
        .await;
    assert_eq!(found[0], "EPERM EPERM EPERM EPERM");
    let said =
        run(&field.link, ExecSpec { new_privileges: true, ..shell("cat /proc/1/environ | tr '\\0' '\\n'") })
            .await;
    assert!(!said.all().contains(crate::world::CANARY), "{}", said.all());
    if field.has_own_kernel() {
        // Its process 1 is the same user as the commands: they can look, at nothing of worth.
        return;
    }
    assert!(
        found[1..].iter().all(|word| ["EACCES", "EPERM", "ENOENT"].contains(&word.as_str())),
        "{found:?}"
    );
}

async fn c08_the_control_plane(field: &mut Field) {
    let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let path = field.world.data.path().join("run/server.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let found = field
        .tried(&format!(
            "
def reach(address, port, family=socket.AF_INET):
    handle = socket.socket(family); handle.settimeout(3)
    return attempt(lambda: handle.connect((address, port)))
for address in ('127.0.0.1', '10.0.0.1', '172.17.0.1', '192.168.0.1', '169.254.169.254', '0.0.0.0'):
    print(reach(address, {port}))
print(reach('::1', {port}, socket.AF_INET6))
print(attempt(lambda: socket.socket(socket.AF_UNIX).connect('{}')))
",
            path.display()
        ))
        .await;
    let refused = |word: &String| {
        ["ENETUNREACH", "ECONNREFUSED", "EHOSTUNREACH", "ENOENT", "EADDRNOTAVAIL"].contains(&word.as_str())
    };
    assert!(found.len() == 8 && found.iter().all(refused), "{found:?}");
    tcp.set_nonblocking(true).unwrap();
    unix.set_nonblocking(true).unwrap();
    assert!(tcp.accept().is_err() && unix.accept().is_err());
}

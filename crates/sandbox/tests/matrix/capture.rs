//! E: leaving by the network, while there is none.

use std::fs;

use crate::field::Field;
use crate::world::{run, sh, shell};

rows! {
    e01_programs_that_know_no_proxy,
    e02_variables_and_options_that_name_a_proxy,
    e03_addresses_instead_of_names,
    e04_root_takes_its_own_network_apart,
    e05_a_network_namespace_in_the_sandbox,
    e07_every_process_killed,
}

async fn e01_programs_that_know_no_proxy(field: &mut Field) {
    let program = "printf '#include <arpa/inet.h>\\n#include <stdio.h>\\n#include <sys/socket.h>\\n\
                   int main(void) { struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(80), \
                   .sin_addr = { htonl(0x01010101) } }; int s = socket(AF_INET, SOCK_STREAM, 0); \
                   puts(connect(s, (void *)&a, sizeof a) ? \"no\" : \"yes\"); }\\n' >/root/a.c \
                   && cc -static -o /root/a /root/a.c && env -i /root/a; env -i /usr/bin/curl -sm 3 http://1.1.1.1 >/dev/null || echo no";
    assert_eq!(sh(&field.link, program).await, "no\nno");
}

async fn e02_variables_and_options_that_name_a_proxy(field: &mut Field) {
    let tries = "for o in '--noproxy *' '--proxy http://9.9.9.9:3128' '--connect-to ::1.1.1.1:80' '--resolve a.test:80:1.1.1.1'; do \
                   curl -sm 3 $o http://a.test/ >/dev/null && echo out; done; \
                 NO_PROXY='*' ALL_PROXY=socks5://9.9.9.9:1080 curl -sm 3 http://1.1.1.1/ >/dev/null && echo out; true";
    assert_eq!(sh(&field.link, tries).await, "");
}

async fn e03_addresses_instead_of_names(field: &mut Field) {
    let found = field
        .tried(
            "
for family, address in ((2, '1.1.1.1'), (2, '10.0.0.1'), (2, '169.254.169.254'), (2, '255.255.255.255'),
                        (10, '2606:4700:4700::1111'), (10, 'fe80::1'), (10, '::ffff:1.1.1.1')):
    for kind, port in ((1, 443), (1, 22), (1, 5432), (2, 53)):
        handle = socket.socket(family, kind); handle.settimeout(3)
        print(attempt(lambda: handle.connect((address, port))))
",
        )
        .await;
    assert!(found.len() == 28 && !found.contains(&"OK".to_owned()), "{found:?}");
}

async fn e04_root_takes_its_own_network_apart(field: &mut Field) {
    let found = field
        .tried(
            "
route = socket.socket(16, 3, 0)
route.bind((0, 0))
def ask(kind, flags, body):
    # A netlink request with ACK; its answer's error.
    route.send(struct.pack('=IHHII', 16 + len(body), kind, 1 | 4 | flags, 1, 0) + body)
    answer = route.recv(65536)
    code = struct.unpack('=i', answer[16:20])[0]
    return errno.errorcode[-code] if code else 'OK'
name = b'dummy\\0\\0\\0'
info = struct.pack('=HH', 12, 1) + name
link = struct.pack('=BxHiII', 0, 0, 0, 0, 0) + struct.pack('=HH', 4 + len(info), 18) + info
print(ask(16, 0x600, link))                                                     # a dummy interface
print(ask(24, 0x600, struct.pack('=BBBBBBBBI', 2, 0, 0, 0, 254, 4, 0, 1, 0)))   # a route
print(ask(17, 0, struct.pack('=BxHiII', 0, 0, 1, 0, 0)))                        # lo away
plain = socket.socket()
for request, text in ((0x8914, b'lo' + b'\\0' * 14 + b'\\0' * 24), (0x8916, b'lo' + b'\\0' * 14 + b'\\2\\0\\0\\0\\1\\1\\1\\1' + b'\\0' * 16)):
    print(call(16, plain.fileno(), request, ctypes.create_string_buffer(text)))
print(attempt(lambda: os.open('/dev/net/tun', os.O_RDWR)))
for path in ('ip_forward', 'conf/all/route_localnet', 'ip_local_port_range'):
    print(attempt(lambda: os.write(os.open('/proc/sys/net/ipv4/' + path, os.O_WRONLY), b'1')))
",
        )
        .await;
    assert_eq!(found.len(), 9);
    // A network stack of its own has tunnels and switches of its own; there is nothing behind them.
    let switches = if field.has_own_kernel() { 5 } else { 9 };
    assert!(found[..switches].iter().all(|word| word != "OK"), "{found:?}");
    assert_eq!(sh(&field.link, "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '").await, "lo");
    // Nothing but loopback there by the host's word, either.
    let devices = fs::read_to_string(format!("/proc/{}/net/dev", field.init())).unwrap();
    let names: Vec<&str> =
        devices.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).collect();
    assert_eq!(names, ["lo"]);
}

async fn e05_a_network_namespace_in_the_sandbox(field: &mut Field) {
    let said =
        run(&field.link, shell("unshare -rn ip link set lo up; unshare -n true; unshare -U true")).await;
    assert!(!said.end.is_success() && said.all().contains("not permitted"), "{}", said.all());
}

/// The sandbox goes on, or it ends; there is no third.
async fn e07_every_process_killed(field: &mut Field) {
    field.attempt("kill -9 -1; kill -9 1").await;
    if field.ended().await {
        return;
    }
    let killer = "import os, signal\nfor pid in range(1, 70000):\n  if pid != os.getpid():\n    try: os.kill(pid, 9)\n    except OSError: pass\nprint('done')";
    assert_eq!(field.python(killer).await.out(), "done");
    assert_eq!(sh(&field.link, "ls /sys/class/net; echo alive").await, "lo\nalive");
}

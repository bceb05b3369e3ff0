//! The network of a sandbox: everything it does arrives at listeners that somebody outside holds.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use nix::sys::socket::{SockaddrIn, getsockopt, sockopt};
use protocol::egress::{Door, GIT_PORT, Gateway, MODEL_PORT, PROXY_PORT};
use protocol::sandbox_host::DOORS_MOUNT;
use sandbox::client::SandboxHostError;
use sandbox::guest_link::GuestLink;

use crate::world::{Setting, World, is_root, limits, python, sh};

/// The first listener of each kind: that in IPv4.
fn in_ipv4((doors, sockets): (Vec<Door>, Vec<OwnedFd>)) -> HashMap<String, OwnedFd> {
    let mut all: Vec<_> = doors.iter().map(|door| format!("{door:?}")).zip(sockets).collect();
    all.reverse();
    all.into_iter().collect()
}

async fn dial(link: &GuestLink, family: &str, address: &str, port: u16) -> String {
    let program = format!(
        "
import socket
s = socket.socket(socket.{family}, socket.SOCK_STREAM)
s.settimeout(5)
try:
    s.connect(('{address}', {port})); print('OK')
except OSError as error: print(type(error).__name__)
"
    );
    python(link, &program).await.out().trim().to_owned()
}

#[tokio::test]
async fn every_connection_arrives_with_the_address_that_it_was_for() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (made, link) = world.sandbox().await;
    assert_eq!(dial(&link, "AF_INET", "93.184.216.34", 443).await, "OSError", "nothing yet");
    let mut doors = in_ipv4(world.host.listen(made.sandbox).await.unwrap());
    let capture = TcpListener::from(doors.remove("Capture").unwrap());
    capture.set_nonblocking(false).unwrap();
    for (address, port) in
        [("93.184.216.34", 443), ("10.1.2.3", 22), ("169.254.169.254", 80), ("1.1.1.1", 53)]
    {
        assert_eq!(dial(&link, "AF_INET", address, port).await, "OK", "{address}");
        let (stream, _) = capture.accept().unwrap();
        let original = SockaddrIn::from(getsockopt(&stream, sockopt::OriginalDst).unwrap());
        let wanted = SocketAddr::from((address.parse::<Ipv4Addr>().unwrap(), port));
        assert_eq!(SocketAddr::from((original.ip(), original.port())), wanted);
    }
    // Its own servers stay its own, also at ports that are captured elsewhere.
    let own = "
import socket, threading
server = socket.create_server(('127.0.0.1', 443))
client = socket.create_connection(('127.0.0.1', 443))
print(server.accept()[1] == client.getsockname())
";
    assert_eq!(python(&link, own).await.out(), "True");
    assert_eq!(dial(&link, "AF_INET", "127.0.0.1", 81).await, "ConnectionRefusedError");
    // The doors are there, and nothing else: all UDP but names is refused at once.
    for port in [3128, 53] {
        assert_eq!(dial(&link, "AF_INET", "127.0.0.1", port).await, "OK", "{port}");
    }
    let packets = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5); s.connect(('93.184.216.34', 443)); s.send(b'x')
try: s.recv(1)
except OSError as error: print(type(error).__name__)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'question', ('8.8.8.8', 53))
";
    assert_eq!(python(&link, packets).await.out(), "ConnectionRefusedError");
    let names = UdpSocket::from(doors.remove("DnsPacket").unwrap());
    names.set_nonblocking(false).unwrap();
    let mut bytes = [0; 16];
    let length = names.recv(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"question");
    assert_eq!(
        sh(&link, "cat /etc/resolv.conf; stat -c %a%u /etc /etc/resolv.conf").await,
        "nameserver 127.0.0.1\n7550\n6440"
    );
}

#[tokio::test]
async fn ipv6_is_captured_too() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (made, link) = world.sandbox().await;
    let (doors, mut sockets) = world.host.listen(made.sandbox).await.unwrap();
    let at = doors.iter().rposition(|door| *door == Door::Capture).unwrap();
    let capture = TcpListener::from(sockets.remove(at));
    assert!(capture.local_addr().unwrap().is_ipv6(), "this machine has IPv6");
    capture.set_nonblocking(false).unwrap();
    assert_eq!(dial(&link, "AF_INET6", "2606:2800:220:1::1", 443).await, "OK");
    let (stream, _) = capture.accept().unwrap();
    let original =
        nix::sys::socket::SockaddrIn6::from(getsockopt(&stream, sockopt::Ip6tOriginalDst).unwrap());
    assert_eq!((original.ip().to_string().as_str(), original.port()), ("2606:2800:220:1::1", 443));
}

#[tokio::test]
async fn gateways_are_open_whatever_else_is_and_a_port_that_is_taken_inside_is_told() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (made, link) = world.sandbox().await;
    let mut open = world.host.gateways(made.sandbox).await.unwrap();
    assert_eq!(open.iter().map(|(gateway, _)| *gateway).collect::<Vec<_>>(), [Gateway::Model, Gateway::Git]);
    assert_eq!(dial(&link, "AF_INET", "127.0.0.1", MODEL_PORT).await, "OK");
    assert_eq!(dial(&link, "AF_INET", "127.0.0.1", GIT_PORT).await, "OK");
    assert_ne!(dial(&link, "AF_INET", "93.184.216.34", 443).await, "OK", "nothing else is opened by it");
    // What captures leaves them alone, and they do not need it.
    let captured = world.host.listen(made.sandbox).await.unwrap();
    assert_eq!(dial(&link, "AF_INET", "127.0.0.1", MODEL_PORT).await, "OK");
    drop(captured);
    assert_eq!(dial(&link, "AF_INET", "127.0.0.1", MODEL_PORT).await, "OK");
    let listener = TcpListener::from(open.remove(0).1);
    assert_eq!(listener.local_addr().unwrap(), SocketAddr::from((Ipv4Addr::LOCALHOST, MODEL_PORT)));
    drop((listener, open));
    assert_eq!(dial(&link, "AF_INET", "127.0.0.1", MODEL_PORT).await, "ConnectionRefusedError");
    let squat = format!(
        "import socket; s = socket.create_server(('127.0.0.1', {MODEL_PORT})); print('mine', flush=True); s.accept()"
    );
    sh(
        &link,
        &format!(
            "setsid python3 -c \"{squat}\" >/tmp/squat 2>&1 & until grep -q mine /tmp/squat; do :; done"
        ),
    )
    .await;
    let taken = world.host.gateways(made.sandbox).await.unwrap_err().to_string();
    assert!(taken.contains("127.0.0.1:3130") && taken.contains("Address already in use"), "{taken}");
    link.kill_all().await.unwrap();
    assert_eq!(world.host.gateways(made.sandbox).await.unwrap().len(), 2);
}

/// Row E04 of the escape matrix, as far as a sandbox has the rights for it; and listeners that come again.
#[tokio::test]
async fn listeners_are_closed_with_their_holder_and_can_be_opened_again() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (made, link) = world.sandbox().await;
    let sandbox = made.sandbox;
    let first = world.host.listen(sandbox).await.unwrap();
    let again = world.host.listen(sandbox).await.unwrap_err();
    assert!(again.to_string().contains("Address already in use"), "{again}");
    drop(first);
    assert_eq!(dial(&link, "AF_INET", "93.184.216.34", 443).await, "ConnectionRefusedError");
    let second = world.host.listen(sandbox).await.unwrap();
    assert_eq!(dial(&link, "AF_INET", "93.184.216.34", 443).await, "OK");
    drop(second);
    for change in ["ip route flush table local", "ip link set lo down", "nft flush ruleset"] {
        let said = sh(&link, &format!("{change} 2>&1 && echo changed; true")).await;
        assert!(!said.contains("changed"), "{change}");
    }
    world.host.destroy(sandbox).await.unwrap();
    let gone = world.host.listen(sandbox).await.unwrap_err();
    assert!(matches!(gone, SandboxHostError::Failed { .. }), "{gone}");
}

/// How often a door is asked.
const OFTEN: usize = 5;

/// A kernel whose network stack is its own: what the doors outside hear, and that there is nothing else.
#[tokio::test]
async fn a_stack_of_its_own_has_its_doors_carried_by_its_guest() {
    if !is_root() {
        return;
    }
    let world = World::with(Setting { runtime: Some("runsc"), ..Setting::default() });
    let session = world.session();
    let made = world.make(session, limits()).await;
    let sandbox = made.attachment.sandbox;
    let link = world.host.link(&made).await.unwrap();
    assert_eq!(ask(&link, PROXY_PORT).await, "", "nobody listens yet");
    let (doors, mut sockets) = world.host.listen(sandbox).await.unwrap();
    assert_eq!(doors, [Door::Proxy]);
    let gateways = world.host.gateways(sandbox).await.unwrap();
    assert_eq!(
        gateways.iter().map(|(gateway, _)| *gateway).collect::<Vec<_>>(),
        [Gateway::Model, Gateway::Git]
    );
    let proxy = UnixListener::from(sockets.remove(0));
    let mut all = vec![(PROXY_PORT, proxy)];
    for ((_, socket), port) in gateways.into_iter().zip([MODEL_PORT, GIT_PORT]) {
        all.push((port, UnixListener::from(socket)));
    }
    for (port, listener) in &all {
        listener.set_nonblocking(false).unwrap();
        let answering = std::thread::spawn({
            let (listener, port) = (listener.try_clone().unwrap(), *port);
            move || {
                for _ in 0..OFTEN {
                    let (mut stream, _) = listener.accept().unwrap();
                    let mut asked = String::new();
                    stream.read_to_string(&mut asked).unwrap();
                    write!(stream, "{port} heard {asked}").unwrap();
                }
            }
        });
        // An end that comes with the last bytes is heard, too.
        for _ in 0..OFTEN {
            assert_eq!(ask(&link, *port).await, format!("{port} heard a question"));
        }
        answering.join().unwrap();
    }
    // A second holder is refused, and root inside cannot put anything in its place.
    let taken = world.host.listen(sandbox).await.unwrap_err().to_string();
    assert!(taken.contains("127.0.0.1:3128") && taken.contains("in use"), "{taken}");
    for change in ["rm proxy", "mv proxy other", "touch new", "chmod 0 .", "mount -o remount,rw ."] {
        let said = sh(&link, &format!("cd {DOORS_MOUNT} && {change} 2>&1 && echo changed; true")).await;
        assert!(!said.contains("changed"), "{change}: {said}");
    }
    assert_eq!(sh(&link, &format!("ls -A {DOORS_MOUNT}")).await, "git\nmodel\nproxy");
    assert_ne!(dial(&link, "AF_INET", "93.184.216.34", 443).await, "OK");
    // Closed with their holder, and opened again.
    drop(all);
    assert_eq!(ask(&link, PROXY_PORT).await, "");
    assert_eq!(world.host.listen(sandbox).await.unwrap().0, [Door::Proxy]);
}

/// What the other side of a port says to a question.
async fn ask(link: &GuestLink, port: u16) -> String {
    let program = format!(
        "
import socket
s = socket.create_connection(('127.0.0.1', {port}), timeout=10)
try:
    s.sendall(b'a question'); s.shutdown(socket.SHUT_WR)
    answer = b''
    while chunk := s.recv(4096): answer += chunk
    print(answer.decode())
except ConnectionError: print()
"
    );
    python(link, &program).await.out().trim().to_owned()
}

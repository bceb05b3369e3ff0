//! What becomes of listeners that were handed over.

use protocol::egress::Door;
use protocol::environment::NetworkLevel;
use protocol::ids::SandboxId;
use protocol::network::{NetworkRules, Rendering};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::door::{Running, listener};

#[tokio::test]
async fn all_listeners_are_let_go_when_one_of_them_cannot_be_used() {
    let running = Running::start(vec!["192.0.2.53:53".parse().unwrap()]);
    let rules = NetworkRules::of(NetworkLevel::Trusted {}, Rendering::Compatible);
    let sandbox = SandboxId::from_parts(1, 1);
    let ((good, address), file) = (listener(), tempfile::tempfile().unwrap());
    // Nobody is told when a file can be accepted from.
    let doors = (vec![Door::Proxy, Door::Capture], vec![good, file.into()]);
    let error = running.bind(sandbox, &rules, doors).await.unwrap_err();
    assert!(error.to_string().contains("cannot be used"), "{error}");
    // Who came while it was still there hears its end, and nobody comes any more.
    if let Ok(mut early) = TcpStream::connect(address).await {
        let _ = early.read_to_end(&mut Vec::new()).await;
    }
    assert!(TcpStream::connect(address).await.is_err(), "the first listener is held for ever");
    assert_eq!(running.egress.list().await.unwrap(), []);
    // A later one finds nothing in its way.
    let (good, address) = listener();
    running.bind(sandbox, &rules, (vec![Door::Proxy], vec![good])).await.unwrap();
    assert!(TcpStream::connect(address).await.is_ok());
    assert_eq!(running.egress.list().await.unwrap(), [sandbox]);
}

//! The pump, before an agent that does not do its part.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use protocol::hands::HandsError;

use super::super::updates::updates;
use super::*;

/// An agent that never reads, and writes what it was given.
struct Deaf {
    says: Vec<Vec<u8>>,
    killed: Arc<AtomicBool>,
    written_to: Arc<tokio::sync::Notify>,
}

#[async_trait]
impl Execution for Deaf {
    async fn next(&mut self) -> Result<ExecEvent, HandsError> {
        match self.says.pop() {
            Some(bytes) => Ok(ExecEvent::Stdout(bytes)),
            None => std::future::pending().await,
        }
    }

    async fn write_stdin(&mut self, _: &[u8]) -> Result<(), HandsError> {
        self.written_to.notify_one();
        std::future::pending().await
    }

    async fn close_stdin(&mut self) -> Result<(), HandsError> {
        Ok(())
    }

    async fn resize(&self, _: protocol::hands::TerminalSize) -> Result<(), HandsError> {
        Ok(())
    }

    async fn signal(&self, signal: ExecSignal) -> Result<(), HandsError> {
        self.killed.store(matches!(signal, ExecSignal::Kill), Ordering::SeqCst);
        Ok(())
    }
}

/// A pump on that agent, our end of its pipe, and what happens.
struct Scene {
    pump: tokio::task::JoinHandle<()>,
    ours: DuplexStream,
    kill: CancellationToken,
    killed: Arc<AtomicBool>,
    written_to: Arc<tokio::sync::Notify>,
    stderr: Arc<Mutex<Vec<u8>>>,
}

fn scene(says: Vec<Vec<u8>>, room: usize) -> Scene {
    let (ours, pipe) = tokio::io::duplex(room);
    let kill = CancellationToken::new();
    let (killed, written_to) = (Arc::new(AtomicBool::new(false)), Arc::new(tokio::sync::Notify::new()));
    let execution = Box::new(Deaf { says, killed: Arc::clone(&killed), written_to: Arc::clone(&written_to) });
    let stderr = Arc::new(Mutex::new(Vec::new()));
    let pump = Pump { execution, pipe, kill: kill.clone(), stderr: Arc::clone(&stderr), heard: updates().0 };
    Scene { pump: tokio::spawn(pump.run()), ours, kill, killed, written_to, stderr }
}

impl Scene {
    async fn ends_killed(self) {
        tokio::time::timeout(Duration::from_secs(20), self.pump).await.expect("the pump ends").unwrap();
        assert!(self.killed.load(Ordering::SeqCst), "and takes the agent with it");
    }
}

#[tokio::test]
async fn an_agent_that_never_reads_can_be_ended() {
    let mut scene = scene(Vec::new(), 16);
    scene.ours.write_all(b"{}\n").await.unwrap();
    scene.written_to.notified().await;
    scene.kill.cancel();
    scene.ends_killed().await;
}

#[tokio::test]
async fn an_agent_whose_words_nobody_takes_can_be_ended() {
    let mut scene = scene(vec![vec![b'x'; 1000]], 16);
    // The pipe is full from here on.
    scene.ours.read_exact(&mut [0; 16]).await.unwrap();
    scene.kill.cancel();
    scene.ends_killed().await;
}

#[tokio::test]
async fn an_agent_that_says_too_much_is_ended_with_the_reason() {
    let mut piece = vec![b'x'; 1024 * 1024];
    piece.push(b'\n');
    for (says, reason) in [
        (vec![piece; 129], "it was ended because it sent more than 128 MB in one turn"),
        (vec![vec![b'x'; MAX_LINE + 1]], "it was ended because it sent a line of more than 16 MB"),
    ] {
        let mut scene = scene(says, PIPE);
        tokio::io::copy(&mut scene.ours, &mut tokio::io::sink()).await.unwrap();
        let stderr = Arc::clone(&scene.stderr);
        scene.ends_killed().await;
        assert_eq!(words(&stderr), reason);
    }
}

#[test]
fn last_words_hold_nothing_that_a_terminal_would_obey() {
    let stderr = Mutex::new(b"first\n\x1b]0;title\x07bad\x1b[31m\tluck\n\n".to_vec());
    assert_eq!(words(&stderr), "]0;titlebad[31m luck");
}

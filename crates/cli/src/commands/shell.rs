//! `patchyard sessions shell`: a person's terminal in a session's sandbox.
//!
//! ```text
//!  keyboard ─ raw, by a thread ─▶ socket ─▶ shell on its terminal ─▶ socket ─▶ screen
//!      └─ Ctrl-] ─▶ detached: the shell goes on, `--attach` comes back
//! ```

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use client::{Client, ShellFrame, ShellSocket};
use protocol::hands::TerminalSize;
use protocol::ids::{SessionId, ShellId};
use protocol::shell::{OpenShell, ShellNotice};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::error::Failure;
use crate::output::{in_line, json, line, note, plain};

/// The key that detaches, as in telnet.
const DETACH: u8 = 0x1d;

/// The size of a terminal that is none.
const USUAL: TerminalSize = TerminalSize { rows: 24, columns: 80 };

/// Lists the shells of a session.
pub(crate) async fn list(client: &Client, session: SessionId, as_json: bool) -> Result<(), Failure> {
    let shells = client.shells(session).await?.shells;
    if as_json {
        json(&shells);
        return Ok(());
    }
    if shells.is_empty() {
        note("no shells; open one with `patchyard sessions shell`");
    }
    for shell in shells {
        line(&format!(
            "{}  {}  {} watching  {}",
            shell.shell,
            shell.opened_at,
            shell.viewers,
            in_line(&shell.title, 120)
        ));
    }
    Ok(())
}

/// Opens a shell, or comes back to one, and stays until it ends or the person detaches.
pub(crate) async fn run(
    client: &Client,
    session: SessionId,
    attach: Option<ShellId>,
    command: Vec<String>,
) -> Result<ExitCode, Failure> {
    let shell = match attach {
        Some(shell) => shell,
        None => client.open_shell(session, &OpenShell { size: size(), command }).await?.shell,
    };
    let socket = client.shell(session, shell).await?;
    let is_terminal = std::io::stdin().is_terminal();
    if is_terminal {
        note("Ctrl-] detaches; the shell goes on");
    }
    let ended = {
        let _raw = is_terminal.then(Raw::enter).flatten();
        carry(socket, is_terminal).await?
    };
    Ok(match ended {
        Ended::Shell { code: Some(code), .. } => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Ended::Shell { code: None, reason } => {
            let reason = reason.unwrap_or_else(|| "a signal ended it".to_owned());
            note(&plain(&format!("the shell is over: {reason}")));
            ExitCode::from(1)
        }
        Ended::Away(why) => {
            note(&format!("{why}; the shell goes on: patchyard sessions shell {session} --attach {shell}"));
            ExitCode::SUCCESS
        }
    })
}

enum Ended {
    Shell { code: Option<i32>, reason: Option<String> },
    Away(&'static str),
}

async fn carry(mut socket: ShellSocket, is_terminal: bool) -> Result<Ended, Failure> {
    let failed = |error: std::io::Error| Failure::Internal(error.to_string());
    let mut resized = signal(SignalKind::window_change()).map_err(failed)?;
    let mut keys = keys();
    if is_terminal {
        socket.resize(size()).await?;
    }
    let mut typing = true;
    loop {
        tokio::select! {
            frame = socket.next() => match frame? {
                Some(ShellFrame::Output(bytes)) => show(&bytes),
                Some(ShellFrame::Notice(ShellNotice::Ended { code, reason })) => {
                    return Ok(Ended::Shell { code, reason });
                }
                Some(ShellFrame::Notice(ShellNotice::Behind)) => return Ok(Ended::Away("this terminal was too slow")),
                None => return Ok(Ended::Away("the server closed the connection")),
            },
            typed = keys.recv(), if typing => match typed {
                Some(bytes) if is_terminal && bytes.contains(&DETACH) => {
                    socket.detach().await;
                    return Ok(Ended::Away("detached"));
                }
                Some(bytes) => socket.send(bytes).await?,
                // The end of a file or pipe: the shell is told as a person would.
                None => {
                    typing = false;
                    socket.send(vec![0x04]).await?;
                }
            },
            Some(()) = resized.recv(), if is_terminal => socket.resize(size()).await?,
        }
    }
}

/// What is typed, read by a thread of its own that nobody waits for: a read from a terminal cannot be
/// called off.
fn keys() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = std::io::stdin().lock().read(&mut buffer) {
            if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The sandbox writes to the person's terminal here, as any program would that is run in one.
fn show(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(bytes);
    let _ = out.flush();
}

fn size() -> TerminalSize {
    match tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            TerminalSize { rows: size.ws_row, columns: size.ws_col }
        }
        _ => USUAL,
    }
}

/// The terminal gives every key as it is; put back when dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.0);
    }
}

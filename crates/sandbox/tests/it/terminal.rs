//! Commands with a terminal of their own.

use protocol::hands::{ExecEvent, ExecSpec, Execution, Hands, TerminalSize};

use crate::world::{World, is_root, shell};

fn on_terminal(script: &str) -> ExecSpec {
    ExecSpec { terminal: Some(TerminalSize { rows: 24, columns: 80 }), ..shell(script) }
}

/// Reads until the output holds this text.
async fn until(execution: &mut dyn Execution, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        match tokio::time::timeout(std::time::Duration::from_secs(20), execution.next()).await {
            Ok(Ok(ExecEvent::Stdout(bytes))) => seen.push_str(&String::from_utf8_lossy(&bytes)),
            other => panic!("{other:?} after {seen:?}"),
        }
    }
    seen
}

#[tokio::test]
async fn a_shell_on_a_terminal_is_typed_into_resized_and_interrupted() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    let mut spec = on_terminal("");
    spec.argv = ["/bin/bash", "--norc", "-i"].map(str::to_owned).to_vec();
    spec.env = vec![("PS1".into(), "ready> ".into())];
    let mut shell = link.start(spec).await.unwrap();
    until(&mut *shell, "ready> ").await;
    shell.write_stdin(b"tty; stty size; echo $TERM\n").await.unwrap();
    let said = until(&mut *shell, "xterm-256color\r\n").await;
    assert!(said.contains("/dev/pts/") && said.contains("24 80"), "{said}");
    shell.resize(TerminalSize { rows: 50, columns: 132 }).await.unwrap();
    shell.write_stdin(b"stty size\n").await.unwrap();
    until(&mut *shell, "50 132").await;
    // Ctrl-C ends what runs in the foreground, and not the shell.
    shell.write_stdin(b"sh -c 'echo be\"\"gun; exec sleep 1000'\n").await.unwrap();
    until(&mut *shell, "begun\r\n").await;
    shell.write_stdin(b"\x03").await.unwrap();
    until(&mut *shell, "ready> ").await;
    shell.write_stdin(b"echo code $?; exit 7\n").await.unwrap();
    until(&mut *shell, "code 130").await;
    let end = loop {
        if let ExecEvent::Exited(end) = shell.next().await.unwrap() {
            break end;
        }
    };
    assert_eq!(end.code, Some(7));
}

#[tokio::test]
async fn every_terminal_is_its_commands_own() {
    if !is_root() {
        return;
    }
    let world = World::start();
    let (_, link) = world.sandbox().await;
    let mut first = link.start(on_terminal("tty; echo secret; read line; echo got $line")).await.unwrap();
    until(&mut *first, "secret").await;
    // Another command is not on it, and cannot type into it.
    let mut second = link.start(on_terminal("tty; ls /dev/pts; sleep 100")).await.unwrap();
    let said = until(&mut *second, "ptmx").await;
    assert!(said.starts_with("/dev/pts/1"), "{said}");
    let inject = "import fcntl, os\nfor n in (0, 1):\n  fd = os.open(f'/dev/pts/{n}', os.O_RDWR | os.O_NOCTTY)\n  \
                  try: fcntl.ioctl(fd, 0x5412, b'x')\n  except OSError as e: print(e.errno)";
    assert_eq!(crate::world::python(&link, inject).await.out(), "1\n1");
    first.write_stdin(b"typed\n").await.unwrap();
    until(&mut *first, "got typed").await;
}

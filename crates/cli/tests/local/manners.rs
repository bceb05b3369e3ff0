//! Exit codes, signals, streams and terminals.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::world::{World, everybody};

#[test]
fn the_exit_status_is_the_commands() {
    for who in everybody() {
        let world = World::new(who);
        for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)] {
            assert_eq!(world.inside(script).code(), Some(code), "{who:?}: {script}");
        }
        let output = world.sandbox().args(["--", "no-such-program"]).output().unwrap();
        assert_eq!(output.status.code(), Some(127));
        assert_eq!(world.sandbox().output().unwrap().status.code(), Some(2));
    }
}

#[test]
fn streams_and_arguments_pass_through() {
    for who in everybody() {
        let world = World::new(who);
        let mut command = world.sandbox();
        command.args(["--", "sh", "-c", "cat; printf '%s|' \"$@\" >&2", "sh", "a b", "", "--", "*"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let sent: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let mut input = child.stdin.take().unwrap();
        let writer = std::thread::spawn({
            let sent = sent.clone();
            move || input.write_all(&sent).unwrap()
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert_eq!(output.stdout, sent, "{who:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "a b||--|*|");
    }
}

#[test]
fn signals_reach_the_command() {
    for who in everybody() {
        for signal in ["INT", "TERM"] {
            let world = World::new(who);
            let script = "trap 'echo caught; exit 9' INT TERM; echo ready; while :; do sleep 0.05; done";
            let mut child =
                world.sandbox().args(["--", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            assert_eq!(lines.next().unwrap().unwrap(), "ready");
            let pid = child.id().to_string();
            assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
            assert_eq!(lines.next().unwrap().unwrap(), "caught", "{who:?}");
            assert_eq!(child.wait().unwrap().code(), Some(9));
        }
    }
}

#[test]
fn background_processes_end_with_the_command() {
    for who in everybody() {
        let world = World::new(who);
        let said = world.inside("setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo x > file");
        assert!(said.success());
        // `output` has returned, so nobody holds the streams; that nobody runs is seen by the keeper's
        // cleaning up, which waits for all.
        assert_eq!(world.listing(), [".git", "file"], "{who:?}");
    }
}

/// Python has pseudo-terminals in its library.
const TERMINAL: &str = r#"
import os, pty, select, sys, fcntl, struct, termios
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', 33, 99, 0, 0))
seen = b''
def until(words):
    global seen
    while words not in seen:
        if not select.select([fd], [], [], 20)[0]:
            sys.exit('no ' + repr(words) + ' in ' + repr(seen))
        try: seen += os.read(fd, 4096)
        except OSError: break
    seen = seen.split(words, 1)[-1]
def send(text): os.write(fd, text)
until(b'ready$ ')
send(b'stty size\n'); until(b'33 99'); until(b'ready$ ')
job = b"sh -c 'echo sta\"\"rted; exec sleep 1000'\n"
send(job); until(b'started'); send(b'\x1a'); until(b'Stopped'); until(b'ready$ ')
send(b'kill -9 %1; wait; echo go\"\"ne\n'); until(b'gone'); until(b'ready$ ')
send(job); until(b'started'); send(b'\x03'); until(b'ready$ ')
send(b'tty </dev/tty >/dev/null && echo o""k\n'); until(b'ok'); until(b'ready$ ')
send(b'exit 5\n')
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn a_shell_on_a_terminal_has_job_control() {
    for who in everybody() {
        let world = World::new(who);
        let program = world.path("patchyard");
        let mut command = world.command("python3");
        command.args(["-c", TERMINAL, program.to_str().unwrap(), "sandbox", "--"]);
        command.args(["env", "PS1=ready$ ", "bash", "--norc", "--noediting", "-i"]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "5\n", "{who:?}: {said}");
    }
}

#[test]
fn without_bubblewrap_it_says_what_to_install() {
    for who in everybody() {
        let world = World::new(who);
        let settings = json!({ "sandbox": { "bwrapPath": "/no/bwrap", "failIfUnavailable": false } });
        let said = world.with(&settings, "echo ran");
        assert_eq!((said.code(), said.out().as_str()), (Some(3), ""), "{who:?}");
        assert!(said.err().contains("apt-get install bubblewrap"), "{}", said.err());
    }
}

#[test]
fn doctor_has_a_line_for_it() {
    for who in everybody() {
        let world = World::new(who);
        let mut command = world.command(world.path("patchyard").to_str().unwrap());
        let mut child = command.arg("doctor").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        assert!(said.contains("✓ patchyard sandbox"), "{who:?}: {said}");
    }
}

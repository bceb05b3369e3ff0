//! Positive controls: what has to go on working, however hard the rows bite.

use protocol::hands::{ExecEvent, ExecSpec, Hands};

use crate::field::Field;
use crate::world::{run, sh, shell};

/// The short form, after every row.
pub async fn ordinary_work(field: &Field) {
    let program = "
import socket, subprocess, threading
done = []
thread = threading.Thread(target=lambda: done.append(1)); thread.start(); thread.join()
server = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(server.getsockname())
open('/root/.control', 'w').write('x')
print(len(done), subprocess.run(['cat', '/root/.control'], capture_output=True, text=True).stdout)
";
    let said = field.python(program).await;
    assert_eq!(said.out(), "1 x", "{}", said.all());
}

rows! {
    a_program_is_compiled_and_run,
    a_repository_is_cloned_changed_and_committed,
    many_processes_and_threads_run,
    a_server_listens_on_localhost,
    a_package_tool_changes_owners_and_users,
    a_debugger_traces_its_own_child,
}

async fn a_program_is_compiled_and_run(field: &mut Field) {
    let program = "cd /root && printf '#include <stdio.h>\\nint main(void) { puts(\"built\"); }\\n' >a.c \
                   && cc -O1 -o a a.c && ./a";
    assert_eq!(sh(&field.link, program).await, "built");
}

async fn a_repository_is_cloned_changed_and_committed(field: &mut Field) {
    let program = "cd /root && git init -q a && cd a && git config user.name a && git config user.email a@b \
                   && echo x >f && git add f && git commit -qm one && git clone -q . ../b && cd ../b \
                   && git log --oneline | wc -l && git gc -q && git fsck";
    assert_eq!(sh(&field.link, program).await, "1");
}

async fn many_processes_and_threads_run(field: &mut Field) {
    let program = "
import subprocess, threading, time
children = [subprocess.Popen(['sleep', '30']) for _ in range(200)]
print(sum(child.poll() is None for child in children))
for child in children: child.kill(); child.wait()
threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(100)]
for thread in threads: thread.start()
for thread in threads: thread.join()
";
    assert_eq!(field.python(program).await.out(), "200");
}

async fn a_server_listens_on_localhost(field: &mut Field) {
    let serve = "cd /root && echo hello >page && exec python3 -u -m http.server --bind 127.0.0.1 8000";
    let mut server = field.link.start(shell(serve)).await.unwrap();
    let ExecEvent::Stdout(_) = server.next().await.unwrap() else { panic!() };
    assert_eq!(sh(&field.link, "curl -s http://localhost:8000/page").await, "hello");
}

/// As dpkg and its like do when they unpack and run as another user.
async fn a_package_tool_changes_owners_and_users(field: &mut Field) {
    let program = "
import os
os.makedirs('/opt/p'); os.chown('/opt/p', 33, 33); os.chmod('/opt/p', 0o2775)
open('/opt/p/f', 'w').close(); os.chown('/opt/p/f', 1000, 1000); os.chmod('/opt/p/f', 0o4755)
os.symlink('f', '/opt/p/l'); os.lchown('/opt/p/l', 7, 7); os.mkfifo('/opt/p/q'); os.link('/opt/p/f', '/opt/p/h')
child = os.fork()
if child == 0:
    os.setgroups([33]); os.setresgid(33, 33, 33); os.setresuid(33, 33, 33)
    open('/opt/p/own', 'w').close()
    os._exit(0 if os.stat('/opt/p/own').st_uid == 33 else 1)
print(os.waitpid(child, 0)[1], oct(os.stat('/opt/p/h').st_mode), os.lstat('/opt/p/l').st_uid)
os.chroot('/opt'); print(os.listdir('/'))
";
    let said =
        run(&field.link, ExecSpec { new_privileges: true, ..shell(&format!("python3 -c \"{program}\"")) });
    assert_eq!(said.await.out(), "0 0o104755 7\n['p']");
}

async fn a_debugger_traces_its_own_child(field: &mut Field) {
    let program = "
child = os.fork()
if child == 0:
    print(libc.ptrace(0, 0, 0, 0), flush=True)   # TRACEME
    os.kill(os.getpid(), 19)
    os._exit(7)
print(os.waitpid(child, 0)[1] >> 8)
print(libc.ptrace(7, child, 0, 0))               # CONT
print(os.waitpid(child, 0)[1] >> 8)
";
    assert_eq!(field.tried(program).await, ["0", "19", "0", "7"]);
}

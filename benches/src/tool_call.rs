//! What a tool call costs beside the tool: the guest's round trip and the start of a process.

use std::process::{Command, Stdio};
use std::time::Instant;

use protocol::hands::{ExecEvent, ExecSpec, Hands as _};
use protocol::ids::ExecId;
use sandbox::guest_link::GuestLink;
use ulid::Ulid;

use crate::figure::{Samples, print, print_beside};
use crate::host::Host;
use crate::{Bench, Failure};

pub(crate) async fn run(bench: &Bench) -> Result<(), Failure> {
    let host = Host::start(bench)?;
    let (attachment, link) = host.create().await?;
    let (mut command, mut stat, mut local) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..bench.runs * 10 {
        let start = Instant::now();
        run_true(&link).await?;
        command.add(start.elapsed());

        let start = Instant::now();
        link.stat("/etc/hostname").await?;
        stat.add(start.elapsed());

        let start = Instant::now();
        Command::new("/bin/true").stdin(Stdio::null()).status()?;
        local.add(start.elapsed());
    }
    host.destroy(&attachment).await?;
    print_beside("tool call: run `true` by the guest", &command, "run `true` on the host", &local, "3 ms");
    print("tool call: facts of a file by the guest", &stat, "3 ms");
    Ok(())
}

/// Runs the shortest command.
pub(crate) async fn run_true(link: &GuestLink) -> Result<(), Failure> {
    let spec = ExecSpec::new(ExecId::from(Ulid::generate()), vec!["/bin/true".into()], "/");
    let mut execution = link.start(spec).await?;
    while !matches!(execution.next().await?, ExecEvent::Exited(_)) {}
    Ok(())
}

//! Fetching a session's repository over smart HTTP: two requests, streamed through git itself.
//!
//! ```text
//!  GET  …/info/refs?service=git-upload-pack ─▶ advertisement
//!  POST …/git-upload-pack                   ─▶ the pack, as git makes it
//! ```
//!
//! Private refs (`refs/patchyard`) are hidden. Nothing can be pushed: there is no receive-pack.

use std::process::Stdio;

use protocol::ids::SessionId;
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::command::Git;
use crate::error::GitError;
use crate::repositories::Repositories;

/// A running upload-pack: feed `stdin`, read `stdout` to its end. Dropping it ends git.
#[derive(Debug)]
pub struct UploadPack {
    /// What the client sent.
    pub stdin: ChildStdin,
    /// What goes to the client.
    pub stdout: ChildStdout,
    /// The process.
    pub child: Child,
}

impl Repositories {
    /// The body of `info/refs`. `protocol` is the client's `Git-Protocol` header.
    pub async fn advertise(&self, session: SessionId, protocol: Option<&str>) -> Result<Vec<u8>, GitError> {
        let refs = self
            .upload_pack_command(session, protocol)
            .await?
            .args(["--stateless-rpc", "--advertise-refs"])
            .arg(self.path(session))
            .run()
            .await?;
        let mut body = b"001e# service=git-upload-pack\n0000".to_vec();
        body.extend(refs);
        Ok(body)
    }

    /// Starts the answer to one `git-upload-pack` request.
    pub async fn upload_pack(
        &self,
        session: SessionId,
        protocol: Option<&str>,
    ) -> Result<UploadPack, GitError> {
        let mut child = self
            .upload_pack_command(session, protocol)
            .await?
            .arg("--stateless-rpc")
            .arg(self.path(session))
            .into_command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(GitError::Start)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(GitError::Start(std::io::Error::other("git has no pipes")));
        };
        Ok(UploadPack { stdin, stdout, child })
    }

    async fn upload_pack_command(&self, session: SessionId, protocol: Option<&str>) -> Result<Git, GitError> {
        self.existing(session).await?;
        let mut git = Git::new("upload-pack", None)
            .args(["-c", "uploadpack.hideRefs=refs/patchyard"])
            .args(["upload-pack", "--strict", "--timeout=300"]);
        // Only the form that git sends: it becomes an environment variable.
        let plain = |text: &&str| {
            text.len() < 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"=:".contains(&b))
        };
        if let Some(protocol) = protocol.filter(plain) {
            git = git.env("GIT_PROTOCOL", protocol);
        }
        Ok(git)
    }
}

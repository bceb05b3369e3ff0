//! Whom programs in a sandbox trust.
//!
//! ```text
//!   the image's authorities (the machine's, where it has none) ─┐
//!   the operator's ─────────────────────────────────────────────┼─▶ AUTHORITIES, named by variables;
//!   the session's ──────────────────────────────────────────────┘   KEY_STORE, the same for Java
//!   the operator's, the session's ─▶ the image's own files, for programs without variables
//! ```
//!
//! A layer that was kept holds those of the session that made it: they are taken out again.

use std::sync::Arc;

use egress::Authorities;
use protocol::hands::{Hands, HandsError};

/// All that programs shall trust.
pub(crate) const AUTHORITIES: &str = "/etc/ssl/patchyard/authorities.pem";

/// The same as Java reads it.
pub(crate) const KEY_STORE: &str = "/etc/ssl/patchyard/authorities.jks";

/// What of it is ours. `update-ca-certificates` looks into this folder, too.
const OURS: &str = "/usr/local/share/ca-certificates/patchyard.crt";

/// Where images have theirs: Debian, Alpine and Arch; Fedora and its kin; SUSE.
const OF_IMAGES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/var/lib/ca-certificates/ca-bundle.pem",
];

/// The most that is read of such a file.
const MAX: u64 = 8 * 1024 * 1024;

/// Authorities of the server, as PEM.
#[derive(Debug, Clone, Default)]
pub struct TrustedAuthorities {
    /// Those of the machine, for images that have none.
    pub system: Arc<str>,
    /// Those that the operator names, for all images.
    pub named: Arc<str>,
}

/// Puts the authorities of a session into a new sandbox.
pub(crate) async fn install(
    hands: &dyn Hands,
    trusted: &TrustedAuthorities,
    session: &str,
) -> Result<(), HandsError> {
    let earlier = read(hands, OURS).await?.unwrap_or_default();
    let ours = format!("{}{}", trusted.named, session.replace("\r\n", "\n"));
    let mut of_image = None;
    for path in OF_IMAGES {
        let Some(found) = read(hands, path).await? else { continue };
        let found = without(&found, &earlier);
        hands.write_file(path, joined(&found, &ours).as_bytes()).await?;
        of_image.get_or_insert(found);
    }
    let base = of_image.unwrap_or_else(|| trusted.system.to_string());
    let all = joined(&base, &ours);
    hands.write_file(AUTHORITIES, all.as_bytes()).await?;
    hands.write_file(KEY_STORE, &Authorities::in_pem(&all).key_store()).await?;
    hands.write_file(OURS, ours.as_bytes()).await
}

fn joined(before: &str, after: &str) -> String {
    let end = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    format!("{before}{end}{after}")
}

/// A bundle without what an earlier session put into it.
fn without(bundle: &str, earlier: &str) -> String {
    let mut bundle = bundle.to_owned();
    for certificate in earlier.split_inclusive("-----END CERTIFICATE-----\n") {
        bundle = bundle.replace(certificate, "");
    }
    bundle
}

/// A file of an image; nothing where there is none, or none that is text.
async fn read(hands: &dyn Hands, path: &str) -> Result<Option<String>, HandsError> {
    let mut bytes = Vec::new();
    loop {
        match hands.read_file(path, bytes.len() as u64, MAX).await {
            Ok(chunk) if chunk.size > MAX => return Ok(None),
            Ok(chunk) => {
                let end = chunk.bytes.is_empty();
                bytes.extend(chunk.bytes);
                if end || bytes.len() as u64 >= chunk.size {
                    return Ok(String::from_utf8(bytes).ok());
                }
            }
            Err(HandsError::NotFound { .. } | HandsError::WrongKind { .. } | HandsError::Denied { .. }) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_session_left_is_taken_out_wherever_it_stands() {
        let certificate =
            |name: &str| format!("-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n");
        let [root, corp, old, new] = ["root", "corp", "old", "new"].map(certificate);
        let kept = format!("{root}{old}{corp}");
        assert_eq!(without(&kept, &format!("{corp}{old}")), root);
        assert_eq!(without(&kept, ""), kept);
        assert_eq!(joined("a", &new), format!("a\n{new}"));
    }
}

//! Authorities that are trusted: those of the machine, and those that the operator names.
//!
//! ```text
//!   of_system ─┐
//!   read ──────┴─▶ Authorities ─▶ whom egress believes    (certificates)
//!                              └▶ whom sandboxes believe  (PEM, and a key store of Java)
//! ```

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};

/// Characters of a line, RFC 7468 section 2.
const LINE: usize = 64;

/// Certificates of authorities.
#[derive(Debug, Clone, Default)]
pub struct Authorities(Vec<CertificateDer<'static>>);

/// Why a file of them cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the authorities in {} cannot be read: {source}; it has to hold certificates as PEM", .path.display())]
pub struct AuthoritiesError {
    path: PathBuf,
    source: pem::Error,
}

impl Authorities {
    /// Those that this machine trusts. What cannot be read is left out.
    #[must_use]
    pub fn of_system() -> Self {
        Self(rustls_native_certs::load_native_certs().certs)
    }

    /// Those in these PEM files.
    ///
    /// # Errors
    ///
    /// When one of the files cannot be read, or holds none.
    pub fn read(files: &[PathBuf]) -> Result<Self, AuthoritiesError> {
        let all = files.iter().map(|path| in_file(path)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self(all.concat()))
    }

    /// Those in a text; what is none, or cannot be read, is left out.
    #[must_use]
    pub fn in_pem(text: &str) -> Self {
        Self(CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok).collect())
    }

    /// All of both.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// As a file has them.
    #[must_use]
    pub fn pem(&self) -> String {
        let mut text = String::new();
        for certificate in &self.0 {
            text.push_str("-----BEGIN CERTIFICATE-----\n");
            let mut rest = STANDARD.encode(certificate);
            while !rest.is_empty() {
                let next = rest.split_off(rest.len().min(LINE));
                text.push_str(&rest);
                text.push('\n');
                rest = next;
            }
            text.push_str("-----END CERTIFICATE-----\n");
        }
        text
    }

    pub(crate) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }
}

fn in_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthoritiesError> {
    let failed = |source| AuthoritiesError { path: path.to_owned(), source };
    let all: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if all.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;
    use crate::authority::make_authority;

    #[test]
    fn what_is_written_is_what_was_read_and_a_file_without_any_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let made: String = (1..3)
            .map(|one| make_authority(Ulid::from_parts(1, one).into()).unwrap().certificate)
            .map(|pem| pem.replace("\r\n", "\n"))
            .collect();
        std::fs::write(path("two.pem"), &made).unwrap();
        let read = Authorities::read(&[path("two.pem")]).unwrap();
        assert_eq!((read.certificates().len(), read.pem()), (2, made));
        std::fs::write(path("none.pem"), "nothing").unwrap();
        for missing in ["none.pem", "gone.pem"] {
            let error = Authorities::read(&[path(missing)]).unwrap_err().to_string();
            assert!(error.contains(missing), "{error}");
        }
    }
}

//! The authority of a session, which its sandboxes trust.
//!
//! ```text
//!   make ─▶ certificate + key ─▶ kept by the server, in no sandbox
//!   certificate ─▶ what programs inside trust
//!   key ─▶ Signer ─ host ─▶ leaf for a day ─▶ the TLS of one connection
//! ```
//!
//! Keys are ECDSA P-256. One key serves all leaves of a binding: making one costs more than a signature.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use policy::host::Host;
use protocol::egress::AuthorityKey;
use protocol::ids::SessionId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Clocks inside and outside may differ by so much.
const EARLIER: Duration = Duration::from_secs(24 * 3600);

/// How long an authority holds: longer than any session.
const AUTHORITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long a leaf holds, and how long it is used.
const LEAF: Duration = Duration::from_secs(24 * 3600);
const USED: Duration = Duration::from_secs(12 * 3600);

/// How many leaves are kept.
const LEAVES: usize = 256;

/// Why there is no authority, or no leaf of it.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A key or a certificate.
    #[error("the session's certificate authority cannot be used: {0}")]
    Certificate(#[from] rcgen::Error),
    /// What TLS makes of them.
    #[error("the certificate for a host cannot be used: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
}

/// Makes the authority of a session.
///
/// # Errors
///
/// When there is no randomness to be had.
pub fn make_authority(session: SessionId) -> Result<AuthorityKey, AuthorityError> {
    let key = KeyPair::generate()?;
    let certificate = authority(session).self_signed(&key)?;
    Ok(AuthorityKey { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn authority(session: SessionId) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, format!("patchyard {session}"));
    let now = SystemTime::now();
    params.not_before = (now - EARLIER).into();
    params.not_after = (now + AUTHORITY).into();
    params
}

/// Signs for hosts.
pub(crate) struct Signer {
    issuer: Issuer<'static, KeyPair>,
    key: KeyPair,
    leaves: Mutex<HashMap<Host, (Instant, Arc<ServerConfig>)>>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(…)")
    }
}

impl Signer {
    /// One with this key, for the sandboxes of this session.
    pub(crate) fn new(session: SessionId, key: &AuthorityKey) -> Result<Self, AuthorityError> {
        let issuer = Issuer::new(authority(session), KeyPair::from_pem(&key.key)?);
        Ok(Self { issuer, key: KeyPair::generate()?, leaves: Mutex::default() })
    }

    /// What TLS with the sandbox needs to be this host.
    pub(crate) fn for_host(&self, host: &Host) -> Result<Arc<ServerConfig>, AuthorityError> {
        let now = Instant::now();
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, config)) = leaves.get(host)
            && now.duration_since(*since) < USED
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.sign(host)?);
        if leaves.len() >= LEAVES {
            leaves.clear();
        }
        leaves.insert(host.clone(), (now, Arc::clone(&config)));
        Ok(config)
    }

    fn sign(&self, host: &Host) -> Result<ServerConfig, AuthorityError> {
        let mut params = CertificateParams::new([host.to_string()])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let now = SystemTime::now();
        params.not_before = (now - EARLIER).into();
        params.not_after = (now + LEAF).into();
        let leaf: CertificateDer<'static> = params.signed_by(&self.key, &self.issuer)?.into();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

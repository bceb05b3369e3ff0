//! Authorities as Java reads them.
//!
//! ```text
//!   magic · version · count │ trusted · name · time · "X.509" · certificate │ … │ SHA-1 of a password and all of it
//! ```
//!
//! The format is JKS (`sun.security.provider.JavaKeyStore` of OpenJDK is its description): every version of
//! Java reads it, and takes certificates from it without a password. The digest is none of a secret: the
//! password is the one that Java's own tools expect.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use crate::authorities::Authorities;

const MAGIC: u32 = 0xFEED_FEED;
const VERSION: u32 = 2;

/// The kind of an entry that is a trusted certificate.
const TRUSTED: u32 = 2;

/// What Java's tools take the password of such a file to be.
const PASSWORD: &str = "changeit";

/// What stands between password and content in the digest.
const SALT: &[u8] = b"Mighty Aphrodite";

impl Authorities {
    /// As a key store of Java, named `authority-1` and so on. The times in it are 1970: who writes the same
    /// authorities twice writes the same bytes.
    #[must_use]
    pub fn key_store(&self) -> Vec<u8> {
        let certificates = self.certificates();
        let mut store = Vec::with_capacity(certificates.iter().map(|one| one.len() + 64).sum::<usize>() + 32);
        for number in [MAGIC, VERSION, length(certificates)] {
            store.extend(number.to_be_bytes());
        }
        for (number, certificate) in certificates.iter().enumerate() {
            store.extend(TRUSTED.to_be_bytes());
            put_text(&mut store, &format!("authority-{}", number + 1));
            store.extend(0_u64.to_be_bytes());
            put_text(&mut store, "X.509");
            store.extend(length(certificate).to_be_bytes());
            store.extend_from_slice(certificate);
        }
        let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        for unit in PASSWORD.encode_utf16() {
            digest.update(&unit.to_be_bytes());
        }
        digest.update(SALT);
        digest.update(&store);
        store.extend_from_slice(digest.finish().as_ref());
        store
    }
}

/// Short texts of ASCII; Java writes others in a way of its own.
fn put_text(store: &mut Vec<u8>, text: &str) {
    store.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    store.extend_from_slice(text.as_bytes());
}

/// Nothing here comes near to 4 GiB: what is read of files ends at 8 MiB.
fn length<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn an_empty_store_is_the_one_of_javas_own_tool() {
        // What `keytool` of OpenJDK 17 leaves of a store of type JKS whose only entry is deleted.
        let wanted = "feedfeed0000000200000000e2686e45fb43dfa4d992dd41ceb6b21c6330d792";
        assert_eq!(hex(&Authorities::default().key_store()), wanted);
    }

    #[test]
    fn an_entry_is_a_name_a_time_a_kind_and_the_certificate_as_it_is() {
        let made = crate::authority::make_authority(ulid::Ulid::from_parts(1, 1).into()).unwrap();
        let text = format!(
            "words\n{}{}",
            made.certificate, "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n"
        );
        let read = Authorities::in_pem(&text);
        let [certificate] = read.certificates() else { panic!("{read:?}") };
        let store = read.key_store();
        let entry = format!(
            "00000001{:08x}{:04x}{}{:016x}{:04x}{}{:08x}{}",
            2,
            11,
            hex(b"authority-1"),
            0,
            5,
            hex(b"X.509"),
            certificate.len(),
            hex(certificate)
        );
        assert_eq!(hex(&store[8..store.len() - 20]), entry);
    }
}

//! What stands in a commit for a large file.
//!
//! ```text
//!   version https://git-lfs.github.com/spec/v1
//!   oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
//!   size 12345
//! ```

use std::fmt;

/// The longest pointer, as the format has it.
pub(crate) const MAX_POINTER: usize = 1024;

const VERSION: &str = "version https://git-lfs.github.com/spec/v1";

/// The name of an object: the SHA-256 of its content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Oid([u8; 32]);

impl Oid {
    pub(crate) fn of_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// Reads 64 hex digits in small letters.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let bytes: &[u8; 64] = text.as_bytes().try_into().ok()?;
        let mut digest = [0; 32];
        for (at, two) in bytes.chunks_exact(2).enumerate() {
            digest[at] = digit(two[0])? << 4 | digit(two[1])?;
        }
        Some(Self(digest))
    }

    /// Where it is below a folder of objects: `4d/7a/4d7a…`.
    pub(crate) fn place(&self) -> String {
        let name = self.to_string();
        format!("{}/{}/{name}", &name[..2], &name[2..4])
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An object and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Pointer {
    /// Its name.
    pub(crate) oid: Oid,
    /// Its length.
    pub(crate) size: u64,
}

impl Pointer {
    /// Reads a pointer; nothing for any other file. One with extensions, whose object is not the file, is none.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() >= MAX_POINTER {
            return None;
        }
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.lines().map(str::trim_end);
        let (VERSION, Some(oid), Some(size), None) =
            (lines.next()?, lines.next(), lines.next(), lines.next().filter(|line| !line.is_empty()))
        else {
            return None;
        };
        let oid = Oid::parse(oid.strip_prefix("oid sha256:")?)?;
        let digits =
            size.strip_prefix("size ").filter(|size| size.bytes().all(|byte| byte.is_ascii_digit()))?;
        let size = digits.parse().ok().filter(|size| i64::try_from(*size).is_ok())?;
        Some(Self { oid, size })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OID: &str = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";

    #[test]
    fn a_pointer_is_three_lines_and_nothing_else() {
        let parse = |text: &str| Pointer::parse(text.as_bytes()).map(|pointer| pointer.size);
        let whole = format!("{VERSION}\noid sha256:{OID}\nsize 12345\n");
        assert_eq!(parse(&whole), Some(12_345));
        assert_eq!(parse(&whole.replace('\n', "\r\n")), Some(12_345), "git-lfs takes that, too");
        for odd in [
            String::new(),
            "size 1\n".into(),
            whole.replace("v1", "v2"),
            whole.replace("sha256", "md5"),
            whole.replace("4d7a", "4D7A"),
            whole.replace("4d7a", "4d7"),
            whole.replace("12345", "-1"),
            whole.replace("12345", "+1"),
            whole.replace("12345", "9223372036854775808"),
            whole.replace("oid", "ext-0-x sha256:aa\noid"),
            format!("{whole}more\n"),
            format!("{whole}{}", " ".repeat(MAX_POINTER)),
        ] {
            assert_eq!(parse(&odd), None, "{odd:?}");
        }
        assert_eq!(Oid::parse(OID).unwrap().place(), format!("4d/7a/{OID}"));
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_is_written(digest in any::<[u8; 32]>(), odd in "[0-9a-g]{60,66}") {
            let oid = Oid::of_digest(digest);
            prop_assert_eq!(Oid::parse(&oid.to_string()), Some(oid));
            if let Some(oid) = Oid::parse(&odd) {
                prop_assert_eq!(oid.to_string(), odd);
            }
        }
    }
}

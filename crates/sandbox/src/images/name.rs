//! Names of images.

use super::error::ImageError;

/// The longest name.
pub(super) const MAX_NAME: usize = 64;

pub(super) fn check_name(name: &str) -> Result<(), ImageError> {
    if is_name(name) { Ok(()) } else { Err(ImageError::Name(name.chars().take(MAX_NAME).collect())) }
}

pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_elsewhere() {
        for name in ["", ".", "..", ".old", "a/b", "A", "a b", "é", &"x".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
        for name in ["slim", "python-3.12", "a_b", "0"] {
            assert!(is_name(name), "{name}");
        }
    }
}

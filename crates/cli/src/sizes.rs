//! Sizes and shares as people write them.

use std::str::FromStr;

/// Bytes: `16GB`, `512MiB`, `1.5 GB`, `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

/// Thousandths of a core: `4`, `0.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cores(pub(crate) u32);

const UNITS: [(&str, u64); 13] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("k", 1_000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("t", 1_000_000_000_000),
    ("b", 1),
];

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("`{text}` is no size; write one like 16GB, 512MiB or 1.5 GB");
        let lower = text.trim().to_ascii_lowercase();
        let (number, unit) = UNITS
            .iter()
            .find_map(|(name, unit)| Some((lower.strip_suffix(name)?.trim_end(), *unit)))
            .unwrap_or((&lower, 1));
        thousandths(number)
            .and_then(|value| u128::from(value).checked_mul(u128::from(unit)))
            .and_then(|bytes| u64::try_from(bytes / 1000).ok())
            .map(Self)
            .ok_or_else(refused)
    }
}

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("`{text}` is no number of cores; write one like 4 or 0.5");
        thousandths(text.trim()).and_then(|millis| u32::try_from(millis).ok()).map(Self).ok_or_else(refused)
    }
}

/// A number with at most three digits behind its point, times a thousand.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 3 {
        return None;
    }
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(part)
}

/// Bytes as people read them.
pub(crate) fn shown(bytes: u64) -> String {
    const SHOWN: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match SHOWN.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(*unit);
            match tenths % 10 {
                0 => format!("{} {name}", tenths / 10),
                tenth => format!("{}.{tenth} {name}", tenths / 10),
            }
        }
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("16GB", 16_000_000_000),
            ("16 gb", 16_000_000_000),
            ("512MiB", 512 << 20),
            ("1.5G", 1_500_000_000),
            ("0.001k", 1),
            ("4096", 4096),
            ("7b", 7),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in
            ["", "GB", "-1", "1.2345GB", "1e9", "16 XB", "1.GB.", "99999999999999999999", "99999999TB"]
        {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
        assert_eq!(("4".parse(), "0.5".parse()), (Ok(Cores(4000)), Ok(Cores(500))));
        assert!("0.0005".parse::<Cores>().is_err() && "four".parse::<Cores>().is_err());
    }

    #[test]
    fn sizes_are_shown_in_the_largest_unit() {
        let told = [0, 999, 1_500, 16_000_000_000, 536_870_912].map(shown);
        assert_eq!(told, ["0 B", "999 B", "1.5 kB", "16 GB", "536.8 MB"]);
    }
}

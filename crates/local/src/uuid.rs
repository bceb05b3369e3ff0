//! Ids of sessions and lines, as drivers of the command line know them.

/// A new random one.
pub(crate) fn fresh() -> String {
    let random = fastrand::u128(..);
    // Version 4, variant 1.
    let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Whether a text is one, and so a plain name of a file.
pub(crate) fn is_one(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12]
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_for_one_and_nothing_else_is() {
        let one = fresh();
        assert!(is_one(&one), "{one}");
        assert_eq!((&one[14..15], one != fresh()), ("4", true));
        for text in ["", "x", "../../../../etc/passwd", "550e8400-e29b-41d4-a716-44665544000g"] {
            assert!(!is_one(text), "{text}");
        }
        assert!(is_one("550e8400-e29b-41d4-a716-446655440000"));
    }
}

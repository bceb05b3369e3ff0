//! What a registry asks for before it answers.
//!
//! ```text
//!   401, WWW-Authenticate: Bearer realm="…",service="…",scope="…" ─▶ GET realm?service&scope ─▶ token
//!                          Basic realm="…"                        ─▶ the kept login itself
//! ```

use std::collections::BTreeMap;

/// A way to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token that somebody else gives.
    Bearer {
        /// Whom to ask.
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
    /// User and password.
    Basic,
}

impl Challenge {
    /// From the headers of an answer: a token is preferred.
    pub(super) fn read<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut basic = None;
        for header in headers {
            let header = header.trim();
            let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                let mut fields = fields(rest);
                let realm = fields.remove("realm")?;
                return Some(Self::Bearer {
                    realm,
                    service: fields.remove("service"),
                    scope: fields.remove("scope"),
                });
            }
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Self::Basic);
            }
        }
        basic
    }
}

/// `name="value", name=value`; what makes no sense ends it.
fn fields(text: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut rest = text.trim_start_matches([',', ' ']);
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => {
                let Some((value, after)) = unquoted(quoted) else { break };
                (value, after)
            }
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        fields.insert(name.trim().to_ascii_lowercase(), value);
        rest = after.trim_start_matches([',', ' ']);
    }
    fields
}

/// Reads to the closing quote; what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_in_every_usual_form() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let own = |text: Option<&str>| text.map(str::to_owned);
            Some(Challenge::Bearer { realm: realm.into(), service: own(service), scope: own(scope) })
        };
        let read = |headers: &[&str]| Challenge::read(headers.iter().copied());
        let usual =
            r#"Bearer realm="https://a.test/token",service="r.test",scope="repository:a/b:pull,push""#;
        let wanted = bearer("https://a.test/token", Some("r.test"), Some("repository:a/b:pull,push"));
        assert_eq!(read(&[usual]), wanted);
        assert_eq!(read(&["Basic realm=\"x\"", usual]), wanted);
        assert_eq!(
            read(&["bearer realm=https://a.test, service=\"a\\\"b\""]),
            bearer("https://a.test", Some("a\"b"), None)
        );
        assert_eq!(read(&["Basic"]), Some(Challenge::Basic));
        for none in ["", "Bearer", "Bearer realm=\"open", "Negotiate", "Bearer service=\"x\""] {
            assert_eq!(read(&[none]), None, "{none}");
        }
    }
}

//! Secrets that a sandbox uses without knowing them, and the look for those that it should not know.
//!
//! ```text
//!   header of a request ─ holds a placeholder? ─ host, port, method, path in its scope ─▶ the value
//!                                             └ else ─▶ refused: secret_scope
//!   request as it came ─ holds a value or a canary, plain or encoded? ─▶ refused: dlp
//!   answer ─ holds a value? ─▶ cut off: dlp
//! ```
//!
//! Values are put into header values only, also into the user and password of Basic. Whoever names a
//! placeholder elsewhere sends just that.

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use policy::host::{Authority, Host};
use protocol::network::DenyReason;
use protocol::secret::SecretUse;

/// The port of a host that names none.
const USUAL_PORT: u16 = 443;

/// How much of a request's body is looked at.
pub(crate) const LOOKED_AT: usize = 64 * 1024;

/// The secrets of one sandbox, and what it may send nowhere.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    uses: Vec<Use>,
    /// The values and the canaries in every form of [`encodings`].
    sent: Option<AhoCorasick>,
    /// The values.
    answered: Option<AhoCorasick>,
    /// The longest that is looked for, less one: what a part has to keep of the one before.
    overlap: usize,
}

#[derive(Debug)]
struct Use {
    secret: SecretUse,
    hosts: Vec<(Host, u16)>,
}

/// What a request asks for, as far as scopes are concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) host: &'a Host,
    pub(crate) port: u16,
    pub(crate) method: &'a str,
    /// Without its query.
    pub(crate) path: &'a str,
}

impl Use {
    fn is_for(&self, host: &Host, port: u16) -> bool {
        self.hosts.iter().any(|one| (&one.0, one.1) == (host, port))
    }

    fn covers(&self, asked: Asked<'_>) -> bool {
        let binding = &self.secret.binding;
        let below = |prefix: &String| {
            asked.path == prefix
                || asked
                    .path
                    .strip_prefix(prefix.as_str())
                    .is_some_and(|rest| prefix.ends_with('/') || rest.starts_with('/'))
        };
        self.is_for(asked.host, asked.port)
            && (binding.methods.is_empty() || binding.methods.iter().any(|method| method == asked.method))
            && (binding.paths.is_empty() || (is_plain(asked.path) && binding.paths.iter().any(below)))
    }
}

/// Whether every server reads the path in the same way: nothing encoded, no step up.
fn is_plain(path: &str) -> bool {
    !path.contains(['%', '\\', ';']) && path.split('/').all(|part| part != "." && part != "..")
}

impl Secrets {
    /// Reads what the server hands over.
    pub(crate) fn of(uses: Vec<SecretUse>, canaries: &[String]) -> Result<Self, String> {
        let mut all = Self::default();
        let mut sent: Vec<_> = canaries.iter().flat_map(|canary| encodings(canary.as_bytes())).collect();
        let mut answered = Vec::new();
        for secret in uses {
            let hosts = secret.binding.hosts.iter().map(|host| {
                let Authority { host, port } = Authority::parse(host.as_bytes()).map_err(|error| {
                    format!("secret {}: `{host}` is no host: {error}", secret.binding.name)
                })?;
                Ok::<_, String>((host, port.unwrap_or(USUAL_PORT)))
            });
            let hosts = hosts.collect::<Result<_, _>>()?;
            sent.extend(encodings(secret.value.as_bytes()));
            answered.push(secret.value.clone().into_bytes());
            all.uses.push(Use { secret, hosts });
        }
        // Three characters for a byte is the longest encoding.
        let values = all.uses.iter().map(|one| &one.secret.value);
        all.overlap = values.chain(canaries).map(|value| value.len() * 3).max().unwrap_or(0);
        let build = |patterns: Vec<Vec<u8>>| match patterns.is_empty() {
            true => Ok(None),
            false => AhoCorasick::new(patterns).map(Some).map_err(|error| error.to_string()),
        };
        all.sent = build(sent)?;
        all.answered = build(answered)?;
        Ok(all)
    }

    /// Whether any of them is for this host, so that its connections have to be opened.
    pub(crate) fn concern(&self, host: &Host, port: u16) -> bool {
        self.uses.iter().any(|one| one.is_for(host, port))
    }

    /// A header's value as the host gets it, where that is another one.
    pub(crate) fn put_into(&self, value: &[u8], asked: Asked<'_>) -> Result<Option<Vec<u8>>, DenyReason> {
        if self.uses.is_empty() {
            return Ok(None);
        }
        if let Some(told) = basic(value) {
            let said = self.replaced(&told, asked)?;
            return Ok(said.map(|said| format!("Basic {}", STANDARD.encode(said)).into_bytes()));
        }
        self.replaced(value, asked)
    }

    fn replaced(&self, value: &[u8], asked: Asked<'_>) -> Result<Option<Vec<u8>>, DenyReason> {
        let mut said = None;
        for one in &self.uses {
            let placeholder = one.secret.placeholder.as_bytes();
            let before: &[u8] = said.as_deref().unwrap_or(value);
            let Some(mut at) = find(before, placeholder) else { continue };
            if !one.covers(asked) {
                return Err(DenyReason::SecretScope);
            }
            let (mut after, mut rest) = (Vec::with_capacity(before.len()), before);
            loop {
                after.extend_from_slice(&rest[..at]);
                after.extend_from_slice(one.secret.value.as_bytes());
                rest = &rest[at + placeholder.len()..];
                match find(rest, placeholder) {
                    Some(next) => at = next,
                    None => break,
                }
            }
            after.extend_from_slice(rest);
            said = Some(after);
        }
        Ok(said)
    }

    /// Whether something that a sandbox sends holds a value.
    pub(crate) fn leak_in(&self, sent: &[u8]) -> bool {
        self.sent.as_ref().is_some_and(|values| {
            values.is_match(sent)
                || (sent.contains(&b'%') && values.is_match(&percent_decoded(sent)))
                || (sent.contains(&b'+') && values.is_match(&percent_decoded(&spaced(sent))))
        })
    }

    /// Whether something that a host answers holds a value.
    pub(crate) fn told_in(&self, answered: &[u8]) -> bool {
        self.answered.as_ref().is_some_and(|values| values.is_match(answered))
    }

    /// Whether there is nothing to look for.
    pub(crate) fn is_empty(&self) -> bool {
        self.sent.is_none()
    }
}

/// Which way a body goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Out of the sandbox: its beginning is looked at, for every encoding.
    Up,
    /// Into it: all of it is looked at, for the values.
    Down,
}

/// Looks through a body that comes in parts.
#[derive(Debug)]
pub(crate) struct Look {
    secrets: std::sync::Arc<Secrets>,
    way: Way,
    kept: Vec<u8>,
    seen: usize,
}

impl Look {
    pub(crate) fn new(secrets: std::sync::Arc<Secrets>, way: Way) -> Self {
        Self { secrets, way, kept: Vec::new(), seen: 0 }
    }

    /// Whether this part, with the end of the one before, holds a value.
    pub(crate) fn finds(&mut self, part: &[u8]) -> bool {
        if self.secrets.is_empty() || (self.way == Way::Up && self.seen >= LOOKED_AT) {
            return false;
        }
        self.seen += part.len();
        self.kept.extend_from_slice(part);
        let found = match self.way {
            Way::Up => self.secrets.leak_in(&self.kept),
            Way::Down => self.secrets.told_in(&self.kept),
        };
        let keep = self.kept.len().min(self.secrets.overlap);
        self.kept.drain(..self.kept.len() - keep);
        found
    }
}

/// The user and password of Basic.
fn basic(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    STANDARD.decode(rest.trim_ascii()).ok()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    if what.is_empty() {
        return None;
    }
    bytes.windows(what.len()).position(|window| window == what)
}

/// Every `+` as the space that it is in a form.
fn spaced(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect()
}

/// Every `%` with two digits behind it as the byte that they mean.
fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (mut decoded, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|_| *first == b'%');
        let byte = digits.and_then(|two| Some(digit(two[0])? << 4 | digit(two[1])?));
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    decoded
}

/// A value as it may stand in a request: plain, in hex, and in base64 wherever in a longer text it
/// begins.
fn encodings(value: &[u8]) -> Vec<Vec<u8>> {
    let hex = |upper: bool| -> String {
        value.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
    };
    let mut all = vec![value.to_vec(), hex(false).into(), hex(true).into()];
    for offset in 0..3 {
        let mut shifted = vec![0; offset];
        shifted.extend_from_slice(value);
        // The first characters hold bits of what stands before, the last ones of what stands behind.
        let skip = [0, 2, 3][offset];
        let whole = shifted.len() / 3 * 4;
        for text in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            if let Some(inner) = text.get(skip..whole) {
                all.push(inner.as_bytes().to_vec());
            }
        }
    }
    all.retain(|one| one.len() >= 8);
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use protocol::secret::{SecretBinding, SecretSource};

    use super::*;

    const VALUE: &str = "real-s3cret/+value=0123";
    const CANARY: &str = "canary of 2026";
    const PLACEHOLDER: &str = "patchyard_secret_0123456789abcdef";

    fn secrets() -> Arc<Secrets> {
        let binding = SecretBinding {
            name: "TOKEN".into(),
            hosts: vec!["api.test".into(), "api.test:8443".into()],
            methods: vec!["GET".into(), "POST".into()],
            paths: vec!["/v1".into(), "/files/".into()],
            source: SecretSource::Sealed,
        };
        let secret = SecretUse { binding, placeholder: PLACEHOLDER.into(), value: VALUE.into() };
        Arc::new(Secrets::of(vec![secret], &[CANARY.into()]).unwrap())
    }

    fn asked<'a>(host: &'a Host, port: u16, method: &'a str, path: &'a str) -> Asked<'a> {
        Asked { host, port, method, path }
    }

    #[test]
    fn a_placeholder_is_a_value_where_all_of_its_scope_agrees() {
        let (secrets, api) = (secrets(), Host::parse(b"api.test").unwrap());
        let bearer = format!("Bearer {PLACEHOLDER}");
        let put = |asked| secrets.put_into(bearer.as_bytes(), asked);
        for (port, method, path) in [(443, "GET", "/v1"), (8443, "POST", "/v1/x"), (443, "GET", "/files/a")] {
            let said = put(asked(&api, port, method, path)).unwrap().unwrap();
            assert_eq!(said, format!("Bearer {VALUE}").into_bytes(), "{port} {method} {path}");
        }
        for (port, method, path) in [
            (80, "GET", "/v1"),
            (443, "PUT", "/v1"),
            (443, "get", "/v1"),
            (443, "GET", "/v10"),
            (443, "GET", "/"),
            (443, "GET", "/files"),
            (443, "GET", "/v1/../admin"),
            (443, "GET", "/v1/%2e%2e/admin"),
            (443, "GET", "/v1/..;/admin"),
        ] {
            assert_eq!(put(asked(&api, port, method, path)), Err(DenyReason::SecretScope), "{port} {path}");
        }
        let evil = Host::parse(b"evil.test").unwrap();
        assert_eq!(put(asked(&evil, 443, "GET", "/v1")), Err(DenyReason::SecretScope));
        assert_eq!(secrets.put_into(b"Bearer other", asked(&evil, 443, "GET", "/v1")), Ok(None));
        assert!(secrets.concern(&api, 443) && !secrets.concern(&api, 444) && !secrets.concern(&evil, 443));
    }

    #[test]
    fn a_placeholder_within_basic_is_a_value_too_and_so_is_each_of_two() {
        let (secrets, api) = (secrets(), Host::parse(b"api.test").unwrap());
        let told = format!("basic {}", STANDARD.encode(format!("me:{PLACEHOLDER}")));
        let said = secrets.put_into(told.as_bytes(), asked(&api, 443, "GET", "/v1")).unwrap().unwrap();
        assert_eq!(said, format!("Basic {}", STANDARD.encode(format!("me:{VALUE}"))).into_bytes());
        let twice = format!("{PLACEHOLDER},{PLACEHOLDER}");
        let said = secrets.put_into(twice.as_bytes(), asked(&api, 443, "GET", "/v1")).unwrap().unwrap();
        assert_eq!(said, format!("{VALUE},{VALUE}").into_bytes());
    }

    #[test]
    fn a_value_is_found_in_every_encoding_and_over_the_ends_of_parts() {
        let secrets = secrets();
        let hex: String = VALUE.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut texts = vec![VALUE.to_owned(), hex.to_uppercase(), hex];
        texts.push(VALUE.bytes().map(|byte| format!("%{byte:02X}")).collect());
        texts.push(VALUE.replace('+', "%2b"));
        texts.push(VALUE.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D"));
        for around in ["", "x", "xy", "xyz", "{\"token\":\""] {
            texts.push(STANDARD.encode(format!("{around}{VALUE}{around}")));
            texts.push(URL_SAFE_NO_PAD.encode(format!("{around}{VALUE}{around}")));
        }
        for text in texts {
            let sent = format!("a=b&c={text}&d=e");
            assert!(secrets.leak_in(sent.as_bytes()), "{text}");
            for at in 0..sent.len() {
                let mut look = Look::new(Arc::clone(&secrets), Way::Up);
                let (a, b) = sent.as_bytes().split_at(at);
                assert!(look.finds(a) | look.finds(b), "{text} at {at}");
            }
        }
        assert!(!secrets.leak_in(b"nothing of that"));
        let mut look = Look::new(secrets, Way::Down);
        assert!(!look.finds(b"real-s3cret/") && !look.finds(b"+value") && look.finds(b"=0123"));
    }

    #[test]
    fn a_canary_is_found_on_its_way_out_alone_and_where_no_secret_is_bound() {
        for secrets in [secrets(), Arc::new(Secrets::of(Vec::new(), &[CANARY.into()]).unwrap())] {
            let in_a_form = CANARY.replace(' ', "+").replace('f', "%66");
            let encoded = STANDARD.encode(format!("x{CANARY}."));
            for sent in [CANARY.to_owned(), CANARY.replace(' ', "%20"), in_a_form, encoded] {
                assert!(secrets.leak_in(format!("q={sent}").as_bytes()), "{sent}");
                assert!(Look::new(Arc::clone(&secrets), Way::Up).finds(sent.as_bytes()), "{sent}");
            }
            assert!(!secrets.told_in(CANARY.as_bytes()));
        }
    }
}

//! The greeting of TLS, looked at before anything is dialled.
//!
//! ```text
//!   record: 22 │ version(2) │ length(2) │ handshake, over one record or several
//!   handshake: 1 │ length(3) │ version(2) │ random(32) │ session(1+n) │ suites(2+n) │ compression(1+n)
//!              │ extensions(2+n): type(2) │ length(2) │ body      0 names the server, 16 protocols
//! ```
//!
//! RFC 8446, section 4.1.2, and RFC 6066, section 3. Nothing is accepted that a server might read in
//! another way: two names, a name twice, an inner length that does not fit.

/// The longest greeting, with all its records.
pub(crate) const MAX_HELLO: usize = 16 * 1024;

/// `handshake` and `client_hello`.
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// The extension that names the server, and the kind of name that is a host.
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// The extension that names protocols, and those by which names are asked for (RFC 7858, RFC 9250).
const PROTOCOLS: u16 = 16;
const OF_NAMES: [&[u8]; 2] = [b"dot", b"doq"];

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// The beginning of a greeting; more has to come.
    Half,
    /// A whole one, with the name of the server as it stands there.
    Hello(Option<Vec<u8>>),
    /// A whole one that would go on with questions for names, which are answered here.
    Names,
    /// Something else.
    NotTls,
}

/// Reads what has come so far.
pub(crate) fn read(bytes: &[u8]) -> Greeting {
    let mut handshake = Vec::new();
    let mut rest = bytes;
    loop {
        let (whole, left) = match record(rest) {
            Err(Broken) => return Greeting::NotTls,
            Ok(None) => return half(bytes),
            Ok(Some((part, left))) => (part, left),
        };
        handshake.extend_from_slice(whole);
        rest = left;
        let Some((&[kind, a, b, c], body)) = handshake.split_first_chunk::<4>() else { continue };
        if kind != CLIENT_HELLO {
            return Greeting::NotTls;
        }
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if length > MAX_HELLO {
            return Greeting::NotTls;
        }
        if let Some(hello) = body.get(..length) {
            return offered(hello).unwrap_or(Greeting::NotTls);
        }
    }
}

fn half(bytes: &[u8]) -> Greeting {
    if bytes.len() < MAX_HELLO { Greeting::Half } else { Greeting::NotTls }
}

struct Broken;

/// The content of a record, and what follows it.
type Record<'a> = (&'a [u8], &'a [u8]);

/// The first record; nothing where it is not whole yet.
fn record(bytes: &[u8]) -> Result<Option<Record<'_>>, Broken> {
    let header = bytes.get(..bytes.len().min(5)).unwrap_or_default();
    if header.first().is_some_and(|kind| *kind != HANDSHAKE) || header.get(1).is_some_and(|major| *major != 3)
    {
        return Err(Broken);
    }
    let Some((&[_, _, _, high, low], rest)) = bytes.split_first_chunk::<5>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length == 0 || length > MAX_HELLO {
        return Err(Broken);
    }
    Ok(rest.split_at_checked(length))
}

/// Bytes that are taken from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// What follows its own length, in one byte.
    fn short(&mut self) -> Option<&'a [u8]> {
        let length = *self.take(1)?.first()?;
        self.take(usize::from(length))
    }

    /// What follows its own length, in two bytes.
    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}

/// What a greeting offers; nothing for a broken one.
fn offered(hello: &[u8]) -> Option<Greeting> {
    let mut hello = Reader(hello);
    hello.take(2 + 32)?;
    hello.short()?;
    hello.long()?;
    hello.short()?;
    if hello.0.is_empty() {
        return Some(Greeting::Hello(None));
    }
    let mut extensions = Reader(hello.long()?);
    if !hello.0.is_empty() {
        return None;
    }
    let (mut name, mut asks_for_names) = (None, false);
    while !extensions.0.is_empty() {
        let (kind, body) = (extensions.u16()?, extensions.long()?);
        asks_for_names |= kind == PROTOCOLS && is_of_names(body);
        if kind != SERVER_NAME {
            continue;
        }
        if name.is_some() {
            return None;
        }
        let mut body = Reader(body);
        let mut names = Reader(body.long()?);
        let (kind, host) = (names.take(1)?, names.long()?);
        if kind != [HOST_NAME] || !names.0.is_empty() || !body.0.is_empty() || host.is_empty() {
            return None;
        }
        name = Some(host.to_vec());
    }
    Some(if asks_for_names { Greeting::Names } else { Greeting::Hello(name) })
}

/// Whether one of these protocols is for names. A list that is broken offers what stands before that.
fn is_of_names(list: &[u8]) -> bool {
    let mut protocols = Reader(list.get(2..).unwrap_or_default());
    std::iter::from_fn(|| protocols.short()).any(|protocol| OF_NAMES.contains(&protocol))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn long(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
        [kind.to_be_bytes().to_vec(), long(body)].concat()
    }

    fn name(host: &[u8]) -> Vec<u8> {
        extension(0, &long(&[vec![0], long(host)].concat()))
    }

    fn handshake(extensions: &[Vec<u8>]) -> Vec<u8> {
        let body =
            [vec![3, 3], vec![7; 32], vec![0], long(&[0x13, 1]), vec![1, 0], long(&extensions.concat())];
        let body = body.concat();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[1], &length[1..], body.as_slice()].concat()
    }

    fn record(bytes: &[u8]) -> Vec<u8> {
        [vec![22, 3, 1], long(bytes)].concat()
    }

    /// A greeting for this host.
    pub(crate) fn hello(host: &[u8]) -> Vec<u8> {
        record(&handshake(&[extension(43, &[2, 3, 4]), name(host), extension(16, b"\0\x03\x02h2")]))
    }

    #[test]
    fn the_name_is_found_in_one_record_and_in_many() {
        assert_eq!(read(&hello(b"api.allowed.test")), Greeting::Hello(Some(b"api.allowed.test".to_vec())));
        assert_eq!(read(&record(&handshake(&[extension(43, &[2, 3, 4])]))), Greeting::Hello(None));
        let whole = handshake(&[name(b"a.test")]);
        let parts: Vec<u8> = whole.chunks(7).flat_map(record).collect();
        assert_eq!(read(&parts), Greeting::Hello(Some(b"a.test".to_vec())));
        for end in 0..parts.len() {
            assert_eq!(read(&parts[..end]), Greeting::Half, "{end}");
        }
    }

    /// Row T12 of the escape matrix.
    #[test]
    fn a_greeting_that_leads_to_questions_for_names_is_told_apart() {
        for (protocols, names) in [
            (&b"\0\x04\x03dot"[..], true),
            (b"\0\x04\x03doq", true),
            (b"\0\x07\x02h2\x03dot", true),
            (b"\0\x04\x03dox", false),
            (b"\0\x03\x02h2", false),
            (b"\0", false),
            (b"", false),
        ] {
            let read = read(&record(&handshake(&[name(b"a.test"), extension(16, protocols)])));
            let hello = Greeting::Hello(Some(b"a.test".to_vec()));
            assert_eq!(read, if names { Greeting::Names } else { hello }, "{protocols:?}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_no_greeting() {
        let two = extension(0, &long(&[vec![0], long(b"a.test"), vec![0], long(b"b.test")].concat()));
        let rest = extension(0, &[long(&[vec![0], long(b"a.test")].concat()), vec![9]].concat());
        for extensions in [vec![name(b"a.test"), name(b"b.test")], vec![two], vec![rest], vec![name(b"")]] {
            assert_eq!(read(&record(&handshake(&extensions))), Greeting::NotTls);
        }
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0-x\r\n", b"\x16\x02", b"\x16\x03\x01\0\0", &[0; 9]]
        {
            assert_eq!(read(bytes), Greeting::NotTls, "{bytes:?}");
        }
        // A certificate where the greeting should be.
        assert_eq!(read(&record(&[11, 0, 0, 1, 0])), Greeting::NotTls);
        // Ever more, and never whole.
        let endless: Vec<u8> = std::iter::repeat_with(|| record(&[1]))
            .take(1)
            .chain([vec![22, 3, 1, 64, 0]])
            .flatten()
            .collect();
        assert_eq!(read(&[endless, vec![0; MAX_HELLO]].concat()), Greeting::NotTls);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let _ = read(&[&[22, 3, 1][..], &bytes].concat());
            let _ = read(&record(&[&[1][..], &bytes].concat()));
        }

        #[test]
        fn a_byte_that_changes_never_makes_two_names(at in 0_usize..90, byte in any::<u8>()) {
            let mut bytes = hello(b"api.allowed.test");
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
            if let Greeting::Hello(Some(name)) = read(&bytes) {
                prop_assert!(name.len() <= 300);
            }
        }
    }
}

//! What a server says that it can do, without what is not passed on.
//!
//! ```text
//!   # service=… │ 0000 │ (version 1) │ <object> <ref> NUL <capabilities> │ refs as they are …
//!   # service=… │ 0000 │ version 2 │ capability │ capability │ … │ 0000
//! ```
//!
//! Refs stay: a client sends what is not behind them. What has a client fetch from other addresses goes, and
//! so does what a push must not ask for.

use super::pkt::{self, FLUSH, Packet, Read};
use super::push_head::is_known;
use super::route::Service;

/// Capabilities of version 2 that point elsewhere, as whole words or with a value.
const ELSEWHERE: [&str; 2] = ["bundle-uri", "promisor-remote"];

/// The same of its `fetch`.
const ELSEWHERE_IN_FETCH: &str = "packfile-uris";

/// What the server says is none of git's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Odd;

/// An advertisement that passes by.
#[derive(Debug)]
pub(crate) struct Advertisement {
    service: Service,
    bytes: Vec<u8>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begin,
    Refs,
    Version2,
    Rest,
}

impl Advertisement {
    pub(crate) fn new(service: Service) -> Self {
        Self { service, bytes: Vec::new(), stage: Stage::Begin }
    }

    /// Whether it got as far as what a server has to say.
    pub(crate) fn is_whole(&self) -> bool {
        self.stage == Stage::Rest
    }

    /// Takes the next piece; gives what goes on.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<Vec<u8>, Odd> {
        if self.stage == Stage::Rest {
            return Ok(piece.to_vec());
        }
        self.bytes.extend_from_slice(piece);
        let (mut out, mut at) = (Vec::new(), 0);
        while self.stage != Stage::Rest {
            let (packet, length) = match pkt::read(&self.bytes[at..]) {
                Read::Half => break,
                Read::Refused | Read::Whole(Packet::Special, _) => return Err(Odd),
                Read::Whole(packet, length) => (packet, length),
            };
            let stage = match packet {
                Packet::Data(line) => line_of(self.service, self.stage, line, &mut out)?,
                _ => {
                    out.extend(FLUSH);
                    if self.stage == Stage::Begin { Stage::Refs } else { Stage::Rest }
                }
            };
            self.stage = stage;
            at += length;
        }
        self.bytes.drain(..at);
        if self.stage == Stage::Rest {
            out.append(&mut self.bytes);
        }
        Ok(out)
    }
}

/// Writes a line as it goes on; where it leads.
fn line_of(service: Service, stage: Stage, line: &[u8], out: &mut Vec<u8>) -> Result<Stage, Odd> {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    match stage {
        Stage::Version2 => {
            if let Some(kept) = of_version_2(text) {
                pkt::write(out, &[kept.as_slice(), b"\n"].concat());
            }
            return Ok(Stage::Version2);
        }
        Stage::Begin if text.starts_with(b"# service=") => {
            pkt::write(out, line);
            return Ok(Stage::Begin);
        }
        _ => {}
    }
    if text == b"version 2" && service == Service::UploadPack {
        pkt::write(out, line);
        return Ok(Stage::Version2);
    }
    if text == b"version 1" {
        pkt::write(out, line);
        return Ok(Stage::Refs);
    }
    if text.starts_with(b"ERR ") {
        pkt::write(out, line);
        return Ok(Stage::Rest);
    }
    let at = text.iter().position(|byte| *byte == 0).ok_or(Odd)?;
    match service {
        Service::UploadPack => pkt::write(out, line),
        Service::ReceivePack => {
            let capabilities = String::from_utf8_lossy(&text[at + 1..]).into_owned();
            let known: Vec<&str> = capabilities.split(' ').filter(|word| is_known(word)).collect();
            pkt::write(out, &[&text[..=at], known.join(" ").as_bytes(), b"\n"].concat());
        }
    }
    Ok(Stage::Rest)
}

fn of_version_2(line: &[u8]) -> Option<Vec<u8>> {
    let name = line.split(|byte| *byte == b'=').next().unwrap_or_default();
    if ELSEWHERE.iter().any(|word| word.as_bytes() == name) {
        return None;
    }
    let Some(given) = line.strip_prefix(b"fetch=") else { return Some(line.to_vec()) };
    let words = given.split(|byte| *byte == b' ').filter(|word| *word != ELSEWHERE_IN_FETCH.as_bytes());
    Some([b"fetch=".to_vec(), words.collect::<Vec<_>>().join(&b' ')].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(lines: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in lines {
            if line.is_empty() { bytes.extend(FLUSH) } else { pkt::write(&mut bytes, line.as_bytes()) }
        }
        bytes
    }

    fn passed(service: Service, bytes: &[u8], size: usize) -> Result<Vec<u8>, Odd> {
        let mut advertisement = Advertisement::new(service);
        let mut out = Vec::new();
        for piece in bytes.chunks(size) {
            out.extend(advertisement.push(piece)?);
        }
        assert!(advertisement.is_whole(), "{advertisement:?}");
        Ok(out)
    }

    #[test]
    fn what_must_not_be_asked_for_is_not_offered_and_refs_stay() {
        let push = |capabilities: &str| {
            packets(&[
                "# service=git-receive-pack\n",
                "",
                &format!("aa refs/heads/a\0{capabilities}\n"),
                "bb refs/heads/b\n",
                "",
            ])
        };
        let from =
            push("report-status push-options push-cert=1 side-band-64k object-format=sha1 agent=git/2");
        let to = push("report-status side-band-64k object-format=sha1 agent=git/2");
        let two = |fetch: &str, more: &[&str]| {
            let all = [
                &["# service=git-upload-pack\n", "", "version 2\n", "agent=x\n", fetch],
                more,
                &["object-info\n", ""],
            ];
            packets(&all.concat())
        };
        let from_two =
            two("fetch=shallow packfile-uris filter\n", &["bundle-uri\n", "promisor-remote=name=a,url=b\n"]);
        let to_two = two("fetch=shallow filter\n", &[]);
        let old = packets(&[
            "# service=git-upload-pack\n",
            "",
            "version 1\n",
            "aa HEAD\0symref=HEAD:refs/heads/a\n",
            "",
        ]);
        let none = packets(&["# service=git-upload-pack\n", "", ""]);
        for size in [1, 3, 1000] {
            assert_eq!(passed(Service::ReceivePack, &from, size), Ok(to.clone()));
            assert_eq!(passed(Service::UploadPack, &from_two, size), Ok(to_two.clone()));
            assert_eq!(passed(Service::UploadPack, &old, size), Ok(old.clone()));
            assert_eq!(passed(Service::UploadPack, &none, size), Ok(none.clone()));
        }
        assert_eq!(Advertisement::new(Service::UploadPack).push(b"<!DOCTYPE html>"), Err(Odd));
        assert_eq!(Advertisement::new(Service::ReceivePack).push(&packets(&["version 2\n"])), Err(Odd));
        assert_eq!(Advertisement::new(Service::ReceivePack).push(&packets(&["aa refs/heads/a\n"])), Err(Odd));
    }
}

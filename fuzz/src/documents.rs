//! The documents of an image, in each of the forms that images come in.
//!
//! ```text
//!   input:  1 byte: form │ frames: u32 little-endian length │ content
//!             0 an OCI layout in a folder    frames: index or manifest.json · manifest · configuration · layer
//!             1 the same in an archive
//!             2 what `docker save` writes    in a text, `@N` stands for the digest of frame N, `%N` for
//!                                            its digits, `#N` for its length
//! ```
//!
//! Whatever comes, it is taken in or refused in one line, and what is taken in can be used as it is.

use std::fs;
use std::path::Path;

use sandbox::images::{Caps, Digest, Images};

use super::ground::Ground;

/// Frames of one input.
const MOST: usize = 6;

const CAPS: Caps = Caps { bytes: 1 << 20, entries: 200 };

/// Takes one input; panics over a finding.
pub fn run(data: &[u8]) {
    let Some((form, said)) = data.split_first() else { return };
    let texts = filled(frames(said));
    let Some(first) = texts.first() else { return };
    let Ok(ground) = Ground::of("documents") else { return };
    let mut files = vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
    if form % 3 == 2 {
        files[0] = ("manifest.json".to_owned(), first.clone());
    } else {
        files.push(("index.json".to_owned(), first.clone()));
    }
    files.extend(
        texts[1..].iter().map(|text| (format!("blobs/sha256/{}", Digest::of(text).hex()), text.clone())),
    );
    let source = ground.path("source");
    let written = if form % 3 == 0 { folder(&source, &files) } else { archive(&source, &files) };
    if written.is_err() {
        return;
    }
    let images = Images::of(&ground.path("data"));
    match images.import_capped("x", &source, CAPS) {
        Ok(_) => usable(&images),
        Err(error) => {
            let words = error.to_string();
            assert!(!words.contains(char::is_control), "not one line: {words:?}");
            assert!(words.len() < 8000, "an error of {} bytes", words.len());
        }
    }
    ground.check(&["data", "source"]);
}

/// A command can be started with this.
fn usable(images: &Images) {
    let Ok(config) = images.config("x") else { panic!("an image without its configuration") };
    let is_text = |text: &str| !text.contains('\0');
    for (name, value) in &config.environment {
        assert!(!name.is_empty() && !name.contains('=') && is_text(name) && is_text(value), "{name}={value}");
    }
    if let Some(folder) = &config.working_dir {
        assert!(folder.starts_with('/') && is_text(folder), "{folder}");
    }
    assert!(config.user.as_deref().is_none_or(|user| !user.is_empty() && is_text(user)));
}

fn frames(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = data.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*header) as usize;
        let Some((content, rest)) = rest.split_at_checked(length) else { break };
        frames.push(content.to_vec());
        data = rest;
        if frames.len() == MOST {
            break;
        }
    }
    frames
}

/// Texts with what stands for later ones put in, from the last to the first.
fn filled(mut texts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    for at in (0..texts.len()).rev() {
        let (before, after) = texts.split_at_mut(at + 1);
        let text = std::mem::take(&mut before[at]);
        let mut rest = text.as_slice();
        while let Some((byte, others)) = rest.split_first() {
            let number = others.first().and_then(|digit| char::from(*digit).to_digit(10));
            let meant = number.and_then(|number| (number as usize).checked_sub(at + 1));
            let Some(other) = meant.and_then(|meant| after.get(meant)).filter(|_| b"@%#".contains(byte))
            else {
                before[at].push(*byte);
                rest = others;
                continue;
            };
            let words = match byte {
                b'@' => Digest::of(other).to_string(),
                b'%' => Digest::of(other).hex(),
                _ => other.len().to_string(),
            };
            before[at].extend(words.bytes());
            rest = &others[1..];
        }
    }
    texts
}

fn folder(path: &Path, files: &[(String, Vec<u8>)]) -> std::io::Result<()> {
    fs::create_dir_all(path.join("blobs/sha256"))?;
    files.iter().try_for_each(|(name, bytes)| fs::write(path.join(name), bytes))
}

fn archive(path: &Path, files: &[(String, Vec<u8>)]) -> std::io::Result<()> {
    let mut builder = tar::Builder::new(fs::File::create(path)?);
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        builder.append_data(&mut header, name, bytes.as_slice())?;
    }
    builder.finish()
}

//! What a server gives back, as the model reads it.
//!
//! ```text
//!  text, links, resources ─▶ one text ─ longer than MAX_MCP_OUTPUT_TOKENS ─▶ its ends, and the whole in a file
//!  images that the model's API takes ─▶ images beside it
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use serde_json::Value;

use super::names::plain;
use crate::outcome::Picture;

/// Images of one result.
const MAX_IMAGES: usize = 10;

/// Bytes of one image.
const MAX_IMAGE: usize = 2_000_000;

/// Bytes, in base64, of all images of one result: they stand in the log.
const MAX_ALL: usize = 4_000_000;

/// Pixels of a side.
const MAX_SIDE: u32 = 8_000;

/// A result in words, and the images beside it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Content {
    pub(super) text: String,
    pub(super) images: Vec<Picture>,
}

/// What a tool gave back.
pub(super) fn of_result(result: &CallToolResult) -> Content {
    let mut content = of_blocks(&result.content);
    if let Some(structured) = &result.structured_content {
        // Most say the same in words.
        let same = serde_json::from_str::<Value>(&content.text).is_ok_and(|said| said == *structured);
        if !same {
            content.line(&structured.to_string());
        }
    }
    content
}

/// Blocks, one after the other.
pub(super) fn of_blocks<'a>(blocks: impl IntoIterator<Item = &'a ContentBlock>) -> Content {
    let mut content = Content::default();
    for block in blocks {
        match block {
            ContentBlock::Text(text) => content.line(&text.text),
            ContentBlock::Image(image) => content.image(&image.data, &image.mime_type),
            ContentBlock::Audio(audio) => {
                let kind = plain(&audio.mime_type, 60);
                content.line(&format!("[audio, {kind}: cannot be heard here]"));
            }
            ContentBlock::Resource(resource) => content.resource(&resource.resource),
            ContentBlock::ResourceLink(link) => {
                let about = link.description.as_deref().map(|about| format!(": {}", plain(about, 300)));
                content.line(&format!(
                    "[resource {} at {}{}]",
                    plain(&link.name, 100),
                    plain(&link.uri, 500),
                    about.unwrap_or_default()
                ));
            }
            _ => content.line("[a kind of content that is not known here]"),
        }
    }
    content
}

/// The parts of a resource.
pub(super) fn of_resource(parts: &[ResourceContents]) -> Content {
    let mut content = Content::default();
    parts.iter().for_each(|part| content.resource(part));
    content
}

impl Content {
    fn line(&mut self, text: &str) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.text.push_str(text);
    }

    fn resource(&mut self, resource: &ResourceContents) {
        match resource {
            ResourceContents::TextResourceContents { uri, text, .. } => {
                self.line(&format!("Resource {}:\n{text}", plain(uri, 500)));
            }
            ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
                let kind = mime_type.as_deref().unwrap_or("application/octet-stream");
                self.line(&format!("Resource {}:", plain(uri, 500)));
                if kind.starts_with("image/") {
                    self.image(blob, kind);
                } else {
                    let (kind, bytes) = (plain(kind, 60), blob.len() / 4 * 3);
                    self.line(&format!("[{kind}, about {bytes} bytes, which are no text]"));
                }
            }
            _ => self.line("[a kind of resource that is not known here]"),
        }
    }

    fn has_room(&self, picture: &Picture) -> bool {
        let bytes: usize = self.images.iter().map(|image| image.data.len()).sum();
        self.images.len() < MAX_IMAGES && bytes + picture.data.len() <= MAX_ALL
    }

    fn image(&mut self, data: &str, said: &str) {
        let said = plain(said, 60);
        match picture(data) {
            Ok((picture, _)) if !self.has_room(&picture) => {
                self.line(&format!("[image, {said}: left out, one too many]"));
            }
            Ok((picture, (width, height))) => {
                self.line(&format!("[image, {}, {width} × {height}]", picture.media_type));
                self.images.push(picture);
            }
            Err(why) => self.line(&format!("[image, {said}: left out, {why}]")),
        }
    }
}

/// An image that the model's API takes, and its size; what it is said to be counts for nothing. A request with one
/// that the API does not take fails, and so would every later one.
fn picture(data: &str) -> Result<(Picture, (u32, u32)), String> {
    if data.len() > MAX_IMAGE / 3 * 4 {
        return Err(format!("it is larger than {MAX_IMAGE} bytes"));
    }
    let bytes = STANDARD.decode(data.trim()).map_err(|_| "it is no base64")?;
    let (media_type, (width, height)) = measure(&bytes).ok_or("it is no PNG, JPEG, GIF or WebP")?;
    if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
        return Err(format!("a side of it is longer than {MAX_SIDE} pixels, or nothing"));
    }
    let picture = Picture { media_type: media_type.to_owned(), data: STANDARD.encode(&bytes) };
    Ok((picture, (width, height)))
}

/// What an image is by its first bytes, and how large.
fn measure(bytes: &[u8]) -> Option<(&'static str, (u32, u32))> {
    let big = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let small = |at: usize| Some(u32::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
    let three = |at: usize| Some(small(at)? | u32::from(*bytes.get(at + 2)?) << 16);
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.get(12..16)? == b"IHDR" {
        return Some(("image/png", (big(16)?, big(20)?)));
    }
    if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        return Some(("image/gif", (small(6)?, small(8)?)));
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12)? == b"WEBP" {
        let size = match bytes.get(12..16)? {
            b"VP8 " => (small(26)? & 0x3fff, small(28)? & 0x3fff),
            b"VP8L" => {
                let bits = u32::from_le_bytes(bytes.get(21..25)?.try_into().ok()?);
                ((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1)
            }
            b"VP8X" => (three(24)? + 1, three(27)? + 1),
            _ => return None,
        };
        return Some(("image/webp", size));
    }
    bytes.starts_with(b"\xff\xd8\xff").then(|| jpeg(bytes)).flatten().map(|size| ("image/jpeg", size))
}

/// The size of a JPEG: in the first frame header.
fn jpeg(bytes: &[u8]) -> Option<(u32, u32)> {
    let short = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let mut at = 2;
    loop {
        if *bytes.get(at)? != 0xff {
            return None;
        }
        match *bytes.get(at + 1)? {
            0xff => at += 1,
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                return Some((short(at + 7)?.into(), short(at + 5)?.into()));
            }
            0xd8 | 0x01 => at += 2,
            _ => at += 2 + usize::from(short(at + 2)?.max(2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// One grey pixel.
    const PNG: &str =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==";

    fn result(value: Value) -> CallToolResult {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_kind_of_content_becomes_words_or_an_image() {
        let content = of_result(&result(json!({ "content": [
            { "type": "text", "text": "one" },
            { "type": "image", "data": PNG, "mimeType": "image/lie" },
            { "type": "image", "data": "bm8=", "mimeType": "image/png" },
            { "type": "audio", "data": "bm8=", "mimeType": "audio/wav" },
            { "type": "resource", "resource": { "uri": "a://b", "text": "inside" } },
            { "type": "resource", "resource": { "uri": "a://c", "blob": "bm8=" } },
            { "type": "resource_link", "uri": "a://d", "name": "link" },
        ] })));
        assert_eq!(content.images, [Picture { media_type: "image/png".into(), data: PNG.into() }]);
        let lines: Vec<&str> = content.text.lines().collect();
        assert_eq!(
            lines,
            [
                "one",
                "[image, image/png, 1 × 1]",
                "[image, image/png: left out, it is no PNG, JPEG, GIF or WebP]",
                "[audio, audio/wav: cannot be heard here]",
                "Resource a://b:",
                "inside",
                "Resource a://c:",
                "[application/octet-stream, about 3 bytes, which are no text]",
                "[resource link at a://d]",
            ]
        );
    }

    #[test]
    fn structured_content_is_said_once() {
        let said = of_result(&result(json!({ "content": [{ "type": "text", "text": "{ \"a\": 1 }" }],
            "structuredContent": { "a": 1 } })));
        assert_eq!(said.text, "{ \"a\": 1 }");
        let other = of_result(&result(json!({ "content": [], "structuredContent": { "a": 1 } })));
        assert_eq!(other.text, "{\"a\":1}");
    }

    #[test]
    fn images_are_measured() {
        let jpeg = b"\xff\xd8\xff\xe0\x00\x04xx\xff\xc0\x00\x11\x08\x00\x02\x00\x03\x03";
        assert_eq!(measure(jpeg), Some(("image/jpeg", (3, 2))));
        assert_eq!(measure(b"GIF89a\x05\x00\x06\x00"), Some(("image/gif", (5, 6))));
        let webp = b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0\x09\0\0\x04\0\0";
        assert_eq!(measure(webp), Some(("image/webp", (10, 5))));
        let wide = [&b"GIF89a"[..], &[0xff, 0xff, 1, 0]].concat();
        assert!(picture(&STANDARD.encode(wide)).unwrap_err().contains("side"));
    }

    proptest! {
        /// Whatever comes: no panic, and no endless loop.
        #[test]
        fn any_bytes_can_be_measured(head in 0usize..5, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let heads: [&[u8]; 5] =
                [b"", b"\x89PNG\r\n\x1a\n\0\0\0\0IHDR", b"GIF89a", b"RIFF0000WEBPVP8L", b"\xff\xd8\xff"];
            let _ = measure(&[heads[head], &bytes].concat());
        }
    }
}

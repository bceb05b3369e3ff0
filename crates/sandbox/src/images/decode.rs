//! Packed files: told by their first bytes, because names lie.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::process::{Child, ChildStdout, Command, Stdio};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
    /// By a program of the machine.
    By(&'static str),
}

impl Packing {
    /// From the first bytes.
    pub(super) fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', ..] => Self::By("xz"),
            [b'B', b'Z', b'h', ..] => Self::By("bzip2"),
            _ => Self::Plain,
        }
    }
}

/// The packing of a stream, which is given back whole.
pub(super) fn sniff<R: Read>(mut reader: R) -> io::Result<(Packing, impl Read)> {
    let mut head = Vec::new();
    reader.by_ref().take(6).read_to_end(&mut head)?;
    Ok((Packing::of(&head), io::Cursor::new(head).chain(reader)))
}

/// Unpacks a stream that is plain, or packed with gzip or zstd, as layers are.
pub(super) fn layer<'a>(reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let (packing, reader) = sniff(reader)?;
    Ok(match packing {
        Packing::Plain => Box::new(reader),
        Packing::Gzip => Box::new(MultiGzDecoder::new(BufReader::new(reader))),
        Packing::Zstd => Box::new(Zstd::new(BufReader::new(reader))),
        Packing::By(program) => {
            return Err(io::Error::other(format!(
                "a layer is packed with {program}, which layers never are"
            )));
        }
    })
}

/// Unpacks a file of a person.
pub(super) fn file(mut file: File) -> io::Result<Box<dyn Read>> {
    let (packing, _) = sniff(&file)?;
    file.seek(SeekFrom::Start(0))?;
    match packing {
        Packing::By(program) => Ok(Box::new(Program::start(program, file)?)),
        _ => layer(file),
    }
}

/// Zstandard, frame after frame.
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    /// A frame is being decoded.
    inside: bool,
}

impl<R: io::BufRead> Zstd<R> {
    fn new(source: R) -> Self {
        Self { source, decoder: FrameDecoder::new(), inside: false }
    }

    /// Begins the next frame; `false` at the end of the stream.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => {
                    self.inside = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let skipped = io::copy(&mut self.source.by_ref().take(length.into()), &mut io::sink())?;
                    if skipped != u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: io::BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.inside && !self.begin()? {
                return Ok(0);
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
            match self.decoder.read(buffer)? {
                0 => {
                    let promised = self.decoder.get_checksum_from_data();
                    if promised.is_some() && promised != self.decoder.get_calculated_checksum() {
                        return Err(io::Error::other("a zstd frame is damaged"));
                    }
                    self.inside = false;
                }
                read => return Ok(read),
            }
        }
    }
}

/// A program that unpacks a file to its standard output.
struct Program {
    name: &'static str,
    child: Child,
    output: ChildStdout,
}

impl Program {
    fn start(name: &'static str, file: File) -> io::Result<Self> {
        let mut command = Command::new(name);
        command.args(["--decompress", "--stdout"]).stdin(file).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child =
            command.spawn().map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("a pipe is missing"))?;
        Ok(Self { name, child, output })
    }
}

impl Read for Program {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.output.read(buffer)? {
            0 if !buffer.is_empty() && !self.child.wait()?.success() => {
                Err(io::Error::other(format!("{} could not unpack it: it is damaged", self.name)))
            }
            read => Ok(read),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        layer(bytes)?.read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn every_packing_is_told_by_content_and_frames_follow_each_other() {
        let text = b"some text, ".repeat(40_000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        assert_eq!(unpacked(&[gzip.clone(), gzip.clone()].concat()).unwrap(), [&text[..], &text].concat());
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let zstd = ruzstd::encoding::compress_to_vec(&text[..], level);
        let skippable = [&[0x52, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let stream = [&zstd[..], &skippable, &zstd].concat();
        assert_eq!(unpacked(&stream).unwrap(), [&text[..], &text].concat());
        assert_eq!(unpacked(&[&skippable[..], &zstd].concat()).unwrap(), text);
        assert_eq!(unpacked(&text).unwrap(), text);
        assert!(unpacked(&zstd[..zstd.len() - 9]).is_err());
        assert!(unpacked(&gzip[..gzip.len() - 9]).is_err());
        assert!(unpacked(&[&zstd[..], &skippable[..9]].concat()).is_err());
    }
}

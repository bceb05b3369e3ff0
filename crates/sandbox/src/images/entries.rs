//! Reading tar archives, entry by entry.
//!
//! ```text
//!   header ─ [x: pax records] ─ [L, K: long names] ─▶ Entry ─ content ─ padding ─▶ header … two empty blocks
//! ```
//!
//! What comes before an entry is kept in memory, so its length is limited here; libraries that hide
//! these records read them whole, however long they say they are. An archive's bytes and entries are
//! taken from a budget, which one image has for all its layers.

use std::io::{self, Read};

use tar::{EntryType, Header};

/// Bytes of one block.
const BLOCK: usize = 512;

/// The most that extended names and attributes of an entry may take.
const MAX_EXTENSION: u64 = 1024 * 1024;

/// What is left to be taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

/// What is at hand of an entry before its content.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    /// Where a link leads.
    pub(super) link: Vec<u8>,
    pub(super) kind: EntryType,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// Seconds since 1970.
    pub(super) mtime: u64,
    pub(super) size: u64,
    /// Extended attributes by name.
    pub(super) attributes: Vec<(String, Vec<u8>)>,
}

/// An archive being read.
pub(super) struct Entries<'a, R> {
    reader: R,
    budget: &'a mut Budget,
    /// Bytes of the current entry's content, and of its padding, that were not read yet.
    content: u64,
    padding: u64,
    /// Bytes read so far.
    at: u64,
}

/// What one entry's extension records said.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    attributes: Vec<(String, Vec<u8>)>,
}

impl<'a, R: Read> Entries<'a, R> {
    pub(super) fn new(reader: R, budget: &'a mut Budget) -> Self {
        Self { reader, budget, content: 0, padding: 0, at: 0 }
    }

    /// Where the content of the current entry begins, when nothing of it was read.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// The next entry; what was not read of the one before is passed over.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        loop {
            self.pass()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size()?;
            let kind = header.entry_type();
            match kind {
                EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink => {
                    let bytes = self.extension(size)?;
                    extensions.take(kind, bytes)?;
                }
                EntryType::XGlobalHeader => {
                    self.extension(size)?;
                }
                EntryType::GNUSparse => return Err(bad("it has sparse files; pack it without --sparse")),
                _ => return self.entry(&header, kind, size, extensions).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &Header, kind: EntryType, size: u64, said: Extensions) -> io::Result<Entry> {
        self.budget.entries =
            self.budget.entries.checked_sub(1).ok_or_else(|| bad("it has too many entries"))?;
        // Links and folders have no content, whatever their size says: some packers write that of the
        // file that is linked to.
        let has_content = matches!(kind, EntryType::Regular | EntryType::Continuous);
        let size = if has_content { said.size.unwrap_or(size) } else { 0 };
        if size > self.budget.bytes {
            return Err(bad("it unpacks to more than is allowed"));
        }
        self.content = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(Entry {
            name: said.name.unwrap_or_else(|| header.path_bytes().into_owned()),
            link: said.link.or_else(|| header.link_name_bytes().map(Into::into)).unwrap_or_default(),
            kind,
            mode: header.mode()?,
            uid: said.uid.map_or_else(|| header.uid(), Ok)?,
            gid: said.gid.map_or_else(|| header.gid(), Ok)?,
            mtime: header.mtime().unwrap_or(0),
            size,
            attributes: said.attributes,
        })
    }

    /// The next header, checked; `None` at the end.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.take(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 if self.at < BLOCK as u64 => return Err(bad("it is no tar archive")),
                0 => return Err(bad("it ends in the middle")),
                read => filled += read,
            }
        }
        if block == [0; BLOCK] {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block);
        let sum = block.iter().enumerate();
        let sum: u32 =
            sum.map(|(at, byte)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte })).sum();
        if header.cksum().ok() != Some(sum) {
            return Err(bad("it is no tar archive, or damaged"));
        }
        Ok(Some(header.clone()))
    }

    fn extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(bad("an entry's extended name or attributes are too long"));
        }
        self.budget.entries =
            self.budget.entries.checked_sub(1).ok_or_else(|| bad("it has too many entries"))?;
        self.content = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(bad("it ends in the middle"));
        }
        Ok(bytes)
    }

    /// Passes over what is left of the current entry.
    fn pass(&mut self) -> io::Result<()> {
        let mut left = self.content + self.padding;
        let mut buffer = [0; 16 * 1024];
        while left > 0 {
            let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            match self.take(&mut buffer[..most])? {
                0 => return Err(bad("it ends in the middle")),
                read => left -= read as u64,
            }
        }
        (self.content, self.padding) = (0, 0);
        Ok(())
    }

    /// Reads from the archive, at the cost of the budget.
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.at += read as u64;
        self.budget.bytes = self
            .budget
            .bytes
            .checked_sub(read as u64)
            .ok_or_else(|| bad("it unpacks to more than is allowed"))?;
        Ok(read)
    }

    /// Reads to the end of the archive, which may have more after its last entry.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        (self.content, self.padding) = (0, 0);
        let mut buffer = vec![0; 64 * 1024];
        while self.take(&mut buffer)? > 0 {}
        Ok(())
    }
}

/// The content of the current entry.
impl<R: Read> Read for Entries<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.content).map_or(buffer.len(), |left| left.min(buffer.len()));
        if most == 0 {
            return Ok(0);
        }
        match self.take(&mut buffer[..most])? {
            0 => Err(bad("it ends in the middle")),
            read => {
                self.content -= read as u64;
                Ok(read)
            }
        }
    }
}

impl Extensions {
    fn take(&mut self, kind: EntryType, mut bytes: Vec<u8>) -> io::Result<()> {
        match kind {
            EntryType::XHeader => return self.take_pax(&bytes),
            _ if bytes.last() == Some(&0) => {
                bytes.pop();
            }
            _ => {}
        }
        if kind == EntryType::GNULongName {
            self.name = Some(bytes);
        } else {
            self.link = Some(bytes);
        }
        Ok(())
    }

    fn take_pax(&mut self, bytes: &[u8]) -> io::Result<()> {
        let number = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).ok();
            text.and_then(|text| text.parse().ok()).ok_or_else(|| bad("an extended number is none"))
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let (key, value, after) =
                pax_record(rest).ok_or_else(|| bad("an entry's extended header is damaged"))?;
            rest = after;
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number(value)?),
                b"uid" => self.uid = Some(number(value)?),
                b"gid" => self.gid = Some(number(value)?),
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(bad("it has sparse files; pack it without --sparse"));
                }
                _ => {
                    let name = key.strip_prefix(b"SCHILY.xattr.").and_then(|key| str::from_utf8(key).ok());
                    self.attributes.extend(name.map(|name| (name.to_owned(), value.to_vec())));
                }
            }
        }
        Ok(())
    }
}

/// The first record, `LENGTH KEY=VALUE\n`, taken apart, and what follows it. By its length alone: a value
/// may hold any byte.
fn pax_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

/// Something is wrong with the archive.
pub(super) fn bad(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_hold_any_byte_and_a_damaged_record_is_refused() {
        let records = b"14 path=a\nb=c\n20 SCHILY.xattr.a=\n\n\n";
        let mut said = Extensions::default();
        said.take_pax(&records[..14]).unwrap();
        assert_eq!(said.name.as_deref(), Some(&b"a\nb=c"[..]));
        assert_eq!(pax_record(b"6 a=b\nrest"), Some((&b"a"[..], &b"b"[..], &b"rest"[..])));
        for bad in
            [&b""[..], b"6", b"6 ", b"7 a=b\n", b"6 a b\n", b"99999999999999999999 a=b\n", b"0 a=b\n", b"1 "]
        {
            assert_eq!(pax_record(bad), None, "{bad:?}");
        }
    }
}

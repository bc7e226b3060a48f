//! Reading.

use std::collections::BTreeMap;
use std::io::{self, Read};

use skep_engine::Error;

use super::link::Link;
use super::{MAGIC_MICROS, MAGIC_NANOS, MAX_PACKET};

/// The first word of pcapng, the same in both byte orders, and the word behind it that tells the order.
const SECTION: u32 = 0x0a0d_0d0a;
const ORDER: u32 = 0x1a2b_3c4d;
/// The longest block of pcapng that is looked at; others are refused.
const MAX_BLOCK: u32 = 16 << 20;
/// Most interfaces of a section.
const MAX_INTERFACES: usize = 1 << 16;
/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// A packet of a file. It is filled again and again, so that nothing is allocated for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// When it was seen, in nanoseconds since 1970; 0 when the file does not say.
    pub time_ns: u64,
    /// The Ethernet frame, as far as the file has it.
    pub data: Vec<u8>,
    /// How long it was on the wire, in bytes.
    pub len: u32,
}

/// Reads a file of packets from front to end.
pub struct Reader {
    input: io::BufReader<Box<dyn Read + Send>>,
    /// Bytes read so far.
    at: u64,
    /// Packets read so far.
    packets: u64,
    /// Packets of interfaces whose link layer is not understood, by its number.
    left_out: BTreeMap<u32, u64>,
    swapped: bool,
    format: Format,
    /// For messages; may be empty.
    name: String,
}

enum Format {
    Classic { nanos: bool, link: Link },
    Blocks { interfaces: Vec<Interface>, body: Vec<u8> },
}

/// An interface of pcapng.
#[derive(Clone, Copy)]
struct Interface {
    /// By its number where it is not understood.
    link: Result<Link, u32>,
    /// Units of time in a second.
    per_second: u64,
    /// To be added to times, in seconds.
    offset: i64,
    /// Most bytes of a packet; 0 is no limit.
    snap: u32,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("at", &self.at).field("packets", &self.packets).finish_non_exhaustive()
    }
}

impl Reader {
    /// Looks at the start of a file.
    ///
    /// # Errors
    ///
    /// When it is neither pcap nor pcapng, or its packets are of a link layer that is not understood.
    pub fn new(input: Box<dyn Read + Send>) -> Result<Reader, Error> {
        let input = io::BufReader::with_capacity(BUFFER, input);
        let format = Format::Blocks { interfaces: Vec::new(), body: Vec::new() };
        let mut reader =
            Reader { input, at: 0, packets: 0, left_out: BTreeMap::new(), swapped: false, format, name: String::new() };
        let mut magic = [0; 4];
        if !reader.fill(&mut magic, "the file's header")? {
            return Err(Error::new("the file is empty, no file of packets"));
        }
        let magic = u32::from_le_bytes(magic);
        if magic == SECTION {
            reader.section()?;
            return Ok(reader);
        }
        let (order, nanos) = match magic {
            MAGIC_MICROS => (false, false),
            MAGIC_NANOS => (false, true),
            _ if magic.swap_bytes() == MAGIC_MICROS => (true, false),
            _ if magic.swap_bytes() == MAGIC_NANOS => (true, true),
            _ => {
                return Err(Error::new("this is no file of packets: it starts like neither pcap nor pcapng")
                    .with_hint("`tcpdump -w FILE` writes one"));
            }
        };
        reader.swapped = order;
        let mut rest = [0; 20];
        reader.exact(&mut rest, "the file's header")?;
        let major = reader.half(&rest, 0);
        if major != 2 {
            return Err(reader.wrong(4, format!("version {major} of pcap, and there is only 2")));
        }
        // The upper bits say whether frames end with a checksum.
        let number = reader.word(&rest, 16) & 0x03ff_ffff;
        let link = Link::from_number(number).ok_or_else(|| reader.wrong(20, not_understood(number)))?;
        reader.format = Format::Classic { nanos, link };
        Ok(reader)
    }

    /// Says in messages which file it is.
    #[must_use]
    pub fn named(self, name: &str) -> Reader {
        Reader { name: format!("`{name}`: "), ..self }
    }

    /// How many packets were read.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// How many packets were left out so far: pcapng may have interfaces of link layers that are not understood, here by their numbers.
    pub fn left_out(&self) -> impl Iterator<Item = (u32, u64)> {
        self.left_out.iter().map(|(link, count)| (*link, *count))
    }

    /// Reads the next packet; `false` at the end.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, breaks off, or makes no sense, and when none of its packets is of a link layer that is understood.
    pub fn read(&mut self, packet: &mut Packet) -> Result<bool, Error> {
        let more = match self.format {
            Format::Classic { nanos, link } => self.classic(packet, nanos, link)?,
            Format::Blocks { .. } => self.block(packet)?,
        };
        self.packets += u64::from(more);
        Ok(more)
    }

    fn classic(&mut self, packet: &mut Packet, nanos: bool, link: Link) -> Result<bool, Error> {
        let start = self.at;
        let mut header = [0; 16];
        if !self.fill(&mut header, "a packet's header")? {
            return Ok(false);
        }
        let [seconds, fraction, captured, len] = [0, 4, 8, 12].map(|at| self.word(&header, at));
        if captured > MAX_PACKET {
            return Err(self.wrong(start, format!("a packet of {captured} bytes, more than {MAX_PACKET}")));
        }
        packet.time_ns = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * if nanos { 1 } else { 1000 };
        packet.len = len;
        let mut data = std::mem::take(&mut packet.data);
        data.resize(captured as usize, 0);
        self.exact(&mut data, "a packet's bytes")?;
        link.make_ethernet(&mut data, &mut packet.len);
        packet.data = data;
        Ok(true)
    }

    /// Reads blocks up to one with a packet.
    fn block(&mut self, packet: &mut Packet) -> Result<bool, Error> {
        loop {
            let start = self.at;
            let mut head = [0; 4];
            if !self.fill(&mut head, "a block's header")? {
                return match self.left_out.first_key_value() {
                    Some((number, _)) if self.packets == 0 => Err(self.wrong(start, not_understood(*number))),
                    _ => Ok(false),
                };
            }
            if u32::from_le_bytes(head) == SECTION {
                self.section()?;
                continue;
            }
            let kind = self.word(&head, 0);
            let mut len = [0; 4];
            self.exact(&mut len, "a block's length")?;
            let len = self.word(&len, 0);
            let body = self.body(start, len, 8)?;
            let found = match kind {
                1 => self.interface(start, &body).map(|()| false),
                2 | 6 => self.packet(start, &body, kind == 2, packet),
                3 => self.simple(start, &body, packet),
                _ => Ok(false),
            };
            if let Format::Blocks { body: kept, .. } = &mut self.format {
                *kept = body;
            }
            if found? {
                return Ok(true);
            }
        }
    }

    /// What is between a block's header of `head` bytes and the length at its end.
    fn body(&mut self, start: u64, len: u32, head: u32) -> Result<Vec<u8>, Error> {
        if !(head + 4..=MAX_BLOCK).contains(&len) || !len.is_multiple_of(4) {
            return Err(self.wrong(start, format!("a block of {len} bytes")));
        }
        let mut body = match &mut self.format {
            Format::Blocks { body, .. } => std::mem::take(body),
            Format::Classic { .. } => Vec::new(),
        };
        body.resize((len - head) as usize, 0);
        self.exact(&mut body, "a block")?;
        let behind = self.word(&body, body.len() - 4);
        if behind != len {
            return Err(self.wrong(start, format!("a block of {len} bytes ends as one of {behind}")));
        }
        body.truncate(body.len() - 4);
        Ok(body)
    }

    /// A section: what follows may be of another byte order, and has interfaces of its own.
    fn section(&mut self) -> Result<(), Error> {
        let start = self.at - 4;
        let mut head = [0; 8];
        self.exact(&mut head, "a section's header")?;
        self.swapped = match u32::from_le_bytes([head[4], head[5], head[6], head[7]]) {
            ORDER => false,
            order if order.swap_bytes() == ORDER => true,
            _ => return Err(self.wrong(start + 8, "a section that does not tell its byte order")),
        };
        let len = self.word(&head, 0);
        let body = self.body(start, len, 12)?;
        let major = self.half(&body, 0);
        if body.len() < 12 || major != 1 {
            return Err(self.wrong(start + 12, format!("version {major} of pcapng, and there is only 1")));
        }
        self.format = Format::Blocks { interfaces: Vec::new(), body };
        Ok(())
    }

    fn interface(&mut self, start: u64, body: &[u8]) -> Result<(), Error> {
        if body.len() < 8 {
            return Err(self.wrong(start, "an interface without a description"));
        }
        let number = u32::from(self.half(body, 0));
        let link = Link::from_number(number).ok_or(number);
        let mut interface = Interface { link, per_second: 1_000_000, offset: 0, snap: self.word(body, 4) };
        let mut options = &body[8..];
        while options.len() >= 4 {
            let (code, len) = (self.half(options, 0), usize::from(self.half(options, 2)));
            let Some(value) = options.get(4..4 + len) else {
                return Err(self.wrong(start, "an option that is longer than its block"));
            };
            match (code, value) {
                (0, _) => break,
                // A power of ten, or of two where the upper bit is set.
                (9, [resolution]) => {
                    let exponent = u32::from(resolution & 0x7f);
                    let units: u64 = if resolution & 0x80 == 0 { 10 } else { 2 };
                    interface.per_second = units
                        .checked_pow(exponent)
                        .ok_or_else(|| self.wrong(start, format!("times in units of {units} to the -{exponent}")))?;
                }
                (14, value) if len == 8 => {
                    let bytes = value.first_chunk().copied().unwrap_or_default();
                    interface.offset = if self.swapped { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) };
                }
                _ => {}
            }
            options = options.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
        }
        if let Format::Blocks { interfaces, .. } = &mut self.format {
            if interfaces.len() == MAX_INTERFACES {
                return Err(self.wrong(start, "more interfaces than anybody has"));
            }
            interfaces.push(interface);
        }
        Ok(())
    }

    fn find(&self, start: u64, index: u32) -> Result<Interface, Error> {
        let interfaces = match &self.format {
            Format::Blocks { interfaces, .. } => interfaces.as_slice(),
            Format::Classic { .. } => &[],
        };
        let found = interfaces.get(index as usize).copied();
        found.ok_or_else(|| {
            self.wrong(start, format!("a packet of interface {index}, and there are {}", interfaces.len()))
        })
    }

    /// Whether it is a packet to be given.
    fn packet(&mut self, start: u64, body: &[u8], old: bool, packet: &mut Packet) -> Result<bool, Error> {
        if body.len() < 20 {
            return Err(self.wrong(start, "a packet without a header"));
        }
        let index = if old { self.half(body, 0).into() } else { self.word(body, 0) };
        let interface = self.find(start, index)?;
        let time = u64::from(self.word(body, 4)) << 32 | u64::from(self.word(body, 8));
        packet.time_ns = nanoseconds(time, interface);
        packet.len = self.word(body, 16);
        self.take(start, &body[20..], self.word(body, 12), interface.link, packet)
    }

    /// A packet without a time, of the first interface.
    fn simple(&mut self, start: u64, body: &[u8], packet: &mut Packet) -> Result<bool, Error> {
        let interface = self.find(start, 0)?;
        if body.len() < 4 {
            return Err(self.wrong(start, "a packet without a header"));
        }
        packet.time_ns = 0;
        packet.len = self.word(body, 0);
        let limit = if interface.snap == 0 { u32::MAX } else { interface.snap };
        self.take(start, &body[4..], packet.len.min(limit), interface.link, packet)
    }

    fn take(
        &mut self,
        start: u64,
        body: &[u8],
        len: u32,
        link: Result<Link, u32>,
        packet: &mut Packet,
    ) -> Result<bool, Error> {
        if len > MAX_PACKET {
            return Err(self.wrong(start, format!("a packet of {len} bytes, more than {MAX_PACKET}")));
        }
        let data = body.get(..len as usize);
        let data =
            data.ok_or_else(|| self.wrong(start, format!("a packet of {len} bytes in a block of {}", body.len())))?;
        match link {
            Err(number) => *self.left_out.entry(number).or_default() += 1,
            Ok(link) => {
                packet.data.clear();
                packet.data.extend_from_slice(data);
                link.make_ethernet(&mut packet.data, &mut packet.len);
            }
        }
        Ok(link.is_ok())
    }

    /// Fills `to`; `false` when the file ends before it.
    fn fill(&mut self, to: &mut [u8], what: &str) -> Result<bool, Error> {
        let start = self.at;
        let mut done = 0;
        while done < to.len() {
            match self.input.read(&mut to[done..]) {
                Ok(0) if done == 0 => return Ok(false),
                Ok(0) => return Err(self.wrong(start, format!("the file ends in {what}"))),
                Ok(count) => {
                    done += count;
                    self.at += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.wrong(start, "it cannot be read").with_source(error)),
            }
        }
        Ok(true)
    }

    fn exact(&mut self, to: &mut [u8], what: &str) -> Result<(), Error> {
        if to.is_empty() || self.fill(to, what)? {
            return Ok(());
        }
        Err(self.wrong(self.at, format!("the file ends before {what}")))
    }

    fn word(&self, bytes: &[u8], at: usize) -> u32 {
        let word = bytes.get(at..).and_then(|bytes| bytes.first_chunk().copied()).unwrap_or_default();
        if self.swapped { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    }

    fn half(&self, bytes: &[u8], at: usize) -> u16 {
        let half = bytes.get(at..).and_then(|bytes| bytes.first_chunk().copied()).unwrap_or_default();
        if self.swapped { u16::from_be_bytes(half) } else { u16::from_le_bytes(half) }
    }

    fn wrong(&self, at: u64, what: impl std::fmt::Display) -> Error {
        Error::new(format!("{}behind packet {}, at byte {at}: {what}", self.name, self.packets))
    }
}

fn not_understood(link: u32) -> String {
    format!(
        "packets of link layer {link} are not understood, but Ethernet (1), raw IP (101) and Linux' own (113, 276) are"
    )
}

fn nanoseconds(time: u64, interface: Interface) -> u64 {
    let ns = u128::from(time) * 1_000_000_000 / u128::from(interface.per_second.max(1));
    let ns = i128::try_from(ns).unwrap_or(i128::MAX) + i128::from(interface.offset) * 1_000_000_000;
    u64::try_from(ns).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcap::Writer;

    fn all(bytes: &[u8]) -> Result<Vec<Packet>, String> {
        let mut reader = Reader::new(Box::new(io::Cursor::new(bytes.to_vec()))).map_err(|error| error.to_string())?;
        let mut packets = Vec::new();
        let mut packet = Packet::default();
        while reader.read(&mut packet).map_err(|error| error.to_string())? {
            packets.push(packet.clone());
        }
        Ok(packets)
    }

    fn classic(magic: u32, swap: bool) -> Vec<u8> {
        let word = |word: u32| if swap { word.to_be_bytes() } else { word.to_le_bytes() };
        let version = if swap { [0, 2, 0, 4] } else { [2, 0, 4, 0] };
        let words = [word(magic), version, word(0), word(0), word(65535), word(1), word(7), word(5), word(3), word(60)];
        [words.concat(), vec![1, 2, 3]].concat()
    }

    #[test]
    fn pcap_is_read_in_both_byte_orders_and_both_units() {
        let packet = |time_ns| vec![Packet { time_ns, data: vec![1, 2, 3], len: 60 }];
        for swap in [false, true] {
            assert_eq!(all(&classic(MAGIC_MICROS, swap)), Ok(packet(7_000_005_000)));
            assert_eq!(all(&classic(MAGIC_NANOS, swap)), Ok(packet(7_000_000_005)));
        }
    }

    /// A block, with its lengths.
    fn block(kind: u32, body: &[u8], swap: bool) -> Vec<u8> {
        let word = |word: u32| if swap { word.to_be_bytes() } else { word.to_le_bytes() };
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let len = word(body.len() as u32 + 12);
        [word(kind).to_vec(), len.to_vec(), body, len.to_vec()].concat()
    }

    fn blocks(swap: bool) -> Vec<u8> {
        let word = |word: u32| if swap { word.to_be_bytes() } else { word.to_le_bytes() };
        let half = |half: u16| if swap { half.to_be_bytes() } else { half.to_le_bytes() };
        let section = [word(ORDER).to_vec(), half(1).to_vec(), half(0).to_vec(), vec![0xff; 8]].concat();
        let resolution = [half(9), half(1)].concat();
        let interface =
            [half(1).to_vec(), vec![0; 2], word(0).to_vec(), resolution, vec![9, 0, 0, 0], vec![0; 4]].concat();
        let packet = [word(0), word(1), word(2), word(3), word(60)].concat();
        [
            block(SECTION, &section, swap),
            block(1, &interface, swap),
            block(0x0bad, &[1, 2, 3], swap),
            block(6, &[packet, vec![1, 2, 3]].concat(), swap),
            block(3, &[word(2).to_vec(), vec![8, 9]].concat(), swap),
        ]
        .concat()
    }

    #[test]
    fn pcapng_is_read_in_both_byte_orders() {
        for swap in [false, true] {
            let packets = all(&blocks(swap)).unwrap();
            assert_eq!(packets[0], Packet { time_ns: (1 << 32) + 2, data: vec![1, 2, 3], len: 60 });
            assert_eq!(packets[1], Packet { time_ns: 0, data: vec![8, 9], len: 2 });
            assert_eq!(packets.len(), 2);
        }
    }

    /// Two interfaces, of Ethernet and of a link layer that is not understood, and packets of these interfaces.
    fn of_interfaces(packets: &[u8]) -> Vec<u8> {
        let section = [&ORDER.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
        let interface = |link: u8| block(1, &[link, 0, 0, 0, 0, 0, 0, 0], false);
        let mut file = [block(SECTION, &section, false), interface(1), interface(147)].concat();
        for (number, of) in (7u8..).zip(packets) {
            let head = [u32::from(*of), 0, 0, 1, 1].map(u32::to_le_bytes).concat();
            file.extend(block(6, &[head, vec![number]].concat(), false));
        }
        file
    }

    #[test]
    fn packets_of_interfaces_that_are_not_understood_are_left_out_and_counted() {
        let file = of_interfaces(&[1, 0, 1, 0, 1]);
        let mut reader = Reader::new(Box::new(io::Cursor::new(file))).unwrap();
        let (mut packet, mut seen) = (Packet::default(), Vec::<u8>::new());
        while reader.read(&mut packet).unwrap() {
            seen.extend(&packet.data);
        }
        assert_eq!(seen, [8, 10]);
        assert_eq!(reader.left_out().collect::<Vec<_>>(), [(147, 3)]);
        assert_eq!(all(&of_interfaces(&[])), Ok(vec![]));
        let error = all(&of_interfaces(&[1])).unwrap_err();
        assert!(error.contains("packets of link layer 147 are not understood"), "{error}");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out).unwrap();
        let packet = Packet { time_ns: 1_700_000_000_123_456_789, data: (0..90).collect(), len: 1500 };
        writer.write(packet.time_ns, &packet.data, packet.len).unwrap();
        writer.finish().unwrap();
        drop(writer);
        assert_eq!(all(&out), Ok(vec![packet]));
    }

    #[test]
    fn a_file_that_breaks_off_says_where() {
        let whole = classic(MAGIC_MICROS, false);
        assert_eq!(all(&[]).unwrap_err(), "the file is empty, no file of packets");
        assert_eq!(all(&whole[..30]).unwrap_err(), "behind packet 0, at byte 24: the file ends in a packet's header");
        assert_eq!(all(&whole[..41]).unwrap_err(), "behind packet 0, at byte 40: the file ends in a packet's bytes");
        assert!(all(b"GIF89a").unwrap_err().contains("neither pcap nor pcapng"));
        for len in 0..whole.len() - 3 {
            let _ = all(&whole[..len]);
        }
    }

    #[test]
    fn hostile_files_give_errors_and_no_memory() {
        for good in [classic(MAGIC_MICROS, false), blocks(false), blocks(true)] {
            for at in 0..good.len() {
                for byte in [0, 1, 0x7f, 0xff] {
                    let mut bad = good.clone();
                    bad[at] = byte;
                    // Whatever comes of it, it comes.
                    let _ = all(&bad);
                }
                let _ = all(&good[..at]);
            }
        }
        let mut long = classic(MAGIC_MICROS, false);
        long[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(all(&long).unwrap_err().contains("a packet of 4294967295 bytes, more than 262144"));
    }
}

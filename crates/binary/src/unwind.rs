//! What `.eh_frame` says about the caller of a function that keeps no frame pointer.
//!
//! Compilers describe for each instruction where the registers of the caller are (the tables that exceptions unwind by: DWARF 5,
//! section 6.4, as the Linux Standard Base encodes it); nearly every binary has them. Their index, `.eh_frame_hdr`, is found by the
//! program header `PT_GNU_EH_FRAME`, so names of sections are not needed. Static programs have no index: there the section `.eh_frame`
//! is read from one end to the other.
//!
//! A file is read once and kept, as long as there are not too many: libraries are the same in all processes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, CommonInformationEntry, EhFrame, EhFrameOffset, EvaluationResult,
    FrameDescriptionEntry, NativeEndian, Register, RegisterRule, UnwindContext, UnwindExpression, UnwindSection, Value,
};

/// Registers by their DWARF numbers, as far as a caller's are known.
pub type Registers = [Option<u64>; REGISTERS];
/// How many numbers there are: 16 and the return address on x86-64, 31, the stack pointer and the instruction pointer on arm64.
pub const REGISTERS: usize = 33;

/// The stack pointer's number.
pub const SP: usize = if cfg!(target_arch = "aarch64") { 31 } else { 7 };
/// The frame pointer's number.
pub const FP: usize = if cfg!(target_arch = "aarch64") { 29 } else { 6 };
/// The number of what holds the return address.
pub const RA: usize = if cfg!(target_arch = "aarch64") { 30 } else { 16 };

/// The longest tables that are read, in bytes.
const MAX_TABLES: u64 = 64 << 20;
/// Files that are kept.
const MAX_FILES: usize = 64;
/// `PT_LOAD` and `PT_GNU_EH_FRAME`.
const PT_LOAD: u32 = 1;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;

pub(crate) type Reader<'a> = gimli::EndianSlice<'a, NativeEndian>;

/// A part of a file that is mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) addr: u64,
    pub(crate) len: u64,
}

/// A function that has a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) address: u64,
    pub(crate) len: u64,
    /// Exceptions may come to places in it.
    pub(crate) catches: bool,
    /// A signal's handler returns to it.
    pub(crate) is_signal: bool,
}

/// The tables of a file.
#[derive(Debug)]
pub struct Tables {
    pub(crate) loads: Vec<Segment>,
    /// The search table: where functions start and where their tables are, as two numbers of 32 bits from the index's address.
    places: Vec<[u8; 8]>,
    index_addr: u64,
    frames: Vec<u8>,
    frames_addr: u64,
}

/// A file: device, inode, size, and when it was written.
type FileKey = (u64, u64, u64, i64);

static FILES: LazyLock<Mutex<HashMap<FileKey, Option<Arc<Tables>>>>> = LazyLock::new(Mutex::default);

/// The tables of the file at a path; `None` when it has none that can be read.
pub fn tables(path: &str) -> Option<Arc<Tables>> {
    let meta = fs::metadata(path).ok().filter(|meta| meta.is_file())?;
    let key = (meta.dev(), meta.ino(), meta.size(), meta.mtime());
    let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = files.get(&key) {
        return known.clone();
    }
    if files.len() >= MAX_FILES {
        files.clear();
    }
    let read = File::open(path).ok().and_then(|file| Tables::read(&file)).map(Arc::new);
    files.insert(key, read.clone());
    read
}

/// Reads the tables of a file with these bytes, makes rows of them, and walks some frames from every place that it maps.
pub fn walk(data: &[u8]) {
    let Some(tables) = Tables::read(data) else { return };
    let _ = tables.rows();
    let starts: Vec<u64> = tables.loads.iter().map(|load| load.addr).collect();
    for start in starts.into_iter().take(4) {
        for step in 0..64 {
            let mut at = start.wrapping_add(step * 0x25);
            let mut registers: Registers = [Some(0x7ffe_0000_0000); REGISTERS];
            // Memory says addresses of code in turns with those of a stack.
            let mut load = |address: u64| Some(if address & 8 == 0 { at.wrapping_add(5) } else { address ^ 0x1f0 });
            for _ in 0..8 {
                let Some((caller, _)) = tables.step(at, &registers, &mut load) else { break };
                registers = caller;
            }
            at = at.wrapping_add(1);
            let _ = tables.address(at);
        }
    }
}

/// The bytes of a file, wherever they are.
pub(crate) trait Source {
    /// A copy of some of them, of at most `MAX_TABLES`.
    fn bytes(&self, offset: u64, len: u64) -> Option<Vec<u8>>;
}

impl Source for File {
    fn bytes(&self, offset: u64, len: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len).ok().filter(|_| len <= MAX_TABLES)?];
        self.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }
}

impl Source for [u8] {
    fn bytes(&self, offset: u64, len: u64) -> Option<Vec<u8>> {
        let len = usize::try_from(len).ok().filter(|_| len <= MAX_TABLES)?;
        Some(self.get(usize::try_from(offset).ok()?..)?.get(..len)?.to_vec())
    }
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

impl Tables {
    /// Of an ELF file of 64 bits and this machine's byte order.
    pub(crate) fn read(file: &(impl Source + ?Sized)) -> Option<Tables> {
        let head = file.bytes(0, 64)?;
        if head.get(..5)? != b"\x7fELF\x02" {
            return None;
        }
        let (at, count) = (u64::from_ne_bytes(word(&head, 32)?), u16::from_ne_bytes(word(&head, 56)?));
        let headers = file.bytes(at, u64::from(count) * 56)?;
        let mut loads = Vec::new();
        let mut index = None;
        for header in headers.chunks_exact(56) {
            let number = |at| word(header, at).map(u64::from_ne_bytes);
            let segment = Segment { offset: number(8)?, addr: number(16)?, len: number(32)? };
            match u32::from_ne_bytes(word(header, 0)?) {
                PT_LOAD => loads.push(segment),
                PT_GNU_EH_FRAME => index = Some(segment),
                _ => {}
            }
        }
        match index {
            Some(index) => Tables::indexed(file, loads, index),
            None => Tables::section(file, &head, loads),
        }
    }

    /// With the index that a program header names.
    fn indexed(file: &(impl Source + ?Sized), loads: Vec<Segment>, index: Segment) -> Option<Tables> {
        let header = file.bytes(index.offset, index.len)?;
        // As every linker writes it: the start of the tables from its own place, how many there are, and their search table of 32-bit numbers
        // from the index's start. It is read here, since `gimli` takes a table for as long as it says that it is.
        let [1, 0x1b, 0x03, 0x3b] = header.first_chunk()? else { return None };
        let from_here = i32::from_ne_bytes(word(&header, 4)?);
        let frames_addr = index.addr.wrapping_add(4).wrapping_add_signed(from_here.into());
        let count = u32::from_ne_bytes(word(&header, 8)?) as usize;
        let places = header[12..].as_chunks::<8>().0.get(..count)?.to_vec();
        // The end of the tables is not told; they end by themselves.
        let around = loads.iter().find(|it| (it.addr..it.addr.saturating_add(it.len)).contains(&frames_addr))?;
        let skip = frames_addr - around.addr;
        let frames = file.bytes(around.offset.checked_add(skip)?, around.len - skip)?;
        Some(Tables { loads, places, index_addr: index.addr, frames, frames_addr })
    }

    /// Of a static program: by the section's name, and all tables are looked at for where their functions start.
    fn section(file: &(impl Source + ?Sized), head: &[u8], loads: Vec<Segment>) -> Option<Tables> {
        let (at, count) = (u64::from_ne_bytes(word(head, 40)?), u16::from_ne_bytes(word(head, 60)?));
        let headers = file.bytes(at, u64::from(count) * 64)?;
        let headers = headers.as_chunks::<64>().0;
        let place = |header: &[u8; 64]| {
            let number = |at| word(header, at).map(u64::from_ne_bytes);
            Some(Segment { offset: number(24)?, addr: number(16)?, len: number(32)? })
        };
        let names = place(headers.get(usize::from(u16::from_ne_bytes(word(head, 62)?)))?)?;
        let names = file.bytes(names.offset, names.len)?;
        let is_wanted = |header: &&[u8; 64]| {
            let name = u32::from_ne_bytes(word(*header, 0).unwrap_or_default()) as usize;
            names.get(name..).is_some_and(|name| name.starts_with(b".eh_frame\0"))
        };
        let section = place(headers.iter().find(is_wanted)?)?;
        let frames = file.bytes(section.offset, section.len)?;
        let mut tables =
            Tables { loads, places: Vec::new(), index_addr: section.addr, frames, frames_addr: section.addr };
        tables.places = tables.read_places();
        Some(tables)
    }

    /// The search table, from the tables themselves.
    fn read_places(&self) -> Vec<[u8; 8]> {
        let (frames, bases) = (self.frames(), self.bases());
        let mut kinds = Kinds::new(&frames, self.len_bytes());
        let mut places: Vec<(i32, i32)> = Vec::new();
        let mut entries = frames.entries(&bases);
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(entry) = entry else { continue };
            let Ok(function) = entry.parse(|_, _, kind| kinds.get(&bases, kind)) else { continue };
            let start = function.initial_address().wrapping_sub(self.index_addr) as i64;
            // What is farther than 2 GiB away has no place in such a table.
            if let (Ok(start), Ok(place)) = (i32::try_from(start), i32::try_from(function.offset())) {
                places.push((start, place));
            }
        }
        places.sort_unstable();
        let row = |(start, place): (i32, i32)| {
            let mut row = [0; 8];
            row[..4].copy_from_slice(&start.to_ne_bytes());
            row[4..].copy_from_slice(&place.to_ne_bytes());
            row
        };
        places.into_iter().map(row).collect()
    }

    /// Every function that has a table, in the order of the search table.
    pub(crate) fn ranges(&self) -> Vec<Range> {
        let (frames, bases) = (self.frames(), self.bases());
        let mut kinds = Kinds::new(&frames, self.len_bytes());
        let mut ranges = Vec::with_capacity(self.functions());
        for row in 0..self.functions() {
            let Some(place) = self.table_at(row) else { continue };
            if let Some(range) = self.plain_range(place.0, |at| kinds.plain(&bases, at)) {
                ranges.push(range);
                continue;
            }
            let Ok(function) = frames.fde_from_offset(&bases, place, |_, _, kind| kinds.get(&bases, kind)) else {
                continue;
            };
            ranges.push(Range {
                address: function.initial_address(),
                len: function.len(),
                catches: function.lsda().is_some(),
                is_signal: function.is_signal_trampoline(),
            });
        }
        ranges
    }

    /// Of a table as nearly all are: numbers of 32 bits, and nothing about exceptions. `is_signal` says whether what it has in common with
    /// others, which is at that place, is like that, and then whether signals return to it. `None` for all other tables, broken ones too.
    fn plain_range(&self, place: usize, is_signal: impl FnOnce(usize) -> Option<bool>) -> Option<Range> {
        let len = u32::from_ne_bytes(word(&self.frames, place)?) as usize;
        let from = place + 4;
        let table = self.frames.get(from..)?.get(..len)?;
        // How far back it is, where the function starts from here, its length, and how long what else is said is.
        let [kind, start, len] = [0, 4, 8].map(|at| word(table, at).map(i32::from_ne_bytes));
        let (kind, start, len) = (kind?, start?, len?);
        let more = usize::from(*table.get(12)?);
        if kind == 0 || len < 0 || more >= 0x80 || table.len() - 13 < more {
            return None;
        }
        let is_signal = is_signal(from.checked_sub(kind as u32 as usize)?)?;
        let address = self.frames_addr.wrapping_add(from as u64 + 4).wrapping_add_signed(start.into());
        Some(Range { address, len: len as u64, catches: false, is_signal })
    }

    pub(crate) fn bases(&self) -> BaseAddresses {
        BaseAddresses::default().set_eh_frame_hdr(self.index_addr).set_eh_frame(self.frames_addr)
    }

    pub(crate) fn frames(&self) -> EhFrame<Reader<'_>> {
        EhFrame::new(&self.frames, NativeEndian)
    }

    /// Bytes of the tables.
    pub(crate) fn len_bytes(&self) -> usize {
        self.frames.len()
    }

    /// How many functions the search table has.
    pub(crate) fn functions(&self) -> usize {
        self.places.len()
    }

    /// Where the function of a row of the search table starts.
    fn start(&self, row: usize) -> u64 {
        let from_index = word(&self.places[row], 0).map_or(0, i32::from_ne_bytes);
        self.index_addr.wrapping_add_signed(from_index.into())
    }

    /// The table of the function of a row of the search table.
    pub(crate) fn function<'a>(
        &self,
        frames: &EhFrame<Reader<'a>>,
        row: usize,
    ) -> Option<FrameDescriptionEntry<Reader<'a>>> {
        frames.fde_from_offset(&self.bases(), self.table_at(row)?, EhFrame::cie_from_offset).ok()
    }

    /// Where the table of a row of the search table is.
    fn table_at(&self, row: usize) -> Option<EhFrameOffset> {
        let from_index = i32::from_ne_bytes(word(&self.places[row], 4)?);
        let place = self.index_addr.wrapping_add_signed(from_index.into()).checked_sub(self.frames_addr)?;
        Some(EhFrameOffset(usize::try_from(place).ok()?))
    }

    /// The address in the file's own numbers of what is mapped from this place of the file.
    pub fn address(&self, offset: u64) -> Option<u64> {
        let load = self.loads.iter().find(|it| (it.offset..it.offset.saturating_add(it.len)).contains(&offset))?;
        Some(load.addr.wrapping_add(offset - load.offset))
    }

    /// Where the function around an address begins and ends, in the file's own numbers.
    pub fn function_around(&self, at: u64) -> Option<std::ops::Range<u64>> {
        let rows = partition(self.places.len(), |row| self.start(row) <= at);
        let function = self.function(&self.frames(), rows.checked_sub(1)?)?;
        function.contains(at).then(|| function.initial_address()..function.end_address())
    }

    /// From the registers of a function to those of its caller, whose return address is in [`RA`]; the second is whether a signal
    /// interrupted the caller, which then goes on where it is. `None` when the tables do not tell. `at` is in the file's own numbers; what
    /// is at an address of memory is told by `load`.
    pub fn step(
        &self,
        at: u64,
        registers: &Registers,
        load: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> Option<(Registers, bool)> {
        let (frames, bases) = (self.frames(), self.bases());
        let rows = partition(self.places.len(), |row| self.start(row) <= at);
        let function = self.function(&frames, rows.checked_sub(1)?)?;
        if !function.contains(at) {
            return None;
        }
        let mut context = UnwindContext::new();
        let row = function.unwind_info_for_address(&frames, &bases, &mut context, at).ok()?;
        let get = |register: Register| registers.get(usize::from(register.0)).copied().flatten();
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => get(*register)?.wrapping_add_signed(*offset),
            CfaRule::Expression(expression) => evaluate(&frames, expression, None, registers, load)?,
        };
        let mut caller = *registers;
        caller[SP] = Some(cfa);
        if RA == 16 {
            // No register of its own: without a rule there is no caller.
            caller[RA] = None;
        }
        for (register, rule) in row.registers() {
            let Some(to) = caller.get_mut(usize::from(register.0)) else { continue };
            *to = match rule {
                RegisterRule::Offset(offset) => load(cfa.wrapping_add_signed(*offset)),
                RegisterRule::ValOffset(offset) => Some(cfa.wrapping_add_signed(*offset)),
                RegisterRule::Register(other) => get(*other),
                RegisterRule::Expression(expression) => {
                    evaluate(&frames, expression, Some(cfa), registers, load).and_then(&mut *load)
                }
                RegisterRule::ValExpression(expression) => evaluate(&frames, expression, Some(cfa), registers, load),
                RegisterRule::SameValue => get(*register),
                RegisterRule::Constant(value) => Some(*value),
                _ => None,
            };
        }
        Some((caller, function.is_signal_trampoline()))
    }
}

/// What many tables have in common, its "common information entry", by where it is. In a file that is somebody's trap it can be as long as
/// the file, and every table name it: so it is read once, and of those that differ no more than the file could hold side by side.
struct Kinds<'f, 'a> {
    frames: &'f EhFrame<Reader<'a>>,
    known: HashMap<usize, Option<CommonInformationEntry<Reader<'a>>>>,
    len: usize,
    budget: usize,
    /// Where the last one is that was asked for as a plain one, and what was said.
    last: Option<(usize, Option<bool>)>,
}

impl<'f, 'a> Kinds<'f, 'a> {
    /// What one that cannot be read counts as a part of the file.
    const BROKEN: usize = 64;

    /// Of tables with so many bytes.
    fn new(frames: &'f EhFrame<Reader<'a>>, len: usize) -> Kinds<'f, 'a> {
        Kinds { frames, known: HashMap::new(), len, budget: len, last: None }
    }

    /// Whether signals return to the functions of one, if it is as [`Tables::plain_range`] reads them.
    fn plain(&mut self, bases: &BaseAddresses, place: usize) -> Option<bool> {
        if let Some((_, said)) = self.last.filter(|(last, _)| *last == place) {
            return said;
        }
        let kind = self.get(bases, EhFrameOffset(place)).ok().filter(|kind| {
            let is_usual = kind.fde_address_encoding() == Some(gimli::DwEhPe(0x1b));
            kind.augmentation().is_some() && !kind.has_lsda() && is_usual
        });
        let said = kind.map(|kind| kind.is_signal_trampoline());
        self.last = Some((place, said));
        said
    }

    fn get(
        &mut self,
        bases: &BaseAddresses,
        place: EhFrameOffset,
    ) -> gimli::Result<CommonInformationEntry<Reader<'a>>> {
        let Kinds { frames, known, len, budget, .. } = self;
        let kind = known.entry(place.0).or_insert_with(|| {
            if *budget == 0 {
                return None;
            }
            let kind = frames.cie_from_offset(bases, place).ok();
            let len = kind.as_ref().map_or(*len / Self::BROKEN + 1, |kind| kind.entry_len());
            *budget = budget.saturating_sub(len);
            kind
        });
        kind.clone().ok_or(gimli::Error::NoEntryAtGivenOffset(place.0 as u64))
    }
}

/// The first of `len` numbers that is not `before`, of which all those that are stand in front.
fn partition(len: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// Most questions of an expression.
const MAX_QUESTIONS: usize = 64;

fn evaluate(
    frames: &EhFrame<Reader<'_>>,
    expression: &UnwindExpression<usize>,
    start: Option<u64>,
    registers: &Registers,
    load: &mut dyn FnMut(u64) -> Option<u64>,
) -> Option<u64> {
    let encoding = gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };
    let mut evaluation = expression.get(frames).ok()?.evaluation(encoding);
    if let Some(start) = start {
        evaluation.set_initial_value(start);
    }
    evaluation.set_max_iterations(1024);
    let mut result = evaluation.evaluate().ok()?;
    for _ in 0..MAX_QUESTIONS {
        result = match result {
            EvaluationResult::Complete => {
                return evaluation.value_result()?.to_u64(!0).ok();
            }
            EvaluationResult::RequiresMemory { address, size, .. } => {
                let mask = if size >= 8 { !0 } else { (1u64 << (8 * u32::from(size))) - 1 };
                evaluation.resume_with_memory(Value::Generic(load(address)? & mask)).ok()?
            }
            EvaluationResult::RequiresRegister { register, .. } => {
                let value = registers.get(usize::from(register.0)).copied().flatten()?;
                evaluation.resume_with_register(Value::Generic(value)).ok()?
            }
            _ => return None,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read here is what the library reads, in a program where many functions catch and in one whose tables are cut anywhere.
    #[test]
    fn plain_tables_are_read_as_others_are() {
        let path = std::env::current_exe().expect("a path of its own");
        let mut tables = Tables::read(&File::open(path).expect("a program")).expect("tables");
        let mut seen = [0; 2];
        let whole = tables.frames.len();
        for len in (0..64).map(|cut| whole * (64 - cut) / 64 - cut) {
            tables.frames.truncate(len);
            let (frames, bases) = (tables.frames(), tables.bases());
            let mut kinds = Kinds::new(&frames, tables.len_bytes());
            for row in (0..tables.functions()).step_by(if len == whole { 1 } else { 7 }) {
                let place = tables.table_at(row).expect("a place");
                let plain = tables.plain_range(place.0, |at| kinds.plain(&bases, at));
                let function = frames.fde_from_offset(&bases, place, EhFrame::cie_from_offset).ok();
                seen[usize::from(plain.is_some())] += 1;
                let Some(plain) = plain else { continue };
                let function = function.expect("a table that the library reads too");
                assert_eq!((plain.address, plain.len), (function.initial_address(), function.len()));
                let more = (function.lsda().is_some(), function.is_signal_trampoline());
                assert_eq!((plain.catches, plain.is_signal), more);
            }
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    }
}

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
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EhFrameOffset, EvaluationResult, FrameDescriptionEntry, NativeEndian,
    Register, RegisterRule, UnwindContext, UnwindExpression, UnwindSection, Value,
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
    let Ok(fd) = rustix::fs::memfd_create("tables", rustix::fs::MemfdFlags::CLOEXEC) else { return };
    let file = File::from(fd);
    if file.write_all_at(data, 0).is_err() {
        return;
    }
    let Some(tables) = Tables::read(&file) else { return };
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

fn bytes(file: &File, offset: u64, len: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).ok().filter(|_| len <= MAX_TABLES)?];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

impl Tables {
    /// Of an ELF file of 64 bits and this machine's byte order.
    fn read(file: &File) -> Option<Tables> {
        let head = bytes(file, 0, 64)?;
        if head.get(..5)? != b"\x7fELF\x02" {
            return None;
        }
        let (at, count) = (u64::from_ne_bytes(word(&head, 32)?), u16::from_ne_bytes(word(&head, 56)?));
        let headers = bytes(file, at, u64::from(count) * 56)?;
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
    fn indexed(file: &File, loads: Vec<Segment>, index: Segment) -> Option<Tables> {
        let header = bytes(file, index.offset, index.len)?;
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
        let frames = bytes(file, around.offset.checked_add(skip)?, around.len - skip)?;
        Some(Tables { loads, places, index_addr: index.addr, frames, frames_addr })
    }

    /// Of a static program: by the section's name, and all tables are looked at for where their functions start.
    fn section(file: &File, head: &[u8], loads: Vec<Segment>) -> Option<Tables> {
        let (at, count) = (u64::from_ne_bytes(word(head, 40)?), u16::from_ne_bytes(word(head, 60)?));
        let headers = bytes(file, at, u64::from(count) * 64)?;
        let headers = headers.as_chunks::<64>().0;
        let place = |header: &[u8; 64]| {
            let number = |at| word(header, at).map(u64::from_ne_bytes);
            Some(Segment { offset: number(24)?, addr: number(16)?, len: number(32)? })
        };
        let names = place(headers.get(usize::from(u16::from_ne_bytes(word(head, 62)?)))?)?;
        let names = bytes(file, names.offset, names.len)?;
        let is_wanted = |header: &&[u8; 64]| {
            let name = u32::from_ne_bytes(word(*header, 0).unwrap_or_default()) as usize;
            names.get(name..).is_some_and(|name| name.starts_with(b".eh_frame\0"))
        };
        let section = place(headers.iter().find(is_wanted)?)?;
        let frames = bytes(file, section.offset, section.len)?;
        let mut tables =
            Tables { loads, places: Vec::new(), index_addr: section.addr, frames, frames_addr: section.addr };
        tables.places = tables.read_places();
        Some(tables)
    }

    /// The search table, from the tables themselves.
    fn read_places(&self) -> Vec<[u8; 8]> {
        let (frames, bases) = (self.frames(), self.bases());
        let mut places: Vec<(i32, i32)> = Vec::new();
        let mut entries = frames.entries(&bases);
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(entry) = entry else { continue };
            let Ok(function) = entry.parse(EhFrame::cie_from_offset) else { continue };
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
        let from_index = i32::from_ne_bytes(word(&self.places[row], 4)?);
        let place = self.index_addr.wrapping_add_signed(from_index.into()).checked_sub(self.frames_addr)?;
        let place = EhFrameOffset(usize::try_from(place).ok()?);
        frames.fde_from_offset(&self.bases(), place, EhFrame::cie_from_offset).ok()
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

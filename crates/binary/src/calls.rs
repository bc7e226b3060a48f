//! System calls that a file's code makes, and where a jump can be put to watch them (x86-64).
//!
//! A `syscall` instruction has two bytes, a jump to anywhere near has five. So a jump takes the place of whole instructions before or behind
//! it, which are executed elsewhere instead. That is sound only if nothing ever comes to a place *inside* of them, and this module
//! answers only what it can prove; the rest is said to be unknown, and whoever asks has to watch such a file in another way.
//!
//! # What is known
//!
//! Functions are the ranges of `.eh_frame`, and of symbols where that says nothing. Each is decoded from its start to its end, in a straight
//! line. It is *sound* when that met nothing unknown, ended exactly at its end, overlaps no other function, and no direct jump, branch or call of the
//! whole file comes into the middle of one of its instructions: data among the code would show up so. (In a file that has the bytes of a
//! `syscall` only in the middle of other instructions, the rest of the code is not looked at.)
//!
//! *Entries* are all places that something is known to come to: targets of direct jumps, branches and calls of all functions of the file
//! (the cold part of a function is a function of its own here), symbols, starts of functions, `endbr64`, and places that code
//! takes the address of.
//!
//! Decoding all of a large file would take most of the time, and nearly nothing of it comes to a function that makes a system call but to
//! its start. So the other functions are only searched for bytes that look as if they came to another place of one that does, wherever
//! their instructions begin, and decoded where there are such bytes: that finds the same entries.
//!
//! Where jumps through registers or tables lead is not told by instructions, nor where exceptions are caught. A function with either has
//! *labels* that nobody knows. There a span is one instruction alone, so that no label can be in its inside, and before the system call
//! that has to be the one that sets its number: a label right at a `syscall` would need the number to be in its register before the jump,
//! which no compiler does in front of an instruction that sets it. A function that jumps to the middle of another one is a part of that, put elsewhere
//! because it is hardly needed: the tables of the whole may lead into it, so it counts as one with labels too.
//!
//! # What is not looked at
//!
//! Code outside of functions, or in one that is not understood, may come to the middle of another function, as may code of another file
//! or that made at run time; no compiler does that. `int $0x80` and `sysenter` are no sites. Whoever compares return addresses or the bytes
//! of code (debuggers know a signal's return by them) sees the difference that a jump makes.

use std::ops::Range;

use memchr::memmem;
use object::elf;
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{Endianness, FileKind};
use skep_engine::Error;

use crate::decode::MAX_LEN;
use crate::flow::{Flow, Put, RAX, Step, keeps, puts, step};
use crate::unwind::Tables;

/// What is known about a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Every system call in code that is understood, in the file's order.
    pub sites: Vec<CallSite>,
    /// Where else the bytes of a `syscall` are in code that can be executed, as offsets in the file: nobody knows whether they are one.
    pub unknown: Vec<u64>,
}

/// A `syscall` instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallSite {
    /// Where it is in the file, in bytes.
    pub off_bytes: u64,
    /// The number of the system call, when all ways to it say the same.
    pub nr: Option<u32>,
    /// Where a jump can be that sees the call begin: it ends right at the `syscall`. Conditional branches may be in it, which lead out of it
    /// or to its start: they have to lead there from elsewhere too, and whoever takes one makes no call here.
    pub before: Option<Span>,
    /// Where a jump can be that sees the call end: it begins right behind the `syscall`. May overlap `before` of the next site. Conditional
    /// branches may be in it too, all of which lead out of it.
    pub behind: Option<Span>,
}

/// Whole instructions that a jump of five bytes can take the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it is in the file, in bytes.
    pub off_bytes: u64,
    /// In bytes: as few as there can be, five or more. With less code at the end of a function than that, the padding behind it counts.
    pub len: u8,
}

/// `syscall`
const SYSCALL: &[u8] = &[0x0f, 0x05];
/// `mov $15, %rax; syscall`, which debuggers know signals' frames by, so it is always this.
const SIGNAL_RETURN: &[u8] = &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
/// `jmp` with 32 bits.
const JUMP_BYTES: usize = 5;
/// Most segments with code; linkers make one or two.
const MAX_SEGMENTS: usize = 16;
/// Most sections with code; with more nobody asks what is in them.
const MAX_SECTIONS: usize = 256;
/// How many instructions before a `syscall` its number is looked for.
const MAX_NUMBER_INSNS: usize = 64;
/// How much code is searched at once.
const PIECE: usize = 256;
/// Short jumps lead less far than that.
const NEAR: usize = 128 + 2;
/// What `syscall` changes besides its result, as instructions count registers.
const RCX: u8 = 1;
const R11: u8 = 11;
/// The longest padding between functions that is looked at.
const MAX_PADDING: usize = 64;

/// The system calls of an ELF file with these bytes, or of the vDSO's image.
///
/// # Errors
///
/// No program or library for x86-64, or one whose headers make no sense.
pub fn call_sites(data: &[u8]) -> Result<Calls, Error> {
    let mut image = Image::read(data)?;
    let mut pairs = Vec::new();
    for (segment, it) in image.segments.iter().enumerate() {
        let pairs_here = memmem::find_iter(it.code, SYSCALL).filter(|at| image.is_code(it.off_bytes + *at as u64));
        pairs.extend(pairs_here.map(|at| (segment, at)));
    }
    if pairs.is_empty() {
        return Ok(Calls::default());
    }
    image.find_functions(data)?;
    image.read_asked(&pairs);
    // Most files have none but parts of other instructions, which shows without the rest of the code.
    if image.has_calls {
        image.search_others();
    }
    Ok(image.judge(&pairs))
}

/// Whether a jump of five bytes could be at some places of an ELF file for x86-64, as far as others may come to its inside: of each, in its order. False as
/// well where no instruction begins, and where nobody knows.
///
/// # Errors
///
/// As those of [`call_sites`].
pub fn are_closed(data: &[u8], offs_bytes: &[u64]) -> Result<Vec<bool>, Error> {
    let mut image = Image::read(data)?;
    let place = |off_bytes: &u64| {
        image.segments.iter().enumerate().find_map(|(segment, it)| {
            let at = usize::try_from(off_bytes.checked_sub(it.off_bytes)?).ok()?;
            (at < it.code.len()).then_some((segment, at))
        })
    };
    let places: Vec<_> = offs_bytes.iter().map(place).collect();
    let mut asked: Vec<_> = places.iter().flatten().copied().collect();
    asked.sort_unstable();
    image.find_functions(data)?;
    image.read_asked(&asked);
    image.search_others();
    let is_closed = |(segment, at)| image.function_at(segment, at).is_some_and(|it| image.body(it).is_closed(at));
    Ok(places.into_iter().map(|place| place.is_some_and(is_closed)).collect())
}

/// A piece of the file that is mapped with the right to execute.
struct Segment<'a> {
    address: u64,
    off_bytes: u64,
    code: &'a [u8],
    /// Something is known to come here.
    entries: Bits,
    /// Those that not only jumps and branches of the function around them come to.
    foreign: Bits,
    /// An instruction of a function that is asked about starts here.
    starts: Bits,
    /// A function that is asked about is here.
    asked: Bits,
}

impl Segment<'_> {
    fn enter(&mut self, at: usize, is_foreign: bool) {
        self.entries.set(at);
        if is_foreign {
            self.foreign.set(at);
        }
    }
}

/// A bit for each byte of a segment.
#[derive(Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(len: usize) -> Bits {
        Bits(vec![0; len / 64 + 1])
    }

    fn set(&mut self, at: usize) {
        if let Some(word) = self.0.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    fn has(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 != 0)
    }

    fn set_all(&mut self, range: Range<usize>) {
        for (word, mask) in words(range) {
            if let Some(word) = self.0.get_mut(word) {
                *word |= mask;
            }
        }
    }

    /// Whether all bits of a part are in the other one too.
    fn is_part_of(&self, other: &Bits, range: Range<usize>) -> bool {
        words(range).all(|(word, mask)| self.0.get(word).is_none_or(|mine| mine & mask & !other.0[word] == 0))
    }

    fn has_any(&self, range: Range<usize>) -> bool {
        words(range).any(|(word, mask)| self.0.get(word).is_some_and(|word| word & mask != 0))
    }

    /// The last one before a place.
    fn last_before(&self, at: usize) -> Option<usize> {
        let mut word = at / 64;
        let mut bits = self.0.get(word)? & !(!0 << (at % 64));
        while bits == 0 {
            word = word.checked_sub(1)?;
            bits = self.0[word];
        }
        Some(word * 64 + 63 - bits.leading_zeros() as usize)
    }
}

/// The words that have the bits of a range, and which bits of them.
fn words(range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let Range { start, end } = range;
    (start / 64..end.div_ceil(64)).map(move |word| {
        let from = start.saturating_sub(word * 64);
        let left = end - word * 64;
        (word, !0 << from & if left < 64 { !(!0 << left) } else { !0 })
    })
}

/// A function; places are from the start of its segment, in bytes.
#[derive(Clone, Copy)]
struct Function {
    segment: usize,
    start: usize,
    end: usize,
    /// There are ways into it that nobody knows.
    has_labels: bool,
    /// It jumps to what an operand says.
    has_tables: bool,
    /// It ends where it should, and nothing else is there.
    is_sound: bool,
    /// It is asked about: the bytes of a `syscall` are in it or behind it.
    is_asked: bool,
    /// As far as it was decoded.
    told_to: usize,
}

/// An instruction of a function.
struct Insn {
    at: usize,
    step: Step,
}

impl Insn {
    fn end(&self) -> usize {
        self.at + usize::from(self.step.len)
    }
}

struct Image<'a> {
    segments: Vec<Segment<'a>>,
    /// Where the file has sections with code; empty when it does not tell.
    sections: Vec<Range<u64>>,
    functions: Vec<Function>,
    /// A function has a `syscall`.
    has_calls: bool,
}

fn broken(why: impl std::fmt::Display) -> Error {
    Error::new(format!("cannot tell where its code makes system calls: {why}"))
}

fn parse(data: &[u8]) -> Result<ElfFile64<'_, Endianness>, Error> {
    match FileKind::parse(data) {
        Ok(FileKind::Elf64) => ElfFile64::parse(data).map_err(broken),
        _ => Err(broken("it is no ELF file of 64 bits")),
    }
}

/// Which pairs of neighbours among nine bytes are in front of a distance of 32 bits, as the highest bit of the first one's byte: any byte
/// and `call` or `jmp`; `0f` and a branch; `lea` and an operand from the next instruction on; the start of a transaction. Behind such a
/// pair there may be one too many.
#[inline]
fn long_pairs(bytes: &[u8; 9]) -> u64 {
    const fn all(byte: u8) -> u64 {
        u64::from_le_bytes([byte; 8])
    }
    let [firsts @ .., _] = *bytes;
    let [_, seconds @ ..] = *bytes;
    let (first, second) = (u64::from_le_bytes(firsts), u64::from_le_bytes(seconds));
    // The highest bit of bytes that are zero: of those that do not differ from what is wanted.
    let zeros = |differs: u64| differs.wrapping_sub(all(1)) & !differs;
    let jumps = zeros((second ^ all(0xe8)) & all(0xfe));
    let branches = zeros(first ^ all(0x0f) | (second ^ all(0x80)) & all(0xf0));
    let names = zeros(first ^ all(0x8d) | (second ^ all(0x05)) & all(0xc7));
    let starts = zeros(first ^ all(0xc7) | second ^ all(0xf8));
    (jumps | branches | names | starts) & all(0x80)
}

impl<'a> Image<'a> {
    fn read(data: &'a [u8]) -> Result<Image<'a>, Error> {
        let file = parse(data)?;
        let (header, endian) = (file.elf_header(), file.endian());
        let is_program = matches!(header.e_type(endian), elf::ET_DYN | elf::ET_EXEC);
        if header.e_machine(endian) != elf::EM_X86_64 || endian != Endianness::Little || !is_program {
            return Err(broken("it is no program or library for x86-64"));
        }
        let mut segments = Vec::new();
        for header in file.elf_program_headers() {
            if header.p_type(endian) != elf::PT_LOAD || header.p_flags(endian).0 & elf::PF_X.0 == 0 {
                continue;
            }
            let code = header.data(endian, data).map_err(|()| broken("a segment with code is not in it"))?;
            let (address, off_bytes) = (header.p_vaddr(endian), header.p_offset(endian));
            let fits = address.checked_add(code.len() as u64).is_some();
            let overlaps = segments.iter().any(|it: &Segment<'_>| {
                let near = |a: u64, b: u64| {
                    a < b.saturating_add(it.code.len() as u64) && b < a.saturating_add(code.len() as u64)
                };
                near(address, it.address) || near(off_bytes, it.off_bytes)
            });
            if !fits || overlaps || segments.len() == MAX_SEGMENTS {
                return Err(broken("its segments make no sense"));
            }
            segments.push(Segment {
                address,
                off_bytes,
                code,
                entries: Bits::default(),
                foreign: Bits::default(),
                starts: Bits::default(),
                asked: Bits::default(),
            });
        }
        segments.sort_by_key(|it| it.off_bytes);
        let sections = file.elf_section_table().iter().filter(|it| it.sh_flags(endian).0 & elf::SHF_EXECINSTR.0 != 0);
        let sections = sections.map(|it| it.sh_offset(endian)..it.sh_offset(endian).saturating_add(it.sh_size(endian)));
        let sections = Some(sections.collect::<Vec<_>>()).filter(|all| all.len() <= MAX_SECTIONS).unwrap_or_default();
        Ok(Image { segments, sections, functions: Vec::new(), has_calls: false })
    }

    /// Whether there may be code: some linkers put data into the same segment, which only sections tell apart.
    fn is_code(&self, off_bytes: u64) -> bool {
        self.sections.is_empty() || self.sections.iter().any(|it| it.contains(&off_bytes))
    }

    /// The segment and the place in it of an address.
    fn place(&self, address: u64) -> Option<(usize, usize)> {
        self.segments.iter().enumerate().find_map(|(segment, it)| {
            let at = usize::try_from(address.checked_sub(it.address)?).ok()?;
            (at < it.code.len()).then_some((segment, at))
        })
    }

    fn starts_with(&self, address: u64, bytes: &[u8]) -> bool {
        self.place(address).is_some_and(|(segment, at)| self.segments[segment].code[at..].starts_with(bytes))
    }

    /// Something comes to an address, by a jump or a branch of a function when that is named.
    fn mark(&mut self, address: u64, by: Option<&Function>) {
        if let Some((segment, at)) = self.place(address) {
            let is_own = by.is_some_and(|it| it.segment == segment && (it.start..it.end).contains(&at));
            self.segments[segment].enter(at, !is_own);
        }
    }

    /// All functions in their order, none of which overlaps another one any more; those that did are not sound.
    fn find_functions(&mut self, data: &[u8]) -> Result<(), Error> {
        for it in &mut self.segments {
            for bits in [&mut it.entries, &mut it.foreign, &mut it.starts, &mut it.asked] {
                *bits = Bits::new(it.code.len());
            }
        }
        for it in Tables::read(data).map(|tables| tables.ranges()).unwrap_or_default() {
            // Return addresses are looked up one byte early, so the C library lets the table of this function begin before the function.
            let early = u64::from(it.is_signal && self.starts_with(it.address.wrapping_add(1), SIGNAL_RETURN));
            self.add(it.address.wrapping_add(early), it.len.saturating_sub(early), it.catches);
        }
        self.order();
        // Symbols tell of functions without tables. All of them are entries, also those with a function around them.
        let file = parse(data)?;
        let endian = file.endian();
        let (mut others, mut symbols) = (Vec::new(), Vec::new());
        for table in [file.elf_symbol_table(), file.elf_dynamic_symbol_table()] {
            for symbol in table.iter().filter(|symbol| !symbol.is_undefined(endian)) {
                let is_function = matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_GNU_IFUNC);
                let (address, len) = (symbol.st_value(endian), symbol.st_size(endian));
                let Some((segment, at)) =
                    self.place(address).filter(|_| is_function || symbol.st_type() == elf::STT_NOTYPE)
                else {
                    continue;
                };
                // Most are where a function starts, which is an entry by now.
                if self.segments[segment].foreign.has(at) {
                    continue;
                }
                symbols.push((segment, at));
                if is_function && self.function_at(segment, at).is_none() {
                    others.push((address, len));
                }
            }
        }
        for (segment, at) in symbols {
            self.segments[segment].enter(at, true);
        }
        for (address, len) in others {
            self.add(address, len, false);
        }
        self.order();
        Ok(())
    }

    fn add(&mut self, address: u64, len: u64, has_labels: bool) {
        let Some((segment, start)) = self.place(address) else { return };
        let room = self.segments[segment].code.len() - start;
        let len_here = usize::try_from(len).unwrap_or(usize::MAX).min(room);
        if len_here > 0 {
            let (end, is_sound) = (start + len_here, len_here as u64 == len);
            self.segments[segment].enter(start, true);
            self.functions.push(Function {
                segment,
                start,
                end,
                has_labels,
                has_tables: false,
                is_sound,
                is_asked: false,
                told_to: start,
            });
        }
    }

    fn order(&mut self) {
        // Of several with one start the longest: symbols have aliases.
        self.functions.sort_by_key(|it| (it.segment, it.start, usize::MAX - it.end));
        self.functions.dedup_by(|next, it| {
            let is_same = (next.segment, next.start) == (it.segment, it.start);
            it.has_labels |= is_same && next.has_labels;
            it.is_sound &= !is_same || next.end == it.end;
            is_same
        });
        let mut reached = (0, 0);
        for at in 0..self.functions.len() {
            let (before, rest) = self.functions.split_at_mut(at);
            let it = &mut rest[0];
            if reached.0 == it.segment && reached.1 > it.start {
                it.is_sound = false;
            }
            if let Some(last) = before.last_mut().filter(|last| last.segment == it.segment && last.end > it.start) {
                last.is_sound = false;
                last.end = it.start;
            }
            reached = if reached.0 == it.segment { (it.segment, reached.1.max(it.end)) } else { (it.segment, it.end) };
        }
    }

    /// Where the function behind one starts.
    fn next_start(&self, function: usize) -> usize {
        let segment = self.functions[function].segment;
        self.functions.get(function + 1).filter(|it| it.segment == segment).map_or(usize::MAX, |it| it.start)
    }

    fn function_at(&self, segment: usize, at: usize) -> Option<usize> {
        let behind = self.functions.partition_point(|it| (it.segment, it.start) <= (segment, at));
        let function = behind.checked_sub(1)?;
        let it = &self.functions[function];
        (it.segment == segment && at < it.end).then_some(function)
    }

    /// Decodes the functions with the bytes of a `syscall` in them or behind them.
    fn read_asked(&mut self, pairs: &[(usize, usize)]) {
        let mut done = None;
        for &(segment, pair) in pairs {
            let behind = self.functions.partition_point(|it| (it.segment, it.start) <= (segment, pair));
            let function = behind.checked_sub(1).filter(|it| self.functions[*it].segment == segment);
            let Some(function) = function.filter(|_| function != done) else { continue };
            done = Some(function);
            let limit = self.next_start(function).min(self.segments[segment].code.len());
            let is_pair_in = |from: usize| {
                let wanted = pairs.partition_point(|pair| *pair < (segment, from));
                pairs.get(wanted).is_some_and(|pair| *pair < (segment, limit))
            };
            let Function { start, mut end, is_sound, .. } = self.functions[function];
            self.functions[function].is_asked = true;
            let (mut told_to, mut last) = self.decode(function, start, end);
            // Code that is written by hand may end its table in the middle of a straight line (`clone` of the C library does, right at
            // its system call). What this goes on to is code too, up to where it goes no further.
            let goes_on = |step: Step| matches!(step.flow, Flow::Next | Flow::Branch(_)) && !step.is_nop;
            if is_sound && told_to == end && last.is_some_and(goes_on) && is_pair_in(end) {
                while end < limit && last.is_some_and(|step| goes_on(step) || step.flow == Flow::Kernel) {
                    let len = step(&self.segments[segment].code[end..limit]).map_or(0, |step| step.len.into());
                    (told_to, last) = self.decode(function, end, end + len);
                    end += len;
                }
            }
            let it = &mut self.functions[function];
            it.is_sound &= told_to == end && last.is_some();
            (it.told_to, it.end) = (told_to, end);
            // And the padding behind it.
            self.segments[segment].asked.set_all(start..limit.min(end + MAX_PADDING));
        }
    }

    /// Decodes of the other functions those that may come to one that is asked about, where nothing is known to come yet.
    fn search_others(&mut self) {
        let mut found = [0; PIECE];
        for function in 0..self.functions.len() {
            let it = self.functions[function];
            if !it.is_asked && self.may_reach(it, &mut found) {
                self.decode(function, it.start, it.end);
            }
        }
    }

    /// Whether a function that is asked about is at an address, and nothing is known to come there yet.
    fn is_news(&self, address: u64) -> bool {
        self.place(address).is_some_and(|(segment, at)| {
            let it = &self.segments[segment];
            it.asked.has(at) && !it.foreign.has(at)
        })
    }

    /// Whether the bytes of a function look like something that comes to such a place, wherever instructions begin among them. `found` is
    /// room to work in.
    fn may_reach(&self, function: Function, found: &mut [u8; PIECE]) -> bool {
        let segment = &self.segments[function.segment];
        let code = &segment.code[function.start..function.end];
        let has_more = self.segments.len() > 1;
        let is_news = |next: usize, by: i32| {
            let at = (function.start + next).wrapping_add_signed(by as isize);
            // Behind the end nothing is asked about.
            if segment.asked.has(at.min(segment.code.len())) {
                return !segment.foreign.has(at);
            }
            has_more
                && at >= segment.code.len()
                && self.is_news((segment.address + (function.start + next) as u64).wrapping_add_signed(by.into()))
        };
        let far_at = |next: usize| {
            let by = code.get(next - 4..).and_then(|rest| rest.first_chunk());
            by.is_some_and(|by| is_news(next, i32::from_le_bytes(*by)))
        };
        // The first byte has none before it.
        if matches!(code, [0xe8 | 0xe9, ..]) && far_at(5) {
            return true;
        }
        let mut start = 0;
        while start < code.len() {
            let mut count = 0;
            // Nine bytes have eight pairs.
            for at in (start..code.len().min(start + PIECE)).step_by(8) {
                let mut hits = match code[at..].first_chunk() {
                    Some(bytes) => long_pairs(bytes),
                    None => {
                        let mut bytes = [0; 9];
                        bytes[..code.len() - at].copy_from_slice(&code[at..]);
                        long_pairs(&bytes)
                    }
                };
                // Whether there is one is as good as random, so no branch asks for it, which processors would foretell wrongly; two are rare.
                loop {
                    found[count % PIECE] = (at - start + hits.trailing_zeros() as usize / 8) as u8;
                    count += usize::from(hits != 0);
                    hits &= hits.wrapping_sub(1);
                    if hits == 0 {
                        break;
                    }
                }
            }
            if found[..count].iter().any(|at| far_at(start + usize::from(*at) + 6)) {
                return true;
            }
            start += PIECE;
        }
        // Short jumps are many, so only those are looked at that lead that far.
        let near = |range: Range<usize>| {
            range.clone().zip(code[range].windows(2)).any(|(at, pair)| {
                matches!(pair[0], 0x70..=0x7f | 0xe0..=0xe3 | 0xeb) && is_news(at + 2, (pair[1] as i8).into())
            })
        };
        let len = code.len();
        let is_asked = |range| segment.asked.has_any(range);
        let after_end = || is_asked(function.end..function.end + NEAR) && near(len.saturating_sub(NEAR)..len);
        let before_start = || is_asked(function.start.saturating_sub(NEAR)..function.start) && near(0..len.min(NEAR));
        after_end() || before_start()
    }

    /// Marks what the instructions between two places of a function come to. How far they are known, and the last of them.
    fn decode(&mut self, function: usize, start: usize, end: usize) -> (usize, Option<Step>) {
        let own = self.functions[function];
        let Function { segment, is_asked, .. } = own;
        let (code, address) = (self.segments[segment].code, self.segments[segment].address);
        let mut at = start;
        let mut last = None;
        while let Some(Ok(step)) = (at < end).then(|| step(&code[at..end])) {
            let next = at + usize::from(step.len);
            let there = |by: i32| (address + next as u64).wrapping_add_signed(by.into());
            match step.flow {
                Flow::Jump(by) | Flow::Branch(by) => {
                    self.mark(there(by), Some(&own));
                    if self.is_inside_another(function, there(by)) {
                        let function = &mut self.functions[function];
                        (function.has_labels, function.has_tables) = (true, true);
                    }
                }
                Flow::Call(by) | Flow::Other(Some(by)) => self.mark(there(by), None),
                Flow::JumpOperand { fixed: false } => {
                    let function = &mut self.functions[function];
                    (function.has_labels, function.has_tables) = (true, true);
                }
                Flow::Kernel => self.has_calls = true,
                _ => {}
            }
            if let Some(by) = step.names {
                self.mark(there(by), None);
            }
            if step.is_landing {
                self.segments[segment].enter(at, true);
            }
            if is_asked {
                self.segments[segment].starts.set(at);
            }
            at = next;
            last = Some(step);
        }
        (at, last)
    }

    /// Whether an address is in another function, but not where that starts.
    fn is_inside_another(&self, function: usize, address: u64) -> bool {
        let Some((segment, at)) = self.place(address) else { return false };
        let other = self.function_at(segment, at).filter(|other| *other != function);
        other.is_some_and(|other| self.functions[other].start != at)
    }

    fn judge(&self, pairs: &[(usize, usize)]) -> Calls {
        let mut calls = Calls::default();
        let mut rest = pairs;
        while let Some(&(segment, at)) = rest.first() {
            let Some(function) = self.function_at(segment, at) else {
                calls.unknown.push(self.segments[segment].off_bytes + at as u64);
                rest = &rest[1..];
                continue;
            };
            let it = &self.functions[function];
            let here = rest.iter().take_while(|(other, at)| *other == segment && *at < it.end).count();
            let (here, behind) = rest.split_at(here);
            self.judge_function(function, here, &mut calls);
            rest = behind;
        }
        calls
    }

    /// A function that is asked about.
    fn body(&self, function: usize) -> Body<'_> {
        let next_start = self.next_start(function);
        let function = &self.functions[function];
        let segment = &self.segments[function.segment];
        let told = function.start..function.told_to;
        let is_sound = function.is_sound && segment.entries.is_part_of(&segment.starts, told);
        Body { segment, function, is_sound, next_start }
    }

    /// One function with the bytes of a `syscall` at these places.
    fn judge_function(&self, function: usize, pairs: &[(usize, usize)], calls: &mut Calls) {
        let body = self.body(function);
        let segment = body.segment;
        for &(_, pair) in pairs {
            // It may have a prefix without a meaning.
            match body.around(pair).filter(|insn| insn.step.flow == Flow::Kernel) {
                Some(insn) => calls.sites.push(body.site(&insn)),
                // A part of another instruction, if the instructions are what they seem.
                None if body.is_sound => {}
                None => calls.unknown.push(segment.off_bytes + pair as u64),
            }
        }
    }
}

/// A function, decoded.
struct Body<'a> {
    segment: &'a Segment<'a>,
    function: &'a Function,
    /// The function is, and nothing comes to the middle of its instructions.
    is_sound: bool,
    /// Where the next function starts.
    next_start: usize,
}

impl Body<'_> {
    fn site(&self, call: &Insn) -> CallSite {
        CallSite {
            off_bytes: self.segment.off_bytes + call.at as u64,
            nr: self.number(call).filter(|_| self.is_sound),
            before: self.before(call).filter(|_| self.is_sound),
            behind: self.behind(call).filter(|_| self.is_sound),
        }
    }

    /// The instruction that starts at a place where one does.
    fn insn(&self, at: usize) -> Option<Insn> {
        let rest = self.segment.code.get(at..self.function.told_to).filter(|rest| !rest.is_empty())?;
        Some(Insn { at, step: step(rest).ok()? })
    }

    /// The instruction that a place is in.
    fn around(&self, place: usize) -> Option<Insn> {
        (place < self.function.told_to).then(|| self.last_before(place + 1))?
    }

    /// The last instruction that starts before a place.
    fn last_before(&self, place: usize) -> Option<Insn> {
        // Where the function starts one does, so the search ends there.
        self.insn((place > self.function.start).then(|| self.segment.starts.last_before(place))??)
    }

    fn bytes(&self, insn: &Insn) -> &[u8] {
        &self.segment.code[insn.at..insn.end()]
    }

    fn span(&self, start: usize, end: usize) -> Option<Span> {
        Some(Span { off_bytes: self.segment.off_bytes + start as u64, len: u8::try_from(end - start).ok()? })
    }

    fn is_entry(&self, at: usize) -> bool {
        self.segment.entries.has(at)
    }

    /// Whether nothing comes to the inside of a jump that begins at an instruction. Exceptions do not: no straight line leads to where one is caught.
    fn is_closed(&self, start: usize) -> bool {
        let inside = start + 1..start + JUMP_BYTES;
        let comes = |at: usize| self.is_entry(at) || self.function.has_tables && self.segment.starts.has(at);
        self.is_sound && self.segment.starts.has(start) && !inside.into_iter().any(comes)
    }

    /// The number of a call, if it is the same on all ways to it. All of them are gone back, each until something says what is in the register that the number
    /// comes from; a way that only leads to itself says nothing.
    fn number(&self, call: &Insn) -> Option<u32> {
        let mut number = None;
        let mut seen = Vec::new();
        let mut open = vec![(call.at, RAX)];
        while let Some((at, register)) = open.pop() {
            if seen.contains(&(at, register)) {
                continue;
            }
            // Who comes from elsewhere may have another number.
            if seen.len() == MAX_NUMBER_INSNS || self.segment.foreign.has(at) {
                return None;
            }
            seen.push((at, register));
            if self.is_entry(at) {
                if self.function.has_labels {
                    return None;
                }
                open.extend(self.comers(at).map(|comer| (comer, register)));
            }
            let insn = self.last_before(at)?;
            let bytes = self.bytes(&insn);
            match insn.step.flow {
                Flow::Next | Flow::Branch(_) => match puts(bytes, register) {
                    Some(Put::Number(it)) if number.is_none_or(|number| number == it) => number = Some(it),
                    Some(Put::Of(other)) if !self.function.has_labels => open.push((insn.at, other)),
                    None if keeps(bytes, register) && !self.function.has_labels => open.push((insn.at, register)),
                    _ => return None,
                },
                // It changes these.
                Flow::Kernel if ![RAX, RCX, R11].contains(&register) => open.push((insn.at, register)),
                // It does not go on, so others come here, if it is no padding: by ways that nobody knows, if not by known ones.
                Flow::Jump(_) | Flow::JumpOperand { .. } | Flow::Return | Flow::Nowhere
                    if self.is_entry(at) || self.insn(at).is_some_and(|here| here.step.is_nop) => {}
                _ => return None,
            }
        }
        number
    }

    /// The jumps and branches of the function that lead to a place.
    fn comers(&self, place: usize) -> impl Iterator<Item = usize> {
        let mut at = self.function.start;
        std::iter::from_fn(move || {
            while let Some(insn) = self.insn(at) {
                at = insn.end();
                if let Flow::Jump(by) | Flow::Branch(by) = insn.step.flow
                    && insn.end().wrapping_add_signed(by as isize) == place
                {
                    return Some(insn.at);
                }
            }
            None
        })
    }

    fn before(&self, call: &Insn) -> Option<Span> {
        let end = call.at;
        let mut from = end;
        loop {
            // Nothing may come to the system call, nor to an instruction that has another one of the span before it.
            if self.is_entry(from) {
                return None;
            }
            let insn = self.last_before(from)?;
            // A branch into the span made its target an entry.
            if !matches!(insn.step.flow, Flow::Next | Flow::Branch(_)) {
                return None;
            }
            let is_alone = from == end;
            from = insn.at;
            if end - from >= JUMP_BYTES {
                let sets_number = is_alone && matches!(puts(self.bytes(&insn), RAX), Some(Put::Number(_)));
                return self.span(from, end).filter(|_| !self.function.has_labels || sets_number);
            }
        }
    }

    fn behind(&self, call: &Insn) -> Option<Span> {
        let start = call.end();
        let mut at = start;
        let mut is_over = false;
        while let Some(insn) = self.insn(at) {
            if self.is_entry(at) || at > start && self.function.has_labels || is_over && !insn.step.is_nop {
                return None;
            }
            let is_last = match insn.step.flow {
                Flow::Next | Flow::Branch(_) => false,
                Flow::Call(_) | Flow::CallOperand => true,
                Flow::Jump(_) | Flow::JumpOperand { .. } | Flow::Return => {
                    is_over = true;
                    false
                }
                Flow::Kernel | Flow::Nowhere | Flow::Other(_) => return None,
            };
            at = insn.end();
            if at - start >= JUMP_BYTES {
                return self.span(start, at);
            }
            if is_last {
                return None;
            }
        }
        // The end of the function: only behind one that never goes on is there padding.
        let mut end = self.function.end;
        if !is_over || self.function.told_to != end {
            return None;
        }
        let limit = self.next_start.min(self.segment.code.len()).min(end + MAX_PADDING);
        let mut enough = None;
        // All of it has to be padding, or else it may be code that nobody told of.
        while end < limit {
            if self.is_entry(end) {
                return None;
            }
            end += padding(&self.segment.code[end..limit])?;
            if enough.is_none() && end - start >= JUMP_BYTES {
                enough = Some(end);
            }
        }
        self.span(start, enough?)
    }
}

/// The length of what compilers and linkers put between functions: `nop` in its forms, breakpoints, zeros.
fn padding(bytes: &[u8]) -> Option<usize> {
    if matches!(bytes.first(), Some(0xcc | 0)) {
        return Some(1);
    }
    let step = step(&bytes[..bytes.len().min(MAX_LEN)]).ok()?;
    step.is_nop.then_some(step.len.into())
}

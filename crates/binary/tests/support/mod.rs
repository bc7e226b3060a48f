//! Programs of a few bytes, and what a disassembler says about real ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

use skep_binary::calls::{Calls, Span, are_closed, call_sites};

/// Where code is in the file, and where that is mapped.
const CODE_AT: u64 = 0x1000;
const CODE_ADDR: u64 = 0x40_1000;
/// Where the headers of sections are in the file.
const SECTIONS_AT: usize = 0x40 + 56;

/// A program; places are from the start of its code.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    pub(crate) code: Vec<u8>,
    /// Functions by `.symtab`: start and size.
    pub(crate) symbols: Vec<(u64, u64)>,
    /// Functions by `.eh_frame`: start, size, and whether exceptions are caught.
    pub(crate) tables: Vec<(u64, u64, bool)>,
    /// Functions by `.eh_frame` that signals return to.
    pub(crate) signals: Vec<(u64, u64)>,
    /// How much longer than it has to be what all functions of `.eh_frame` have in common is.
    pub(crate) kind_len: usize,
    /// How much of the code is in a section with code; the rest is data.
    pub(crate) text_len: Option<u64>,
}

impl Program {
    /// What is said about it, with offsets from the start of its code.
    pub(crate) fn closed(&self, starts: &[u64]) -> Vec<bool> {
        let starts: Vec<u64> = starts.iter().map(|start| start + CODE_AT).collect();
        are_closed(&self.file(), &starts).expect("a sound program")
    }

    pub(crate) fn calls(&self) -> Calls {
        let file = self.file();
        let mut calls = call_sites(&file).expect("a sound program");
        check_shape(&file, &calls);
        let back = |span: &mut Span| span.off_bytes -= CODE_AT;
        for site in &mut calls.sites {
            site.off_bytes -= CODE_AT;
            site.before.iter_mut().for_each(back);
            site.behind.iter_mut().for_each(back);
        }
        calls.unknown.iter_mut().for_each(|at| *at -= CODE_AT);
        calls
    }

    /// As an ELF file.
    pub(crate) fn file(&self) -> Vec<u8> {
        let code_len = self.code.len() as u64;
        let mut file = vec![0; CODE_AT as usize];
        file.extend(&self.code);
        file.resize(file.len().next_multiple_of(8), 0);
        let names = b"\0.text\0.eh_frame\0.symtab\0.strtab\0";
        // Name, type, flags, address, offset, size, link, info, alignment, size of an entry.
        let mut sections = vec![[0; 10], [1, 1, 6, CODE_ADDR, CODE_AT, self.text_len.unwrap_or(code_len), 0, 0, 1, 0]];
        let frames_at = file.len() as u64;
        let frames_addr = CODE_ADDR - CODE_AT + frames_at;
        let frames = self.frames(frames_addr);
        file.extend(&frames);
        sections.push([7, 1, 2, frames_addr, frames_at, frames.len() as u64, 0, 0, 8, 0]);
        let symbols_at = file.len() as u64;
        file.extend([0; 24]);
        for (start, len) in &self.symbols {
            file.extend(0u32.to_le_bytes());
            // A global function, in section 1.
            file.extend([0x12, 0, 1, 0]);
            file.extend((CODE_ADDR + start).to_le_bytes());
            file.extend(len.to_le_bytes());
        }
        sections.push([17, 2, 0, 0, symbols_at, file.len() as u64 - symbols_at, 4, 1, 8, 24]);
        let names_at = file.len() as u64;
        file.extend(names);
        sections.push([25, 3, 0, 0, names_at, names.len() as u64, 0, 0, 1, 0]);

        let mut head = b"\x7fELF\x02\x01\x01".to_vec();
        head.resize(16, 0);
        for (number, len) in [
            (2, 2),                     // e_type
            (62, 2),                    // e_machine
            (1, 4),                     // e_version
            (CODE_ADDR, 8),             // e_entry
            (0x40, 8),                  // e_phoff
            (SECTIONS_AT as u64, 8),    // e_shoff
            (0, 4),                     // e_flags
            (64, 2),                    // e_ehsize
            (56, 2),                    // e_phentsize
            (1, 2),                     // e_phnum
            (64, 2),                    // e_shentsize
            (sections.len() as u64, 2), // e_shnum
            (4, 2),                     // e_shstrndx
            (1, 4),                     // p_type
            (5, 4),                     // p_flags
            (CODE_AT, 8),
            (CODE_ADDR, 8),
            (CODE_ADDR, 8),
            (code_len, 8),
            (code_len, 8),
            (0x1000, 8),
        ] {
            head.extend(&u64::to_le_bytes(number)[..len]);
        }
        for section in sections {
            for (number, len) in section.into_iter().zip([4, 4, 8, 8, 8, 8, 4, 4, 8, 8]) {
                head.extend(&number.to_le_bytes()[..len]);
            }
        }
        assert!(head.len() <= 0x200);
        file[..head.len()].copy_from_slice(&head);
        file
    }

    /// `.eh_frame`: three CIEs, of plain functions, of those that catch exceptions, and of those that signals return to.
    fn frames(&self, addr: u64) -> Vec<u8> {
        let mut frames = Vec::new();
        let mut kinds = Vec::new();
        let kinds_are: [(&[u8], &[u8]); 3] = [(b"zR\0", &[0x1b]), (b"zLR\0", &[0x1b, 0x1b]), (b"zRS\0", &[0x1b])];
        for (augmentation, encodings) in kinds_are {
            kinds.push(frames.len());
            let mut entry = vec![0, 0, 0, 0, 1];
            entry.extend(augmentation);
            if kinds.len() == 1 && self.kind_len > 0 {
                // More letters that each say the same.
                entry.pop();
                entry.resize(entry.len() + self.kind_len, b'S');
                entry.push(0);
            }
            entry.extend([1, 0x78, 16, encodings.len() as u8]);
            entry.extend(encodings);
            push(&mut frames, entry);
        }
        let plain = self.tables.iter().map(|&(start, len, catches)| (start, len, usize::from(catches)));
        for (start, len, kind) in plain.chain(self.signals.iter().map(|&(start, len)| (start, len, 2))) {
            let at = frames.len() + 4;
            let from_here = (CODE_ADDR + start).wrapping_sub(addr + at as u64 + 4) as u32;
            let mut entry = ((at - kinds[kind]) as u32).to_le_bytes().to_vec();
            entry.extend(from_here.to_le_bytes());
            entry.extend((len as u32).to_le_bytes());
            // Where the table of what is caught would be.
            entry.extend(if kind == 1 { &[4, 1, 1, 0, 0][..] } else { &[0] });
            push(&mut frames, entry);
        }
        frames.extend([0; 4]);
        frames
    }
}

fn push(frames: &mut Vec<u8>, mut entry: Vec<u8>) {
    entry.resize((entry.len() + 4).next_multiple_of(8) - 4, 0);
    frames.extend((entry.len() as u32).to_le_bytes());
    frames.extend(entry);
}

/// Whatever the file is: what is a site has the bytes of one, and spans touch it and are long enough.
pub(crate) fn check_shape(data: &[u8], calls: &Calls) {
    assert!(calls.sites.is_sorted_by(|a, b| a.off_bytes < b.off_bytes), "{calls:?}");
    assert!(calls.unknown.is_sorted_by(|a, b| a < b), "{calls:?}");
    for site in &calls.sites {
        let bytes = &data[site.off_bytes as usize..];
        let len = bytes.windows(2).position(|pair| pair == [0x0f, 0x05]).expect("a system call") as u64 + 2;
        if let Some(span) = site.before {
            assert!(span.len >= 5 && span.off_bytes + u64::from(span.len) == site.off_bytes, "{site:x?}");
        }
        if let Some(span) = site.behind {
            assert!(span.len >= 5 && span.off_bytes == site.off_bytes + len, "{site:x?}");
        }
    }
    for at in &calls.unknown {
        assert_eq!(data[*at as usize..][..2], [0x0f, 0x05]);
    }
}

/// The image of this process' vDSO.
pub(crate) fn vdso() -> Option<Vec<u8>> {
    const AT_SYSINFO_EHDR: u64 = 33;
    let vector = std::fs::read("/proc/self/auxv").ok()?;
    let words: Vec<u64> = vector.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    let addr = words.as_chunks::<2>().0.iter().find(|pair| pair[0] == AT_SYSINFO_EHDR)?[1];
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let range = maps.lines().find(|line| line.ends_with("[vdso]"))?.split_once(' ')?.0.split_once('-')?.1;
    let end = u64::from_str_radix(range, 16).ok()?;
    let mut image = vec![0; (end - addr) as usize];
    File::open("/proc/self/mem").ok()?.read_exact_at(&mut image, addr).ok()?;
    Some(image)
}

/// What a disassembler says, by offsets in the file.
pub(crate) struct Disassembly {
    /// Instructions: where, and their lengths.
    insns: BTreeMap<u64, u64>,
    calls: BTreeSet<u64>,
    /// Where direct jumps, branches and calls lead, from where.
    targets: BTreeMap<u64, u64>,
}

/// `None` without a disassembler. Some say nothing about some files, and do not call that an error: then the next is asked.
pub(crate) fn disassemble(data: &[u8]) -> Option<Disassembly> {
    let path = std::env::temp_dir().join(format!("skep-calls-{}", std::process::id()));
    std::fs::write(&path, data).expect("a file of our own");
    let seen = ["llvm-objdump-19", "llvm-objdump", "objdump"].iter().find_map(|tool| {
        let output = Command::new(tool).args(["-d", "-w"]).arg(&path).output().ok()?;
        let seen = read(data, &String::from_utf8_lossy(&output.stdout));
        (!seen.insns.is_empty()).then_some(seen)
    });
    std::fs::remove_file(&path).expect("a file of our own");
    seen
}

fn read(data: &[u8], text: &str) -> Disassembly {
    let segments = segments(data);
    let offset = |address: u64| {
        let it = segments.iter().find(|it| address.checked_sub(it.0).is_some_and(|inside| inside < it.2))?;
        Some(address - it.0 + it.1)
    };
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let mut seen = Disassembly { insns: BTreeMap::new(), calls: BTreeSet::new(), targets: BTreeMap::new() };
    for line in text.lines() {
        let Some((at, rest)) = line.split_once(':') else { continue };
        let Some((bytes, text)) = rest.trim_start().split_once('\t') else { continue };
        let Some(at) = hex(at.trim()).and_then(offset) else { continue };
        seen.insns.insert(at, bytes.split_whitespace().count() as u64);
        let mut words = text.split_whitespace().skip_while(|word| matches!(*word, "bnd" | "notrack" | "rex.W"));
        let name = words.next().unwrap_or_default();
        if name == "syscall" {
            seen.calls.insert(at);
        }
        let jumps = ["j", "call", "loop", "xbegin"].iter().any(|start| name.starts_with(start));
        if let Some(target) = words.next().filter(|_| jumps).and_then(hex).and_then(offset) {
            seen.targets.insert(target, at);
        }
    }
    seen
}

/// Address, offset and length of each loadable segment.
fn segments(data: &[u8]) -> Vec<(u64, u64, u64)> {
    let number = |at: usize| u64::from_le_bytes(*data[at..].first_chunk().expect("a whole header"));
    let count = usize::from(data[56]);
    let headers = (0..count).map(|header| number(32) as usize + header * 56);
    headers
        .filter(|at| data[*at..][..4] == [1, 0, 0, 0])
        .map(|at| (number(at + 16), number(at + 8), number(at + 32)))
        .collect()
}

impl Disassembly {
    /// Both see the same system calls, spans are whole instructions, and nothing comes to their insides.
    pub(crate) fn check(&self, name: &str, calls: &Calls) {
        let sites: BTreeSet<u64> = calls.sites.iter().map(|site| site.off_bytes).collect();
        for at in &self.calls {
            assert!(sites.contains(at) || calls.unknown.contains(at), "{name}: {at:#x} is not known");
        }
        for site in &calls.sites {
            let at = site.off_bytes;
            assert!(self.calls.contains(&at), "{name}: {at:#x} is no system call");
            if let Some(span) = site.before {
                self.check_span(name, span);
                assert_eq!(self.targets.get(&at), None, "{name}: {at:#x}");
            }
            if let Some(span) = site.behind {
                self.check_span(name, span);
                assert_eq!(self.targets.get(&span.off_bytes), None, "{name}: {at:#x}");
            }
        }
    }

    fn check_span(&self, name: &str, span: Span) {
        let (start, end) = (span.off_bytes, span.off_bytes + u64::from(span.len));
        let mut at = start;
        while at < end {
            match self.insns.get(&at) {
                Some(len) => at += len,
                // Zeros between functions are not shown.
                None if at > start => return,
                None => panic!("{name}: no instruction at {at:#x}"),
            }
        }
        assert_eq!(at, end, "{name}: {span:x?} ends in an instruction");
        let inside = self.targets.range(start + 1..end).next();
        assert_eq!(inside, None, "{name}: something comes to {span:x?}");
    }
}

//! [`read_needed()`] and [`without_dwarf()`]: an object without its DWARF, which [`Spec::parse`](crate::Spec::parse) never looks at.
//!
//! An object that touches `task_struct` has 30 KiB of types and 600 KiB of DWARF beside them. Not reading those saves the
//! copy, and the memory as well: what nobody writes to in a large fresh buffer takes none.

use std::io;
use std::ops::Range;

use object::elf;
use object::read::elf::{FileHeader as _, SectionHeader as _};

use super::file::{Header, SHT_NOBITS, SHT_REL, SHT_RELA, is_debug};

/// A file up to this size is read whole: there is little to save.
const SMALL_BYTES: usize = 32 << 10;

/// What a reader would skip is read when it is no longer than this: a call costs more than that.
const GAP_BYTES: usize = 4 << 10;

/// Fills a buffer from an offset in a file.
type ReadAt<'f> = dyn FnMut(u64, &mut [u8]) -> io::Result<()> + 'f;

/// Reads an object of `len` bytes with `read_at`, which fills a buffer from an offset. Debug sections and their relocations
/// stay zero. A file that is no ELF file, or one with damaged tables, is read whole, for [`Spec::parse`](crate::Spec::parse) to
/// say what is wrong.
///
/// # Errors
///
/// Those of `read_at`.
pub fn read_needed(len: usize, read_at: &mut ReadAt<'_>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let needed = match len {
        0..=SMALL_BYTES => None,
        _ => needed(&mut bytes, read_at)?,
    };
    match needed {
        Some(parts) => parts.into_iter().try_for_each(|part| read_at(part.start as u64, &mut bytes[part]))?,
        None => read_at(0, &mut bytes)?,
    }
    Ok(bytes)
}

/// The same object with empty debug sections: shorter, with all else in its place. What cannot be taken apart is given back as it
/// is.
pub fn without_dwarf(bytes: &[u8]) -> Vec<u8> {
    shortened(bytes).unwrap_or_else(|| bytes.to_vec())
}

fn shortened(bytes: &[u8]) -> Option<Vec<u8>> {
    let header = Header::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, bytes).ok()?;
    let mut headers: Vec<Section> = sections.iter().copied().collect();
    let mut out = bytes[..size_of::<Header>()].to_vec();
    for (section, written) in sections.iter().zip(&mut headers) {
        let Some((start, len)) = section.file_range(endian) else { continue };
        let align = section.sh_addralign(endian).clamp(1, 4096) as usize;
        out.resize(out.len().next_multiple_of(align), 0);
        written.sh_offset.set(endian, out.len() as u64);
        if is_wanted(&sections, endian, section) {
            let range = range((start, len), bytes.len());
            // Sections that overlap would make the object longer.
            if range.len() as u64 != len || out.len() + range.len() > bytes.len() {
                return None;
            }
            out.extend_from_slice(&bytes[range]);
        } else {
            written.sh_size.set(endian, 0);
        }
    }
    out.resize(out.len().next_multiple_of(8), 0);
    let mut first = *header;
    first.e_shoff.set(endian, out.len() as u64);
    out.extend(headers.iter().flat_map(object::pod::bytes_of));
    out[..size_of::<Header>()].copy_from_slice(object::pod::bytes_of(&first));
    Some(out)
}

type Section = elf::SectionHeader64<object::Endianness>;
type Sections<'a> = object::read::elf::SectionTable<'a, Header>;

/// Whether a section has bytes and they are neither DWARF nor relocations of DWARF.
fn is_wanted(sections: &Sections<'_>, endian: object::Endianness, section: &Section) -> bool {
    let holds_debug = |section: &Section| is_debug(sections.section_name(endian, section).unwrap_or_default());
    match section.sh_type(endian).0 {
        SHT_NOBITS => false,
        SHT_REL | SHT_RELA => {
            let target = object::SectionIndex(section.sh_info(endian) as usize);
            sections.section(target).map_or(true, |target| !holds_debug(target))
        }
        _ => !holds_debug(section),
    }
}

/// The parts to read, in order; `None` when the tables do not tell.
fn needed(bytes: &mut [u8], read_at: &mut ReadAt<'_>) -> io::Result<Option<Vec<Range<usize>>>> {
    let mut fill = |bytes: &mut [u8], offset: u64, len: u64| {
        let end = offset.checked_add(len).filter(|&end| end <= bytes.len() as u64);
        match end {
            Some(end) => read_at(offset, &mut bytes[offset as usize..end as usize]).map(|()| true),
            None => Ok(false),
        }
    };
    let header_len = size_of::<Header>();
    fill(bytes, 0, header_len as u64)?;
    let Ok(header) = Header::parse(&*bytes).copied() else { return Ok(None) };
    let Ok(endian) = header.endian() else { return Ok(None) };
    // More than 65,279 sections are counted in the first section: an object has none of that.
    let count = u64::from(header.e_shnum(endian));
    let table = (header.e_shoff(endian), count * size_of::<Section>() as u64);
    if count == 0 || !fill(bytes, table.0, table.1)? {
        return Ok(None);
    }
    let names = header.section_headers(endian, &*bytes).ok().and_then(|headers| {
        let index = header.shstrndx(endian, &*bytes).ok()?;
        headers.get(index as usize)?.file_range(endian)
    });
    let Some(names) = names else { return Ok(None) };
    if !fill(bytes, names.0, names.1)? {
        return Ok(None);
    }
    let Ok(sections) = header.sections(endian, &*bytes) else { return Ok(None) };
    let mut parts = vec![0..header_len, range(table, bytes.len())];
    parts.extend(
        sections
            .iter()
            .filter(|section| is_wanted(&sections, endian, section))
            .filter_map(|section| Some(range(section.file_range(endian)?, bytes.len()))),
    );
    Ok(Some(joined(parts)))
}

/// A part of a file, cut where the file ends.
fn range((offset, len): (u64, u64), file_len: usize) -> Range<usize> {
    let end = offset.saturating_add(len).min(file_len as u64) as usize;
    (offset as usize).min(end)..end
}

/// The same parts in order, with those that are close to each other in one.
fn joined(mut parts: Vec<Range<usize>>) -> Vec<Range<usize>> {
    parts.sort_unstable_by_key(|part| part.start);
    let mut joined: Vec<Range<usize>> = Vec::new();
    for part in parts {
        match joined.last_mut() {
            Some(last) if part.start <= last.end + GAP_BYTES => last.end = last.end.max(part.end),
            _ => joined.push(part),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads from a slice, and counts the bytes.
    fn from(file: &[u8]) -> (Vec<u8>, usize) {
        let mut count = 0;
        let bytes = read_needed(file.len(), &mut |offset, buf| {
            buf.copy_from_slice(&file[offset as usize..offset as usize + buf.len()]);
            count += buf.len();
            Ok(())
        });
        (bytes.unwrap(), count)
    }

    fn object(name: &str) -> Vec<u8> {
        let path = std::path::Path::new(env!("SKEP_TEST_OBJECTS")).join("clang19-el").join(name);
        std::fs::read(path).expect("run `cargo xtask setup`")
    }

    #[test]
    fn an_object_is_the_same_without_its_dwarf() {
        for name in ["mixed.bpf.o", "core_arrays.bpf.o", "tp_minimal.bpf.o"] {
            let file = object(name);
            let (bytes, count) = from(&file);
            let [whole, part] = [&file, &bytes].map(|it| format!("{:?}", crate::Spec::parse(it, name).unwrap()));
            assert!(whole == part, "{name} differs");
            let short = without_dwarf(&file);
            assert!(
                whole == format!("{:?}", crate::Spec::parse(&short, name).unwrap()),
                "{name} differs when shortened"
            );
            assert!(file.len() < SMALL_BYTES || short.len() < file.len() / 4, "{name}: {} bytes", short.len());
            assert_eq!(without_dwarf(&short).len(), short.len());
            assert!(file.len() < SMALL_BYTES || count < file.len() / 4, "{name}: {count} of {} read", file.len());
        }
    }

    #[test]
    fn what_the_tables_do_not_tell_is_read_whole() {
        let noise = vec![0x55; 100_000];
        assert!(from(&noise).0 == noise);
        let mut file = object("mixed.bpf.o");
        // Each place of the header in turn: whatever it does to the tables, the answer of the parser is the same.
        for at in 0..64 {
            let kept = std::mem::replace(&mut file[at], 0xff);
            let [whole, part] =
                [&file, &from(&file).0].map(|it| crate::Spec::parse(it, "x").map_err(|it| it.to_string()));
            assert_eq!(whole.map(|it| it.to_string()), part.map(|it| it.to_string()), "byte {at}");
            let short = crate::Spec::parse(&without_dwarf(&file), "x").map_err(drop);
            let whole = crate::Spec::parse(&file, "x").map_err(drop);
            assert!(whole.is_err() || short.map(|it| it.to_string()) == whole.map(|it| it.to_string()), "byte {at}");
            file[at] = kept;
        }
        file.truncate(200_000);
        let [whole, part] = [&file, &from(&file).0].map(|it| crate::Spec::parse(it, "x").map_err(|it| it.to_string()));
        assert_eq!(whole.unwrap_err(), part.unwrap_err());
    }

    #[test]
    fn parts_that_are_close_are_read_at_once() {
        assert_eq!(joined(vec![9000..9100, 0..64, 100..200, 50..60]), [0..200, 9000..9100]);
    }
}

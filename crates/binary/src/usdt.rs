//! USDT probes: statically defined places in a program, described in its notes.
//!
//! Each use of a probe in the source is one `nop` in the code and one note in the section `.note.stapsdt` (owner
//! `stapsdt`, type 3). The note holds three addresses (the nop, the section `.stapsdt.base` as it was at link time, and a
//! semaphore or zero) and three strings: provider, name, and where the arguments are at that place. One probe of one
//! provider may be in many places, each with its arguments elsewhere, hence a [`Site`] for each.
//!
//! If the file was prelinked, the difference between the base in the note and the section's real address has to be added.
//! A semaphore is a 16-bit counter that the program looks at before it goes to the trouble of preparing arguments;
//! the kernel counts it up while a probe is there (`ref_ctr_offset`).

use object::read::elf::{ElfFile, FileHeader};
use object::{Endianness, ReadRef};
use skep_engine::Error;
use skep_spec::nearest::did_you_mean;

use super::elf::{Binary, file_offset, only_value, section};
use super::usdt_args::number;
use crate::with_elf;

/// One place of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Provider.
    pub provider: String,
    /// Probe.
    pub name: String,
    /// Arguments, as the note spells them: `-4@%eax 8@-24(%rbp)`. A variable by its name (`4@counter(%rip)`) has become its distance from
    /// the place (`4@8192(%rip)`), which a program that runs there can add up.
    pub args: String,
    /// Where it is in the file, in bytes: what a uprobe takes.
    pub off_bytes: u64,
    /// The address that the file states, which is that of the running code unless the file is relocated.
    pub address: u64,
    /// Where its semaphore is in the file, in bytes.
    pub semaphore_off_bytes: Option<u64>,
}

/// A note as it stands in the section.
struct Note<'a> {
    address: u64,
    base: u64,
    semaphore: u64,
    provider: &'a str,
    name: &'a str,
    args: &'a str,
}

/// Every place of every probe in a file, in the file's order. Notes that do not make sense are passed over.
pub fn sites(binary: &Binary) -> Result<Vec<Site>, Error> {
    with_elf!(binary, file => Ok(sites_of(binary, &file)))
}

/// The places of one probe. Errors name the nearest probes, or say that the file has none.
pub fn find(binary: &Binary, provider: &str, name: &str) -> Result<Vec<Site>, Error> {
    let all = sites(binary)?;
    let matches = |site: &Site| (provider.is_empty() || site.provider == provider) && site.name == name;
    let found: Vec<Site> = all.iter().filter(|site| matches(site)).cloned().collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let path = binary.path().display();
    if all.is_empty() {
        return Err(Error::new(format!("`{path}` has no USDT probes"))
            .with_hint("they come from `DTRACE_PROBE` macros; a distribution may build a program without them"));
    }
    let wanted = format!("{provider}:{name}");
    let names: Vec<String> = all.iter().map(|site| format!("{}:{}", site.provider, site.name)).collect();
    let error = Error::new(format!("no USDT probe `{wanted}` in `{path}`"));
    if let Some(hint) = did_you_mean(&wanted, names.iter().map(String::as_str)) {
        return Err(error.with_hint(hint));
    }
    let mut known = names;
    known.sort();
    known.dedup();
    known.truncate(8);
    Err(error.with_hint(format!("it has {}", known.join(", "))))
}

fn sites_of<'d, H, R>(binary: &Binary, file: &ElfFile<'d, H, R>) -> Vec<Site>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'d>,
{
    let Some((data, _)) = section(file, ".note.stapsdt") else { return Vec::new() };
    let base_now = section(file, ".stapsdt.base").map(|(_, address)| address);
    let segments = binary.segments_of(file);
    let wide = file.elf_header().is_class_64();
    let mut sites = Vec::new();
    for note in notes(data, file.endian(), wide) {
        let moved = match base_now {
            Some(now) if note.base != 0 => now.wrapping_sub(note.base),
            _ => 0,
        };
        let address = note.address.wrapping_add(moved);
        // A place outside the code cannot be probed.
        let Some((off_bytes, true)) = file_offset(&segments, address) else { continue };
        let semaphore_off_bytes = match note.semaphore {
            0 => None,
            semaphore => file_offset(&segments, semaphore.wrapping_add(moved)).map(|(offset, _)| offset),
        };
        sites.push(Site {
            provider: note.provider.to_owned(),
            name: note.name.to_owned(),
            args: without_symbols(note.args, address, |name| only_value(file, name)),
            off_bytes,
            address,
            semaphore_off_bytes,
        });
    }
    sites
}

/// Arguments of a place with distances in place of the names of variables, as assemblers of x86-64 mean `counter+4(%rip)`.
/// What cannot be told stays as it is.
fn without_symbols(args: &str, address: u64, value: impl Fn(&str) -> Option<u64>) -> String {
    const BASE: &str = "(%rip)";
    let mut text = String::new();
    let mut rest = args;
    while let Some(at) = rest.find(BASE) {
        let (before, behind) = rest.split_at(at);
        let start = before.rfind('@').map_or(0, |at| at + 1);
        let operand = &before[start..];
        text.push_str(&before[..start]);
        match variable(operand, &value) {
            Some(place) => text.push_str(&(place.wrapping_sub(address) as i64).to_string()),
            None => text.push_str(operand),
        }
        text.push_str(BASE);
        rest = &behind[BASE.len()..];
    }
    text + rest
}

/// The address of `counter`, `counter+4` or `4+counter`; `None` without a name.
fn variable(operand: &str, value: &impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let (mut sum, mut named) = (0u64, false);
    let mut rest = operand;
    while !rest.is_empty() {
        // A sign in front belongs to its term.
        let end = rest.char_indices().skip(1).find(|(_, letter)| matches!(letter, '+' | '-'));
        let (term, behind) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
        let plain = term.strip_prefix('+').unwrap_or(term);
        let add = match number(term) {
            Some(number) => number as u64,
            None if named => return None,
            None => {
                named = true;
                value(plain)?
            }
        };
        sum = sum.wrapping_add(add);
        rest = behind;
    }
    named.then_some(sum)
}

/// The notes of the section: `namesz`, `descsz`, `type`, then name and description, each padded to four bytes.
fn notes(mut rest: &[u8], endian: Endianness, wide: bool) -> impl Iterator<Item = Note<'_>> {
    std::iter::from_fn(move || {
        loop {
            let word = |at: usize| -> Option<u32> { Some(read_u32(endian, rest.get(at..at + 4)?.try_into().ok()?)) };
            let (name_len, desc_len, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
            let desc_at = 12usize.checked_add(name_len.checked_next_multiple_of(4)?)?;
            let end = desc_at.checked_add(desc_len)?;
            let name = rest.get(12..12usize.checked_add(name_len)?)?;
            let desc = rest.get(desc_at..end)?;
            rest = rest.get(end.checked_next_multiple_of(4)?..).unwrap_or_default();
            if name == b"stapsdt\0"
                && kind == 3
                && let Some(note) = parse(desc, endian, wide)
            {
                return Some(note);
            }
        }
    })
}

fn parse(desc: &[u8], endian: Endianness, wide: bool) -> Option<Note<'_>> {
    let size = if wide { 8 } else { 4 };
    let address = |index: usize| -> Option<u64> {
        let bytes = desc.get(index * size..(index + 1) * size)?;
        Some(if wide {
            read_u64(endian, bytes.try_into().ok()?)
        } else {
            u64::from(read_u32(endian, bytes.try_into().ok()?))
        })
    };
    let mut texts = desc.get(3 * size..)?.split(|byte| *byte == 0);
    let mut text = || std::str::from_utf8(texts.next()?).ok();
    Some(Note {
        address: address(0)?,
        base: address(1)?,
        semaphore: address(2)?,
        provider: text()?,
        name: text()?,
        args: text()?,
    })
}

fn read_u32(endian: Endianness, bytes: [u8; 4]) -> u32 {
    match endian {
        Endianness::Little => u32::from_le_bytes(bytes),
        Endianness::Big => u32::from_be_bytes(bytes),
    }
}

fn read_u64(endian: Endianness, bytes: [u8; 8]) -> u64 {
    match endian {
        Endianness::Little => u64::from_le_bytes(bytes),
        Endianness::Big => u64::from_be_bytes(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(provider: &str, name: &str, args: &str) -> Vec<u8> {
        let mut desc = Vec::new();
        for address in [0x1110u64, 0x2000, 0] {
            desc.extend_from_slice(&address.to_le_bytes());
        }
        for text in [provider, name, args] {
            desc.extend_from_slice(text.as_bytes());
            desc.push(0);
        }
        let mut bytes = Vec::new();
        for word in [8, desc.len() as u32, 3] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(b"stapsdt\0");
        bytes.extend_from_slice(&desc);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn variables_are_as_far_from_the_place_as_the_file_says() {
        let value = |name: &str| match name {
            "counter" => Some(0x3010),
            ".LC0" => Some(0x900),
            _ => None,
        };
        let told = |args: &str| without_symbols(args, 0x1000, value);
        assert_eq!(told("-4@counter(%rip) 8@%rax"), "-4@8208(%rip) 8@%rax");
        assert_eq!(told("1@counter+3(%rip) 1@3+counter-1(%rip)"), "1@8211(%rip) 1@8210(%rip)");
        assert_eq!(told("8@.LC0(%rip)"), "8@-1792(%rip)");
        // Not in the file, or no name at all.
        for same in
            ["4@nosuch(%rip)", "4@8(%rip)", "4@(%rip)", "4@counter+counter(%rip)", "4@é(%rip)", "4@counter(%rax)", ""]
        {
            assert_eq!(told(same), same);
        }
    }

    #[test]
    fn notes_are_read_one_after_another() {
        let mut bytes = note("app", "start", "-4@%eax");
        bytes.extend(note("app", "stop", ""));
        let found: Vec<String> = notes(&bytes, Endianness::Little, true)
            .map(|note| format!("{}:{} {} {:x}", note.provider, note.name, note.args, note.address))
            .collect();
        assert_eq!(found, ["app:start -4@%eax 1110", "app:stop  1110"]);
    }

    #[test]
    fn cut_notes_end_the_walk() {
        let bytes = note("app", "start", "-4@%eax");
        for len in 0..bytes.len() - 3 {
            assert_eq!(notes(&bytes[..len], Endianness::Little, true).count(), 0, "{len}");
        }
        assert_eq!(notes(&[0xff; 64], Endianness::Little, true).count(), 0);
    }
}

//! A loader program behind its object, in one file.
//!
//! Whoever attaches programs and reads events needs more than loaded programs: sections, names, types. So the file is the object
//! itself, as every tool reads it, and behind its end the loader program with a trailer: length, SHA-256 and a mark.
//!
//! ```text
//! ELF object | loader program | u64 length of it | 32 bytes of SHA-256 over it | "skeplsk2"
//! ```
//!
//! Numbers are of 32 bits, little-endian; instructions and data are as the machine that made them has them, which the first
//! number tells.

use skep_insn::{Endian, RawInsn};

use super::{LoaderMap, LoaderProgram, Seal, Step};
use crate::digest::sha256;
use crate::{Error, ExternId, MapId, ProgId};

const MARK: &[u8; 8] = b"skeplsk2";
/// Bytes of the trailer, the last of a file with a loader program.
pub const TRAILER: usize = 8 + 32 + 8;
/// Read back as another number on a machine of the other byte order.
const ORDER: u32 = 0x0403_0201;
const NONE: u32 = u32::MAX;

/// The file of an object and its loader program.
pub fn attach(object: &[u8], loader: &LoaderProgram) -> Vec<u8> {
    let mut payload = ORDER.to_ne_bytes().to_vec();
    let mut put = |words: &[u32]| payload.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    let [insns, data, maps, steps] =
        [loader.insns.len(), loader.data.len(), loader.maps.len(), loader.steps.len()].map(|len| len as u32);
    // The length of a signature, and one more; 0 without a seal.
    let seal = loader.seal.as_ref().map_or(0, |seal| seal.signature.len() as u32 + 1);
    put(&[insns, data, maps, loader.programs, loader.fds, steps, seal]);
    for map in &loader.maps {
        let (value, len) = map.and_then(|map| map.value).unwrap_or((NONE, 0));
        put(&[map.map_or(NONE, |map| map.attr_off), value, len]);
    }
    for step in &loader.steps {
        put(&match *step {
            Step::Types => [0, 0],
            Step::Map(id) => [1, id.0],
            Step::Contents(id) => [2, id.0],
            Step::Extern(id) => [3, id.0],
            Step::Place(id) => [4, id.0],
            Step::Program(id) => [5, id.0],
            Step::Slot(id) => [6, id.0],
        });
    }
    payload.extend(skep_insn::slots_to_bytes(&loader.insns, Endian::NATIVE));
    payload.extend(&loader.data);
    payload.extend(loader.seal.iter().flat_map(|seal| &seal.signature));
    [object, &payload, &(payload.len() as u64).to_le_bytes(), &sha256(&payload), MARK].concat()
}

/// Whether a file that ends like this has a loader program behind its object.
pub fn is_attached(end: &[u8]) -> bool {
    end.len() >= TRAILER && end.ends_with(MARK)
}

/// The loader program behind an object; `None` when there is none.
///
/// # Errors
///
/// When it is damaged, or for machines of the other byte order.
pub fn detach(file: &[u8]) -> Result<Option<LoaderProgram>, Error> {
    let Some((rest, trailer)) = file.split_last_chunk::<TRAILER>() else { return Ok(None) };
    if !is_attached(trailer) {
        return Ok(None);
    }
    let damaged = || Error::new("the loader program behind the object is damaged").hint("build the file again");
    let len = trailer.first_chunk().map_or(u64::MAX, |len| u64::from_le_bytes(*len));
    let start = usize::try_from(len).ok().and_then(|len| rest.len().checked_sub(len)).ok_or_else(damaged)?;
    let payload = &rest[start..];
    if sha256(payload) != trailer[8..40] {
        return Err(damaged());
    }
    let mut reader = Reader(payload);
    match reader.bytes(4).and_then(|bytes| bytes.first_chunk().copied()).map(u32::from_ne_bytes) {
        Some(ORDER) => {}
        Some(_) => return Err(Error::new("the loader program is for machines of the other byte order")),
        None => return Err(damaged()),
    }
    reader.program().map(Some).ok_or_else(damaged)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn word(&mut self) -> Option<u32> {
        self.bytes(4)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn program(&mut self) -> Option<LoaderProgram> {
        let [insns, data, maps, programs, fds, steps, seal] = {
            let mut numbers = [0; 7];
            for number in &mut numbers {
                *number = self.word()?;
            }
            numbers
        };
        // Nothing is made room for that is not there.
        let fits = |count: u32, size: usize| (count as usize).checked_mul(size).is_some_and(|len| len <= self.0.len());
        if !fits(maps, 12) || !fits(steps, 8) || !fits(insns, 8) || !fits(data, 1) || fds > super::MAX_FDS {
            return None;
        }
        if u64::from(maps) + u64::from(programs) > u64::from(fds) {
            return None;
        }
        let mut of_maps = Vec::new();
        for _ in 0..maps {
            let (attr_off, value, len) = (self.word()?, self.word()?, self.word()?);
            let inside = |off: u32, len: u32| off.checked_add(len).is_some_and(|end| end <= data);
            let value = (value != NONE).then_some((value, len));
            if attr_off != NONE && (!inside(attr_off, 72) || value.is_some_and(|(off, len)| !inside(off, len))) {
                return None;
            }
            of_maps.push((attr_off != NONE).then_some(LoaderMap { attr_off, value }));
        }
        let mut all = Vec::new();
        for _ in 0..steps {
            let (tag, id) = (self.word()?, self.word()?);
            all.push(match tag {
                0 => Step::Types,
                1 => Step::Map(MapId(id)),
                2 => Step::Contents(MapId(id)),
                3 => Step::Extern(ExternId(id)),
                4 => Step::Place(ProgId(id)),
                5 => Step::Program(ProgId(id)),
                6 => Step::Slot(MapId(id)),
                _ => return None,
            });
        }
        let code = self.bytes(insns as usize * 8)?;
        let data = self.bytes(data as usize)?.to_vec();
        let insns = code.as_chunks::<8>().0.iter().map(|slot| RawInsn::from_bytes(*slot, Endian::NATIVE)).collect();
        let signature = seal.checked_sub(1).map(|len| self.bytes(len as usize).map(<[u8]>::to_vec));
        let seal = match signature {
            Some(signature) => Some(Seal { signature: signature? }),
            None => None,
        };
        self.0.is_empty().then_some(LoaderProgram { insns, data, maps: of_maps, programs, fds, steps: all, seal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> LoaderProgram {
        LoaderProgram {
            insns: vec![RawInsn::new(0xb7, 0, 0, 0, 0), RawInsn::new(0x95, 0, 0, 0, 0)],
            data: vec![7; 200],
            maps: vec![None, Some(LoaderMap { attr_off: 8, value: Some((80, 4)) })],
            programs: 1,
            fds: 4,
            steps: vec![Step::Types, Step::Map(MapId(1)), Step::Contents(MapId(1)), Step::Program(ProgId(0))],
            seal: None,
        }
    }

    #[test]
    fn what_was_attached_comes_back_and_the_object_stays_in_front() {
        let file = attach(b"object", &sample());
        assert!(file.starts_with(b"object"));
        assert_eq!(detach(&file), Ok(Some(sample())));
        for signature in [vec![], vec![0x30, 3, 2, 1, 7]] {
            let sealed = LoaderProgram { seal: Some(Seal { signature }), ..sample() };
            assert_eq!(detach(&attach(b"object", &sealed)), Ok(Some(sealed)));
        }
        assert_eq!(detach(b"object"), Ok(None));
        assert_eq!(detach(b""), Ok(None));
    }

    #[test]
    fn damage_is_told() {
        let file = attach(b"object", &sample());
        for at in 6..file.len() - 8 {
            let mut bad = file.clone();
            bad[at] ^= 1;
            assert!(detach(&bad).is_err(), "byte {at}");
        }
        // Right by its checksum, wrong by itself.
        let mut outside = sample();
        outside.maps[1] = Some(LoaderMap { attr_off: 150, value: None });
        assert!(detach(&attach(b"", &outside)).is_err());
        assert!(detach(&file[6..]).is_ok_and(|it| it.is_some()));
        assert!(detach(&file[10..]).is_err());
    }
}

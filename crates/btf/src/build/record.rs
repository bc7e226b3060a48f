//! Types as words.

use skep_insn::Endian;

use crate::raw::Info;
use crate::{Btf, Kind};

/// Records of words, one after the other. A record that was replaced by a longer one leaves its old words behind unused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    words: Vec<u32>,
    starts: Vec<(u32, u32)>,
}

impl Words {
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Of what is in use.
    pub(super) fn byte_len(&self) -> u64 {
        self.starts.iter().map(|&(_, len)| u64::from(len) * 4).sum()
    }

    pub(crate) fn get(&self, index: usize) -> &[u32] {
        let (start, len) = self.starts[index];
        &self.words[start as usize..(start + len) as usize]
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> &mut [u32] {
        let (start, len) = self.starts[index];
        &mut self.words[start as usize..(start + len) as usize]
    }

    pub(crate) fn kind(&self, index: usize) -> Kind {
        kind(self.get(index))
    }

    pub(crate) fn push(&mut self, words: &[u32]) {
        self.starts.push((self.words.len() as u32, words.len() as u32));
        self.words.extend_from_slice(words);
    }

    pub(super) fn replace(&mut self, index: usize, words: &[u32]) {
        if words.len() > self.starts[index].1 as usize {
            self.starts[index].0 = self.words.len() as u32;
            self.words.extend_from_slice(words);
        } else {
            let start = self.starts[index].0 as usize;
            self.words[start..start + words.len()].copy_from_slice(words);
        }
        self.starts[index].1 = words.len() as u32;
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.starts.truncate(len);
    }

    /// Appends the own types of a BTF as they are.
    pub(crate) fn load(&mut self, btf: &Btf) {
        let bytes = btf.type_bytes();
        self.words.reserve(bytes.len() / 4);
        self.starts.reserve(btf.own_len());
        for index in 0..btf.own_len() {
            let from = self.words.len() as u32;
            let record = btf.own_range(index).and_then(|range| bytes.get(range)).unwrap_or_default();
            self.words.extend(record.chunks(4).map(|word| {
                // Only an unknown kind can have a length that is no multiple of 4; its tail is padded.
                let mut full = [0; 4];
                full[..word.len()].copy_from_slice(word);
                match btf.endian() {
                    Endian::Little => u32::from_le_bytes(full),
                    Endian::Big => u32::from_be_bytes(full),
                }
            }));
            self.starts.push((from, self.words.len() as u32 - from));
        }
    }
}

pub(crate) fn kind(words: &[u32]) -> Kind {
    Kind(Info(words[1]).kind())
}

/// The indexes of the words that are offsets of names.
pub(crate) fn names(words: &[u32]) -> impl Iterator<Item = usize> + use<> {
    let step = match kind(words) {
        Kind::STRUCT | Kind::UNION | Kind::ENUM64 => 3,
        Kind::ENUM | Kind::FUNC_PROTO => 2,
        _ => usize::MAX,
    };
    std::iter::once(0).chain((3..words.len()).step_by(step).take_while(move |_| step != usize::MAX))
}

/// The indexes of the words that are numbers of types.
pub(crate) fn types(words: &[u32]) -> impl Iterator<Item = usize> + use<> {
    let kind = kind(words);
    let head = match kind {
        Kind::PTR | Kind::FUNC | Kind::FUNC_PROTO | Kind::VAR | Kind::DECL_TAG => Some(2),
        kind if kind.is_modifier() => Some(2),
        _ => None,
    };
    let (first, step) = match kind {
        Kind::ARRAY => (3, 1),
        Kind::STRUCT | Kind::UNION => (4, 3),
        Kind::FUNC_PROTO => (4, 2),
        Kind::DATASEC => (3, 3),
        _ => (usize::MAX, 1),
    };
    let end = if kind == Kind::ARRAY { 5 } else { words.len() };
    head.into_iter().chain((first..end).step_by(step))
}

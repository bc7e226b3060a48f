//! [`Offsets`]: where each type starts in the type section.
//!
//! Types have different lengths, so one is only found from the one before. The start of every [`STRIDE`]th is kept and the few
//! steps from there are made when they are asked for: for the kernel's 126,000 types that is 124 KiB instead of half a megabyte,
//! most of whose cost would be the kernel's, which has to find and clear the memory.

use std::ops::Range;

use skep_insn::Endian;

use crate::Kind;
use crate::kind::Layout;
use crate::raw::{self, Info, u32_at};

/// Of so many types, the start of one is kept.
pub(crate) const STRIDE: usize = 4;

/// Where types start.
pub(crate) struct Offsets {
    /// Of every `STRIDE`th type, in the type section.
    marks: Vec<u32>,
    len: u32,
    lengths: Lengths,
}

impl Offsets {
    pub(crate) fn new(marks: Vec<u32>, len: u32, lengths: Lengths) -> Offsets {
        Offsets { marks, len, lengths }
    }

    /// How many types there are.
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Where the type at an index starts in `types`, the section that this was made from.
    pub(crate) fn start(&self, types: &[u8], endian: Endian, index: usize) -> Option<usize> {
        if index >= self.len() {
            return None;
        }
        let mut start = *self.marks.get(index / STRIDE)? as usize;
        for _ in 0..index % STRIDE {
            start += self.length_at(types, endian, start)?;
        }
        Some(start)
    }

    /// The bytes of the type at an index, as a part of `types`.
    pub(crate) fn range(&self, types: &[u8], endian: Endian, index: usize) -> Option<Range<usize>> {
        let start = self.start(types, endian, index)?;
        Some(start..start + self.length_at(types, endian, start)?)
    }

    /// Calls `visit` with the index and the start of each type, in order, until it says `false`.
    #[inline]
    pub(crate) fn each(&self, types: &[u8], endian: Endian, mut visit: impl FnMut(u32, usize) -> bool) {
        // From each mark anew, so that the processor need not wait for one group of types to begin the next.
        let mut index = 0;
        for &mark in &self.marks {
            let mut start = mark as usize;
            let end = self.len.min(index + STRIDE as u32);
            while index < end {
                if !visit(index, start) {
                    return;
                }
                start += self.length_at(types, endian, start).unwrap_or_default();
                index += 1;
            }
        }
    }

    #[inline]
    fn length_at(&self, types: &[u8], endian: Endian, start: usize) -> Option<usize> {
        self.lengths.of(Info(u32_at(types, start + 4, endian)?))
    }
}

/// How long types are, per kind: all without elements, and one element. 0 and 0 is an unknown kind.
pub(crate) struct Lengths([(u16, u16); 128]);

impl Lengths {
    /// With the layout section of the BTF, which tells of kinds that this crate does not know.
    pub(crate) fn new(layouts: &[Layout]) -> Lengths {
        let mut known = [(0u16, 0u16); 128];
        for (kind, slot) in known.iter_mut().enumerate() {
            // A kind that this crate knows has the length that this crate knows, whatever the layout section says.
            let layout = match Kind(kind as u8) {
                Kind::VOID => None,
                kind => kind.layout().or_else(|| layouts.get(kind.0 as usize).copied()),
            };
            if let Some(it) = layout {
                *slot = (raw::TYPE_LEN as u16 + u16::from(it.fixed), u16::from(it.element));
            }
        }
        Lengths(known)
    }

    /// The length of a type with this `info` in bytes; `None` for an unknown kind.
    #[inline]
    pub(crate) fn of(&self, info: Info) -> Option<usize> {
        let (fixed, element) = self.0[usize::from(info.kind() & 0x7f)];
        (fixed != 0).then(|| usize::from(fixed) + usize::from(element) * info.vlen() as usize)
    }
}

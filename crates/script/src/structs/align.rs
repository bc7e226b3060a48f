//! How types are aligned, as far as BTF tells.

use std::collections::HashMap;

use skep_btf::{Btf, Type, TypeId};

/// How deep arrays of arrays are followed. C programs have three or four.
const MAX_DEPTH: u32 = 32;

/// Alignments of the structs of one BTF. Each struct is looked at once, whoever asks, so that forged types whose structs hold each
/// other thousands of times cost no more than their members.
#[derive(Debug, Default)]
pub(crate) struct Aligns(HashMap<TypeId, u32>);

impl Aligns {
    /// Natural alignment of a type, in bytes: that of its most demanding member, and 1 for a packed struct, which BTF does not
    /// mark: a member lies where its alignment forbids, or the size is no multiple. `btf` is the same at every call.
    pub(crate) fn of(&mut self, btf: &Btf, id: TypeId) -> u32 {
        self.at(btf, id, MAX_DEPTH)
    }

    fn at(&mut self, btf: &Btf, id: TypeId, depth: u32) -> u32 {
        let Some(depth) = depth.checked_sub(1) else { return 1 };
        match btf.resolve(id) {
            Ok((_, Type::Int(int))) => int.size().clamp(1, 16),
            Ok((_, Type::Float(float))) => float.size().clamp(1, 16),
            Ok((_, Type::Enum(it) | Type::Enum64(it))) => it.size().clamp(1, 8),
            Ok((_, Type::Ptr(_))) => 8,
            Ok((_, Type::Array(array))) => self.at(btf, array.element(), depth),
            Ok((id, Type::Struct(it) | Type::Union(it))) => {
                if let Some(known) = self.0.get(&id) {
                    return *known;
                }
                // A struct that holds itself exists only in forged types; this ends the walk.
                self.0.insert(id, 1);
                let mut align = 1;
                let mut packed = false;
                for member in it.members() {
                    let own = self.at(btf, member.type_id(), depth);
                    let bit_field = member.bitfield_size().is_some();
                    packed |= !bit_field && member.bit_offset() % (8 * own) != 0;
                    align = align.max(own);
                }
                let align = if packed || it.size() % align != 0 { 1 } else { align };
                self.0.insert(id, align);
                align
            }
            _ => 1,
        }
    }
}

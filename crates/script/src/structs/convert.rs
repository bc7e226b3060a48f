//! From types of BTF to types of the language.

use std::sync::Arc;

use skep_btf::{Btf, Kind, Type as BtfType, TypeId};

use super::machine::Place;
use super::{Origin, Structs};
use crate::types::{Enum, Space, Type};

/// How deep arrays of pointers to arrays ... are followed. C programs have three or four.
const MAX_DEPTH: u32 = 32;

impl Structs<'_> {
    /// The type at `place` of the machine. What the language has no value for (functions, `long double`) is `Void`.
    pub(super) fn convert(&self, place: Place) -> Type {
        self.convert_at(place, MAX_DEPTH, true)
    }

    /// As [`Structs::convert`], with `void *` for every pointer: enough for a member that is only printed, and it makes no
    /// struct known that the script never mentions.
    pub(super) fn convert_shown(&self, place: Place) -> Type {
        self.convert_at(place, MAX_DEPTH, false)
    }

    fn convert_at(&self, place: Place, depth: u32, pointees: bool) -> Type {
        let (no, id) = self.machine.normal(place);
        let Some(btf) = self.machine.btf(no) else { return Type::Void };
        let Some(depth) = depth.checked_sub(1) else { return Type::Void };
        let Ok((id, ty)) = btf.resolve(id) else { return Type::Void };
        match ty {
            BtfType::Int(int) if int.is_bool() => Type::Bool,
            BtfType::Int(int) => match int.size() {
                size @ (1 | 2 | 4 | 8) => Type::Int { size: size as u8, signed: int.is_signed() },
                16 => Type::Array { elem: Arc::new(Type::U64), count: 2 },
                _ => Type::Void,
            },
            BtfType::Float(float) => match float.size() {
                size @ (4 | 8) => Type::Float { size: size as u8 },
                _ => Type::Void,
            },
            BtfType::Ptr(ptr) if !pointees => Type::Void.pointer(tagged_space(&btf, ptr.type_id())),
            BtfType::Ptr(ptr) => {
                self.convert_at((no, ptr.type_id()), depth, true).pointer(tagged_space(&btf, ptr.type_id()))
            }
            BtfType::Array(array) => {
                let text = matches!(btf.resolve(array.element()), Ok((_, BtfType::Int(int))) if int.is_char());
                array_of(self.convert_at((no, array.element()), depth, pointees), array.len(), text)
            }
            BtfType::Struct(_) | BtfType::Union(_) => {
                let Ok(btf_id) = btf.type_by_id(id) else { return Type::Void };
                let (BtfType::Struct(it) | BtfType::Union(it)) = btf_id else { return Type::Void };
                Type::Struct(self.reference(
                    Origin::Machine(self.machine.normal((no, id))),
                    if it.is_union() { "union" } else { "struct" },
                    it.name(),
                    || (it.size(), self.aligns.borrow_mut().entry(no).or_default().of(&btf, id)),
                ))
            }
            BtfType::Fwd(fwd) => {
                let (tag, kind) = if fwd.is_union() { ("union", Kind::UNION) } else { ("struct", Kind::STRUCT) };
                // A module's forward declaration is mostly of a struct of the kernel.
                let vmlinux = self.machine.vmlinux().filter(|_| !self.machine.is_user(no));
                match vmlinux.and_then(|it| it.find(fwd.name(), kind)) {
                    Some(found) => self.convert_at((super::machine::BtfNo(0), found), depth, pointees),
                    None => Type::Struct(self.unknown(tag, fwd.name())),
                }
            }
            BtfType::Enum(it) | BtfType::Enum64(it) => {
                let place = self.machine.normal((no, id));
                if let Some(known) = self.enums.borrow().get(&place) {
                    return Type::Enum(known.clone());
                }
                let made = Arc::new(Enum {
                    name: it.name().to_owned(),
                    size: match it.size() {
                        size @ (1 | 2 | 8) => size as u8,
                        _ => 4,
                    },
                    signed: it.is_signed(),
                    names: it.values().map(|value| (value.value, value.name.to_owned())).collect(),
                });
                self.enums.borrow_mut().insert(place, made.clone());
                Type::Enum(made)
            }
            BtfType::Var(var) => self.convert_at((no, var.type_id()), depth, pointees),
            _ => Type::Void,
        }
    }
}

/// `elem[count]`; text when the elements are `char`. A flexible array has 0 elements and stays an array.
pub(crate) fn array_of(elem: Type, count: u32, text: bool) -> Type {
    // Sizes are 32 bits wide everywhere; nothing in C comes near.
    let count = count.min(u32::MAX / elem.size().max(1));
    if text && count > 0 { Type::String { size: count } } else { Type::Array { elem: Arc::new(elem), count } }
}

/// Space that the type tags in front of a pointee say.
fn tagged_space(btf: &Btf, mut id: TypeId) -> Space {
    let mut space = Space::None;
    for _ in 0..MAX_DEPTH {
        match btf.type_by_id(id) {
            Ok(BtfType::TypeTag(tag)) => {
                match tag.name() {
                    // `address_space(n)` is what kernels without tags of sparse leave of named address spaces (`__seg_gs`).
                    "user" => return Space::User,
                    "percpu" | "rcu" | "kptr" | "kptr_untrusted" | "percpu_kptr" => space = Space::Kernel,
                    _ => {}
                }
                id = tag.type_id();
            }
            Ok(BtfType::Const(it) | BtfType::Volatile(it) | BtfType::Restrict(it)) => id = it.type_id(),
            _ => break,
        }
    }
    space
}

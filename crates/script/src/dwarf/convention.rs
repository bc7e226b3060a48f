//! Where arguments are when a function is entered: the System V ABI of x86-64 (version 1.0, 3.2.3) and AAPCS64.
//!
//! Places are counted as `argN` is: the registers for integers first, then the stack in steps of 8 bytes.

use skep_btf::{Btf, Type, TypeId};

use crate::structs::Aligns;
use crate::target::Architecture;

/// Registers for integer arguments on the architecture that code is generated for: `argN` below this is a register.
pub const REGISTERS: u32 = if cfg!(target_arch = "x86_64") { 6 } else { 8 };

/// How deep structs are looked into.
const MAX_DEPTH: u32 = 32;

/// How many members of one argument are looked at.
const MAX_MEMBERS: u32 = 4096;

/// Where an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// From this slot on, in as many as its size needs.
    Slot(u32),
    /// This slot has its address.
    Pointee(u32),
    /// Nowhere that a program can read.
    Absent(Absent),
}

/// Why a program cannot read an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Absent {
    /// A floating-point number of this many bytes, or a struct with one: it is in a vector register.
    Floating(u32),
    /// The language or the compiler promises nothing about it.
    Unspecified,
}

impl std::fmt::Display for Absent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Absent::Floating(_) => "floating-point numbers are passed in vector registers, which programs cannot read",
            Absent::Unspecified => "it is not passed as the platform's calling convention says",
        })
    }
}

/// What decides where an argument goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Nothing to pass.
    Empty,
    /// In general registers.
    Integer,
    /// In vector registers.
    Floating,
    /// Some of it in each.
    Mixed,
    /// On the stack (x86-64) or behind a pointer (aarch64).
    Memory,
}

/// Places of the arguments of one function.
pub(super) struct Convention<'b> {
    architecture: Architecture,
    btf: &'b Btf,
    /// General registers that are taken.
    general: u32,
    /// Vector registers that are taken.
    vector: u32,
    /// Slots of the stack that are taken.
    stack: u32,
    aligns: Aligns,
}

impl<'b> Convention<'b> {
    /// Before the first argument of a function that returns `result`; `by_reference` says that its language returns that
    /// type in memory of the caller whatever its size.
    pub(super) fn new(architecture: Architecture, btf: &'b Btf, result: TypeId, by_reference: bool) -> Convention<'b> {
        let mut convention =
            Convention { architecture, btf, general: 0, vector: 0, stack: 0, aligns: Aligns::default() };
        // The caller says where in the first register; aarch64 has a register of its own for it.
        if architecture == Architecture::X86_64 && (by_reference || convention.class(result).0 == Class::Memory) {
            convention.general = 1;
        }
        convention
    }

    fn registers(&self) -> u32 {
        if self.architecture == Architecture::X86_64 { 6 } else { 8 }
    }

    /// Where the next argument is.
    pub(super) fn next(&mut self, ty: TypeId, by_reference: bool) -> At {
        if by_reference {
            return self.pointee();
        }
        let (class, size) = self.class(ty);
        let wide = self.aligns.of(self.btf, ty) >= 16;
        match class {
            Class::Empty => At::Absent(Absent::Unspecified),
            Class::Memory if self.architecture == Architecture::Aarch64 => self.pointee(),
            Class::Integer => self.general(size.div_ceil(8), wide),
            Class::Memory => self.on_stack(size.div_ceil(8), wide),
            Class::Floating => {
                let wanted = if self.architecture == Architecture::X86_64 { size.div_ceil(8) } else { 1 };
                if self.vector + wanted <= 8 {
                    self.vector += wanted;
                } else {
                    self.on_stack(size.div_ceil(8), wide);
                }
                At::Absent(Absent::Floating(size))
            }
            Class::Mixed => {
                if self.general < self.registers() && self.vector < 8 {
                    self.general += 1;
                    self.vector += 1;
                    return At::Absent(Absent::Floating(size));
                }
                self.on_stack(size.div_ceil(8), wide)
            }
        }
    }

    fn pointee(&mut self) -> At {
        match self.general(1, false) {
            At::Slot(slot) => At::Pointee(slot),
            other => other,
        }
    }

    /// In the next registers when all of it fits, else on the stack.
    fn general(&mut self, slots: u32, wide: bool) -> At {
        let mut first = self.general;
        if self.architecture == Architecture::Aarch64 && wide {
            first = first.next_multiple_of(2);
        }
        if first + slots <= self.registers() {
            self.general = first + slots;
            return At::Slot(first);
        }
        // What follows may still go into registers on x86-64, but not on aarch64.
        if self.architecture == Architecture::Aarch64 {
            self.general = self.registers();
        }
        self.on_stack(slots, wide)
    }

    fn on_stack(&mut self, slots: u32, wide: bool) -> At {
        if wide {
            self.stack = self.stack.next_multiple_of(2);
        }
        let first = self.stack;
        self.stack = self.stack.saturating_add(slots).min(1 << 24);
        At::Slot(self.registers() + first)
    }

    /// Class and size, in bytes.
    fn class(&self, ty: TypeId) -> (Class, u32) {
        let Ok((_, resolved)) = self.btf.resolve(ty) else { return (Class::Empty, 0) };
        match resolved {
            Type::Int(int) => (Class::Integer, int.size()),
            Type::Ptr(_) => (Class::Integer, 8),
            Type::Enum(it) | Type::Enum64(it) => (Class::Integer, it.size()),
            // x87's `long double`; aarch64 has it in a vector register.
            Type::Float(float) if float.size() > 8 && self.architecture == Architecture::X86_64 => {
                (Class::Floating, float.size())
            }
            Type::Float(float) => (Class::Floating, float.size()),
            Type::Struct(it) | Type::Union(it) => (self.class_of_struct(ty, it.size()), it.size()),
            // Vectors are arrays in BTF.
            Type::Array(_) => (Class::Floating, 16),
            _ => (Class::Empty, 0),
        }
    }

    fn class_of_struct(&self, ty: TypeId, size: u32) -> Class {
        if size == 0 {
            return Class::Empty;
        }
        // For each 8 bytes: something that is no floating-point number is there; and the sizes of those that are.
        let mut general = [false; 8];
        let mut floats = Vec::new();
        let mut left = MAX_MEMBERS;
        if size > 64 || !self.eightbytes(ty, 0, &mut general, &mut floats, MAX_DEPTH, &mut left) {
            return Class::Memory;
        }
        let any_general = general.contains(&true);
        if self.architecture == Architecture::Aarch64 {
            // Up to four floating-point numbers of one size go into vector registers.
            let same = floats.windows(2).all(|pair| pair[0] == pair[1]);
            return match (any_general, floats.len()) {
                (false, 1..=4) if same => Class::Floating,
                _ if size > 16 => Class::Memory,
                _ => Class::Integer,
            };
        }
        if size > 16 || floats.contains(&16) {
            return Class::Memory;
        }
        let count = size.div_ceil(8) as usize;
        match general[..count].iter().filter(|it| **it).count() {
            0 => Class::Floating,
            all if all == count => Class::Integer,
            _ => Class::Mixed,
        }
    }

    /// Marks what lies in which 8 bytes; `false` when that is unaligned or there is too much to look at.
    fn eightbytes(
        &self,
        ty: TypeId,
        off: u64,
        general: &mut [bool; 8],
        floats: &mut Vec<u32>,
        depth: u32,
        left: &mut u32,
    ) -> bool {
        let Some(depth) = depth.checked_sub(1) else { return false };
        let Some(rest) = left.checked_sub(1) else { return false };
        *left = rest;
        let mut mark = |size: u32| {
            let (first, last) = (off / 8, off.saturating_add(u64::from(size.max(1)) - 1) / 8);
            for at in first..=last.min(7) {
                if let Some(mark) = general.get_mut(at as usize) {
                    *mark = true;
                }
            }
            off.is_multiple_of(u64::from(size.clamp(1, 16)))
        };
        match self.btf.resolve(ty) {
            Ok((_, Type::Int(int))) => mark(int.size()),
            Ok((_, Type::Ptr(_))) => mark(8),
            Ok((_, Type::Enum(it) | Type::Enum64(it))) => mark(it.size()),
            Ok((_, Type::Float(float))) => {
                floats.push(float.size());
                off.is_multiple_of(u64::from(float.size().clamp(1, 16)))
            }
            Ok((_, Type::Array(array))) => {
                let Ok(size) = self.btf.size_of(array.element()) else { return false };
                (0..array.len().min(64)).all(|at| {
                    self.eightbytes(
                        array.element(),
                        off.saturating_add(u64::from(at).saturating_mul(size)),
                        general,
                        floats,
                        depth,
                        left,
                    )
                })
            }
            Ok((_, Type::Struct(it) | Type::Union(it))) => it.members().all(|member| {
                let at = off.saturating_add(u64::from(member.bit_offset()) / 8);
                match member.bitfield_size() {
                    Some(_) => {
                        if let Some(mark) = general.get_mut(at as usize / 8) {
                            *mark = true;
                        }
                        true
                    }
                    None => self.eightbytes(member.type_id(), at, general, floats, depth, left),
                }
            }),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_btf::{Builder, Endian, IntEncoding, MemberDef, TypeDef};

    /// `int` 1, `double` 2, `__int128` 3, then structs of these: (offset, type).
    fn places(architecture: Architecture, structs: &[(u32, &[(u32, u32)])], result: u32, params: &[u32]) -> Vec<At> {
        let mut b = Builder::new();
        b.add(TypeDef::Int { name: "int", size: 4, bits: 32, encoding: IntEncoding::SIGNED }).unwrap();
        b.add(TypeDef::Float { name: "double", size: 8 }).unwrap();
        b.add(TypeDef::Int { name: "__int128", size: 16, bits: 128, encoding: IntEncoding::SIGNED }).unwrap();
        for (size, members) in structs {
            let member = |(off, ty): &(u32, u32)| MemberDef {
                name: "m",
                type_id: TypeId(*ty),
                bit_offset: off * 8,
                bitfield_size: None,
            };
            let members: Vec<MemberDef<'_>> = members.iter().map(member).collect();
            b.add(TypeDef::Struct { name: "s", size: *size, members: &members }).unwrap();
        }
        let btf = Btf::parse(b.finish(Endian::Little).unwrap()).unwrap();
        let mut convention = Convention::new(architecture, &btf, TypeId(result), false);
        params.iter().map(|ty| convention.next(TypeId(*ty), false)).collect()
    }

    const FLOAT: At = At::Absent(Absent::Floating(8));

    #[test]
    fn system_v() {
        let x86 = |structs: &[(u32, &[(u32, u32)])], result, params: &[u32]| {
            places(Architecture::X86_64, structs, result, params)
        };
        let slots = |slots: &[u32]| slots.iter().map(|slot| At::Slot(*slot)).collect::<Vec<_>>();
        assert_eq!(x86(&[], 0, &[1; 8]), slots(&[0, 1, 2, 3, 4, 5, 6, 7]));
        assert_eq!(x86(&[], 0, &[1, 2, 1]), [At::Slot(0), FLOAT, At::Slot(1)]);
        // Nine doubles: the last is on the stack, before the seventh integer.
        let many = x86(&[], 0, &[2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(many.last(), Some(&At::Slot(7)));
        // Two eightbytes that do not fit into the last register go to the stack as a whole, and the next int fills it.
        let pair: (u32, &[(u32, u32)]) = (16, &[(0, 1), (4, 1), (8, 1)]);
        assert_eq!(x86(&[pair], 0, &[1, 1, 1, 1, 1, 4, 1]), slots(&[0, 1, 2, 3, 4, 6, 5]));
        let large: (u32, &[(u32, u32)]) = (24, &[(0, 1), (16, 1)]);
        assert_eq!(x86(&[large], 0, &[1, 4, 1, 4]), slots(&[0, 6, 1, 9]));
        // A large result is written where the first register says.
        assert_eq!(x86(&[large], 4, &[1]), slots(&[1]));
        let mixed: (u32, &[(u32, u32)]) = (16, &[(0, 1), (8, 2)]);
        assert_eq!(x86(&[mixed], 0, &[4, 1]), [At::Absent(Absent::Floating(16)), At::Slot(1)]);
        let doubles: (u32, &[(u32, u32)]) = (16, &[(0, 2), (8, 2)]);
        assert_eq!(x86(&[doubles], 4, &[4, 1]), [At::Absent(Absent::Floating(16)), At::Slot(0)]);
        assert_eq!(x86(&[], 0, &[1, 3, 1]), slots(&[0, 1, 3]));
        // Packed: unaligned members are in memory.
        let packed: (u32, &[(u32, u32)]) = (9, &[(1, 2), (0, 1)]);
        assert_eq!(x86(&[packed], 0, &[4]), slots(&[6]));
    }

    /// Types that hold each other thousands of times, several levels deep: a walk without memory would not end in this life.
    #[test]
    fn forged_types_end() {
        let members = |ty: u32| (0..4096).map(|_| (0, ty)).collect::<Vec<(u32, u32)>>();
        let levels: Vec<Vec<(u32, u32)>> = (0..6).map(|level| members(3 + level)).collect();
        let structs: Vec<(u32, &[(u32, u32)])> = levels.iter().map(|level| (16, &level[..])).collect();
        for architecture in [Architecture::X86_64, Architecture::Aarch64] {
            places(architecture, &structs, 9, &[9]);
        }
        // The same over arrays, of which each element is looked at.
        let mut b = Builder::new();
        b.add(TypeDef::Int { name: "long", size: 8, bits: 64, encoding: IntEncoding::SIGNED }).unwrap();
        let mut of = TypeId(1);
        for _ in 0..6 {
            let array = b.add(TypeDef::Array { element: of, index: TypeId(1), len: 64 }).unwrap();
            let member = MemberDef { name: "m", type_id: array, bit_offset: 0, bitfield_size: None };
            of = b.add(TypeDef::Struct { name: "s", size: 16, members: &[member; 4096] }).unwrap();
        }
        let btf = Btf::parse(b.finish(Endian::Little).unwrap()).unwrap();
        let mut convention = Convention::new(Architecture::X86_64, &btf, of, false);
        assert_eq!(convention.next(of, false), At::Slot(6));
    }

    #[test]
    fn aapcs64() {
        let arm = |structs: &[(u32, &[(u32, u32)])], result, params: &[u32]| {
            places(Architecture::Aarch64, structs, result, params)
        };
        let large: (u32, &[(u32, u32)]) = (24, &[(0, 1), (16, 1)]);
        assert_eq!(arm(&[large], 4, &[1, 4, 1]), [At::Slot(0), At::Pointee(1), At::Slot(2)]);
        assert_eq!(arm(&[], 0, &[1, 3, 1]), [At::Slot(0), At::Slot(2), At::Slot(4)]);
        let pair: (u32, &[(u32, u32)]) = (16, &[(0, 1), (8, 1)]);
        assert_eq!(arm(&[pair], 0, &[1, 1, 1, 1, 1, 1, 1, 4, 1]).split_off(7), [At::Slot(8), At::Slot(10)]);
        let mixed: (u32, &[(u32, u32)]) = (16, &[(0, 1), (8, 2)]);
        assert_eq!(arm(&[mixed], 0, &[4, 1]), [At::Slot(0), At::Slot(2)]);
        let four: (u32, &[(u32, u32)]) = (32, &[(0, 2), (8, 2), (16, 2), (24, 2)]);
        assert_eq!(arm(&[four], 0, &[4, 1]), [At::Absent(Absent::Floating(32)), At::Slot(0)]);
    }
}

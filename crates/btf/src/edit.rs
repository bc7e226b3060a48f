//! [`Edit`]: a few changes to a BTF, in place.
//!
//! Type numbers and string offsets stay what they were, since `.BTF.ext` and instructions name them; what is new comes
//! last. A [`Builder`](crate::Builder) can do all of this and more, but takes every record and every string apart first. A
//! loader that corrects a few numbers of each object it loads copies the bytes once and writes those numbers.

use skep_insn::Endian;

use crate::raw::{HEADER_LEN, Info};
use crate::{Btf, FuncLinkage, Kind, SecVar, Type, TypeId, VarLinkage};

/// A BTF being changed. A type of the base, or a number that is no type, is left alone without a word: the caller has looked
/// at the type already.
#[derive(Debug)]
pub struct Edit<'b> {
    btf: &'b Btf,
    /// The bytes as they were, changed in place.
    bytes: Vec<u8>,
    /// Records that go behind the last type.
    added_types: Vec<u8>,
    added_strings: Vec<u8>,
    n_types: u32,
}

impl<'b> Edit<'b> {
    /// Starts from a copy of the bytes of `btf`.
    pub fn new(btf: &'b Btf) -> Edit<'b> {
        Edit {
            btf,
            bytes: btf.as_bytes().to_vec(),
            added_types: Vec::new(),
            added_strings: Vec::new(),
            n_types: btf.len(),
        }
    }

    /// The types as they were.
    pub fn btf(&self) -> &'b Btf {
        self.btf
    }

    /// Sets the size in bytes of a type that has one.
    pub fn set_size(&mut self, id: TypeId, size: u32) {
        self.put(id, 8, size);
    }

    /// Makes a reference (pointer, typedef, variable) refer to another type.
    pub fn set_target(&mut self, id: TypeId, target: TypeId) {
        self.put(id, 8, target.0);
    }

    /// Sets who can see a variable.
    pub fn set_var_linkage(&mut self, id: TypeId, linkage: VarLinkage) {
        if let Ok(Type::Var(_)) = self.btf.type_by_id(id) {
            self.put(id, 12, linkage.0);
        }
    }

    /// Sets who can see a function.
    pub fn set_func_linkage(&mut self, id: TypeId, linkage: FuncLinkage) {
        if let Ok(Type::Func(_)) = self.btf.type_by_id(id) {
            self.put(id, 4, Info::new(Kind::FUNC.0, linkage.0, false).0);
        }
    }

    /// Sets the variable at position `index` of a data section.
    pub fn set_section_var(&mut self, id: TypeId, index: usize, var: SecVar) {
        let at = 12 + index * 12;
        self.put(id, at, var.type_id.0);
        self.put(id, at + 4, var.offset);
        self.put(id, at + 8, var.size);
    }

    /// Gives the parameter at position `index` of a prototype another name, an offset from [`Edit::add_string`].
    pub fn set_param_name(&mut self, id: TypeId, index: usize, name_off: u32) {
        self.put(id, 12 + index * 8, name_off);
    }

    /// Adds a string and gives its offset. It is not looked for among those that are there.
    pub fn add_string(&mut self, text: &str) -> u32 {
        let off = self.btf.strings_len() + self.added_strings.len() as u32;
        self.added_strings.extend_from_slice(text.as_bytes());
        self.added_strings.push(0);
        off
    }

    /// Adds a signed integer of `size` bytes, called by the string at `name_off`.
    pub fn add_int(&mut self, name_off: u32, size: u32) -> TypeId {
        const SIGNED: u32 = 1 << 24;
        self.add([name_off, Info::new(Kind::INT.0, 0, false).0, size, SIGNED | (size * 8)])
    }

    /// Adds a variable, called by the string at `name_off`.
    pub fn add_var(&mut self, name_off: u32, type_id: TypeId, linkage: VarLinkage) -> TypeId {
        self.add([name_off, Info::new(Kind::VAR.0, 0, false).0, type_id.0, linkage.0])
    }

    /// The changed bytes. Where something was added they get a plain header, whatever the old one was, and nothing but
    /// types and strings behind it.
    pub fn finish(self) -> Vec<u8> {
        if self.added_types.is_empty() && self.added_strings.is_empty() {
            return self.bytes;
        }
        let types = self.bytes.get(self.btf.type_range()).unwrap_or_default();
        let strings = self.btf.string_bytes_own();
        let endian = self.btf.endian();
        let mut out = self.bytes.get(..4).unwrap_or_default().to_vec();
        let types_len = (types.len() + self.added_types.len()) as u32;
        let strings_len = (strings.len() + self.added_strings.len()) as u32;
        for word in [HEADER_LEN, 0, types_len, types_len, strings_len] {
            out.extend_from_slice(&bytes_of(word, endian));
        }
        for piece in [types, &self.added_types, strings, &self.added_strings] {
            out.extend_from_slice(piece);
        }
        out
    }

    fn add(&mut self, words: [u32; 4]) -> TypeId {
        for word in words {
            self.added_types.extend_from_slice(&bytes_of(word, self.btf.endian()));
        }
        let id = TypeId(self.n_types);
        self.n_types += 1;
        id
    }

    /// Writes a word of a type's record, `off` bytes into it; outside of the record nothing happens.
    fn put(&mut self, id: TypeId, off: usize, value: u32) {
        let types = self.btf.type_range();
        let Some(index) = id.0.checked_sub(self.btf.first_id().0).map(|index| index as usize) else { return };
        let Some(record) = self.btf.own_range(index) else { return };
        let at = record.start + off;
        if at + 4 > record.end {
            return;
        }
        if let Some(place) = self.bytes.get_mut(types.start + at..types.start + at + 4) {
            place.copy_from_slice(&bytes_of(value, self.btf.endian()));
        }
    }
}

fn bytes_of(word: u32, endian: Endian) -> [u8; 4] {
    match endian {
        Endian::Little => word.to_le_bytes(),
        Endian::Big => word.to_be_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Builder, IntEncoding, TypeDef};

    fn sample(endian: Endian) -> Btf {
        let mut builder = Builder::new();
        let int = TypeDef::Int { name: "int", size: 4, bits: 32, encoding: IntEncoding::SIGNED };
        let int = builder.add(int).unwrap();
        let var = TypeDef::Var { name: "x", type_id: int, linkage: VarLinkage::EXTERN };
        let var = builder.add(var).unwrap();
        let vars = [SecVar { type_id: var, offset: 0, size: 4 }];
        builder.add(TypeDef::Datasec { name: ".data", size: 0, vars: &vars }).unwrap();
        Btf::parse(builder.finish(endian).unwrap()).unwrap()
    }

    #[test]
    fn what_is_changed_and_added_is_read_back_in_either_byte_order() {
        for endian in [Endian::Little, Endian::Big] {
            let btf = sample(endian);
            let mut edit = Edit::new(&btf);
            edit.set_size(TypeId(3), 16);
            edit.set_var_linkage(TypeId(2), VarLinkage::GLOBAL);
            let name = edit.add_string("long long");
            let long = edit.add_int(name, 8);
            let name = edit.add_string("y");
            let y = edit.add_var(name, long, VarLinkage::STATIC);
            edit.set_section_var(TypeId(3), 0, SecVar { type_id: y, offset: 8, size: 8 });
            let changed = Btf::parse(edit.finish()).unwrap();
            changed.validate().unwrap();
            assert_eq!(changed.endian(), endian);
            let Type::Datasec(section) = changed.type_by_id(TypeId(3)).unwrap() else { panic!("not a section") };
            assert_eq!((section.name(), section.size()), (".data", 16));
            assert_eq!(section.vars().next(), Some(SecVar { type_id: y, offset: 8, size: 8 }));
            let Type::Var(x) = changed.type_by_id(TypeId(2)).unwrap() else { panic!("not a variable") };
            assert_eq!((x.name(), x.linkage()), ("x", VarLinkage::GLOBAL));
            let Type::Var(y) = changed.type_by_id(y).unwrap() else { panic!("not a variable") };
            assert_eq!((y.name(), changed.size_of(y.type_id())), ("y", Ok(8)));
        }
    }

    #[test]
    fn what_lies_outside_of_a_type_is_left_alone() {
        let btf = sample(Endian::NATIVE);
        let mut edit = Edit::new(&btf);
        // The second variable of one, a prototype's parameter of an integer, numbers that are no types.
        edit.set_section_var(TypeId(3), 1, SecVar { type_id: TypeId(7), offset: 7, size: 7 });
        edit.set_param_name(TypeId(1), 1, 7);
        edit.set_size(TypeId(99), 7);
        edit.set_size(TypeId::VOID, 7);
        edit.set_func_linkage(TypeId(2), FuncLinkage::STATIC);
        assert_eq!(edit.finish(), btf.as_bytes());
    }
}

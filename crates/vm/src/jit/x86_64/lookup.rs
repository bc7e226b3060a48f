//! Lookups in known maps, in line: of an array a compare and a multiplication; of a hash map a call of the function for the size of its
//! keys. The key is in the frame, so nothing is checked.

use std::sync::Arc;

use super::asm::{Arith, Bits, Cc, R9, R11, RAX, RBP, RDX, RSI, RSP, Shift, at};
use super::emit::{CPU, Emitter, HERE};
use super::glue::Rare;
use crate::cpu::layout;
use crate::jit::native::finder;
use crate::jit::{Backend, Lookup};
use crate::map::Values;

impl Emitter {
    pub(super) fn look_up_known(&mut self, lookup: &Lookup<'_>) {
        let map = lookup.map;
        match (map.values(), map.hash().and_then(|_| finder(map.spec().key_size))) {
            (Some(_), Some(find)) => self.look_up_in_hash(lookup, find),
            (Some(values), None) if map.hash().is_none() && map.spec().key_size == 4 => {
                self.look_up_in_array(lookup, values);
            }
            _ => self.helper(lookup.at),
        }
    }

    fn look_up_in_array(&mut self, lookup: &Lookup<'_>, values: &Values) {
        let back = self.asm.label();
        let nothing = self.rare(Rare::Nothing { back });
        let per_cpu = u64::from(values.count()) * values.stride();
        let (Ok(stride), Ok(per_cpu)) = (i32::try_from(values.stride()), i32::try_from(per_cpu)) else {
            return self.helper(lookup.at);
        };
        let asm = &mut self.asm;
        asm.load(Bits::B32, RAX, at(RBP, lookup.key_off));
        // Of 32 bits, and so without a sign.
        asm.arith_imm(Arith::Cmp, Bits::B32, RAX, values.count() as i32);
        asm.jcc(Cc::ABOVE_EQUAL, nothing);
        if values.cpus() != 1 {
            asm.load(Bits::B64, R9, at(RSP, CPU));
            asm.load(Bits::B32, R9, at(R9, layout::NUMBER as i32));
            asm.imul_imm(Bits::B64, R9, per_cpu);
        }
        match stride & (stride - 1) == 0 {
            true => asm.shift_imm(Shift::Shl, Bits::B64, RAX, stride.trailing_zeros() as u8),
            false => asm.imul_imm(Bits::B64, RAX, stride),
        }
        asm.mov_imm(R11, values.block().addr());
        asm.arith(Arith::Add, Bits::B64, RAX, R11);
        if values.cpus() != 1 {
            asm.arith(Arith::Add, Bits::B64, RAX, R9);
        }
        asm.bind(back);
    }

    fn look_up_in_hash(&mut self, lookup: &Lookup<'_>, find: u64) {
        self.asm.load(Bits::B64, R11, at(RSP, HERE));
        self.save(1..6);
        self.asm.lea(Bits::B64, RSI, at(RBP, lookup.key_off));
        self.asm.mov_imm(RDX, Arc::as_ptr(lookup.map).expose_provenance() as u64);
        self.call_rust(find);
        self.asm.load(Bits::B64, R11, at(RSP, HERE));
        self.restore(1..6);
    }
}

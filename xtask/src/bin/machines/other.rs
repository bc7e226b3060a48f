//! rbpf. It knows no maps: its programs hold the address of one of those below, and two helpers use it.
//!
//! # Safety
//!
//! Compiled code and helpers get at the input, the maps below and what they hold, all of which live until the process ends. Programs
//! that are measured are the kernel's verifier's to judge.
#![expect(unsafe_code, reason = "code without checks, and helpers that follow its pointers")]

use std::cell::UnsafeCell;

use anyhow::{Result, anyhow};
use rbpf::EbpfVmRaw;
use skep_insn::{Endian, slots_to_bytes};

use crate::object::{self, Loaded, MapShape};
use crate::{Measured, once, timed};

/// As in tests/bench/vm/native.c.
struct Map {
    shape: MapShape,
    state: UnsafeCell<State>,
}

struct State {
    heads: Vec<u32>,
    next: Vec<u32>,
    keys: Vec<u64>,
    values: Vec<u64>,
    used: usize,
}

const ARRAY: u32 = 2;

impl Map {
    fn new(shape: MapShape) -> Map {
        let count = shape.max_entries as usize;
        let words = |bytes: u32| bytes.div_ceil(8) as usize;
        let state = State {
            heads: vec![0; count],
            next: vec![0; count],
            keys: vec![0; count * words(shape.key_size)],
            values: vec![0; count * words(shape.value_size)],
            used: 0,
        };
        Map { shape, state: UnsafeCell::new(state) }
    }
}

fn hash_of(key: &[u64]) -> usize {
    let mut hash = 0x243f_6a88_85a3_08d3u64;
    for word in key {
        hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 32;
    }
    hash as u32 as usize
}

impl State {
    fn find(&self, key: &[u64]) -> Option<usize> {
        let mut at = self.heads[hash_of(key) & (self.heads.len() - 1)];
        while let Some(index) = at.checked_sub(1) {
            let index = index as usize;
            if self.keys[index * key.len()..][..key.len()] == *key {
                return Some(index);
            }
            at = self.next[index];
        }
        None
    }
}

/// The map and its state.
fn parts(map: u64) -> (&'static MapShape, &'static mut State) {
    // SAFETY: programs hold addresses of maps that were leaked.
    let map = unsafe { &*std::ptr::with_exposed_provenance::<Map>(map as usize) };
    // SAFETY: one thread, and each helper ends before the next one begins.
    (&map.shape, unsafe { &mut *map.state.get() })
}

fn words(addr: u64, bytes: u32) -> &'static [u64] {
    // SAFETY: programs hold keys and values of the size of the map's, as words on their stack.
    unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(addr as usize), bytes as usize / 8) }
}

fn lookup(map: u64, key: u64, _: u64, _: u64, _: u64) -> u64 {
    let (shape, state) = parts(map);
    let index = if shape.kind == ARRAY {
        // SAFETY: as in `words`.
        let index = unsafe { std::ptr::with_exposed_provenance::<u32>(key as usize).read() };
        if index >= shape.max_entries {
            return 0;
        }
        index as usize
    } else {
        match state.find(words(key, shape.key_size)) {
            Some(index) => index,
            None => return 0,
        }
    };
    state.values[index * shape.value_size as usize / 8..].as_mut_ptr().expose_provenance() as u64
}

fn update(map: u64, key: u64, value: u64, _: u64, _: u64) -> u64 {
    let (shape, state) = parts(map);
    let (key, value) = (words(key, shape.key_size), words(value, shape.value_size));
    let index = state.find(key).unwrap_or_else(|| {
        let index = state.used;
        state.used += 1;
        state.keys[index * key.len()..][..key.len()].copy_from_slice(key);
        let bucket = hash_of(key) & (state.heads.len() - 1);
        state.next[index] = state.heads[bucket];
        state.heads[bucket] = index as u32 + 1;
        index
    });
    state.values[index * value.len()..][..value.len()].copy_from_slice(value);
    0
}

pub(super) fn measure(object: &[u8], input: &[u8], batches: u32, jit: bool) -> Result<Measured> {
    let Loaded { mut insns, binds, maps } = object::load(object)?;
    let maps: Vec<&'static Map> = maps.into_iter().map(|shape| &*Box::leak(Box::new(Map::new(shape)))).collect();
    for (at, map) in binds {
        let addr = std::ptr::from_ref(maps[map]).expose_provenance() as u64;
        let at = at.0 as usize;
        insns[at].src_reg = 0;
        insns[at].imm = addr as i32;
        insns[at + 1].imm = (addr >> 32) as i32;
    }
    let code = slots_to_bytes(&insns, Endian::NATIVE);
    let make = || -> Result<EbpfVmRaw<'_>> {
        let mut vm = EbpfVmRaw::new(Some(&code)).map_err(told)?;
        vm.register_helper(1, lookup).map_err(told)?;
        vm.register_helper(2, update).map_err(told)?;
        for map in &maps {
            let (_, state) = parts(std::ptr::from_ref(*map).expose_provenance() as u64);
            let start = state.values.as_ptr().addr() as u64;
            vm.register_allowed_memory(start..start + 8 * state.values.len() as u64);
        }
        Ok(vm)
    };
    let mut vm = make()?;
    let mut mem = input.to_vec();
    let mut compile_ns = 0;
    let (result, ns) = if jit {
        compile_ns = once(50, || {
            let mut vm = make()?;
            vm.jit_compile().map_err(told)?;
            Ok(())
        })?;
        vm.jit_compile().map_err(told)?;
        timed(batches, || {
            // SAFETY: see above.
            unsafe { vm.execute_program_jit(again(&mut mem)) }.map_err(told)
        })?
    } else {
        timed(batches, || vm.execute_program(again(&mut mem)).map_err(told))?
    };
    Ok(Measured { result, ns, compile_ns })
}

/// The machine wants the input for as long as it lives, though it keeps nothing of it.
fn again<'a>(mem: &mut [u8]) -> &'a mut [u8] {
    // SAFETY: the input lives until the measurement ends, and each run is over before the next one gets it.
    unsafe { &mut *std::ptr::from_mut(mem) }
}

fn told(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("rbpf: {error}")
}

//! Maps: look up, update, delete, push, pop, peek (kernel/bpf/helpers.c, Linux 6.18).

use std::sync::Arc;

use rustix::io::Errno;
use skep_insn::helpers;

use super::{Family, bytes, error, misuse};
use crate::map::{Map, MapError, MapKind, Mode, Who};
use crate::{Cpu, Stop};

pub(super) const FAMILY: Family = &[
    (helpers::MAP_LOOKUP_ELEM, lookup),
    (helpers::MAP_LOOKUP_PERCPU_ELEM, lookup_percpu),
    (helpers::MAP_UPDATE_ELEM, update),
    (helpers::MAP_DELETE_ELEM, delete),
    (helpers::MAP_PUSH_ELEM, push),
    (helpers::MAP_POP_ELEM, pop),
    (helpers::MAP_PEEK_ELEM, peek),
    (helpers::TAIL_CALL, tail_call),
];

fn find(cpu: &mut Cpu, handle: u64, key: u64, of: u32) -> Result<u64, Stop> {
    let (map, space) = cpu.map(handle)?;
    let len = map.spec().key_size as usize;
    let mut short = [0; 64];
    let found = match short.get_mut(..len) {
        Some(short) => {
            space.read(key, short)?;
            map.find(short, of)
        }
        None => {
            let mut long = vec![0; len];
            space.read(key, &mut long)?;
            map.find(&long, of)
        }
    };
    Ok(found.unwrap_or(0))
}

fn lookup(cpu: &mut Cpu, [handle, key, ..]: [u64; 5]) -> Result<u64, Stop> {
    let number = cpu.number();
    find(cpu, handle, key, number)
}

fn lookup_percpu(cpu: &mut Cpu, [handle, key, of, ..]: [u64; 5]) -> Result<u64, Stop> {
    let of = of as u32;
    if of >= cpu.machine().cpus() {
        return Ok(0);
    }
    if !cpu.map(handle)?.0.spec().kind.is_per_cpu() {
        return Err(misuse(helpers::MAP_LOOKUP_PERCPU_ELEM, "the map is not a per-CPU one"));
    }
    find(cpu, handle, key, of)
}

fn map_of(cpu: &mut Cpu, handle: u64) -> Result<Arc<Map>, Stop> {
    Ok(cpu.map(handle)?.0.clone())
}

/// A map that programs may change.
fn map_to_change(cpu: &mut Cpu, handle: u64, id: u32) -> Result<Arc<Map>, Stop> {
    let map = map_of(cpu, handle)?;
    if map.spec().kind.is_of_targets() {
        return Err(misuse(id, "only user space changes a map that packets are redirected by"));
    }
    if map.spec().programs_write() { Ok(map) } else { Err(misuse(id, "programs may only read this map")) }
}

fn returned(result: Result<(), MapError>) -> Result<u64, Stop> {
    Ok(result.map_or_else(|error| error.returned(), |()| 0))
}

fn update(cpu: &mut Cpu, [handle, key, value, flags, _]: [u64; 5]) -> Result<u64, Stop> {
    let map = map_to_change(cpu, handle, helpers::MAP_UPDATE_ELEM)?;
    let spec = map.spec();
    let (key, value) = (bytes(cpu, key, spec.key_size.into())?, bytes(cpu, value, spec.value_size.into())?);
    let who = Who::Program { cpu: cpu.number() };
    returned(map.set(&key, &value, flags, who))
}

fn delete(cpu: &mut Cpu, [handle, key, ..]: [u64; 5]) -> Result<u64, Stop> {
    let map = map_to_change(cpu, handle, helpers::MAP_DELETE_ELEM)?;
    if matches!(map.spec().kind, MapKind::ArrayOfMaps | MapKind::HashOfMaps | MapKind::ProgArray) {
        return Err(misuse(helpers::MAP_DELETE_ELEM, "programs cannot delete from a map of maps or programs"));
    }
    let key = bytes(cpu, key, map.spec().key_size.into())?;
    returned(map.remove(&key))
}

fn push(cpu: &mut Cpu, [handle, value, flags, ..]: [u64; 5]) -> Result<u64, Stop> {
    let map = map_to_change(cpu, handle, helpers::MAP_PUSH_ELEM)?;
    let value = bytes(cpu, value, map.spec().value_size.into())?;
    returned(Mode::from_flags(flags).and_then(|mode| map.store().push(&value, mode)))
}

fn pop(cpu: &mut Cpu, [handle, value, ..]: [u64; 5]) -> Result<u64, Stop> {
    let map = map_to_change(cpu, handle, helpers::MAP_POP_ELEM)?;
    let (len, space) = (map.spec().value_size.into(), cpu.space());
    space.check(value, len, crate::Access::Write)?;
    give(cpu, value, len, map.store().pop())
}

fn peek(cpu: &mut Cpu, [handle, value, ..]: [u64; 5]) -> Result<u64, Stop> {
    let map = map_of(cpu, handle)?;
    let len = map.spec().value_size.into();
    let wanted = bytes(cpu, value, len)?;
    if map.spec().kind == MapKind::BloomFilter {
        return returned(map.store().peek(&wanted).map(drop));
    }
    give(cpu, value, len, map.store().peek(&wanted))
}

/// A value, or zeros and the error.
fn give(cpu: &Cpu, to: u64, len: u64, value: Result<Vec<u8>, MapError>) -> Result<u64, Stop> {
    match value {
        Ok(value) => {
            cpu.space().write(to, &value)?;
            Ok(0)
        }
        Err(error) => {
            cpu.space().zero(to, len)?;
            Ok(error.returned())
        }
    }
}

fn tail_call(cpu: &mut Cpu, [_, handle, index, ..]: [u64; 5]) -> Result<u64, Stop> {
    let map = map_of(cpu, handle)?;
    let programs = map.programs().ok_or_else(|| misuse(helpers::TAIL_CALL, "the map is not a prog_array"))?;
    let gone = programs.get(index as u32).is_some_and(|program| cpu.tail_call(program));
    Ok(if gone { 0 } else { error(Errno::NOENT) })
}

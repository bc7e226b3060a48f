//! Callbacks: loops over numbers and over the elements of a map (kernel/bpf/bpf_iter.c, Linux 6.18).

use rustix::io::Errno;
use skep_insn::helpers;

use super::{Family, error, misuse};
use crate::{Cpu, Stop};

pub(super) const FAMILY: Family = &[(helpers::LOOP, repeat), (helpers::FOR_EACH_MAP_ELEM, for_each_map_elem)];

/// Most rounds of one loop (`BPF_MAX_LOOPS`).
const MAX_ROUNDS: u32 = 8 << 20;

fn repeat(cpu: &mut Cpu, [rounds, function, context, flags, _]: [u64; 5]) -> Result<u64, Stop> {
    let rounds = rounds as u32;
    if flags != 0 {
        return Ok(error(Errno::INVAL));
    }
    if rounds > MAX_ROUNDS {
        return Ok(error(Errno::TOOBIG));
    }
    for round in 0..rounds {
        if cpu.call(function, &[round.into(), context])? != 0 {
            return Ok(u64::from(round) + 1);
        }
    }
    Ok(rounds.into())
}

/// The callback gets the map, the address of a copy of the key, that of the value, and the context.
fn for_each_map_elem(cpu: &mut Cpu, [handle, function, context, flags, _]: [u64; 5]) -> Result<u64, Stop> {
    let map = cpu.map(handle)?.0.clone();
    if flags != 0 {
        return Ok(error(Errno::INVAL));
    }
    let len = u64::from(map.spec().key_size);
    let block = match cpu.key_blocks.pop().filter(|block| block.len() == len) {
        Some(block) => block,
        None => match cpu.space().allocate(len, false) {
            Ok(block) => block,
            Err(full) => return Err(misuse(helpers::FOR_EACH_MAP_ELEM, full.to_string())),
        },
    };
    let visited = map.store().walk(cpu.number(), &mut |key, value| {
        let copied = block.write(0, key);
        debug_assert!(copied.is_some(), "the block has the length of a key");
        Ok(cpu.call(function, &[handle, block.addr(), value, context])? == 0)
    });
    cpu.key_blocks.push(block);
    visited?.ok_or_else(|| {
        misuse(helpers::FOR_EACH_MAP_ELEM, format!("cannot walk a map of kind {}", map.spec().kind.name()))
    })
}

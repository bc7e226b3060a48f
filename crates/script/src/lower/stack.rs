//! Stacks: `kstack`, `ustack` and `dw_ustack` are numbers that stand for lists of addresses.
//!
//! The addresses go to scratch, are mixed into 64 bits, and are stored under that number in the LRU hash `stacks` when it is
//! not there yet. A stack that was seen before costs one walk, one multiplication for each frame and one lookup, and a map
//! keyed by stacks has keys of 16 bytes.

use skep_insn::{AluOp, Cond, Width, helpers};
use skep_spec::{Map, MapId, MapType};

use super::place::{Body, Place};
use super::shared::Shared;
use crate::ir::Value;
use crate::typed::Builtin;
use crate::types::Stack;

/// `BPF_F_USER_STACK`
const BPF_F_USER_STACK: i64 = 1 << 8;

impl Body<'_, '_> {
    /// The stack of this moment, 16 bytes at `to`.
    pub(crate) fn stack_into(&mut self, stack: &Stack, to: Place) {
        let limit = stack.limit.clamp(1, 127);
        let map = match self.unit.plan.stacks {
            Some(map) => map,
            None => {
                let entries = self.unit.script.config.max_map_keys.saturating_mul(2).max(1024);
                let map = self.unit.add_map(Map::new("stacks", MapType::LRU_HASH, 8, 8 + 8 * limit, entries));
                self.unit.plan.stacks = Some(map);
                map
            }
        };
        // Stacks of all limits share the map: its values have room for the longest.
        let value_size = {
            let map = &mut self.unit.spec.maps[map.0 as usize];
            map.value_size = map.value_size.max(8 + 8 * 127);
            map.value_size
        };
        let mark = self.mark();
        let id = if stack.tables && !self.unit.options.engine_walks_stacks {
            self.unwound(limit, map)
        } else if !stack.user && self.walks_kernel() {
            self.kernel_stack(limit, map, value_size)
        } else {
            let frames = self.large(value_size);
            self.walked(stack.user, limit, frames, map)
        };
        self.store(to, 0, 8, id);
        if stack.user {
            let process = self.builtin(&Builtin::Pid { init: false });
            self.store(to, 8, 8, process);
        } else {
            self.store(to, 8, 8, 0);
        }
        self.release(mark);
    }

    /// The number of a stack that the engine walks.
    pub(super) fn walked(&mut self, user: bool, limit: u32, frames: Place, map: MapId) -> Value {
        let (context, buffer) = (self.context(), self.addr(frames.at(8)));
        let size = self.number(i64::from(limit) * 8);
        let flags = self.number(if user { BPF_F_USER_STACK } else { 0 });
        let bytes = self.f.call(helpers::GET_STACK, &[context, buffer, size, flags]);
        let (walked, done) = (self.f.block(0), self.f.block(1));
        let none = self.number(0);
        self.f.branch(Cond::SGt, Width::W64, bytes, 0, (walked, &[]), (done, &[none]));
        self.f.switch_to(walked);
        let count = self.f.alu(AluOp::Rsh, Width::W64, bytes, 3);
        self.store(frames, 0, 8, count);
        let store = self.unit.shared(Shared::StoreStack(map));
        let value = self.addr(frames);
        let id = self.f.call_func(store, &[value]);
        self.f.jump(done, &[id]);
        self.f.switch_to(done);
        self.f.param(done, 0)
    }

    /// `len(stack)`: number of frames of a stack, from the map.
    pub(crate) fn stack_len(&mut self, stack: Place) -> Value {
        let Some(map) = self.unit.plan.stacks else { return self.number(0) };
        let (id, key) = (self.load(stack, 0, 8), self.temporary(8));
        self.store(key, 0, 8, id);
        let (map, key) = (self.f.map(map), self.addr(key));
        let value = self.f.call(helpers::MAP_LOOKUP_ELEM, &[map, key]);
        let (there, done) = (self.f.block(0), self.f.block(1));
        let none = self.number(0);
        self.f.branch(Cond::Ne, Width::W64, value, 0, (there, &[]), (done, &[none]));
        self.f.switch_to(there);
        let count = self.f.load(8, value, 0);
        self.f.jump(done, &[count]);
        self.f.switch_to(done);
        self.f.param(done, 0)
    }
}

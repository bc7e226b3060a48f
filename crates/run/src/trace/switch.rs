//! One flag that ends every program at once.
//!
//! Detaching takes the kernel 50 to 140 ms for each tracepoint, so it is left to others; until it is done the programs still
//! run. A few instructions in front of each look at a flag and return when it is up, so that from one moment on nothing is
//! counted, printed or changed: `END` and the maps at the end see a state that holds still.

use skep_engine::{MapId, Session};
use skep_insn::build::{branch, exit, load, load_imm64, mov, slots};
use skep_insn::consts::{BPF_CALL, BPF_JMP, BPF_ST, BPF_STX};
use skep_insn::{Cond, InsnIdx, RawInsn, Reg, Size};
use skep_script::plan::{Attach, Plan};
use skep_spec::function::{RefTarget, Reference};
use skep_spec::map::BPF_F_MMAPABLE;
use skep_spec::{FuncId, Map, MapType, Spec};

/// The flag of one script.
#[derive(Clone, Copy, Debug)]
pub(super) struct Switch(MapId);

/// Puts the look at the flag in front of every program that is attached. One that is too long for it goes on to the end.
pub(super) fn add(spec: &mut Spec, plan: &Plan) -> Switch {
    let map = MapId(spec.maps.len() as u32);
    spec.maps.push(Map { flags: BPF_F_MMAPABLE, ..Map::new("skep_off", MapType::ARRAY, 4, 4, 1) });
    let mut done: Vec<FuncId> = Vec::new();
    for program in &plan.programs {
        let runs_on_request = program.places.iter().any(|place| {
            matches!(
                place.attach,
                Attach::Begin | Attach::End | Attach::Signal(_) | Attach::Test { .. } | Attach::Iter { .. }
            )
        });
        let entry = spec.program(program.program).entry;
        if runs_on_request || done.contains(&entry) {
            continue;
        }
        done.push(entry);
        if !has_effect(&spec.functions[entry.0 as usize].insns) {
            continue;
        }
        // r1 holds the context; r0 and r2 are not defined yet.
        let code = slots(&[
            load_imm64(Reg::R2, 0),
            load(Size::W, Reg::R0, Reg::R2, 0),
            branch(Cond::Eq, Reg::R0, 0, 2),
            mov(Reg::R0, 0),
            exit(),
        ]);
        let flag = Reference { insn: InsnIdx(0), target: RefTarget::MapValue { map, off_bytes: 0 } };
        let _ = spec.insert(entry, InsnIdx(0), &code, &[flag]);
    }
    Switch(map)
}

/// Whether a program does anything that could be noticed: it calls or stores. An empty one need not be ended.
fn has_effect(insns: &[RawInsn]) -> bool {
    let effect = |insn: &RawInsn| matches!(insn.class(), BPF_ST | BPF_STX) || insn.code == (BPF_JMP | BPF_CALL);
    // The second slot of a wide constant has code 0, which is a load.
    insns.iter().any(effect)
}

impl Switch {
    /// Ends every program.
    pub(super) fn off(self, session: &dyn Session) {
        if let Some(map) = session.map(self.0) {
            // Without the flag the programs end when they are detached.
            let _ = map.update(&0u32.to_ne_bytes(), &1u32.to_ne_bytes(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use skep_insn::build::{call, store};

    use super::*;

    #[test]
    fn only_calls_and_stores_have_an_effect() {
        let ends = [mov(Reg::R0, 0), exit()];
        let loads = [load_imm64(Reg::R2, 0), load(Size::W, Reg::R0, Reg::R2, 0), exit()];
        let calls = [call(14), mov(Reg::R0, 0), exit()];
        let stores = [store(Size::W, Reg::R10, -4, Reg::R0), exit()];
        assert_eq!([has_effect(&slots(&ends)), has_effect(&slots(&loads))], [false, false]);
        assert_eq!([has_effect(&slots(&calls)), has_effect(&slots(&stores))], [true, true]);
    }
}

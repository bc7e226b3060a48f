//! Accesses at the edges of what is allowed: interpreted and compiled programs get the same bytes, or the same error.

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;

use common::{Engine, code};
use skep_vm::{Block, Cpu, Image};

const SLOT_BYTES: u64 = 1 << 16;

/// Every kind of access at r1 + `off`, of each size.
fn accesses(off: i16) -> Vec<String> {
    let types = ["u8", "u16", "u32", "u64", "s8", "s16", "s32"];
    let place = if off < 0 { format!("r1 - {}", -off) } else { format!("r1 + {off}") };
    let mut asm = Vec::new();
    for size in types {
        asm.push(format!("r0 = *({size} *)({place})\nexit"));
    }
    for size in &types[..4] {
        asm.push(format!("r0 = 7\n*({size} *)({place}) = r0\nexit"));
        asm.push(format!("r0 = 7\n*({size} *)({place}) = 9\nexit"));
        asm.push(format!("r0 = load_acquire(({size} *)({place}))\nexit"));
        asm.push(format!("r0 = 7\nstore_release(({size} *)({place}), r0)\nexit"));
    }
    for size in ["u32", "u64"] {
        asm.push(format!("r0 = 7\nlock *({size} *)({place}) += r0\nexit"));
    }
    asm.push(format!("w0 = 7\nw0 = atomic_fetch_or((u32 *)({place}), w0)\nexit"));
    asm.push(format!("r2 = 7\nr2 = atomic64_fetch_xor((u64 *)({place}), r2)\nr0 = r2\nexit"));
    asm
}

#[test]
fn accesses_at_edges_are_the_same_compiled() {
    let machine = common::machine();
    let space = machine.space();
    let block = |len, writable| space.allocate(len, writable).expect("a block");
    let blocks = [block(9, true), block(24, false), block(64, true), block(SLOT_BYTES + 8, true), block(64, false)];
    blocks[2].set_window(17, 33);
    blocks[4].set_window(16, 32);
    let edges = |block: &Block| -> Vec<u64> {
        let start = block.addr();
        let inner = [0, 16, 32, block.len(), SLOT_BYTES];
        inner.iter().flat_map(|edge| (0..18).map(move |step| start + edge + step - 9)).collect()
    };
    let mut addrs: Vec<u64> = blocks.iter().flat_map(edges).collect();
    // The same places said shortly, and others that have nothing to do with them.
    let short: Vec<u64> = addrs.iter().map(|addr| addr & 0xffff_ffff).collect();
    let far: Vec<u64> = addrs.iter().step_by(7).map(|addr| addr.wrapping_add(1 << 32)).collect();
    addrs.extend(short.into_iter().chain(far));
    addrs.extend([0, 1, 7, u64::MAX, u64::MAX - 7, 1 << 63, space.base() - 1, space.base() + (1 << 32) - 4]);

    // What the accesses can reach.
    let [bytes, constant, window, long, constant_window] = &blocks;
    let pieces: [(&Block, u64, u64); 6] = [
        (bytes, 0, 9),
        (constant, 0, 24),
        (window, 0, 64),
        (constant_window, 0, 64),
        (long, 0, 64),
        (long, SLOT_BYTES - 16, 24),
    ];

    let mut cpu = Cpu::new(&machine).expect("a stack");
    let (mut allowed, mut stopped) = (0, 0);
    for off in [0, 40, -300] {
        for asm in accesses(off) {
            let insns = code("access", &asm);
            let image = Image { insns: &insns, ..Image::default() };
            let programs = [Engine::Interpreter, Engine::Compiler].map(|engine| engine.load(&machine, &image));
            let programs = programs.map(|program| program.expect("a good program"));
            for addr in &addrs {
                let [wanted, found] = programs.each_ref().map(|program| {
                    for (block, at, len) in pieces {
                        let bytes: Vec<u8> = (0..len).map(|at| at as u8 | 0x80).collect();
                        block.write(at, &bytes).expect("it fits");
                    }
                    let result = cpu.run(program, [addr.wrapping_sub(off as u64), 0]);
                    (result, pieces.map(|(block, at, len)| block.bytes(at, len as usize)))
                });
                assert!(wanted == found, "{asm} at {addr:#x}: {:?} and {:?}", wanted.0, found.0);
                if wanted.0.is_ok() { allowed += 1 } else { stopped += 1 }
            }
        }
    }
    assert!(allowed > 1000 && stopped > 1000, "{allowed} were allowed, {stopped} were stopped");
}

//! What the test files share: a systematic walk over all instructions, and a deterministic source of bits.
#![allow(dead_code, reason = "each test file uses its own part")]

use skep_insn::*;

pub(crate) const REGS: [u8; 4] = [0, 1, 9, 10];
pub(crate) const OFFS: [i16; 7] = [0, 1, -1, 8, -512, i16::MAX, i16::MIN];
pub(crate) const IMMS: [i32; 11] = [0, 1, -1, 5, 16, 255, 0xffff, -5, 0x1234_5678, i32::MAX, i32::MIN];
pub(crate) const VALUES: [u64; 9] =
    [0, 1, 5, 0x7fff_ffff, 0x8000_0000, 0xffff_fffb, 0x7_0000_0005, 0x8000_0000_0000_0000, u64::MAX];

pub(crate) fn regs() -> impl Iterator<Item = Reg> + Clone {
    REGS.into_iter().map(|n| Reg::new(n).expect("the list holds real registers"))
}

fn operands() -> Vec<Operand> {
    let regs = regs().map(Operand::Reg);
    regs.chain(IMMS.into_iter().map(Operand::Imm)).collect()
}

/// Every shape of instruction with every operation, and every combination of a few registers, offsets and immediates.
pub(crate) fn every_insn() -> Vec<Insn> {
    let mut all = vec![Insn::Exit];
    for dst in regs() {
        all.push(Insn::CallReg { target: dst });
        all.push(Insn::JumpReg { target: dst });
        if dst != Reg::R0 {
            all.push(Insn::CallRegInImm { target: dst });
        }
        for width in Width::ALL {
            all.push(Insn::Neg { width, dst });
            for src in operands() {
                all.push(Insn::Mov { width, dst, src });
                all.extend(AluOp::ALL.map(|op| Insn::Alu { width, op, dst, src }));
                for off in OFFS {
                    all.extend(Cond::ALL.map(|cond| Insn::Branch { width, cond, dst, src, off }));
                }
            }
        }
        for kind in SwapKind::ALL {
            all.extend(SwapBits::ALL.map(|bits| Insn::Swap { kind, bits, dst }));
        }
        for size in Size::ALL {
            for off in OFFS {
                all.extend(operands().into_iter().map(|src| Insn::Store { size, base: dst, off, src }));
            }
        }
        all.extend(VALUES.map(|v| Insn::LoadImm64 { dst, value: Imm64::Value(v) }));
        for imm in IMMS {
            for value in [Imm64::MapFd(imm), Imm64::Func { off: imm }, Imm64::MapIdx(imm)] {
                all.push(Insn::LoadImm64 { dst, value });
            }
            for second in IMMS {
                for value in [
                    Imm64::MapValue { fd: imm, off: second as u32 },
                    Imm64::BtfId { id: imm as u32, btf_fd: second },
                    Imm64::MapIdxValue { idx: imm, off: second as u32 },
                ] {
                    all.push(Insn::LoadImm64 { dst, value });
                }
            }
        }
        for src in regs() {
            all.extend(SignExtend::ALL.map(|extend| Insn::MovSx { extend, dst, src }));
            for (to, from) in [(0, 1), (1, 0), (0, 0), (u16::MAX, 7)] {
                all.push(Insn::AddrSpaceCast { dst, src, to, from });
            }
            for off in OFFS {
                all.extend(LoadType::ALL.map(|ty| Insn::Load { ty, dst, base: src, off }));
                for size in Size::ALL {
                    all.push(Insn::LoadAcquire { size, dst, base: src, off });
                    all.push(Insn::StoreRelease { size, base: dst, off, src });
                }
                for width in Width::ALL {
                    all.extend(AtomicOp::ALL.map(|op| Insn::Atomic { op, width, base: dst, off, src }));
                }
            }
        }
    }
    for size in PacketSize::ALL {
        for off in IMMS {
            all.push(Insn::LoadAbs { size, off });
            all.extend(regs().map(|src| Insn::LoadInd { size, src, off }));
        }
    }
    for off in OFFS {
        all.push(Insn::Jump { off });
        all.push(Insn::MayGoto { off });
        all.extend(IMMS.map(|btf_id| Insn::CallKfunc { btf_id, fd_idx: off }));
    }
    for imm in IMMS.into_iter().chain([211, 212]) {
        all.push(Insn::JumpLong { off: imm });
        all.push(Insn::CallHelper { id: imm });
        all.push(Insn::CallLocal { off: imm });
    }
    all
}

/// A small generator of pseudo-random bits (xorshift64), the same on every run.
pub(crate) struct Bits(pub(crate) u64);

impl Bits {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound
    }
}

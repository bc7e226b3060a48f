//! The digest by which the kernel knows a program: SHA-256 over its instructions.
//!
//! Since 6.18 a map may be made for one program alone (`excl_prog_hash` of `BPF_MAP_CREATE`): the verifier compares the digest
//! of every other program that wants it (`__add_used_map`, kernel/bpf/verifier.c) and refuses. Descriptors differ from load to
//! load, so the kernel counts them as 0 (`bpf_prog_calc_tag`, kernel/bpf/core.c): both halves of a wide load whose `src_reg`
//! is `BPF_PSEUDO_MAP_FD` or `BPF_PSEUDO_MAP_VALUE`. Everything else counts as it is sent.

use sha2::{Digest as _, Sha256};
use skep_insn::consts::{BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE};
use skep_insn::{Endian, RawInsn};

/// The digest of instructions as this machine's kernel computes it.
pub fn program_digest(insns: &[RawInsn]) -> [u8; 32] {
    let mut bytes = Vec::with_capacity(insns.len() * 8);
    let mut second = false;
    for insn in insns {
        let mut masked = *insn;
        if second && (RawInsn { imm: 0, ..*insn }) == RawInsn::new(0, 0, 0, 0, 0) {
            masked.imm = 0;
            second = false;
        } else {
            second = !second && insn.is_wide() && matches!(insn.src_reg, BPF_PSEUDO_MAP_FD | BPF_PSEUDO_MAP_VALUE);
            if second {
                masked.imm = 0;
            }
        }
        bytes.extend(masked.to_bytes(Endian::NATIVE));
    }
    sha256(&bytes)
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_of_maps_do_not_count_and_everything_else_does() {
        let wide = |src: u8, first: i32, second: i32| {
            program_digest(&[RawInsn::new(0x18, 1, src, 0, first), RawInsn::new(0, 0, 0, 0, second)])
        };
        assert_eq!(wide(1, 3, 0), wide(1, 7, 0));
        assert_eq!(wide(2, 3, 8), wide(2, 7, 16));
        assert_ne!(wide(3, 3, 0), wide(3, 7, 0));
        assert_ne!(wide(0, 3, 0), wide(0, 7, 0));
    }
}

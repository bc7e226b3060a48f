//! The instructions and the blob of a loader program.
//!
//! `r6` is the context all the time. `r1` to `r5` are arguments of the next call, `r7` holds what the last one gave. An address
//! in the blob is a wide load of the map at place 0 of the table of descriptors.

use skep_btf::Kind;
use skep_insn::consts::*;
use skep_insn::{Endian, RawInsn};

/// Offset in the context of level (`u32`), size (`u32`) and address (`u64`) of the verifier's log.
pub const CTX_LOG: u32 = 8;
/// Offset in the context of the descriptors.
pub const CTX_FDS: u32 = 24;

/// More descriptors than this are beyond the offsets that an instruction can have.
pub(super) const MAX_FDS: u32 = 8000;

/// Commands of bpf(2).
pub(super) const MAP_CREATE: u32 = 0;
pub(super) const MAP_UPDATE_ELEM: u32 = 2;
pub(super) const PROG_LOAD: u32 = 5;
pub(super) const BTF_LOAD: u32 = 18;
pub(super) const MAP_FREEZE: u32 = 22;

/// Helpers.
const SYS_BPF: i32 = 166;
const BTF_FIND_BY_NAME_KIND: i32 = 167;
const KALLSYMS_LOOKUP_NAME: i32 = 179;

/// Ends the program with `-EINVAL` unless the map at place 0 of the table has this digest, which is the first of what the kernel keeps about a
/// map (`sha` of `struct bpf_map`, include/linux/bpf.h, 6.18). Changes no register but `r0` and `r2` to `r4`.
pub(super) fn check_digest(digest: &[u8; 32]) -> Vec<RawInsn> {
    const EINVAL: i32 = 22;
    let words = digest.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
    let check = |(at, word): (i16, u64)| {
        [
            RawInsn::new(BPF_LD | BPF_DW | BPF_IMM, 2, BPF_PSEUDO_MAP_IDX, 0, 0),
            RawInsn::new(0, 0, 0, 0, 0),
            RawInsn::new(BPF_LDX | BPF_MEM | BPF_DW, 3, 2, at, 0),
            RawInsn::new(BPF_LD | BPF_DW | BPF_IMM, 4, 0, 0, word as u32 as i32),
            RawInsn::new(0, 0, 0, 0, (word >> 32) as i32),
            RawInsn::new(BPF_JMP | BPF_JEQ | BPF_X, 3, 4, 2, 0),
            RawInsn::new(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, -EINVAL),
            RawInsn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
        ]
    };
    (0i16..).step_by(8).zip(words).flat_map(check).collect()
}

/// Data in the making. Everything begins at a multiple of 8.
#[derive(Debug, Default)]
pub(super) struct Blob(Vec<u8>);

impl Blob {
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> u32 {
        let at = self.0.len() as u32;
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        at
    }

    pub(super) fn reserve(&mut self, len: usize) -> u32 {
        self.bytes(&vec![0; len])
    }

    /// A string and its closing zero.
    pub(super) fn string(&mut self, text: &str) -> u32 {
        self.bytes(&[text.as_bytes(), &[0]].concat())
    }

    pub(super) fn put(&mut self, at: u32, word: u32) {
        if let Some(place) = self.0.get_mut(at as usize..at as usize + 4) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
    }

    /// A name of at most 15 bytes that the kernel takes.
    pub(super) fn name(&mut self, at: u32, name: &str) {
        let Some(place) = self.0.get_mut(at as usize..at as usize + 15) else { return };
        for (to, byte) in place.iter_mut().zip(name.bytes()) {
            *to = if byte.is_ascii_alphanumeric() || byte == b'.' { byte } else { b'_' };
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Where a string stands in the string section of types.
pub(super) fn string_offset(btf: &[u8], text: &[u8]) -> Option<u32> {
    let word = |at: usize| Some(u32::from_ne_bytes(*btf.get(at..)?.first_chunk()?) as usize);
    let start = word(4)?.checked_add(word(16)?)?;
    let strings = btf.get(start..start.checked_add(word(20)?)?)?;
    let wanted = [text, &[0]].concat();
    strings.windows(wanted.len()).position(|window| window == wanted).map(|at| at as u32)
}

/// Instructions in the making.
#[derive(Debug)]
pub(super) struct Code(Vec<RawInsn>);

impl Default for Code {
    fn default() -> Code {
        Code(vec![mov(6, 1)])
    }
}

const MEM_W: u8 = BPF_MEM | BPF_W;
const MEM_DW: u8 = BPF_MEM | BPF_DW;

fn mov(to: u8, from: u8) -> RawInsn {
    RawInsn::new(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0)
}

fn set(to: u8, value: u32) -> RawInsn {
    // Zero-extended, which a move of 64 bits is not.
    RawInsn::new(BPF_ALU | BPF_MOV | BPF_K, to, 0, 0, value as i32)
}

/// `*(to + off) = from`, of the given width.
fn store(width: u8, to: u8, off: i16, from: u8) -> RawInsn {
    RawInsn::new(BPF_STX | BPF_MEM | width, to, from, off, 0)
}

fn call(helper: i32) -> RawInsn {
    RawInsn::new(BPF_JMP | BPF_CALL, 0, 0, 0, helper)
}

impl Code {
    fn push(&mut self, insns: impl IntoIterator<Item = RawInsn>) {
        self.0.extend(insns);
    }

    /// The address of a place in the blob.
    fn address(&mut self, register: u8, off: u32) {
        self.push([
            RawInsn::new(BPF_LD_IMM64, register, BPF_PSEUDO_MAP_IDX_VALUE, 0, 0),
            RawInsn::new(0, 0, 0, 0, off as i32),
        ]);
    }

    /// Tells the number of the step that begins.
    pub(super) fn step(&mut self, number: u32) {
        // Kernels before 6.4 let only registers be stored to a context.
        self.push([set(1, number), store(BPF_W, 6, 0, 1)]);
    }

    /// Ends the program when the last call failed.
    pub(super) fn fail_if_negative(&mut self) {
        self.push([
            RawInsn::new(BPF_JMP | BPF_JSGE | BPF_K, 7, 0, 2, 0),
            mov(0, 7),
            RawInsn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
        ]);
    }

    /// A call of bpf(2) with the attribute at `attr`.
    pub(super) fn call(&mut self, command: u32, attr: u32, len: u32) {
        self.push([set(1, command)]);
        self.address(2, attr);
        self.push([set(3, len), call(SYS_BPF), mov(7, 0)]);
        self.fail_if_negative();
    }

    /// Puts the descriptor that the last call gave into the context.
    pub(super) fn keep_fd(&mut self, fd: u32) {
        self.push([store(BPF_W, 6, fd_off(fd), 7)]);
    }

    /// Copies a descriptor from the context into the blob.
    pub(super) fn store_fd(&mut self, at: u32, fd: u32) {
        self.push([RawInsn::new(BPF_LDX | MEM_W, 2, 6, fd_off(fd), 0)]);
        self.address(1, at);
        self.push([store(BPF_W, 1, 0, 2)]);
    }

    /// Puts the address of `of` into the blob.
    pub(super) fn store_address(&mut self, at: u32, of: u32) {
        self.address(1, at);
        self.address(2, of);
        self.push([store(BPF_DW, 1, 0, 2)]);
    }

    /// Copies level, size and address of the log from the context.
    pub(super) fn store_log(&mut self, at: u32) {
        self.address(1, at);
        self.push([
            RawInsn::new(BPF_LDX | MEM_W, 2, 6, CTX_LOG as i16, 0),
            store(BPF_W, 1, 0, 2),
            RawInsn::new(BPF_LDX | MEM_W, 2, 6, CTX_LOG as i16 + 4, 0),
            store(BPF_W, 1, 4, 2),
            RawInsn::new(BPF_LDX | MEM_DW, 2, 6, CTX_LOG as i16 + 8, 0),
            store(BPF_DW, 1, 8, 2),
        ]);
    }

    /// Looks for a type of the kernel or its modules: its number in the lower half of `r7`, the descriptor of the module's types
    /// or 0 in the upper.
    pub(super) fn find_type(&mut self, name: u32, len: u32, kind: Kind) {
        self.address(1, name);
        self.push([set(2, len), set(3, u32::from(kind.0)), set(4, 0), call(BTF_FIND_BY_NAME_KIND), mov(7, 0)]);
    }

    /// The number of a type that was found goes to `id_at`, the descriptor to `fd_at` and, if it is one, into the context.
    pub(super) fn store_type(&mut self, id_at: u32, fd_at: u32, fd: u32) {
        self.address(1, id_at);
        self.push([store(BPF_W, 1, 0, 7), shift(7, 32)]);
        self.address(1, fd_at);
        self.push([store(BPF_W, 1, 0, 7), RawInsn::new(BPF_JMP | BPF_JEQ | BPF_K, 7, 0, 1, 0)]);
        self.keep_fd(fd);
    }

    /// Skips what `then` writes when the last call failed and may.
    fn unless_absent(&mut self, weak: bool, then: impl FnOnce(&mut Code)) {
        if !weak {
            self.fail_if_negative();
            return then(self);
        }
        let mut part = Code(Vec::new());
        then(&mut part);
        self.push([RawInsn::new(BPF_JMP | BPF_JSLT | BPF_K, 7, 0, part.0.len() as i16, 0)]);
        self.push(part.0);
    }

    /// Puts the number of the type that was found into the instruction at `at`, with these registers. R7 is left with the
    /// descriptor of its module, 0 for the kernel itself; r1 with the instruction's address.
    fn patch_type(&mut self, at: u32, registers: i32) {
        self.address(1, at);
        self.push([store(BPF_W, 1, 4, 7), RawInsn::new(BPF_ST | BPF_MEM | BPF_B, 1, 0, 1, registers), shift(7, 32)]);
    }

    /// Makes the call at `at` one of the kernel function that was found.
    pub(super) fn patch_call(&mut self, at: u32, dst: u8, weak: bool, fd: u32, slot_at: u32, slot: i16) {
        self.unless_absent(weak, |code| {
            code.patch_type(at, registers(dst, BPF_PSEUDO_KFUNC_CALL));
            code.push([
                // Of the kernel itself: no table.
                RawInsn::new(BPF_JMP | BPF_JEQ | BPF_K, 7, 0, 5, 0),
                RawInsn::new(BPF_ST | BPF_MEM | BPF_H, 1, 0, 2, i32::from(slot)),
            ]);
            code.address(1, slot_at);
            code.push([store(BPF_W, 1, 0, 7)]);
            code.keep_fd(fd);
        });
    }

    /// Makes the wide load at `at` one of the variable that was found.
    pub(super) fn patch_variable(&mut self, at: u32, dst: u8, weak: bool, fd: u32) {
        self.unless_absent(weak, |code| {
            code.patch_type(at, registers(dst, BPF_PSEUDO_BTF_ID));
            code.push([store(BPF_W, 1, 12, 7), RawInsn::new(BPF_JMP | BPF_JEQ | BPF_K, 7, 0, 1, 0)]);
            code.keep_fd(fd);
        });
    }

    /// Looks for a symbol: its address on the stack.
    pub(super) fn find_symbol(&mut self, name: u32, len: u32) {
        self.push([RawInsn::new(BPF_ST | MEM_DW, 10, 0, -8, 0)]);
        self.address(1, name);
        self.push([set(2, len), set(3, 0), mov(4, 10), add(4, -8i32 as u32), call(KALLSYMS_LOOKUP_NAME), mov(7, 0)]);
    }

    /// Makes the wide load at `at` one of the address that was found.
    pub(super) fn patch_address(&mut self, at: u32, weak: bool) {
        self.unless_absent(weak, |code| {
            code.push([RawInsn::new(BPF_LDX | MEM_DW, 7, 10, -8, 0)]);
            code.address(1, at);
            code.push([store(BPF_W, 1, 4, 7), shift(7, 32), store(BPF_W, 1, 12, 7)]);
        });
    }

    pub(super) fn end(&mut self) {
        self.push([set(0, 0), RawInsn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)]);
    }

    pub(super) fn finish(self) -> Vec<RawInsn> {
        self.0
    }
}

/// Where a descriptor stands in the context. Offsets have 16 bits: see [`MAX_FDS`].
fn fd_off(fd: u32) -> i16 {
    i16::try_from(CTX_FDS + 4 * fd).unwrap_or(i16::MAX - 3)
}

fn add(to: u8, value: u32) -> RawInsn {
    RawInsn::new(BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, value as i32)
}

fn shift(register: u8, bits: i32) -> RawInsn {
    RawInsn::new(BPF_ALU64 | BPF_RSH | BPF_K, register, 0, 0, bits)
}

/// The byte of an instruction that holds both registers.
fn registers(dst: u8, src: u8) -> i32 {
    i32::from(RawInsn::new(0, dst, src, 0, 0).to_bytes(Endian::NATIVE)[1])
}

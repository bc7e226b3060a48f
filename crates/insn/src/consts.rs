//! The numbers of the instruction set, in the kernel's own spelling.
//!
//! Sources: `include/uapi/linux/bpf_common.h`, `include/uapi/linux/bpf.h` and, for what only the kernel's own view of a
//! program holds, `include/linux/filter.h`, all of Linux 6.18. Opcodes are built by or-ing a class, a size or source,
//! and a mode or operation.

// Instruction classes, the low three bits of the opcode.

/// Non-standard loads: 64-bit immediates and legacy packet access.
pub const BPF_LD: u8 = 0x00;
/// Loads from memory into a register.
pub const BPF_LDX: u8 = 0x01;
/// Stores of an immediate to memory.
pub const BPF_ST: u8 = 0x02;
/// Stores of a register to memory, and atomics.
pub const BPF_STX: u8 = 0x03;
/// 32-bit arithmetic.
pub const BPF_ALU: u8 = 0x04;
/// Jumps with 64-bit comparison, calls and exit.
pub const BPF_JMP: u8 = 0x05;
/// Jumps with 32-bit comparison.
pub const BPF_JMP32: u8 = 0x06;
/// 64-bit arithmetic.
pub const BPF_ALU64: u8 = 0x07;

// Access sizes of loads and stores.

/// Four bytes.
pub const BPF_W: u8 = 0x00;
/// Two bytes.
pub const BPF_H: u8 = 0x08;
/// One byte.
pub const BPF_B: u8 = 0x10;
/// Eight bytes.
pub const BPF_DW: u8 = 0x18;

// Modes of loads and stores, the high three bits.

/// A 64-bit immediate in two slots.
pub const BPF_IMM: u8 = 0x00;
/// Legacy packet access at a fixed offset.
pub const BPF_ABS: u8 = 0x20;
/// Legacy packet access at a register plus an offset.
pub const BPF_IND: u8 = 0x40;
/// Plain memory access.
pub const BPF_MEM: u8 = 0x60;
/// Load with sign extension (ISA v4, Linux 6.6).
pub const BPF_MEMSX: u8 = 0x80;
/// Atomic operation; `imm` says which.
pub const BPF_ATOMIC: u8 = 0xc0;
/// The old name of [`BPF_ATOMIC`], when addition was the only one.
pub const BPF_XADD: u8 = 0xc0;
/// In the kernel's own view only: a load that may fault (`LDX`).
pub const BPF_PROBE_MEM: u8 = 0x20;
/// In the kernel's own view only: a sign-extending load that may fault (`LDX`).
pub const BPF_PROBE_MEMSX: u8 = 0x40;
/// In the kernel's own view only: an access to an arena (`LDX`, `ST`, `STX`).
pub const BPF_PROBE_MEM32: u8 = 0xa0;
/// In the kernel's own view only: an atomic on an arena (`STX`).
pub const BPF_PROBE_ATOMIC: u8 = 0xe0;
/// In the kernel's own view only: a speculation barrier (`ST`).
pub const BPF_NOSPEC: u8 = 0xc0;
/// In the kernel's own view only: a sign-extending load from an arena (`LDX`, Linux 6.18).
pub const BPF_PROBE_MEM32SX: u8 = 0xc0;

// Where the second operand of arithmetic and jumps comes from.

/// The immediate.
pub const BPF_K: u8 = 0x00;
/// The source register.
pub const BPF_X: u8 = 0x08;

// Byte order conversions reuse the source bit.

/// To little-endian, or an unconditional swap in class `ALU64`.
pub const BPF_TO_LE: u8 = 0x00;
/// To big-endian.
pub const BPF_TO_BE: u8 = 0x08;

// Arithmetic operations, the high four bits.

/// Addition.
pub const BPF_ADD: u8 = 0x00;
/// Subtraction.
pub const BPF_SUB: u8 = 0x10;
/// Multiplication.
pub const BPF_MUL: u8 = 0x20;
/// Division; signed if `off` is 1.
pub const BPF_DIV: u8 = 0x30;
/// Bitwise or.
pub const BPF_OR: u8 = 0x40;
/// Bitwise and.
pub const BPF_AND: u8 = 0x50;
/// Shift left.
pub const BPF_LSH: u8 = 0x60;
/// Logical shift right.
pub const BPF_RSH: u8 = 0x70;
/// Negation.
pub const BPF_NEG: u8 = 0x80;
/// Remainder; signed if `off` is 1.
pub const BPF_MOD: u8 = 0x90;
/// Bitwise exclusive or.
pub const BPF_XOR: u8 = 0xa0;
/// Move; `off` 8, 16, 32 extends the sign, `off` 1 casts between address spaces.
pub const BPF_MOV: u8 = 0xb0;
/// Arithmetic shift right.
pub const BPF_ARSH: u8 = 0xc0;
/// Byte order conversion; `imm` is the width in bits.
pub const BPF_END: u8 = 0xd0;

// Jumps, the high four bits.

/// Always. By `off` in class `JMP`, by `imm` in class `JMP32`.
pub const BPF_JA: u8 = 0x00;
/// Equal.
pub const BPF_JEQ: u8 = 0x10;
/// Greater, unsigned.
pub const BPF_JGT: u8 = 0x20;
/// Greater or equal, unsigned.
pub const BPF_JGE: u8 = 0x30;
/// Some bit in common.
pub const BPF_JSET: u8 = 0x40;
/// Not equal.
pub const BPF_JNE: u8 = 0x50;
/// Greater, signed.
pub const BPF_JSGT: u8 = 0x60;
/// Greater or equal, signed.
pub const BPF_JSGE: u8 = 0x70;
/// Call.
pub const BPF_CALL: u8 = 0x80;
/// Return.
pub const BPF_EXIT: u8 = 0x90;
/// Less, unsigned.
pub const BPF_JLT: u8 = 0xa0;
/// Less or equal, unsigned.
pub const BPF_JLE: u8 = 0xb0;
/// Less, signed.
pub const BPF_JSLT: u8 = 0xc0;
/// Less or equal, signed.
pub const BPF_JSLE: u8 = 0xd0;
/// Jumps that the verifier gives a meaning; `may_goto` is the only one.
pub const BPF_JCOND: u8 = 0xe0;

// The `imm` of an atomic operation.

/// Modifier: leave the old value in the source register.
pub const BPF_FETCH: i32 = 0x001;
/// Exchange; always fetches.
pub const BPF_XCHG: i32 = 0x0e1;
/// Compare with r0 and exchange; always fetches, into r0.
pub const BPF_CMPXCHG: i32 = 0x0f1;
/// Load with acquire ordering (Linux 6.15).
pub const BPF_LOAD_ACQ: i32 = 0x100;
/// Store with release ordering (Linux 6.15).
pub const BPF_STORE_REL: i32 = 0x110;

// What `src_reg` of a 64-bit immediate load says about the immediate.

/// `imm` is the descriptor of a map.
pub const BPF_PSEUDO_MAP_FD: u8 = 1;
/// `imm` is the descriptor of a map, the next `imm` an offset into its first value.
pub const BPF_PSEUDO_MAP_VALUE: u8 = 2;
/// `imm` is the BTF id of a kernel variable, the next `imm` the descriptor of a module's BTF or 0.
pub const BPF_PSEUDO_BTF_ID: u8 = 3;
/// `imm` is the distance in slots to a subprogram, for callbacks.
pub const BPF_PSEUDO_FUNC: u8 = 4;
/// `imm` is an index into `fd_array` that names a map.
pub const BPF_PSEUDO_MAP_IDX: u8 = 5;
/// `imm` is an index into `fd_array`, the next `imm` an offset into the map's first value.
pub const BPF_PSEUDO_MAP_IDX_VALUE: u8 = 6;

// What `src_reg` of a call says about the immediate.

/// `imm` is the distance in slots to a subprogram.
pub const BPF_PSEUDO_CALL: u8 = 1;
/// `imm` is the BTF id of a kernel function, `off` an index into `fd_array` or 0 for vmlinux.
pub const BPF_PSEUDO_KFUNC_CALL: u8 = 2;

// Other numbers.

/// The `off` of a 64-bit register move that casts between address spaces.
pub const BPF_ADDR_SPACE_CAST: i16 = 1;

// Composed opcodes and limits.

/// The opcode of the first half of a 64-bit immediate load (`BPF_LD | BPF_IMM | BPF_DW`).
pub const BPF_LD_IMM64: u8 = BPF_LD | BPF_IMM | BPF_DW;
/// The `src_reg` of a `BPF_JCOND` jump: `may_goto` (Linux 6.9).
pub const BPF_MAY_GOTO: u8 = 0;
/// Number of registers a program can name: r0 to r9 and the frame pointer r10.
pub const MAX_BPF_REG: u8 = 11;
/// The register the kernel adds for its own rewriting, written `r11` or `ax` in dumps.
pub const BPF_REG_AX: u8 = 11;
/// The frame pointer, read-only.
pub const BPF_REG_FP: u8 = 10;
/// Slots that a program without `CAP_BPF` may have.
pub const BPF_MAXINSNS: u32 = 4096;
/// Slots that a privileged program may have (`BPF_COMPLEXITY_LIMIT_INSNS`, `include/linux/bpf.h`).
pub const BPF_COMPLEXITY_LIMIT_INSNS: u32 = 1_000_000;
/// Depth of a program's stack in bytes.
pub const MAX_BPF_STACK: u32 = 512;

//! Where the arguments of a USDT probe are, translated for `bpf_usdt_arg`.
//!
//! A note spells each argument `[-]SIZE@OPERAND`: its size in bytes, negative if signed, and an operand in the
//! assembler's language of the machine. The BPF side ([`SPEC_LEN_BYTES`] bytes in the map `__bpf_usdt_specs`, a struct of
//! `usdt.bpf.h`) knows constants, registers, and memory at a register plus an offset, since libbpf 1.7 also at a scaled
//! second register; registers are offsets into the machine's `struct pt_regs`.
//!
//! An argument that cannot be said that way (a floating-point register, an absolute address) does not make the others
//! useless: it is given a type that the BPF side knows not, so that reading it answers `EINVAL`, and it is reported.

use std::fmt;

/// Size of `struct __bpf_usdt_spec`: 12 arguments of 16 bytes, the cookie, the number of arguments, padding.
pub const SPEC_LEN_BYTES: usize = 208;
/// `BPF_USDT_MAX_ARG_CNT`.
pub const MAX_ARGS: usize = 12;

/// A machine whose operands are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// 64-bit x86.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
    /// 64-bit RISC-V.
    Riscv64,
    /// s390x.
    S390x,
}

impl Machine {
    /// The machine that this program runs on, if it is one of them.
    pub fn host() -> Option<Machine> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Machine::X86_64),
            "aarch64" => Some(Machine::Aarch64),
            "riscv64" => Some(Machine::Riscv64),
            "s390x" => Some(Machine::S390x),
            _ => None,
        }
    }

    /// Where a register is in `struct pt_regs`, in bytes.
    fn register(self, name: &str) -> Option<i16> {
        let numbered = |prefix: &str, count: i16| -> Option<i16> {
            let digits = name.strip_prefix(prefix)?;
            // As assemblers write it: no sign, no zero in front.
            let plain = digits == "0" || !digits.starts_with('0');
            let number = i16::try_from(unsigned(digits, 10)?).ok()?;
            (plain && number < count).then_some(number)
        };
        match self {
            Machine::X86_64 => x86_register(name),
            Machine::Aarch64 => match name {
                "sp" | "wsp" => Some(31 * 8),
                _ => numbered("x", 31).or_else(|| numbered("w", 31)).map(|n| n * 8),
            },
            Machine::Riscv64 => {
                const NAMES: [&str; 32] = [
                    "pc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5",
                    "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
                ];
                let name = if name == "fp" { "s0" } else { name };
                NAMES.iter().position(|other| *other == name).map(|n| n as i16 * 8)
            }
            // `args[1]`, `psw` (16 bytes), then the registers.
            Machine::S390x => numbered("r", 16).map(|n| 24 + n * 8),
        }
    }
}

fn x86_register(name: &str) -> Option<i16> {
    // `struct pt_regs` of arch/x86/include/uapi/asm/ptrace.h: r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx,
    // si, di, orig_ax, ip, cs, flags, sp, ss.
    let slot = match name {
        "rip" | "eip" => 16,
        "rsp" | "esp" | "sp" | "spl" => 19,
        "rbp" | "ebp" | "bp" | "bpl" => 4,
        "rax" | "eax" | "ax" | "al" => 10,
        "rbx" | "ebx" | "bx" | "bl" => 5,
        "rcx" | "ecx" | "cx" | "cl" => 11,
        "rdx" | "edx" | "dx" | "dl" => 12,
        "rsi" | "esi" | "si" | "sil" => 13,
        "rdi" | "edi" | "di" | "dil" => 14,
        _ => {
            let digits = name.strip_prefix('r')?;
            match digits.strip_suffix(['d', 'w', 'b']).unwrap_or(digits) {
                "8" => 9,
                "9" => 8,
                "10" => 7,
                "11" => 6,
                "12" => 3,
                "13" => 2,
                "14" => 1,
                "15" => 0,
                _ => return None,
            }
        }
    };
    Some(slot * 8)
}

/// Where an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// `BPF_USDT_ARG_CONST`.
    Const(i64),
    /// `BPF_USDT_ARG_REG`: in a register, given as its offset in `struct pt_regs`.
    Register(i16),
    /// `BPF_USDT_ARG_REG_DEREF`: in memory at a register plus an offset.
    Memory {
        /// The register.
        base: i16,
        /// Bytes after it.
        offset: i64,
    },
    /// `BPF_USDT_ARG_SIB` (libbpf 1.7): in memory at a register plus a scaled register plus an offset.
    Indexed {
        /// The register.
        base: i16,
        /// The register that is scaled.
        index: i16,
        /// How many bits the index is shifted.
        shift: u8,
        /// Bytes after it.
        offset: i64,
    },
    /// In a place that BPF cannot reach; reading it gives `EINVAL`.
    Unreachable,
}

/// One argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arg {
    /// 1, 2, 4 or 8 bytes.
    pub size_bytes: u8,
    /// Whether it is extended by its sign.
    pub signed: bool,
    /// Where it is.
    pub location: Location,
}

/// The arguments of one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// In order; at most [`MAX_ARGS`].
    pub args: Vec<Arg>,
    /// What of the note could not be used, for people.
    pub unusable: Vec<Unusable>,
}

/// An argument that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Its number, from 0.
    pub number: usize,
    /// As the note spells it.
    pub text: String,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "argument {} (`{}`) is in a place that BPF cannot read", self.number, self.text)
    }
}

impl Args {
    /// Translates a note's arguments.
    pub fn parse(machine: Machine, text: &str) -> Args {
        let mut args = Args::default();
        for (number, text) in split(text).into_iter().enumerate() {
            let arg = if number < MAX_ARGS { parse_arg(machine, text) } else { None };
            if arg.is_none_or(|arg| arg.location == Location::Unreachable) {
                args.unusable.push(Unusable { number, text: text.to_owned() });
            }
            if number < MAX_ARGS {
                args.args.push(arg.unwrap_or(Arg { size_bytes: 8, signed: false, location: Location::Unreachable }));
            }
        }
        args
    }

    /// The bytes of `struct __bpf_usdt_spec`, in this machine's byte order.
    pub fn encode(&self, cookie: u64) -> [u8; SPEC_LEN_BYTES] {
        let mut bytes = [0; SPEC_LEN_BYTES];
        for (arg, out) in self.args.iter().zip(bytes.chunks_exact_mut(16)) {
            // (`val_off`, `arg_type`, `reg_off`, and the index's 12 bits and shift's 4 of libbpf 1.7)
            let (value, kind, base, index, shift) = match arg.location {
                Location::Const(value) => (value, 0u32, 0, 0, 0),
                Location::Register(register) => (0, 1, register, 0, 0),
                Location::Memory { base, offset } => (offset, 2, base, 0, 0),
                Location::Indexed { base, index, shift, offset } => (offset, 3, base, index as u32, u32::from(shift)),
                Location::Unreachable => (0, 0xff, 0, 0, 0),
            };
            // Before 1.7 the whole word is `arg_type`, so an index makes it a type that the old header refuses. On
            // big-endian machines the header spells the same fields from the other end.
            let word = if cfg!(target_endian = "big") {
                if index == 0 && shift == 0 && kind != 0xff { kind } else { kind << 24 | index << 12 | shift << 8 }
            } else {
                kind | index << 8 | shift << 20
            };
            out[..8].copy_from_slice(&value.to_ne_bytes());
            out[8..12].copy_from_slice(&word.to_ne_bytes());
            out[12..14].copy_from_slice(&base.to_ne_bytes());
            out[14] = u8::from(arg.signed);
            out[15] = 64 - arg.size_bytes * 8;
        }
        bytes[192..200].copy_from_slice(&cookie.to_ne_bytes());
        bytes[200..202].copy_from_slice(&(self.args.len() as i16).to_ne_bytes());
        bytes
    }
}

/// How many arguments a note spells.
pub fn count(text: &str) -> u32 {
    split(text).len() as u32
}

/// Arguments are separated by spaces, but an operand in brackets may have spaces too: `8@[sp, 16]`.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0usize);
    for (at, letter) in text.char_indices() {
        match letter {
            '[' | '(' => depth += 1,
            ']' | ')' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.is_empty());
    parts
}

/// `None` if the spelling itself is not understood.
fn parse_arg(machine: Machine, text: &str) -> Option<Arg> {
    let (size, operand) = text.split_once('@')?;
    // `8f@%xmm0`: floating point.
    let (size, float) = match size.strip_suffix('f') {
        Some(size) => (size, true),
        None => (size, false),
    };
    let (signed, size) = match size.strip_prefix('-') {
        Some(size) => (true, size),
        None => (false, size),
    };
    let size_bytes = u8::try_from(unsigned(size, 10)?).ok().filter(|size| matches!(size, 1 | 2 | 4 | 8))?;
    let location = match operand_of(machine, operand.trim()) {
        Some(location) if !float => location,
        _ => Location::Unreachable,
    };
    Some(Arg { size_bytes, signed, location })
}

fn operand_of(machine: Machine, text: &str) -> Option<Location> {
    match machine {
        Machine::X86_64 => {
            if let Some(value) = text.strip_prefix('$') {
                return Some(Location::Const(number(value)?));
            }
            if let Some(name) = text.strip_prefix('%') {
                return Some(Location::Register(machine.register(name)?));
            }
            let (offset, inside) = text.strip_suffix(')')?.split_once('(')?;
            let offset = if offset.is_empty() { 0 } else { number(offset)? };
            let mut parts = inside.split(',').map(str::trim);
            let base = machine.register(parts.next()?.strip_prefix('%')?)?;
            let Some(index) = parts.next() else { return Some(Location::Memory { base, offset }) };
            let index = machine.register(index.strip_prefix('%')?)?;
            let shift = match parts.next() {
                None | Some("1") => 0,
                Some("2") => 1,
                Some("4") => 2,
                Some("8") => 3,
                Some(_) => return None,
            };
            if parts.next().is_some() {
                return None;
            }
            Some(Location::Indexed { base, index, shift, offset })
        }
        Machine::Aarch64 => {
            let Some(inside) = text.strip_prefix('[') else { return register_or_const(machine, text) };
            let mut parts = inside.strip_suffix(']')?.split(',').map(str::trim);
            let base = machine.register(parts.next()?)?;
            let Some(second) = parts.next() else { return Some(Location::Memory { base, offset: 0 }) };
            if let Some(index) = machine.register(second) {
                let shift = match parts.next() {
                    None => 0,
                    Some(shift) => unsigned(immediate(shift.strip_prefix("lsl ")?.trim_start()), 10)?,
                };
                let shift = u8::try_from(shift).ok().filter(|shift| *shift < 4)?;
                return parts.next().is_none().then_some(Location::Indexed { base, index, shift, offset: 0 });
            }
            let offset = number(immediate(second))?;
            if parts.next().is_some() {
                return None;
            }
            Some(Location::Memory { base, offset })
        }
        Machine::Riscv64 | Machine::S390x => {
            let strip = |name: &'_ str| -> Option<i16> { machine.register(name.strip_prefix('%').unwrap_or(name)) };
            match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
                Some((offset, base)) => {
                    let offset = if offset.is_empty() { 0 } else { number(offset)? };
                    Some(Location::Memory { base: strip(base)?, offset })
                }
                None => match text.strip_prefix('%') {
                    Some(name) => Some(Location::Register(machine.register(name)?)),
                    None => register_or_const(machine, text),
                },
            }
        }
    }
}

fn register_or_const(machine: Machine, text: &str) -> Option<Location> {
    machine.register(text).map(Location::Register).or_else(|| number(immediate(text)).map(Location::Const))
}

/// A constant without the mark that it may have.
fn immediate(text: &str) -> &str {
    text.strip_prefix('#').unwrap_or(text)
}

/// Digits and nothing else: the standard library takes a sign, too.
fn unsigned(digits: &str, radix: u32) -> Option<u64> {
    digits.chars().all(|digit| digit.is_digit(radix)).then(|| u64::from_str_radix(digits, radix).ok())?
}

/// A decimal or hexadecimal number, signed; large unsigned ones wrap, as the assembler's do.
pub(crate) fn number(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match digits.strip_prefix("0x") {
        Some(digits) => unsigned(digits, 16)?,
        None => unsigned(digits, 10)?,
    };
    Some(if negative { (value as i64).wrapping_neg() } else { value as i64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(machine: Machine, text: &str, expected: &[(i8, Location)]) {
        let found: Vec<(i8, Location)> = Args::parse(machine, text)
            .args
            .iter()
            .map(|arg| (if arg.signed { -(arg.size_bytes as i8) } else { arg.size_bytes as i8 }, arg.location))
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn x86_operands() {
        use Location::*;
        let m = Machine::X86_64;
        check(
            m,
            "-4@%eax 8@%r15 2@%r9w 1@%dil",
            &[(-4, Register(80)), (8, Register(0)), (2, Register(64)), (1, Register(112))],
        );
        check(
            m,
            "8@-1204(%rbp) 4@(%rsp)",
            &[(8, Memory { base: 32, offset: -1204 }), (4, Memory { base: 152, offset: 0 })],
        );
        check(m, "-4@$5 8@$-1 8@$0x10", &[(-4, Const(5)), (8, Const(-1)), (8, Const(16))]);
        check(m, "8@8(%rax,%rbx,8)", &[(8, Indexed { base: 80, index: 40, shift: 3, offset: 8 })]);
        check(m, "", &[]);
    }

    #[test]
    fn aarch64_operands() {
        use Location::*;
        let m = Machine::Aarch64;
        check(
            m,
            "-4@[sp, 60] 8@x1 4@w0",
            &[(-4, Memory { base: 248, offset: 60 }), (8, Register(8)), (4, Register(0))],
        );
        check(m, "8@[x0] -4@5 8@sp", &[(8, Memory { base: 0, offset: 0 }), (-4, Const(5)), (8, Register(248))]);
        check(
            m,
            "8@[x21, x22] 8@[x1, x2, lsl 3]",
            &[
                (8, Indexed { base: 168, index: 176, shift: 0, offset: 0 }),
                (8, Indexed { base: 8, index: 16, shift: 3, offset: 0 }),
            ],
        );
    }

    #[test]
    fn riscv_and_s390_operands() {
        use Location::*;
        check(
            Machine::Riscv64,
            "-8@-88(s0) 4@a5 8@7",
            &[(-8, Memory { base: 64, offset: -88 }), (4, Register(120)), (8, Const(7))],
        );
        check(
            Machine::S390x,
            "4@160(%r15) 8@%r2 -4@1",
            &[(4, Memory { base: 144, offset: 160 }), (8, Register(40)), (-4, Const(1))],
        );
    }

    #[test]
    fn what_bpf_cannot_read_is_reported_and_leaves_the_others() {
        let args = Args::parse(Machine::X86_64, "8f@%xmm0 4@%eax 8@counter(%rip) junk");
        let kinds: Vec<bool> = args.args.iter().map(|arg| arg.location == Location::Unreachable).collect();
        assert_eq!(kinds, [true, false, true, true]);
        assert_eq!(args.unusable.iter().map(|arg| arg.number).collect::<Vec<_>>(), [0, 2, 3]);
        assert_eq!(args.unusable[0].to_string(), "argument 0 (`8f@%xmm0`) is in a place that BPF cannot read");
    }

    /// What no assembler writes is not understood, rather than misunderstood: a wrong place would be read as the argument.
    #[test]
    fn what_only_looks_like_an_operand_is_refused() {
        let refused = |machine: Machine, operands: &[&str]| {
            for operand in operands {
                let args = Args::parse(machine, operand);
                let found: Vec<Location> = args.args.iter().map(|arg| arg.location).collect();
                assert_eq!(found, [Location::Unreachable], "{operand}");
            }
        };
        let x86 =
            ["+8@%rax", "--8@%rax", "8@%r8dw", "8@%r8db", "8@$-+5", "8@$0x+5", "8@$++5", "8@$", "8@4(%rax,%rbx,8,1)"];
        refused(Machine::X86_64, &x86);
        let arm = [
            "8@x-1",
            "8@x+1",
            "8@x01",
            "8@w-3",
            "8@x31",
            "8@[x0, x1, lsl +3]",
            "8@[x0, x1, lsl3]",
            "8@[x0, 8, 9]",
            "8@[x0, x1, lsl 1, 2]",
            "8@##5",
            "8@[x0, ##8]",
            "8@[x0, x1, lsl 4]",
        ];
        refused(Machine::Aarch64, &arm);
        refused(Machine::S390x, &["8@r-1", "8@%r-1", "8@%r16", "8@8(%r-2)"]);
        refused(Machine::Riscv64, &["8@a-1", "8@8(x1)"]);
    }

    #[test]
    fn more_than_twelve_are_cut_and_reported() {
        let args = Args::parse(Machine::X86_64, &"4@%eax ".repeat(14));
        assert_eq!(args.args.len(), MAX_ARGS);
        assert_eq!(args.unusable.len(), 2);
    }

    /// The layout of `usdt.bpf.h`: `val_off`, `arg_type`, `reg_off`, `arg_signed`, `arg_bitshift`; cookie; `arg_cnt`.
    #[test]
    #[cfg(target_endian = "little")]
    fn the_bytes_are_those_of_the_header() {
        let bytes = Args::parse(Machine::X86_64, "-4@-16(%rbp) 8@8(%rax,%rbx,8)").encode(0x1122);
        assert_eq!(bytes[..8], (-16i64).to_le_bytes());
        assert_eq!(bytes[8..16], [2, 0, 0, 0, 32, 0, 1, 32]);
        assert_eq!(bytes[24..32], [3, 40, 0x30, 0, 80, 0, 0, 0]);
        assert_eq!(bytes[192..202], [0x22, 0x11, 0, 0, 0, 0, 0, 0, 2, 0]);
    }

    #[test]
    fn hostile_text_does_not_panic() {
        for text in [
            "@",
            "4@",
            "-@%rax",
            "9@%rax",
            "4@$",
            "4@((",
            "4@)%",
            "4@[",
            "4@]",
            "99999999999@x",
            "4@$99999999999999999999",
        ] {
            for machine in [Machine::X86_64, Machine::Aarch64, Machine::Riscv64, Machine::S390x] {
                Args::parse(machine, text).encode(0);
            }
        }
    }
}

//! Our LLVM spelling against llvm-objdump itself: on every instruction there is, and on what clang makes of C.
//!
//! Objects are read with a few lines of ELF here, because the crate that knows ELF stands above this one.

mod support;
mod tools;

use skep_insn::text::{Llvm, Names, Printer, Spelling, assemble};
use skep_insn::{AluOp, AtomicOp, Cond, Endian, Imm64, Insn, InsnIdx, Operand, RawInsn, Width, slots_from_bytes};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use support::*;
use tools::*;

/// What llvm-objdump prints for each section: the index of the first slot of each line and its text.
fn objdump(llvm: u32, options: &[&str], file: &str, dir: &Path) -> BTreeMap<String, Vec<(u32, String)>> {
    let mut args = vec!["-d", "--no-show-raw-insn"];
    args.extend(options);
    args.push(file);
    let text = run(&format!("llvm-objdump-{llvm}"), &args, dir);
    let mut sections = BTreeMap::<_, Vec<_>>::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("Disassembly of section ") {
            section = name.trim_end_matches(':').to_owned();
        } else if let Some((idx, insn)) = line.split_once(":\t")
            && let Ok(idx) = idx.trim().parse()
        {
            sections.entry(section.clone()).or_default().push((idx, insn.trim_end().to_owned()));
        }
    }
    sections
}

/// The name of a jump's target as llvm-objdump writes it, when `f` is the only symbol.
struct OneFunction;

impl Names for OneFunction {
    fn target(&self, target: i64) -> Option<String> {
        match target * 8 {
            0 => Some("f".to_owned()),
            bytes => Some(format!("f+{bytes:#x}")),
        }
    }
}

/// What LLVM 19 has no text for, because LLVM 20 to 22 brought it.
fn newer_than_19(insn: &Insn) -> bool {
    matches!(insn, Insn::LoadAcquire { .. } | Insn::StoreRelease { .. } | Insn::JumpReg { .. })
}

/// What LLVM 14 prints otherwise than 19 does, beyond its decimal numbers: it does not know ISA v4, nor a few
/// instructions of older versions, and ignores what v4 put into `off`.
fn unlike_14(insn: &Insn) -> bool {
    let signed = |op: &AluOp| matches!(op, AluOp::SDiv | AluOp::SMod);
    match insn {
        Insn::Alu { op, .. } if signed(op) => true,
        Insn::Alu { op: AluOp::Mod, .. } => true,
        Insn::Branch { cond: Cond::Set, .. } => true,
        Insn::Store { src: Operand::Imm(_), .. } => true,
        Insn::Load { ty, .. } => ty.is_signed(),
        // 14 takes half of them for a `lea` of its own.
        Insn::LoadImm64 { value, .. } => !matches!(value, Imm64::Value(_)),
        // 14 looks for the register of a call in the immediate, 19 in dst_reg.
        Insn::CallReg { target } => target.number() != 0,
        Insn::MovSx { .. } | Insn::AddrSpaceCast { .. } | Insn::JumpLong { .. } | Insn::MayGoto { .. } => true,
        Insn::Swap { kind: skep_insn::SwapKind::Bswap, .. } => true,
        _ => newer_than_19(insn),
    }
}

/// What llvm-objdump does not read right unless 32-bit arithmetic is turned on: it takes 4-byte atomics for additions
/// or for nothing.
fn needs_alu32(insn: &Insn) -> bool {
    matches!(insn, Insn::Atomic { op, width: Width::W32, .. } if *op != AtomicOp::Add)
}

fn check_all(llvm: u32, options: &[&str], style: Llvm, endian: Endian, differs: fn(&Insn) -> bool) {
    let scratch = Scratch::new(&format!("all-{llvm}-{}-{}", triple(endian), style.alu32));
    let insns: Vec<Insn> = every_insn().into_iter().filter(|insn| !differs(insn)).collect();
    let code: Vec<RawInsn> = insns.iter().flat_map(Insn::encode).collect();
    object_of(&code, ".text", endian, llvm, &scratch.0);
    let theirs = &objdump(llvm, options, "all.o", &scratch.0)[".text"];
    let ours = Printer::new(Spelling::Llvm(style)).names(&OneFunction);
    let mut wrong = Vec::new();
    let mut compared = 0;
    for ((idx, text), (their_idx, their_text)) in ours.lines(&code).zip(theirs) {
        assert_eq!(idx.0, *their_idx, "lines run apart at {text} / {their_text}, {wrong:?}");
        compared += 1;
        // Targets before or behind the code are named by neither alike; the tool wraps them around.
        let target = |text: &str| text.split(" <f").next().map(str::to_owned);
        let outside = their_text.contains(" <f") != text.contains(" <f") || text.contains("<f+-");
        let far = text.split_once("<f+0x").is_some_and(|(_, hex)| {
            i64::from_str_radix(hex.trim_end_matches('>'), 16).map_or(true, |bytes| bytes >= code.len() as i64 * 8)
        });
        let equal = match outside || far {
            true => target(&text) == target(their_text),
            false => text == *their_text,
        };
        if !equal {
            wrong.push(format!("{idx}: ours `{text}`, llvm-objdump-{llvm} `{their_text}`"));
        }
    }
    assert_eq!(compared, insns.len());
    let (count, some) = (wrong.len(), &wrong[..wrong.len().min(20)]);
    assert!(wrong.is_empty(), "{count} of {compared}:\n{}", some.join("\n"));
}

#[test]
fn every_instruction_reads_as_in_llvm_19() {
    for endian in [Endian::Little, Endian::Big] {
        let style = Llvm { alu32: true, decimal: false };
        check_all(19, &["--mcpu=v4"], style, endian, newer_than_19);
        let style = Llvm { alu32: false, decimal: false };
        check_all(19, &[], style, endian, |insn| newer_than_19(insn) || needs_alu32(insn));
    }
}

#[test]
fn every_instruction_reads_as_in_llvm_14_but_for_the_known_ones() {
    for endian in [Endian::Little, Endian::Big] {
        let style = Llvm { alu32: true, decimal: true };
        check_all(14, &["--mattr=+alu32"], style, endian, unlike_14);
        let style = Llvm { alu32: false, decimal: true };
        check_all(14, &[], style, endian, |insn| unlike_14(insn) || needs_alu32(insn));
    }
}

/// Every opcode with fields in and out of place: LLVM must not read an instruction where we see none, but for the
/// fields it never looks at.
#[test]
fn llvm_19_knows_no_opcode_that_we_do_not() {
    let scratch = Scratch::new("opcodes");
    let code: Vec<RawInsn> =
        (0..=255).filter(|code| *code != 0x18).map(|code| RawInsn::new(code, 1, 0, 0, 16)).collect();
    object_of(&code, ".text", Endian::Little, 19, &scratch.0);
    let theirs = &objdump(19, &["--mcpu=v4"], "all.o", &scratch.0)[".text"];
    assert_eq!(theirs.len(), code.len());
    for (slot, (_, text)) in code.iter().zip(theirs) {
        let known = (0..=255u8).any(|regs| {
            let registers = RawInsn { dst_reg: regs & 15, src_reg: regs >> 4, ..*slot };
            [0, 16].into_iter().any(|imm| Insn::decode(&[RawInsn { imm, ..registers }]).is_ok())
        });
        assert!(known || text == "<unknown>", "{:02x} is `{text}`", slot.code);
    }
}

const SOURCE: &str = r#"
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;
typedef signed char s8; typedef short s16; typedef int s32; typedef long long s64;
#define SEC(name) __attribute__((section(name), used))
#define noinline __attribute__((noinline))
struct ctx { u32 a; u8 b; u16 c; u64 d; s8 e[8]; s16 f[4]; s32 g; u32 h; };
static void *(*lookup)(void *, const void *) = (void *)1;
static long (*now)(void) = (void *)5;
static long (*loop)(u32, void *, void *, u64) = (void *)181;
extern void kernel_function(u64 x) SEC(".ksyms");
struct { int (*type)[1]; int (*max_entries)[8]; u32 *key; u64 *value; } table SEC(".maps");
const volatile int setting = 7;
u64 total; u32 seen[16];
noinline static u64 mix(u64 x) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; return x * 0x9e3779b97f4a7c15ULL; }
noinline u64 global_sum(const u32 *p, u32 n) { u64 s = 0; for (u32 i = 0; i < n; i++) s += p[i]; return s; }
static long step(u32 i, void *data) { *(u64 *)data += i; return i > 5; }
SEC("socket") int arithmetic(struct ctx *c) {
  u64 x = c->d; u32 y = c->a; s64 z = (s64)x;
  x += y; x -= 3; x *= 7; x /= 5; x |= y; x &= 0xff00ff; x %= 1000; x ^= 0x55; y *= 3; y /= 7; y <<= 3; y >>= 1; y %= 13;
  z >>= 3; z = -z; y = -y; s32 w = (s32)y; w >>= 2;
  c->d = x + y + z + w + (s64)(s32)c->h + (s64)(s16)x + (s64)(s8)y;
  c->a = __builtin_bswap32(c->a); c->c = __builtin_bswap16(c->c); c->d = __builtin_bswap64(c->d);
  return (int)x;
}
SEC("socket") int memory(struct ctx *c) {
  s64 s = 0;
  for (int i = 0; i < 4; i++) s += c->e[i] + c->f[i];
  s += c->g; c->b = 1; c->c = 0xffff; c->a = 0x80000000; c->d = -1; c->h = (u32)s; total += s; seen[s & 15]++;
  return (int)s + setting;
}
SEC("socket") int branches(struct ctx *c) {
  s32 a = (s32)c->a; u64 d = c->d; s64 e = (s64)c->d; int r = 0;
  if (a < -7) r += 1; if (a > 100) r += 2; if (d > 0x7fffffff) r += 4; if (e <= -5) r += 8; if (d & 0x10) r += now();
  if (c->b == 3) r += now(); if (c->c != 9) r += now(); if ((u32)a >= c->h) r += now(); if (e > (s64)r) r += now();
  while (d > 3 && now() > r) d >>= 1;
  switch (c->b) { case 1: r += mix(d); break; case 2: r -= 9; break; case 7: r = now(); break; default: r ^= 3; }
  return r + (int)d;
}
SEC("xdp") int calls(struct ctx *c) {
  u32 key = c->a; u64 *value = lookup(&table, &key); u64 sum = 0;
  if (value) { __sync_fetch_and_add(value, 1); *value += mix(*value); }
  sum += global_sum(seen, 4);
  loop(4, step, &sum, 0);
  kernel_function(sum);
  return (int)(sum ^ 0x123456789abcdefULL);
}
#ifdef ATOMICS
SEC("xdp") int atomics(struct ctx *c) {
  u64 r = __sync_fetch_and_add(&c->d, 5); r += __sync_fetch_and_or(&c->d, r); r += __sync_fetch_and_and(&c->d, r);
  r += __sync_fetch_and_xor(&c->d, r); r += __sync_lock_test_and_set(&c->d, r); r += __sync_val_compare_and_swap(&c->d, r, 9);
  u32 s = __sync_fetch_and_add(&c->h, 5); s += __sync_fetch_and_or(&c->h, s); s += __sync_lock_test_and_set(&c->h, s);
  s += __sync_val_compare_and_swap(&c->h, s, 9); __sync_fetch_and_and(&c->h, s); __sync_fetch_and_xor(&c->d, r);
  return (int)(r + s);
}
#endif
#ifdef SIGNED
SEC("xdp") int divisions(struct ctx *c) {
  s64 d = (s64)c->d; s32 a = (s32)c->a; d /= 3; d %= a; a /= 5; a %= (s32)c->h; return (int)d + a;
}
#endif
char _license[] SEC("license") = "GPL";
"#;

/// The sections with code of a 64-bit ELF file: name and contents.
fn code_sections(elf: &[u8], endian: Endian) -> Vec<(String, Vec<u8>)> {
    let int = |at: usize, len: usize| {
        let bytes = elf[at..at + len].iter().map(|byte| u64::from(*byte));
        match endian {
            Endian::Little => bytes.rev().fold(0, |n, byte| n << 8 | byte) as usize,
            Endian::Big => bytes.fold(0, |n, byte| n << 8 | byte) as usize,
        }
    };
    let (table, entry, count, names) = (int(0x28, 8), int(0x3a, 2), int(0x3c, 2), int(0x3e, 2));
    let header = |i: usize| table + i * entry;
    let names = int(header(names) + 0x18, 8);
    let mut found = Vec::new();
    for i in 0..count {
        let (name, flags) = (names + int(header(i), 4), int(header(i) + 8, 8));
        let (start, len) = (int(header(i) + 0x18, 8), int(header(i) + 0x20, 8));
        // SHF_EXECINSTR
        if flags & 4 != 0 && len > 0 {
            let name = elf[name..].iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect();
            found.push((name, elf[start..start + len].to_vec()));
        }
    }
    found
}

#[test]
fn compiled_programs_read_as_in_llvm_objdump_and_assemble_again() {
    let scratch = Scratch::new("compiled");
    std::fs::write(scratch.0.join("prog.c"), SOURCE).expect("the scratch folder can be written");
    let mut lines = 0;
    for (llvm, cpus) in [(14, &["v1", "v2", "v3"][..]), (19, &["v1", "v2", "v3", "v4"])] {
        for cpu in cpus {
            for endian in [Endian::Little, Endian::Big] {
                let mcpu = format!("-mcpu={cpu}");
                let mut args = vec!["-O2", "-w", "-target", triple(endian), &mcpu, "-c", "prog.c", "-o", "prog.o"];
                match *cpu {
                    "v3" => args.push("-DATOMICS"),
                    "v4" => args.extend(["-DATOMICS", "-DSIGNED"]),
                    _ => {}
                }
                run(&format!("clang-{llvm}"), &args, &scratch.0);
                let elf = std::fs::read(scratch.0.join("prog.o")).expect("clang wrote the object");
                let alu32 = matches!(*cpu, "v3" | "v4");
                let options: &[&str] = match (alu32, llvm) {
                    (false, _) => &[],
                    (true, 14) => &["--mattr=+alu32"],
                    (true, _) => &["--mcpu=v4"],
                };
                // clang-14's programs are shown by llvm-objdump-14, but for jumps on common bits, which only 19 reads.
                for objdump_version in [llvm, 19] {
                    let options = if objdump_version == 19 && alu32 { &["--mcpu=v4"] } else { options };
                    let theirs = objdump(objdump_version, options, "prog.o", &scratch.0);
                    let style = Llvm { alu32, decimal: objdump_version == 14 };
                    for (section, bytes) in code_sections(&elf, endian) {
                        let code = slots_from_bytes(&bytes, endian).expect("sections hold whole slots");
                        let printer = Printer::new(Spelling::Llvm(style));
                        for ((idx, ours), (their_idx, text)) in printer.lines(&code).zip(&theirs[&section]) {
                            let what = format!("clang-{llvm} {cpu} {endian:?} {section} {idx}");
                            assert_eq!(idx.0, *their_idx, "{what}");
                            let insn = Insn::decode(&code[idx.0 as usize..]).unwrap_or_else(|e| panic!("{what}: {e}"));
                            if objdump_version == 14 && unlike_14(&insn) {
                                continue;
                            }
                            let text = match text.strip_suffix('>').and_then(|text| text.rsplit_once(" <")) {
                                Some((text, _target)) => text,
                                None => text,
                            };
                            assert_eq!(ours, text, "{what}");
                            lines += 1;
                        }
                        let exact = printer.exact().listing(&code);
                        assert!(assemble(&exact).is_ok_and(|assembly| assembly.code == code), "{exact}");
                        let kernel = Printer::new(Spelling::Kernel).exact().listing(&code);
                        assert!(assemble(&kernel).is_ok_and(|assembly| assembly.code == code), "{kernel}");
                    }
                }
            }
        }
    }
    assert!(lines > 4000, "only {lines} lines were compared");
}

/// Our text is also what LLVM's assembler reads: the other half of "the same language".
#[test]
fn llvm_19_assembles_our_text_to_the_same_bits() {
    let scratch = Scratch::new("assembled");
    // What LLVM 19 prints but does not read back, or reads as another encoding of the same.
    let unread = |insn: &Insn| match insn {
        Insn::CallRegInImm { .. } | Insn::CallLocal { .. } | Insn::CallKfunc { .. } | Insn::MayGoto { .. } => true,
        Insn::LoadInd { off, .. } => *off != 0,
        Insn::JumpLong { off } => i16::try_from(*off).is_err(),
        Insn::LoadImm64 { value, .. } => !matches!(value, Imm64::Value(_)),
        _ => newer_than_19(insn),
    };
    let insns: Vec<Insn> = every_insn().into_iter().filter(|insn| !unread(insn)).collect();
    let code: Vec<RawInsn> = insns.iter().flat_map(Insn::encode).collect();
    let mut source = ".text\n".to_owned();
    for (_, line) in Printer::new(Spelling::LLVM).lines(&code) {
        writeln!(source, "{line}").expect("strings take all text");
    }
    std::fs::write(scratch.0.join("ours.s"), source).expect("the scratch folder can be written");
    let args = ["-target", "bpfel", "-mcpu=v4", "-c", "ours.s", "-o", "ours.o"];
    run("clang-19", &args, &scratch.0);
    let elf = std::fs::read(scratch.0.join("ours.o")).expect("clang wrote the object");
    let sections = code_sections(&elf, Endian::Little);
    let (_, bytes) = sections.first().expect("there is one section with code");
    let theirs = slots_from_bytes(bytes, Endian::Little).expect("sections hold whole slots");
    for (idx, (ours, theirs)) in code.iter().zip(&theirs).enumerate() {
        let text = || Printer::new(Spelling::LLVM).insn(&code, InsnIdx(idx as u32));
        assert_eq!(ours, theirs, "{idx}: {}", text());
    }
    assert_eq!(code.len(), theirs.len());
}

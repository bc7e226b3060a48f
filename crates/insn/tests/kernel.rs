//! Our kernel spelling against the kernel's own text (the verifier's log) and bpftool's, on programs loaded into the
//! running kernel.
//!
//! Each program is pinned in a bpffs that is mounted in a mount namespace of its own, so nothing is left behind
//! whatever happens.

mod support;
mod tools;

use skep_insn::text::{Names, Printer, Spelling, assemble};
use skep_insn::{
    AluOp, AtomicOp, Cond, Endian, Insn, InsnIdx, RawInsn, SignExtend, SwapBits, SwapKind, Width, helpers,
};
use skep_insn::{Size, slots_from_bytes};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use tools::*;

/// What the kernel and bpftool said about a program.
struct Loaded {
    /// The instructions as the verifier saw them, by slot, from its log.
    log: BTreeMap<u32, String>,
    /// The instructions as the kernel holds them, by slot, as bpftool prints them.
    dump: Vec<(u32, String)>,
    /// The slots that bpftool printed.
    xlated: Vec<RawInsn>,
}

const LOAD: &str = "
    mkdir -p mnt && mount -t bpf bpf mnt || exit 42
    bpftool -d prog load prog.o mnt/p >log 2>&1 || { tail -n 30 log >&2; exit 43; }
    bpftool prog dump xlated pinned mnt/p >dump && bpftool prog dump xlated pinned mnt/p file dump.bin
    rc=$?
    rm mnt/p && umount mnt
    exit $rc";

/// Loads `prog.o` of a folder and takes it out again. `None` if the process may not, which is said on the terminal.
fn load(dir: &Path) -> Option<Loaded> {
    let status = std::fs::read_to_string("/proc/self/status").expect("tests run on Linux");
    let root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    if !root {
        println!("skipped: needs root with BPF and mount namespaces");
        return None;
    }
    let tool = Command::new("bpftool").arg("version").output();
    assert!(tool.is_ok_and(|output| output.status.success()), "no bpftool; run cargo xtask setup");
    let output = Command::new("unshare").args(["-m", "sh", "-c", LOAD]).current_dir(dir).output();
    let output = output.unwrap_or_else(|error| panic!("unshare: {error}; run cargo xtask setup"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let forbidden = output.status.code() == Some(42) || stderr.contains("Operation not permitted");
    if !output.status.success() && forbidden {
        println!("skipped: needs root with BPF and mount namespaces");
        return None;
    }
    assert!(output.status.success(), "the program was not loaded: {stderr}");
    let read = |name| std::fs::read_to_string(dir.join(name)).expect("the script wrote it");
    let bytes = std::fs::read(dir.join("dump.bin")).expect("the script wrote it");
    Some(Loaded {
        log: read("log").lines().filter_map(indexed).map(|(at, text)| (at, without_state(text).to_owned())).collect(),
        dump: read("dump").lines().filter_map(indexed).map(|(at, text)| (at, text.to_owned())).collect(),
        xlated: slots_from_bytes(&bytes, Endian::NATIVE).expect("bpftool writes whole slots"),
    })
}

/// The index and the instruction of a line such as `  12: (b7) r1 = 5`.
fn indexed(line: &str) -> Option<(u32, &str)> {
    let (idx, text) = line.split_once(": ")?;
    let idx = idx.trim().parse().ok()?;
    text.starts_with(['(', 'B']).then_some((idx, text))
}

/// The log writes the registers behind the instruction: `r1 = 5    ; R1=5`.
fn without_state(text: &str) -> &str {
    let text = text.split_once(" ; ").map_or(text, |(text, _)| text);
    text.trim_end_matches(';').trim_end()
}

/// Names that are not ours to know (addresses, kernel symbols, functions of the program) are those of the line to be
/// compared with.
struct Theirs<'a>(&'a str);

impl Names for Theirs<'_> {
    fn call(&self, _: InsnIdx, insn: RawInsn) -> Option<String> {
        let callee = self.0.split_once("call ")?.1;
        match insn.src_reg {
            1 => Some(callee.strip_prefix("pc")?.to_owned()),
            _ => Some(callee.split_once('#')?.0.to_owned()),
        }
    }

    fn imm64(&self, _: InsnIdx, _: RawInsn, _: i32) -> Option<String> {
        // A map in the log is an address of this very moment.
        let value = self.0.split_once(" = ")?.1;
        value.starts_with("0xffff").then(|| value.to_owned())
    }
}

fn ours(code: &[RawInsn], at: u32, theirs: &str) -> String {
    Printer::new(Spelling::Kernel).names(&Theirs(theirs)).insn(code, InsnIdx(at))
}

/// What bpftool 7.1 (Debian 12) prints for instructions that are younger than it: it has Linux 6.1's text.
fn text_of_6_1(code: &[RawInsn], at: u32) -> Option<String> {
    let slot = code[at as usize];
    let (opcode, text) = (slot.code, ours(code, at, ""));
    if text.contains("__percpu") {
        return Some(format!("({opcode:02x}) r{} = r{}", slot.dst_reg, slot.src_reg));
    }
    let insn = Insn::decode(&code[at as usize..]).ok()?;
    match insn {
        Insn::Alu { op: AluOp::SDiv, .. } => Some(text.replace("s/=", "/=")),
        Insn::Alu { op: AluOp::SMod, .. } => Some(text.replace("s%=", "%=")),
        Insn::MovSx { extend, .. } => Some(text.replace(&format!("(s{})", extend.from_bits()), "")),
        Insn::Swap { kind: SwapKind::Bswap, .. } => Some(format!("BUG_alu64_{opcode:02x}")),
        Insn::Load { ty, .. } if ty.is_signed() => Some(format!("BUG_ldx_{opcode:02x}")),
        Insn::LoadAcquire { .. } | Insn::StoreRelease { .. } => Some(format!("BUG_{opcode:02x}")),
        Insn::JumpLong { off } => Some(format!("({opcode:02x}) if w0 jmp {off:#x} goto pc+0")),
        _ => None,
    }
}

fn check_dump(loaded: &Loaded, what: &str) {
    let code = &loaded.xlated;
    let lines: Vec<_> = Printer::new(Spelling::Kernel).lines(code).map(|(at, _)| at.0).collect();
    let theirs: Vec<_> = loaded.dump.iter().map(|(at, _)| *at).collect();
    assert_eq!(lines, theirs, "{what}: other slots have lines");
    for (at, theirs) in &loaded.dump {
        let ours = ours(code, *at, theirs);
        let old = text_of_6_1(code, *at);
        assert!(ours == *theirs || old.as_ref() == Some(theirs), "{what} {at}: ours `{ours}`, bpftool `{theirs}`");
    }
}

/// Everything that the verifier takes in a socket filter, in one straight line.
fn straight_line() -> String {
    let mut text = "r6 = r1\ncall bpf_get_prandom_u32\nr7 = r0\ncall 7\nr8 = r0\nr9 = r10\n".to_owned();
    let mut line = |line: &str| writeln!(text, "{line}").expect("strings take all text");
    for w in ['r', 'w'] {
        for op in AluOp::ALL {
            line(&format!("{w}7 {} 5", op.symbol()));
            line(&format!("{w}7 {} {w}8", op.symbol()));
        }
        for imm in [0, -1, i32::MAX, i32::MIN] {
            line(&format!("{w}1 = {imm}"));
        }
        line(&format!("{w}7 = -{w}7\n{w}1 = {w}7"));
        for cond in Cond::ALL {
            for src in ["5", "-5", "0x7fffffff"] {
                line(&format!("if {w}7 {} {src} goto +0", cond.symbol()));
            }
            line(&format!("if {w}7 {} {w}8 goto +0", cond.symbol()));
        }
    }
    for extend in SignExtend::ALL {
        let w = extend.width().prefix();
        line(&format!("{w}1 = (s{}){w}8", extend.from_bits()));
    }
    for bits in SwapBits::ALL {
        for kind in SwapKind::ALL {
            line(&format!("r7 = {}{} r7", kind.name(), bits.bits()));
        }
    }
    for value in ["0", "5", "-1", "0x123456789abcdef0"] {
        line(&format!("r1 = {value} ll"));
    }
    line("*(u64 *)(r10 -8) = 7\n*(u64 *)(r10 -16) = -7");
    for size in Size::ALL {
        let ty = size.type_name();
        line(&format!("*({ty} *)(r9 - 8) = r8\n*({ty} *)(r9 - 8) = 9\nr1 = *({ty} *)(r9 - 8)"));
        line(&format!("r1 = load_acquire(({ty} *)(r9 -8))\nstore_release(({ty} *)(r9 -8), r8)"));
    }
    for ty in ["s8", "s16", "s32"] {
        line(&format!("r1 = *({ty} *)(r9 -16)"));
    }
    line("r0 = 1");
    for op in AtomicOp::ALL {
        for width in Width::ALL {
            let atomic = Insn::Atomic { op, width, base: skep_insn::Reg::R9, off: -8, src: skep_insn::Reg::R8 };
            line(&Printer::new(Spelling::LLVM).insn(&atomic.encode(), InsnIdx(0)));
        }
    }
    for ty in ["u8", "u16", "u32"] {
        line(&format!("r1 = *(u32 *)(r6 +16)\nr0 = *({ty} *)skb[4]\nr1 = 3\nr0 = *({ty} *)skb[r1 + 4]"));
        line(&format!("r0 = *({ty} *)skb[-0xfff]\nr1 = 3\nr0 = *({ty} *)skb[r1 + -2]"));
    }
    line("goto +0\ngotol +0\nmay_goto +1\nr0 = 3\nr0 = 0\nexit");
    text
}

#[test]
fn every_instruction_of_a_filter_reads_as_in_the_log_and_the_dump() {
    let scratch = Scratch::new("filter");
    let code = assemble(&straight_line()).unwrap_or_else(|errors| panic!("{errors:?}")).code;
    object_of(&code, "socket", Endian::NATIVE, 19, &scratch.0);
    std::fs::rename(scratch.0.join("all.o"), scratch.0.join("prog.o")).expect("the object was written");
    let Some(loaded) = load(&scratch.0) else { return };
    let mut compared = 0;
    for (at, theirs) in &loaded.log {
        assert_eq!(ours(&code, *at, theirs), *theirs, "{at}");
        compared += 1;
    }
    let all = Printer::new(Spelling::Kernel).lines(&code).count();
    assert!(compared == all, "only {compared} of {all} instructions are in the log");
    check_dump(&loaded, "filter");
}

const SOURCE: &str = r#"
#define SEC(name) __attribute__((section(name), used))
typedef unsigned int u32; typedef unsigned long long u64;
struct { int (*type)[1]; int (*max_entries)[8]; u32 *key; u64 *value; } table SEC(".maps");
struct { int (*type)[2]; int (*max_entries)[8]; u32 *key; u64 *value; } list SEC(".maps");
struct { int (*type)[3]; int (*max_entries)[8]; int (*key_size)[4]; int (*value_size)[4]; } jumps SEC(".maps");
struct { int (*type)[6]; int (*max_entries)[1]; u32 *key; u64 *value; } percpu SEC(".maps");
static void *(*lookup)(void *, const void *) = (void *)1;
static long (*update)(void *, const void *, const void *, u64) = (void *)2;
static u32 (*random_u32)(void) = (void *)7;
static u32 (*cpu)(void) = (void *)8;
static long (*tail_call)(void *, void *, u32) = (void *)12;
static u64 (*ktime)(void) = (void *)5;
static long (*loop)(u32, void *, void *, u64) = (void *)181;
extern void bpf_rcu_read_lock(void) __attribute__((section(".ksyms")));
extern void bpf_rcu_read_unlock(void) __attribute__((section(".ksyms")));
u64 total = 1; u64 counts[8];
static long step(u32 i, void *data) { *(u64 *)data += i; return i > 5; }
__attribute__((noinline)) static u64 mix(u64 x) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; return x * random_u32(); }
struct packet { u32 len; u32 pkt_type; u32 mark; u32 queue; u32 protocol; };
SEC("socket") int prog(struct packet *c) {
  u32 key = random_u32() + cpu(); u64 sum = c->len + c->mark + c->protocol + ktime(); u64 *v = lookup(&table, &key);
  if (v) { __sync_fetch_and_add(v, 1); *v += mix(*v); sum /= *v; sum %= 7; }
  key = 0; v = lookup(&percpu, &key); if (v) sum += *v;
  key = sum & 7; v = lookup(&list, &key); if (v) sum += *v;
  update(&table, &key, &sum, 0); counts[*(volatile u32 *)&key & 7] += sum; total += 3;
  loop(4, step, &sum, 0);
  bpf_rcu_read_lock(); sum += random_u32(); bpf_rcu_read_unlock();
  tail_call(c, &jumps, 3);
  return sum;
}
char _license[] SEC("license") = "GPL";
"#;

#[test]
fn compiled_programs_read_as_in_the_log_and_the_dump() {
    for (llvm, cpu) in [(14, "v1"), (14, "v3"), (19, "v2"), (19, "v3"), (19, "v4")] {
        let scratch = Scratch::new(&format!("compiled-kernel-{llvm}-{cpu}"));
        std::fs::write(scratch.0.join("prog.c"), SOURCE).expect("the scratch folder can be written");
        let mcpu = format!("-mcpu={cpu}");
        let args = ["-O2", "-g", "-w", "-target", "bpf", &mcpu, "-c", "prog.c", "-o", "prog.o"];
        run(&format!("clang-{llvm}"), &args, &scratch.0);
        let Some(loaded) = load(&scratch.0) else { return };
        let what = format!("clang-{llvm} {cpu}");
        check_dump(&loaded, &what);
        // The verifier's input is known to libbpf only, but each of its lines must assemble and print the same again.
        for (at, theirs) in &loaded.log {
            let assembly = assemble(theirs).unwrap_or_else(|errors| panic!("{what} {at}: `{theirs}`: {errors:?}"));
            assert_eq!(ours(&assembly.code, 0, theirs), *theirs, "{what} {at}");
        }
        assert!(loaded.log.len() > 70 && loaded.dump.len() > 90, "{what}: too few lines");
        let has = |part: &str| loaded.dump.iter().any(|(_, text)| text.contains(part));
        for part in ["map[id:", "][0]+", "subprog[+", "call pc+", "call bpf_rcu_read_lock#"] {
            assert!(has(part), "{what}: no `{part}` in the dump");
        }
    }
}

#[test]
fn helper_ids_are_those_of_the_running_kernel() {
    let file = "/sys/kernel/btf/vmlinux";
    if !Path::new(file).exists() {
        println!("skipped: needs kernel BTF");
        return;
    }
    let text = run("bpftool", &["btf", "dump", "file", file], Path::new("/"));
    let mut compared = 0;
    for line in text.lines().filter_map(|line| line.trim().strip_prefix("'BPF_FUNC_")) {
        let (name, id) = line.split_once("' val=").expect("bpftool prints the value behind the name");
        let id = id.parse().expect("values are numbers");
        if id < helpers::COUNT {
            assert_eq!(helpers::name(id), Some(format!("bpf_{name}").as_str()));
            compared += 1;
        }
    }
    assert!(compared > 150, "only {compared} helpers were found in the kernel's BTF");
}

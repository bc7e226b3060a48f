//! Helpers that are not about maps: each by a program that calls it, and those of texts and checksums against the kernel.

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use common::{code, kernel, random::Rng};
use skep_insn::helpers;
use skep_sys::bpf::MapCreate;
use skep_vm::{Block, Cpu, Event, Helpers, Image, LoadErrorKind, Machine, MapKind, MapSpec, Memory, Task, Trap};

const EFAULT: u64 = -14i64 as u64;
const EINVAL: u64 = -22i64 as u64;
const E2BIG: u64 = -7i64 as u64;

/// A task whose memory is one text at 0x1000 and a page without end at 0x2ff0.
#[derive(Debug)]
struct Fake;

impl Task for Fake {
    fn pid_tgid(&self) -> u64 {
        7 << 32 | 8
    }

    fn uid_gid(&self) -> u64 {
        3 << 32 | 4
    }

    fn comm(&self) -> Vec<u8> {
        b"a-name-that-is-too-long".to_vec()
    }

    fn user_stack(&self, max: usize) -> Option<Vec<u64>> {
        Some((0x100..0x100 + 5).take(max).collect())
    }
}

impl Memory for Fake {
    fn read(&self, addr: u64, to: &mut [u8]) -> Option<()> {
        let text = [&b"hello\0"[..], &[9; 0xffa]].concat();
        let pieces: [(u64, &[u8]); 2] = [(0x1000, &text), (0x2ff0, &[b'x'; 16])];
        let (start, bytes) =
            pieces.into_iter().find(|(start, bytes)| (*start..start + bytes.len() as u64).contains(&addr))?;
        let at = (addr - start) as usize;
        to.copy_from_slice(bytes.get(at..at + to.len())?);
        Some(())
    }

    fn write(&self, addr: u64, from: &[u8]) -> Option<()> {
        (addr == 0x1000 && from == [1, 2]).then_some(())
    }
}

struct Bench {
    machine: Arc<Machine>,
    cpu: Cpu,
    input: Block,
}

impl Bench {
    fn new() -> Bench {
        let machine = Machine::with_cpus(Helpers::all(), 4).expect("4 GiB of addresses");
        let mut cpu = Cpu::new(&machine).expect("a stack");
        cpu.set_task(Some(Arc::new(Fake)));
        cpu.set_memory(Some(Arc::new(Fake)));
        let input = machine.space().allocate(1024, true).expect("a block");
        Bench { machine, cpu, input }
    }

    /// Runs a program with this input; r1 and r6 are its address.
    fn run(&mut self, input: &[u8], asm: &str) -> Result<u64, Box<Trap>> {
        self.input.zero(0, 1024).expect("it fits");
        self.input.write(0, input).expect("it fits");
        let insns = code("program", &format!("r6 = r1\n{asm}\nexit"));
        let program = self.machine.load(&Image { insns: &insns, ..Image::default() }).expect("a good program");
        self.cpu.run(&program, [self.input.addr(), 0])
    }

    fn gives(&mut self, input: &[u8], asm: &str) -> u64 {
        self.run(input, asm).expect("it ends well")
    }

    fn after(&self, at: u64, len: usize) -> Vec<u8> {
        self.input.bytes(at, len)
    }

    /// What `bpf_snprintf` makes of a format and numbers, and what it returns.
    fn snprintf(&mut self, format: &str, args: &[u64], room: u32) -> (u64, String) {
        let mut input: Vec<u8> = args.iter().flat_map(|arg| arg.to_ne_bytes()).collect();
        input.resize(128, 0);
        input.extend(format.as_bytes());
        let len = args.len() * 8;
        let asm = format!(
            "r1 = r6\nr1 += 512\nr2 = {room}\nr3 = r6\nr3 += 128\nr4 = r6\nr5 = {len}\ncall {}",
            helpers::SNPRINTF
        );
        let returned = self.gives(&input, &asm);
        let text = self.after(512, 512);
        let end = text.iter().position(|byte| *byte == 0).expect("it has an end");
        (returned, String::from_utf8_lossy(&text[..end]).into_owned())
    }
}

#[test]
fn the_task_and_the_event_are_those_that_were_set() {
    let mut bench = Bench::new();
    bench.cpu.set_event(Event { cookie: 11, func_ip: 12 });
    bench.cpu.set_number(3);
    for (id, wanted) in [
        (helpers::GET_CURRENT_PID_TGID, 7 << 32 | 8),
        (helpers::GET_CURRENT_UID_GID, 3 << 32 | 4),
        (helpers::GET_CURRENT_TASK, 7 << 32 | 8),
        (helpers::GET_ATTACH_COOKIE, 11),
        (helpers::GET_FUNC_IP, 12),
        (helpers::GET_SMP_PROCESSOR_ID, 3),
        (helpers::GET_NUMA_NODE_ID, 0),
    ] {
        assert_eq!(bench.gives(&[], &format!("call {id}")), wanted, "{id}");
    }
    assert_eq!(bench.gives(&[255; 24], "r2 = 16\ncall 16"), 0);
    assert_eq!(bench.after(0, 17), b"a-name-that-is-\0\xff");
    assert_eq!(bench.gives(&[255; 24], "r2 = 4\ncall 16"), 0);
    assert_eq!(bench.after(0, 5), b"a-n\0\xff");
    bench.cpu.set_task(None);
    assert_eq!(bench.gives(&[], "call 14"), EINVAL);
}

#[test]
fn clocks_go_forward_and_random_numbers_differ() {
    let mut bench = Bench::new();
    for id in [
        helpers::KTIME_GET_NS,
        helpers::KTIME_GET_BOOT_NS,
        helpers::KTIME_GET_COARSE_NS,
        helpers::KTIME_GET_TAI_NS,
        helpers::JIFFIES64,
    ] {
        let (one, two) = (bench.gives(&[], &format!("call {id}")), bench.gives(&[], &format!("call {id}")));
        assert!(0 < one && one <= two, "{id}: {one} {two}");
    }
    let random: std::collections::BTreeSet<u64> = (0..100).map(|_| bench.gives(&[], "call 7")).collect();
    assert!(random.len() > 95 && random.iter().all(|number| *number <= u64::from(u32::MAX)));
}

#[test]
fn memory_of_the_task_is_read_and_written() {
    let mut bench = Bench::new();
    let read = |id: u32, addr: u64, len: u64| format!("r2 = {len}\nr3 = {addr} ll\ncall {id}");
    assert_eq!(bench.gives(&[255; 8], &read(helpers::PROBE_READ_USER, 0x1001, 4)), 0);
    assert_eq!(bench.after(0, 5), b"ello\xff");
    assert_eq!(bench.gives(&[255; 8], &read(helpers::PROBE_READ_USER, 0x5000, 4)), EFAULT);
    assert_eq!(bench.after(0, 5), b"\0\0\0\0\xff");
    assert_eq!(bench.gives(&[255; 8], &read(helpers::PROBE_READ_KERNEL, 0x1000, 4)), EFAULT);
    assert_eq!(bench.gives(&[255; 8], &read(helpers::PROBE_READ, 0x1000, 4)), 0);
    // Its own memory is what the kernel's is there.
    let own = "r1 = r6\nr2 = 4\nr3 = r6\nr3 += 4\ncall 113";
    assert_eq!(bench.gives(b"....abcd", own), 0);
    assert_eq!(bench.after(0, 4), b"abcd");
    let text = helpers::PROBE_READ_USER_STR;
    assert_eq!(bench.gives(&[255; 16], &read(text, 0x1000, 10)), 6);
    assert_eq!(bench.after(0, 7), b"hello\0\xff");
    assert_eq!(bench.gives(&[255; 16], &read(text, 0x1000, 3)), 3);
    assert_eq!(bench.after(0, 4), b"he\0\xff");
    assert_eq!(bench.gives(&[255; 16], &read(text, 0x1005, 3)), 1, "an empty text");
    assert_eq!(bench.gives(&[255; 16], &read(text, 0x2ff8, 9)), 9, "up to the end of what is there");
    assert_eq!(bench.gives(&[255; 16], &read(text, 0x2ff8, 10)), EFAULT);
    assert_eq!(bench.gives(&[1, 2], "r1 = 0x1000\nr2 = r6\nr3 = 2\ncall 36"), 0);
    assert_eq!(bench.gives(&[1, 3], "r1 = 0x1000\nr2 = r6\nr3 = 2\ncall 36"), EFAULT);
    // Where it is put must be the program's.
    assert!(bench.run(&[], "r1 = 0x1000\nr2 = 4\nr3 = r6\ncall 112").is_err());
}

#[test]
fn formats_are_the_kernels() {
    let mut bench = Bench::new();
    let minus = -5i64 as u64;
    for (format, args, wanted) in [
        ("%d %i %u", &[minus, 7, minus][..], "-5 7 4294967291"),
        ("%ld %lu %llx", &[minus, minus, minus], "-5 18446744073709551611 fffffffffffffffb"),
        ("[%5d][%-5d][%05d][%+d][% d]", &[minus, minus, minus, 5, 5], "[   -5][-5   ][-0005][+5][ 5]"),
        ("%x %X %08x %lX", &[0xab, 0xab, 0xab, 1 << 40], "ab AB 000000ab 10000000000"),
        ("100%% %c%c", &[b'o'.into(), b'k'.into()], "100% ok"),
        ("%s, %10s|%-7s|", &[0x1000, 0x1000, 0x1000], "hello,      hello|hello  |"),
        ("%pus!%pks.", &[0x1000, 0x1000], "hello!."),
        ("%px %p", &[0x1234, 0x1234], "0000000000001234 0000000000001234"),
    ] {
        assert_eq!(bench.snprintf(format, args, 256), (wanted.len() as u64 + 1, wanted.to_owned()), "{format}");
    }
    assert_eq!(bench.snprintf("%d-%d", &[100, 200], 5), (8, "100-".to_owned()), "the length of the whole");
    for wrong in ["%d", "%y", "%5", "%", "%hd", "%sx", "%pI5", "%#x", "\u{1}"] {
        let args: &[u64] = if wrong == "%d" { &[] } else { &[0x1000] };
        assert_eq!(bench.snprintf(wrong, args, 256).0, EINVAL, "{wrong}");
    }
    let addr = bench.input.addr();
    let ip = |format: &str, bench: &mut Bench| bench.snprintf(format, &[addr, 0x0201_a8c0], 256).1;
    let at = format!("{addr:x}");
    assert_eq!(ip("%lx", &mut bench), at);
    let (low, high) = (addr.to_ne_bytes(), 0x0201_a8c0u64.to_ne_bytes());
    let dotted = format!("{}.{}.{}.{}", low[0], low[1], low[2], low[3]);
    assert_eq!(ip("%pI4", &mut bench), dotted);
    let hex: String = low.iter().chain(&high).map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(ip("%pi6", &mut bench), hex);
}

#[test]
fn printed_texts_wait_with_who_printed_them() {
    let mut bench = Bench::new();
    assert_eq!(bench.gives(b"n=%d %s\n\0", "r2 = 9\nr3 = 42\nr4 = 0x1000\nr5 = 0\ncall 6"), 11);
    let text = bench.machine.printed().take().expect("one");
    assert_eq!((text.text.as_slice(), text.pid_tgid, text.cpu), (&b"n=42 hello\n"[..], 7 << 32 | 8, 0));
    assert_eq!(bench.gives(b"no end", "r2 = 6\nr3 = 0\ncall 6"), EINVAL);
    let vprintk = "r1 = r6\nr1 += 16\nr2 = 16\nr3 = r6\nr4 = 16\ncall 177";
    let input = [&1u64.to_ne_bytes()[..], &2u64.to_ne_bytes(), b"%d+%d\0"].concat();
    assert_eq!(bench.gives(&input, vprintk), 3);
    assert_eq!(bench.machine.printed().take().expect("one").text, b"1+2");
    assert_eq!(bench.machine.printed().take(), None);
}

#[test]
fn dynptrs_stay_in_their_bounds() {
    let mut bench = Bench::new();
    let make = "r2 = 16\nr3 = 0\nr4 = r10\nr4 += -16\ncall 197\nif r0 != 0 goto out\n";
    let read = |off: u64, len: u64| {
        format!("{make}r1 = r6\nr1 += 32\nr2 = {len}\nr3 = r10\nr3 += -16\nr4 = {off}\nr5 = 0\ncall 201\nout:")
    };
    assert_eq!(bench.gives(b"0123456789abcdef", &read(4, 12)), 0);
    assert_eq!(bench.after(32, 13), b"456789abcdef\0");
    assert_eq!(bench.gives(&[], &read(4, 13)), E2BIG);
    assert_eq!(bench.gives(&[], &read(17, 0)), E2BIG);
    let write = format!("{make}r1 = r10\nr1 += -16\nr2 = 2\nr3 = r6\nr3 += 8\nr4 = 4\nr5 = 0\ncall 202\nout:");
    assert_eq!(bench.gives(b"0123456789abcdef", &write), 0);
    assert_eq!(bench.after(0, 8), b"0189ab67");
    let data = format!("{make}r1 = r10\nr1 += -16\nr2 = 8\nr3 = 8\ncall 203\nr0 -= r6\nout:");
    assert_eq!(bench.gives(&[], &data), 8);
    let too_long = "r2 = 0x1000000\nr3 = 0\nr4 = r10\nr4 += -16\ncall 197";
    assert_eq!(bench.gives(&[], too_long), E2BIG);
}

#[test]
fn other_helpers_are_refused_with_what_they_need() {
    let bench = Bench::new();
    let mut refused = 0;
    for id in 1..helpers::COUNT {
        let insns = code("program", &format!("call {id}\nexit"));
        match bench.machine.load(&Image { insns: &insns, ..Image::default() }) {
            Ok(_) => {}
            Err(error) => {
                refused += 1;
                assert!(
                    matches!(error.kind, LoadErrorKind::HelperNotHere { needs, .. } if !needs.is_empty()),
                    "{error}"
                );
            }
        }
    }
    assert_eq!(helpers::COUNT - 1 - refused, Helpers::all().len() as u32);
    let why = |id: u32| {
        let insns = code("program", &format!("call {id}\nexit"));
        bench.machine.load(&Image { insns: &insns, ..Image::default() }).expect_err("refused").to_string()
    };
    assert!(
        why(helpers::SKB_GET_TUNNEL_KEY).contains("`bpf_skb_get_tunnel_key`"),
        "{}",
        why(helpers::SKB_GET_TUNNEL_KEY)
    );
    for (id, needs) in [
        (helpers::SKB_GET_TUNNEL_KEY, "a packet of the kernel"),
        (helpers::SK_LOOKUP_TCP, "a socket of the kernel"),
        (helpers::GET_CURRENT_CGROUP_ID, "control groups"),
        (helpers::D_PATH, "the kernel's structures"),
        (helpers::TASK_STORAGE_GET, "storage that the kernel ties"),
    ] {
        assert!(why(id).contains(needs), "{}", why(id));
    }
}

/// A program of the kernel's with `mem` as its context, on both.
fn same(bench: &mut Bench, mem: &[u8], asm: &str, log: &mut [u8]) -> u64 {
    let insns = code("program", asm);
    let (theirs, after) = kernel::run(&insns, Some(mem), log).unwrap_or_else(|log| panic!("{asm}\n{log}"));
    bench.input.write(0, mem).expect("it fits");
    let program = bench.machine.load(&Image { insns: &insns, ..Image::default() }).expect("a good program");
    let ours = bench.cpu.run(&program, [bench.input.addr(), mem.len() as u64]).expect("it ends well");
    assert_eq!((ours, bench.after(0, mem.len())), (theirs, after), "{asm} of {}", String::from_utf8_lossy(mem));
    ours
}

#[test]
fn texts_become_numbers_as_in_the_kernel() {
    if kernel::version().is_none() {
        return;
    }
    let mut bench = Bench::new();
    let mut log = vec![0; 1 << 16];
    let texts = [
        "0",
        "12",
        "-12",
        " 7x",
        "0x1f",
        "0X1F",
        "-0x10",
        "017",
        "08",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "18446744073709551616",
        "",
        "-",
        "x",
        "0x",
        "\t\n5",
        "+5",
        "ffff",
        "00000",
        "--1",
    ];
    let mut good = 0;
    for text in texts {
        for base in [0, 8, 10, 16, 7] {
            for id in [helpers::STRTOL, helpers::STRTOUL] {
                let mut mem = text.as_bytes().to_vec();
                mem.resize(32, 0);
                // From the stack, as the kernel's verifier wants it; the number goes to the end of the input.
                let mut asm = "r6 = r1\n".to_owned();
                for word in 0..4 {
                    asm += &format!("r2 = *(u64 *)(r6 + {})\n*(u64 *)(r10 - {}) = r2\n", word * 8, 40 - word * 8);
                }
                asm += &format!(
                    "*(u64 *)(r10 - 8) = 0\nr1 = r10\nr1 += -40\nr2 = 32\nr3 = {base}\nr4 = r10\nr4 += -8\ncall {id}\n\
                     r1 = *(u64 *)(r10 - 8)\n*(u64 *)(r6 + 24) = r1\nexit"
                );
                good += u32::from((same(&mut bench, &mem, &asm, &mut log) as i64) > 0);
            }
        }
    }
    assert!(good > 50, "{good}");
}

/// What the kernel's `bpf_snprintf` returns, and 64 bytes of text; `None` when its verifier refuses the format.
fn kernels_snprintf(format: &str, args: &[u64; 3], log: &mut [u8]) -> Option<(u64, Vec<u8>)> {
    let mut value = format.as_bytes().to_vec();
    value.resize(64, 0);
    let map = MapCreate {
        map_type: 2,
        key_size: 4,
        value_size: 64,
        max_entries: 1,
        map_flags: skep_vm::F_RDONLY_PROG,
        ..MapCreate::default()
    };
    let map = map.create().expect("the kernel makes it");
    map.update(&[0; 4], &value, 0).expect("room");
    map.freeze().expect("it can be frozen");
    let mut asm = "r6 = r1\n".to_owned();
    for word in 0..3 {
        asm += &format!("r2 = *(u64 *)(r6 + {})\n*(u64 *)(r10 - {}) = r2\n", word * 8, 24 - word * 8);
    }
    for word in 0..8 {
        asm += &format!("*(u64 *)(r10 - {}) = 0\n", 88 - word * 8);
    }
    let fd = map.as_fd().as_raw_fd();
    asm += &format!(
        "r1 = r10\nr1 += -88\nr2 = 64\nr3 = map[id:{fd}][0]+0\nr4 = r10\nr4 += -24\nr5 = 24\ncall {}\n",
        helpers::SNPRINTF
    );
    for word in 0..8 {
        asm += &format!("r2 = *(u64 *)(r10 - {})\n*(u64 *)(r6 + {}) = r2\n", 88 - word * 8, 24 + word * 8);
    }
    let mut mem: Vec<u8> = args.iter().flat_map(|arg| arg.to_ne_bytes()).collect();
    mem.resize(24 + 64, 0);
    let (returned, after) = kernel::run(&code("program", &(asm + "exit")), Some(&mem), log).ok()?;
    Some((returned, after[24..].to_vec()))
}

#[test]
fn formats_give_what_they_give_in_the_kernel() {
    if kernel::version().is_none() {
        return;
    }
    let mut bench = Bench::new();
    let mut log = vec![0; 1 << 16];
    let minus = -300i64 as u64;
    let (mut taken, mut refused) = (0, 0);
    let conversions =
        ["d", "i", "u", "x", "X", "ld", "lu", "lx", "llX", "lli", "c", "px", "hd", "o", "f", "lc", "n", "pI5", "lp"];
    for conversion in conversions {
        for flags in ["", "-", "0", "+", " ", "8", "-8", "08", "+8", "-08", "+-30", "0+30", "#", "8.3", "*"] {
            let format = format!("<%{flags}{conversion}> %%");
            for value in [0, 65, minus, 1 << 40 | 66] {
                let kernels = kernels_snprintf(&format, &[value, 0, 0], &mut log);
                let (returned, text) = bench.snprintf(&format, &[value, 0, 0], 64);
                match kernels {
                    Some((wanted, bytes)) => {
                        let end = bytes.iter().position(|byte| *byte == 0).expect("it has an end");
                        let wanted_text = String::from_utf8_lossy(&bytes[..end]).into_owned();
                        // Of both up to the first zero, which `%c` may print.
                        assert_eq!((returned, text), (wanted, wanted_text), "{format} of {value:#x}");
                        taken += 1;
                    }
                    None => {
                        assert_eq!(returned, EINVAL, "{format} of {value:#x}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(taken > 400 && refused > 100, "{taken} {refused}");
}

#[test]
fn checksums_differ_as_in_the_kernel() {
    let Some(running) = kernel::version() else { return };
    // Before, the result was not folded to 16 bits, and lengths were multiples of 4.
    if running < skep_sys::version::KernelVersion::new(6, 13, 0) {
        println!("skipped: needs kernel 6.13");
        return;
    }
    let mut bench = Bench::new();
    let mut rng = Rng::new(5);
    let mut log = vec![0; 1 << 16];
    for (from, to) in [(0, 0), (0, 8), (8, 0), (8, 16), (16, 8), (16, 16), (3, 4), (5, 0), (9, 6)] {
        for _ in 0..20 {
            let mem: Vec<u8> = (0..4).flat_map(|_| rng.number().to_ne_bytes()).collect();
            let seed = rng.number() as i32;
            let mut asm = String::new();
            for (word, bytes) in mem.chunks(8).enumerate() {
                let value = bytes.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
                asm += &format!("r2 = {value:#x} ll\n*(u64 *)(r10 - {}) = r2\n", 32 - word * 8);
            }
            asm += &format!(
                "r1 = r10\nr1 += -32\nr2 = {from}\nr3 = r10\nr3 += -16\nr4 = {to}\nr5 = {seed}\ncall {}\nexit",
                helpers::CSUM_DIFF
            );
            let insns = code("program", &asm);
            let theirs = kernel::run_on_packet(&insns, &[0; 64], &mut log).expect("the kernel takes it");
            let program = bench.machine.load(&Image { insns: &insns, ..Image::default() }).expect("a good program");
            let ours = bench.cpu.run(&program, [0, 0]).expect("it ends well");
            assert_eq!(ours as u32, theirs, "{from} {to} {seed:#x} {mem:x?}");
        }
    }
}

#[test]
fn texts_are_compared() {
    let mut bench = Bench::new();
    let compare = |len: u32| format!("r2 = {len}\nr3 = r6\nr3 += 16\ncall 182");
    for (one, two, len, wanted) in
        [("abc", "abc", 8, 0), ("abc", "abd", 8, -1), ("abd", "abc", 8, 1), ("abd", "abc", 2, 0), ("ab", "abc", 8, -1)]
    {
        let mut input = one.as_bytes().to_vec();
        input.resize(16, 0);
        input.extend(two.as_bytes());
        assert_eq!(bench.gives(&input, &compare(len)) as i64, wanted, "{one} {two} {len}");
    }
}

const USER_STACK: u64 = 1 << 8;

#[test]
fn stacks_of_the_task_are_copied_and_those_of_the_kernel_are_not_to_be_had() {
    let mut bench = Bench::new();
    let mut get = |flags: u64, len: u32| {
        let asm = format!("r2 = r6\nr3 = {len}\nr4 = {flags}\ncall {}", helpers::GET_STACK);
        let returned = bench.gives(&[255; 64], &asm);
        let words: Vec<u64> = bench.after(0, 64).as_chunks().0.iter().map(|it| u64::from_ne_bytes(*it)).collect();
        (returned, words)
    };
    assert_eq!(get(USER_STACK, 24), (24, vec![0x100, 0x101, 0x102, !0, !0, !0, !0, !0]));
    // What is behind a short one is cleared, and the innermost frames can be left out.
    assert_eq!(get(USER_STACK | 2, 56), (24, vec![0x102, 0x103, 0x104, 0, 0, 0, 0, !0]));
    assert_eq!(get(USER_STACK | 6, 8), (EFAULT, vec![0, !0, !0, !0, !0, !0, !0, !0]));
    assert_eq!(get(USER_STACK, 12).0, EINVAL);
    assert_eq!(get(USER_STACK | 1 << 20, 8).0, EINVAL);
    assert_eq!(get(0, 16), (-95i64 as u64, vec![0, 0, !0, !0, !0, !0, !0, !0]));
    bench.cpu.set_task(None);
    assert_eq!(bench.gives(&[], &format!("r2 = r6\nr3 = 8\nr4 = 256\ncall {}", helpers::GET_STACK)), EFAULT);
}

#[test]
fn stacks_are_kept_by_number() {
    let mut bench = Bench::new();
    let spec = MapSpec {
        name: "stacks".into(),
        kind: MapKind::StackTrace,
        key_size: 4,
        value_size: 32,
        max_entries: 1,
        ..MapSpec::default()
    };
    let map = bench.machine.create_map(&spec).expect("a map");
    let mut stackid = |flags: u64| {
        let asm = format!("r2 = {:#x} ll\nr3 = {flags}\ncall {}", map.handle(), helpers::GET_STACKID);
        bench.gives(&[], &asm)
    };
    assert_eq!(stackid(USER_STACK), 0);
    assert_eq!(stackid(USER_STACK), 0, "the same one again");
    let words = |bytes: Vec<u8>| -> Vec<u64> { bytes.as_chunks().0.iter().map(|it| u64::from_ne_bytes(*it)).collect() };
    let key = 0u32.to_ne_bytes();
    assert_eq!(map.lookup(&key).unwrap().map(words), Some(vec![0x100, 0x101, 0x102, 0x103]));
    assert_eq!(stackid(USER_STACK | 1), -17i64 as u64, "another one is in its place");
    assert_eq!(stackid(USER_STACK | 1 << 10 | 2), 0);
    assert_eq!(map.lookup(&key).unwrap().map(words), Some(vec![0x102, 0x103, 0x104, 0]));
    assert_eq!(stackid(USER_STACK | 5), EFAULT);
    assert_eq!(stackid(0), -95i64 as u64);
    assert_eq!(stackid(1 << 12), EINVAL);
    assert_eq!(map.next_key(None).unwrap(), Some(key.to_vec()));
    assert!(map.delete(&key).is_ok() && map.lookup(&key).unwrap().is_none() && map.next_key(None).unwrap().is_none());
    assert_eq!(map.update(&key, &[0; 32], 0).unwrap_err().errno(), 22);
    for wrong in [MapSpec { value_size: 12, ..spec.clone() }, MapSpec { value_size: 128 * 8, ..spec.clone() }] {
        assert_eq!(bench.machine.create_map(&wrong).unwrap_err().errno(), 22);
    }
}

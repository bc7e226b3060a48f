//! Programs on the running kernel.
//!
//! A program becomes a function of a `syscall` program (Linux 5.14), whose context is memory of any size that programs may write. A
//! few instructions in front call it and put its r0 behind the input, since a test run itself tells 32 bits only.

use std::os::fd::AsFd;

use skep_insn::build::{call_local, exit, mov, slots, store};
use skep_insn::{Endian, RawInsn, Reg, Size, slots_to_bytes};
use skep_sys::Errno;
use skep_sys::bpf::{BtfFd, BtfLoad, Log, LogLevel, ProgFd, ProgLoad, TestRun};
use skep_sys::caps::{Cap, Caps};
use skep_sys::version::KernelVersion;

/// The running kernel, if it lets us; else says what is missing.
pub(crate) fn version() -> Option<KernelVersion> {
    if !Caps::effective().has(Cap::BPF) || !Caps::effective().has(Cap::PERFMON) {
        println!("skipped: needs root with BPF");
        return None;
    }
    let running = KernelVersion::running();
    if running < KernelVersion::new(5, 14, 0) {
        println!("skipped: needs kernel 5.14");
        return None;
    }
    Some(running)
}

const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_PROG_TYPE_SYSCALL: u32 = 31;
const BPF_F_SLEEPABLE: u32 = skep_sys::bpf::flags::F_SLEEPABLE;

/// The program as a function, with what calls it.
fn wrapped(program: &[RawInsn], mem: Option<&[u8]>, room: usize) -> Vec<RawInsn> {
    let input = mem.map_or(0, <[u8]>::len);
    let mut insns = vec![mov(Reg::R6, Reg::R1)];
    if mem.is_none() {
        insns.push(mov(Reg::R1, 0));
    }
    insns.extend([
        mov(Reg::R2, input as i32),
        call_local(3),
        store(Size::Dw, Reg::R6, room as i16, Reg::R0),
        mov(Reg::R0, 0),
        exit(),
    ]);
    let mut code = slots(&insns);
    code.extend_from_slice(program);
    code
}

fn load(code: &[RawInsn], prog_type: u32, log: &mut [u8]) -> Result<ProgFd, Errno> {
    load_functions(code, prog_type, None, log)
}

/// With the first slots of functions, which the kernel wants to know where some are called back.
fn load_functions(
    code: &[RawInsn],
    prog_type: u32,
    functions: Option<(&BtfFd, &[u32])>,
    log: &mut [u8],
) -> Result<ProgFd, Errno> {
    let func_info: Vec<u8> = functions
        .iter()
        .flat_map(|(_, starts)| starts.iter())
        .flat_map(|at| [*at, FUNC])
        .flat_map(u32::to_ne_bytes)
        .collect();
    let (btf, func_info_rec_size) = (functions.map(|(btf, _)| btf.as_fd()), if func_info.is_empty() { 0 } else { 8 });
    let bytes = slots_to_bytes(code, Endian::NATIVE);
    let flags = if prog_type == BPF_PROG_TYPE_SYSCALL { BPF_F_SLEEPABLE } else { 0 };
    let log = (!log.is_empty()).then_some(Log { level: LogLevel(1), buf: log });
    let load = ProgLoad { prog_type, insns: &bytes, license: c"GPL", prog_flags: flags, log, ..ProgLoad::default() };
    ProgLoad { btf, func_info: &func_info, func_info_rec_size, ..load }.load().0
}

/// The type of every function.
const FUNC: u32 = 3;

/// What says that functions give an `int`, and are of this object only.
pub(crate) fn types() -> BtfFd {
    let strings = b"\0int\0f\0";
    let types: [u32; 4 + 3 + 3] = [1, 1 << 24, 4, 1 << 24 | 32, 0, 13 << 24, 1, 5, 12 << 24, 2];
    let len = 4 * types.len() as u32;
    let header = [24, 0, len, len, strings.len() as u32];
    let mut btf = [0xeb9f_u16.to_ne_bytes(), [1, 0]].concat();
    btf.extend(header.iter().chain(&types).flat_map(|word| word.to_ne_bytes()));
    btf.extend(strings);
    BtfLoad { btf: &btf, ..BtfLoad::default() }.load().0.expect("three types")
}

fn text(log: &[u8]) -> String {
    // The end says why.
    let text = String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
    text.lines().rev().take(6).collect::<Vec<_>>().join("\n")
}

fn failed(what: &str, errno: Errno) -> String {
    format!("{what}: {errno}")
}

/// What a program with a packet gives, or the end of the kernel's log.
pub(crate) fn run_on_packet(program: &[RawInsn], packet: &[u8], log: &mut [u8]) -> Result<u32, String> {
    let prog = load(program, BPF_PROG_TYPE_SCHED_CLS, log).map_err(|errno| failed(&text(log), errno))?;
    let mut test = TestRun { data_in: packet, repeat: 1, ..TestRun::default() };
    let outcome = prog.test_run(&mut test).map_err(|errno| failed("test run", errno))?;
    Ok(outcome.retval)
}

/// What a program gives, and its input afterwards; or the end of the kernel's log.
pub(crate) fn run(program: &[RawInsn], mem: Option<&[u8]>, log: &mut [u8]) -> Result<(u64, Vec<u8>), String> {
    run_functions(program, None, mem, log)
}

/// The same of a program whose functions start there; the first one is its entry.
pub(crate) fn run_functions(
    program: &[RawInsn],
    functions: Option<(&BtfFd, &[u32])>,
    mem: Option<&[u8]>,
    log: &mut [u8],
) -> Result<(u64, Vec<u8>), String> {
    let mut input = mem.unwrap_or_default().to_vec();
    let len = input.len();
    let room = len.next_multiple_of(8);
    let code = wrapped(program, mem, room);
    let before = (code.len() - program.len()) as u32;
    let starts: Vec<u32> = functions.map_or(&[][..], |(_, starts)| starts).iter().map(|start| start + before).collect();
    let starts: Vec<u32> = std::iter::once(0).chain(starts).collect();
    let functions = functions.map(|(btf, _)| (btf, starts.as_slice()));
    // What its log says costs more than the rest.
    let prog = load_functions(&code, BPF_PROG_TYPE_SYSCALL, functions, &mut []).or_else(|_| {
        load_functions(&code, BPF_PROG_TYPE_SYSCALL, functions, log).map_err(|errno| failed(&text(log), errno))
    })?;
    input.resize(room + 8, 0);
    prog.run_syscall(&mut input).map_err(|errno| failed("test run", errno))?;
    let mut result = [0; 8];
    result.copy_from_slice(&input[room..]);
    input.truncate(len);
    Ok((u64::from_ne_bytes(result), input))
}

//! What a run is beyond one program's instructions: tail calls, callbacks, fuel, where an error is, processors in threads.

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;

use std::sync::{Arc, OnceLock};

use common::{Engine, Runner, code};
use skep_insn::{InsnIdx, RawInsn, helpers};
use skep_vm::{Cpu, Helpers, Image, Line, MAX_INSNS, MAX_TAIL_CALLS, Machine, Program, Trap, TrapKind};

fn load(machine: &Machine, name: &str, asm: &str) -> Arc<Program> {
    Engine::of_this_binary()
        .load(machine, &Image { name, insns: &code(name, asm), ..Image::default() })
        .expect("a good program")
}

fn trap(result: Result<u64, Box<Trap>>) -> Box<Trap> {
    result.expect_err("it is stopped")
}

/// A machine whose tail call goes to one program, whatever the index.
macro_rules! tail_machine {
    ($next:ident) => {
        Machine::new(Helpers::none().with(helpers::TAIL_CALL, "bpf_tail_call", |cpu, _| {
            let next = $next.get().expect("set before it runs").clone();
            Ok(if cpu.tail_call(next) { 0 } else { -1i64 as u64 })
        }))
        .expect("4 GiB of addresses")
    };
}

#[test]
fn tail_calls_go_on_33_times() {
    static NEXT: OnceLock<Arc<Program>> = OnceLock::new();
    let machine = tail_machine!(NEXT);
    let input = machine.space().allocate(8, true).expect("a block");
    let count = "r2 = *(u64 *)(r1 + 0)\nr2 += 1\n*(u64 *)(r1 + 0) = r2\nr6 = r1\ncall 12\nr0 = *(u64 *)(r6 + 0)\nexit";
    let program = load(&machine, "count", count);
    NEXT.set(program.clone()).expect("once");
    let mut cpu = Cpu::new(&machine).expect("a stack");
    for run in 1..3 {
        assert_eq!(cpu.run(&program, [input.addr(), 8]), Ok(u64::from(MAX_TAIL_CALLS + 1) * run));
    }
}

#[test]
fn a_tail_call_takes_the_place_of_its_function_and_gets_a_clear_frame() {
    static NEXT: OnceLock<Arc<Program>> = OnceLock::new();
    let machine = tail_machine!(NEXT);
    // What it returns goes to the caller of the function that it replaced, whose registers are kept.
    let next = "r6 = 5\nr0 = *(u64 *)(r10 - 8)\nr0 += 100\nexit";
    NEXT.set(load(&machine, "next", next)).expect("once");
    let first = "r6 = 7\ncall f\nr0 += r6\nexit\nf:\n*(u64 *)(r10 - 8) = 1\ncall 12\nr0 = 0\nexit";
    let program = load(&machine, "first", first);
    assert_eq!(Cpu::new(&machine).expect("a stack").run(&program, [0, 0]), Ok(107));
}

#[test]
fn an_error_behind_a_tail_call_names_the_other_program() {
    static NEXT: OnceLock<Arc<Program>> = OnceLock::new();
    let machine = tail_machine!(NEXT);
    NEXT.set(load(&machine, "next", "r0 = 0\nr0 = *(u8 *)(r0 + 0)\nexit")).expect("once");
    let program = load(&machine, "first", "call 12\nexit");
    let trap = trap(Cpu::new(&machine).expect("a stack").run(&program, [0, 0]));
    assert_eq!(trap.to_string(), "program `next`, instruction 1: read of 1 byte(s) through a null pointer");
}

/// Helper 181 as the kernel has it, without its limits.
fn looping() -> Arc<Machine> {
    let helpers = Helpers::none().with(helpers::LOOP, "bpf_loop", |cpu, [rounds, function, context, _, _]| {
        for round in 0..rounds {
            if cpu.call(function, &[round, context])? != 0 {
                return Ok(round + 1);
            }
        }
        Ok(rounds)
    });
    Machine::new(helpers).expect("4 GiB of addresses")
}

#[test]
fn a_helper_calls_back_and_the_caller_goes_on_as_it_was() {
    let machine = looping();
    let asm = "
        r6 = 1000
        *(u64 *)(r10 - 8) = 0
        r1 = 10
        r2 = subprog[add]
        r3 = r10
        r3 += -8
        r4 = 0
        call 181
        r0 = *(u64 *)(r10 - 8)
        r0 += r6
        exit
        add:
        r6 = 0
        r3 = *(u64 *)(r2 + 0)
        r3 += r1
        *(u64 *)(r2 + 0) = r3
        r0 = 0
        exit";
    let program = load(&machine, "sum", asm);
    assert_eq!(Cpu::new(&machine).expect("a stack").run(&program, [0, 0]), Ok(1045));
}

#[test]
fn a_callback_needs_no_register_that_nobody_names() {
    let machine = looping();
    let program = load(&machine, "loop", "r1 = 5\nr2 = subprog[f]\nr3 = 0\ncall 181\nexit\nf:\nr0 = 0\nexit");
    let mut cpu = Cpu::new(&machine).expect("a stack");
    assert_eq!([(); 2].map(|()| cpu.run(&program, [0, 0])), [Ok(5), Ok(5)]);
}

#[test]
fn callbacks_inside_of_callbacks_count_as_frames() {
    let machine = looping();
    let asm = "call f\nexit\nf:\nr1 = 1\nr2 = subprog[f]\nr3 = 0\nr4 = 0\ncall 181\nr0 = 0\nexit";
    let program = load(&machine, "deep", asm);
    let mut cpu = Cpu::new(&machine).expect("a stack");
    let stopped = trap(cpu.run(&program, [0, 0]));
    assert_eq!((stopped.kind.clone(), stopped.at), (TrapKind::CallDepth, InsnIdx(2)), "{stopped}");
    // The processor is as good as new.
    assert_eq!(cpu.run(&load(&machine, "small", "r0 = 1\nexit"), [0, 0]), Ok(1));
}

#[test]
fn an_error_in_a_callback_is_told_where_it_is() {
    let machine = looping();
    let asm = "r1 = 1\nr2 = subprog[f]\ncall 181\nexit\nf:\nr0 = *(u64 *)(r1 - 1)\nexit";
    let program = load(&machine, "callback", asm);
    let stopped = trap(Cpu::new(&machine).expect("a stack").run(&program, [0, 0]));
    assert_eq!(stopped.at, InsnIdx(5), "{stopped}");
    let program = load(&machine, "nothing", "r1 = 1\nr2 = 77\ncall 181\nexit");
    let stopped = trap(Cpu::new(&machine).expect("a stack").run(&program, [0, 0]));
    assert_eq!((stopped.kind.clone(), stopped.at), (TrapKind::BadCallee { value: 77 }, InsnIdx(2)), "{stopped}");
}

#[test]
fn no_program_runs_more_instructions_than_it_has_fuel() {
    let mut runner = Runner::new();
    // Rounds of two instructions, behind five that run once: two before, and those that leave.
    let asm = "r0 = 0\nr3 = *(u64 *)(r1 + 0)\nloop:\nr0 += 1\nif r0 != r3 goto loop\nexit";
    let program = runner.load(&code("loop", asm)).expect("a good program");
    let input = runner.machine.space().allocate(8, true).expect("a block");
    for fuel in [5u64, 6, 7, 100, 101, 1000] {
        runner.cpu.set_fuel(fuel);
        let most = (1..1000)
            .take_while(|rounds: &u64| {
                input.write(0, &rounds.to_ne_bytes()).expect("it fits");
                runner.cpu.run(&program, [input.addr(), 8]).is_ok()
            })
            .last();
        let instructions = most.map_or(0, |rounds| 3 + 2 * rounds);
        assert!(instructions <= fuel, "{instructions} instructions with fuel {fuel}");
        assert!(instructions + 2 >= fuel.min(2000) - 1, "stopped long before: {instructions} of {fuel}");
    }
    runner.cpu.set_fuel(4);
    assert_eq!(
        trap(runner.cpu.run(&program, [input.addr(), 8])).kind,
        TrapKind::FuelExhausted { fuel: 4 },
        "not even once through"
    );
}

#[test]
fn an_error_names_the_line_of_the_source() {
    let machine = Machine::new(Helpers::none()).expect("4 GiB of addresses");
    let insns = code("lines", "r0 = 0\nr1 = 0\nr0 = *(u32 *)(r1 + 8)\nexit");
    let line = |insn, line, text: &str| Line {
        insn: InsnIdx(insn),
        file: "tool.bpf.c".to_owned(),
        line,
        column: 5,
        text: text.to_owned(),
    };
    let lines = [line(0, 10, "    int result = 0;"), line(1, 12, "    return task->pid;"), line(3, 13, "}")];
    let program = Engine::of_this_binary()
        .load(&machine, &Image { name: "on_exec", insns: &insns, lines: &lines, binds: &[], ..Image::default() });
    let stopped = trap(Cpu::new(&machine).expect("a stack").run(&program.expect("a good program"), [0, 0]));
    assert_eq!(
        stopped.to_string(),
        "program `on_exec`, instruction 2: read of 4 byte(s) at 0x8, which is outside of the program's memory \
         (tool.bpf.c:12: `return task->pid;`)"
    );
    let insns = code("lines", "r0 = 0\nr10 = 0\nexit");
    let error = Engine::of_this_binary()
        .load(&machine, &Image { name: "on_exec", insns: &insns, lines: &lines, binds: &[], ..Image::default() });
    assert_eq!(
        error.expect_err("r10 is read-only").to_string(),
        "instruction 1: writes r10, the frame pointer, which is read-only (tool.bpf.c:12: `return task->pid;`)"
    );
}

#[test]
fn bound_addresses_are_what_wide_loads_give() {
    let machine = Machine::new(Helpers::none()).expect("4 GiB of addresses");
    let value = machine.space().allocate(16, true).expect("a block");
    let insns = code("bound", "r1 = map[fd:3][0]+8\n*(u64 *)(r1 + 0) = 6\nr0 = *(u64 *)(r1 + 0)\nexit");
    let binds = [(InsnIdx(0), value.addr() + 8)];
    let program = Engine::of_this_binary()
        .load(&machine, &Image { insns: &insns, binds: &binds, ..Image::default() })
        .expect("bound");
    assert_eq!(Cpu::new(&machine).expect("a stack").run(&program, [0, 0]), Ok(6));
    assert_eq!(value.bytes(8, 1), [6]);
}

#[test]
fn processors_in_threads_count_together() {
    let machine = Machine::new(Helpers::none()).expect("4 GiB of addresses");
    let counter = machine.space().allocate(8, true).expect("a block");
    let asm = "r2 = 10000\nr3 = 1\nloop:\nlock *(u64 *)(r1 + 0) += r3\nr2 -= 1\nif r2 != 0 goto loop\nr0 = 0\nexit";
    let program = load(&machine, "count", asm);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut cpu = Cpu::new(&machine).expect("a stack");
                assert_eq!(cpu.run(&program, [counter.addr(), 8]), Ok(0));
            });
        }
    });
    assert_eq!(counter.bytes(0, 8), 40_000u64.to_ne_bytes());
}

#[test]
fn long_programs_jump_further_than_16_bits_tell() {
    let mut runner = Runner::new();
    let mut insns = code("far", "r0 = 1\ngotol pc+40000");
    insns.extend(std::iter::repeat_n(code("trap", "r0 = 7")[0], 40_000));
    insns.extend(code("end", "r0 += 1\nexit"));
    let program = runner.load(&insns).expect("a good program");
    assert_eq!(runner.cpu.run(&program, [0, 0]), Ok(2));
    // Straight on, too, past every slot that 16 bits count.
    let mut insns = code("straight", "r0 = 0");
    insns.extend(std::iter::repeat_n(code("one", "r0 += 1")[0], 70_000));
    insns.extend(code("end", "exit"));
    let program = runner.load(&insns).expect("a good program");
    assert_eq!(runner.cpu.run(&program, [0, 0]), Ok(70_000));
}

#[test]
fn a_program_of_a_wrong_length_is_refused_as_a_whole() {
    let machine = Machine::new(Helpers::none()).expect("memory for programs");
    let refused =
        |insns: &[RawInsn]| machine.load(&Image { insns, ..Image::default() }).expect_err("not a program").to_string();
    assert_eq!(refused(&[]), "the program has no instructions");
    let exits = vec![code("exit", "exit")[0]; MAX_INSNS + 1];
    assert_eq!(refused(&exits), "the program has 1000001 instructions, the limit is 1000000");
    assert!(machine.load(&Image { insns: &exits[1..], ..Image::default() }).is_ok());
}

#[test]
fn the_longest_program_needs_no_more_stack_than_a_short_one() {
    let run = || {
        let mut insns = code("start", "r0 = 0\nr2 = 0");
        let parts =
            code("parts", "r0 += 1\nif r0 == 0 goto +1\n*(u64 *)(r10 - 8) = r0\nr3 = *(u64 *)(r10 - 8)\ngoto +0");
        insns.extend(parts.iter().copied().cycle().take(999_990));
        insns.extend(code("again", "r2 += 1"));
        let back = -(insns.len() as i32);
        insns.extend(code("end", &format!("if r2 == 3 goto +1\ngotol pc{back}\nexit")));
        let mut runner = Runner::new();
        let program = runner.load(&insns).expect("a good program");
        runner.cpu.run(&program, [0, 0])
    };
    let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(run).expect("a thread");
    assert_eq!(thread.join().expect("no overflow"), Ok(3 * 199_998));
}

#[test]
fn branches_pass_over_thousands_of_accesses() {
    // Code that is some MiB long, in a loop, with a branch over all of it; every access has a rare case far away.
    let mut insns = code("loop", "w2 = w1\nr3 = 4\nr0 = 0\nr3 -= 1\nif r3 == 0 goto +32001");
    let accesses = code("accesses", "r4 = *(u32 *)(r2 + 4)\nr0 += r4\nlock *(u32 *)(r1 + 4) += r3\nr0 += 1");
    insns.extend(accesses.iter().copied().cycle().take(32_000));
    insns.extend(code("end", "goto -32003\nexit"));
    let mut runner = Runner::new();
    let program = runner.load(&insns).expect("a good program");
    let input = runner.machine.space().allocate(8, true).expect("a block");
    let (mut value, mut wanted) = (0, 0);
    for add in [3, 2, 1] {
        for _ in 0..8000 {
            wanted += value + 1;
            value += add;
        }
    }
    assert_eq!(runner.cpu.run(&program, [input.addr(), 8]), Ok(wanted));
    // It stops at the access that goes wrong, wherever that is.
    assert!(runner.cpu.run(&program, [input.addr() + 1, 8]).is_err());
}

#[test]
fn a_program_runs_again_as_at_first_whatever_ended_the_run_before() {
    let machine = looping();
    // Adds up what it finds in registers and the frame, which is nothing; then ends in one of some ways.
    let asm = "r0 = r3\nr0 += r4\nr0 += r5\nr0 += r6\nr0 += r7\nr0 += r8\nr0 += r9\nr6 = *(u64 *)(r10 - 8)\nr0 += r6\n\
               *(u64 *)(r10 - 8) = 1\nr6 = r1\nr7 = r0\nr8 = 7\nr9 = 9\nif r6 == 0 goto null\nagain:\nif r6 == 1 goto again\n\
               if r6 == 2 goto inside\nr1 = r6\ncall f\nr0 += r7\nexit\nnull:\nr0 = 0\nr0 = *(u8 *)(r0 + 0)\nexit\n\
               inside:\nr1 = 0\ncall f\nexit\n\
               f:\nif r1 == 0 goto wrong\nr0 = r1\nr0 += 100\nexit\nwrong:\nr0 = *(u8 *)(r1 + 0)\nexit";
    let program = load(&machine, "ends", asm);
    let other = load(&machine, "other", "r0 = r1\nr0 += r8\nr6 = 1\nr8 = 1\nexit");
    let mut cpu = Cpu::new(&machine).expect("a stack");
    cpu.set_fuel(1000);
    for way in [3, 4, 0, 5, 1, 6, 2, 7, 7, 0, 1, 2, 8] {
        let ended = cpu.run(&program, [way, 0]);
        match way {
            1 => assert!(matches!(trap(ended).kind, TrapKind::FuelExhausted { fuel: 1000 })),
            0 | 2 => assert!(matches!(trap(ended).kind, TrapKind::Memory(_))),
            _ => assert_eq!(ended, Ok(way + 100)),
        }
        if way % 3 == 0 {
            assert_eq!([1, 2].map(|arg| cpu.run(&other, [arg, 0])), [Ok(1), Ok(2)]);
        }
        cpu.set_fuel(3);
        assert!(matches!(trap(cpu.run(&program, [9, 0])).kind, TrapKind::FuelExhausted { fuel: 3 }));
        cpu.set_fuel(1000);
    }
}

#[test]
fn a_counter_of_loops_is_full_at_each_run() {
    let machine = looping();
    let program =
        load(&machine, "counts", "r0 = 0\nagain:\nmay_goto done\nr0 += 1\nif r0 != 5000000 goto again\ndone:\nexit");
    let mut cpu = Cpu::new(&machine).expect("a stack");
    assert_eq!([(); 3].map(|()| cpu.run(&program, [0, 0])), [Ok(5_000_000), Ok(5_000_000), Ok(5_000_000)]);
}

#[test]
fn a_helper_may_run_another_program() {
    static OTHER: OnceLock<Arc<Program>> = OnceLock::new();
    let helpers = Helpers::none().with(1, "run", |cpu, [arg, ..]| {
        let other = OTHER.get().expect("set before it runs").clone();
        Ok(cpu.run(&other, [arg, 0]).unwrap_or(0))
    });
    let helpers = helpers.with(2, "double", |_, [arg, ..]| Ok(2 * arg));
    let machine = Machine::new(helpers).expect("4 GiB of addresses");
    let other = load(&machine, "other", "r1 += 1\nr1 += 1\nr1 += 1\ncall 2\nexit");
    OTHER.set(other.clone()).expect("once");
    let program = load(&machine, "outer", "if r1 == 0 goto none\ncall 1\nexit\nnone:\nr0 = 0\nexit");
    let mut cpu = Cpu::new(&machine).expect("a stack");
    for arg in 1..3 {
        let twice = 2 * (arg + 3);
        for (program, arg, wanted) in
            [(&program, 0, 0), (&program, 0, 0), (&program, arg, twice), (&other, arg, twice), (&other, arg, twice)]
        {
            assert_eq!(cpu.run(program, [arg, 0]), Ok(wanted));
        }
    }
}

//! Programs in the machine of user space: interpreted and compiled they do the same.

use std::cell::RefCell;
use std::sync::Arc;

use skep_insn::{Endian, RawInsn};
use skep_vm::{Block, CompileOptions, Cpu, Helpers, Image, Machine};

/// Bytes of input that a program gets.
const INPUT: usize = 64;
/// Enough for loops that mean something, and few enough for many programs a second.
const FUEL: u64 = 20_000;

struct Bench {
    machine: Arc<Machine>,
    cpu: Cpu,
    input: Block,
}

impl Bench {
    fn new() -> Option<Bench> {
        let helpers = Helpers::none().with(5, "first_argument", |_, args| Ok(args[0]));
        let machine = Machine::new(helpers).ok()?;
        let mut cpu = Cpu::new(&machine).ok()?;
        cpu.set_fuel(FUEL);
        let input = machine.space().allocate(INPUT as u64, true).ok()?;
        Some(Bench { machine, cpu, input })
    }

    fn run(&mut self, insns: &[RawInsn], input: &[u8; INPUT], compiled: bool) -> Option<String> {
        let program = self.machine.load(&Image { insns, ..Image::default() }).ok()?;
        if compiled {
            program.compile_with(CompileOptions::default()).expect("memory for code");
        }
        self.input.write(0, input).expect("it fits");
        let result = self.cpu.run(&program, [self.input.addr(), self.input.len()]);
        Some(format!("{result:?} {:?} {}", self.input.bytes(0, INPUT), self.cpu.fuel_left()))
    }
}

/// Any bytes as instructions. The last of them are the input, too.
pub(crate) fn run(data: &[u8]) {
    thread_local! {
        static BENCH: RefCell<Option<Bench>> = RefCell::new(Bench::new());
    }
    let insns: Vec<RawInsn> =
        data.as_chunks::<8>().0.iter().take(4096).map(|bytes| RawInsn::from_bytes(*bytes, Endian::Little)).collect();
    let mut input = [0; INPUT];
    let tail = &data[data.len().saturating_sub(INPUT)..];
    input[..tail.len()].copy_from_slice(tail);
    BENCH.with_borrow_mut(|bench| {
        let Some(bench) = bench else { return };
        let interpreted = bench.run(&insns, &input, false);
        assert_eq!(interpreted, bench.run(&insns, &input, true));
    });
}

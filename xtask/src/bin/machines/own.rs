//! The machine of this project.
#![expect(unsafe_code, reason = "programs that are known to be right are measured without checks, too")]

use anyhow::{Context, Result, bail};
use skep_vm::{CompileOptions, Cpu, Helpers, Image, Machine, MapKind, MapSpec};

use crate::object::{self, Loaded};
use crate::{Measured, once, timed};

pub(super) fn measure(object: &[u8], input: &[u8], batches: u32, engine: &str) -> Result<Measured> {
    let Loaded { insns, binds, maps } = object::load(object)?;
    let machine = Machine::new(Helpers::all())?;
    let mut made = Vec::new();
    for map in maps {
        let kind = MapKind::from_number(map.kind).context("a map of a known kind")?;
        let (key_size, value_size, max_entries) = (map.key_size, map.value_size, map.max_entries);
        made.push(machine.create_map(&MapSpec { kind, key_size, value_size, max_entries, ..MapSpec::default() })?);
    }
    let binds: Vec<_> = binds.iter().map(|(at, map)| (*at, made[*map].handle())).collect();
    let image = Image { name: "program", insns: &insns, binds: &binds, ..Image::default() };
    let program = machine.load(&image)?;
    let compile = match engine {
        "interpreter" => None,
        "jit" => Some(CompileOptions::default()),
        "jit-masked" => Some(CompileOptions::masked()),
        "jit-plain" => Some(plain()),
        "jit-plain-unmetered" => Some(plain().unmetered()),
        other => bail!("no engine is called `{other}`"),
    };
    let mut compile_ns = 0;
    if let Some(options) = compile {
        // With loading, which is what a new program costs.
        compile_ns = once(50, || {
            let program = machine.load(&image)?;
            program.compile_with(options)?;
            Ok(program)
        })?;
        program.compile_with(options)?;
    }
    let block = machine.space().allocate(input.len() as u64, true)?;
    block.write(0, input).context("the input fits")?;
    let mut cpu = Cpu::new(&machine)?;
    let args = [block.addr(), block.len()];
    let (result, ns) = timed(batches, || Ok(cpu.run(&program, args)?))?;
    Ok(Measured { result, ns, compile_ns })
}

fn plain() -> CompileOptions {
    // SAFETY: the programs of `tests/bench/vm` stay in their input and their maps, and hold whole addresses only: the kernel's verifier, which
    // takes their other builds, says the same.
    unsafe { CompileOptions::plain() }
}

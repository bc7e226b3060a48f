//! The machine of this project.

use anyhow::{Context, Result, bail};
use skep_vm::{Cpu, Helpers, Image, Machine, MapKind, MapSpec};

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
        "jit" => Some(skep_vm::Program::compile as fn(&skep_vm::Program) -> Result<(), skep_vm::CompileError>),
        other => bail!("no engine is called `{other}`"),
    };
    let mut compile_ns = 0;
    if let Some(compile) = compile {
        let both = once(50, || {
            let program = machine.load(&image)?;
            compile(&program)?;
            Ok(program)
        })?;
        compile_ns = both;
        compile(&program)?;
    }
    let block = machine.space().allocate(input.len() as u64, true)?;
    block.write(0, input).context("the input fits")?;
    let mut cpu = Cpu::new(&machine)?;
    let args = [block.addr(), block.len()];
    let (result, ns) = timed(batches, || Ok(cpu.run(&program, args)?))?;
    Ok(Measured { result, ns, compile_ns })
}

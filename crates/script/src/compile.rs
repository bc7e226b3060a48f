//! All stages in a row.

use skep_spec::Spec;
use skep_spec::section::SectionTable;

use crate::lower::Lowered;
use crate::plan::Plan;
use crate::{Sources, Target, codegen, passes};

/// Programs without operations of ISA v4 run on every kernel that skep supports; v4 came with this one.
const ISA_V4: u32 = 6 << 16 | 6 << 8;

/// Turns what was lowered into a whole Spec: optimizes, generates code, and makes the programs.
///
/// # Errors
///
/// When a function does not fit the machine: too much stack.
pub fn assemble(lowered: Lowered, sources: &Sources, target: &dyn Target) -> Result<(Spec, Plan), codegen::Error> {
    let Lowered { mut module, mut spec, plan, entries } = lowered;
    passes::run(&mut module);
    let isa = if target.kernel_version() >= ISA_V4 { 4 } else { 3 };
    let functions = codegen::generate(&module, &mut spec, sources, &codegen::Options { isa })?;
    let table = SectionTable::new();
    for entry in entries {
        let id = functions[entry.func.0 as usize];
        let meaning = table.lookup(&entry.section);
        spec.functions[id.0 as usize].section.clone_from(&entry.section);
        spec.programs.push(skep_spec::Program {
            attach_type: meaning.attach_type,
            attach_type_required: meaning.attach_type_required,
            flags: meaning.flags,
            attach: meaning.attach,
            ..skep_spec::Program::new(&entry.name, id, &entry.section, meaning.prog_type)
        });
    }
    Ok((spec, plan))
}

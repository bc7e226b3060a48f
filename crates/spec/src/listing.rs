//! A Spec as text, one thing per line: what a person reviews and what tests compare.

use std::fmt;

use crate::external::ExternKind;
use crate::function::{Linkage, RefTarget};
use crate::map::{MapContents, MapOrigin, Pinning, Slot};
use crate::program::AttachPoint;
use crate::{Function, Map, Program, Spec};

impl fmt::Display for Spec {
    /// Programs, functions with their references, maps with their variables, externs, then warnings.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object {} {:?}-endian", self.name, self.endian)?;
        match &self.license {
            Some(license) => write!(f, " license {license:?}")?,
            None => f.write_str(" without license")?,
        }
        if let Some(version) = self.kernel_version {
            write!(f, " version {version}")?;
        }
        match &self.btf {
            Some(btf) => writeln!(f, " types {}", btf.len())?,
            None => writeln!(f, " without types")?,
        }
        for program in &self.programs {
            self.program_line(f, program)?;
        }
        for function in &self.functions {
            self.function_lines(f, function)?;
        }
        for map in &self.maps {
            self.map_lines(f, map, "map")?;
        }
        for external in &self.externs {
            write!(f, "extern {}", external.name)?;
            match external.kind {
                ExternKind::Kconfig { off_bytes, size_bytes, value } => {
                    write!(f, " kconfig +{off_bytes} size {size_bytes} {value:?}")?;
                }
                ExternKind::TypedKsym { type_id } => write!(f, " ksym type {type_id}")?,
                ExternKind::TypelessKsym => f.write_str(" ksym")?,
                ExternKind::Kfunc { .. } => f.write_str(" kfunc")?,
                kind => write!(f, " {} of another object", kind.noun())?,
            }
            writeln!(f, "{}", if external.weak { " weak" } else { "" })?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning {warning}")?;
        }
        Ok(())
    }
}

impl Spec {
    fn program_line(&self, f: &mut fmt::Formatter<'_>, program: &Program) -> fmt::Result {
        write!(f, "program {} SEC({:?}) {}", program.name, program.section, program.prog_type)?;
        if let Some(attach) = program.attach_type {
            write!(f, " {attach}{}", if program.attach_type_required { "" } else { "?" })?;
        }
        if program.flags != 0 {
            write!(f, " flags {:#x}", program.flags)?;
        }
        if program.attach != AttachPoint::None {
            write!(f, " at {:?}", program.attach)?;
        }
        writeln!(f, "{}", if program.autoload { "" } else { " off" })
    }

    fn function_lines(&self, f: &mut fmt::Formatter<'_>, function: &Function) -> fmt::Result {
        let linkage = match function.linkage {
            Linkage::Static => "static",
            Linkage::Global => "global",
            Linkage::Weak => "weak",
        };
        writeln!(
            f,
            "function {} {}{linkage} in {:?} +{} insns {} lines {} core {}{}",
            function.name,
            if function.hidden { "hidden " } else { "" },
            function.section,
            function.section_off_bytes,
            function.insns.len(),
            function.lines.len(),
            function.core_relos.len(),
            if function.btf_func.is_some() { "" } else { " untyped" }
        )?;
        for reference in &function.references {
            write!(f, "  {:4}: ", reference.insn.0)?;
            match reference.target {
                RefTarget::Map(map) => writeln!(f, "map {}", self.map(map).name)?,
                RefTarget::MapValue { map, off_bytes } => {
                    let map = self.map(map);
                    let variable = map
                        .data_section()
                        .and_then(|data| data.variables.iter().rfind(|it| it.off_bytes <= off_bytes))
                        .filter(|it| off_bytes < it.off_bytes.saturating_add(it.size_bytes));
                    write!(f, "value {}+{off_bytes}", map.name)?;
                    match variable {
                        Some(variable) => writeln!(f, " ({})", variable.name)?,
                        None => writeln!(f)?,
                    }
                }
                RefTarget::Call(id) => writeln!(f, "call {}", self.function(id).name)?,
                RefTarget::FuncAddr(id) => writeln!(f, "address {}", self.function(id).name)?,
                RefTarget::Extern(id) => writeln!(f, "extern {}", self.external(id).name)?,
                RefTarget::ExternCall(id) => writeln!(f, "extern call {}", self.external(id).name)?,
                RefTarget::JumpTable(id) => match &self.map(id).contents {
                    MapContents::JumpTable { targets, .. } => writeln!(f, "jump table of {}", targets.len())?,
                    _ => writeln!(f, "jump table")?,
                },
            }
        }
        for relo in &function.core_relos {
            let kind = skep_btf::CoreReloKind(relo.kind);
            writeln!(f, "  {:4}: core {kind} {} {}", relo.insn.0, relo.type_id, relo.access)?;
        }
        for fault in &function.faults {
            writeln!(f, "  {:4}: FAULT {}", fault.insn.0, fault.message)?;
        }
        Ok(())
    }

    fn map_lines(&self, f: &mut fmt::Formatter<'_>, map: &Map, word: &str) -> fmt::Result {
        write!(
            f,
            "{word} {} {} key {} value {} entries {}",
            map.name, map.map_type, map.key_size, map.value_size, map.max_entries
        )?;
        if map.flags != 0 {
            write!(f, " flags {:#x}", map.flags)?;
        }
        if map.map_extra != 0 {
            write!(f, " extra {:#x}", map.map_extra)?;
        }
        if let Some(node) = map.numa_node {
            write!(f, " numa {node}")?;
        }
        if let Some(key) = map.key_type {
            write!(f, " key type {key}")?;
        }
        if let Some(value) = map.value_type {
            write!(f, " value type {value}")?;
        }
        if map.pinning == Pinning::ByName {
            f.write_str(" pinned by name")?;
        }
        match &map.origin {
            MapOrigin::Legacy => f.write_str(" legacy")?,
            MapOrigin::Made => f.write_str(" made")?,
            _ => {}
        }
        if map.linkage == Linkage::Weak {
            f.write_str(" weak")?;
        }
        if !map.autocreate {
            f.write_str(" off")?;
        }
        match &map.contents {
            MapContents::Empty => writeln!(f)?,
            MapContents::Data(bytes) => writeln!(f, " bytes {}", bytes.len())?,
            MapContents::JumpTable { .. } => writeln!(f)?,
            MapContents::Slots(slots) => {
                writeln!(f)?;
                for (index, slot) in slots {
                    match slot {
                        Slot::Map(id) => writeln!(f, "  [{index}] map {}", self.map(*id).name)?,
                        Slot::Program(id) => writeln!(f, "  [{index}] program {}", self.program(*id).name)?,
                        Slot::Extern(id) => writeln!(f, "  [{index}] extern {}", self.external(*id).name)?,
                    }
                }
            }
            MapContents::StructOps(ops) => {
                writeln!(f, " struct_ops type {}{}", ops.type_id, if ops.link { " link" } else { "" })?;
                for (off, program) in &ops.programs {
                    writeln!(f, "  +{off} program {}", self.program(*program).name)?;
                }
                for (off, external) in &ops.externs {
                    writeln!(f, "  +{off} extern {}", self.external(*external).name)?;
                }
            }
        }
        if let Some(inner) = &map.inner {
            f.write_str("  ")?;
            self.map_lines(f, inner, "inner")?;
        }
        for variable in map.data_section().iter().flat_map(|data| &data.variables) {
            write!(f, "  +{} {} size {}", variable.off_bytes, variable.name, variable.size_bytes)?;
            match variable.type_id {
                Some(type_id) => write!(f, " type {type_id}")?,
                None => f.write_str(" untyped")?,
            }
            let visible = match (variable.global, variable.linkage) {
                (true, Linkage::Weak) => " weak",
                (true, _) => "",
                (false, Linkage::Static) => " static",
                (false, Linkage::Global) => " hidden",
                (false, Linkage::Weak) => " hidden weak",
            };
            writeln!(f, "{visible}")?;
        }
        Ok(())
    }
}

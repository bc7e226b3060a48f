//! One program: its functions laid out, their references made good.

use std::collections::HashMap;

use skep_insn::consts::*;
use skep_insn::{InsnIdx, RawInsn, helpers};

use super::externs::Value;
use super::needs::exception_callback;
use super::relocate::Fitted;
use super::{POISON_KFUNC, POISON_MAP, Problem, kconfig_map, poison_number};
use crate::function::{LineInfo, RefTarget};
use crate::map::MapContents;
use crate::resolved::{Bind, BindTarget, Explanation, FuncInfo, Outcome, ResolvedProgram};
use crate::target::Feature;
use crate::{ExternId, ExternKind, FuncId, Function, MapId, Program, Spec, Target};

/// Lays out a program and makes its references good.
pub(super) fn link(
    spec: &Spec,
    program: &Program,
    functions: &[Option<Fitted>],
    externs: &[Option<Value>],
    target: &dyn Target,
) -> Result<ResolvedProgram, Problem> {
    let mut linker = Linker {
        spec,
        functions,
        externs,
        starts: HashMap::new(),
        pieces: Vec::new(),
        out: ResolvedProgram {
            insns: Vec::new(),
            layout: Vec::new(),
            binds: Vec::new(),
            functions: Vec::new(),
            lines: Vec::new(),
            attach_type: program.attach_type,
            attach_btf: None,
            explanations: Vec::new(),
        },
    };
    linker.place(program.entry)?;
    if let Some(callback) = exception_callback(spec, program.entry) {
        linker.place(callback)?;
    }
    for (id, start) in std::mem::take(&mut linker.pieces) {
        linker.fill(id, start)?;
        linker.out.layout.push((InsnIdx(start), id));
    }
    let mut out = linker.out;
    downgrade_probe_reads(&mut out.insns, target);
    Ok(out)
}

struct Linker<'a> {
    spec: &'a Spec,
    functions: &'a [Option<Fitted>],
    externs: &'a [Option<Value>],
    /// Where each function starts that is in the program.
    starts: HashMap<FuncId, u32>,
    /// The same, in the order of the program.
    pieces: Vec<(FuncId, u32)>,
    out: ResolvedProgram,
}

impl<'a> Linker<'a> {
    fn function(&self, id: FuncId) -> Result<(&'a Function, &'a Fitted), Problem> {
        let fitted = self.functions.get(id.0 as usize).and_then(Option::as_ref);
        match (self.spec.functions.get(id.0 as usize), fitted) {
            (Some(function), Some(fitted)) => match &fitted.problem {
                Some(problem) => Err(problem.clone()),
                None => match function.faults.first() {
                    Some(fault) => Err(Problem::new(format!("function `{}`: {}", function.name, fault.message))),
                    None => Ok((function, fitted)),
                },
            },
            _ => Err(Problem::new(format!("it refers to function number {}, which the object does not have", id.0))),
        }
    }

    /// Appends a function and, depth first, everything that it calls.
    fn place(&mut self, id: FuncId) -> Result<(), Problem> {
        if self.starts.contains_key(&id) {
            return Ok(());
        }
        // Functions that wait for their callees, and the reference that each has come to.
        let mut waiting = vec![(id, self.append(id)?, 0)];
        while let Some((id, start, next)) = waiting.last_mut() {
            let function = self.spec.function(*id);
            let Some(reference) = function.references.get(*next) else {
                waiting.pop();
                continue;
            };
            let (RefTarget::Call(to) | RefTarget::FuncAddr(to)) = reference.target else {
                *next += 1;
                continue;
            };
            let Some(&to_start) = self.starts.get(&to) else {
                let to_start = self.append(to)?;
                waiting.push((to, to_start, 0));
                continue;
            };
            let at = *start + reference.insn.0;
            let address = matches!(reference.target, RefTarget::FuncAddr(_));
            *next += 1;
            let insn = self.out.insns.get_mut(at as usize).ok_or_else(|| bad_reference(function, reference.insn))?;
            match address {
                true if insn.is_wide() => insn.src_reg = BPF_PSEUDO_FUNC,
                false if insn.code == BPF_JMP | BPF_CALL => insn.src_reg = BPF_PSEUDO_CALL,
                _ => return Err(bad_reference(function, reference.insn)),
            }
            insn.imm = to_start.wrapping_sub(at).wrapping_sub(1) as i32;
        }
        Ok(())
    }

    fn append(&mut self, id: FuncId) -> Result<u32, Problem> {
        let (function, fitted) = self.function(id)?;
        let start = self.out.insns.len() as u32;
        if self.out.insns.len() + fitted.insns.len() > BPF_COMPLEXITY_LIMIT_INSNS as usize {
            return Err(Problem::new(format!(
                "with function `{}` it has more than {BPF_COMPLEXITY_LIMIT_INSNS} instructions, the kernel's limit",
                function.name
            )));
        }
        self.out.insns.extend_from_slice(&fitted.insns);
        self.starts.insert(id, start);
        self.pieces.push((id, start));
        Ok(start)
    }

    /// Everything about a placed function but its calls.
    fn fill(&mut self, id: FuncId, start: u32) -> Result<(), Problem> {
        let (function, fitted) = self.function(id)?;
        let moved = |insn: InsnIdx| InsnIdx(start + insn.0);
        self.out
            .explanations
            .extend(fitted.explanations.iter().map(|it| Explanation { insn: moved(it.insn), ..it.clone() }));
        for reference in &function.references {
            let bad = || bad_reference(function, reference.insn);
            let at = moved(reference.insn);
            match reference.target {
                RefTarget::Call(_) | RefTarget::FuncAddr(_) => {}
                RefTarget::Map(map) => self.map(at, map, None).ok_or_else(bad)?,
                RefTarget::MapValue { map, off_bytes } => self.map(at, map, Some(off_bytes)).ok_or_else(bad)?,
                RefTarget::JumpTable(map) => {
                    let (first, _) = self.wide(at).ok_or_else(bad)?;
                    (first.src_reg, first.imm, first.off) = (BPF_PSEUDO_MAP_VALUE, 0, 0);
                    let targets = self.jump_targets(map, function)?;
                    self.out.binds.push(Bind { insn: at, target: BindTarget::JumpTable { map, targets } });
                }
                RefTarget::Extern(external) => self.external(at, external)?.ok_or_else(bad)?,
                RefTarget::ExternCall(external) => self.external_call(at, external)?.ok_or_else(bad)?,
            }
        }
        self.debug_info(function, start);
        Ok(())
    }

    /// The two slots of a wide load.
    fn wide(&mut self, at: InsnIdx) -> Option<(&mut RawInsn, &mut RawInsn)> {
        let [first, second] = self.out.insns.get_mut(at.0 as usize..)?.first_chunk_mut::<2>()?;
        first.is_wide().then_some((first, second))
    }

    /// A load of a map, or of an address in its value.
    fn map(&mut self, at: InsnIdx, map: MapId, off_bytes: Option<u32>) -> Option<()> {
        let autocreate = self.spec.maps.get(map.0 as usize)?.autocreate;
        let (first, second) = self.wide(at)?;
        if !autocreate {
            let call = poisoned_call(POISON_MAP.wrapping_add(map.0 as i32));
            (*first, *second) = (call, call);
            return Some(());
        }
        first.imm = 0;
        let target = match off_bytes {
            None => {
                first.src_reg = BPF_PSEUDO_MAP_FD;
                BindTarget::Map(map)
            }
            Some(off) => {
                first.src_reg = BPF_PSEUDO_MAP_VALUE;
                second.imm = off as i32;
                BindTarget::MapValue(map)
            }
        };
        self.out.binds.push(Bind { insn: at, target });
        Some(())
    }

    fn value(&self, id: ExternId) -> Result<Value, Problem> {
        match self.externs.get(id.0 as usize) {
            Some(Some(Value::Missing(problem))) => Err(problem.clone()),
            Some(Some(value)) => Ok(value.clone()),
            _ => Err(Problem::new(format!("it refers to extern number {}, which the object does not have", id.0))),
        }
    }

    fn explain(&mut self, at: InsnIdx, external: ExternId, place: Option<String>) {
        let found = self.spec.external(external);
        let outcome = match place {
            Some(place) => Outcome::Found { external, place },
            None => Outcome::Absent { external },
        };
        self.out.explanations.push(Explanation {
            insn: at,
            asked: format!("{} {}", found.kind.noun(), found.name),
            outcome,
        });
    }

    /// A load of an extern variable, or of the address of an extern function.
    fn external(&mut self, at: InsnIdx, id: ExternId) -> Result<Option<()>, Problem> {
        let value = self.value(id)?;
        if let ExternKind::Kconfig { off_bytes, .. } = self.spec.external(id).kind {
            let Some(map) = kconfig_map(self.spec) else {
                return Err(Problem::new("the object has configuration values but no `.kconfig` map"));
            };
            let text = if let Value::Kconfig(text) = value { Some(text) } else { None };
            self.explain(at, id, text);
            return Ok(self.map(at, map, Some(off_bytes)));
        }
        let Some((first, second)) = self.wide(at) else {
            return Ok(None);
        };
        match value {
            Value::Typed(found) => {
                first.src_reg = BPF_PSEUDO_BTF_ID;
                (first.imm, second.imm) = (found.type_id.0 as i32, 0);
                let place = format!("{} {}", found.module.as_deref().unwrap_or("vmlinux"), found.type_id);
                if let Some(module) = found.module {
                    self.out.binds.push(Bind { insn: at, target: BindTarget::ModuleKsym { module } });
                }
                self.explain(at, id, Some(place));
            }
            Value::Address(address) => {
                first.src_reg = 0;
                (first.imm, second.imm) = (address as i32, (address >> 32) as i32);
                self.explain(at, id, Some(format!("kallsyms {address:#x}")));
            }
            Value::Absent | Value::Kconfig(_) | Value::Missing(_) => {
                first.src_reg = 0;
                (first.imm, second.imm) = (0, 0);
                self.explain(at, id, None);
            }
        }
        Ok(Some(()))
    }

    fn external_call(&mut self, at: InsnIdx, id: ExternId) -> Result<Option<()>, Problem> {
        let value = self.value(id)?;
        let Some(insn) = self.out.insns.get_mut(at.0 as usize).filter(|insn| insn.code == BPF_JMP | BPF_CALL) else {
            return Ok(None);
        };
        let Value::Typed(found) = value else {
            *insn = poisoned_call(POISON_KFUNC.wrapping_add(poison_number(self.spec, id) as i32));
            self.explain(at, id, None);
            return Ok(Some(()));
        };
        insn.src_reg = BPF_PSEUDO_KFUNC_CALL;
        (insn.imm, insn.off) = (found.type_id.0 as i32, 0);
        let place = format!("{} {}", found.module.as_deref().unwrap_or("vmlinux"), found.type_id);
        if let Some(module) = found.module {
            self.out.binds.push(Bind { insn: at, target: BindTarget::ModuleKfunc { module } });
        }
        self.explain(at, id, Some(place));
        Ok(Some(()))
    }

    /// Where a jump table leads, in the program's instructions.
    fn jump_targets(&self, map: MapId, from: &Function) -> Result<Vec<InsnIdx>, Problem> {
        let bad = |what: &str| Problem::new(format!("function `{}`: {what}", from.name));
        let table = self.spec.maps.get(map.0 as usize).map(|map| &map.contents);
        let Some(MapContents::JumpTable { function, targets }) = table else {
            return Err(bad("its jump table has no targets"));
        };
        let start = *self.starts.get(function).ok_or_else(|| bad("its jump table leads into another function"))?;
        Ok(targets.iter().map(|target| InsnIdx(start.saturating_add(target.0))).collect())
    }

    /// Function and line records. The kernel wants either for all functions or for none: a program with functions of an
    /// assembler goes without.
    fn debug_info(&mut self, function: &Function, start: u32) {
        let first = start == 0;
        match function.btf_func {
            Some(type_id) if first || !self.out.functions.is_empty() => {
                self.out.functions.push(FuncInfo { insn: InsnIdx(start), type_id });
            }
            _ => self.out.functions.clear(),
        }
        let covered = function.lines.first().is_some_and(|line| line.insn == InsnIdx(0));
        if covered && (first || !self.out.lines.is_empty()) {
            let moved = |line: &LineInfo| LineInfo { insn: InsnIdx(start + line.insn.0), ..*line };
            self.out.lines.extend(function.lines.iter().map(moved));
        } else {
            self.out.lines.clear();
        }
    }
}

fn bad_reference(function: &Function, insn: InsnIdx) -> Problem {
    Problem::new(format!(
        "function `{}`, instruction {insn}: a symbol is attached to an instruction that cannot take it",
        function.name
    ))
}

/// A call of a helper that no kernel has.
fn poisoned_call(helper: i32) -> RawInsn {
    RawInsn::new(BPF_JMP | BPF_CALL, 0, 0, 0, helper)
}

/// Kernels before 5.5 have only `bpf_probe_read`, which reads both address spaces there.
fn downgrade_probe_reads(insns: &mut [RawInsn], target: &dyn Target) {
    let mut has = None;
    for insn in insns {
        let old = match insn.helper() {
            Some(helpers::PROBE_READ_USER | helpers::PROBE_READ_KERNEL) => helpers::PROBE_READ,
            Some(helpers::PROBE_READ_USER_STR | helpers::PROBE_READ_KERNEL_STR) => helpers::PROBE_READ_STR,
            _ => continue,
        };
        if !*has.get_or_insert_with(|| target.supports(Feature::ProbeReadKernel)) {
            insn.imm = old as i32;
        }
    }
}

//! Small C programs resolved for made-up machines, shown as text.
//!
//! A file in `tests/resolve/` is a list of cases. A case is a comment, the C of the object, the C whose types are the
//! kernel's, facts about the machine, and what resolving must give: instructions in the kernel's spelling, where handles
//! go, and what each relocation did. `SKEP_BLESS=1` writes the expected text anew.

use std::collections::HashMap;
use std::fmt::Write;

use object::{Object, ObjectSection};
use skep_btf::core::describe;
use skep_btf::{Btf, Builder, Type};
use skep_insn::text::{Printer, Spelling};
use skep_spec::resolve::resolve;
use skep_spec::target::{Feature, TargetError};
use skep_spec::{Resolved, Spec, Target};

use crate::support::{self, compile};

/// A machine of facts.
#[derive(Default)]
pub(crate) struct Machine {
    pub(crate) btf: Option<Btf>,
    pub(crate) modules: Vec<(String, Btf)>,
    pub(crate) symbols: HashMap<String, u64>,
    pub(crate) config: HashMap<String, String>,
    pub(crate) lacks: Vec<Feature>,
}

impl Target for Machine {
    fn kernel_version(&self) -> u32 {
        6 << 16 | 1 << 8 | 99
    }

    fn btf(&self) -> Result<Option<Btf>, TargetError> {
        Ok(self.btf.clone())
    }

    fn modules(&self) -> Result<Vec<String>, TargetError> {
        Ok(self.modules.iter().map(|(name, _)| name.clone()).collect())
    }

    fn module_btf(&self, module: &str) -> Result<Option<Btf>, TargetError> {
        Ok(self.modules.iter().find(|(name, _)| name == module).map(|(_, btf)| btf.clone()))
    }

    fn symbols(&self, names: &[&str]) -> Result<Vec<Option<u64>>, TargetError> {
        Ok(names.iter().map(|name| self.symbols.get(*name).copied()).collect())
    }

    fn kconfig(&self, names: &[&str]) -> Result<Vec<Option<String>>, TargetError> {
        Ok(names.iter().map(|name| self.config.get(*name).cloned()).collect())
    }

    fn supports(&self, feature: Feature) -> bool {
        !self.lacks.contains(&feature)
    }
}

fn btf_of(source: &str) -> Btf {
    let bytes = compile("clang-19", "bpfel", source, &["-Wno-everything"]);
    let file = object::File::parse(&*bytes).unwrap();
    Btf::parse(file.section_by_name(".BTF").unwrap().data().unwrap().to_vec()).unwrap()
}

impl Machine {
    fn new(kernel: &str, facts: &str) -> Machine {
        let (kernel, modules) = match kernel.split_once("// module ") {
            Some((kernel, modules)) => (kernel, modules.split("// module ").collect()),
            None => (kernel, Vec::new()),
        };
        let mut machine = Machine { btf: (!kernel.trim().is_empty()).then(|| btf_of(kernel)), ..Machine::default() };
        for module in modules {
            let (name, source) = module.split_once('\n').unwrap();
            let base = machine.btf.as_ref().unwrap();
            let mut builder = Builder::split(base);
            builder.append(&btf_of(source)).unwrap();
            let btf = Btf::parse_split(builder.finish(base.endian()).unwrap(), base).unwrap();
            machine.modules.push((name.to_string(), btf));
        }
        for fact in facts.lines() {
            match *fact.split_whitespace().collect::<Vec<_>>() {
                ["symbol", name, address] => {
                    let address = u64::from_str_radix(address.strip_prefix("0x").unwrap(), 16).unwrap();
                    machine.symbols.insert(name.to_string(), address);
                }
                ["config", setting] => {
                    let (name, value) = setting.split_once('=').unwrap();
                    machine.config.insert(name.to_string(), value.to_string());
                }
                ["lacks", "probe_read_kernel"] => machine.lacks.push(Feature::ProbeReadKernel),
                ["lacks", "uprobe_multi"] => machine.lacks.push(Feature::UprobeMulti),
                ["lacks", "arg_ctx_tag"] => machine.lacks.push(Feature::ArgCtxTag),
                ["lacks", "attach_cookie"] => machine.lacks.push(Feature::AttachCookie),
                _ => panic!("unknown fact `{fact}`"),
            }
        }
        machine
    }
}

fn show(spec: &Spec, resolved: &Resolved) -> String {
    let mut text = String::new();
    let name = |map: skep_spec::MapId| spec.map(map).name.as_str();
    for (map, bytes) in &resolved.contents {
        writeln!(text, "{} holds {bytes:02x?}", name(*map)).unwrap();
    }
    for (map, found) in &resolved.struct_ops {
        match found {
            Ok(it) => writeln!(text, "{} is {it:02x?}", name(*map)),
            Err(err) => writeln!(text, "{} error: {err}", name(*map)),
        }
        .unwrap();
    }
    for (id, program) in &resolved.programs {
        let program = match program {
            Ok(program) => program,
            Err(err) => {
                writeln!(text, "{err}").unwrap();
                err.hint.iter().for_each(|hint| writeln!(text, "  hint: {hint}").unwrap());
                continue;
            }
        };
        writeln!(text, "program `{}`", spec.program(*id).name).unwrap();
        if let Some(at) = &program.attach_btf {
            writeln!(text, "  attaches to {} {}", at.module.as_deref().unwrap_or("vmlinux"), at.type_id).unwrap();
        }
        if program.attach_type != spec.program(*id).attach_type {
            writeln!(text, "  attach type {:?}", program.attach_type.map(|it| it.0)).unwrap();
        }
        for (at, line) in Printer::new(Spelling::Kernel).lines(&program.insns) {
            write!(text, "  {at:>3}: {line}").unwrap();
            for bind in program.binds.iter().filter(|bind| bind.insn == at) {
                write!(text, "  <- {:?}", bind.target).unwrap();
            }
            writeln!(text).unwrap();
            for it in program.explanations.iter().filter(|it| it.insn == at) {
                writeln!(text, "       {} {:?}", it.asked, it.outcome).unwrap();
            }
        }
        let functions: Vec<u32> = program.functions.iter().map(|it| it.insn.0).collect();
        let mut starts: Vec<u32> = program.lines.iter().map(|it| it.insn.0).collect();
        let lines = starts.len();
        starts.dedup();
        assert!(starts.is_sorted() && starts.len() == lines, "line records must ascend");
        for function in &program.functions {
            let own = spec.btf.as_ref().unwrap();
            if function.type_id.0 >= own.len() {
                let added = resolved.btf.as_ref().unwrap();
                let Type::Func(func) = added.type_by_id(function.type_id).unwrap() else { panic!("not a function") };
                let Type::FuncProto(proto) = added.type_by_id(func.proto()).unwrap() else { panic!("no prototype") };
                let params: Vec<String> = proto.params().map(|it| describe(added, it.type_id)).collect();
                writeln!(text, "  {}({}) was added", func.name(), params.join(", ")).unwrap();
            }
        }
        writeln!(text, "  functions at {functions:?}, {}", if lines > 0 { "with lines" } else { "no lines" }).unwrap();
    }
    text
}

fn check(file: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/resolve").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut written = String::new();
    for case in text.split("\n\n# ") {
        let case = if case.starts_with("# ") { case.to_string() } else { format!("# {case}") };
        let (head, rest) = case.split_once("--- object\n").unwrap();
        let (object, rest) = rest.split_once("--- kernel\n").unwrap();
        let (kernel, rest) = rest.split_once("--- machine\n").unwrap();
        let (facts, expected) = rest.split_once("--- gives").unwrap();
        let spec = support::open("clang-19", "bpfel", object);
        let found = show(&spec, &resolve(&spec, &Machine::new(kernel, facts)));
        // The compiler writes the folder that it ran in.
        let found = found.replace(concat!(env!("CARGO_MANIFEST_DIR"), "/"), "");
        if std::env::var_os("SKEP_BLESS").is_none() {
            assert_eq!(expected.trim(), found.trim(), "{head}SKEP_BLESS=1 accepts the new text");
        }
        write!(written, "{head}--- object\n{object}--- kernel\n{kernel}--- machine\n{facts}--- gives\n{found}\n")
            .unwrap();
    }
    if std::env::var_os("SKEP_BLESS").is_some() {
        std::fs::write(path, written.trim_end().to_string() + "\n").unwrap();
    }
}

#[test]
fn functions_are_laid_out_by_first_use() {
    check("layout.txt");
}

#[test]
fn externs_are_looked_up() {
    check("externs.txt");
}

#[test]
fn programs_attach_to_types() {
    check("attach.txt");
}

#[test]
fn core_records_are_answered_and_explained() {
    check("core.txt");
}

#[test]
fn struct_ops_take_the_kernels_layout() {
    check("struct_ops.txt");
}

#[test]
fn contexts_of_global_functions_are_typed_for_old_kernels() {
    check("arg_ctx.txt");
}

#[test]
fn a_jump_table_follows_its_function() {
    use skep_insn::consts::*;
    use skep_insn::{InsnIdx, RawInsn};
    use skep_spec::function::{RefTarget, Reference};
    use skep_spec::map::{MapContents, MapOrigin};
    use skep_spec::resolved::BindTarget;
    use skep_spec::{FuncId, MapId};

    // Compilers write jump tables from LLVM 22 on, so one is put into an ordinary object.
    let source = "int value; __noinline int sub(int x) { return x + value; }\n\
                  SEC(\"tp/a/b\") int use(void *ctx) { return sub((long)ctx); }";
    let mut spec = support::open("clang-19", "bpfel", source);
    let find = |name: &str| FuncId(spec.functions.iter().position(|it| it.name == name).unwrap() as u32);
    let (sub, entry) = (find("sub"), find("use"));
    let mut table = spec.maps[0].clone();
    table.origin = MapOrigin::JumpTable;
    table.contents = MapContents::JumpTable { function: sub, targets: vec![InsnIdx(2), InsnIdx(0)] };
    spec.maps.push(table);
    let map = MapId(spec.maps.len() as u32 - 1);
    let function = &mut spec.functions[sub.0 as usize];
    function.references = vec![Reference { insn: InsnIdx(0), target: RefTarget::JumpTable(map) }];
    assert!(function.insns[0].is_wide());
    let start = spec.functions[entry.0 as usize].insns.len() as u32;

    let resolved = resolve(&spec, &Machine::default());
    let program = resolved.programs[0].1.as_ref().unwrap();
    assert_eq!(program.binds.len(), 1);
    assert_eq!(program.binds[0].insn, InsnIdx(start));
    let targets = vec![InsnIdx(start + 2), InsnIdx(start)];
    assert_eq!(program.binds[0].target, BindTarget::JumpTable { map, targets });
    let first = program.insns[start as usize];
    assert_eq!((first.src_reg, first.imm, first.off), (BPF_PSEUDO_MAP_VALUE, 0, 0));
    assert_eq!(program.insns[start as usize + 1].imm, RawInsn::default().imm);
}

#[test]
fn poisoned_instructions_know_their_reason() {
    use skep_spec::resolve::poison_reason;
    let source = "#define CORE __attribute__((preserve_access_index))\n\
                  struct task { int gone; } CORE; extern int absent(int x) __ksym __weak;\n\
                  struct { __uint(type, 1); __uint(max_entries, 4); __type(key, int); __type(value, long); } m SEC(\".maps\");\n\
                  SEC(\"tp/a/b\") int use(struct task *t) { bpf_map_lookup_elem(&m, t); return absent(t->gone); }";
    let mut spec = support::open("clang-19", "bpfel", source);
    spec.maps[0].autocreate = false;
    let resolved = resolve(&spec, &Machine::new("struct task { int pid; } a;", ""));
    let program = resolved.programs[0].1.as_ref().unwrap();
    let reasons: Vec<String> = (0..)
        .zip(&program.insns)
        .filter(|(_, insn)| insn.imm > 1000)
        .filter_map(|(at, insn)| poison_reason(&spec, &program.explanations, at, insn.imm))
        .collect();
    assert_eq!(
        reasons,
        [
            "map `m` is switched off",
            "map `m` is switched off",
            "this kernel has no struct task.gone (0:0): vmlinux [5] struct task: struct task has no member `gone`",
            "this kernel has no function `absent`",
        ]
    );
    assert_eq!(poison_reason(&spec, &program.explanations, 0, 5), None);
    assert_eq!(poison_reason(&spec, &program.explanations, 0, i32::MIN), None);
}

//! Programs: what the kernel tells about them, and life apart from their object.

use std::io::Read as _;

use skep::btf::{Btf, Builder, FuncLinkage, IntEncoding, TypeDef};
use skep::insn::Endian;
use skep::insn::text::{Printer, Spelling};
use skep::spec::function::LineInfo;
use skep::spec::{MapType, ProgType};
use skep::{Map, Program, TestRun};
use skep_insn::InsnIdx;

use super::{PACKET, Pins, Recipe, may_load, verdict};

/// A program with types: `int typed(struct __sk_buff *ctx)` of two lines.
fn typed() -> Recipe {
    let mut recipe =
        Recipe::new().map("counts", MapType::ARRAY, 4, 4, 1).program("typed", "tc", "r1 = map[id:0]\nr0 = 5\nexit");
    let mut builder = Builder::new();
    let int = builder.add(TypeDef::Int { name: "int", size: 4, bits: 32, encoding: IntEncoding::SIGNED }).unwrap();
    let ctx = builder.add(TypeDef::Fwd { name: "__sk_buff", is_union: false }).unwrap();
    let ctx = builder.add(TypeDef::Ptr(ctx)).unwrap();
    let proto = builder.add(TypeDef::FuncProto { result: int, params: &[("ctx", ctx)] }).unwrap();
    let func = builder.add(TypeDef::Func { name: "typed", proto, linkage: FuncLinkage::GLOBAL }).unwrap();
    let file_name_off = builder.string("typed.bpf.c").unwrap();
    let mut line = |insn, line: u32, text: &str| LineInfo {
        insn: InsnIdx(insn),
        file_name_off,
        line_off: builder.string(text).unwrap(),
        line_col: line << 10 | 5,
    };
    recipe.0.functions[0].lines = vec![line(0, 3, "    use(&counts);"), line(2, 4, "    return 5;")];
    recipe.0.functions[0].btf_func = Some(func);
    recipe.0.btf = Some(Btf::parse(builder.finish(Endian::NATIVE).unwrap()).unwrap());
    recipe
}

#[test]
fn the_kernel_tells_what_a_program_is() {
    if !may_load() {
        return;
    }
    let before = skep_sys::bpf::ProgInfo::of(
        Recipe::new().program("first", "tc", "r0 = 0\nexit").load().program("first").unwrap().fd().unwrap(),
    )
    .unwrap();
    let loaded = typed().load();
    let program = loaded.program("typed").unwrap();
    let info = program.info().unwrap();
    assert_eq!((info.name.as_str(), info.prog_type, info.gpl_compatible), ("typed", ProgType::SCHED_CLS, true));
    assert_eq!(info.map_ids, [loaded.map("counts").unwrap().facts().id]);
    assert!(info.id > before.id.0 && info.loaded_at.as_nanos() > before.load_time_ns.into(), "{info:?}");
    assert_eq!(
        (info.uid, info.attach_btf, info.ifindex),
        (skep_sys::bpf::ProgInfo::of(program.fd().unwrap()).unwrap().created_by_uid, None, 0)
    );
    assert_ne!(info.tag, [0; 8]);
    assert!(info.btf_id.is_some());
    assert!(info.code_bytes >= 8 * 4 && info.stats.verified_insns >= 3, "{info:?}");
}

#[test]
fn the_kernel_shows_a_programs_code_with_its_lines() {
    if !may_load() {
        return;
    }
    let loaded = typed().load();
    let code = loaded.program("typed").unwrap().code().unwrap();
    let listing = Printer::new(Spelling::Kernel).listing(&code.instructions);
    assert!(listing.contains("exit") && listing.contains("r0 = 5"), "{listing}");
    let function = &code.functions[0];
    assert_eq!((function.name.as_str(), function.insn), ("typed", InsnIdx(0)));
    let info = loaded.program("typed").unwrap().info().unwrap();
    assert_eq!(code.machine_code.len(), info.machine_code_bytes as usize);
    if info.machine_code_bytes > 0 {
        assert!(function.machine_code_bytes > 0 && function.machine_code_bytes <= info.machine_code_bytes);
        assert!(function.address != 0 && code.lines[0].address.is_some_and(|at| at >= function.address));
    }
    let lines: Vec<_> =
        code.lines.iter().map(|line| (line.insn.0, line.file.as_str(), line.line, line.column)).collect();
    assert_eq!(lines, [(0, "typed.bpf.c", 3, 5), (2, "typed.bpf.c", 4, 5)]);
    assert_eq!(code.lines[1].text, "return 5;");
}

#[test]
fn a_program_holds_a_map_that_no_instruction_names() {
    if !may_load() {
        return;
    }
    let holder = Recipe::new().program("holder", "tc", "r0 = 0\nexit").load();
    let program = holder.program("holder").unwrap();
    let other = Recipe::new().map("extra", MapType::ARRAY, 4, 4, 1).load();
    let map = other.map("extra").unwrap();
    map.set(&0u32, &8u32).unwrap();
    let id = map.facts().id;
    program.bind_map(&map).unwrap();
    program.bind_map(&map).unwrap();
    drop(other);
    assert_eq!(program.info().unwrap().map_ids, [id]);
    assert_eq!(Map::from_id(id).unwrap().get::<u32, u32>(&0).unwrap(), Some(8));
}

#[test]
fn a_program_is_kept_without_its_object() {
    if !may_load() {
        return;
    }
    let pins = Pins::new();
    let loaded = Recipe::new().program("a_name_longer_than_the_kernels", "tc", "r0 = 6\nexit").load();
    let program = loaded.program("a_name_longer_than_the_kernels").unwrap().to_owned().unwrap();
    drop(loaded);
    let program = std::thread::spawn(move || {
        assert_eq!(verdict(&program), 6);
        program
    })
    .join()
    .unwrap();
    assert_eq!(program.name(), "a_name_longer_than_the_kernels");
    let again = Program::from_fd(program.fd().unwrap().try_clone_to_owned().unwrap()).unwrap();
    assert_eq!((again.name(), verdict(&again)), ("a_name_longer_t", 6));
    again.pin(pins.path("six")).unwrap();
    assert_eq!(verdict(&Program::from_pinned_as(pins.path("six"), ProgType::SCHED_CLS).unwrap()), 6);
    let error = Program::from_pinned_as(pins.path("six"), ProgType::XDP).unwrap_err().to_string();
    assert!(error.ends_with("is of type sched_cls and not xdp"), "{error}");
    assert!(Program::from_fd(std::fs::File::open("/proc/self/status").unwrap().into()).is_err());
}

#[test]
fn a_raw_tracepoint_runs_on_the_cpu_that_one_names() {
    if !may_load() {
        return;
    }
    let code = "call bpf_get_smp_processor_id#8\nexit";
    let loaded = Recipe::new().program("where", "raw_tp/mark_victim", code).program("packet", "tc", code).load();
    let program = loaded.program("where").unwrap();
    for cpu in skep_sys::cpu::online().unwrap() {
        let input = TestRun { cpu: Some(cpu.0), ..TestRun::default() };
        assert_eq!(program.test_run(&input).unwrap().retval, cpu.0);
    }
    let error = program.test_run(&TestRun { cpu: Some(1 << 20), ..TestRun::default() }).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("not there")), "{error}");
    let input = TestRun { data: &PACKET, cpu: Some(0), ..TestRun::default() };
    let error = loaded.program("packet").unwrap().test_run(&input).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("raw tracepoints")), "{error}");
}

#[test]
fn types_are_found_by_their_id() {
    if !may_load() {
        return;
    }
    let loaded = typed().load();
    let id = loaded.program("typed").unwrap().info().unwrap().btf_id.unwrap();
    let types = skep::types_by_id(id).unwrap();
    assert!(!types.find_by_name("typed").is_empty());
    assert_eq!(
        skep::types_by_id(u32::MAX).unwrap_err().to_string(),
        format!("there are no types with id {}", u32::MAX)
    );
    let Some(kernel) = skep::kernel_types().unwrap() else {
        println!("skipped: needs kernel BTF");
        return;
    };
    assert!(!kernel.find_by_name("task_struct").is_empty());
    // Parsed once, shared by all.
    assert!(kernel.same(&skep::kernel_types().unwrap().unwrap()));
    assert!(skep::module_types("no_such_module").unwrap().is_none());
}

#[test]
fn an_iterator_is_read() {
    if !may_load() {
        return;
    }
    // struct bpf_iter__bpf_map: the meta data, whose first member is the file that is read.
    let code = "*(u64 *)(r10 -8) = 0x0a216968\nr1 = *(u64 *)(r1 +0)\nr1 = *(u64 *)(r1 +0)\nr2 = r10\nr2 += -8\n\
                r3 = 4\ncall bpf_seq_write#127\nr0 = 0\nexit";
    let loaded = Recipe::new().map("walked", MapType::ARRAY, 4, 4, 1).program("walk", "iter/bpf_map", code).load();
    let program = loaded.program("walk").unwrap();
    let mut text = String::new();
    program.iterate(&skep::AttachOptions::default()).unwrap().read_to_string(&mut text).unwrap();
    // Once for each map, and once for the end.
    assert!(text.starts_with("hi!\nhi!\n") && text.len().is_multiple_of(4), "{text}");
    let alone = program.to_owned().unwrap();
    assert!(alone.iterate(&skep::AttachOptions::default()).is_err());
}

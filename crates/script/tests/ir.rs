//! Functions of the intermediate form, as text and at random: compiled, loaded, run.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;

use skep_engine::{LoadOptions, Session as _, TestRun};
use skep_insn::text::{Printer, Spelling};
use skep_kernel::KernelEngine;
use skep_script::ir::interpret::Machine;
use skep_script::ir::{FuncRef, Module, random};
use skep_script::{Sources, codegen, ir, passes};
use skep_spec::map::{MapContents, MapOrigin};
use skep_spec::{Map, MapType, ProgId, ProgType, Program, Spec};
use skep_sys::caps::{Cap, Caps};
use skep_sys::version::KernelVersion;

/// The first kernel with version 4 of the instruction set.
const ISA_V4: KernelVersion = KernelVersion::new(6, 6, 0);

/// Whether this process may load programs. Says so if not, by the name of the capability.
fn may_load() -> bool {
    let may = Caps::effective().has(Cap::SYS_ADMIN);
    if !may {
        println!("skipped: needs CAP_SYS_ADMIN");
    }
    may
}

/// A program for packets, with map 0 holding `data`.
fn compile(module: &Module, data: &[u8], isa: u8) -> Result<Spec, codegen::Error> {
    let mut spec = Spec { license: Some("GPL".into()), ..Spec::new("ir") };
    let contents = MapContents::Data(data.to_vec());
    let array = Map::new("data", MapType::ARRAY, 4, data.len() as u32, 1);
    spec.maps.push(Map { origin: MapOrigin::Made, contents, ..array });
    let ids = codegen::generate(module, &mut spec, &Sources::default(), &codegen::Options { isa })?;
    spec.programs.push(Program::new("main", ids[0], "tc", ProgType::SCHED_CLS));
    Ok(spec)
}

fn listing(spec: &Spec) -> String {
    let printer = Printer::new(Spelling::Kernel).exact();
    let mut text = String::new();
    for function in &spec.functions {
        text.push_str(&format!("{}:\n{}", function.name, printer.listing(&function.insns)));
    }
    text
}

/// What the kernel makes of it: the value of map 0 and the result; `None` when the verifier finds it too long.
fn run_on_kernel(spec: Spec) -> Option<Result<(Vec<u8>, u32), String>> {
    let session = match KernelEngine::new().load(spec, &LoadOptions::default()) {
        Ok(session) => session,
        Err(error) => return Some(Err(error.to_string())),
    };
    if let Err(error) = &session.programs()[0].result {
        let log = error.log().unwrap_or_default();
        if log.contains("is too large. Processed") || log.contains("too complex") {
            return None;
        }
        return Some(Err(format!("{error}\n{log}")));
    }
    let out = session.test_run(ProgId(0), &TestRun { data: &[0; 64], ..TestRun::default() }).unwrap();
    let value = session.map(skep_spec::MapId(0)).unwrap().lookup(&0u32.to_ne_bytes()).unwrap().unwrap();
    Some(Ok((value, out.retval)))
}

fn input(seed: u64) -> Vec<u8> {
    let mut random = random::Random::new(seed ^ 0x5eed);
    let mut data = vec![0; random::MAP_BYTES];
    for word in data[..random::INPUT_BYTES as usize].chunks_exact_mut(8) {
        word.copy_from_slice(&random.interesting().to_le_bytes());
    }
    data
}

/// Runs the program of a seed everywhere. Whether the kernel ran it.
fn check_seed(seed: u64) -> bool {
    let module = random::module(seed);
    ir::verify(&module).unwrap_or_else(|errors| panic!("seed {seed}: {errors:#?}\n{module}"));
    let data = input(seed);
    let interpret = |module: &Module| {
        let mut machine = Machine::new(vec![data.clone()]);
        let result = machine.run(module, FuncRef(0), &[0]);
        let result = result.unwrap_or_else(|error| panic!("seed {seed}: {error}\n{module}"));
        (machine.maps.remove(0), result as u32)
    };
    let expected = interpret(&module);
    let mut better = module.clone();
    passes::run(&mut better);
    ir::verify(&better).unwrap_or_else(|errors| panic!("seed {seed}: {errors:#?}\n{module}\n{better}"));
    assert_eq!(interpret(&better), expected, "seed {seed}: the passes\n{module}\n{better}");
    let mut ran = false;
    let newest = if KernelVersion::running() < ISA_V4 { 3 } else { 4 };
    for (module, isa) in [(&module, 3), (&better, if seed.is_multiple_of(2) { 3 } else { newest })] {
        let spec = match compile(module, &data, isa) {
            Ok(spec) => spec,
            Err(error) if error.message.contains("bytes of stack") => continue,
            Err(error) => panic!("seed {seed}: {error}\n{module}"),
        };
        let text = listing(&spec);
        match run_on_kernel(spec) {
            None => {}
            Some(Err(error)) => panic!("seed {seed}: {error}\n{module}\n{text}"),
            Some(Ok(found)) => {
                assert_eq!(found, expected, "seed {seed}: the kernel\n{module}\n{text}");
                ran = true;
            }
        }
    }
    ran
}

#[test]
fn random_programs_do_on_the_kernel_what_the_interpreter_does() {
    if !may_load() {
        return;
    }
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default);
    let (first, count) = (number("SKEP_IR_SEED", 0), number("SKEP_IR_COUNT", 200));
    let ran = (first..first + count).filter(|seed| check_seed(*seed)).count() as u64;
    assert!(ran * 10 >= count * 9, "only {ran} of {count} are short enough for the verifier");
}

/// The text of a case, judged by the name of its file: `verify` shows the errors, `code` what the generator makes of it without the
/// passes, everything else the module behind the passes and its code. A comment `; run: (1, -2) -> 3` runs it with these words
/// at the start of map 0, in the interpreter before and behind the passes, and on the kernel if it is there.
fn case(file: &str, input: &str) -> String {
    let module = match ir::text::parse(input) {
        Ok(module) => module,
        Err(error) => return error.to_string(),
    };
    if let Err(errors) = ir::verify(&module) {
        return errors.iter().map(|error| format!("{error}\n")).collect();
    }
    let again = ir::text::parse(&module.to_string()).unwrap_or_else(|error| panic!("{error}\n{module}"));
    assert_eq!(again.to_string(), module.to_string(), "what is written can be read");
    let mut better = module.clone();
    let mut shown = String::new();
    if file != "code" {
        passes::run(&mut better);
        ir::verify(&better).unwrap_or_else(|errors| panic!("{errors:#?}\n{better}"));
        shown = format!("{better}\n");
    }
    for line in input.lines().filter_map(|line| line.strip_prefix("; run: ")) {
        let (args, expected) = line.split_once(" -> ").unwrap();
        let args = args.trim_matches(['(', ')']).split(", ").filter(|arg| !arg.is_empty());
        let mut data = vec![0; random::MAP_BYTES];
        for (word, arg) in data.chunks_exact_mut(8).zip(args) {
            word.copy_from_slice(&arg.parse::<i64>().unwrap().to_le_bytes());
        }
        let expected = expected.parse::<i128>().unwrap() as u64;
        for module in [&module, &better] {
            let result = Machine::new(vec![data.clone()]).run(module, FuncRef(0), &[0]);
            assert_eq!(result, Ok(expected), "{line}\n{module}");
        }
        for isa in [3, 4] {
            if !Caps::effective().has(Cap::SYS_ADMIN) || isa == 4 && KernelVersion::running() < ISA_V4 {
                continue;
            }
            let spec = compile(&better, &data, isa).unwrap_or_else(|error| panic!("{error}\n{better}"));
            let text = listing(&spec);
            let (_, result) = run_on_kernel(spec).unwrap().unwrap_or_else(|error| panic!("{error}\n{better}\n{text}"));
            assert_eq!(result, expected as u32, "{line}: on the kernel\n{better}\n{text}");
        }
    }
    match compile(&better, &[0; random::MAP_BYTES], 3) {
        Ok(spec) => shown + &listing(&spec),
        Err(error) => format!("{shown}{error}\n{}", error.hint.clone().unwrap_or_default()),
    }
}

#[test]
fn cases() {
    common::check("ir", case);
}

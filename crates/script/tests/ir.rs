//! Functions of the intermediate form, as text: compiled, loaded, run.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use skep_engine::{LoadOptions, Session as _, TestRun};
use skep_kernel::KernelEngine;
use skep_script::{Sources, codegen, ir};
use skep_spec::{ProgType, Program, Spec};

#[test]
fn thin() {
    let text = "
func @main(v0) {
  slot s0: 16 align 8
b0(v0):
  v1 = const 0
  store.4 s0+0, v1
  store.8 s0+8, 41
  v2 = load.8 s0+8
  v3 = call 5()
  v4 = call 5()
  v7 = sub.64 v4, v3
  br.64 gt v7, 1000000000 -> b1(v1), b2(v2)
b1(v5):
  ret v5
b2(v6):
  v8 = add.64 v6, 1
  ret v8
}";
    let module = ir::text::parse(text).unwrap();
    let mut spec = Spec { license: Some("GPL".into()), ..Spec::new("t") };
    let ids = codegen::generate(&module, &mut spec, &Sources::default(), &codegen::Options::default()).unwrap();
    spec.programs.push(Program::new("main", ids[0], "tc", ProgType::SCHED_CLS));
    let p = skep_insn::text::Printer::new(skep_insn::text::Spelling::Kernel);
    println!("{}", p.listing(&spec.functions[0].insns));
    let s = KernelEngine::new().load(spec, &LoadOptions::default()).unwrap();
    for loaded in s.programs() {
        if let Err(error) = &loaded.result {
            panic!("{error}\n{}", error.log().unwrap_or_default());
        }
    }
    let out = s.test_run(skep_spec::ProgId(0), &TestRun { data: &[0; 64], ..TestRun::default() }).unwrap();
    assert_eq!(out.retval, 42);
}

//! The shortest way through lowering, code generation and the kernel: typed scripts put together by hand.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use skep_engine::{AttachOptions, LoadOptions, Record, Session, TestRun};
use skep_kernel::{KernelEngine, LiveTarget};
use skep_script::ast::BinaryOp;
use skep_script::plan::{Attach, Conversion, Format, Part, Plan};
use skep_script::typed::{
    Action, Body, Builtin, Context, Expr, ExprKind, FormatKind, Map, MapRef, Place, Probe, Script, Stmt, StmtKind,
};
use skep_script::types::Type;
use skep_script::{Options, Sources, Span, compile, lower};
use skep_sys::caps::{Cap, Caps};

fn may_load() -> bool {
    let may = Caps::effective().has(Cap::SYS_ADMIN);
    if !may {
        println!("skipped: needs CAP_SYS_ADMIN");
    }
    may
}

fn expr(kind: ExprKind, ty: Type) -> Expr {
    Expr { kind, ty, span: Span::default() }
}

fn int(number: i64) -> Expr {
    expr(ExprKind::Const(number), Type::I64)
}

fn stmt(kind: StmtKind) -> Stmt {
    Stmt { kind, span: Span::default() }
}

fn probe(name: &str, section: &str, attach: Attach, context: Context, stmts: Vec<Stmt>) -> Probe {
    Probe {
        index: 0,
        section: section.to_owned(),
        places: vec![Place { name: name.to_owned(), func: None, attach }],
        context,
        body: Body { vars: Vec::new(), stmts },
        span: Span::default(),
    }
}

fn load(script: &Script) -> (Box<dyn Session>, Plan) {
    let target = LiveTarget::shared();
    let lowered = lower::lower(script, &target, &Options::default());
    let (spec, plan) = compile::assemble(lowered, &Sources::default(), &target).expect("code");
    let session = KernelEngine::new().load(spec, &LoadOptions::default()).expect("a session");
    for loaded in session.programs() {
        if let Err(error) = &loaded.result {
            panic!("{error}\n{}", error.log().unwrap_or_default());
        }
    }
    (Box::new(session), plan)
}

#[test]
fn begin_prints_and_exits() {
    if !may_load() {
        return;
    }
    let sum = expr(ExprKind::Binary(BinaryOp::Add, Box::new(int(1)), Box::new(int(2))), Type::I64);
    let conversion = Conversion { size: 4, letter: 'd', ..Conversion::default() };
    let format =
        Format { parts: vec![Part::Text(b"hi ".to_vec()), Part::Conversion(conversion), Part::Text(b"\n".to_vec())] };
    let format = Action::Format { kind: FormatKind::Printf, format: Arc::new(format), args: vec![sum] };
    let stmts = vec![stmt(StmtKind::Action(format)), stmt(StmtKind::Action(Action::Exit(int(0))))];
    let script = Script {
        probes: vec![probe("begin", "raw_tracepoint", Attach::Begin, Context::None, stmts)],
        ..Script::default()
    };
    let (session, plan) = load(&script);
    let events = plan.events.expect("it sends records");
    let mut source = session.records(&[events], false).unwrap();
    session.test_run(plan.programs[0].program, &TestRun::default()).unwrap();
    let mut records = Vec::new();
    source
        .poll(Some(Duration::from_millis(100)), &mut |record| {
            if let Record::Event { data, .. } = record {
                records.push(data.to_vec());
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    let word = |record: &[u8], at: usize| i64::from_ne_bytes(record[at..at + 8].try_into().unwrap());
    assert_eq!(records.len(), 2);
    assert_eq!((word(&records[0], 0), word(&records[0], 8)), (0, 3));
    assert_eq!((word(&records[1], 0), word(&records[1], 8)), (1, 0));
}

#[test]
fn a_tracepoint_counts_by_name() {
    if !may_load() {
        return;
    }
    let comm = expr(ExprKind::Builtin(Builtin::Comm), Type::String { size: 16 });
    let count = StmtKind::Aggregate { map: MapRef(0), key: Some(comm), value: None, time: None };
    let attach = Attach::Section { target: None, binary: None, off_bytes: None };
    let script = Script {
        probes: vec![probe(
            "tracepoint:raw_syscalls:sys_enter",
            "tracepoint/raw_syscalls/sys_enter",
            attach,
            Context::Tracepoint,
            vec![stmt(count)],
        )],
        maps: vec![Map {
            name: String::new(),
            key: Some(Type::String { size: 16 }),
            value: Type::Count,
            decl: None,
            printed_and_cleared: false,
            zeroed: false,
            span: Span::default(),
        }],
        ..Script::default()
    };
    let (session, plan) = load(&script);
    let link = session.attach(plan.programs[0].program, &AttachOptions::default()).unwrap();
    let own = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
    for _ in 0..100 {
        std::fs::metadata("/proc/self").unwrap();
    }
    drop(link);
    let entries = session.map(plan.maps[0].map).unwrap().entries().unwrap();
    let mine = entries.iter().find(|(key, _)| key.starts_with(own.trim().as_bytes())).expect("it counted us");
    let count: u64 = mine.1.as_chunks::<8>().0.iter().map(|cpu| u64::from_ne_bytes(*cpu)).sum();
    assert!(count >= 100, "{count}");
}

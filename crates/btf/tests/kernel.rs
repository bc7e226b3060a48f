//! The running kernel's BTF, as a file of real size.

use std::time::Instant;

use skep_btf::{Btf, Kind, NeededNames, Type};

mod common;

use common::kernel;

#[test]
fn the_kernels_types_are_found_by_scan_and_by_index() {
    let Some(btf) = kernel() else { return };
    btf.validate().unwrap();
    let task = btf.find("task_struct", Kind::STRUCT).unwrap();
    let Type::Struct(body) = btf.type_by_id(task).unwrap() else {
        panic!("not a struct");
    };
    assert_eq!(body.name(), "task_struct");
    assert!(body.members().any(|it| it.name() == "pid"));
    assert_eq!(btf.pointer_size(), size_of::<usize>() as u64);

    let names = ["task_struct", "pid_t", "no_such_type_anywhere", "file", "__u64"];
    let needed: NeededNames = names.iter().collect();
    let scanned = btf.find_all(&needed);
    btf.index();
    let indexed = btf.find_all(&needed);
    assert_eq!(scanned, indexed);
    assert!(scanned[0].contains(&task));
    assert!(scanned[2].is_empty());
    for (name, ids) in names.iter().zip(&scanned) {
        let by_walk: Vec<_> = btf.types().filter(|(_, it)| it.name() == *name).map(|(id, _)| id).collect();
        assert_eq!(&by_walk, ids, "{name}");
    }
}

/// Not an assertion about this machine's speed, but the number that the design rests on: `cargo test --release -- --nocapture`.
#[test]
fn scanning_takes_about_a_millisecond() {
    let Some(btf) = kernel() else { return };
    let data = btf.as_bytes().to_vec();
    let needed: NeededNames =
        ["task_struct", "file", "sock", "trace_event_raw_sys_enter", "pid", "nsproxy"].iter().collect();
    let mut best = std::time::Duration::MAX;
    let mut best_parse = std::time::Duration::MAX;
    for _ in 0..100 {
        let data = data.clone();
        let start = Instant::now();
        let btf = Btf::parse(data).unwrap();
        best_parse = best_parse.min(start.elapsed());
        assert_eq!(btf.find_all(&needed).len(), 6);
        best = best.min(start.elapsed());
    }
    println!("parse {best_parse:?}, parse and scan {best:?}");
    assert!(best.as_millis() < 200);
}

//! The running kernel's BTF, as a file of real size.

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

#[test]
fn one_pass_parses_and_finds_what_two_passes_find() {
    let Some(btf) = kernel() else { return };
    let names = ["task_struct", "file", "sock", "trace_event_raw_sys_enter", "pid", "u8", "no_such_type_anywhere"];
    for needed in [names.iter().collect(), names.iter().collect::<NeededNames>().with_flavours()] {
        let (again, found) = Btf::parse_and_find(btf.as_bytes().to_vec(), &needed).unwrap();
        assert_eq!(again.len(), btf.len());
        assert_eq!(found, btf.find_all(&needed));
        assert!(found[..6].iter().all(|ids| !ids.is_empty()) && found[6].is_empty());
    }
}

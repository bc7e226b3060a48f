//! Objects: edited before they are loaded, and refused with the words that matter.

use skep::spec::MapType;
use skep::{LoadOptions, Object, VerifierLog};
use skep_kernel::KernelEngine;
use skep_sys::memlock;

use super::{Recipe, data, may_load, verdict};

#[test]
fn a_copy_is_edited_and_loaded_on_its_own() {
    if !may_load() {
        return;
    }
    let mut recipe = Recipe::new().map("table", MapType::HASH, 4, 4, 16).program("kept", "tc", "r0 = 1\nexit").program(
        "left_out",
        "tc",
        "r0 = 2\nexit",
    );
    recipe.0.maps.push(data());
    let original = Object::from_spec(recipe.0);
    let mut copy = original.clone();
    copy.map_mut("table").unwrap().max_entries = 64;
    copy.program_mut("left_out").unwrap().autoload = false;
    assert_eq!(copy.global::<u64>("first").unwrap(), 7);
    copy.set_global("first", &70u64).unwrap();
    assert_eq!((copy.global::<u64>("first").unwrap(), original.global::<u64>("first").unwrap()), (70, 7));
    assert_eq!(copy.global::<u32>("first").unwrap_err().to_string(), "variable `first` has 8 bytes, not 4");
    assert!(copy.global::<u64>("third").is_err());
    let (original, copy) = (original.load().unwrap(), copy.load().unwrap());
    assert_eq!(original.map("table").unwrap().facts().max_entries, 16);
    assert_eq!(copy.map("table").unwrap().facts().max_entries, 64);
    assert_eq!((original.global::<u64>("first").unwrap(), copy.global::<u64>("first").unwrap()), (7, 70));
    assert_eq!(verdict(&original.program("left_out").unwrap()), 2);
    assert!(copy.program("left_out").unwrap_err().to_string().contains("switched off"));
}

/// Reads through a number.
fn refused() -> Object {
    Object::from_spec(Recipe::new().program("bad", "tc", "r1 = 1\nr0 = *(u32 *)(r1 +0)\nexit").0)
}

#[test]
fn a_refusal_says_what_matters_and_keeps_the_whole_log() {
    if !may_load() {
        return;
    }
    let error = refused().load().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("invalid mem access") && text.contains("instruction 1"), "{text}");
    assert!(error.hint().is_some_and(|hint| hint.contains("BPF_CORE_READ")));
    let log = error.log().unwrap();
    assert!(log.contains("processed "), "{log}");
    let tail = error.log_tail(1).unwrap();
    assert!(tail.starts_with('(') && tail.lines().count() == 2, "{tail}");
    assert!(tail.ends_with(log.lines().find(|line| line.contains("invalid mem access")).unwrap()), "{tail}");
    let whole = error.log_tail(1000).unwrap();
    assert!(!whole.contains("left out") && !whole.contains("processed ") && whole.contains("r1 = 1"), "{whole}");
}

#[test]
fn how_much_the_verifier_writes_is_chosen() {
    if !may_load() {
        return;
    }
    let load = |object: Object, keep_logs, verifier_log| {
        let options = LoadOptions { keep_logs, verifier_log, ..LoadOptions::default() };
        object.load_with(&KernelEngine::new(), &options).unwrap()
    };
    let reason = |verifier_log| load(refused(), false, verifier_log).program("bad").unwrap_err();
    let silent = reason(VerifierLog { disabled: true, ..VerifierLog::default() });
    assert!(silent.log().is_none() && !silent.to_string().contains("invalid mem access"), "{silent}");
    // A buffer that is too small grows.
    let small = reason(VerifierLog { first_bytes: 1, ..VerifierLog::default() });
    assert_eq!(small.log().map(str::len), reason(VerifierLog::default()).log().map(str::len));
    let good = || Object::from_spec(Recipe::new().program("good", "tc", "r0 = 0\nr0 += 1\nr0 += 1\nexit").0);
    let log = |verifier_log| {
        let loaded = load(good(), true, verifier_log);
        loaded.session().programs()[0].log.clone().unwrap_or_default()
    };
    let statistics = log(VerifierLog { level: 4, ..VerifierLog::default() });
    assert!(statistics.contains("processed ") && !statistics.contains("r0 += 1"), "{statistics}");
    assert!(log(VerifierLog { level: 2, ..VerifierLog::default() }).contains("r0 += 1"));
    assert_eq!(log(VerifierLog { disabled: true, ..VerifierLog::default() }), "");
}

#[test]
fn the_limit_of_locked_memory_is_left_alone_where_it_means_nothing() {
    if !may_load() {
        return;
    }
    if memlock::is_counted() {
        println!("skipped: needs kernel 5.11");
        return;
    }
    let before = memlock::current();
    let loaded = Recipe::new().map("table", MapType::HASH, 4, 4, 16).program("one", "tc", "r0 = 1\nexit").load();
    assert_eq!(verdict(&loaded.program("one").unwrap()), 1);
    assert_eq!(memlock::current(), before);
}

#[test]
fn relocations_are_answered_from_a_file_of_types() {
    if !may_load() {
        return;
    }
    let objects = std::env::var_os("SKEP_TEST_OBJECTS").map(std::path::PathBuf::from).filter(|folder| folder.exists());
    let Some(objects) = objects else {
        println!("skipped: needs SKEP_TEST_OBJECTS, which `cargo xtask test` makes");
        return;
    };
    let object = Object::open(objects.join("clang19-el/core_fields.bpf.o")).unwrap();
    let reason = |loaded: Result<skep::Loaded, skep::Error>| loaded.err().map(|error| error.to_string());
    let by_kernel = reason(object.clone().load());
    assert_eq!(reason(object.clone().load_with_types("/sys/kernel/btf/vmlinux")), by_kernel);
    let file = std::env::temp_dir().join(format!("skep-no-types-{}.btf", std::process::id()));
    // Types that have none of what the object asks for.
    std::fs::write(&file, skep::btf::Builder::new().finish(skep::insn::Endian::NATIVE).unwrap()).unwrap();
    let lacking = object.clone().load_with_types(&file).unwrap_err().to_string();
    std::fs::write(&file, b"no types").unwrap();
    let damaged = object.clone().load_with_types(&file).unwrap_err().to_string();
    std::fs::remove_file(&file).unwrap();
    let absent = object.load_with_types(&file).unwrap_err().to_string();
    assert!(lacking.contains("task_struct"), "{lacking}");
    assert!(damaged.contains("holds no types"), "{damaged}");
    assert!(absent.starts_with("cannot read"), "{absent}");
}

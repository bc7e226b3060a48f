//! The library on the running kernel: what applications do with maps, programs and links, and what outlives them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod features;
mod links;
mod maps;
mod objects;
mod programs;
mod readers;
mod replace;
mod runtime;

use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::time::Duration;

use skep::spec::function::{Linkage, RefTarget, Reference};
use skep::spec::map::{BPF_F_MMAPABLE, DataKind, DataSection, MapContents, MapOrigin, Variable};
use skep::spec::section::{Place, SectionDef, SectionTable};
use skep::spec::{
    Extern, ExternId, ExternKind, FuncId, Function, Map as MapSpec, MapId, MapType, ProgType, Program as ProgramSpec,
    Spec,
};
use skep::{AttachOptions, Loaded, Map, Object, Program, Record, Statistics, TestRun};
use skep_insn::{InsnIdx, text};
use skep_sys::bpffs::Bpffs;
use skep_sys::caps::{Cap, Caps};

fn may_load() -> bool {
    let may = Caps::effective().has(Cap::SYS_ADMIN);
    if !may {
        println!("skipped: needs CAP_SYS_ADMIN");
    }
    may
}

/// An object in the making.
struct Recipe(Spec);

impl Recipe {
    fn new() -> Recipe {
        Recipe(Spec { license: Some("GPL".into()), ..Spec::new("library") })
    }

    fn map(mut self, name: &str, map_type: MapType, key: u32, value: u32, entries: u32) -> Recipe {
        self.0.maps.push(MapSpec { origin: MapOrigin::Btf, ..MapSpec::new(name, map_type, key, value, entries) });
        self
    }

    /// A program in the kernel's spelling; `map[id:N]` is map N of the object.
    fn program(mut self, name: &str, section: &str, code: &str) -> Recipe {
        let insns = text::assemble(code).unwrap_or_else(|errors| panic!("{name}: {errors:?}")).code;
        let wide = (0u32..).zip(&insns).filter(|(_, insn)| insn.code == 0x18 && insn.src_reg == 1);
        let references = wide
            .map(|(at, insn)| Reference { insn: InsnIdx(at), target: RefTarget::Map(MapId(insn.imm as u32)) })
            .collect();
        self.0.functions.push(Function { references, ..Function::new(name, section, insns) });
        let entry = FuncId(self.0.functions.len() as u32 - 1);
        let meaning = SectionTable::new().lookup(section);
        self.0.programs.push(ProgramSpec {
            attach: meaning.attach,
            attach_type: meaning.attach_type,
            ..ProgramSpec::new(name, entry, section, meaning.prog_type)
        });
        self
    }

    fn load(self) -> Loaded {
        Object::from_spec(self.0).load().unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Two variables of 8 bytes.
fn data() -> MapSpec {
    let variable = |name: &str, off_bytes| Variable {
        name: name.into(),
        off_bytes,
        size_bytes: 8,
        type_id: None,
        global: true,
        linkage: Linkage::Global,
    };
    let variables = vec![variable("first", 0), variable("second", 8)];
    MapSpec {
        flags: BPF_F_MMAPABLE,
        contents: MapContents::Data([7u64.to_ne_bytes(), 8u64.to_ne_bytes()].concat()),
        origin: MapOrigin::Data(DataSection { kind: DataKind::Data, align_bytes: 8, datasec: None, variables }),
        ..MapSpec::new(".data", MapType::ARRAY, 4, 16, 1)
    }
}

#[test]
fn globals_are_read_and_set_while_loaded() {
    if !may_load() {
        return;
    }
    let mut recipe = Recipe::new();
    recipe.0.maps.push(data());
    let loaded = recipe.load();
    assert_eq!((loaded.global::<u64>("first").unwrap(), loaded.global::<u64>("second").unwrap()), (7, 8));
    loaded.set_global("first", &70u64).unwrap();
    assert_eq!(loaded.map(".data").unwrap().get::<u32, [u64; 2]>(&0).unwrap(), Some([70, 8]));
    let wrong = loaded.global::<u32>("first").unwrap_err().to_string();
    assert_eq!(wrong, "variable `first` has 8 bytes, not 4");
    assert!(loaded.set_global("frist", &1u64).unwrap_err().hint().is_some_and(|hint| hint.contains("`first`")));
}

#[test]
fn objects_are_linked_and_sections_may_be_ones_own() {
    let mut main = Recipe::new().program("main", "my_filter/one", "r1 = 3\ncall 0\nexit");
    main.0.externs.push(Extern {
        name: "scaled".into(),
        weak: false,
        btf_id: None,
        kind: ExternKind::Function { proto: Default::default() },
    });
    main.0.functions[0].references = vec![Reference { insn: InsnIdx(1), target: RefTarget::ExternCall(ExternId(0)) }];
    let written = skep::spec::elf::write(&main.0).unwrap();
    let mut sections = SectionTable::new();
    sections.define(SectionDef {
        pattern: "my_filter+".into(),
        prog_type: ProgType::SOCKET_FILTER,
        attach_type: None,
        attach_type_required: false,
        flags: 0,
        place: Place::None,
    });
    let read = Object::from_bytes_with("main", &written, sections).unwrap();
    assert_eq!(read.spec().programs[0].prog_type, ProgType::SOCKET_FILTER);
    let mut main = main.0;
    main.programs[0].prog_type = ProgType::SOCKET_FILTER;
    let mut library = Spec::new("library");
    let insns = text::assemble("r0 = r1\nr0 *= 14\nexit").unwrap().code;
    library.functions.push(Function::new("scaled", ".text", insns));
    let (main, library) = (Object::from_spec(main), Object::from_spec(library));
    let both = Object::link("both", &[("main.o", &main), ("library.o", &library)]).unwrap();
    assert!(Object::link("twice", &[("a.o", &library), ("b.o", &library)]).unwrap_err().to_string().contains("`b.o`"));
    if !may_load() {
        return;
    }
    let alone = main.load().unwrap_err().to_string();
    assert!(alone.contains("extern `scaled`: no object defines this function"), "{alone}");
    assert_eq!(verdict(&both.load().unwrap().program("main").unwrap()), 42);
}

/// A bpffs that nobody else sees, and which ends with the test.
struct Pins(Bpffs);

impl Pins {
    fn new() -> Pins {
        Pins(Bpffs::detached().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.0.as_fd().as_raw_fd()).into()
    }
}

const PACKET: [u8; 64] = [0; 64];

fn verdict(program: &Program<'_>) -> u32 {
    program.test_run(&TestRun { data: &PACKET, ..TestRun::default() }).unwrap().retval
}

#[test]
fn many_entries_go_in_and_out_at_once() {
    if !may_load() {
        return;
    }
    let loaded = Recipe::new().map("counts", MapType::HASH, 4, 8, 64).load();
    let map = loaded.map("counts").unwrap();
    let entries: Vec<(u32, u64)> = (0..20).map(|n| (n, u64::from(n) * 10)).collect();
    map.set_many(&entries).unwrap();
    assert_eq!(map.get::<u32, u64>(&7).unwrap(), Some(70));
    // 99 was never there.
    map.remove_many(&[0u32, 1, 99, 2]).unwrap();
    assert_eq!(map.take::<u32, u64>(&3).unwrap(), Some(30));
    assert_eq!(map.take::<u32, u64>(&3).unwrap(), None);
    let mut drained = map.drain::<u32, u64>().unwrap();
    drained.sort_unstable();
    assert_eq!(drained, entries[4..]);
    assert!(map.entries::<u32, u64>().unwrap().is_empty());
    let error = map.set_many(&[(1u32, 2u32)]).unwrap_err();
    assert_eq!(error.to_string(), "map `counts`: a value has 8 bytes, not 4");
}

#[test]
fn each_cpu_has_its_own_value() {
    if !may_load() {
        return;
    }
    let loaded = Recipe::new().map("each", MapType::PERCPU_ARRAY, 4, 4, 1).load();
    let map = loaded.map("each").unwrap();
    let cpus = map.facts().values_per_key;
    let values: Vec<u32> = (0..cpus).map(|cpu| 100 + cpu).collect();
    map.set_per_cpu(&0u32, &values).unwrap();
    assert_eq!(map.get_per_cpu::<u32, u32>(&0).unwrap(), Some(values.clone()));
    let error = map.set_per_cpu(&0u32, &values[1..]).unwrap_err();
    assert_eq!(error.to_string(), format!("map `each` has {cpus} values at a key, not {}", cpus - 1));
}

#[test]
fn a_frozen_map_is_for_programs_alone() {
    if !may_load() {
        return;
    }
    let loaded = Recipe::new().map("fixed", MapType::ARRAY, 4, 4, 1).load();
    let map = loaded.map("fixed").unwrap();
    map.set(&0u32, &5u32).unwrap();
    map.freeze().unwrap();
    assert!(map.set(&0u32, &6u32).is_err());
    assert_eq!(map.get::<u32, u32>(&0).unwrap(), Some(5));
}

#[test]
fn a_map_is_found_by_its_id_and_by_its_name_in_a_bpffs() {
    if !may_load() {
        return;
    }
    let pins = Pins::new();
    let loaded = Recipe::new().map("shared", MapType::HASH, 4, 4, 8).load();
    loaded.map("shared").unwrap().set(&1u32, &2u32).unwrap();
    let by_id = Map::from_id(loaded.map("shared").unwrap().facts().id).unwrap();
    assert_eq!(by_id.get::<u32, u32>(&1).unwrap(), Some(2));
    by_id.pin(pins.path("shared")).unwrap();
    drop((loaded, by_id));
    let pinned = Map::from_pinned(pins.path("shared")).unwrap();
    assert_eq!((pinned.name().as_str(), pinned.get::<u32, u32>(&1).unwrap()), ("shared", Some(2)));
    let error = Map::from_pinned(pins.path("nothing")).unwrap_err();
    assert!(error.to_string().ends_with("no such file or directory (ENOENT)"), "{error}");
    assert!(Program::from_pinned(pins.path("shared")).unwrap_err().to_string().ends_with("is not a program"));
    assert_eq!(Map::from_id(u32::MAX).unwrap_err().to_string(), format!("there is no map with id {}", u32::MAX));
}

#[test]
fn a_pinned_ring_buffer_is_read_by_another_holder() {
    if !may_load() {
        return;
    }
    let pins = Pins::new();
    let code = "*(u64 *)(r10 -8) = 77\nr1 = map[id:0]\nr2 = r10\nr2 += -8\nr3 = 8\nr4 = 0\n\
                call bpf_ringbuf_output#130\nr0 = 0\nexit";
    let loaded = Recipe::new().map("ring", MapType::RINGBUF, 0, 0, 4096).program("send", "tc", code).load();
    loaded.map("ring").unwrap().pin(pins.path("ring")).unwrap();
    loaded.program("send").unwrap().pin(pins.path("send")).unwrap();
    drop(loaded);
    let mut events = Map::from_pinned(pins.path("ring")).unwrap().events().unwrap();
    assert_eq!(verdict(&Program::from_pinned(pins.path("send")).unwrap()), 0);
    let mut seen = Vec::new();
    let sink = |record: Record<'_>| {
        let Record::Event { data, .. } = record else { panic!("{record:?}") };
        seen.push(data[0]);
        ControlFlow::Continue(())
    };
    assert_eq!(events.poll(Some(Duration::from_secs(5)), sink).unwrap(), 1);
    assert_eq!(seen, [77]);
}

#[test]
fn a_pinned_program_goes_where_a_section_says() {
    if !may_load() {
        return;
    }
    let pins = Pins::new();
    let loaded = Recipe::new().program("on_free", "raw_tp/mark_victim", "r0 = 0\nexit").load();
    loaded.program("on_free").unwrap().pin(pins.path("on_free")).unwrap();
    drop(loaded);
    let program = Program::from_pinned(pins.path("on_free")).unwrap();
    assert_eq!(program.name(), "on_free");
    assert!(program.attach().unwrap_err().hint().is_some_and(|hint| hint.contains("attach_as")));
    let link = program.attach_as("raw_tp/mark_victim", &AttachOptions::default()).unwrap();
    assert_eq!(link.describe(), "raw tracepoint mark_victim");
    let error = program.attach_as("xdp", &AttachOptions::default()).unwrap_err();
    assert!(error.to_string().contains("which section `xdp` is not for"), "{error}");
}

#[test]
fn a_pinned_link_outlives_its_holder_until_it_is_detached() {
    if !may_load() {
        return;
    }
    let pins = Pins::new();
    let loaded = Recipe::new().program("walk", "iter/bpf_map", "r0 = 0\nexit").load();
    let mut link = match loaded.program("walk").unwrap().attach() {
        Ok(link) => link,
        Err(error) => panic!("{error}"),
    };
    link.pin(&pins.path("walk")).unwrap();
    drop((link, loaded));
    let mut link = skep::link_from_pinned(pins.path("walk")).unwrap();
    assert!(link.describe().starts_with("iter link "), "{}", link.describe());
    link.unpin().unwrap();
    // Twice is no error.
    link.unpin().unwrap();
    assert!(skep::link_from_pinned(pins.path("walk")).is_err());
    link.pin(&pins.path("again")).unwrap();
    link.detach().unwrap();
    assert!(!pins.path("again").exists());
}

#[test]
fn one_program_takes_the_place_of_another() {
    if !may_load() {
        return;
    }
    let loaded = Recipe::new()
        .program("first", "iter/bpf_map", "r0 = 0\nexit")
        .program("second", "iter/bpf_map", "r0 = 0\nexit")
        .program("other", "raw_tp/mark_victim", "r0 = 0\nexit")
        .load();
    let link = loaded.program("first").unwrap().attach().unwrap();
    loaded.program("second").unwrap().replace_at(&*link).unwrap();
    // A raw tracepoint cannot be updated.
    let fixed = loaded.program("other").unwrap().attach().unwrap();
    let error = loaded.program("other").unwrap().replace_at(&*fixed).unwrap_err();
    assert!(error.to_string().starts_with("cannot replace the program at raw tracepoint mark_victim: "), "{error}");
}

#[test]
fn runs_are_counted_while_statistics_are_on() {
    if !may_load() {
        return;
    }
    let loaded = Recipe::new().program("two", "tc", "r0 = 2\nexit").load();
    let program = loaded.program("two").unwrap();
    let _counting = match Statistics::enable() {
        Ok(counting) => counting,
        Err(error) => {
            println!("skipped: needs the statistics of programs ({error})");
            return;
        }
    };
    assert_eq!(verdict(&program), 2);
    let stats = program.stats().unwrap();
    // Test runs are not counted by every kernel; what the verifier saw is told by all since 5.16.
    assert!(stats.verified_insns == 0 || stats.verified_insns >= 2, "{stats:?}");
    assert!(stats.runs <= 1, "{stats:?}");
    let by_id = Program::from_id(skep_sys::bpf::ProgInfo::of(program.fd().unwrap()).unwrap().id.0).unwrap();
    assert_eq!(by_id.name(), "two");
    assert_eq!(verdict(&by_id), 2);
}

#[test]
fn programs_and_maps_of_other_objects_fill_slots() {
    if !may_load() {
        return;
    }
    let target = Recipe::new().program("seven", "tc", "r0 = 7\nexit").load();
    let code = "r2 = map[id:0]\nr3 = 0\ncall bpf_tail_call#12\nr0 = 1\nexit";
    let caller = Recipe::new().map("jump", MapType::PROG_ARRAY, 4, 4, 1).program("jumps", "tc", code).load();
    assert_eq!(verdict(&caller.program("jumps").unwrap()), 1);
    caller.map("jump").unwrap().set_program(0, &target.program("seven").unwrap()).unwrap();
    assert_eq!(verdict(&caller.program("jumps").unwrap()), 7);
}

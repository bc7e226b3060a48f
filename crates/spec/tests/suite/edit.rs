//! Changing what an object holds before it is loaded.

use crate::support;
use skep_btf::{Btf, Kind, Type};
use skep_spec::map::MapContents;
use skep_spec::{MapId, Spec};

const SOURCE: &str = r#"
enum level { LOW, MIDDLE = 5, HIGH = 9 };
const volatile u32 pid = 7;
const volatile int offset;
const volatile bool verbose;
const volatile enum level level = LOW;
const volatile char comm[8] = "init";
const volatile u16 ports[4];
const int folded = 39228;
u64 total;
static volatile int twice;
u32 table[16] SEC(".bss.table");

SEC("xdp")
int one(void *ctx)
{
	total += pid + offset + verbose + level + comm[0] + ports[2] + folded + twice;
	return table[pid & 15];
}

SEC("xdp")
int two(void *ctx)
{
	return 2;
}
"#;

fn spec(target: &str) -> Spec {
    support::open("clang-19", target, SOURCE)
}

fn message(result: Result<(), skep_spec::Error>) -> String {
    let err = result.unwrap_err();
    format!("{err}; {}", err.hint.clone().unwrap_or_default())
}

#[test]
fn globals_are_set_from_text_by_their_type() {
    for (target, big) in [("bpfel", false), ("bpfeb", true)] {
        let mut spec = spec(target);
        let cases: [(&str, &str, &[u8]); 8] = [
            ("pid", "0x102", &[0, 0, 1, 2]),
            ("offset", "-2", &[255, 255, 255, 254]),
            ("verbose", "true", &[1]),
            ("level", "HIGH", &[0, 0, 0, 9]),
            ("level", "5", &[0, 0, 0, 5]),
            ("comm", "bash", b"bash\0\0\0\0"),
            ("total", "1", &[0, 0, 0, 0, 0, 0, 0, 1]),
            ("twice", "3", &[0, 0, 0, 3]),
        ];
        for (name, text, value) in cases {
            spec.set_variable_text(name, text).unwrap();
            let mut value = value.to_vec();
            if !big && name != "comm" {
                value.reverse();
            }
            assert_eq!(spec.variable_value(name).unwrap(), value, "{target} {name}");
        }
        spec.set_variable_text("ports", "80, 443").unwrap();
        let expected: &[u8] = if big { &[0, 80, 1, 187, 0, 0, 0, 0] } else { &[80, 0, 187, 1, 0, 0, 0, 0] };
        assert_eq!(spec.variable_value("ports").unwrap(), expected);
    }
}

#[test]
fn a_value_that_does_not_fit_says_what_would() {
    let mut spec = spec("bpfel");
    let cases = [
        ("pid", "-1", "`pid`: -1 does not fit; it must be between 0 and 4294967295; "),
        ("pid", "abc", "`pid`: `abc` is no number; "),
        ("verbose", "maybe", "`verbose`: `maybe` is neither true nor false; "),
        ("level", "SOME", "`level`: `SOME` is none of LOW, MIDDLE, HIGH; "),
        ("comm", "12345678", "`comm`: `12345678` has 8 bytes, and the array has room for 7; "),
        ("ports", "1,2,3,4,5", "`ports`: 5 values are given, but the array has 4; "),
        ("pdi", "1", "`pdi`: the object has no global variable of this name; did you mean `pid`?"),
        (
            "folded",
            "1",
            "`folded`: the compiler has put the value of this `const` into the code; make it `const volatile` to set it \
             with --folded",
        ),
    ];
    for (name, text, expected) in cases {
        assert_eq!(message(spec.set_variable_text(name, text)), expected);
    }
    assert_eq!(message(spec.set_variable("pid", &[1])), "`pid`: the variable has 4 bytes, the value 1; ");
}

#[test]
fn settings_are_the_volatile_constants() {
    let spec = spec("bpfel");
    let mut names: Vec<&str> = spec.settings().map(|(_, variable)| &*variable.name).collect();
    names.sort_unstable();
    assert_eq!(names, ["comm", "level", "offset", "pid", "ports", "verbose"]);
}

#[test]
fn a_zero_section_gets_bytes_only_when_it_must() {
    let mut spec = spec("bpfel");
    let bss = spec.find_map(".bss").unwrap();
    spec.set_variable_text("total", "0").unwrap();
    assert_eq!(spec.map(bss).contents, MapContents::Empty);
    spec.set_variable_text("total", "1").unwrap();
    let value = spec.map(bss).initial_value().unwrap();
    assert_eq!(value.len(), spec.map(bss).value_size as usize);
    assert!(value.contains(&1));
}

#[test]
fn a_section_that_ends_in_an_array_can_be_resized() {
    let mut spec = spec("bpfel");
    let table = spec.find_map(".bss.table").unwrap();
    spec.resize_data(table, 4096).unwrap();
    assert_eq!(spec.variable("table").unwrap().1.size_bytes, 4096);
    let btf = Btf::parse(spec.btf_for_load().unwrap()).unwrap();
    let Type::Datasec(datasec) = btf.type_by_id(btf.find(".bss.table", Kind::DATASEC).unwrap()).unwrap() else {
        panic!("no data section")
    };
    assert_eq!((datasec.size(), datasec.vars().next().unwrap().size), (4096, 4096));

    assert_eq!(
        message(spec.resize_data(table, 5)),
        "section `.bss.table` (`table`): 5 bytes leave 5 for the last variable, whose elements have 4; "
    );
    let bss = spec.find_map(".bss").unwrap();
    let err = message(spec.resize_data(bss, 64));
    assert!(err.contains("is no array, so the section cannot be resized"), "{err}");
}

#[test]
fn programs_are_chosen_by_name() {
    let mut spec = spec("bpfel");
    spec.only(&["two"]).unwrap();
    assert_eq!(spec.programs.iter().map(|it| it.autoload).collect::<Vec<_>>(), [false, true]);
    assert_eq!(
        message(spec.only(&["one", "tow"])),
        "`tow`: the object has no program of this name; did you mean `two`?"
    );
    assert_eq!(spec.programs.iter().map(|it| it.autoload).collect::<Vec<_>>(), [false, true]);
    spec.rename_program(skep_spec::ProgId(1), "second");
    assert_eq!(spec.function(spec.program(skep_spec::ProgId(1)).entry).name, "second");
}

#[test]
fn changing_a_size_drops_a_type_of_another_size() {
    let mut spec = spec("bpfel");
    let map = &mut spec.maps[MapId(0).0 as usize];
    let (size, value_type) = (map.value_size, map.value_type);
    map.set_value_size(size);
    assert_eq!(map.value_type, value_type);
    map.set_value_size(size + 4);
    assert_eq!((map.value_size, map.value_type), (size + 4, None));
}

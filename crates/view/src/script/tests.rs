//! Values, formats and maps of every type, as a script's user sees them.

use std::sync::Arc;

use skep_script::Plan;
use skep_script::Type;
use skep_script::plan::{Conversion, Format, Map, Part, Value};
use skep_script::typed::{Bits, Field, Struct};
use skep_script::types::{Clock, Enum, Stack, StackMode, StructRef, Tseries, TseriesAgg, Word};
use skep_spec::MapId;

use super::{Entry, Names, ScriptView, Total};

/// A machine where everything has a predictable name.
struct Fixture;

impl Names for Fixture {
    fn ksym(&self, address: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("k{address}").as_bytes());
    }
    fn usym(&self, pid: u32, address: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("u{pid}.{address}").as_bytes());
    }
    fn frames(&self, _: &Stack, id: u64, _: u32, _: u32) -> Vec<Vec<u8>> {
        (0..id).map(|n| format!("f{n}+1").into_bytes()).collect()
    }
    fn word(&self, _: Word, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("word{number}").as_bytes());
    }
    fn cgroup_path(&self, id: u64, filter: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{filter}:/{id}").as_bytes());
    }
    fn time(&self, format: &str, _: Clock, ns: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{format}@{ns}").as_bytes());
    }
}

fn int(size: u8, signed: bool) -> Type {
    Type::Int { size, signed }
}

fn plan() -> Plan {
    let field = |name: &str, off, ty, bits| Field { name: name.into(), off, ty, bits };
    let mut plan = Plan {
        structs: vec![Struct {
            name: "struct s".into(),
            union: false,
            size: 12,
            fields: vec![
                field("m", 0, int(4, true), None),
                field("low", 4, int(4, false), Some(Bits { shift: 0, width: 3 })),
                field("neg", 4, int(4, true), Some(Bits { shift: 3, width: 2 })),
                field("p", 8, Type::String { size: 4 }, None),
            ],
        }],
        time_formats: vec!["%H".into()],
        cgroup_filters: vec!["*".into()],
        ..Plan::default()
    };
    plan.config.max_strlen = 8;
    plan
}

fn text(ty: &Type, bytes: &[u8]) -> String {
    let (plan, mut out) = (plan(), Vec::new());
    ScriptView::new(&plan, &Fixture).text(ty, bytes, &mut out);
    String::from_utf8(out).unwrap()
}

fn json(ty: &Type, bytes: &[u8]) -> String {
    let (plan, mut out) = (plan(), Vec::new());
    ScriptView::new(&plan, &Fixture).json(ty, bytes, &mut out);
    String::from_utf8(out).unwrap()
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[test]
fn every_type_has_a_text_and_a_json() {
    let structure = Type::Struct(StructRef { id: 0, name: "struct s".into(), size: 12, align: 4 });
    let stack = Type::Stack(Stack { user: false, tables: false, mode: StackMode::Bpftrace, limit: 9 });
    let names = Enum { name: "e".into(), size: 4, signed: true, names: vec![(1, "ONE".into()), (-1, "MINUS".into())] };
    let tuple = Type::Tuple([int(1, true), Type::String { size: 4 }, Type::Tuple([int(4, true)].into())].into());
    let record = Type::Record([("a".to_owned(), int(2, false)), ("b".to_owned(), Type::Bool)].into());
    let mut inet = vec![2, 0, 0, 0, 127, 0, 0, 1];
    let bytes_of_struct = [5u8, 0, 0, 0, 0b11101, 0, 0, 0, b'x', 0, 0, 0];
    let cases: Vec<(Type, Vec<u8>, &str, &str)> = vec![
        (int(1, true), vec![255], "-1", "-1"),
        (int(8, false), vec![255; 8], "18446744073709551615", "\"18446744073709551615\""),
        (Type::Bool, vec![1], "true", "true"),
        (Type::Float { size: 4 }, 0.1f32.to_ne_bytes().to_vec(), "0.1", "0.1"),
        (Type::Float { size: 8 }, 2f64.to_ne_bytes().to_vec(), "2.0", "2.0"),
        (Type::Float { size: 8 }, (-1e300f64).to_ne_bytes().to_vec(), "-1e300", "-1e300"),
        (Type::Float { size: 8 }, f64::INFINITY.to_ne_bytes().to_vec(), "inf", "null"),
        (Type::Float { size: 4 }, f32::NAN.to_ne_bytes().to_vec(), "NaN", "null"),
        (Type::Enum(Arc::new(names)), vec![255; 4], "MINUS", "-1"),
        (Type::String { size: 4 }, b"ab\0z".to_vec(), "ab", "\"ab\""),
        (Type::String { size: 8 }, b"abcdefg\0".to_vec(), "abcdefg..", "\"abcdefg..\""),
        (Type::Buffer { size: 3 }, b"\x02\0\0\0a\x01z".to_vec(), "a\\x01", "[97,1]"),
        (Type::Inet, inet.clone(), "127.0.0.1", "\"127.0.0.1\""),
        (Type::Mac, vec![1, 2, 3, 4, 5, 0xab], "01:02:03:04:05:AB", "\"01:02:03:04:05:AB\""),
        (Type::Void.pointer(Default::default()), words(&[4096]), "0x1000", "4096"),
        (Type::Array { elem: Arc::new(int(2, true)), count: 2 }, vec![1, 0, 255, 255], "[1,-1]", "[1,-1]"),
        (tuple, vec![1, b'a', 0, 0, 0, 0, 0, 0, 3, 0, 0, 0], "(1, a, (3))", "[1,\"a\",[3]]"),
        (record, vec![1, 0, 1, 0], "{ .a = 1, .b = true }", "{\"a\": 1, \"b\": true}"),
        (
            structure,
            bytes_of_struct.to_vec(),
            "{ .m = 5, .low = 5, .neg = -1, .p = x }",
            "{\"m\": 5, \"low\": 5, \"neg\": -1, \"p\": \"x\"}",
        ),
        (Type::Ksym, words(&[7]), "k7", "\"k7\""),
        (Type::Usym, words(&[7, 9]), "u9.7", "\"u9.7\""),
        (stack, words(&[2, 0]), "\n        f0+1\n        f1+1\n", "\"\\n        f0+1\\n        f1+1\\n\""),
        (Type::Timestamp, words(&[5, 0]), "%H@5", "\"%H@5\""),
        (Type::Word(Word::Errno), words(&[3]), "word3", "\"word3\""),
        (Type::CgroupPath, words(&[4, 0]), "*:/4", "\"*:/4\""),
    ];
    for (ty, bytes, as_text, as_json) in cases {
        assert_eq!((text(&ty, &bytes).as_str(), json(&ty, &bytes).as_str()), (as_text, as_json), "{ty}");
        // A record may end early: what is missing is zero.
        for len in 0..bytes.len() {
            let _ = (text(&ty, &bytes[..len]), json(&ty, &bytes[..len]));
        }
    }
    inet[0] = 10;
    inet.resize(20, 0);
    assert_eq!(text(&Type::Inet, &inet), "7f00:1::");
}

fn printf(conversion: Conversion, ty: Type, bytes: &[u8]) -> String {
    let (plan, mut out) = (plan(), Vec::new());
    let format =
        Format { parts: vec![Part::Text(b"<".to_vec()), Part::Conversion(conversion), Part::Text(b">".to_vec())] };
    ScriptView::new(&plan, &Fixture).format(&format, &[Value { off: 0, ty }], bytes, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn conversions_write_what_c_writes() {
    let base = |letter| Conversion { letter, size: 4, ..Conversion::default() };
    let minus = words(&[(-1i64) as u64]);
    let small = words(&[42]);
    let int = int(8, true);
    let cases = [
        (base('d'), &minus, "<-1>"),
        (base('u'), &minus, "<4294967295>"),
        (Conversion { size: 8, ..base('u') }, &minus, "<18446744073709551615>"),
        (Conversion { size: 1, ..base('x') }, &minus, "<ff>"),
        (Conversion { width: Some(6), ..base('d') }, &small, "<    42>"),
        (Conversion { width: Some(6), left: true, ..base('d') }, &small, "<42    >"),
        (Conversion { width: Some(6), zero: true, ..base('d') }, &minus, "<-00001>"),
        (Conversion { width: Some(6), zero: true, plus: true, ..base('d') }, &small, "<+00042>"),
        (Conversion { blank: true, ..base('d') }, &small, "< 42>"),
        (Conversion { precision: Some(4), width: Some(6), ..base('d') }, &small, "<  0042>"),
        (Conversion { alternate: true, ..base('x') }, &small, "<0x2a>"),
        (Conversion { alternate: true, width: Some(8), zero: true, ..base('X') }, &small, "<0X00002A>"),
        (Conversion { alternate: true, ..base('o') }, &small, "<052>"),
        (base('p'), &small, "<0x2a>"),
        (base('c'), &small, "<*>"),
        (base('s'), &small, "<42>"),
        (base('G'), &words(&[0xcc0]), "<GFP_KERNEL>"),
        (base('G'), &words(&[0xdc0]), "<GFP_KERNEL|__GFP_ZERO>"),
        (base('G'), &words(&[0]), "<0x0>"),
    ];
    for (conversion, bytes, expected) in cases {
        assert_eq!(printf(conversion.clone(), int.clone(), bytes), expected, "{conversion:?}");
    }
    let string = Type::String { size: 6 };
    let cut = Conversion { width: Some(5), precision: Some(3), left: true, ..base('s') };
    assert_eq!(printf(cut, string, b"hello\0"), "<hel  >");
    let buffer = Type::Buffer { size: 3 };
    let bytes = b"\x03\0\0\0a\x01b";
    assert_eq!(printf(base('r'), buffer.clone(), bytes), "<a\\x01b>");
    assert_eq!(printf(base('R'), buffer.clone(), bytes), "<\\x61\\x01\\x62>");
    assert_eq!(printf(base('H'), buffer, bytes), "<61 01 62>");
}

fn map(name: &str, key: Option<Type>, value: Type) -> Map {
    let percpu = value.is_aggregation();
    Map { name: name.into(), map: MapId(0), other: None, key, value, kind: None, percpu, array: false, mark: None }
}

fn entry(map: &Map, key: &[u8], values: &[u64]) -> Entry {
    Entry { key: key.to_vec(), value: Total::of(&map.value, &words(values)) }
}

fn show(map: &Map, entries: &[Entry], top: u32, div: u32) -> (String, String, String) {
    let plan = plan();
    let view = ScriptView::new(&plan, &Fixture);
    let (mut text, mut json, mut csv) = (Vec::new(), Vec::new(), Vec::new());
    view.map_text(map, &mut entries.to_vec(), top, div, &mut text);
    view.map_json(map, &mut entries.to_vec(), top, div, &mut json);
    view.map_csv(map, &mut entries.to_vec(), top, div, &mut csv);
    let utf8 = |bytes| String::from_utf8(bytes).unwrap();
    (utf8(text), utf8(json), utf8(csv))
}

#[test]
fn counts_are_summed_over_cpus_and_sorted_by_value() {
    let key = Type::Tuple([int(4, true), Type::String { size: 4 }].into());
    let map = map("m", Some(key), Type::Count);
    let entries = [
        entry(&map, b"\x02\0\0\0b,\0\0", &[3, 4]),
        entry(&map, b"\x01\0\0\0a\0\0\0", &[1, 1]),
        entry(&map, b"\x00\0\0\0a\0\0\0", &[2, 0]),
    ];
    let (text, json, csv) = show(&map, &entries, 0, 0);
    assert_eq!(text, "@m[0, a]: 2\n@m[1, a]: 2\n@m[2, b,]: 7\n");
    assert_eq!(json, "{\"type\": \"map\", \"data\": {\"@m\": {\"0,a\": 2, \"1,a\": 2, \"2,b,\": 7}}}\n");
    assert_eq!(csv, "@m,0,a,2\n@m,1,a,2\n@m,2,\"b,\",7\n");
    let (text, ..) = show(&map, &entries, 1, 2);
    assert_eq!(text, "@m[2, b,]: 3\n");
    assert_eq!(show(&map, &[], 0, 0), Default::default());
}

#[test]
fn means_and_extremes_come_from_all_cpus() {
    let minus = (-5i64) as u64;
    let min = map("x", None, Type::Min { signed: true });
    assert_eq!(show(&min, &[entry(&min, &[], &[7, 1, minus, 1, 0, 0])], 0, 0).0, "@x: -5\n");
    let max = map("x", None, Type::Max { signed: false });
    assert_eq!(show(&max, &[entry(&max, &[], &[7, 1, 9, 1, 0, 0])], 0, 0).0, "@x: 9\n");
    let avg = map("x", None, Type::Avg { signed: true });
    let (text, json, _) = show(&avg, &[entry(&avg, &[], &[10, 2, minus, 1])], 0, 0);
    assert_eq!((text.as_str(), json.as_str()), ("@x: 1\n\n", "{\"type\": \"stats\", \"data\": {\"@x\": 1}}\n"));
    let stats = map("", None, Type::Stats { signed: false });
    let (text, json, csv) = show(&stats, &[entry(&stats, &[], &[12, 2])], 0, 0);
    assert_eq!(text, "@: { .count = 2, .average = 6, .total = 12 }\n\n");
    assert_eq!(json, "{\"type\": \"stats\", \"data\": {\"@\": {\"count\": 2, \"average\": 6, \"total\": 12}}}\n");
    assert_eq!(csv, "@,2,6,12\n");
}

#[test]
fn histograms_are_drawn_below_their_name() {
    let hist = map("h", Some(int(8, false)), Type::Hist { bits: 0 });
    let mut cpu = vec![0u64; 66];
    cpu[4] = 3;
    let (text, json, csv) = show(&hist, &[entry(&hist, &words(&[1]), &cpu)], 0, 0);
    assert_eq!(text, format!("@h[1]: \n[4, 8)                 3 |{}|\n\n", "@".repeat(52)));
    assert_eq!(json, "{\"type\": \"hist\", \"data\": {\"@h\": {\"1\": [{\"min\": 4, \"max\": 7, \"count\": 3}]}}}\n");
    assert_eq!(csv, "@h,1,4,7,3\n");
}

#[test]
fn a_time_series_has_a_row_for_each_interval() {
    let shape = Tseries { interval_ns: 1_000_000_000, count: 3, agg: TseriesAgg::Sum, signed: true };
    let series = map("t", None, Type::Tseries(shape));
    // Interval 1 is too old: the ring has three.
    let cpus = [0, 0, 3, 5, 1, 1, 9, 1, 0, 0, 0, 0, 0, 3, 2, 1, 0, 0, 0, 5, 1, 1];
    let one = entry(&series, &[], &[&[0, 0][..], &cpus[2..11], &[0, 0], &[3, 2, 1, 0, 0, 0, 5, 1, 1]].concat());
    let (text, json, _) = show(&series, &[one], 0, 0);
    assert_eq!(
        json,
        "{\"type\": \"tseries\", \"data\": {\"@t\": [{\"interval_start\":\"%Y-%m-%d %H:%M:%S@3000000000.000000000\",\"value\":7},\
         {\"interval_start\":\"%Y-%m-%d %H:%M:%S@5000000000.000000000\",\"value\":1}]}}\n"
    );
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("%H")).collect();
    assert_eq!(rows.len(), 3);
    assert!(rows[0].ends_with("*| 7") && rows[1].ends_with("| -") && rows[2].contains("|*"), "{text}");
}

#[test]
fn values_send_no_control_characters_to_a_terminal() {
    let plan = plan();
    let string = Type::String { size: 16 };
    let hostile = b"\x1b[2J\r\x7fa\tb\n";
    let mut bytes = hostile.to_vec();
    bytes.resize(16, 0);
    let part = |letter, precision| {
        let conversion = Conversion { letter, precision, size: 4, ..Conversion::default() };
        Format { parts: vec![Part::Text(b"\x1b[1m".to_vec()), Part::Conversion(conversion)] }
    };
    let shown = |terminal, letter, precision, bytes: &[u8], ty: &Type| {
        let mut out = Vec::new();
        let view = ScriptView::new(&plan, &Fixture).for_terminal(terminal);
        view.format(&part(letter, precision), &[Value { off: 0, ty: ty.clone() }], bytes, &mut out);
        out
    };
    // The script's own text passes, and into a file everything does.
    assert_eq!(shown(true, 's', None, &bytes, &string), b"\x1b[1m\\x1b[2J\\x0d\\x7fa\tb\n");
    assert_eq!(shown(false, 's', None, &bytes, &string), [b"\x1b[1m", hostile.as_slice()].concat());
    assert_eq!(shown(true, 's', Some(2), &bytes, &string), b"\x1b[1m\\x1b[");
    assert_eq!(shown(true, 'c', None, b"\x07", &int(1, false)), b"\x1b[1m\\x07");
    assert_eq!(shown(false, 'c', None, b"\x07", &int(1, false)), b"\x1b[1m\x07");
    // Text in other languages is text; C1 controls are none, nor are stray bytes.
    let text = "\u{e9}\u{9b}".as_bytes();
    assert_eq!(shown(true, 's', None, &[text, b"\x9b\0"].concat(), &string), "\x1b[1m\u{e9}\\x9b\\x9b".as_bytes());
    // Keys and values of maps, in every form for people.
    let map = map("m", Some(string.clone()), string);
    let mut entries = vec![Entry { key: bytes.clone(), value: Total::Plain(bytes.clone()) }];
    for terminal in [true, false] {
        let view = ScriptView::new(&plan, &Fixture).for_terminal(terminal);
        let mut out = Vec::new();
        view.map_text(&map, &mut entries, 0, 0, &mut out);
        view.map_csv(&map, &mut entries, 0, 0, &mut out);
        assert_eq!(out.contains(&0x1b), !terminal, "{}", String::from_utf8_lossy(&out));
        assert_eq!(out.contains(&b'\r'), !terminal);
    }
    // JSON is the same text everywhere, and harmless.
    for (hostile, safe) in [("\u{9b}2J\0", r#""\u009b2J""#), ("\u{e9}\x1b\x7f\0", r#""é\u001b\u007f""#)] {
        assert_eq!(json(&Type::String { size: 16 }, hostile.as_bytes()), safe);
    }
}

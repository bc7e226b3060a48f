//! Events of known types as text rows and JSON lines.

#![expect(clippy::unwrap_used, reason = "a helper of tests may panic")]

use skep_btf::{Btf, Builder, IntEncoding, MemberDef, TypeDef, TypeId};
use skep_insn::Endian;
use skep_view::{Clock, Layout, MapEntries, MapView, Stacks, write_header, write_json, write_row};

/// 2026-11-20 12:38:30 UTC.
const WALL_NS: i64 = 1_795_178_310_000_000_005;

/// A struct in the making: members one after another, aligned by nobody.
struct Event {
    builder: Builder,
    members: Vec<(&'static str, TypeId, u32, Option<u8>)>,
    bits: u32,
    data: Vec<u8>,
}

impl Event {
    fn new() -> Event {
        Event { builder: Builder::new(), members: vec![], bits: 0, data: vec![] }
    }

    fn int(&mut self, name: &'static str, size: u32, encoding: IntEncoding) -> TypeId {
        self.builder.add(TypeDef::Int { name, size, bits: (size * 8) as u8, encoding }).unwrap()
    }

    fn with(mut self, name: &'static str, type_id: TypeId, bytes: &[u8]) -> Event {
        self.members.push((name, type_id, self.bits, None));
        self.bits += 8 * bytes.len() as u32;
        self.data.extend_from_slice(bytes);
        self
    }

    fn u32(mut self, name: &'static str, value: u32) -> Event {
        let id = self.int("unsigned int", 4, IntEncoding::default());
        self.with(name, id, &value.to_le_bytes())
    }

    fn i32(mut self, name: &'static str, value: i32) -> Event {
        let id = self.int("int", 4, IntEncoding::SIGNED);
        self.with(name, id, &value.to_le_bytes())
    }

    fn u64(mut self, name: &'static str, value: u64) -> Event {
        let id = self.int("unsigned long long", 8, IntEncoding::default());
        self.with(name, id, &value.to_le_bytes())
    }

    fn chars(mut self, name: &'static str, bytes: &[u8]) -> Event {
        let element = self.int("char", 1, IntEncoding::SIGNED);
        let len = bytes.len() as u32;
        let id = self.builder.add(TypeDef::Array { element, index: element, len }).unwrap();
        self.with(name, id, bytes)
    }

    fn bytes(mut self, name: &'static str, bytes: &[u8]) -> Event {
        let element = self.int("unsigned char", 1, IntEncoding::default());
        let len = bytes.len() as u32;
        let id = self.builder.add(TypeDef::Array { element, index: element, len }).unwrap();
        self.with(name, id, bytes)
    }

    fn typedef(mut self, name: &'static str, of: &'static str, size: u32, bytes: &[u8]) -> Event {
        let type_id = self.int(of, size, IntEncoding::default());
        let id = self.builder.add(TypeDef::Typedef { name: of, type_id }).unwrap();
        self.with(name, id, bytes)
    }

    fn layout(&mut self) -> Layout {
        let members: Vec<MemberDef<'_>> = self
            .members
            .iter()
            .map(|&(name, type_id, bit_offset, bitfield_size)| MemberDef { name, type_id, bit_offset, bitfield_size })
            .collect();
        let id = self.builder.add(TypeDef::Struct { name: "event", size: self.bits / 8, members: &members }).unwrap();
        let btf = Btf::parse(self.builder.finish(Endian::Little).unwrap()).unwrap();
        Layout::of(&btf, id).unwrap()
    }

    #[track_caller]
    fn check_text(mut self, expected: &str) {
        let layout = self.layout();
        let mut out = Vec::new();
        write_header(&layout, &mut out);
        write_row(&layout, &self.data, WALL_NS, &mut Clock::new(0, 0), &(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[track_caller]
    fn check_json(mut self, expected: &str) {
        let layout = self.layout();
        let mut out = Vec::new();
        write_json(&layout, "events", &self.data, WALL_NS, &mut Clock::new(0, 0), &(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn columns_are_the_members_under_their_names() {
    Event::new()
        .chars("comm", b"bash\0garbage\0\0\0\0")
        .u32("pid", 4711)
        .i32("ret", -2)
        .chars("args", b"/bin/ls\0")
        .check_text(
            "\
TIME      COMM              PID       RET       ARGS
12:38:30  bash              4711      -ENOENT   /bin/ls
",
        );
}

#[test]
fn json_keeps_numbers_and_quotes_text() {
    Event::new().chars("comm", b"a\"b\n\xff\0").u32("pid", 7).i32("ret", -2).check_json(
        "{\"time\":\"2026-11-20T12:38:30.000000005Z\",\"source\":\"events\",\"comm\":\"a\\\"b\\n\u{fffd}\",\"pid\":7,\"ret\":-2}\n",
    );
}

#[test]
fn arguments_end_where_their_length_says() {
    Event::new()
        .u32("args_size", 12)
        .u32("args_count", 2)
        .chars("args", b"/bin/ls\0-la\0junk")
        .check_text("TIME      ARGS\n12:38:30  /bin/ls -la\n");
}

#[test]
fn addresses_and_ports_are_told_by_type_and_name() {
    Event::new()
        .u32("family", 2)
        .bytes("saddr", &[127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .typedef("daddr", "__be32", 4, &[10, 0, 0, 1])
        .typedef("dport", "__be16", 2, &[0x1f, 0x90])
        .check_text(
            "\
TIME      FAMILY    SADDR            DADDR            DPORT
12:38:30  2         127.0.0.1        10.0.0.1         8080
",
        );
    let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    Event::new().u32("af", 10).bytes("daddr", &v6).check_json(
        "{\"time\":\"2026-11-20T12:38:30.000000005Z\",\"source\":\"events\",\"af\":10,\"daddr\":\"2001:db8::1\"}\n",
    );
}

#[test]
fn times_and_durations_are_told_by_name() {
    Event::new().u64("ts_ns", 3_600_000_000_000).u64("delta_us", 1204).u64("latency_ns", 999).check_text(
        "\
TS_NS     DELTA_US   LATENCY_NS
01:00:00  1.204ms    999ns
",
    );
}

#[test]
fn a_short_event_shows_what_is_there() {
    let mut event = Event::new().u32("pid", 1).u64("bytes", 2);
    event.data.truncate(6);
    event.check_text("TIME      PID       BYTES\n12:38:30  1         -\n");
    let mut event = Event::new().u32("pid", 1).u64("bytes", 2);
    event.data.truncate(6);
    event.check_json("{\"time\":\"2026-11-20T12:38:30.000000005Z\",\"source\":\"events\",\"pid\":1,\"bytes\":null}\n");
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    Event::new().chars("comm", b"a\x1b[2Jb\0").check_text("TIME      COMM\n12:38:30  a\\x1b[2Jb\n");
}

#[test]
fn structs_within_become_columns_and_objects() {
    let mut event = Event::new().u32("pid", 5);
    let int = event.int("int", 4, IntEncoding::SIGNED);
    let members = [
        MemberDef { name: "x", type_id: int, bit_offset: 0, bitfield_size: None },
        MemberDef { name: "y", type_id: int, bit_offset: 32, bitfield_size: None },
    ];
    let point = event.builder.add(TypeDef::Struct { name: "point", size: 8, members: &members }).unwrap();
    let bytes = [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    let build = |event: Event| event.with("from", point, &bytes).with("to", point, &bytes);
    build(event).check_json(
        "{\"time\":\"2026-11-20T12:38:30.000000005Z\",\"source\":\"events\",\"pid\":5,\"from\":{\"x\":1,\"y\":-1},\"to\":{\"x\":1,\"y\":-1}}\n",
    );
}

#[test]
fn enums_print_by_name_and_unknown_values_as_numbers() {
    for (value, text) in [(1u32, "CLOSED"), (9, "9")] {
        let mut event = Event::new();
        let values = [("OPEN", 0), ("CLOSED", 1)];
        let id = event.builder.add(TypeDef::Enum { name: "state", size: 4, signed: false, values: &values }).unwrap();
        event.with("state", id, &value.to_le_bytes()).check_text(&format!("TIME      STATE\n12:38:30  {text}\n"));
    }
}

#[test]
fn bit_fields_are_cut_out() {
    let mut event = Event::new();
    let id = event.int("unsigned int", 4, IntEncoding::default());
    event.data = vec![0b1011_0101, 0, 0, 0];
    event.members = vec![("low", id, 0, Some(3)), ("high", id, 3, Some(5))];
    event.bits = 32;
    event.check_text("TIME      LOW   HIGH\n12:38:30  5     22\n");
}

/// A map of `unsigned int` to `value`, as text and as JSON.
fn map_shown(
    entries: &[(u32, Vec<u8>)],
    (cpu_size, full): (Option<usize>, bool),
    value: impl FnOnce(&mut Event) -> TypeId,
) -> (String, String) {
    let mut event = Event::new();
    let key = event.int("unsigned int", 4, IntEncoding::default());
    let value = value(&mut event);
    let btf = Btf::parse(event.builder.finish(Endian::Little).unwrap()).unwrap();
    let view = MapView::of(&btf, key, value).unwrap();
    let entries: Vec<_> = entries.iter().map(|(key, value)| (key.to_le_bytes().to_vec(), value.clone())).collect();
    let entries = MapEntries { name: "counts", entries: &entries, cpu_size, full };
    let (mut text, mut json) = (Vec::new(), Vec::new());
    view.write_text(&entries, &mut Clock::new(0, 0), &(), &mut text);
    view.write_json(&entries, WALL_NS, &mut Clock::new(0, 0), &(), &mut json);
    let json = String::from_utf8(json).unwrap();
    let json: Vec<&str> = json.lines().map(|line| line.split_once("\"map\":\"counts\",").unwrap().1).collect();
    (String::from_utf8(text).unwrap(), json.join("\n"))
}

fn map_text(entries: &[(u32, Vec<u8>)], cpu_size: Option<usize>, value: impl FnOnce(&mut Event) -> TypeId) -> String {
    map_shown(entries, (cpu_size, false), value).0
}

fn u64_type(event: &mut Event) -> TypeId {
    event.int("unsigned long long", 8, IntEncoding::default())
}

#[test]
fn maps_of_numbers_are_sorted_by_value_in_text_and_by_key_in_json() {
    let entry = |key: u32, value: u64| (key, value.to_le_bytes().to_vec());
    let (text, json) = map_shown(&[entry(256, 30), entry(2, 4), entry(1, 0)], (None, false), u64_type);
    assert_eq!(text, "\ncounts:\nKEY       VALUE\n1         0\n2         4\n256       30\n");
    assert_eq!(json, "\"key\":1,\"value\":0}\n\"key\":2,\"value\":4}\n\"key\":256,\"value\":30}");
}

#[test]
fn zeros_of_arrays_are_counted() {
    let entry = |key: u32, value: u64| (key, value.to_le_bytes().to_vec());
    let (text, json) = map_shown(&[entry(0, 0), entry(1, 30), entry(2, 0)], (None, true), u64_type);
    assert_eq!(text, "\ncounts:\nKEY       VALUE\n1         30\n(2 more are zero)\n");
    assert_eq!(json, "\"key\":1,\"value\":30}\n\"zeros\":2}");
    let (text, json) = map_shown(&[entry(0, 0)], (None, true), u64_type);
    assert_eq!((text.as_str(), json.as_str()), ("\ncounts:\n(only zeros: 1)\n", "\"zeros\":1}"));
}

#[test]
fn structs_in_json_stay_objects() {
    let value = [1u32, 2].map(u32::to_le_bytes).concat();
    let (_, json) = map_shown(&[(7, value)], (None, false), |event| {
        let int = event.int("unsigned int", 4, IntEncoding::default());
        let member = |name, bit_offset| MemberDef { name, type_id: int, bit_offset, bitfield_size: None };
        let members = [member("reads", 0), member("writes", 32)];
        event.builder.add(TypeDef::Struct { name: "stats", size: 8, members: &members }).unwrap()
    });
    assert_eq!(json, "\"key\":7,\"value\":{\"reads\":1,\"writes\":2}}");
}

#[test]
fn numbers_of_several_cpus_are_added() {
    let value = [5u64, 7].map(u64::to_le_bytes).concat();
    assert_eq!(map_text(&[(9, value)], Some(8), u64_type), "\ncounts:\nKEY       VALUE\n9         12\n");
}

#[test]
fn slots_are_drawn_as_a_histogram() {
    let value = [0u32, 3, 1].map(u32::to_le_bytes).concat();
    let text = map_text(&[(7, value)], None, |event| {
        let element = event.int("unsigned int", 4, IntEncoding::default());
        let array = event.builder.add(TypeDef::Array { element, index: element, len: 3 }).unwrap();
        let members = [MemberDef { name: "slots", type_id: array, bit_offset: 0, bitfield_size: None }];
        event.builder.add(TypeDef::Struct { name: "hist", size: 12, members: &members }).unwrap()
    });
    assert!(text.starts_with("\ncounts:\n7\n  [2, 4)                    3 |@@@@"), "{text}");
    assert_eq!(text.lines().count(), 5);
}

#[test]
fn what_a_value_has_beside_its_slots_is_shown_too() {
    let value = [40u32, 0, 3].map(u32::to_le_bytes).concat();
    let text = map_text(&[(7, value)], None, |event| {
        let element = event.int("unsigned int", 4, IntEncoding::default());
        let array = event.builder.add(TypeDef::Array { element, index: element, len: 2 }).unwrap();
        let member = |name, type_id, bit_offset| MemberDef { name, type_id, bit_offset, bitfield_size: None };
        let members = [member("count", element, 0), member("slots", array, 32)];
        event.builder.add(TypeDef::Struct { name: "info", size: 12, members: &members }).unwrap()
    });
    assert!(
        text.starts_with("\ncounts:\nKEY       COUNT\n7         40\n  [2, 4)                    3 |@@@@"),
        "{text}"
    );
}

/// Two stacks: of the kernel, and of a process.
struct Frames;

impl Stacks for Frames {
    fn frames(&self, id: u32, task: Option<u32>) -> Vec<String> {
        match (id, task) {
            (5, _) => vec!["schedule+1".into(), "evil\x1b[2J+2".into()],
            (6, Some(42)) => vec!["main+3".into()],
            _ => vec![],
        }
    }
}

#[test]
fn frames_stand_below_the_row_of_their_ids() {
    let shown = |numbers: [i32; 3]| {
        let [pid, kernel, user] = numbers;
        let mut event = Event::new().i32("pid", pid).i32("kern_stack_id", kernel).i32("user_stack_id", user);
        let layout = event.layout();
        let (mut text, mut json) = (Vec::new(), Vec::new());
        write_row(&layout, &event.data, WALL_NS, &mut Clock::new(0, 0), &Frames, &mut text);
        write_json(&layout, "events", &event.data, WALL_NS, &mut Clock::new(0, 0), &Frames, &mut json);
        let json = String::from_utf8(json).unwrap();
        (String::from_utf8(text).unwrap(), json.split_once("\"events\",").unwrap().1.trim_end().to_owned())
    };
    let (text, json) = shown([42, 5, 6]);
    let lines: Vec<&str> = text.lines().skip(1).collect();
    let frames = ["        schedule+1", "        evil\\x1b[2J+2"];
    assert_eq!(lines, ["    KERN_STACK_ID", frames[0], frames[1], "    USER_STACK_ID", "        main+3"]);
    let stacks = r#""stacks":{"kern_stack_id":["schedule+1","evil\u001b[2J+2"],"user_stack_id":["main+3"]}}"#;
    assert_eq!(json, format!(r#""pid":42,"kern_stack_id":5,"user_stack_id":6,{stacks}"#));
    // An error of the helper, and a number that nobody knows.
    let (text, json) = shown([42, -14, 7]);
    assert_eq!(text.lines().count(), 1);
    assert_eq!(json, r#""pid":42,"kern_stack_id":-14,"user_stack_id":7}"#);
}

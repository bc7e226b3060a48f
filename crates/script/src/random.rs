//! Random scripts for tests: made by a grammar that knows types, or cut and mixed from scripts that exist.
//!
//! [`script`] writes what mostly compiles: the rules (`random.grammar`) are templates, in which a name between `<` and `>` is another rule,
//! and a table of maps and variables keeps each at one type. [`mutated`] takes the tokens of scripts apart and mostly makes
//! what does not compile. A seed decides everything.

use crate::Sources;
use crate::ir::random::Random;
use crate::lexer::{Kind as TokenKind, Lexer};

/// What an expression is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Int,
    Bool,
    Text,
    Bytes,
    Pair,
    Deep,
    Record,
    Buffer,
    Kstack,
    Ustack,
    DwUstack,
    Ksym,
    Usym,
    Inet,
    Time,
    Cgroup,
    Word,
    Task,
}

use Kind::{Int, Text, Word};

const KINDS: [(Kind, &str); 18] = [
    (Int, "int"),
    (Kind::Bool, "bool"),
    (Text, "text"),
    (Kind::Bytes, "bytes"),
    (Kind::Pair, "pair"),
    (Kind::Deep, "deep"),
    (Kind::Record, "record"),
    (Kind::Buffer, "buffer"),
    (Kind::Kstack, "kstack"),
    (Kind::Ustack, "ustack"),
    (Kind::DwUstack, "dwustack"),
    (Kind::Ksym, "ksym"),
    (Kind::Usym, "usym"),
    (Kind::Inet, "inet"),
    (Kind::Time, "time"),
    (Kind::Cgroup, "cgroup"),
    (Word, "word"),
    (Kind::Task, "task"),
];

/// The rules, each under its name in brackets.
const GRAMMAR: &str = include_str!("random.grammar");

/// The ways of a rule.
fn rule(name: &str) -> &'static str {
    let start = GRAMMAR.split_once(&format!("\n[{name}]\n")).map_or("", |(_, rest)| rest);
    start.split_once("\n\n").map_or(start, |(ways, _)| ways).trim_end()
}

/// How an expression may be written: what ends soon, and what goes on.
fn rules(kind: Kind) -> (&'static str, &'static str) {
    let name = KINDS.iter().find(|(it, _)| *it == kind).map_or("int", |(_, name)| name);
    rule(name).split_once("\n|\n").unwrap_or_default()
}

/// Attach points that most machines have, with numbers and texts of their contexts.
const POINTS: [(&str, &[&str], &[&str]); 19] = [
    ("begin", &["0"], &["comm"]),
    ("end", &["0"], &["comm"]),
    ("interval:s:1", &["0"], &["comm"]),
    ("profile:hz:99", &["0"], &["comm"]),
    ("software:page-faults:100", &["0"], &["comm"]),
    ("tracepoint:sched:sched_switch", &["args.prev_pid", "args.prev_state"], &["args.prev_comm", "args.next_comm"]),
    ("tracepoint:sched:sched_wakeup", &["args.pid"], &["args.comm"]),
    ("tracepoint:sched:sched_process_exec", &["args.pid"], &["str(args.filename)"]),
    ("tracepoint:syscalls:sys_enter_openat", &["args.dfd", "args.flags"], &["str(args.filename)"]),
    (
        "tracepoint:syscalls:sys_enter_open,tracepoint:syscalls:sys_enter_openat",
        &["args.flags"],
        &["str(args.filename)"],
    ),
    ("rawtracepoint:sched_switch", &["arg0", "arg1", "args.preempt"], &["args.prev->comm", "args.next->comm"]),
    ("uprobe:/bin/bash:readline", &["arg0", "arg1", "reg(\"ip\")"], &["str(arg0)", "func", "str(arg1, 8)"]),
    ("uretprobe:/bin/bash:readline", &["retval", "(int8)retval"], &["str(retval)", "func"]),
    ("uprobe:/bin/bash:main,uprobe:/bin/bash:readline", &["arg0", "(uint16)arg0"], &["func", "str(uptr(arg0))"]),
    ("kprobe:vfs_read", &["arg0", "arg2", "(int8)arg1"], &["func", "str(arg1, 9)", "comm"]),
    ("kprobe:tcp_connect,kprobe:tcp_close", &["arg0"], &["func", "probe"]),
    ("kretprobe:vfs_read", &["retval", "(uint8)retval"], &["func"]),
    ("iter:task", &["ctx.task.pid", "(uint64)ctx->task"], &["ctx->task->comm"]),
    ("software:cpu-clock:1000000", &["0"], &["comm"]),
];

const GATHER: [&str; 12] = [
    "count()",
    "sum(<int>)",
    "min(<int>)",
    "max(<int>)",
    "avg(<int>)",
    "stats(<int>)",
    "hist(<int>)",
    "hist(<int>, 3)",
    "lhist(<int>, 0, 100, 10)",
    "lhist(<int>, -50, 50, 7)",
    "tseries(<int>, 1s, 5)",
    "tseries(<int>, 100ms, 3, \"max\")",
];
const CONVERSIONS: [&str; 17] = [
    "%d", "%5d", "%-8u", "%x", "%#lx", "%llX", "%c", "%hhd", "%hu", "%o", "%lld", "%i", "%zd", "%p", "%03d", "%+ld",
    "%jd",
];
const TYPES: [&str; 10] = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool", "uint64"];
const OPERATORS: [&str; 10] = ["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"];
const COMPARISONS: [&str; 6] = ["==", "!=", "<", ">", "<=", ">="];
const ASSIGNMENTS: [&str; 10] = ["=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<="];
const STRINGS: [&str; 7] =
    ["\"\"", "\"a\"", "\"abcdefg\"", "\"/etc/passwd\"", "\"tab\\tend\\n\"", "\"\\x41\\\"\"", "\"/a/long/name\""];
const SETTINGS: [&str; 8] = [
    "max_strlen = 64",
    "max_strlen = 16",
    "max_map_keys = 3",
    "on_stack_limit = 8",
    "on_stack_limit = 128",
    "stack_mode = perf",
    "max_strlen = 200",
    "print_maps_on_exit = false",
];
const HEAD: &str = "struct own { int a; char b[8]; uint64_t c : 5; };\n";
const HELPERS: &str = "macro twice(x) { x + x }
fn part($n : int64, $t : string[64]) : int64 { return $n / 2; }
fn word($n : int64, $t : string[64]) : string[64] { for ($i : 0..3) { if ($i == $n) { return $t; } } return \"none\"; }
";

/// How deep expressions and statements are put into each other.
const DEPTH: u32 = 5;

/// Whether what is gathered is a list of numbers.
fn is_list(gathers: &str) -> bool {
    ["hist", "lhist", "tseries"].iter().any(|name| gathers.starts_with(name))
}

struct Map {
    name: String,
    key: Vec<Kind>,
    /// What is stored; `None` for what gathers.
    value: Option<Kind>,
    gathers: &'static str,
}

struct Maker<'r> {
    random: &'r mut Random,
    maps: Vec<Map>,
    vars: Vec<(String, Kind)>,
    point: usize,
    /// Contexts are out of reach of the bodies of some loops.
    in_callback: bool,
    loops: u32,
    names: u32,
    /// The name made last.
    name: String,
    depth: u32,
    statements: u32,
}

/// The script of a seed.
pub fn script(seed: u64) -> String {
    let random = &mut Random::new(seed);
    let mut maker = Maker {
        random,
        maps: Vec::new(),
        vars: Vec::new(),
        point: 0,
        in_callback: false,
        loops: 0,
        names: 0,
        name: String::new(),
        depth: 0,
        statements: 0,
    };
    maker.script()
}

impl Maker<'_> {
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.below(of.len())]
    }

    fn kind(&mut self) -> Kind {
        // Numbers and texts are what scripts are made of.
        match self.random.below(4) {
            0 | 1 => Int,
            2 => Text,
            _ => self.pick(&KINDS).0,
        }
    }

    fn script(&mut self) -> String {
        let mut text = HEAD.to_owned();
        if self.random.one_in(3) {
            text += &format!("config = {{ {} }}\n", self.pick(&SETTINGS));
        }
        text += HELPERS;
        for number in 0..2 + self.random.below(4) {
            let key = (0..self.random.below(4)).map(|_| self.kind()).filter(|kind| *kind != Word).collect();
            let value = (!self.random.one_in(3)).then(|| if number == 0 { Int } else { self.kind() });
            let value = if number == 0 { Some(Int) } else { value.filter(|kind| *kind != Word) };
            let gathers = self.pick(&GATHER);
            self.maps.push(Map { name: format!("@m{number}"), key, value, gathers });
            if value == Some(Int) && self.random.one_in(5) {
                let table = self.pick(&["hash", "lruhash", "percpuhash", "percpulruhash"]);
                text += &format!("let @m{number} = {table}(16);\n");
            }
        }
        for _ in 0..1 + self.random.below(2) {
            self.point = self.random.below(POINTS.len());
            let predicate = if self.random.one_in(4) {
                self.expand("/<ctxint> <cmp> <lit> && <ctxtext> != <string>/ ")
            } else {
                String::new()
            };
            self.statements = 0;
            let head = self.basics();
            let statements = 1 + self.random.below(5);
            let body = self.body(statements);
            text += &format!("{} {predicate}{{ {head}{body}}}\n", POINTS[self.point].0);
        }
        // Each map has its type from here, whatever else is done with it.
        self.point = 0;
        self.depth = DEPTH;
        let mut first = self.basics();
        for map in 0..self.maps.len() {
            first += &self.store(map);
        }
        format!("{text}begin {{ {first} @z[1] = 2; }}\n")
    }

    /// Variables of every kind that has no constant.
    fn basics(&mut self) -> String {
        self.vars.clear();
        let mut text = String::new();
        for (kind, value) in [
            (Int, "<lit>"),
            (Kind::Bool, "(1 == <lit>)"),
            (Text, "<string>"),
            (Kind::Bytes, "((int8[8])(uint64)<lit>)"),
            (Kind::Pair, "((int64)<lit>, <string>)"),
            (Kind::Deep, "(((int64)<lit>, <string>), (int64)<lit>, true)"),
            (Kind::Record, "(a=(int64)<lit>, b=<string>)"),
            (Kind::Task, "curtask"),
        ] {
            let value = self.expand(value);
            let name = self.fresh();
            text += &format!("${name} = {value}; ");
            self.vars.push((name, kind));
        }
        text
    }

    fn fresh(&mut self) -> String {
        self.names += 1;
        self.name = format!("v{}", self.names);
        self.name.clone()
    }

    fn body(&mut self, statements: usize) -> String {
        let vars = self.vars.len();
        let mut text = String::new();
        for _ in 0..statements {
            self.statements += 1;
            if self.statements > 12 {
                break;
            }
            let rule = way(self.random, rule("statement"));
            let is_loop = rule.starts_with("for") || rule.starts_with("unroll") || rule.contains("while");
            if is_loop && self.loops >= 2 {
                continue;
            }
            self.loops += u32::from(is_loop);
            text += &self.expand(rule);
            text.push(' ');
            self.loops -= u32::from(is_loop);
        }
        self.vars.truncate(vars);
        text
    }

    /// A template with every name replaced.
    fn expand(&mut self, template: &str) -> String {
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, behind)) = rest.split_once('<') {
            text += before;
            let Some((name, after)) = behind
                .split_once('>')
                .filter(|(name, _)| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase()))
            else {
                text.push('<');
                rest = behind;
                continue;
            };
            text += &self.rule(name);
            rest = after;
        }
        text + rest
    }

    fn rule(&mut self, name: &str) -> String {
        if let Some((kind, _)) = KINDS.iter().find(|(_, it)| *it == name) {
            return self.expr(*kind);
        }
        if let Some((kind, _)) = KINDS.iter().find(|(_, it)| name.strip_suffix("var") == Some(it)) {
            return self.var(*kind);
        }
        if let Some((kind, _)) = KINDS.iter().find(|(_, it)| name.strip_suffix("map") == Some(it)) {
            return self.map(*kind);
        }
        match name {
            "any" => {
                let kind = self.kind();
                self.expr(kind)
            }
            "lit" => self.literal(),
            "small" => self.random.below(9).to_string(),
            "digit" => self.random.below(8).to_string(),
            "size" => (1 + self.random.below(20)).to_string(),
            "count" => (1 + self.random.below(3)).to_string(),
            "range" => {
                if self.random.one_in(2) {
                    self.random.below(20).to_string()
                } else {
                    self.var(Int)
                }
            }
            "ty" => self.pick(&TYPES).to_owned(),
            "op" => self.pick(&OPERATORS).to_owned(),
            "cmp" => self.pick(&COMPARISONS).to_owned(),
            "assign" => self.pick(&ASSIGNMENTS).to_owned(),
            "string" => self.pick(&STRINGS).to_owned(),
            "name" => self.fresh(),
            "same" => self.name.clone(),
            "ctxint" if self.in_callback => "pid".to_owned(),
            "ctxint" => self.pick(POINTS[self.point].1).to_owned(),
            "ctxtext" if self.in_callback => "comm".to_owned(),
            "ctxtext" => self.pick(POINTS[self.point].2).to_owned(),
            "ptr" => {
                let template =
                    self.pick(&["(uint64 *)<int>", "(int8 *)<int>", "&<intvar>", "(uint16 *)<ctxint>", "&<bytesvar>"]);
                format!("({})", self.expand(template))
            }
            "mapname" => self.any_map(|_| true).0,
            "keyed" | "loopmap" => {
                let looped = name == "loopmap";
                let unfit = |map: &Map| looped && map.value.is_none() && is_list(map.gathers);
                let fits = |map: &Map| !map.key.is_empty() && !unfit(map);
                if self.maps.iter().any(fits) { self.any_map(fits).0 } else { "@z".to_owned() }
            }
            "agg" => {
                let fits = |map: &Map| map.value.is_none() && !is_list(map.gathers) && map.gathers != "stats(<int>)";
                if !self.maps.iter().any(fits) {
                    return "5".to_owned();
                }
                let (name, key) = self.any_map(fits);
                name + &key
            }
            "haskey" | "delete" => {
                let (map, key) = self.any_map(|map| !map.key.is_empty());
                let function = if name == "delete" { "delete" } else { "has_key" };
                match key.strip_prefix('[').and_then(|key| key.strip_suffix(']')) {
                    Some(key) if key.contains(',') => format!("{function}({map}, ({key}))"),
                    Some(key) => format!("{function}({map}, {key})"),
                    None if name == "delete" => format!("delete({map})"),
                    None => "true".to_owned(),
                }
            }
            "find" => {
                let wanted = |map: &Map| map.key.len() == 1 && map.value == Some(Int);
                if !self.maps.iter().any(wanted) {
                    return "print(2);".to_owned();
                }
                let name = self.fresh();
                let (map, key) = self.any_map(wanted);
                let key = key.strip_prefix('[').and_then(|key| key.strip_suffix(']')).unwrap_or_default();
                format!("${name} = 0; if (find({map}, {key}, ${name})) {{ print(${name}); }}")
            }
            "set" => {
                let kind = self.kind();
                let value = self.expr(kind);
                if self.vars.iter().any(|(_, it)| *it == kind) && self.random.one_in(2) {
                    return format!("{} = {value};", self.var(kind));
                }
                let name = self.fresh();
                if kind != Word {
                    self.vars.push((name.clone(), kind));
                }
                format!("${name} = {value};")
            }
            "store" => {
                let map = self.random.below(self.maps.len());
                self.store(map)
            }
            "gather" => {
                let gathering: Vec<usize> =
                    (0..self.maps.len()).filter(|map| self.maps[*map].value.is_none()).collect();
                if gathering.is_empty() {
                    return "print(1);".to_owned();
                }
                let map = self.pick(&gathering);
                self.store(map)
            }
            "printf" => self.printf(),
            "body" => self.nested(),
            "looping" => {
                let more = self.pick(&["", "if (<bool>) { break; }", "if (<bool>) { continue; }"]);
                self.expand(more) + &self.nested()
            }
            "callback" | "each" => {
                let name = self.name.clone();
                let shown = if name.is_empty() { String::new() } else { format!("print(${name}); ") };
                let more = self.pick(&["", "if (<bool>) { break; }", "if (<bool>) { continue; }"]);
                let was = std::mem::replace(&mut self.in_callback, true);
                let text = self.expand(more) + &self.nested();
                self.in_callback = was;
                shown + &text
            }
            other => unreachable!("no rule is called {other}"),
        }
    }

    fn nested(&mut self) -> String {
        let count = 1 + self.random.below(3);
        self.body(count)
    }

    fn expr(&mut self, kind: Kind) -> String {
        let (short, long) = rules(kind);
        let table = if self.depth >= DEPTH || self.random.one_in(2) { short } else { long };
        let rule = way(self.random, table);
        self.depth += 1;
        let text = self.expand(rule);
        self.depth -= 1;
        text
    }

    fn var(&mut self, kind: Kind) -> String {
        let of: Vec<&String> = self.vars.iter().filter(|(_, it)| *it == kind).map(|(name, _)| name).collect();
        if of.is_empty() {
            let rule = way(self.random, rules(kind).0);
            return if rule.contains("var>") { "0".to_owned() } else { self.expand(rule) };
        }
        let at = self.random.below(of.len());
        format!("${}", of[at])
    }

    /// A map with values of a kind, with its key.
    fn map(&mut self, kind: Kind) -> String {
        if !self.maps.iter().any(|map| map.value == Some(kind)) {
            let rule = way(self.random, rules(kind).0);
            return self.expand(rule);
        }
        let (name, key) = self.any_map(|map| map.value == Some(kind));
        name + &key
    }

    /// Some map that is wanted, or the first; and a key for it in brackets, empty without one.
    fn any_map(&mut self, wanted: impl Fn(&Map) -> bool) -> (String, String) {
        let found: Vec<usize> = (0..self.maps.len()).filter(|at| wanted(&self.maps[*at])).collect();
        let at = if found.is_empty() { 0 } else { self.pick(&found) };
        (self.maps[at].name.clone(), self.key(at))
    }

    fn key(&mut self, map: usize) -> String {
        let kinds = self.maps[map].key.clone();
        if kinds.is_empty() {
            return String::new();
        }
        self.depth += 1;
        let parts: Vec<String> = kinds.into_iter().map(|kind| self.expr(kind)).collect();
        self.depth -= 1;
        format!("[{}]", parts.join(", "))
    }

    fn store(&mut self, map: usize) -> String {
        let key = self.key(map);
        let value = match self.maps[map].value {
            Some(kind) => self.expr(kind),
            None => self.expand(self.maps[map].gathers),
        };
        format!("{}{key} = {value}; ", self.maps[map].name)
    }

    fn printf(&mut self) -> String {
        let (mut format, mut args) = (String::new(), String::new());
        for _ in 0..self.random.below(5) {
            let (conversion, kind) = match self.random.below(6) {
                0 | 1 => (self.pick(&CONVERSIONS), Int),
                2 => (self.pick(&["%r", "%rx", "%rh"]), Kind::Buffer),
                3 => (self.pick(&["%s", "%-20s", "%.5s", "%10.3s"]), Text),
                _ => ("%s", self.kind()),
            };
            format = format + " " + conversion;
            args += &format!(", {}", self.expr(kind));
        }
        format!("printf(\"x{format}\\n\"{args});")
    }

    fn literal(&mut self) -> String {
        match self.random.below(8) {
            0 => format!("{}", self.random.interesting() as i64),
            1 => format!("{:#x}", self.random.interesting()),
            2 => self.pick(&["1e6", "1_000", "5ms", "017", "1s", "10UL"]).to_owned(),
            3 => format!("(-{})", self.random.below(300)),
            _ => self.random.below(100).to_string(),
        }
    }
}

/// One of `corpus`, or the front of one and the back of another, with some tokens changed.
pub fn mutated(seed: u64, corpus: &[String]) -> String {
    let random = &mut Random::new(seed);
    let one = |random: &mut Random| tokens(corpus.get(random.below(corpus.len())).map_or("", |text| text));
    let mut tokens = one(random);
    if random.one_in(5) {
        let other = one(random);
        tokens.truncate(random.below(tokens.len() + 1));
        tokens.extend_from_slice(&other[random.below(other.len() + 1)..]);
    }
    for _ in 0..random.below(5) {
        let at = random.below(tokens.len());
        let other = random.below(tokens.len());
        let len = (1 + random.below(8)).min(tokens.len().saturating_sub(at));
        match random.below(8) {
            0 => drop(tokens.drain(at..at + len)),
            1 => {
                let copy = tokens[at..at + len].to_vec();
                let to = other.min(tokens.len());
                tokens.splice(to..to, copy);
            }
            2 if !tokens.is_empty() => tokens.swap(at, other),
            3 if !tokens.is_empty() => tokens[at] = format!(" {}", way(random, rule("mistake"))),
            4 if !tokens.is_empty() => tokens[at] = format!(" {}", random.interesting()),
            _ => change(random, &mut tokens),
        }
    }
    tokens.concat()
}

/// Puts something of the same sort at the place of a token.
fn change(random: &mut Random, tokens: &mut [String]) {
    let sort = |token: &str| match token.trim_start().as_bytes().first() {
        Some(b'0'..=b'9') => 0,
        Some(b'"') => 1,
        Some(b'$') => 2,
        Some(b'@') => 3,
        Some(b'a'..=b'z' | b'A'..=b'Z' | b'_') => 4,
        _ => 5,
    };
    if tokens.is_empty() {
        return;
    }
    let at = random.below(tokens.len());
    let sort_at = sort(&tokens[at]);
    tokens[at] = match sort_at {
        0 if random.one_in(2) => format!(" {}", random.interesting()),
        4 if random.one_in(2) => format!(" {}", way(random, rule("mistake"))),
        5 => way(random, "+  -  *  /  %  &  |  ^  <<  >>  ,  ;").to_owned(),
        _ => {
            let same: Vec<&String> = tokens.iter().filter(|token| sort(token) == sort_at).collect();
            same[random.below(same.len())].clone()
        }
    };
}

/// One of the ways of a table.
fn way<'a>(random: &mut Random, table: &'a str) -> &'a str {
    let ways: Vec<&str> = table.split("  ").flat_map(str::lines).collect();
    ways[random.below(ways.len())]
}

/// The tokens of a text, each with what stands between it and the one before.
fn tokens(text: &str) -> Vec<String> {
    let mut lexer = Lexer::new(Sources::default().add("random.bt", text), text);
    let mut tokens = Vec::new();
    let mut end = 0;
    loop {
        let token = lexer.token();
        tokens.push(text[end..token.end].to_owned());
        end = token.end;
        if token.kind == TokenKind::Eof {
            return tokens;
        }
    }
}

//! Arguments and types from the debugging information of a program that is compiled here.

#[allow(dead_code, reason = "other tests use the rest")]
mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use skep_kernel::LiveTarget;
use skep_script::ast::{AttachPoint, Item};
use skep_script::check::{check, dump};
use skep_script::dwarf::{Dwarf, Tag};
use skep_script::plan::Config;
use skep_script::points::{ArgAt, Resolver};
use skep_script::structs::Structs;
use skep_script::target::{Architecture, DebugInfo, Target};
use skep_script::{Options, Sources, Span, parser};
use skep_spec::target::TargetError;

/// The program, compiled with `flags`; `None` without a compiler. Every test has its own, so that none waits for another.
fn compiled(name: &str, flags: &[&str]) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dwarf");
    std::fs::create_dir_all(&folder).expect("a folder for the program");
    let program = folder.join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/args.c");
    let done = Command::new("gcc").args(flags).arg(source).arg("-o").arg(&program).status();
    match done {
        Ok(status) => {
            assert!(status.success(), "gcc {flags:?}");
            Some(program)
        }
        Err(_) => {
            println!("skipped: needs gcc");
            None
        }
    }
}

/// The checked script, or what is wrong; `BIN` is the program.
fn checked(text: &str, program: &Path) -> String {
    let shown = program.display().to_string();
    let mut sources = Sources::default();
    let id = sources.add("stdin", text.replace("BIN", &shown));
    let (script, mut diagnostics) = parser::parse(&sources, id);
    let (typed, found) = check(&script, &sources, &Options::default(), &LiveTarget::shared());
    diagnostics.extend(found);
    // Columns depend on the length of the path.
    let mut out: String = diagnostics.iter().map(|it| format!("{}\n", it.message)).collect();
    if !diagnostics.iter().any(|it| it.severity == skep_script::Severity::Error) {
        out.push_str(&dump(&typed));
    }
    out.replace(&shown, "BIN")
}

#[test]
fn scripts_see_arguments_and_types() {
    let Some(program) = compiled("cases", &["-g", "-O0"]) else { return };
    common::check("dwarf", |_, text| checked(text, &program));
}

/// The arguments of a function: types, names and places.
fn arguments(program: &Path, function: &str) -> String {
    let target = LiveTarget::shared();
    let (options, config, sources) = (Options::default(), Config::default(), Sources::default());
    let (structs, _) = Structs::new(&target, &options, &sources, &[]);
    let resolver =
        Resolver { target: &target, structs: &structs, options: &options, config: &config, every_name: false };
    let parts = ["uprobe".to_owned(), program.display().to_string(), function.to_owned()];
    let point = AttachPoint { text: parts.join(":"), parts: parts.to_vec(), span: Span::default() };
    let mut diagnostics = Vec::new();
    let found = resolver.resolve(&point, &mut diagnostics);
    let Some(point) = found.first() else { return diagnostics.iter().map(|it| it.message.clone()).collect() };
    match resolver.args(point, Span::default()) {
        Ok(args) => {
            let one = |arg: &skep_script::points::Arg| {
                let at = match arg.at {
                    ArgAt::Argument { slot, .. } => format!("{slot}"),
                    ArgAt::Pointee { slot } => format!("*{slot}"),
                    ArgAt::Absent(_) => "-".to_owned(),
                    other => format!("{other:?}"),
                };
                format!("{} {}@{at}", arg.ty, arg.name)
            };
            args.fields.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        Err(error) => error.message.clone(),
    }
}

#[cfg(target_arch = "x86_64")]
const VALUES: &str = "struct point small@0, struct large large@6, double weight@-, int32 seventh@1, int32 a@2, int32 b@3, int32 c@4, \
                      int32 d@5, struct point last@10";
#[cfg(target_arch = "aarch64")]
const VALUES: &str = "struct point small@0, struct large large@*1, double weight@-, int32 seventh@2, int32 a@3, int32 b@4, int32 c@5, \
                      int32 d@6, struct point last@7";

/// The same answers from every version of the format, optimised or not, compressed or not.
#[test]
fn every_version_of_the_format_is_read() {
    let ways: [(&str, &[&str]); 8] = [
        ("dwarf5", &["-gdwarf-5", "-O0"]),
        ("dwarf4", &["-gdwarf-4", "-O2"]),
        ("dwarf3", &["-gdwarf-3", "-gstrict-dwarf", "-O1"]),
        ("dwarf2", &["-gdwarf-2", "-gstrict-dwarf", "-O0"]),
        ("optimised", &["-g", "-O2", "-flto"]),
        ("units", &["-gdwarf-4", "-fdebug-types-section"]),
        ("units5", &["-gdwarf-5", "-fdebug-types-section"]),
        ("compressed", &["-g", "-gz=zlib"]),
    ];
    for (name, flags) in ways {
        let Some(program) = compiled(name, flags) else { return };
        assert_eq!(
            arguments(&program, "numbers"),
            "int32 a@0, uint8 b@1, uint64 c@2, bool set@3, enum color color@4, struct point * p@5",
            "{name}"
        );
        assert_eq!(
            arguments(&program, "pointers"),
            "struct foo * foo@0, int8 * text@1, int8 * * list@2,  * unnamed@3, void * call@4",
            "{name}"
        );
        assert_eq!(arguments(&program, "values"), VALUES, "{name}");
        let text =
            "uprobe:BIN:main { $f = (struct foo *)arg0; print(($f->low, $f->high, $f->wide, $f->matrix[1][0])); }";
        let members = checked(text, &program);
        for part in ["+44 bits 0..3 user", "+44 bits 3..8 user", "+48 bits 0..40 user", "+32 user"] {
            assert!(members.contains(part), "{name}: no {part} in {members}");
        }
    }
}

/// Sections that were split off are found through `.gnu_debuglink`.
#[test]
fn split_debugging_information_is_found() {
    let Some(program) = compiled("split", &["-g", "-O0", "-Wl,--build-id=none"]) else { return };
    let debug = program.with_extension("debug");
    let run = |args: &[&std::ffi::OsStr]| Command::new("objcopy").args(args).status().is_ok_and(|it| it.success());
    if !run(&["--only-keep-debug".as_ref(), program.as_os_str(), debug.as_os_str()]) {
        println!("skipped: needs objcopy");
        return;
    }
    let mut link = std::ffi::OsString::from("--add-gnu-debuglink=");
    link.push(&debug);
    assert!(run(&["--strip-debug".as_ref(), &link, program.as_os_str()]));
    assert!(arguments(&program, "numbers").starts_with("int32 a@0, "), "{}", arguments(&program, "numbers"));
    // Another build's file has its name, and without a build id the checksum tells.
    let bytes = std::fs::read(&debug).expect("it was found");
    std::fs::write(&debug, [&bytes[..], b"x"].concat()).expect("ours");
    assert!(arguments(&program, "numbers").contains("has no debugging information"));
    std::fs::remove_file(&debug).expect("ours");
    assert!(arguments(&program, "numbers").contains("has no debugging information"));
}

/// Sections of a file, some bytes of them changed.
struct Broken(std::collections::HashMap<&'static str, Vec<u8>>);

impl DebugInfo for Broken {
    fn architecture(&self) -> Architecture {
        Architecture::X86_64
    }

    fn big_endian(&self) -> bool {
        false
    }

    fn section(&self, name: &str) -> Result<Vec<u8>, TargetError> {
        Ok(self.0.get(name).cloned().unwrap_or_default())
    }
}

/// Bytes that make no sense give errors or other answers, and give them soon.
#[test]
fn broken_sections_end_in_errors() {
    const NAMES: [&str; 9] = [
        ".debug_info",
        ".debug_abbrev",
        ".debug_line",
        ".debug_aranges",
        ".debug_str",
        ".debug_line_str",
        ".debug_rnglists",
        ".debug_ranges",
        ".debug_types",
    ];
    for (name, flags) in [("broken5", ["-gdwarf-5", "-O2"]), ("broken4", ["-gdwarf-4", "-fdebug-types-section"])] {
        let Some(program) = compiled(name, &flags) else { return };
        let target = LiveTarget::shared();
        let whole = target.debug_info(&program).expect("readable").expect("compiled with it");
        let sections: Vec<(&str, Vec<u8>)> =
            NAMES.map(|name| (name, whole.section(name).expect("readable"))).into_iter().collect();
        let address = target.user_symbol(&program, "pointers").expect("readable").expect("a function").address;
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize
        };
        let (mut answers, mut errors) = (0, 0);
        for _ in 0..3000 {
            let mut changed: std::collections::HashMap<&'static str, Vec<u8>> = sections.iter().cloned().collect();
            for _ in 0..1 + random() % 6 {
                // Mostly the sections that lead somewhere.
                let Some(bytes) = changed.get_mut(NAMES[random() % 9].min(NAMES[random() % 3])) else { continue };
                if bytes.is_empty() {
                    continue;
                }
                let at = random() % bytes.len();
                match random() % 4 {
                    0 => bytes.truncate(at),
                    1 => bytes[at] = 0xff,
                    _ => bytes[at] = random() as u8,
                }
            }
            let Ok(Some(dwarf)) = Dwarf::open(&Broken(changed)) else { continue };
            let asked = [
                dwarf.function(address).is_ok(),
                dwarf.type_named(Tag::Struct, "foo").is_ok(),
                dwarf.lines("args.c", 54, None).is_ok(),
            ];
            answers += asked.iter().filter(|ok| **ok).count();
            errors += asked.iter().filter(|ok| !**ok).count();
        }
        assert!(answers > 100 && errors > 100, "{name}: {answers} answers, {errors} errors");
    }
}

#[test]
fn scripts_parse() {
    let mut sources = Sources::default();
    let id = sources.add("stdin", "uprobe:a@b.c:10:3 { }");
    let (script, diagnostics) = parser::parse(&sources, id);
    assert!(diagnostics.is_empty());
    let Some(Item::Probe(probe)) = script.items.first() else { panic!("a probe") };
    assert_eq!(probe.points[0].parts, ["uprobe", "a@b.c", "10", "3"]);
}

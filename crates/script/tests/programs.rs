//! Scripts that run: each case of `tests/cases/run` is compiled, loaded into this kernel and run to its end; what it printed
//! is compared. Scripts of `tests/cases/load` depend on the machine: they only have to compile and to load.

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;

use std::fmt::Write;
use std::time::Duration;

use skep_engine::{LoadOptions, Session as _};
use skep_kernel::{KernelEngine, LiveTarget};
use skep_run::trace;
use skep_script::compile::{Compiled, compile};
use skep_script::{Options, Sources};
use skep_sys::caps::{Cap, Caps};

/// The cases travel with the test, into machines that have no files of ours.
const RUN: [(&str, &str); 5] = [
    ("loops", include_str!("cases/run/loops.case")),
    ("maps", include_str!("cases/run/maps.case")),
    ("records", include_str!("cases/run/records.case")),
    ("scalars", include_str!("cases/run/scalars.case")),
    ("strings", include_str!("cases/run/strings.case")),
];
const LOAD: [(&str, &str); 2] =
    [("functions", include_str!("cases/load/functions.case")), ("probes", include_str!("cases/load/probes.case"))];

fn may_load() -> bool {
    let may = Caps::effective().has(Cap::SYS_ADMIN);
    if !may {
        println!("skipped: needs CAP_SYS_ADMIN");
    }
    may
}

fn compiled(text: &str, options: &Options) -> Result<(Sources, Compiled), String> {
    let mut sources = Sources::default();
    let id = sources.add("case.bt", text);
    let compiled = compile(&mut sources, id, options, &LiveTarget::shared());
    if compiled.has_errors() {
        let messages: Vec<String> = compiled.diagnostics.iter().map(|it| it.message.clone()).collect();
        return Err(format!("does not compile: {}", messages.join("; ")));
    }
    Ok((sources, compiled))
}

fn run(text: &str) -> String {
    let (sources, Compiled { spec, plan, .. }) =
        match compiled(text, &Options { allow_unsafe: true, ..Options::default() }) {
            Ok(compiled) => compiled,
            Err(message) => return message,
        };
    let script = trace::Script { spec, plan, sources };
    let options = trace::Options { duration: Some(Duration::from_secs(5)), ..trace::Options::default() };
    let (mut out, mut notices) = (Vec::new(), String::new());
    let outcome = trace::run(script, &options, &KernelEngine::new(), &mut out, &mut |notice| match notice {
        trace::Notice::Attached { .. } | trace::Notice::Loaded { .. } => {}
        trace::Notice::Diagnostic(diagnostic) => {
            let _ = writeln!(notices, "! {}", diagnostic.message);
        }
        other => {
            let _ = writeln!(notices, "! {other:?}");
        }
    });
    let mut text = String::from_utf8_lossy(&out).into_owned();
    match outcome {
        Ok(outcome) if outcome.exit_code != 0 => {
            let _ = writeln!(text, "exit code {}", outcome.exit_code);
        }
        Ok(_) => {}
        Err(error) => {
            let _ = writeln!(text, "error: {error}\n{}", last_lines(error.log().unwrap_or_default()));
        }
    }
    text + &notices
}

/// The end of the verifier's log, where the reason is.
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

#[test]
fn scripts_print_what_they_say() {
    if !may_load() {
        return;
    }
    if std::env::var_os("SKEP_BLESS").is_some() {
        return common::check("run", |_, text| run(text));
    }
    let mut wrong = String::new();
    for (file, text) in RUN {
        for case in common::parse(text) {
            let found = run(&case.input);
            if found.trim_end() != case.expected {
                let _ = writeln!(
                    wrong,
                    "--- {file}: {}\n{}\n=== expected\n{}\n=== found\n{found}\n",
                    case.name, case.input, case.expected
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}SKEP_BLESS=1 accepts what was found");
}

/// An output that is full as soon as a file is there.
struct FullWith<'a>(&'a std::path::Path);

impl std::io::Write for FullWith<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.exists() { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_command_ends_with_a_run_that_fails() {
    if !may_load() {
        return;
    }
    let file = std::env::temp_dir().join(format!("skep-command-{}", std::process::id()));
    let shown = file.display();
    let options = Options::default();
    let (sources, Compiled { spec, plan, .. }) = compiled("interval:ms:10 { print(1); }", &options).unwrap();
    let options = trace::Options {
        command: Some(format!("sh -c 'echo $$ > {shown}.part; mv {shown}.part {shown}; exec sleep 1000'")),
        duration: Some(Duration::from_secs(60)),
        ..trace::Options::default()
    };
    let mut out = FullWith(&file);
    let outcome =
        trace::run(trace::Script { spec, plan, sources }, &options, &KernelEngine::new(), &mut out, &mut |_| {});
    assert!(outcome.is_err(), "{outcome:?}");
    let pid = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    // Nobody waits for it, so it stays a zombie.
    let end = std::time::Instant::now() + Duration::from_secs(60);
    let stat = format!("/proc/{}/stat", pid.trim());
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(std::time::Instant::now() < end, "process {pid} is still there");
        std::thread::yield_now();
    }
}

#[test]
fn too_much_stack_is_told_where_it_is() {
    let mut text = "fn f0($a : int64) : int64 { return $a; }\n".to_owned();
    for at in 1..20 {
        let below = at - 1;
        let _ = writeln!(text, "fn f{at}($a : int64) : int64 {{ return f{below}($a) + 1; }}");
    }
    text.push_str("begin { print(f19(1)); exit(); }");
    let mut sources = Sources::default();
    let id = sources.add("case.bt", text.as_str());
    let found = compile(&mut sources, id, &Options::default(), &LiveTarget::shared()).diagnostics;
    let error = found.iter().find(|it| it.message.contains("bytes of stack")).unwrap_or_else(|| panic!("{found:?}"));
    let function = error.message.split('`').nth(1).expect("it names the function");
    let span = error.span.expect("it has a place");
    let line = text[..span.start as usize].rsplit('\n').next().unwrap_or_default();
    assert!(line.starts_with(&format!("fn {function}(")), "{function}: {line}");
    assert!(!error.hints.is_empty() && !error.message.contains("bug"), "{error:?}");
}

#[test]
fn scripts_load() {
    if !may_load() {
        return;
    }
    let mut wrong = String::new();
    for (file, text) in LOAD {
        for case in common::parse(text) {
            if let Err(error) = load(&case.input) {
                let _ = writeln!(wrong, "--- {file}: {}\n{}\n=== {error}\n", case.name, case.input);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The tools that come with skep. Those that ask for what this kernel has not are no business of the generated code.
#[test]
fn tools_load() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools");
    if !may_load() || !folder.exists() {
        return;
    }
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).expect("the tools").map(|it| it.expect("a file").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "bt"));
    paths.sort();
    let (mut wrong, mut loaded) = (String::new(), 0);
    for path in &paths {
        let text = std::fs::read_to_string(path).expect("a script");
        match load(&text) {
            Ok(()) => loaded += 1,
            Err(error) if error.starts_with("does not compile") => println!("{}: {error}", path.display()),
            Err(error) => {
                let _ = writeln!(wrong, "--- {}\n{error}\n", path.display());
            }
        }
    }
    println!("{loaded} of {} load", paths.len());
    assert!(wrong.is_empty(), "{wrong}");
}

fn load(text: &str) -> Result<(), String> {
    let options = Options { allow_unsafe: true, ..Options::default() };
    let (_, compiled) = compiled(text, &options)?;
    let session =
        KernelEngine::new().load(compiled.spec, &LoadOptions::default()).map_err(|error| error.to_string())?;
    for loaded in session.programs() {
        if let Err(error) = &loaded.result {
            return Err(format!("{error}\n{}", last_lines(error.log().unwrap_or_default())));
        }
    }
    Ok(())
}

//! Random scripts, and scripts with random mistakes: every stage ends without a panic, and what compiles loads.
//!
//! `SKEP_SCRIPT_COUNT` says how many (with `SKEP_SCRIPT_SEED` for the first), to hunt for more than a test run has time for.

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;
mod machine;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use skep_engine::{LoadOptions, Session as _};
use skep_kernel::{KernelEngine, LiveTarget};
use skep_script::compile::{Compiled, compile};
use skep_script::{Options, Severity, Sources, Target, random};
use skep_spec::{MapType, Spec};
use skep_sys::caps::{Cap, Caps};

use machine::Machine;

/// Longer than any script needs, even on a busy machine.
const HANG: Duration = Duration::from_secs(20);
/// Maps of more bytes are not made: what a script asks for is given, and these ask at random.
const MAPS_MAX: u64 = 64 << 20;

/// FIXME: wrong, and known: counted and shown, but what fails a test is what is new.
const KNOWN: [&str; 4] = [
    // Some value of more than a word is taken for a number.
    "are outside of slot",
    // A variable of the frame is read behind the end of what a callback was given.
    "invalid read from stack",
    // Searches in long texts inside of loops cost more branches than the verifier follows.
    "jumps is too complex",
    // `override` outside of what may be overridden, or on a kernel without it.
    "cannot use helper bpf_override_return",
];

/// What became of the scripts.
#[derive(Default)]
struct Counts {
    compiled: u64,
    /// Not compiled, with a diagnostic.
    refused: u64,
    /// The first diagnostics of those that the grammar made, alike ones together, and a seed of each.
    reasons: BTreeMap<String, (u64, u64)>,
    loaded: u64,
    /// Not loaded for what the machine lacks, or asking for too much memory.
    not_here: u64,
    /// Panics and refusals of the verifier, alike ones together: how many, and the first of them.
    wrong: BTreeMap<String, (u64, String)>,
    slowest: (Duration, u64),
}

impl Counts {
    fn wrong(&mut self, what: &str, seed: u64, text: &str) {
        let entry = self.wrong.entry(alike(what)).or_insert_with(|| (0, format!("seed {seed}: {what}\n{text}")));
        entry.0 += 1;
        if text.len() + what.len() < entry.1.len() {
            entry.1 = format!("seed {seed}: {what}\n{text}");
        }
    }
}

/// The last line of a message, without its numbers.
fn alike(what: &str) -> String {
    let line = what.lines().rfind(|line| !line.starts_with("processed ") && !line.trim().is_empty()).unwrap_or(what);
    // Which function it is says nothing.
    let line = if line.starts_with("function `") { line.split_once(", ").map_or(line, |(_, rest)| rest) } else { line };
    let mut text = String::new();
    for part in line.split_inclusive(|byte: char| !byte.is_ascii_digit()) {
        let tail = part.trim_start_matches(|byte: char| byte.is_ascii_digit());
        text += if tail.len() == part.len() { "" } else { "N" };
        text += tail;
    }
    text
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default)
}

/// The scripts of this repository and its cases.
fn corpus() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut dirs = vec![root.join("../../tools"), root.join("tests/cases"), PathBuf::from("/usr/sbin")];
    let mut files = Vec::new();
    while let Some(dir) = dirs.pop() {
        for path in std::fs::read_dir(&dir).into_iter().flatten().map_while(Result::ok).map(|entry| entry.path()) {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("bt" | "case") => files.push(path),
                None if path.is_dir() => dirs.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    let mut texts = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        match path.extension() {
            Some(extension) if extension == "case" => texts.extend(common::parse(&text).into_iter().map(|it| it.input)),
            _ => texts.push(text),
        }
    }
    texts
}

fn is_mutated(seed: u64) -> bool {
    seed.is_multiple_of(4)
}

/// Three of four are made by the grammar; the others are scripts that were changed.
fn text(seed: u64, corpus: &[String]) -> String {
    if is_mutated(seed) { random::mutated(seed, corpus) } else { random::script(seed) }
}

fn compiled(text: &str, target: &dyn Target) -> Compiled {
    let mut sources = Sources::default();
    let id = sources.add("random.bt", text);
    let options = Options {
        params: vec!["5".to_owned(), "text".to_owned()],
        allow_unsafe: true,
        // Big maps are slow to make, and the machine is not ours alone.
        config: [("max_probes", "64"), ("max_map_keys", "64"), ("perf_rb_pages", "64")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec(),
        ..Options::default()
    };
    compile(&mut sources, id, &options, target)
}

/// Runs `judge` on the compiled script of every seed; a script that takes too long ends the process.
fn hunt(first: u64, count: u64, target: &dyn Target, mut judge: impl FnMut(Spec) -> Result<bool, String>) -> Counts {
    let corpus = corpus();
    let mut counts = Counts::default();
    let (busy_with, done) = (AtomicU64::new(first), AtomicU64::new(0));
    let silent = std::panic::take_hook();
    let place = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let keep = place.clone();
    std::panic::set_hook(Box::new(move |info| {
        *keep.lock().expect("no panic in here") = info.location().map(ToString::to_string).unwrap_or_default();
    }));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = (u64::MAX, Instant::now());
            while done.load(Relaxed) == 0 {
                std::thread::sleep(Duration::from_millis(200));
                let seed = busy_with.load(Relaxed);
                if last.0 != seed {
                    last = (seed, Instant::now());
                } else if last.1.elapsed() > HANG {
                    println!("seed {seed} does not end:\n{}", text(seed, &corpus));
                    std::process::exit(1);
                }
            }
        });
        for seed in first..first + count {
            busy_with.store(seed, Relaxed);
            let text = text(seed, &corpus);
            if let Some(path) = std::env::var_os("SKEP_SCRIPT_LAST") {
                // A stack that overflows leaves nothing else behind.
                let _ = std::fs::write(path, format!("// seed {seed}\n{text}"));
            }
            let start = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let compiled = compiled(&text, target);
                if compiled.has_errors() {
                    let first = compiled.diagnostics.into_iter().find(|it| it.severity == Severity::Error);
                    let message = first.map(|it| it.message).unwrap_or_default();
                    // The form between must be whole, whatever was written.
                    return if message.starts_with("function `") { Ok(Err(message)) } else { Err(message) };
                }
                Ok(judge(compiled.spec))
            }));
            if start.elapsed() > counts.slowest.0 {
                counts.slowest = (start.elapsed(), seed);
            }
            counts.compiled += u64::from(matches!(outcome, Ok(Ok(_))));
            match outcome {
                Ok(Err(reason)) => {
                    counts.refused += 1;
                    if !is_mutated(seed) {
                        counts.reasons.entry(alike(&reason)).or_insert((0, seed)).0 += 1;
                    }
                }
                Ok(Ok(Ok(true))) => counts.loaded += 1,
                Ok(Ok(Ok(false))) => counts.not_here += 1,
                Ok(Ok(Err(error))) => counts.wrong(&error, seed, &text),
                Err(panic) => {
                    let message = panic.downcast_ref::<String>().map(String::as_str);
                    let message = message.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?");
                    let place = place.lock().expect("no panic in there").clone();
                    counts.wrong(&format!("panic: {message} at {place}"), seed, &text);
                }
            }
        }
        done.store(1, Relaxed);
    });
    std::panic::set_hook(silent);
    counts
}

fn load(spec: Spec) -> Result<bool, String> {
    let cpus = u64::from(LiveTarget::shared().possible_cpus());
    let bytes = |map: &skep_spec::Map| match map.map_type {
        MapType::RINGBUF => u64::from(map.max_entries),
        _ => (u64::from(map.key_size) + u64::from(map.value_size) * cpus + 64) * u64::from(map.max_entries),
    };
    if spec.maps.iter().map(bytes).sum::<u64>() > MAPS_MAX {
        return Ok(false);
    }
    let session = match KernelEngine::new().load(spec, &LoadOptions::default()) {
        Ok(session) => session,
        Err(error) => return Err(format!("load: {error}")),
    };
    for loaded in session.programs() {
        if let Err(error) = &loaded.result {
            let log = error.log().unwrap_or_default();
            if log.is_empty() && error.kind() != skep_engine::ErrorKind::Other {
                return Ok(false);
            }
            let lines: Vec<&str> = log.lines().collect();
            return Err(format!("{error}\n{}", lines[lines.len().saturating_sub(30)..].join("\n")));
        }
    }
    Ok(true)
}

fn judge(counts: &Counts) {
    println!(
        "{} compiled, {} refused with a diagnostic; {} loaded, {} not for this machine; the slowest took {:?} (seed {})",
        counts.compiled, counts.refused, counts.loaded, counts.not_here, counts.slowest.0, counts.slowest.1
    );
    let mut reasons: Vec<_> = counts.reasons.iter().map(|(what, (count, seed))| (count, what, seed)).collect();
    reasons.sort_by(|a, b| b.cmp(a));
    for (count, what, seed) in reasons.iter().take(number("SKEP_SCRIPT_REASONS", 5) as usize) {
        println!("{count:6} refused: {what} (seed {seed})");
    }
    let mut text = String::new();
    for (what, (count, first)) in &counts.wrong {
        if !KNOWN.iter().any(|known| what.contains(known)) {
            text += &format!("=== {count} times: {what}\n{first}\n\n");
        } else if std::env::var_os("SKEP_SCRIPT_COUNT").is_some() {
            println!("=== {count} times, known: {what}\n{first}\n");
        } else {
            println!("=== {count} times, known: {what}");
        }
    }
    assert!(text.is_empty(), "{text}");
}

/// Shows the script of `SKEP_SCRIPT_SHOW` and what is said about it.
fn show() {
    let Some(seed) = std::env::var("SKEP_SCRIPT_SHOW").ok().and_then(|it| it.parse().ok()) else { return };
    let text = text(seed, &corpus());
    println!("{text}");
    for diagnostic in compiled(&text, &LiveTarget::shared()).diagnostics {
        let at = diagnostic.span.map_or("", |span| text.get(span.range()).unwrap_or_default());
        println!("{:?}: {} [{at}]", diagnostic.severity, diagnostic.message);
    }
}

/// As many as there is time for: an emulated processor takes twenty times as long.
fn scripts(count: u64) -> u64 {
    let emulated = std::fs::read_to_string("/sys/class/dmi/id/sys_vendor").is_ok_and(|vendor| vendor.trim() == "QEMU");
    if emulated { count / 20 } else { count }
}

#[test]
fn random_scripts_compile_or_are_refused() {
    show();
    let counts = hunt(0, number("SKEP_SCRIPT_COMPILE", scripts(2000)), &Machine::new(), |_| Ok(true));
    judge(&counts);
    assert!(counts.compiled > counts.refused / 2, "only {} compile", counts.compiled);
}

#[test]
fn random_scripts_that_compile_load() {
    if !Caps::effective().has(Cap::SYS_ADMIN) {
        println!("skipped: needs CAP_SYS_ADMIN");
        return;
    }
    let counts =
        hunt(number("SKEP_SCRIPT_SEED", 0), number("SKEP_SCRIPT_COUNT", scripts(300)), &LiveTarget::shared(), load);
    judge(&counts);
}

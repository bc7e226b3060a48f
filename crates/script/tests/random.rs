//! Random scripts, and scripts with random mistakes: every stage ends without a panic, and what compiles loads.
//!
//! To hunt for more than a test run has time for:
//!
//! ```text
//! SKEP_SCRIPT_COUNT=200000 cargo test -p skep-script --test random that_compile_load -- --nocapture
//! ```
//!
//! `SKEP_SCRIPT_SEED` is the first seed, `SKEP_SCRIPT_JOBS` how many are worked on at a time, `SKEP_SCRIPT_KEEP` a folder for
//! the scripts that show a bug. `SKEP_SCRIPT_SHOW` prints the script of a seed and what is said about it.

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;
mod machine;

use std::cell::RefCell;
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

/// Longer than any script needs, even one that asks for every place there is on a busy machine.
const HANG: Duration = Duration::from_secs(120);
/// Maps of more bytes are not made: what a script asks for is given, and these ask at random.
const MAPS_MAX: u64 = 64 << 20;

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
    fn join(&mut self, other: Counts) {
        self.compiled += other.compiled;
        self.refused += other.refused;
        self.loaded += other.loaded;
        self.not_here += other.not_here;
        self.slowest = self.slowest.max(other.slowest);
        for (what, (count, seed)) in other.reasons {
            self.reasons.entry(what).or_insert((0, seed)).0 += count;
        }
        for (what, (count, first)) in other.wrong {
            let entry = self.wrong.entry(what).or_insert_with(|| (0, first.clone()));
            entry.0 += count;
            if first.len() < entry.1.len() {
                entry.1 = first;
            }
        }
    }

    fn wrong(&mut self, what: &str, seed: u64, text: &str) {
        if let Some(folder) = std::env::var_os("SKEP_SCRIPT_KEEP") {
            let told: String = what.lines().map(|line| format!("// {line}\n")).collect();
            let _ = std::fs::write(Path::new(&folder).join(format!("{seed}.bt")), told + text);
        }
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
    seed.is_multiple_of(2)
}

/// Half are made by the grammar; of the others, half are scripts of the corpus that were changed, half such ones.
fn text(seed: u64, corpus: &[String]) -> String {
    if !is_mutated(seed) {
        return random::script(seed);
    }
    if seed.is_multiple_of(4) {
        return random::mutated(seed, corpus);
    }
    let two = [seed, seed + 1].map(random::script);
    random::mutated(seed, &two)
}

fn compiled(text: &str, target: &dyn Target) -> Compiled {
    let mut sources = Sources::default();
    let id = sources.add("random.bt", text);
    let options = Options {
        params: vec!["5".to_owned(), "text".to_owned()],
        allow_unsafe: true,
        walks_kernel_stacks: true,
        // Big maps are slow to make, and the machine is not ours alone.
        config: [("max_probes", "64"), ("max_map_keys", "64"), ("perf_rb_pages", "64")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec(),
        ..Options::default()
    };
    compile(&mut sources, id, &options, target)
}

/// What is done with what compiled: whether it loaded, or what is wrong with it.
type Judge = fn(Spec) -> Result<bool, String>;

thread_local! {
    /// Where the last panic of this thread was.
    static PANICKED_AT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `judge` on the compiled script of every seed; a script that takes too long ends the process.
fn hunt(first: u64, count: u64, target: &(dyn Target + Sync), judge: Judge) -> Counts {
    let corpus = corpus();
    let silent = std::panic::take_hook();
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        PANICKED_AT.with(|it| *it.borrow_mut() = place);
    }));
    let jobs = number("SKEP_SCRIPT_JOBS", std::thread::available_parallelism().map_or(1, |it| it.get() as u64)).max(1);
    let (next, end) = (AtomicU64::new(first), first + count);
    // What each job is busy with; `u64::MAX` when it is done.
    let busy: Vec<AtomicU64> = (0..jobs).map(|_| AtomicU64::new(first)).collect();
    let work = |busy: &AtomicU64| {
        let mut counts = Counts::default();
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= end {
                break;
            }
            busy.store(seed, Relaxed);
            one(seed, &text(seed, &corpus), target, judge, &mut counts);
        }
        busy.store(u64::MAX, Relaxed);
        counts
    };
    let mut counts = Counts::default();
    std::thread::scope(|scope| {
        scope.spawn(|| watch(&busy, &corpus));
        let handles: Vec<_> = busy.iter().map(|busy| scope.spawn(|| work(busy))).collect();
        for handle in handles {
            counts.join(handle.join().expect("panics are caught"));
        }
    });
    std::panic::set_hook(silent);
    counts
}

/// Ends the process when a job takes too long for its script.
fn watch(busy: &[AtomicU64], corpus: &[String]) {
    let mut last: Vec<(u64, Instant)> = busy.iter().map(|it| (it.load(Relaxed), Instant::now())).collect();
    while last.iter().any(|(seed, _)| *seed != u64::MAX) {
        std::thread::sleep(Duration::from_millis(50));
        for ((last, since), busy) in last.iter_mut().zip(busy) {
            let seed = busy.load(Relaxed);
            if *last != seed {
                (*last, *since) = (seed, Instant::now());
            } else if seed != u64::MAX && since.elapsed() > HANG {
                println!("seed {seed} does not end:\n{}", text(seed, corpus));
                std::process::exit(1);
            }
        }
    }
}

/// Compiles one script, judges it and counts what became of it.
fn one(seed: u64, text: &str, target: &dyn Target, judge: Judge, counts: &mut Counts) {
    if let Some(path) = std::env::var_os("SKEP_SCRIPT_LAST") {
        // A stack that overflows leaves nothing else behind.
        let _ = std::fs::write(path, format!("// seed {seed}\n{text}"));
    }
    let start = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let compiled = compiled(text, target);
        if compiled.has_errors() {
            let first = compiled.diagnostics.into_iter().find(|it| it.severity == Severity::Error);
            let message = first.map(|it| it.message).unwrap_or_default();
            // The form between must be whole, whatever was written.
            return if message.starts_with("function `") { Ok(Err(message)) } else { Err(message) };
        }
        Ok(judge(compiled.spec))
    }));
    counts.slowest = counts.slowest.max((start.elapsed(), seed));
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
        Ok(Ok(Err(error))) => counts.wrong(&error, seed, text),
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?");
            let place = PANICKED_AT.with(|it| it.borrow().clone());
            counts.wrong(&format!("panic: {message} at {place}"), seed, text);
        }
    }
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
        text += &format!("=== {count} times: {what}\n{first}\n\n");
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
    let counts = hunt(0, number("SKEP_SCRIPT_COMPILE", scripts(1000)), &Machine::new(), |_| Ok(true));
    judge(&counts);
    assert!(counts.compiled > counts.refused / 2, "only {} compile", counts.compiled);
}

#[test]
fn random_scripts_that_compile_load() {
    if !Caps::effective().has(Cap::SYS_ADMIN) {
        println!("skipped: needs CAP_SYS_ADMIN");
        return;
    }
    // Its symbols are asked for once, not with the kernel's whole list for each script.
    let walk = compiled("tracepoint:sched:sched_switch { print(kstack); }", &LiveTarget::shared()).plan.kernel_stacks;
    assert!(walk.is_none_or(|types| LiveTarget::shared().walks_kernel_stacks(types)), "this kernel lets programs walk");
    let counts =
        hunt(number("SKEP_SCRIPT_SEED", 0), number("SKEP_SCRIPT_COUNT", scripts(300)), &LiveTarget::shared(), load);
    judge(&counts);
}

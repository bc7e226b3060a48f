//! The machine in user space: the programs of `tests/bench/vm` natively, interpreted, compiled, in the kernel, and on other machines.
//!
//! Each measurement is a process of its own, and the machines take turns; of all batches the least counts. All must agree on the result,
//! of which the kernel tells the lower half. The limits are about the geometric mean of the ratios to native code, of all
//! programs but the empty one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{paths, sh};

const PROGRAMS: &[&str] = &[
    "empty",
    "prime",
    "log2",
    "strscan",
    "xorcopy",
    "parser",
    "machine",
    "murmur",
    "sha256",
    "array_count",
    "hash_update",
    "calls",
];

/// One that runs programs, and what the project promises about it.
struct Engine {
    name: &'static str,
    /// Most times that native code takes.
    limit: Option<f64>,
    /// Most microseconds that it takes to compile each program.
    compile_us: Option<f64>,
}

const ENGINES: &[Engine] = &[
    Engine { name: "native", limit: None, compile_us: None },
    Engine { name: "interpreter", limit: Some(25.0), compile_us: None },
    Engine { name: "jit", limit: None, compile_us: Some(40.0) },
    Engine { name: "jit-masked", limit: None, compile_us: Some(40.0) },
    Engine { name: "jit-plain", limit: Some(1.3), compile_us: Some(40.0) },
    Engine { name: "jit-plain-unmetered", limit: None, compile_us: None },
    Engine { name: "kernel", limit: None, compile_us: None },
    Engine { name: "rbpf-jit", limit: None, compile_us: None },
    Engine { name: "rbpf-interpreter", limit: None, compile_us: None },
];

/// Ratios of one program on one machine.
const PROGRAM_LIMITS: &[(&str, &str, f64)] = &[("jit-plain", "array_count", 0.6), ("jit-plain", "hash_update", 0.8)];
/// What one machine takes more than another, at most.
const SHARES: &[(&str, &str, &str, f64)] =
    &[("fuel", "jit-plain", "jit-plain-unmetered", 1.06), ("masked addresses", "jit-masked", "jit-plain", 1.08)];

/// How often all machines take their turn, and batches of a turn.
const ROUNDS: usize = 5;
const BATCHES: &str = "12";

/// What is known of a program on a machine.
#[derive(Clone, Copy)]
struct Least {
    ns: f64,
    compile_ns: f64,
}

type Table = BTreeMap<(&'static str, &'static str), Least>;

/// Measures, prints, and says whether the limits hold.
pub(super) fn bench() -> Result<bool> {
    let mut command = sh::cargo();
    command.args([
        "build",
        "--quiet",
        "--release",
        "--package",
        "xtask",
        "--features",
        "machines",
        "--bin",
        "machines",
    ]);
    sh::run(&mut command)?;
    let machines = paths::target().join("release/machines");
    let dir = paths::target().join("bench-vm");
    std::fs::create_dir_all(&dir)?;
    for program in PROGRAMS {
        build(&dir, program)?;
    }
    let mut table = Table::new();
    let mut absent: Vec<&str> = Vec::new();
    for _ in 0..ROUNDS {
        for program in PROGRAMS {
            let mut results = Vec::new();
            for Engine { name, .. } in ENGINES {
                if absent.contains(name) {
                    continue;
                }
                let (result, least) = match turn(&machines, &dir, name, program) {
                    Ok(measured) => measured,
                    Err(error) if *name == "kernel" && !table.contains_key(&(*name, PROGRAMS[0])) => {
                        println!("skipped: the kernel does not run the programs: {error:#}");
                        absent.push(name);
                        continue;
                    }
                    Err(error) => return Err(error.context(format!("{program} on {name}"))),
                };
                results.push((*name, result));
                let entry = table.entry((name, program)).or_insert(least);
                entry.ns = entry.ns.min(least.ns);
                entry.compile_ns = entry.compile_ns.min(least.compile_ns);
            }
            agree(program, &results)?;
        }
    }
    println!("ubpf is in no package registry, so it is left out");
    print(&table);
    Ok(judge(&table))
}

/// The program for machines, for the kernel, and natively, and its input.
fn build(dir: &Path, program: &str) -> Result<()> {
    let sources = paths::root().join("tests/bench/vm");
    let source = sources.join(format!("{program}.c"));
    let clang = |args: &[&str], sources: &[&Path], to: &str| {
        let mut command = Command::new("clang-19");
        command.args(["-O2", "-Wall"]).args(args).args(sources).arg("-o").arg(dir.join(format!("{program}{to}")));
        sh::bytes(&mut command).map(drop)
    };
    clang(&["-g", "-mcpu=v3", "-target", "bpf", "-c"], &[&source], ".o")?;
    clang(&["-g", "-mcpu=v3", "-target", "bpf", "-DKERNEL", "-c"], &[&source], ".kernel.o")?;
    clang(&[], &[&sources.join("native.c"), &source], ".native")?;
    let input = sh::bytes(Command::new(file(dir, program, ".native")).arg("--input"))?;
    std::fs::write(file(dir, program, ".input"), input)?;
    Ok(())
}

fn file(dir: &Path, program: &str, ending: &str) -> PathBuf {
    dir.join(format!("{program}{ending}"))
}

/// One turn of a machine: the result and its times.
fn turn(machines: &Path, dir: &Path, engine: &str, program: &str) -> Result<(u64, Least)> {
    let mut command = if engine == "native" {
        let mut native = Command::new(file(dir, program, ".native"));
        native.arg(BATCHES);
        native
    } else {
        let object = file(dir, program, if engine == "kernel" { ".kernel.o" } else { ".o" });
        let mut machine = Command::new(machines);
        machine.arg(engine).arg(object).arg(file(dir, program, ".input")).arg(BATCHES);
        machine
    };
    let said = sh::output(&mut command)?;
    let mut words = said.split_whitespace();
    let mut word = || words.next().with_context(|| format!("`{}` says nothing more: {said}", sh::line(&command)));
    let result = u64::from_str_radix(word()?, 16)?;
    let ns = word()?.parse()?;
    let compile_ns = word().map_or(Ok(0.0), str::parse)?;
    Ok((result, Least { ns, compile_ns }))
}

fn agree(program: &str, results: &[(&str, u64)]) -> Result<()> {
    let differs = |(name, result): &&(&str, u64)| {
        let mask = if *name == "kernel" { u64::from(u32::MAX) } else { u64::MAX };
        results.first().is_some_and(|(_, first)| first & mask != result & mask)
    };
    match results.iter().find(differs) {
        Some((name, result)) => bail!("{program}: {name} gives {result:#x}, others {results:x?}"),
        None => Ok(()),
    }
}

fn ns(table: &Table, engine: &str, program: &str) -> Option<f64> {
    table.iter().find(|((on, of), _)| *on == engine && *of == program).map(|(_, least)| least.ns)
}

/// The geometric mean of what `engine` takes, in times of what `of` takes.
fn ratio(table: &Table, engine: &str, of: &str) -> Option<f64> {
    let mut logs = Vec::new();
    for program in PROGRAMS.iter().filter(|program| **program != "empty") {
        logs.push((ns(table, engine, program)? / ns(table, of, program)?).ln());
    }
    Some((logs.iter().sum::<f64>() / logs.len() as f64).exp())
}

fn most_compile_us(table: &Table, engine: &str) -> f64 {
    table.iter().filter(|((on, _), _)| *on == engine).map(|(_, least)| least.compile_ns / 1e3).fold(0.0, f64::max)
}

fn print(table: &Table) {
    println!("ns of a run:");
    print!("| |");
    PROGRAMS.iter().for_each(|program| print!(" {program} |"));
    println!(" times native | compile, us, at most |");
    println!("|---|{}", "---|".repeat(PROGRAMS.len() + 2));
    for Engine { name, .. } in ENGINES {
        let Some(ratio) = ratio(table, name, "native") else { continue };
        print!("| {name} |");
        for program in PROGRAMS {
            print!(" {:.1} |", ns(table, name, program).unwrap_or(f64::NAN));
        }
        println!(" {ratio:.2} | {:.0} |", most_compile_us(table, name));
    }
}

/// Compares with the limits, and prints them.
fn judge(table: &Table) -> bool {
    let mut good = true;
    let mut check = |what: String, value: f64, limit: f64| {
        let fits = value <= limit;
        println!("{what}: {value:.2} (limit {limit}){}", if fits { "" } else { " <- beyond" });
        good &= fits;
    };
    for engine in ENGINES {
        if let (Some(limit), Some(ratio)) = (engine.limit, ratio(table, engine.name, "native")) {
            check(format!("{}, times native", engine.name), ratio, limit);
        }
        if let Some(limit) = engine.compile_us {
            check(format!("{}, compile, us at most", engine.name), most_compile_us(table, engine.name), limit);
        }
    }
    for (engine, program, limit) in PROGRAM_LIMITS {
        if let (Some(took), Some(native)) = (ns(table, engine, program), ns(table, "native", program)) {
            check(format!("{program} on {engine}, times native"), took / native, *limit);
        }
    }
    for (what, with, without, limit) in SHARES {
        if let Some(ratio) = ratio(table, with, without) {
            check(format!("{what}, times without"), ratio, *limit);
        }
    }
    good
}

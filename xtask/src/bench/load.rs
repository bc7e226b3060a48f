//! Load an object and exit: a static program on our library beside a static C program on libbpf.
//!
//! Both are built alike: static, not position independent, with no debugger's data. The limit counts all of the processor time,
//! the kernel's part included, for every object with CO-RE; the second table tells what part that is.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::running::skep;
use super::split::split;
use crate::{oracle, paths, setup, sh};

/// An object to load.
struct Loaded {
    name: &'static str,
    /// Whether its time is judged. Without CO-RE there is hardly anything to do but start a program and ask the kernel.
    judged: bool,
}

const LOADED: &[Loaded] = &[
    Loaded { name: "tp_minimal", judged: false },
    Loaded { name: "core_arrays", judged: true },
    Loaded { name: "mixed", judged: true },
];
/// Of libbpf's processor time.
const LOAD_RATIO: f64 = 0.5;
const LOAD_RSS_KB: u64 = 4096;
const ROUNDS: usize = 101;

/// Measures, prints, and says whether the limits hold.
pub(super) fn bench() -> Result<bool> {
    let theirs = oracle::libbpf()?.program("tests/bench/load_libbpf.c", true)?;
    let ours = example("load")?;
    let skep = skep()?;
    let mut good = true;
    let mut parts = Vec::new();
    println!("{:14} {:>22} {:>22} {:>7}", "object", "libbpf CPU, RSS", "skep CPU, RSS", "ratio");
    for Loaded { name, judged } in LOADED {
        let object = paths::objects().join("clang19-el").join(format!("{name}.bpf.o"));
        let commands = [vec![theirs.clone(), object.clone()], vec![ours.clone(), object]];
        let costs = measure(ROUNDS, &commands)?;
        let splits = split(&skep, [&theirs, &ours], || measure(ROUNDS, &commands).map(drop))?;
        parts.extend([("libbpf", costs[0], splits[0]), ("skep", costs[1], splits[1])].map(|it| (name, it)));
        let [theirs, ours] = costs;
        let ratio = ours.cpu_us as f64 / theirs.cpu_us as f64;
        println!(
            "{name:14} {:>9.2} ms {:>6} kB {:>9.2} ms {:>6} kB {ratio:>7.2}",
            theirs.cpu_us as f64 / 1e3,
            theirs.rss_kb,
            ours.cpu_us as f64 / 1e3,
            ours.rss_kb
        );
        good &= ours.rss_kb <= LOAD_RSS_KB && (!judged || ratio <= LOAD_RATIO);
    }
    println!(
        "limits: medians of {ROUNDS} runs; ratio {LOAD_RATIO} for objects with CO-RE, {LOAD_RSS_KB} kB for each\n"
    );

    println!(
        "{:14} {:7} {:>8} {:>8} {:>8} {:>8} {:>8}  ms",
        "of it", "", "execve", "verifier", "bpf(2)", "others", "own"
    );
    for (name, (who, cost, split)) in parts {
        let ms = |us: u64| us as f64 / 1e3;
        let calls = split.exec_us + split.verify_us + split.bpf_us + split.other_us;
        println!(
            "{name:14} {who:7} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>8.2}",
            ms(split.exec_us),
            ms(split.verify_us),
            ms(split.bpf_us),
            ms(split.other_us),
            ms(cost.cpu_us.saturating_sub(calls))
        );
    }
    println!("verifier: BPF_PROG_LOAD; own: the rest, page faults and the end of the process included");
    Ok(good)
}

/// Builds an example of the library as a static release program, linked as `gcc -static` links the other one.
fn example(name: &str) -> Result<PathBuf> {
    let mut command = sh::cargo();
    command.args(["build", "--quiet", "--release", "--target", setup::MUSL, "--package", "skep", "--example", name]);
    command.env("RUSTFLAGS", "-C relocation-model=static");
    sh::run(&mut command)?;
    Ok(paths::target().join(setup::MUSL).join("release/examples").join(name))
}

/// Medians of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    cpu_us: u64,
    rss_kb: u64,
}

/// Runs commands in turns and takes the medians; a run that fails is an error.
fn measure<const N: usize>(rounds: usize, commands: &[Vec<PathBuf>; N]) -> Result<[Cost; N]> {
    let program = paths::build_cache().join("oracle/measure");
    std::fs::create_dir_all(program.parent().expect("it lies in a folder"))?;
    let source = paths::root().join("tests/bench/measure.c");
    sh::bytes(Command::new("gcc").args(["-O2", "-Wall", "-o"]).arg(&program).arg(source))?;
    let mut command = Command::new(program);
    command.arg(rounds.to_string());
    for (i, words) in commands.iter().enumerate() {
        if i > 0 {
            command.arg("--");
        }
        command.args(words);
    }
    let text = sh::output(&mut command)?;
    let mut costs = [Cost { cpu_us: 0, rss_kb: 0 }; N];
    for (i, cost) in costs.iter_mut().enumerate() {
        *cost = medians(&text, i).with_context(|| format!("`{}` failed", shown(&commands[i])))?;
    }
    Ok(costs)
}

fn shown(words: &[PathBuf]) -> String {
    words.iter().map(|word| word.display().to_string()).collect::<Vec<_>>().join(" ")
}

/// The medians of command `index` in what `measure` printed; none if a run failed.
fn medians(text: &str, index: usize) -> Option<Cost> {
    let mut cpu = Vec::new();
    let mut rss = Vec::new();
    for line in text.lines() {
        let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [of, cpu_us, _elapsed_us, rss_kb, status] = numbers[..] else { return None };
        if of as usize == index {
            if status != 0 {
                return None;
            }
            cpu.push(cpu_us);
            rss.push(rss_kb);
        }
    }
    cpu.sort_unstable();
    rss.sort_unstable();
    Some(Cost { cpu_us: *cpu.get(cpu.len() / 2)?, rss_kb: *rss.get(rss.len() / 2)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_taken_per_command_and_a_failure_spoils_them() {
        let text = "0 10 99 400 0\n1 7 99 100 0\n0 30 99 500 0\n1 9 99 120 0\n0 20 99 450 0\n1 8 99 110 256\n";
        assert_eq!(medians(text, 0), Some(Cost { cpu_us: 20, rss_kb: 450 }));
        assert_eq!(medians(text, 1), None);
    }
}

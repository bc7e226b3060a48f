//! `cargo xtask fuzz [TARGET...] [--seconds N]`: libFuzzer on stable Rust, seeded with the test objects.
//!
//! The compiler's coverage pass is switched on by flags, in a target folder of its own; no nightly is needed. What is
//! found is minimised and lands in `fuzz/regressions/TARGET/`, where `cargo test` replays it for ever.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{corpus, paths, setup, sh};

const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks";
const HOST: &str = "x86_64-unknown-linux-gnu";

/// Fuzzes the named targets, or all, each for its share of the time (60 seconds each unless said).
pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut seconds = 60;
    let mut wanted = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => seconds = args.next().context("--seconds wants a number")?.parse()?,
            _ if arg.starts_with('-') => {
                bail!("unknown option `{arg}`: usage is `cargo xtask fuzz [TARGET...] [--seconds N]`")
            }
            _ => wanted.push(arg.clone()),
        }
    }
    setup::run(&[])?;
    let work = paths::build_cache().join("fuzz");
    let targets = seed(&work.join("seeds"))?;
    if let Some(unknown) = wanted.iter().find(|name| !targets.contains(name)) {
        bail!("no target is called `{unknown}`: there are {}", targets.join(", "));
    }
    let program = build()?;
    let mut finds = Vec::new();
    for target in targets.iter().filter(|name| wanted.is_empty() || wanted.contains(name)) {
        finds.extend(hunt(&program, target, &work, seconds)?);
    }
    if !finds.is_empty() {
        let list: Vec<String> = finds.iter().map(|file| format!("  {}", file.display())).collect();
        bail!("{} inputs break a target; `cargo test -p skep-fuzz` shows how:\n{}", finds.len(), list.join("\n"));
    }
    Ok(())
}

/// Cuts the test objects and the texts with scripts into seeds; gives back the names of the targets.
fn seed(dir: &Path) -> Result<Vec<String>> {
    let mut command = sh::cargo();
    command
        .args(["run", "--quiet", "--package", "skep-fuzz", "--bin", "seed", "--"])
        .arg(dir)
        .args(corpus::objects()?)
        .args(scripts()?);
    Ok(sh::output(&mut command)?.lines().map(str::to_owned).collect())
}

/// The scripts of this repository, the texts with cases of scripts, and the files of `fuzz/seeds`.
fn scripts() -> Result<Vec<PathBuf>> {
    let mut dirs = vec![paths::root().join("tools"), paths::root().join("crates/script/tests/cases")];
    let seeds = paths::root().join("fuzz/seeds");
    let seeds = std::fs::read_dir(&seeds).with_context(|| format!("cannot list {}", seeds.display()))?;
    let mut files = seeds.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "bt" || extension == "case") {
                files.push(path);
            }
        }
    }
    Ok(files)
}

fn build() -> Result<PathBuf> {
    let target_dir = paths::target().join("fuzz");
    let mut command = sh::cargo();
    command.args(["build", "--release", "--quiet", "--package", "skep-fuzz", "--bin", "skep-fuzz"]);
    command.args(["--features", "libfuzzer", "--target", HOST]).arg("--target-dir").arg(&target_dir);
    // Without this the release profile aborts before libFuzzer can write the input down, and drops symbols.
    command.args(["--config", "profile.release.strip=false", "--config", "profile.release.lto=false"]);
    command.env("RUSTFLAGS", FLAGS);
    sh::run(&mut command)?;
    Ok(target_dir.join(HOST).join("release/skep-fuzz"))
}

/// Runs one target; the minimised find, if there is one.
fn hunt(program: &Path, target: &str, work: &Path, seconds: u64) -> Result<Option<PathBuf>> {
    let grown = work.join("grown").join(target);
    let finds = work.join("finds").join(target);
    std::fs::create_dir_all(&grown)?;
    std::fs::create_dir_all(&finds)?;
    println!("fuzz: {target} for {seconds} s");
    let log = work.join(format!("{target}.log"));
    let mut command = Command::new(program);
    command
        .env("SKEP_FUZZ_TARGET", target)
        .arg(format!("-max_total_time={seconds}"))
        .args(["-max_len=65536", "-timeout=10", "-rss_limit_mb=1024", "-malloc_limit_mb=256", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", finds.display()))
        .arg(&grown)
        .arg(work.join("seeds").join(target))
        .stderr(std::fs::File::create(&log)?)
        .stdout(std::process::Stdio::null());
    let status = command.status().context("cannot run the fuzz target")?;
    let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    for line in text.lines().filter(|line| line.contains("number_of_executed_units") || line.contains("DONE")) {
        println!("  {line}");
    }
    if status.success() {
        return Ok(None);
    }
    let find = text.lines().find_map(|line| line.rsplit_once("Test unit written to ").map(|(_, file)| file.trim()));
    let Some(find) = find else {
        bail!(
            "{target} ended with {status} and left no input behind (a stack overflow does that): see {}, and run \
             `SKEP_FUZZ_TARGET={target} gdb --args {} {}`",
            log.display(),
            program.display(),
            grown.display()
        );
    };
    for line in text.lines().filter(|line| line.contains("panicked at") || line.contains("ERROR: libFuzzer")) {
        println!("  {line}");
    }
    Ok(Some(minimise(program, target, Path::new(find))?))
}

/// Makes a find as small as it gets within half a minute, and keeps it.
fn minimise(program: &Path, target: &str, find: &Path) -> Result<PathBuf> {
    let small = find.with_extension("small");
    // It may not get smaller at all; then the find itself is kept.
    let _ = Command::new(program)
        .env("SKEP_FUZZ_TARGET", target)
        .args(["-minimize_crash=1", "-max_total_time=30", "-timeout=10", "-rss_limit_mb=1024", "-malloc_limit_mb=256"])
        .arg(format!("-exact_artifact_path={}", small.display()))
        .arg(find)
        .output();
    let kept = paths::root().join("fuzz/regressions").join(target);
    std::fs::create_dir_all(&kept)?;
    let from = if small.is_file() { &small } else { find };
    let name = find.file_name().context("a find has a name")?;
    let file = kept.join(name);
    std::fs::copy(from, &file)?;
    Ok(file)
}

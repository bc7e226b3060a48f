//! `cargo xtask compare [--kernel 6.1|6.12] [DIR|FILE...]`: what libbpf loads, skep must load, with the same instructions.
//!
//! Both try every program of every little-endian object with only itself enabled: `tests/oracle/libbpf_load.c` on libbpf,
//! and `skep load --each --fix-sizes --json`. The answers are joined on object and program. Three lists come out:
//! - libbpf loads and skep refuses: must be empty;
//! - both load, with different instructions: must be empty;
//! - skep loads and libbpf refuses: a gain, listed.
//!
//! Without folders, the objects of our own corpus are compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::image::{self, Extra};
use crate::verdicts::{Tally, Verdict};
use crate::{corpus, kernels, oracle, paths, setup, sh, vm};

/// Compares on the host, or on one of Debian's kernels.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut kernel = None;
    let mut places = Vec::new();
    let mut verbose = false;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--kernel" => kernel = Some(args.next().context("--kernel wants 6.1 or 6.12")?.clone()),
            "--verbose" | "-v" => verbose = true,
            _ if arg.starts_with('-') => bail!("unknown option `{arg}`"),
            _ => places.push(std::path::absolute(arg)?),
        }
    }
    setup::run(&[])?;
    let objects = if places.is_empty() { little_endian(corpus::objects()?) } else { collect(&places)? };
    let outcome = match kernel {
        None => host(&objects)?,
        Some(name) => guest(&name, &objects)?,
    };
    if verbose {
        outcome.print_both_refuse();
    }
    outcome.print();
    if !outcome.is_good() {
        bail!("skep and libbpf disagree");
    }
    Ok(())
}

/// The comparison of our own corpus, as one verdict of `cargo xtask test`.
pub(crate) fn check(tally: &mut Tally) -> Result<()> {
    let outcome = host(&little_endian(corpus::objects()?))?;
    outcome.print();
    let verdict = if outcome.is_good() { Verdict::Passed } else { Verdict::Failed(String::new()) };
    tally.add("host", "compare", "skep loads what libbpf loads, with the same instructions", verdict);
    Ok(())
}

fn little_endian(objects: Vec<PathBuf>) -> Vec<PathBuf> {
    objects.into_iter().filter(|path| !path.to_string_lossy().contains("-eb/")).collect()
}

/// The objects in these files and folders.
fn collect(places: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut objects = Vec::new();
    for place in places {
        if place.is_file() {
            objects.push(place.clone());
            continue;
        }
        let entries = std::fs::read_dir(place).with_context(|| format!("cannot list {}", place.display()))?;
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                objects.extend(collect(&[path])?);
            } else if path.extension().is_some_and(|extension| extension == "o") {
                objects.push(path);
            }
        }
    }
    if objects.is_empty() {
        bail!("no object files (*.o) there");
    }
    Ok(objects)
}

fn host(objects: &[PathBuf]) -> Result<Outcome> {
    let oracle = oracle::libbpf()?.program("tests/oracle/libbpf_load.c", false)?;
    sh::run(sh::cargo().args(["build", "--quiet", "--package", "skep-cli"]))?;
    let skep = paths::target().join("debug/skep");
    let lines = Mutex::new((String::new(), String::new()));
    corpus::parallel(objects, |object| {
        // Neither program promises an exit code when some programs are refused.
        let run = |command: &mut Command| match command.output() {
            Ok(out) => String::from_utf8_lossy(&out.stdout).into_owned(),
            Err(error) => format!("cannot run `{}`: {error}\n", sh::line(command)),
        };
        let theirs = run(Command::new(&oracle).arg("--fix-sizes").arg(object));
        let ours = run(Command::new(&skep).args(["load", "--each", "--fix-sizes", "--json"]).arg(object));
        let mut lines = lines.lock().expect("no comparison panics");
        lines.0.push_str(&theirs);
        lines.1.push_str(&ours);
    });
    let (theirs, ours) = lines.into_inner().expect("no comparison panics");
    Outcome::join(&theirs, &ours)
}

/// The same in a virtual machine, where both programs and the objects are in the initramfs.
fn guest(name: &str, objects: &[PathBuf]) -> Result<Outcome> {
    let oracle = oracle::libbpf()?.program("tests/oracle/libbpf_load.c", false)?;
    let line = kernels::LINES.iter().find(|line| line.name == name).context("--kernel wants 6.1 or 6.12")?;
    let kernel = kernels::get(line)?;
    let binaries = image::bare()?;
    let skep = image::skep()?;
    let mut plan = String::new();
    // Below a folder of their own: the guest mounts its own `/tmp`, `/run` and so on over what the image has there.
    let inside = |object: &Path| format!("/objects{}", object.display());
    for object in objects {
        let path = inside(object);
        plan.push_str(&format!("program oracle {} --fix-sizes {path}\n", oracle.display()));
        plan.push_str(&format!("program skep {} load --each --fix-sizes --json {path}\n", skep.display()));
    }
    let files = objects.iter().map(|path| (inside(path), path.clone())).collect();
    let extra = Extra { tests: false, programs: vec![oracle, skep], files, plan };
    let mut tally = Tally::default();
    let output = vm::boot(&kernel, &binaries, "", &extra, &mut tally)?;
    let of = |who: &str| -> String {
        let lines = output.iter().filter(|(name, _)| name == who);
        lines.map(|(_, line)| format!("{line}\n")).collect()
    };
    Outcome::join(&of("oracle"), &of("skep"))
}

/// One line of either program.
#[derive(Clone, Debug)]
struct Answer {
    loads: bool,
    errno: String,
    reason: String,
    insns: u64,
    hash: String,
    section: String,
}

type Answers = BTreeMap<(String, String), Answer>;

/// Reads JSON lines; what is not JSON is an error, since a crash would look like that.
fn answers(text: &str, who: &str) -> Result<Answers> {
    let mut answers = Answers::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let value: Value = serde_json::from_str(line).with_context(|| format!("{who} printed `{line}`"))?;
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let answer = Answer {
            loads: value["loads"].as_bool().with_context(|| format!("{who} printed `{line}` without `loads`"))?,
            errno: text("errno"),
            reason: text("reason"),
            insns: value["insns"].as_u64().unwrap_or_default(),
            hash: text("hash"),
            section: text("section"),
        };
        answers.insert((text("object"), text("program")), answer);
    }
    Ok(answers)
}

/// The joined answers.
struct Outcome {
    theirs: Answers,
    ours: Answers,
}

impl Outcome {
    fn join(theirs: &str, ours: &str) -> Result<Outcome> {
        Ok(Outcome { theirs: answers(theirs, "the oracle")?, ours: answers(ours, "skep")? })
    }

    /// Programs that libbpf loads and skep does not, or does not mention.
    fn lost(&self) -> Vec<(&(String, String), &Answer, Option<&Answer>)> {
        self.theirs
            .iter()
            .filter(|(_, theirs)| theirs.loads)
            .map(|(key, theirs)| (key, theirs, self.ours.get(key)))
            .filter(|(_, _, ours)| ours.is_none_or(|ours| !ours.loads))
            .collect()
    }

    fn different(&self) -> Vec<(&(String, String), &Answer, &Answer)> {
        self.theirs
            .iter()
            .filter_map(|(key, theirs)| Some((key, theirs, self.ours.get(key)?)))
            .filter(|(_, theirs, ours)| theirs.loads && ours.loads)
            .filter(|(_, theirs, ours)| theirs.hash != ours.hash || theirs.insns != ours.insns)
            .collect()
    }

    fn gained(&self) -> Vec<(&(String, String), Option<&Answer>)> {
        self.ours
            .iter()
            .filter(|(_, ours)| ours.loads)
            .map(|(key, _)| (key, self.theirs.get(key)))
            .filter(|(_, theirs)| theirs.is_none_or(|theirs| !theirs.loads))
            .collect()
    }

    fn is_good(&self) -> bool {
        !self.theirs.is_empty() && self.lost().is_empty() && self.different().is_empty()
    }

    fn print(&self) {
        let short = |object: &str| -> String {
            let path = Path::new(object);
            let parent = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
            format!("{parent}/{}", path.file_name().unwrap_or_default().to_string_lossy())
        };
        for ((object, program), theirs) in self.gained() {
            let why = theirs.map_or("no such program".into(), |theirs| format!("{} {}", theirs.errno, theirs.reason));
            println!("skep alone loads {} {program}: libbpf says {why}", short(object));
        }
        for ((object, program), theirs, ours) in self.different() {
            println!(
                "DIFFERENT {} {program} ({}): libbpf {} instructions, hash {}; skep {}, {}",
                short(object),
                theirs.section,
                theirs.insns,
                theirs.hash,
                ours.insns,
                ours.hash
            );
        }
        for ((object, program), theirs, ours) in self.lost() {
            let why = ours.map_or("does not mention it".into(), |ours| format!("says {} {}", ours.errno, ours.reason));
            println!("LOST {} {program} ({}): skep {why}", short(object), theirs.section);
        }
        let loads = |answers: &Answers| answers.values().filter(|answer| answer.loads).count();
        println!(
            "compare: {} programs; libbpf loads {}, skep {}; {} lost, {} different, {} gained",
            self.theirs.len(),
            loads(&self.theirs),
            loads(&self.ours),
            self.lost().len(),
            self.different().len(),
            self.gained().len()
        );
    }

    /// For whoever wonders why a program loads nowhere.
    fn print_both_refuse(&self) {
        for ((object, program), theirs) in self.theirs.iter().filter(|(_, theirs)| !theirs.loads) {
            let ours = self.ours.get(&(object.clone(), program.clone()));
            println!("both refuse {object} {program} ({}): {} {}", theirs.section, theirs.errno, theirs.reason);
            if let Some(ours) = ours {
                println!("    skep: {} {}", ours.errno, ours.reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(program: &str, loads: bool, hash: &str) -> String {
        format!(
            r#"{{"object":"d/o","program":"{program}","section":"tc","type":"","loads":{loads},"errno":null,"reason":null,"insns":2,"hash":"{hash}"}}"#
        ) + "\n"
    }

    #[test]
    fn lost_different_and_gained_programs_are_told_apart() {
        let theirs =
            line("same", true, "1") + &line("lost", true, "2") + &line("other", true, "3") + &line("gain", false, "");
        let ours =
            line("same", true, "1") + &line("lost", false, "") + &line("other", true, "4") + &line("gain", true, "5");
        let outcome = Outcome::join(&theirs, &ours).unwrap();
        assert_eq!(outcome.lost()[0].0.1, "lost");
        assert_eq!(outcome.different()[0].0.1, "other");
        assert_eq!(outcome.gained()[0].0.1, "gain");
        assert!(!outcome.is_good());
        assert!(Outcome::join(&line("same", true, "1"), &line("same", true, "1")).unwrap().is_good());
    }

    #[test]
    fn a_program_that_skep_does_not_mention_is_lost() {
        let outcome = Outcome::join(&line("a", true, "1"), "").unwrap();
        assert_eq!(outcome.lost().len(), 1);
    }

    #[test]
    fn text_that_is_no_json_is_an_error() {
        assert!(Outcome::join(&line("a", true, "1"), "thread 'main' panicked").is_err());
    }
}

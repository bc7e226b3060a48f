//! Every seed and every past find, through every target.

use std::path::{Path, PathBuf};

use skep_fuzz::TARGETS;

/// The objects of `SKEP_TEST_OBJECTS`, one compiler each way round: the rest differs little.
fn objects() -> Vec<PathBuf> {
    let dir = std::env::var_os("SKEP_TEST_OBJECTS").expect("cargo sets SKEP_TEST_OBJECTS");
    let mut files = Vec::new();
    for variant in ["clang19-el", "clang14-eb"] {
        let dir = Path::new(&dir).join(variant);
        let entries =
            std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("run `cargo xtask setup`: {dir:?}: {error}"));
        let paths = entries.map_while(Result::ok).map(|entry| entry.path());
        files.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "o")));
    }
    files.sort();
    files
}

/// The scripts of this repository, and the texts with cases of scripts.
fn scripts() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut dirs = vec![root.join("tools"), root.join("crates/script/tests/cases")];
    let mut files = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{dir:?}: {error}")) {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "bt" || extension == "case") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The files of `fuzz/seeds`.
fn files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{dir:?}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.sort();
    files
}

fn corpus() -> Vec<PathBuf> {
    let objects = objects();
    assert!(objects.len() > 100, "only {} objects", objects.len());
    objects.into_iter().chain(scripts()).chain(files()).collect()
}

#[test]
fn the_seeds_from_real_objects_and_scripts_hold() {
    let files = corpus();
    for target in TARGETS {
        let mut seeds = 0;
        for file in &files {
            for seed in (target.seeds)(&std::fs::read(file).unwrap()) {
                (target.run)(&seed);
                seeds += 1;
            }
        }
        assert!(seeds >= target.seeds_min, "{}: only {seeds} seeds", target.name);
    }
}

/// A seed with bytes flipped, cut and repeated: what a fuzzer tries first, and the same every time.
#[test]
fn damaged_seeds_hold() {
    let files = corpus();
    for target in TARGETS {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below.max(1) as u64) as usize
        };
        // Of what there is much of, a part.
        let (step, damages) = if target.seeds_min < 50 { (1, 100) } else { (4, 8) };
        for file in files.iter().step_by(step) {
            let seeds = (target.seeds)(&std::fs::read(file).unwrap()).into_iter();
            for seed in seeds.filter(|seed| !seed.is_empty()).take(2) {
                for _ in 0..damages {
                    let mut damaged = seed.clone();
                    for _ in 0..1 + next(8) {
                        let at = next(damaged.len());
                        damaged[at] = [0, 1, 0x7f, 0x80, 0xff, damaged[at] ^ 1 << next(8)][next(6)];
                    }
                    if next(4) == 0 {
                        damaged.truncate(next(damaged.len()).max(1));
                    }
                    (target.run)(&damaged);
                }
            }
        }
    }
}

#[test]
fn past_finds_hold() {
    for target in TARGETS {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target.name);
        for entry in std::fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            (target.run)(&std::fs::read(path).unwrap());
        }
    }
}

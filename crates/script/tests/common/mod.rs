//! Text cases. A file has many:
//!
//! ```text
//! --- what it shows
//! begin { }
//! ===
//! what comes out
//! ```
//!
//! With `SKEP_BLESS=1` what comes out is written into the files instead of being compared; read the difference.

pub(crate) mod files;

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// One case.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) input: String,
    pub(crate) expected: String,
}

/// The files `tests/cases/FOLDER/*.case`, sorted.
pub(crate) fn files(folder: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
        .collect();
    files.sort();
    files
}

/// The cases of one file.
pub(crate) fn read(path: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    parse(&text)
}

/// The cases of a file's text.
pub(crate) fn parse(text: &str) -> Vec<Case> {
    let text = format!("\n{text}");
    text.split("\n--- ")
        .skip(1)
        .map(|case| {
            let (name, rest) = case.split_once('\n').unwrap_or((case, ""));
            let (input, expected) = rest.split_once("\n===").unwrap_or((rest, ""));
            let expected = expected.strip_prefix('\n').unwrap_or(expected);
            Case { name: name.to_owned(), input: input.to_owned(), expected: expected.trim_end().to_owned() }
        })
        .collect()
}

/// Runs every case of a folder. `run` makes the output from the input, given the file's name without `.case`.
pub(crate) fn check(folder: &str, run: impl Fn(&str, &str) -> String) {
    let bless = std::env::var_os("SKEP_BLESS").is_some();
    let mut wrong = String::new();
    let mut count = 0;
    for path in files(folder) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut blessed = String::new();
        for case in read(&path) {
            count += 1;
            let found = run(&stem, &case.input);
            let found = found.trim_end();
            let _ = write!(blessed, "--- {}\n{}\n===\n{found}\n\n", case.name, case.input);
            if found != case.expected && !bless {
                let _ = write!(
                    wrong,
                    "--- {stem}: {}\n{}\n=== expected\n{}\n=== found\n{found}\n\n",
                    case.name, case.input, case.expected
                );
            }
        }
        if bless {
            std::fs::write(&path, format!("{}\n", blessed.trim_end())).expect("a writable case file");
        }
    }
    assert!(count > 0, "no cases in {folder}");
    assert!(wrong.is_empty(), "{wrong}SKEP_BLESS=1 accepts what was found");
}

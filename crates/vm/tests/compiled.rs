//! What `data`, `history` and `run` show of the interpreter, shown of compiled programs: the same tests, whose programs are compiled
//! in the test binary of this name.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#![expect(clippy::duplicate_mod, reason = "each file of tests brings what they share")]

#[path = "data.rs"]
mod data;
#[path = "history.rs"]
mod history;
#[path = "run.rs"]
mod run;

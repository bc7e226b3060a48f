//! The `skep` command: parses, calls the library, prints.
//!
//! # Exit codes
//!
//! | code | meaning |
//! |---|---|
//! | 0 | it did what was asked; a closed pipe counts as that |
//! | 1 | it failed, and said why on standard error |
//! | 2 | the command line makes no sense |
//! | other | what the script gave to `exit` |
//!
//! Under the name `bpftrace` (a link to this file, or `skep bpftrace`) command line, messages and codes are that program's.

mod args;
mod build;
mod doctor;
mod engine;
mod globals;
mod load;
mod names;
mod report;
mod run;
mod trace;
mod vectors;
mod vm;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    let mut typed: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = trace::tool::run_own(&typed) {
        return code;
    }
    if let Some(words) = names::other_program(&typed) {
        return words;
    }
    names::script_first(&mut typed);
    let (typed, globals) = globals::split(typed);
    let args = Args::parse_from(typed);
    let result = match args.command {
        Command::Run(args) => run::run(*args, globals),
        Command::Trace(args) => trace::command::trace(*args),
        Command::Build(args) => build::build(*args),
        Command::List(args) => trace::command::list(args),
        Command::Load(args) => load::load(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Vm(args) => vm::vm(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            report::error(&error);
            ExitCode::FAILURE
        }
    }
}

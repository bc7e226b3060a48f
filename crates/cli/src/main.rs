//! The `skep` command: parses, calls the library, prints.
//!
//! # Exit codes
//!
//! | code | meaning |
//! |---|---|
//! | 0 | it did what was asked; a closed pipe counts as that |
//! | 1 | it failed, and said why on standard error |
//! | 2 | the command line makes no sense |

mod args;
mod doctor;
mod globals;
mod load;
mod report;
mod run;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    let (typed, globals) = globals::split(std::env::args_os().collect());
    let args = Args::parse_from(typed);
    let result = match args.command {
        Command::Run(args) => run::run(*args, globals),
        Command::Load(args) => load::load(&args),
        Command::Doctor(args) => doctor::doctor(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            report::error(&error);
            ExitCode::FAILURE
        }
    }
}

//! `skep load`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use skep_engine::{Error, LoadOptions, Session as _};
use skep_kernel::{KernelEngine, LoaderEngine, errno_of};
use skep_run::loader_of;
use skep_run::trial::{TrialOptions, Verdict, open_linked, trial};
use skep_sys::Errno;

use crate::args::LoadArgs;
use crate::report::{self, cannot_write};

/// Tries every object; the exit code is 1 when any program did not load.
pub(crate) fn load(args: &LoadArgs) -> Result<ExitCode, Error> {
    let options = TrialOptions { each: args.each, fix_sizes: args.fix_sizes };
    let target = crate::build::target(args.btf.as_deref())?;
    let engine = KernelEngine::with_target(target.clone());
    let mut all = true;
    let mut out = std::io::stdout().lock();
    let groups: Vec<&[PathBuf]> = if args.link { vec![&args.files] } else { args.files.chunks(1).collect() };
    for files in groups {
        let object = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join("+");
        let spec = match open_linked(files) {
            Ok(spec) => spec,
            Err(error) => {
                all = false;
                if args.json {
                    let line =
                        json!({ "object": object, "program": null, "loads": false, "reason": error.to_string() });
                    writeln!(out, "{line}").or_else(cannot_write)?;
                } else {
                    report::error(&error);
                }
                continue;
            }
        };
        if let [file] = files
            && !args.each
            && let Some(loader) = loader_of(file)?
        {
            let loaded =
                LoaderEngine::new(loader).with_keyring(args.keyring).load(spec.clone(), &LoadOptions::default());
            all &= loaded.is_ok();
            match (&loaded, args.json) {
                (Err(error), false) => report::error(error),
                (Err(error), true) => {
                    let line =
                        json!({ "object": object, "program": null, "loads": false, "reason": error.to_string() });
                    writeln!(out, "{line}").or_else(cannot_write)?;
                }
                (Ok(session), json) => {
                    for loaded in session.programs() {
                        let program = spec.program(loaded.program);
                        let verdict = Verdict {
                            program: program.name.clone(),
                            section: program.section.clone(),
                            prog_type: program.prog_type.to_string(),
                            result: Ok(()),
                            insns: loaded.result.as_ref().ok().map(|slots| *slots as usize),
                            hash: None,
                        };
                        let line = if json { to_json(&object, &verdict) } else { to_text(&object, &verdict) };
                        writeln!(out, "{line}").or_else(cannot_write)?;
                    }
                }
            }
            continue;
        }
        for verdict in trial(spec, options, &engine, &target) {
            all &= verdict.result.is_ok();
            let line = if args.json { to_json(&object, &verdict) } else { to_text(&object, &verdict) };
            writeln!(out, "{line}").or_else(cannot_write)?;
        }
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn to_json(object: &str, verdict: &Verdict) -> String {
    let error = verdict.result.as_ref().err();
    json!({
        "object": object,
        "program": verdict.program,
        "section": verdict.section,
        "type": verdict.prog_type,
        "loads": error.is_none(),
        "errno": error.and_then(errno_of).and_then(Errno::name),
        "reason": error.map(ToString::to_string),
        "insns": verdict.insns,
        "hash": verdict.hash.map(|hash| format!("{hash:016x}")),
    })
    .to_string()
}

fn to_text(object: &str, verdict: &Verdict) -> String {
    let Verdict { program, section, result, insns, .. } = verdict;
    match result {
        Ok(()) => format!("ok   {object} {program} ({section}): {} instructions", insns.unwrap_or(0)),
        Err(error) => format!("no   {object} {program} ({section}): {error}"),
    }
}

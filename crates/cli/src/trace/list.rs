//! `skep list`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use skep_engine::Error;
use skep_kernel::{KernelEngine, LiveTarget};
use skep_run::trace::Obstacles;
use skep_script::list::{Probe, definition, definitions, of_script, probes};
use skep_script::{Options, Sources};
use skep_spec::nearest::did_you_mean;

use super::{Request, show, source};
use crate::report::{self, cannot_write};

/// Probes that match a pattern, the probes of a script, or a definition. Nothing found is a failure.
pub(crate) fn list(pattern: &str, verbose: bool, request: &Request) -> Result<ExitCode, Error> {
    let target = LiveTarget::shared();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if ["struct ", "union ", "enum "].iter().any(|word| pattern.starts_with(word)) {
        let text = match definition(pattern, &target) {
            Some(text) => text,
            None => matching(pattern, verbose, &target)?,
        };
        writeln!(out, "{text}").and_then(|()| out.flush()).or_else(cannot_write)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(wrong) = pattern.chars().find(|letter| *letter == '\\' || letter.is_control()) {
        return Err(Error::new(format!("invalid character '{}'", wrong.escape_default()))
            .with_hint("`*` stands for any text in the name of a probe"));
    }
    let mut sources = Sources::default();
    let options: &Options = &request.script;
    let (found, diagnostics) = if Path::new(pattern).is_file() && source::is_script(pattern.as_ref()) {
        let (name, text) = source::file(Path::new(pattern))?;
        let id = sources.add(name, text);
        of_script(&sources, id, verbose, options, &target)
    } else {
        probes(pattern, verbose, options, &target)
    };
    let obstacles = match request.bpftrace {
        true => Obstacles::default(),
        false => Obstacles::of(found.iter().map(|probe| probe.name.as_str()), &target, &KernelEngine::new()),
    };
    write(&found, &obstacles, &mut out).and_then(|()| out.flush()).or_else(cannot_write)?;
    drop(out);
    for (against, reason) in obstacles.reasons(found.iter().map(|probe| probe.name.as_str())) {
        report::line(&format!("not on this machine: {against}: {reason}"));
    }
    let failed = show(&diagnostics, &sources, request);
    Ok(if failed || (found.is_empty() && !request.bpftrace) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The probes of a program from the command line.
pub(crate) fn list_program(text: &str, verbose: bool, request: &Request) -> Result<ExitCode, Error> {
    let mut sources = Sources::default();
    let id = sources.add("stdin", text);
    let (found, diagnostics) = of_script(&sources, id, verbose, &request.script, &LiveTarget::shared());
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    write(&found, &Obstacles::default(), &mut out).and_then(|()| out.flush()).or_else(cannot_write)?;
    Ok(if show(&diagnostics, &sources, request) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The types that a pattern such as `struct task_*` matches: their names, or their definitions when `verbose`.
fn matching(pattern: &str, verbose: bool, target: &LiveTarget) -> Result<String, Error> {
    let found = definitions(pattern, target);
    if found.is_empty() {
        let (word, name) = pattern.split_once(' ').unwrap_or_default();
        let error = Error::new(format!("the kernel's types have no `{pattern}`"));
        let all = definitions(&format!("{word} *"), target);
        let names = all.iter().filter_map(|text| text.split_once(' ').map(|(_, name)| name));
        return Err(match did_you_mean(name.trim(), names) {
            Some(hint) => error.with_hint(hint),
            None => error,
        });
    }
    if !verbose {
        return Ok(found.join("\n"));
    }
    Ok(found.iter().filter_map(|name| definition(name, target)).collect::<Vec<_>>().join("\n"))
}

fn write(probes: &[Probe], obstacles: &Obstacles, out: &mut dyn Write) -> std::io::Result<()> {
    for probe in probes {
        match obstacles.against(&probe.name) {
            Some(_) => writeln!(out, "{}  # not on this machine", probe.name)?,
            None => writeln!(out, "{}", probe.name)?,
        }
        for declaration in &probe.args {
            writeln!(out, "    {declaration}")?;
        }
    }
    Ok(())
}

//! `skep list`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use skep_engine::Error;
use skep_kernel::LiveTarget;
use skep_script::list::{Probe, definition, of_script, probes, types};
use skep_script::{Options, Sources};

use super::{Request, show, source};
use crate::report::cannot_write;

/// Probes that match a pattern, the probes of a script, or a definition. Nothing found is a failure.
pub(crate) fn list(pattern: &str, verbose: bool, request: &Request) -> Result<ExitCode, Error> {
    let target = LiveTarget::shared();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if ["struct ", "union ", "enum "].iter().any(|word| pattern.starts_with(word)) {
        let none = || Error::new(format!("the kernel's types have no `{pattern}`"));
        let text = if pattern.contains('*') {
            let names = types(pattern, &target);
            let lines: Vec<String> = match verbose {
                true => names.iter().filter_map(|name| definition(name, &target)).collect(),
                false => names,
            };
            (!lines.is_empty()).then(|| lines.join("\n"))
        } else {
            definition(pattern, &target)
        };
        let text = text.ok_or_else(none)?;
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
    write(&found, &mut out).and_then(|()| out.flush()).or_else(cannot_write)?;
    drop(out);
    let failed = show(&diagnostics, &sources, request);
    Ok(if failed || (found.is_empty() && !request.bpftrace) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The probes of a program from the command line.
pub(crate) fn list_program(text: &str, verbose: bool, request: &Request) -> Result<ExitCode, Error> {
    let mut sources = Sources::default();
    let id = sources.add("stdin", text);
    let (found, diagnostics) = of_script(&sources, id, verbose, &request.script, &LiveTarget::shared());
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    write(&found, &mut out).and_then(|()| out.flush()).or_else(cannot_write)?;
    Ok(if show(&diagnostics, &sources, request) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn write(probes: &[Probe], out: &mut dyn Write) -> std::io::Result<()> {
    for probe in probes {
        writeln!(out, "{}", probe.name)?;
        for (ty, name) in &probe.args {
            writeln!(out, "    {ty} {name}")?;
        }
    }
    Ok(())
}

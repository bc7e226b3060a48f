//! Tracing scripts: `skep trace`, and the command line of `bpftrace`.

pub(crate) mod bpftrace;
pub(crate) mod command;
pub(crate) mod info;
pub(crate) mod list;
pub(crate) mod source;
pub(crate) mod tool;

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use skep_engine::{Error, LoadOptions};
use skep_kernel::LiveTarget;
use skep_run::trace::{self, Buffering, Format, HelperErrors, Notice, Script, Terminals};
use skep_script::compile::{Compiled, compile};
use skep_script::unwinding::Unwinding;
use skep_script::{Diagnostic, Severity, SourceId, Sources, Target};
use skep_spec::Spec;
use skep_sys::stdout::Stdout;

use crate::args::EngineChoice;
use crate::engine::Chosen;
use crate::{engine, report};

/// A script and everything that was asked about it.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// Parameters, settings, filters.
    pub(crate) script: skep_script::Options,
    pub(crate) format: Format,
    pub(crate) buffering: Buffering,
    pub(crate) command: Option<String>,
    pub(crate) engine: Option<EngineChoice>,
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) container: Option<String>,
    pub(crate) duration: Option<std::time::Duration>,
    pub(crate) dry_run: bool,
    pub(crate) helper_errors: HelperErrors,
    /// File in place of standard output.
    pub(crate) output: Option<PathBuf>,
    /// Processes whose files `dw_ustack` knows from the start.
    pub(crate) dwarf_pids: Vec<u32>,
    /// Neither warnings nor what is attached.
    pub(crate) quiet: bool,
    pub(crate) no_warnings: bool,
    /// What is loaded is told.
    pub(crate) verbose: bool,
    /// Messages are told in bpftrace's form.
    pub(crate) bpftrace: bool,
    /// Written to standard output once everything is attached.
    pub(crate) ready: Option<&'static str>,
    /// Written to this file as an object, and nothing is run.
    pub(crate) emit_elf: Option<PathBuf>,
}

/// How a script is compiled as long as nobody knows which engine runs it.
fn how(request: &Request) -> skep_script::Options {
    let mut how = request.script.clone();
    how.engine_walks_stacks = request.engine == Some(EngineChoice::User);
    how.walks_kernel_stacks = !how.engine_walks_stacks && request.emit_elf.is_none();
    how
}

/// Compiles for this machine, and runs.
pub(crate) fn run(sources: Sources, id: SourceId, request: &Request) -> Result<ExitCode, Error> {
    run_on(sources, id, request, &LiveTarget::shared())
}

/// The same with a view of this machine whose files may come from elsewhere.
fn run_on(mut sources: Sources, id: SourceId, request: &Request, target: &dyn Target) -> Result<ExitCode, Error> {
    let mut how = how(request);
    let written = sources.clone();
    let Compiled { mut spec, mut plan, diagnostics } = compile(&mut sources, id, &how, target);
    if show(&diagnostics, &sources, request) {
        return Ok(ExitCode::FAILURE);
    }
    if let Some(path) = &request.emit_elf {
        let bytes = skep_spec::elf::write(&spec)?;
        let cannot = |cause: std::io::Error| {
            Error::new(format!("cannot write `{}`: {}", path.display(), skep_sys::io_text(&cause)))
        };
        std::fs::write(path, bytes).map_err(cannot)?;
        if let Some(message) = plan.unwinding.map(|maps| without_callers(&spec, maps, path))
            && !request.no_warnings
            && !request.quiet
        {
            let hint = "`skep build SCRIPT -o TOOL` makes a program that fills them; `ustack` needs none";
            warning(&message, hint, request);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let processes = request.command.is_some() || request.script.pid.is_some();
    let events = engine::Sources { processes, ..engine::Sources::default() };
    // bpftrace knows one engine, and tells those without rights so.
    let choice = if request.bpftrace { Some(EngineChoice::Kernel) } else { request.engine };
    let Chosen { engine, why } = engine::choose(choice, &spec, &events, LiveTarget::shared())?;
    if request.engine == Some(EngineChoice::Auto) || (request.engine.is_none() && engine.name() == "user") {
        report::line(&format!("engine: {}, {why}", engine.name()));
    }
    let by_tables = engine.as_dyn().walks_by_tables();
    let unable = plan.kernel_stacks.is_some_and(|types| by_tables || !LiveTarget::shared().walks_kernel_stacks(types));
    if unable || by_tables && plan.unwinding.is_some() {
        how.engine_walks_stacks = by_tables;
        how.walks_kernel_stacks = false;
        sources = written;
        Compiled { spec, plan, .. } = compile(&mut sources, id, &how, target);
    }
    let worker = engine.split(&events);
    let options = trace::Options {
        format: request.format,
        buffering: request.buffering,
        terminals: Terminals {
            output: request.output.is_none() && std::io::stdout().is_terminal(),
            messages: std::io::stderr().is_terminal(),
        },
        pid: request.script.pid,
        dwarf_pids: request.dwarf_pids.clone(),
        follow: request.script.follow,
        cgroup: request.cgroup.clone(),
        container: request.container.clone(),
        command: request.command.clone(),
        duration: request.duration,
        dry_run: request.dry_run,
        helper_errors: request.helper_errors,
        quiet: request.quiet,
        bpftrace: request.bpftrace,
        load: LoadOptions::default(),
    };
    let mut file;
    let mut stdout;
    let out: &mut dyn Write = match &request.output {
        Some(path) => {
            let shown = path.display();
            let cannot = |cause: std::io::Error| match request.bpftrace {
                true => {
                    let why = skep_sys::strerror(&cause);
                    Error::new(format!("Failed to open output file: \"{shown}\": {why}"))
                }
                false => Error::new(format!("cannot write `{shown}`: {}", skep_sys::io_text(&cause))),
            };
            file = std::fs::File::create(path).map_err(cannot)?;
            &mut file
        }
        None => {
            stdout = Stdout;
            &mut stdout
        }
    };
    let told = sources.clone();
    let script = Script { spec, plan, sources };
    let outcome = trace::run(script, &options, engine.as_dyn(), out, &mut |notice| tell(notice, &told, request));
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return engine.fail(worker, error),
    };
    let lost: u64 = outcome.lost.iter().map(|(_, count)| count).sum();
    if lost > 0 && request.bpftrace {
        report::line(&format!("Total lost event count: {lost}"));
    }
    out.flush().or_else(report::cannot_write)?;
    Ok(engine.finish(worker, outcome.exit_code as u8))
}

/// What an object lacks whose script has `dw_ustack`.
fn without_callers(spec: &Spec, maps: Unwinding, path: &std::path::Path) -> String {
    let names = [maps.files, maps.pages, maps.rules].map(|map| format!("`{}`", spec.map(map).name));
    format!(
        "stacks of `dw_ustack` end at their first address in `{}`: the tables of callers are filled by a running skep, and {} are empty there",
        path.display(),
        names.join(", ")
    )
}

/// Writes a script in its usual form.
pub(crate) fn format(sources: &Sources, id: SourceId, request: &Request) -> Result<ExitCode, Error> {
    let (script, diagnostics) = skep_script::parser::parse(sources, id);
    if show(&diagnostics, sources, request) {
        return Ok(ExitCode::FAILURE);
    }
    let text = skep_script::format::format(sources, id, &script);
    std::io::stdout().write_all(text.as_bytes()).or_else(report::cannot_write)?;
    Ok(ExitCode::SUCCESS)
}

/// Shows stages of the compiler.
pub(crate) fn debug(mut sources: Sources, id: SourceId, stage: &str, request: &Request) -> Result<ExitCode, Error> {
    // bpftrace's words for them count, too: its `codegen` is ours before the passes, its `codegen-opt` behind them.
    const STAGES: [&str; 11] =
        ["ast", "parse", "types", "codegen", "codegen-opt", "ir", "dis", "insns", "libbpf", "verifier", "all"];
    if !STAGES.contains(&stage) {
        return Err(
            Error::new(format!("there is no stage `{stage}`")).with_hint(format!("stages are {}", STAGES.join(", ")))
        );
    }
    let wants = |names: &[&str]| stage == "all" || names.contains(&stage);
    let mut text = String::new();
    let target = LiveTarget::shared();
    let how = how(request);
    let compiled = compile(&mut sources, id, &how, &target);
    let failed = show(&compiled.diagnostics, &sources, request);
    if wants(&["ast", "parse"]) {
        let (script, _) = skep_script::parser::parse(&sources, id);
        text.push_str(&skep_script::dump::dump(&sources, &script));
    }
    if !failed && wants(&["types", "codegen", "codegen-opt", "ir"]) {
        // Their findings are those of the whole, which were shown.
        let (script, _) = skep_script::parser::parse(&sources, id);
        let (script, _) = skep_script::expand::expand(script, &mut sources, &how, &target);
        let (script, _) = skep_script::check::check(&script, &sources, &how, &target);
        if wants(&["types"]) {
            text.push_str(&skep_script::check::dump(&script));
        }
        let mut module = skep_script::lower::lower(&script, &target, &how).module;
        if wants(&["codegen"]) {
            let _ = write!(text, "{module}");
        }
        if wants(&["codegen-opt", "ir"]) {
            skep_script::passes::run(&mut module);
            let _ = write!(text, "{module}");
        }
    }
    if !failed && wants(&["dis", "insns", "libbpf", "verifier"]) {
        let _ = write!(text, "{}", compiled.spec);
    }
    std::io::stdout().write_all(text.as_bytes()).or_else(report::cannot_write)?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Shows findings; whether the script cannot run.
pub(crate) fn show(diagnostics: &[Diagnostic], sources: &Sources, request: &Request) -> bool {
    let mut failed = false;
    for diagnostic in diagnostics {
        let warning = diagnostic.severity == Severity::Warning;
        failed |= !warning;
        if !(warning && (request.no_warnings || request.quiet)) {
            show_one(diagnostic, sources, request);
        }
    }
    failed
}

fn show_one(diagnostic: &Diagnostic, sources: &Sources, request: &Request) {
    let diagnostics = std::slice::from_ref(diagnostic);
    let text = match request.bpftrace {
        true => skep_script::render::bpftrace(sources, diagnostics),
        false => skep_script::render::rustlike(sources, diagnostics, report::has_colour()),
    };
    report::line(text.trim_end_matches('\n'));
}

fn warning(message: &str, hint: &str, request: &Request) {
    match request.bpftrace {
        true => report::line(&format!("WARNING: {message}\nHINT: {hint}")),
        false => report::warning(message, Some(hint)),
    }
}

fn tell(notice: Notice<'_>, sources: &Sources, request: &Request) {
    match notice {
        Notice::Warning { .. } if request.no_warnings || request.quiet => {}
        Notice::Warning { message, .. } if request.bpftrace => report::line(&format!("WARNING: {message}")),
        Notice::Warning { message, hint } => report::warning(&message, hint.as_deref()),
        Notice::Failure { message } if request.bpftrace => report::line(&format!("ERROR: {message}")),
        Notice::Failure { message } => report::warning(&message, None),
        Notice::Diagnostic(diagnostic) if diagnostic.severity == Severity::Warning && request.no_warnings => {}
        Notice::Diagnostic(diagnostic) => show_one(diagnostic, sources, request),
        Notice::Loaded { identity, .. } if request.bpftrace && request.verbose => {
            if let Some(kernel) = identity.kernel {
                report::line(&format!("Program ID: {}", kernel.id));
            }
        }
        Notice::Loaded { program, identity } if request.verbose => {
            report::line(&format!("loaded `{program}`: {identity}"));
        }
        // What reads it may wait for this line.
        Notice::Pinned { path } if request.bpftrace => println!("Program pinned to {}", path.display()),
        Notice::Pinned { path } if !request.quiet => report::line(&format!("pinned: `cat {}` runs it", path.display())),
        Notice::Attached { probes } => {
            if request.format == Format::Text && !request.quiet {
                let plural = if probes == 1 { "" } else { "s" };
                report::line(&format!("Attached {probes} probe{plural}"));
            }
            if let Some(line) = request.ready {
                let mut out = std::io::stdout();
                // Whoever waits for it is gone when it cannot be written.
                let _ = writeln!(out, "{line}").and_then(|()| out.flush());
            }
        }
        Notice::Lost { .. } if request.bpftrace && request.format == Format::Json => {}
        Notice::Lost { count, .. } if request.bpftrace => report::line(&format!("Lost {count} events")),
        Notice::Lost { probe, count } => {
            report::line(&format!("lost {count} events of {probe}: the ring buffer was full"))
        }
        _ => {}
    }
}

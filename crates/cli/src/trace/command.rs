//! `skep trace` and `skep list`: from the command line to what was meant.

use std::path::Path;
use std::process::ExitCode;

use skep_engine::Error;
use skep_run::trace::{Buffering, Format, HelperErrors};
use skep_script::{SourceId, Sources};

use super::{Request, source};
use crate::args::{Buffer, HowArgs, ListArgs, TraceArgs, TraceFormat};

pub(crate) fn trace(args: TraceArgs) -> Result<ExitCode, Error> {
    let mut sources = Sources::default();
    let id = open(&mut sources, &args.script, args.is_text)?;
    let (fmt, debug) = (args.fmt, args.debug.clone());
    let request = meant(args)?;
    if request.script.named.iter().any(|(name, _)| name == "help")
        && let Some(text) = super::tool::script_help(&sources, id)
    {
        println!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    match debug {
        _ if fmt => super::format(&sources, id, &request),
        Some(stage) => super::debug(sources, id, &stage, &request),
        None => super::run(sources, id, &request),
    }
}

pub(crate) fn list(args: ListArgs) -> Result<ExitCode, Error> {
    let script = skep_script::Options { pid: args.pid, ..skep_script::Options::default() };
    super::list::list(&args.pattern.join(" "), args.verbose, &Request { script, ..Request::default() })
}

/// A file if there is one of that name, unless it is said to be text; text with a probe in it is the script itself.
fn open(sources: &mut Sources, script: &str, is_text: bool) -> Result<SourceId, Error> {
    if is_text {
        return Ok(sources.add("stdin", script));
    }
    let path = Path::new(script);
    if script != "-" && !path.exists() {
        if script.contains(['{', '\n']) {
            return Ok(sources.add("stdin", script));
        }
        return Err(Error::new(format!("there is no file `{script}`"))
            .with_hint("a script on the command line has a probe: `BEGIN { printf(\"hello\\n\"); }`"));
    }
    let (name, text) = source::file(path)?;
    Ok(sources.add(name, text))
}

fn meant(args: TraceArgs) -> Result<Request, Error> {
    let (_, named) = source::split_params(args.options);
    let mut request = how(args.how);
    request.script = skep_script::Options {
        params: args.params,
        named,
        config: settings(&args.what.config)?,
        pid: request.script.pid,
        follow: request.script.follow,
        command: request.command.clone(),
        allow_unsafe: args.what.allow_unsafe,
        include_dirs: args.what.include_dir,
        includes: args.what.include,
        ..skep_script::Options::default()
    };
    request.dry_run |= args.debug.is_some();
    request.emit_elf = args.emit;
    Ok(request)
}

/// How a script is to run, with nothing of the script yet.
pub(super) fn how(args: HowArgs) -> Request {
    Request {
        script: skep_script::Options {
            pid: args.pid,
            follow: args.follow,
            command: args.command.clone(),
            ..skep_script::Options::default()
        },
        format: match args.format {
            TraceFormat::Text => Format::Text,
            TraceFormat::Json => Format::Json,
            TraceFormat::Csv => Format::Csv,
        },
        buffering: match args.buffer {
            Buffer::Line => Buffering::Line,
            Buffer::Full => Buffering::Full,
            Buffer::None => Buffering::None,
        },
        command: args.command,
        dwarf_pids: args.dwarf_pid,
        engine: args.engine,
        cgroup: args.cgroup,
        container: args.container,
        duration: args.duration,
        dry_run: args.dry_run,
        helper_errors: if args.helper_errors { HelperErrors::All } else { HelperErrors::Important },
        output: args.output,
        quiet: args.quiet,
        no_warnings: args.no_warnings,
        verbose: args.verbose,
        ..Request::default()
    }
}

/// The environment's settings, and those typed, which win.
fn settings(typed: &[String]) -> Result<Vec<(String, String)>, Error> {
    let typed = typed_settings(typed)?;
    let mut config = source::settings();
    config.retain(|(key, _)| typed.iter().all(|(known, _)| known != key));
    config.extend(typed);
    Ok(config)
}

/// `KEY=VALUE`, the last of each key.
pub(super) fn typed_settings(typed: &[String]) -> Result<Vec<(String, String)>, Error> {
    let mut config: Vec<(String, String)> = Vec::new();
    for setting in typed {
        let (key, value) = setting.split_once('=').ok_or_else(|| {
            Error::new(format!("`{setting}` sets nothing")).with_hint("write it as `max_map_keys=100000`")
        })?;
        config.retain(|(known, _)| known != key);
        config.push((key.to_owned(), value.to_owned()));
    }
    Ok(config)
}

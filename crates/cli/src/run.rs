//! `skep run`.

use std::process::ExitCode;

use skep_engine::{AttachOptions, Error, LoadOptions};
use skep_kernel::LoaderEngine;
use skep_run::options::{Format, MapsAtEnd, Options};
use skep_run::{Notice, Summary, prepare};
use skep_sys::stdout::Stdout;

use crate::args::{EngineChoice, Maps, RunArgs, XdpMode};
use crate::engine::{Chosen, Sources};
use crate::globals::Global;
use crate::vectors::Vector;
use crate::{engine, report};

pub(crate) fn run(args: RunArgs, globals: Vec<Global>) -> Result<ExitCode, Error> {
    let verbose = args.verbose;
    let (choice, keyring) = (args.engine, args.keyring);
    let target = crate::build::target(args.btf.as_deref())?;
    let sources = Sources {
        packets: args.pcap.clone(),
        packets_out: args.pcap_out.clone(),
        network: args.tap,
        far: args.far.clone(),
        processes: args.command.is_some() || args.pid.is_some(),
    };
    let vector = Vector::of(&args)?;
    let mut options = meant(args, globals);
    // A program that runs once may call others of its object.
    let wanted = if vector.is_some() { std::mem::take(&mut options.programs) } else { Vec::new() };
    let prepared = prepare(&options, &target, &mut |notice| tell(notice, verbose))?;
    if let Some(loader) = &prepared.loader {
        if choice == Some(EngineChoice::User) || vector.is_some() || sources.packets.is_some() {
            return Err(Error::new("a loader program loads into the kernel, and does nothing else")
                .with_hint("give the object that it was made of"));
        }
        let engine = LoaderEngine::new(loader.clone()).with_keyring(keyring);
        let mut out = Stdout;
        sum_up(&skep_run::run(prepared, &options, &engine, &mut out, &mut |notice| tell(notice, verbose))?);
        return Ok(ExitCode::SUCCESS);
    }
    let Chosen { engine, why } = engine::choose(choice, &prepared.spec, &sources, target)?;
    if choice == Some(EngineChoice::Auto) || verbose || (choice.is_none() && engine.name() == "user") {
        report::line(&format!("engine: {}, {why}", engine.name()));
    }
    if let Some(vector) = vector {
        return vector.run(prepared.spec, &wanted, &options, engine.as_dyn());
    }
    let worker = engine.split(&sources);
    let mut out = Stdout;
    let result = skep_run::run(prepared, &options, engine.as_dyn(), &mut out, &mut |notice| tell(notice, verbose));
    // Also when it ends with an error: the packets before it had their verdicts.
    engine.sum_up();
    match result {
        Ok(summary) => {
            sum_up(&summary);
            Ok(engine.finish(worker, 0))
        }
        Err(error) => engine.fail(worker, error),
    }
}

fn meant(args: RunArgs, mut globals: Vec<Global>) -> Options {
    globals.extend(args.set.iter().map(|set| match set.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (set.clone(), "1".to_owned()),
    }));
    let includes = args.include.iter().map(|dir| format!("-I{}", dir.display()));
    let defines = args.define.iter().map(|define| format!("-D{define}"));
    Options {
        clang_flags: includes.chain(defines).collect(),
        file: args.file,
        linked: args.linked,
        attach: AttachOptions {
            interface: args.iface,
            xdp_mode: match args.xdp_mode {
                XdpMode::Auto => skep_engine::XdpMode::Auto,
                XdpMode::Native => skep_engine::XdpMode::Native,
                XdpMode::Generic => skep_engine::XdpMode::Generic,
            },
            binary: args.bin,
            pid: args.pid,
            cgroup: args.cgroup,
            receiver: args.receiver,
            net_namespace: args.netns,
            sample_hz: args.hz,
            netfilter: args.hook,
            priority: args.priority,
            map: args.map,
            ..AttachOptions::default()
        },
        attach_to: args.attach_to,
        load: LoadOptions { replace: args.replace_in, perf_buffer_bytes: args.perf_buffer, ..LoadOptions::default() },
        command: args.command,
        duration: args.duration,
        max_events: args.max_events,
        format: if args.json { Format::Json } else { Format::Text },
        maps: match args.maps {
            Maps::Auto => MapsAtEnd::Auto,
            Maps::Never => MapsAtEnd::Never,
            Maps::Exit => MapsAtEnd::Always,
        },
        programs: args.prog,
        globals,
    }
}

pub(crate) fn tell(notice: Notice<'_>, verbose: bool) {
    match notice {
        Notice::Warning { message, hint } => report::warning(&message, hint.as_deref()),
        Notice::Assumed { message } => report::line(&message),
        Notice::CompilerText { text } => report::line(text.trim_end()),
        Notice::Losing { lost } => report::line(&format!("{lost} events lost so far")),
        Notice::Compiled { took: Some(took) } if verbose => {
            report::line(&format!("compiled in {} ms", took.as_millis()));
        }
        Notice::Compiled { took: None } if verbose => report::line("compiled before, taken from the cache"),
        Notice::Loaded { program, identity } if verbose => report::line(&format!("loaded `{program}`: {identity}")),
        Notice::Attached { program, place } if verbose => report::line(&format!("attached `{program}`: {place}")),
        Notice::Idle { program, reason } => report::line(&format!("not attached: `{program}`: {reason}")),
        Notice::Stream { program, line, .. } => report::line(&format!("{program}: {line}")),
        Notice::Ready if verbose => report::line("^C to stop"),
        _ => {}
    }
}

fn sum_up(summary: &Summary) {
    let seconds = summary.took.as_secs_f64();
    let mut text = String::new();
    if summary.tells {
        let plural = if summary.events == 1 { "" } else { "s" };
        text = format!("{} event{plural}, {} lost, ", summary.events, summary.lost);
    }
    text.push_str(&format!("{seconds:.1} s"));
    if !summary.lost_by_function.is_empty() {
        let parts: Vec<String> =
            summary.lost_by_function.iter().map(|(name, count)| format!("{count} in `{name}`")).collect();
        text.push_str(&format!(" (no room in the ring buffer: {})", parts.join(", ")));
    }
    if let Some(status) = summary.command.filter(|status| !status.success()) {
        text.push_str(&format!("; the command ended with {status}"));
    }
    if let Some(pid) = summary.ended_process {
        text.push_str(&format!("; process {pid} has ended"));
    }
    report::line(&text);
}

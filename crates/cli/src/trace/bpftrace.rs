//! The command line of `bpftrace`, for scripts and harnesses that call it by that name.
//!
//! Words are read as getopt_long(3) does: options may stand behind the script until `--`, a value may be joined to its option,
//! and long names may be cut short where that is clear.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use regex_lite::Regex;
use skep_engine::Error;
use skep_run::trace::{Buffering, Format, HelperErrors};
use skep_script::options::Mode;
use skep_script::{SourceId, Sources};

use super::{Request, info, list, source};
use crate::report;

/// What a harness waits for.
pub(crate) const NOTIFY: &str = "__BPFTRACE_NOTIFY_PROBES_ATTACHED";

/// Every option: long name, short name, whether it takes a value.
const OPTIONS: [(&str, char, Value); 33] = [
    ("aot", '\0', Value::One),
    ("bench", '\0', Value::None),
    ("cmd", 'c', Value::One),
    ("debug", 'd', Value::One),
    ("debuginfo", '\0', Value::One),
    ("dry-run", '\0', Value::None),
    ("dwarf-pid", '\0', Value::One),
    ("emit-elf", '\0', Value::One),
    ("emit-llvm", '\0', Value::One),
    ("fmt", '\0', Value::None),
    ("format", 'f', Value::One),
    ("help", 'h', Value::None),
    ("include", '\0', Value::One),
    ("info", '\0', Value::None),
    ("list", 'l', Value::None),
    ("mode", '\0', Value::One),
    ("no-feature", '\0', Value::One),
    ("no-warnings", '\0', Value::None),
    ("output", 'o', Value::One),
    ("pid", 'p', Value::One),
    ("probe-filter", '\0', Value::One),
    ("quiet", 'q', Value::None),
    ("test", '\0', Value::None),
    ("traceable-functions", '\0', Value::None),
    ("unsafe", '\0', Value::None),
    ("usdt-file-activation", '\0', Value::None),
    ("verbose", 'v', Value::None),
    ("verify-llvm-ir", '\0', Value::None),
    ("version", 'V', Value::None),
    ("warnings", 'k', Value::None),
    ("", 'B', Value::One),
    ("", 'e', Value::One),
    ("", 'I', Value::One),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    None,
    One,
}

/// What the words mean.
#[derive(Debug, Default)]
struct Parsed {
    program: Option<String>,
    /// What is no option, in order.
    words: Vec<String>,
    /// What stands behind `--` belongs to the script: `--name=value` to `getopt`, everything else to `$1` and so on.
    behind: Vec<String>,
    list: bool,
    info: bool,
    help: bool,
    version: bool,
    fmt: bool,
    verbose: bool,
    debug: Option<String>,
    includes: Vec<PathBuf>,
    /// Where the script goes as an executable.
    aot: Option<PathBuf>,
    request: Request,
}

/// Runs as `bpftrace` would, with its exit codes.
pub(crate) fn main(words: Vec<String>) -> ExitCode {
    let parsed = match parse(words) {
        Ok(parsed) => parsed,
        Err(message) => {
            report::line(&message);
            // A value that is wrong needs no list of options.
            if !message.starts_with("ERROR: ") {
                report::line(USAGE);
            }
            return ExitCode::FAILURE;
        }
    };
    match run(parsed) {
        Ok(code) => code,
        Err(error) => {
            report::line(&format!("ERROR: {error}"));
            let mut cause = std::error::Error::source(&error);
            while let Some(current) = cause {
                report::line(&format!("  {current}"));
                cause = current.source();
            }
            if let Some(hint) = error.hint() {
                report::line(&format!("HINT: {hint}"));
            }
            ExitCode::FAILURE
        }
    }
}

fn run(mut parsed: Parsed) -> Result<ExitCode, Error> {
    // `FILE --help` asks the script what it takes.
    if parsed.help && parsed.program.is_none() && parsed.words.is_empty() {
        println!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    }
    if parsed.version {
        println!("bpftrace v0.27.0 (skep {})", env!("CARGO_PKG_VERSION"));
        return Ok(ExitCode::SUCCESS);
    }
    if parsed.info {
        print!("{}", info::info());
        return Ok(ExitCode::SUCCESS);
    }
    if parsed.list {
        if let Some(program) = &parsed.program {
            return list::list_program(program, parsed.verbose, &parsed.request);
        }
        let pattern = parsed.words.first().map_or("", String::as_str);
        return list::list(pattern, parsed.verbose, &parsed.request);
    }
    let (params, named) = source::split_params(std::mem::take(&mut parsed.behind));
    let mut words = std::mem::take(&mut parsed.words).into_iter().chain(params);
    let mut sources = Sources::default();
    let id: SourceId = match parsed.program.take().filter(|text| !text.is_empty()) {
        Some(text) => sources.add("stdin", text),
        None => {
            let Some(path) = words.next() else {
                report::line("ERROR: USAGE: filename or -e 'program' required.");
                return Ok(ExitCode::FAILURE);
            };
            if path != "-"
                && let Err(cause) = std::fs::File::open(&path)
            {
                let text = skep_sys::strerror(&cause);
                return Err(Error::new(format!("failed to open file '{path}': {text}")));
            }
            let (name, text) = source::file(Path::new(&path))?;
            sources.add(name, text)
        }
    };
    if parsed.fmt {
        return super::format(&sources, id, &parsed.request);
    }
    if (parsed.help || named.iter().any(|(name, _)| name == "help"))
        && let Some(text) = super::tool::script_help(&sources, id)
    {
        println!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    parsed.request.script.params = words.collect();
    parsed.request.script.named = named;
    if let Some(output) = &parsed.aot {
        // What this shell's environment sets is of this shell.
        parsed.request.script.config.clear();
        return super::tool::write(sources, id, &parsed.request, output, false);
    }
    if let Some(stage) = &parsed.debug {
        return super::debug(sources, id, stage, &parsed.request);
    }
    super::run(sources, id, &parsed.request)
}

fn parse(words: Vec<String>) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    parsed.request.bpftrace = true;
    parsed.request.script.bpftrace = true;
    parsed.request.script.config = source::settings();
    // Tests of time series set the clock: the variable names the script's map that is it.
    let clock = std::env::var("BPFTRACE_DUMMY_TS_MAP").ok();
    parsed.request.script.series_clock = clock.map(|map| format!("@{}", map.trim_start_matches('@')));
    if std::env::var_os(NOTIFY).is_some() {
        parsed.request.ready = Some(NOTIFY);
    }
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            parsed.behind.extend(words.by_ref());
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, joined) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let (long, short, takes) = find_long(name)?;
            let value = match (takes, joined) {
                (Value::None, None) => String::new(),
                (Value::None, Some(_)) => return Err(format!("option '--{long}' doesn't allow an argument")),
                (Value::One, Some(value)) => value,
                (Value::One, None) => words.next().ok_or_else(|| format!("option '--{long}' requires an argument"))?,
            };
            parsed.set(long, short, value)?;
        } else if word.len() > 1
            && let Some(letters) = word.strip_prefix('-')
        {
            let mut letters = letters.chars();
            while let Some(letter) = letters.next() {
                let known = OPTIONS.iter().find(|option| option.1 == letter);
                let (long, short, takes) = known.ok_or_else(|| format!("invalid option -- '{letter}'"))?;
                let value = match takes {
                    Value::None => String::new(),
                    Value::One if letters.as_str().is_empty() => {
                        words.next().ok_or_else(|| format!("option requires an argument -- '{letter}'"))?
                    }
                    Value::One => std::mem::replace(&mut letters, "".chars()).collect(),
                };
                parsed.set(long, *short, value)?;
            }
        } else {
            parsed.words.push(word);
        }
    }
    parsed.request.script.includes = std::mem::take(&mut parsed.includes);
    if parsed.request.command.is_some() && parsed.request.script.pid.is_some() {
        return Err("ERROR: USAGE: Cannot use both -c and -p.".to_owned());
    }
    Ok(parsed)
}

/// The option of this name, or the only one that begins with it.
fn find_long(name: &str) -> Result<(&'static str, char, Value), String> {
    let exact = OPTIONS.iter().find(|option| option.0 == name);
    let mut near = OPTIONS.iter().filter(|option| !name.is_empty() && option.0.starts_with(name));
    match (exact, near.next(), near.next()) {
        (Some(option), ..) | (None, Some(option), None) => Ok(*option),
        (None, Some(_), Some(_)) => Err(format!("option '--{name}' is ambiguous")),
        (None, None, _) => Err(format!("unrecognized option '--{name}'")),
    }
}

impl Parsed {
    fn set(&mut self, long: &str, short: char, value: String) -> Result<(), String> {
        let request = &mut self.request;
        match (long, short) {
            (_, 'e') => self.program = Some(value),
            (_, 'I') => request.script.include_dirs.push(value.into()),
            (_, 'B') => {
                request.buffering = match value.as_str() {
                    "line" => Buffering::Line,
                    "full" => Buffering::Full,
                    "none" => Buffering::None,
                    _ => return Err("ERROR: USAGE: -B must be either 'line', 'full', or 'none'.".to_owned()),
                };
            }
            ("format", _) => {
                request.format = match value.as_str() {
                    "text" => Format::Text,
                    "json" => Format::Json,
                    _ => {
                        return Err(format!("ERROR: Invalid output format \"{value}\"\nValid formats: 'text', 'json'"));
                    }
                };
            }
            ("pid", _) => request.script.pid = Some(pid(&value)?),
            ("cmd", _) => {
                request.script.command = Some(value.clone());
                request.command = Some(value);
            }
            ("output", _) => request.output = Some(value.into()),
            ("include", _) => self.includes.push(value.into()),
            ("emit-elf", _) => request.emit_elf = Some(value.into()),
            ("mode", _) => match value.as_str() {
                "test" => request.script.mode = Mode::Test,
                "bench" => request.script.mode = Mode::Bench,
                "format" => self.fmt = true,
                "codegen" | "compiler-bench" => request.dry_run = true,
                _ => return Err(format!("ERROR: Invalid mode: {value}")),
            },
            ("debug", _) => {
                request.dry_run = true;
                self.debug = Some(value);
            }
            ("test", _) => request.script.mode = Mode::Test,
            ("bench", _) => request.script.mode = Mode::Bench,
            ("dry-run", _) => request.dry_run = true,
            ("fmt", _) => self.fmt = true,
            ("help", _) => self.help = true,
            ("info", _) => self.info = true,
            ("list", _) => self.list = true,
            ("no-warnings", _) => request.no_warnings = true,
            ("quiet", _) => request.quiet = true,
            ("unsafe", _) => request.script.allow_unsafe = true,
            ("verbose", _) => {
                self.verbose = true;
                request.verbose = true;
            }
            ("version", _) => self.version = true,
            ("warnings", _) => {
                // Twice: what is read from a map and is not there, too.
                request.script.report_absent_keys = request.helper_errors == HelperErrors::All;
                request.helper_errors = HelperErrors::All;
            }
            ("probe-filter", _) => {
                let filter = Regex::new(&value).map_err(|mistake| {
                    format!("ERROR: --probe-filter: '{value}' is no regular expression: {mistake}")
                })?;
                request.script.probe_filter = Some(filter);
            }
            ("aot", _) => self.aot = Some(value.into()),
            ("dwarf-pid", _) => {
                for number in value.split(',') {
                    request.dwarf_pids.push(pid(number)?);
                }
            }
            ("emit-llvm", _) => {
                return Err(format!(
                    "ERROR: --{long} needs LLVM, which skep does without: -d ir shows what it has instead"
                ));
            }
            // They choose how another compiler does its work, or what is so already.
            _ => {}
        }
        Ok(())
    }
}

fn pid(text: &str) -> Result<u32, String> {
    match text.parse::<u64>() {
        // PID_MAX_LIMIT (include/linux/threads.h).
        Ok(pid @ 1..=0x0040_0000) => Ok(pid as u32),
        Ok(_) => Err(format!("ERROR: Pid out of range: {text}")),
        Err(_) => Err(format!("ERROR: Failed to parse pid: invalid integer: {text}")),
    }
}

const USAGE: &str = "\
USAGE:
    bpftrace [options] filename
    bpftrace [options] - <stdin input>
    bpftrace [options] -e 'program'

OPTIONS:
    -B MODE        output buffering mode ('line', 'full', 'none')
    -f FORMAT      output format ('text', 'json')
    -o FILE        redirect output to a file
    -e 'program'   run this program
    -h, --help     show this help
    -I DIR         add a folder for #include
    --include FILE include a file before the script
    -l [search]    list probes; with -v their arguments
    -p PID         only this process
    -c 'CMD'       run a command, and end with it
    --dwarf-pid PID  a process whose stacks dw_ustack walks from the first event on
    --unsafe       allow unsafe functions
    -q             keep quiet
    --info         what this machine can do
    -k             warn of every failed helper
    -V, --version  the version
    --no-warnings  no warnings
    -v             verbose

DEVELOPMENT:
    -d STAGE       show a stage of the compiler (ast, types, ir, dis, all), run nothing
    --dry-run      load, and attach nothing
    --emit-elf FILE write the programs as an object
    --fmt          write the script in its usual form
    --aot FILE     write the script as an executable
    --test, --bench run test: or bench: probes
    --probe-filter REGEX only probes with such names

Everything behind `--` belongs to the script: `-- --name=value`.";

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Parsed {
        parse(text.split(' ').map(str::to_owned).collect()).unwrap()
    }

    #[test]
    fn options_are_read_as_getopt_does() {
        let parsed = words("-fjson -q tool.bt 1 -p 7 x -- --top=3 -k");
        assert_eq!((parsed.request.format, parsed.request.quiet), (Format::Json, true));
        assert_eq!(parsed.request.script.pid, Some(7));
        assert_eq!(parsed.words, ["tool.bt", "1", "x"]);
        assert_eq!(parsed.behind, ["--top=3", "-k"]);
        let parsed = words("--verify-llvm-ir --form=text -e BEGIN{} -lv");
        assert_eq!((parsed.program.as_deref(), parsed.list, parsed.verbose), (Some("BEGIN{}"), true, true));
    }

    #[test]
    fn what_is_no_option_is_refused() {
        let refused = |text: &str| parse(text.split(' ').map(str::to_owned).collect()).unwrap_err();
        assert_eq!(refused("-x"), "invalid option -- 'x'");
        assert_eq!(refused("--nonsense"), "unrecognized option '--nonsense'");
        assert_eq!(refused("--no-"), "option '--no-' is ambiguous");
        assert_eq!(refused("-p 0"), "ERROR: Pid out of range: 0");
        assert_eq!(refused("-p 5000000"), "ERROR: Pid out of range: 5000000");
        assert_eq!(refused("-e"), "option requires an argument -- 'e'");
        assert!(refused("-f xml").starts_with("ERROR: Invalid output format"));
    }

    #[test]
    fn every_option_stands_once() {
        for (index, option) in OPTIONS.iter().enumerate() {
            let same = |other: &&(&str, char, Value)| {
                (!option.0.is_empty() && other.0 == option.0) || (option.1 != '\0' && other.1 == option.1)
            };
            assert_eq!(OPTIONS[index + 1..].iter().find(same).map(|other| other.0), None);
        }
    }
}

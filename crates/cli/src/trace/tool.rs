//! `skep build`, and the executables that it makes.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use skep_engine::Error;
use skep_kernel::LiveTarget;
use skep_run::tool::{Tool, WithFiles};
use skep_script::compile::compile;
use skep_script::expand::{Getopt, getopts};
use skep_script::{SourceId, Sources, Target};

use super::{Request, command, show, source};
use crate::args::{BuildArgs, ToolArgs};
use crate::report;

/// The file that runs, also where it was moved or replaced since.
const OWN_EXECUTABLE: &str = "/proc/self/exe";
/// Before the name of a script's option, where clap tells arguments apart.
const OPTION: &str = "script option ";

/// An option of the script, and its value if it was given one.
type Named = (String, Option<String>);

/// Makes a tool of a script.
pub(crate) fn build(args: BuildArgs) -> Result<ExitCode, Error> {
    if !args.define.is_empty() || args.min_btf.is_some() || args.loader {
        return Err(Error::new(format!(
            "`{}` is a script; `-D`, `--min-btf` and `--loader` are for C files and objects",
            args.file.display()
        )));
    }
    let (name, text) = source::file(&args.file)?;
    let output = match args.output {
        Some(path) => path,
        None => args.file.file_stem().map(PathBuf::from).unwrap_or_default(),
    };
    if same_file(&output, &args.file) {
        return Err(Error::new(format!("`{}` is the script itself", output.display()))
            .with_hint("name the tool with `-o FILE`"));
    }
    let (_, named) = source::split_params(args.options);
    // What this shell's environment sets is of this shell; a tool is set by the environment that it is started in.
    let config = command::typed_settings(&args.what.config)?;
    let request = Request {
        script: skep_script::Options {
            params: args.more,
            named,
            allow_unsafe: args.what.allow_unsafe,
            config,
            include_dirs: args.what.include_dir.clone(),
            includes: args.what.include.clone(),
            ..skep_script::Options::default()
        },
        ..Request::default()
    };
    let mut sources = Sources::default();
    let id = sources.add(name, text);
    write(sources, id, &request, &output, args.elsewhere)
}

/// Writes a script and what it needs as an executable. One that does not compile here is refused, unless it may be meant for a
/// machine `elsewhere`.
pub(super) fn write(
    mut sources: Sources,
    id: SourceId,
    request: &Request,
    output: &Path,
    elsewhere: bool,
) -> Result<ExitCode, Error> {
    let source = sources.get(id);
    let (name, text) = (source.name.to_string(), source.text.to_string());
    let (_, mistakes) = skep_script::parser::parse(&sources, id);
    let machine = LiveTarget::shared();
    let target = WithFiles::new(&machine, Default::default());
    let compiled = compile(&mut sources, id, &request.script, &target);
    let failed = show(&compiled.diagnostics, &sources, request);
    let written_wrong = mistakes.iter().any(|found| found.severity == skep_script::Severity::Error);
    if failed && (!elsewhere || written_wrong) {
        let error = Error::new(format!("`{name}` does not compile"));
        return Err(match written_wrong {
            true => error,
            false => error.with_hint("if only this machine lacks something, build it with `skep build --elsewhere`"),
        });
    }
    let script = &request.script;
    let tool = Tool {
        name,
        text,
        allow_unsafe: script.allow_unsafe,
        config: script.config.clone(),
        include_dirs: script.include_dirs.clone(),
        includes: script.includes.clone(),
        files: target.into_carried(),
    };
    let skep = File::open(OWN_EXECUTABLE)
        .map_err(|cause| Error::new(format!("cannot read `{OWN_EXECUTABLE}`")).with_source(cause))?;
    tool.write(&skep, output)?;
    Ok(ExitCode::SUCCESS)
}

fn same_file(one: &Path, other: &Path) -> bool {
    one.canonicalize().ok().is_some_and(|one| other.canonicalize().ok() == Some(one))
}

/// Runs the script that this executable carries; `None` when it is skep itself.
pub(crate) fn run_own(typed: &[OsString]) -> Option<ExitCode> {
    // Without /proc nobody can tell; no script could run there either.
    let tool = Tool::of_executable(&File::open(OWN_EXECUTABLE).ok()?).transpose()?;
    Some(tool.and_then(|tool| run(tool, typed)).unwrap_or_else(|error| {
        report::error(&error);
        ExitCode::FAILURE
    }))
}

fn run(tool: Tool, typed: &[OsString]) -> Result<ExitCode, Error> {
    let machine = LiveTarget::shared();
    let target = WithFiles::new(&machine, tool.files);
    let mut sources = Sources::default();
    let id = sources.add(tool.name, tool.text);
    let options = script_options(sources.clone(), id, &target);
    let name = typed.first().and_then(|path| Path::new(path).file_name()).unwrap_or("tool".as_ref());
    let matches = command_line(&name.to_string_lossy(), &sources.get(id).text, &options).get_matches_from(typed);
    let named = given(&options, &matches);
    let args = ToolArgs::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());

    let mut request = command::how(args.how);
    let (behind, more) = source::split_params(args.options);
    request.script.params = args.params.into_iter().chain(behind).collect();
    request.script.named = named.into_iter().chain(more).collect();
    request.script.allow_unsafe = tool.allow_unsafe;
    request.script.include_dirs = tool.include_dirs;
    request.script.includes = tool.includes;
    request.script.config = source::settings();
    for (key, value) in tool.config {
        if request.script.config.iter().all(|(known, _)| *known != key) {
            request.script.config.push((key, value));
        }
    }
    super::run_on(sources, id, &request, &target)
}

fn script_options(mut sources: Sources, id: SourceId, target: &dyn Target) -> Vec<Getopt> {
    let (script, _) = skep_script::parser::parse(&sources, id);
    getopts(script, &mut sources, target)
}

/// The command line of a tool: the script's options, and those of every script. Where both have a name, the script's goes first, and
/// the other is called `--skep-NAME`.
fn command_line(name: &str, script: &str, options: &[Getopt]) -> Command {
    let named = |name: &str| options.iter().any(|option| option.name == name);
    let mut line = <ToolArgs as clap::Args>::augment_args(Command::new(name.to_owned()));
    let others: Vec<(String, String)> = line
        .get_arguments()
        .filter_map(|arg| Some((arg.get_id().to_string(), arg.get_long()?.to_owned())))
        .filter(|(_, long)| named(long))
        .collect();
    for (id, long) in others {
        line = line.mut_arg(id, |arg| arg.long(format!("skep-{long}")));
    }
    let own = options.iter().filter(|option| !matches!(option.name.as_str(), "help" | "")).map(|option| {
        let mut help = option.help.clone().unwrap_or_default();
        let arg = Arg::new(format!("{OPTION}{}", option.name)).long(option.name.clone());
        let arg = match &option.default {
            Some(default) if default == "true" => arg.num_args(0..=1).require_equals(true).value_name("true|false"),
            Some(default) => {
                let space = if help.is_empty() { "" } else { " " };
                help.push_str(&format!("{space}[default: {default}]"));
                arg.value_name("VALUE").allow_hyphen_values(true)
            }
            None => arg.num_args(0..=1).require_equals(true).value_name("true|false"),
        };
        arg.help(help).action(ArgAction::Append).help_heading("Options of the script")
    });
    let about = header(script);
    line.args(own.collect::<Vec<_>>()).about(about).max_term_width(100)
}

/// What `--help` shows of a script that is run as it is: its first comment and its options. `None` when it takes `--help` itself.
pub(crate) fn script_help(sources: &Sources, id: SourceId) -> Option<String> {
    let options = script_options(sources.clone(), id, &LiveTarget::shared());
    if options.iter().any(|option| option.name == "help") {
        return None;
    }
    let mut text = header(&sources.get(id).text);
    if !text.is_empty() {
        text.push_str("\n\n");
    }
    if options.is_empty() {
        return Some(text + "The script takes no options.");
    }
    text.push_str("Options of the script, behind `--`:\n");
    let written = options.iter().map(|option| match option.default.as_deref() {
        None | Some("true" | "false") => format!("--{}", option.name),
        Some(_) => format!("--{}=VALUE", option.name),
    });
    let written: Vec<String> = written.collect();
    let width = written.iter().map(String::len).max().unwrap_or(0);
    for (option, written) in options.iter().zip(&written) {
        let mut help = option.help.clone().unwrap_or_default();
        if let Some(default) = &option.default {
            let space = if help.is_empty() { "" } else { " " };
            help.push_str(&format!("{space}[default: {default}]"));
        }
        text.push_str(format!("    {written:width$}  {help}").trim_end());
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    Some(text)
}

/// The script's options that were given.
fn given(options: &[Getopt], matches: &ArgMatches) -> Vec<Named> {
    let mut named = Vec::new();
    for option in options {
        let id = format!("{OPTION}{}", option.name);
        if !matches!(matches.try_contains_id(&id), Ok(true)) {
            continue;
        }
        let values: Vec<String> = matches.get_many::<String>(&id).into_iter().flatten().cloned().collect();
        named.push((option.name.clone(), values.last().cloned()));
    }
    named
}

/// The comment that a script begins with, without its signs: what it is for.
fn header(script: &str) -> String {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in script.lines().skip_while(|line| line.starts_with("#!") || line.trim().is_empty()) {
        let line = line.trim();
        if inside {
            let (text, ended) = line.split_once("*/").map_or((line, false), |(text, _)| (text, true));
            let text = text.trim_end();
            lines.push(text.strip_prefix("* ").or(text.strip_prefix('*')).unwrap_or(text).to_owned());
            if ended {
                break;
            }
        } else if let Some(text) = line.strip_prefix("//") {
            lines.push(text.strip_prefix(' ').unwrap_or(text).to_owned());
        } else if let Some(text) = line.strip_prefix("/*").filter(|_| lines.is_empty()) {
            let text = text.trim_start_matches('*').trim();
            if let Some((text, _)) = text.split_once("*/") {
                lines.push(text.trim().to_owned());
                break;
            }
            inside = true;
            lines.push(text.to_owned());
        } else {
            break;
        }
    }
    lines.join("\n").trim_matches('\n').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(name: &str, default: Option<&str>) -> Getopt {
        Getopt { name: name.into(), default: default.map(str::to_owned), help: Some(format!("the {name}")) }
    }

    fn words(options: &[Getopt], typed: &str) -> Result<(ToolArgs, Vec<Named>), clap::Error> {
        let matches = command_line("top", "// Shows it.\nbegin {}", options).try_get_matches_from(typed.split(' '))?;
        let named = given(options, &matches);
        Ok((ToolArgs::from_arg_matches(&matches)?, named))
    }

    #[test]
    fn the_scripts_options_stand_beside_those_of_every_script() {
        let options = [option("count", Some("10")), option("failed", None), option("pid", Some("0"))];
        command_line("top", "", &options).debug_assert();
        let (args, named) = words(&options, "top a --count=3 -p 7 --failed --duration 5s 9 -- --count=4 -x").unwrap();
        assert_eq!(args.params, ["a", "9"]);
        assert_eq!(args.options, ["--count=4", "-x"]);
        assert_eq!(args.how.pid, Some(7));
        assert_eq!(named, [("count".into(), Some("3".into())), ("failed".into(), None)]);
        let (args, named) = words(&options, "top --count -3 --pid 5 --skep-pid 6 -5").unwrap();
        assert_eq!(named, [("count".into(), Some("-3".into())), ("pid".into(), Some("5".into()))]);
        assert_eq!((args.how.pid, args.params), (Some(6), vec!["-5".to_owned()]));
        assert!(words(&options, "top --cuont=3").unwrap_err().to_string().contains("--count"));
    }

    #[test]
    fn help_is_the_scripts_comment_and_its_options() {
        let help = words(&[option("count", Some("10"))], "top --help").unwrap_err().to_string();
        assert!(help.starts_with("Shows it.\n\nUsage: top"), "{help}");
        assert!(help.contains("--count <VALUE>") && help.contains("the count [default: 10]"), "{help}");
    }

    #[test]
    fn a_script_that_is_run_as_it_is_shows_its_options() {
        let help = |text: &str| {
            let mut sources = Sources::default();
            let id = sources.add("top.bt", text);
            script_help(&sources, id)
        };
        let text = "// Shows it.\nbegin { print(getopt(\"n\", 5, \"how many\")); print(getopt(\"loud\")); }";
        assert_eq!(
            help(text).unwrap(),
            "Shows it.\n\nOptions of the script, behind `--`:\n    --n=VALUE  how many [default: 5]\n    --loud"
        );
        assert_eq!(help("begin {}").unwrap(), "The script takes no options.");
        assert_eq!(help("begin { print(getopt(\"help\")); }"), None);
    }

    #[test]
    fn the_header_is_the_first_comment() {
        assert_eq!(
            header("#!/usr/bin/env skep\n// A tool.\n//\n//   more\n\n// not this\nbegin {}"),
            "A tool.\n\n  more"
        );
        assert_eq!(header("/*\n * A tool.\n *   more */\nbegin {}"), "A tool.\n  more");
        assert_eq!(header("/* A tool. */ begin {}"), "A tool.");
        assert_eq!(header("begin { /* no */ }"), "");
    }
}

//! `skep run --data`, `--ctx`, `--repeat`: one program on given input. The answer is that of `bpftool prog run`, from either engine.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use skep_engine::{Engine, Error, ErrorKind, TestRun, TestRunOutput};
use skep_run::options::{Format, Options};
use skep_spec::nearest::did_you_mean;
use skep_spec::{ProgId, Spec};

use crate::args::RunArgs;
use crate::report::cannot_write;
use crate::vm;

/// More than any packet or context has.
const MAX_INPUT: u64 = 1 << 20;

/// Given input.
#[derive(Debug)]
pub(crate) struct Vector {
    data: Vec<u8>,
    ctx: Vec<u8>,
    repeat: Option<u32>,
}

impl Vector {
    /// The input that was typed; `None` when a program is to be attached.
    pub(crate) fn of(args: &RunArgs) -> Result<Option<Vector>, Error> {
        if args.data.is_none() && args.ctx.is_none() && args.repeat.is_none() {
            return Ok(None);
        }
        let input = |flag, given: &Option<String>| given.as_deref().map_or(Ok(Vec::new()), |given| read(flag, given));
        Ok(Some(Vector { data: input("--data", &args.data)?, ctx: input("--ctx", &args.ctx)?, repeat: args.repeat }))
    }

    /// Loads the object and runs the program that is wanted, or the only one.
    pub(crate) fn run(
        &self,
        spec: Spec,
        wanted: &[String],
        options: &Options,
        engine: &dyn Engine,
    ) -> Result<ExitCode, Error> {
        let id = choose(&spec, wanted)?;
        let session = engine.load(spec, &options.load)?;
        let loaded = session.programs().iter().find(|program| program.program == id);
        if let Some(Err(error)) = loaded.map(|program| &program.result) {
            return Err(error.clone());
        }
        let input = TestRun { data: &self.data, ctx: &self.ctx, repeat: self.repeat.unwrap_or(1), cpu: None };
        let output = session.test_run(id, &input)?;
        let text = match options.format {
            Format::Text => self.text(&output),
            Format::Json => self.json(&output),
        };
        std::io::stdout().lock().write_all(text.as_bytes()).or_else(cannot_write)?;
        Ok(ExitCode::SUCCESS)
    }

    fn text(&self, output: &TestRunOutput) -> String {
        let mut text = hex(&output.data);
        text.push_str(&hex(&output.ctx));
        let average = if self.repeat.is_some_and(|times| times > 1) { " (average)" } else { "" };
        let _ = writeln!(text, "Return value: {}, duration{average}: {}ns", output.retval, output.duration.as_nanos());
        text
    }

    fn json(&self, output: &TestRunOutput) -> String {
        let bytes = |bytes: &[u8]| bytes.iter().map(|byte| format!("0x{byte:02x}")).collect::<Vec<_>>();
        let mut value = json!({ "retval": output.retval, "duration": output.duration.as_nanos() as u64 });
        for (name, data) in [("data_out", &output.data), ("ctx_out", &output.ctx)] {
            if !data.is_empty() {
                value[name] = json!(bytes(data));
            }
        }
        format!("{value}\n")
    }
}

/// The program by its name, or the only one that is switched on.
fn choose(spec: &Spec, wanted: &[String]) -> Result<ProgId, Error> {
    let all: Vec<_> = spec.programs().filter(|(_, program)| program.autoload).collect();
    let names = || all.iter().map(|(_, program)| program.name.as_str());
    match (wanted, all.as_slice()) {
        ([], [(only, _)]) => Ok(*only),
        ([], []) => Err(Error::new("the object has no program that is switched on")),
        ([], _) => {
            let list: Vec<_> = names().map(|name| format!("`{name}`")).collect();
            Err(Error::new(format!("one program is run, and the object has {}", list.join(", ")))
                .with_kind(ErrorKind::NeedsOption)
                .with_hint(format!("choose with `--program {}`", names().next().unwrap_or_default())))
        }
        ([name], _) => spec.program_named(name).ok_or_else(|| {
            let error = Error::new(format!("the object has no program `{name}`"));
            match did_you_mean(name, names()) {
                Some(hint) => error.with_hint(hint),
                None => error,
            }
        }),
        _ => Err(Error::new("one program is run, and several were named")),
    }
}

/// The bytes of a file, or those that are typed in hex.
fn read(flag: &str, given: &str) -> Result<Vec<u8>, Error> {
    let path = Path::new(given);
    let mut bytes = Vec::new();
    let read = if given == "-" {
        std::io::stdin().lock().take(MAX_INPUT + 1).read_to_end(&mut bytes)
    } else if path.is_file() {
        std::fs::File::open(path).and_then(|file| file.take(MAX_INPUT + 1).read_to_end(&mut bytes))
    } else {
        return vm::bytes(given)
            .map_err(|reason| Error::new(format!("`{flag} {given}` is neither a file nor bytes in hex: {reason}")));
    };
    read.map_err(|cause| Error::new(format!("cannot read `{given}`: {}", skep_sys::io_text(&cause))))?;
    if bytes.len() as u64 > MAX_INPUT {
        return Err(Error::new(format!("`{given}` is longer than any packet: more than {MAX_INPUT} bytes")));
    }
    Ok(bytes)
}

/// 16 bytes a line, in pairs, and what is text in them.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (row, bytes) in bytes.chunks(16).enumerate() {
        let _ = write!(text, "{:07x}\t", 16 * row);
        for at in 0..16 {
            match bytes.get(at) {
                Some(byte) => _ = write!(text, "{byte:02x}"),
                None => text.push_str("  "),
            }
            text.push_str(if at % 2 == 1 { " " } else { "" });
        }
        text.push_str("| ");
        for (at, byte) in bytes.iter().enumerate() {
            text.push(if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '.' });
            text.push_str(if at == 7 { " " } else { "" });
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_bpftool_shows_them() {
        let bytes: Vec<u8> = (b'0'..b'0' + 18).collect();
        assert_eq!(
            hex(&bytes),
            "0000000\t3031 3233 3435 3637 3839 3a3b 3c3d 3e3f | 01234567 89:;<=>?\n\
             0000010\t4041                                    | @A\n"
        );
    }

    #[test]
    fn what_is_neither_a_file_nor_hex_is_told() {
        assert_eq!(read("--data", "0x0a 0B").unwrap(), [10, 11]);
        let error = read("--ctx", "no-such-file").unwrap_err().to_string();
        assert!(error.starts_with("`--ctx no-such-file` is neither a file nor bytes in hex"), "{error}");
    }

    #[test]
    fn the_only_program_needs_no_name() {
        let program = |name: &str| skep_spec::Program::new(name, skep_spec::FuncId(0), "xdp", skep_spec::ProgType::XDP);
        let mut spec = Spec { programs: vec![program("one")], ..Spec::new("x") };
        assert_eq!(choose(&spec, &[]).unwrap(), ProgId(0));
        spec.programs.push(program("two"));
        assert_eq!(choose(&spec, &["two".to_owned()]).unwrap(), ProgId(1));
        assert_eq!(choose(&spec, &[]).unwrap_err().hint(), Some("choose with `--program one`"));
        assert!(choose(&spec, &["too".to_owned()]).unwrap_err().hint().is_some());
    }
}

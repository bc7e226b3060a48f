//! `skep vm conformance`: one program, as the public conformance suite of BPF machines calls a plugin.

use std::io::{Read, Write};
use std::process::ExitCode;

use skep_engine::Error;
use skep_insn::{Endian, slots_from_bytes};
use skep_vm::{Cpu, Helpers, Image, Machine};

use crate::args::{ConformanceArgs, VmArgs, VmCommand};
use crate::report::cannot_write;

/// The suite's programs call one helper, by this number.
const FIRST_ARGUMENT: u32 = 5;
/// More than any program has, in hex digits and blanks.
const MAX_TEXT_BYTES: u64 = 64 << 20;

const PROGRAM: &str = "the program on standard input";
const WANTED: &str = "give its bytes as hex digits, as `xxd -p` writes those of a file";

/// Runs what is asked of the machine itself.
pub(crate) fn vm(args: &VmArgs) -> Result<ExitCode, Error> {
    match &args.command {
        VmCommand::Conformance(args) => conformance(args),
    }
}

/// r0 goes to stdout.
fn conformance(args: &ConformanceArgs) -> Result<ExitCode, Error> {
    // The interpreter is what is used anyway, so `--interpret` only says so.
    let ConformanceArgs { mem, interpret: _, jit } = args;
    let code = bytes(&text()?).map_err(|error| failed(PROGRAM, error))?;
    if code.is_empty() {
        return Err(Error::new(format!("{PROGRAM} is empty")).with_hint(WANTED));
    }
    let insns = slots_from_bytes(&code, Endian::NATIVE)
        .map_err(|rest| Error::new(format!("the program ends with {rest} byte(s) that are no whole instruction")))?;
    let mem = bytes(mem.as_deref().unwrap_or_default()).map_err(|error| failed("the input memory", error))?;

    let helpers = Helpers::none().with(FIRST_ARGUMENT, "first_argument", |_, args| Ok(args[0]));
    let machine = Machine::new(helpers).map_err(told)?;
    let program = machine.load(&Image { insns: &insns, ..Image::default() }).map_err(told)?;
    if *jit {
        program.compile().map_err(told)?;
    }
    let block = machine.space().allocate(mem.len() as u64, true).map_err(told)?;
    block.write(0, &mem).ok_or_else(|| Error::new("the input memory does not fit"))?;
    let args = if mem.is_empty() { [0, 0] } else { [block.addr(), block.len()] };
    let result = Cpu::new(&machine).map_err(told)?.run(&program, args).map_err(told)?;
    writeln!(std::io::stdout(), "{result:x}").or_else(cannot_write)?;
    Ok(ExitCode::SUCCESS)
}

/// What is on standard input.
fn text() -> Result<String, Error> {
    let mut text = Vec::new();
    let stdin = std::io::stdin().lock();
    stdin.take(MAX_TEXT_BYTES + 1).read_to_end(&mut text).map_err(|error| failed("standard input", error))?;
    // A part of a program would be another program.
    if text.len() as u64 > MAX_TEXT_BYTES {
        return Err(Error::new(format!("{PROGRAM} is longer than any: more than {MAX_TEXT_BYTES} bytes of text")));
    }
    String::from_utf8(text).map_err(|_| Error::new(format!("{PROGRAM} is no text")).with_hint(WANTED))
}

fn told(error: impl std::fmt::Display) -> Error {
    Error::new(error.to_string())
}

fn failed(what: &str, error: impl std::fmt::Display) -> Error {
    Error::new(format!("{what}: {error}"))
}

/// Reads hex digits, two for a byte, with blanks wherever they like, and behind `0x` if somebody likes that.
pub(crate) fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim_start();
    let text = text.strip_prefix("0x").unwrap_or(text);
    let mut digits = Vec::new();
    for character in text.chars().filter(|character| !character.is_whitespace()) {
        let digit = character.to_digit(16).ok_or_else(|| format!("`{}` is no hex digit", character.escape_debug()))?;
        digits.push(digit as u8);
    }
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(format!("{} hex digits make no whole bytes", digits.len()));
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn hex_digits_are_bytes_with_blanks_anywhere() {
        assert_eq!(bytes("b7 00\n0000 0A0b\t"), Ok(vec![0xb7, 0, 0, 0, 10, 11]));
        assert_eq!(bytes(""), Ok(Vec::new()));
        assert_eq!(bytes("abc"), Err("3 hex digits make no whole bytes".to_owned()));
        assert_eq!(bytes(" 0xb700 0a"), Ok(vec![0xb7, 0, 10]));
        assert_eq!(bytes("b70x"), Err("`x` is no hex digit".to_owned()));
        assert_eq!(bytes("\u{feff}b7"), Err("`\\u{feff}` is no hex digit".to_owned()));
    }
}

//! The cases of `tests/vm/*.data`.
//!
//! A case starts with `== title` and has parts that start with `--`:
//!
//! - `asm`: the program, as `skep_insn::text` reads it. `$1`, `$2` ... are the values of a row.
//! - `mem HEX`: the input; r1 is its address and r2 its length, without it both are 0.
//! - `packet HEX`: a packet for legacy loads; r1 is some context.
//! - `rows`: lines `value value ... = r0`. The values are the input, 8 bytes each, too.
//! - `result VALUE`: r0.
//! - `after HEX`: the input afterwards.
//! - `error TEXT`: a part of what stops the program. `refused TEXT`: a part of why it is not taken.
//! - `kernel refuses: TEXT`: the kernel does not take it, and its log has TEXT. `kernel differs: WHY`: the kernel takes it, and
//!   gives something else. `kernel may give VALUE: WHY`: a fault of some kernels; what is right or this, nothing else. Without one of
//!   these, the kernel takes it and gives the same.
//! - `since VERSION`: what kernel knows these instructions.

pub(crate) mod kernel;
pub(crate) mod random;
pub(crate) mod shapes;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep_insn::RawInsn;
use skep_insn::text::assemble;
use skep_vm::{Block, CompileOptions, Cpu, Helpers, Image, LoadError, Machine, Packet, Program, Trap};

/// One case; a case with rows gives one for each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Case {
    /// File, title, and row.
    pub(crate) title: String,
    pub(crate) insns: Vec<RawInsn>,
    pub(crate) mem: Option<Vec<u8>>,
    pub(crate) packet: Option<Vec<u8>>,
    pub(crate) expected: Expected,
    pub(crate) after: Option<Vec<u8>>,
    pub(crate) kernel: Kernel,
    pub(crate) since: (u32, u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Result(u64),
    Error(String),
    Refused(String),
}

impl Default for Expected {
    fn default() -> Expected {
        Expected::Error("a case says what is expected".to_owned())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kernel {
    #[default]
    Agrees,
    Refuses(String),
    Differs,
    /// Where it is wrong.
    MayGive(u64),
}

/// A number as the cases write it.
pub(crate) fn number(text: &str) -> u64 {
    let (digits, negative) = text.strip_prefix('-').map_or((text, false), |digits| (digits, true));
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    let value = value.unwrap_or_else(|error| panic!("`{text}`: {error}"));
    if negative { value.wrapping_neg() } else { value }
}

fn bytes(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits")).collect()
}

/// Every case of every file.
pub(crate) fn cases() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vm");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .expect("the folder of the cases")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files.iter().flat_map(|file| parse(file)).collect()
}

fn parse(file: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(file).expect("cases are text");
    let name = file.file_stem().expect("a file has a name").to_string_lossy().into_owned();
    let mut cases = Vec::new();
    for block in format!("\n{text}").split("\n== ").skip(1) {
        let (title, rest) = block.split_once('\n').expect("a title ends its line");
        let mut case = Case { title: format!("{name}: {title}"), ..Case::default() };
        let (mut asm, mut rows) = (String::new(), Vec::new());
        let rest = format!("\n{rest}");
        for part in rest.split("\n-- ").skip(1) {
            let (head, body) = part.split_once('\n').unwrap_or((part, ""));
            let (kind, value) = head.split_once(' ').unwrap_or((head, ""));
            let lines = body.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            match kind {
                "asm" => asm = lines.map(|line| format!("{line}\n")).collect(),
                "rows" => rows = lines.collect(),
                "mem" => case.mem = Some(bytes(value)),
                "packet" => case.packet = Some(bytes(value)),
                "after" => case.after = Some(bytes(value)),
                "result" => case.expected = Expected::Result(number(value)),
                "error" => case.expected = Expected::Error(value.to_owned()),
                "refused" => case.expected = Expected::Refused(value.to_owned()),
                "since" => {
                    let (major, minor) = value.split_once('.').expect("a version has a dot");
                    case.since = (number(major) as u32, number(minor) as u32);
                }
                "kernel" => match value.split_once(':').expect("`refuses:`, `differs:` or `may give VALUE:`") {
                    ("refuses", text) => case.kernel = Kernel::Refuses(text.trim().to_owned()),
                    ("differs", _) => case.kernel = Kernel::Differs,
                    (other, _) => match other.strip_prefix("may give ") {
                        Some(value) => case.kernel = Kernel::MayGive(number(value)),
                        None => panic!("{}: `kernel {other}`", case.title),
                    },
                },
                other => panic!("{}: no part is called `{other}`", case.title),
            }
        }
        if rows.is_empty() {
            case.insns = code(&case.title, &asm);
            cases.push(case);
            continue;
        }
        for row in rows {
            let (values, result) = row.split_once(" = ").expect("a row has a result");
            let mut case = Case { title: format!("{}: {row}", case.title), ..case.clone() };
            let values: Vec<&str> = values.split_whitespace().collect();
            let mut asm = asm.clone();
            for (index, value) in values.iter().enumerate() {
                asm = asm.replace(&format!("${}", index + 1), value);
            }
            case.insns = code(&case.title, &asm);
            case.mem = Some(values.iter().flat_map(|value| number(value).to_ne_bytes()).collect());
            case.expected = Expected::Result(number(result));
            cases.push(case);
        }
    }
    cases
}

/// Assembles.
pub(crate) fn code(title: &str, asm: &str) -> Vec<RawInsn> {
    assemble(asm).unwrap_or_else(|errors| panic!("{title}: {}", errors[0])).code
}

/// A machine whose helper 5 gives back its first argument.
pub(crate) fn machine() -> Arc<Machine> {
    Machine::new(Helpers::none().with(5, "first_argument", |_, args| Ok(args[0]))).expect("4 GiB of addresses")
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Result(u64),
    Trap(Box<Trap>),
    Refused(LoadError),
}

/// What programs run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Interpreter,
    /// Compiled, where there is a compiler.
    Compiler,
    /// The same, in the way that masks addresses.
    Masked,
    /// The same without checks, for programs that are right.
    Plain,
}

impl Engine {
    /// The test binary `compiled` has the tests of others once more.
    pub(crate) fn of_this_binary() -> Engine {
        if env!("CARGO_CRATE_NAME") == "compiled" { Engine::Compiler } else { Engine::Interpreter }
    }

    pub(crate) fn load(self, machine: &Machine, image: &Image<'_>) -> Result<Arc<Program>, LoadError> {
        let program = machine.load(image)?;
        let options = match self {
            Engine::Interpreter => return Ok(program),
            Engine::Compiler => CompileOptions::default(),
            Engine::Masked => CompileOptions::masked(),
            // SAFETY: who asks for it runs programs that stay in their memory.
            #[expect(unsafe_code, reason = "code without checks is compared, too")]
            Engine::Plain => unsafe { CompileOptions::plain() },
        };
        if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            program.compile_with(options).expect("memory for code");
            assert!(program.is_compiled());
        }
        Ok(program)
    }
}

/// Runs programs, each with fresh memory.
pub(crate) struct Runner {
    pub(crate) machine: Arc<Machine>,
    pub(crate) cpu: Cpu,
    engine: Engine,
}

impl Runner {
    pub(crate) fn new() -> Runner {
        Runner::on(Engine::of_this_binary())
    }

    pub(crate) fn on(engine: Engine) -> Runner {
        let machine = machine();
        let cpu = Cpu::new(&machine).expect("a stack");
        Runner { machine, cpu, engine }
    }

    pub(crate) fn load(&self, insns: &[RawInsn]) -> Result<Arc<Program>, LoadError> {
        self.engine.load(&self.machine, &Image { insns, ..Image::default() })
    }

    fn block(&self, bytes: &[u8]) -> Block {
        let block = self.machine.space().allocate(bytes.len() as u64, true).expect("a block");
        block.write(0, bytes).expect("it fits");
        block
    }

    /// How it ended, and the input afterwards.
    pub(crate) fn run(&mut self, insns: &[RawInsn], mem: Option<&[u8]>, packet: Option<&[u8]>) -> (Outcome, Vec<u8>) {
        let program = match self.load(insns) {
            Ok(program) => program,
            Err(error) => return (Outcome::Refused(error), Vec::new()),
        };
        let input = mem.map(|mem| self.block(mem));
        let packet = packet.map(|packet| self.block(packet));
        self.cpu.set_packet(packet.as_ref().map(|packet| Packet {
            addr: packet.addr(),
            len: packet.len() as u32,
            network_off: 14,
            mac_off: 0,
        }));
        let args = input.as_ref().map_or([0, 0], |input| [input.addr(), input.len()]);
        let result = self.cpu.run(&program, args);
        let after = input.map_or(Vec::new(), |input| input.bytes(0, input.len() as usize));
        (result.map_or_else(Outcome::Trap, Outcome::Result), after)
    }
}

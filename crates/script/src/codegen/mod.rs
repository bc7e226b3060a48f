//! Code generation: from the intermediate form to functions of a Spec.
//!
//! ```text
//! ir::Function
//!    │ legalize     what the instruction set lacks is spelled out; critical edges get blocks
//!    │ live         instructions in one line; where every value lives
//!    │ allocate     registers by linear scan; what waits on the stack, what is made anew
//!    │ emit         instructions with labels; parallel copies on edges and in front of calls (moves); the stack (frame)
//!    │ assemble     jumps threaded, inverted, made to reach; slots
//!    ▼
//! spec::Function    with references, its type, and lines that point at the script (info)
//! ```
//!
//! # For the verifier
//!
//! - What can be reached is all that comes out: the verifier refuses the rest (`unreachable insn`, check_cfg of
//!   every version), so blocks without a way to them are not emitted.
//! - A comparison reads the register or the copy on the stack that is used behind it, and has the width that the function
//!   asked for. Copies by `mov` share what is learnt; a copy on the stack is written again behind the comparison.
//! - Values are spilled and reloaded with all 64 bits, so that pointers stay pointers.
//! - Register r0 is always set before `exit`.

mod allocate;
mod assemble;
mod emit;
mod frame;
mod info;
mod legalize;
mod live;
mod moves;

use std::fmt;

use skep_spec::function::Linkage;
use skep_spec::{FuncId, Spec};

use crate::Sources;
use crate::ir::{self, FuncKind, FuncRef, Module, Value};

/// How to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Version of the instruction set: 3 (Linux 5.1) or 4 (Linux 6.6).
    pub isa: u8,
}

impl Default for Options {
    /// ISA v3, which every supported kernel runs.
    fn default() -> Options {
        Options { isa: 3 }
    }
}

/// Why there is no code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Function; empty when it is none of them.
    pub function: String,
    /// What is wrong, lower case.
    pub message: String,
    /// What to change; `None` when it is a bug here.
    pub hint: Option<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.function.is_empty() {
            write!(f, "function `{}`: ", self.function)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// What goes wrong inside one function, and is a bug here.
#[derive(Debug)]
enum Fault {
    /// A value that an instruction reads has no register.
    NoRegister { value: Value },
}

/// Which functions of the Spec those of the module become.
struct Ids<'a> {
    first: u32,
    module: &'a Module,
}

impl Ids<'_> {
    fn function(&self, func: FuncRef) -> FuncId {
        debug_assert!((func.0 as usize) < self.module.functions.len());
        FuncId(self.first + func.0)
    }
}

/// Generates every function of a module and appends it to the Spec, with its type and its lines; one [`FuncId`] for each
/// [`FuncRef`], in order. Maps and externs that the module names are in the Spec already. The functions have no section yet.
///
/// # Errors
///
/// When the module does not [verify](ir::verify()), or a function, or a chain of calls, needs more than 512 bytes of stack. The
/// Spec is as before then.
pub fn generate(module: &Module, spec: &mut Spec, sources: &Sources, options: &Options) -> Result<Vec<FuncId>, Error> {
    let damaged = |error: skep_btf::Error| Error {
        function: String::new(),
        message: format!("the types cannot be written: {error}"),
        hint: None,
    };
    if let Err(errors) = ir::verify(module) {
        let first = errors.first();
        return Err(Error {
            function: first.map(|error| error.function.clone()).unwrap_or_default(),
            message: first.map(ir::verify::Error::inside).unwrap_or_default(),
            hint: None,
        });
    }
    let ids = Ids { first: spec.functions.len() as u32, module };
    let mut info = info::Info::new(spec.btf.as_ref(), sources).map_err(damaged)?;
    let mut functions = Vec::with_capacity(module.functions.len());
    let mut stacks = Vec::with_capacity(module.functions.len());
    for function in &module.functions {
        let (assembled, stack) = function_code(function, &ids, options, spec.endian)?;
        stacks.push(stack);
        let mut out = skep_spec::Function::new(&function.name, "", assembled.insns);
        out.linkage = match function.kind {
            FuncKind::Program => Linkage::Global,
            FuncKind::Local => Linkage::Static,
        };
        out.btf_func = Some(info.function(function).map_err(damaged)?);
        out.lines = info.lines(&assembled.spans).map_err(damaged)?;
        out.references = assembled.references;
        functions.push(out);
    }
    check_stack_of_calls(module, &stacks)?;
    spec.btf = Some(info.finish(spec.endian).map_err(damaged)?);
    spec.functions.append(&mut functions);
    Ok((ids.first..spec.functions.len() as u32).map(FuncId).collect())
}

fn function_code(
    function: &ir::Function,
    ids: &Ids<'_>,
    options: &Options,
    endian: skep_insn::Endian,
) -> Result<(assemble::Assembled, u32), Error> {
    let bug = |message: String| Error { function: function.name.clone(), message, hint: None };
    let mut legal = function.clone();
    legalize::legalize(&mut legal, options.isa);
    let lives = live::lives(&mut legal);
    let allocation = allocate::allocate(&legal, &lives)
        .map_err(|allocate::OutOfRegisters| bug("ten registers do not suffice for one instruction".to_owned()))?;
    let (code, frame) = emit::emit(&legal, &lives, &allocation, ids, options.isa, endian)
        .map_err(|Fault::NoRegister { value }| bug(format!("value {value} is in no register where it is read")))?;
    if frame.size() > frame::MAX_STACK {
        let message = format!(
            "it needs {} bytes of stack ({} for variables, {} for intermediate values), and there are {}",
            frame.size(),
            frame.slot_bytes,
            8 * frame.words,
            frame::MAX_STACK
        );
        let hint = "use fewer or shorter strings and tuples at a time, or keep them in maps".to_owned();
        return Err(Error { hint: Some(hint), ..bug(message) });
    }
    Ok((assemble::assemble(code, options.isa), frame.size()))
}

/// What functions that call each other need together is limited, too, each being rounded up to 32 bytes
/// (`check_max_stack_depth` in kernel/bpf/verifier.c, 6.1).
fn check_stack_of_calls(module: &Module, stacks: &[u32]) -> Result<(), Error> {
    let n = module.functions.len();
    let callees: Vec<Vec<usize>> = module.functions.iter().map(ir::verify::callees).collect();
    // By function: what it needs with the deepest chain below; calls do not form rings, so n rounds are enough.
    let own: Vec<u32> = stacks.iter().map(|bytes| (*bytes).max(1).next_multiple_of(32)).collect();
    let mut deep = own.clone();
    for _ in 0..n {
        let mut changed = false;
        for at in 0..n {
            let below = callees[at].iter().map(|callee| deep[*callee]).max().unwrap_or(0);
            changed |= own[at] + below != deep[at];
            deep[at] = own[at] + below;
        }
        if !changed {
            break;
        }
    }
    match (0..n).find(|at| deep[*at] > frame::MAX_STACK) {
        Some(at) => Err(Error {
            function: module.functions[at].name.clone(),
            message: format!(
                "it needs {} bytes of stack, with the functions that it calls {}, and there are {}",
                stacks[at],
                deep[at],
                frame::MAX_STACK
            ),
            hint: Some("use fewer or shorter strings and tuples at a time, or keep them in maps".to_owned()),
        }),
        None => Ok(()),
    }
}

//! The context of a program: arguments, return values, registers.

use skep_insn::{AluOp, Width, helpers};

use super::place::{Body, Kind};
use super::plan::provider;
use super::shared::Shared;
use crate::ir::Value;
use crate::typed::Context;
use crate::types::{Space, Type};

/// Offsets in `struct pt_regs` (`user_pt_regs` on aarch64), in bytes.
pub(super) struct Registers {
    /// Arguments of functions.
    arguments: &'static [u16],
    /// Result of functions.
    result: u16,
    /// Stack pointer.
    pub(super) stack: u16,
    /// Instruction pointer.
    pub(super) instruction: u16,
    /// Frame pointer.
    pub(super) frame: u16,
    /// Link register.
    pub(super) link: Option<u16>,
    /// Bytes of the whole.
    pub(super) size: u16,
    /// Bytes between the stack pointer at a function's entry and its first argument there.
    stack_arguments: i32,
}

/// System V ABI, arch/x86/include/asm/ptrace.h.
#[cfg(target_arch = "x86_64")]
pub(super) const REGISTERS: Registers = Registers {
    arguments: &[112, 104, 96, 88, 72, 64],
    result: 80,
    stack: 152,
    instruction: 128,
    frame: 32,
    link: None,
    size: 168,
    stack_arguments: 8,
};

/// AAPCS64, arch/arm64/include/uapi/asm/ptrace.h.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const REGISTERS: Registers = Registers {
    arguments: &[0, 8, 16, 24, 32, 40, 48, 56],
    result: 0,
    stack: 248,
    instruction: 256,
    frame: 232,
    link: Some(240),
    size: 272,
    stack_arguments: 0,
};

/// The register in `struct pt_regs`, and how far from what it holds an argument on the stack is when a function is entered,
/// both in bytes. Slots of the stack are 8 bytes each.
pub(crate) fn stack_argument(slot: u32) -> (u32, u32) {
    (u32::from(REGISTERS.stack), REGISTERS.stack_arguments as u32 + slot * 8)
}

impl Body<'_, '_> {
    /// `argN`
    pub(crate) fn argument(&mut self, n: u32) -> Value {
        match self.context_kind() {
            Context::Registers if self.provider() == "usdt" => self.usdt_argument(n),
            Context::Registers => match REGISTERS.arguments.get(n as usize) {
                Some(off) => self.register(*off),
                None => {
                    let stack = self.register(REGISTERS.stack);
                    let further = (n - REGISTERS.arguments.len() as u32) as i32 * 8;
                    let address = self.f.add(stack, REGISTERS.stack_arguments + further);
                    let space = if self.is_user_probe() { Space::User } else { Space::Kernel };
                    self.read_scalar(address, space, &Type::U64, None)
                }
            },
            Context::TypedArgs => {
                let context = self.context();
                let value = self.f.load(8, context, n as i16 * 8);
                self.opaque(value)
            }
            Context::RawArgs => {
                let context = self.context();
                self.f.load(8, context, n as i16 * 8)
            }
            Context::PerfEvent | Context::Tracepoint | Context::Xdp | Context::None => self.number(0),
        }
    }

    /// `retval`
    pub(crate) fn return_value(&mut self, arguments: u32) -> Value {
        match self.context_kind() {
            Context::TypedArgs => {
                let context = self.context();
                let value = self.f.load(8, context, arguments as i16 * 8);
                self.opaque(value)
            }
            _ => self.register(REGISTERS.result),
        }
    }

    pub(super) fn register(&mut self, off: u16) -> Value {
        let context = self.context();
        self.f.load(8, context, off as i16)
    }

    /// Provider of the probe; empty in subprograms.
    pub(super) fn provider(&self) -> String {
        match self.kind {
            Kind::Probe(probe) => provider(probe),
            Kind::Function(_) => String::new(),
        }
    }

    /// Address of the instruction or function where the probe is.
    pub(crate) fn function_address(&mut self) -> Value {
        match (self.provider().as_str(), self.context_kind()) {
            // At a return the instruction pointer is the caller's.
            ("kretprobe" | "uretprobe" | "fentry" | "fexit", _) => {
                let context = self.context();
                self.f.call(helpers::GET_FUNC_IP, &[context])
            }
            (_, Context::Registers | Context::PerfEvent) => self.register(REGISTERS.instruction),
            _ => self.number(0),
        }
    }

    /// Whether the interrupted code was a process's: 1 or 0.
    pub(crate) fn user_mode(&mut self) -> Value {
        if !matches!(self.context_kind(), Context::Registers | Context::PerfEvent) {
            return self.number(0);
        }
        if cfg!(target_arch = "x86_64") {
            // The lower two bits of cs are the privilege level.
            let selector = self.register(136);
            let level = self.f.alu(AluOp::And, Width::W64, selector, 3);
            self.f.compare(skep_insn::Cond::Eq, Width::W64, level, 3)
        } else {
            // The lower four bits of pstate are the exception level.
            let state = self.register(264);
            let level = self.f.alu(AluOp::And, Width::W64, state, 0xf);
            self.f.compare(skep_insn::Cond::Eq, Width::W64, level, 0)
        }
    }

    /// Argument of a USDT probe: where it is stands in the description that belongs to the place's cookie.
    fn usdt_argument(&mut self, n: u32) -> Value {
        let function = self.unit.shared(Shared::UsdtArgument);
        let context = self.context();
        let n = self.number(i64::from(n));
        self.f.call_func(function, &[context, n])
    }
}

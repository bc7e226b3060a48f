//! Gates for system calls: what a task comes by before and behind the instruction `syscall`.
//!
//! # How
//!
//! The instruction itself stays where it is, so whoever looks at where a task waits (handlers of signals, cancellation of threads) finds it where it always was. Jumps take the
//! place of the instructions before it, and of those behind it if the end of the call matters ([`skep_binary::calls`] tells which). The gate before the call
//! executes what it hides *first*, since that may set the call's number and arguments, then tells, then jumps to the instruction. The gate behind it tells first.
//!
//! Most code names the call's number right before it, so a gate stands only where a wanted call is made. Where it does not (`syscall(2)` of the C library), the gate
//! looks the number up in a table: a call that nobody wants takes a few instructions more, which change neither registers nor flags: `rcx` and `r11` are the only ones that
//! they need, and the call itself overwrites those. The end of such a call has no number any more. So the gate before it leaves a mark for the one behind it where
//! none can see it: the ID flag, which nothing else uses, and which the processor puts into `r11` with all others.
//!
//! A call that changes what the tracer knows (exec, new code, other users) is always a stop: [`Way::Stop`].

use skep_sys::patches::{BREAKPOINT, NOP};

use super::displace::{Copy, displaced, moved};
use super::gate::relative;
use super::span::Span;

/// Most bytes of a gate.
pub(super) const CALL_GATE_BYTES: u64 = 256;
/// Bytes of the table of numbers.
pub(super) const TABLE_BYTES: u64 = 1 << 16;
/// What the table says of a number: the programs run for it, or it is a stop.
pub(super) const TELL: u8 = 1;
pub(super) const STOP: u8 = 2;

/// `lea rsp, [rsp - 128]` and back: what is below the stack pointer is the function's.
const BELOW: [u8; 5] = [0x48, 0x8d, 0x64, 0x24, 0x80];
const BACK: [u8; 8] = [0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0];
/// The ID flag.
const MARK: u32 = 1 << 21;

/// What a gate does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Tells.
    Tell,
    /// Stops.
    Stop,
    /// Stops at the call itself, where no jump can be before it.
    Here,
    /// Stops if the condition holds; else tells, or does nothing.
    StopIf(Condition, bool),
    /// What the table at this address says; a call that was told of gets a mark if its end matters.
    Look { table: u64, marks: bool },
}

/// What an argument of a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// One of these bits is in the third (`prot`).
    Third(u32),
    /// The first is this one.
    First(u8),
}

/// A gate for a call, and where its parts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallGate {
    pub(super) code: Vec<u8>,
    /// Where its breakpoint is.
    pub(super) stop: u64,
    /// What makes a mere detour of it, and where that is written.
    pub(super) leave: Vec<(u64, Vec<u8>)>,
    /// The hidden instructions.
    pub(super) copy: Copy,
    pub(super) copy_at: u64,
}

/// Code of a gate in the making.
struct Asm {
    at: u64,
    code: Vec<u8>,
}

impl Asm {
    fn here(&self) -> u64 {
        self.at + self.code.len() as u64
    }

    fn put(&mut self, bytes: &[u8]) {
        self.code.extend_from_slice(bytes);
    }

    /// An instruction that ends in the distance to an address.
    fn to(&mut self, opcode: &[u8], to: u64) -> Option<()> {
        self.put(opcode);
        let end = self.here() + 4;
        self.put(&relative(end, to)?);
        Some(())
    }

    /// A jump of two bytes to a place that is not known yet.
    fn short(&mut self, opcode: u8) -> usize {
        self.put(&[opcode, 0]);
        self.code.len()
    }

    /// Here is where such a jump leads.
    fn land(&mut self, jump: usize) -> Option<()> {
        let by = i8::try_from(self.code.len() - jump).ok()?;
        self.code[jump - 1] = by as u8;
        Some(())
    }

    /// Calls [`super::gate::meet`], and stops if nobody was there; where the breakpoint is. It comes out behind both.
    fn meet(&mut self, meet: u64, also_stop: &[usize]) -> Option<u64> {
        // Behind this: lea (7), call (5), jrcxz (2), pop (1) and lea.
        let stop = self.here() + 6 + 7 + 5 + 2 + 1 + BACK.len() as u64;
        self.put(&BELOW);
        self.put(&[0x51]); // push rcx
        self.to(&[0x48, 0x8d, 0x0d], stop)?; // lea rcx, [stop]
        self.to(&[0xe8], meet)?;
        let done = self.short(0xe3); // jrcxz
        self.put(&[0x59]); // pop rcx
        self.put(&BACK);
        for jump in also_stop {
            self.land(*jump)?;
        }
        debug_assert_eq!(self.here(), stop);
        self.put(&[BREAKPOINT]);
        let out = self.short(0xeb);
        self.land(done)?;
        self.put(&[0x59]);
        self.put(&BACK);
        self.land(out)?;
        Some(stop)
    }

    /// Changes the flags on the stack by an operation on a word (`/1` or, `/4` and).
    fn flags(&mut self, operation: u8, value: u32) {
        self.put(&BELOW);
        self.put(&[0x9c, 0x81, 0x04 | operation << 3, 0x24]); // pushfq; op dword [rsp], value
        self.put(&value.to_le_bytes());
        self.put(&[0x9d]);
        self.put(&BACK);
    }
}

/// The gate at an address before the `syscall` at another, whose instructions before it begin at `from`.
pub(super) fn before(at: u64, from: u64, span: &Span, call: u64, way: Way, meet: u64) -> Option<CallGate> {
    let mut asm = Asm { at, code: Vec::new() };
    let copy = moved(&span.bytes, &span.insns, from, at)?;
    asm.put(&copy.code);
    let told_at = asm.here();
    let (mut skip, mut stops) = (None, Vec::new());
    let stop = match way {
        Way::Tell => asm.meet(meet, &[])?,
        Way::Here => return None,
        Way::Stop => {
            let stop = asm.here();
            asm.put(&[BREAKPOINT]);
            stop
        }
        Way::StopIf(condition, tells) => {
            asm.put(&BELOW);
            asm.put(&[0x9c]); // pushfq
            let other = match condition {
                Condition::Third(bits) => {
                    asm.put(&[0xf7, 0xc2]); // test edx, bits
                    asm.put(&bits.to_le_bytes());
                    asm.short(0x74) // jz
                }
                Condition::First(value) => {
                    asm.put(&[0x83, 0xff, value]); // cmp edi, value
                    asm.short(0x75) // jnz
                }
            };
            asm.put(&[0x9d]); // popfq
            asm.put(&BACK);
            if tells {
                stops.push(asm.short(0xeb));
                asm.land(other)?;
                asm.put(&[0x9d]);
                asm.put(&BACK);
                asm.meet(meet, &stops)?
            } else {
                let stop = asm.here();
                asm.put(&[BREAKPOINT]);
                let out = asm.short(0xeb);
                asm.land(other)?;
                asm.put(&[0x9d]);
                asm.put(&BACK);
                asm.land(out)?;
                stop
            }
        }
        Way::Look { table, marks } => {
            asm.to(&[0x4c, 0x8d, 0x1d], table)?; // lea r11, [table]
            asm.put(&[0x0f, 0xb7, 0xc8]); // movzx ecx, ax
            asm.put(&[0x41, 0x0f, 0xb6, 0x0c, 0x0b]); // movzx ecx, byte [r11 + rcx]
            skip = Some(asm.short(0xe3)); // jrcxz
            asm.put(&[0x48, 0x8d, 0x49, 0xff]); // lea rcx, [rcx - 1]
            let tell = asm.short(0xe3); // jrcxz
            stops.push(asm.short(0xeb));
            asm.land(tell)?;
            let stop = asm.meet(meet, &stops)?;
            if marks {
                asm.flags(1, MARK);
            }
            stop
        }
    };
    if let Some(skip) = skip {
        asm.land(skip)?;
    }
    let out = asm.here();
    asm.to(&[0xe9], call)?;
    // The copy stays: only what comes behind it is left out.
    let mut leave = vec![(stop, vec![NOP])];
    if told_at != stop {
        leave.insert(0, (told_at, vec![0xeb, u8::try_from(out - told_at - 2).ok().filter(|by| *by < 128)?]));
    }
    debug_assert!(asm.code.len() as u64 <= CALL_GATE_BYTES, "the room is large enough");
    Some(CallGate { code: asm.code, stop, leave, copy, copy_at: at })
}

/// The gate at an address for the end of a call: instead of the instructions from `from` on, behind the call. `is_marked`: only some calls are told of.
pub(super) fn behind(at: u64, from: u64, span: &Span, is_marked: bool, meet: u64) -> Option<CallGate> {
    let mut asm = Asm { at, code: Vec::new() };
    let skip = is_marked.then(|| {
        asm.put(&[0x41, 0x0f, 0xcb]); // bswap r11d: the flags of the call
        asm.put(&[0x41, 0x0f, 0xb7, 0xcb]); // movzx ecx, r11w: bits 16 to 31
        asm.short(0xe3) // jrcxz
    });
    let stop = asm.meet(meet, &[])?;
    if is_marked {
        asm.flags(4, !MARK);
    }
    if let Some(skip) = skip {
        asm.land(skip)?;
    }
    let copy_at = asm.here();
    let copy = displaced(&span.bytes, &span.insns, from, copy_at)?;
    asm.put(&copy.code);
    let by = u8::try_from(copy_at - at - 2).ok().filter(|by| *by < 128)?;
    debug_assert!(asm.code.len() as u64 <= CALL_GATE_BYTES, "the room is large enough");
    Some(CallGate { code: asm.code, stop, leave: vec![(at, vec![0xeb, by]), (stop, vec![NOP])], copy, copy_at })
}

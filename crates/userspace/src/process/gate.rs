//! Gates: code that a task comes by instead of being stopped.
//!
//! A breakpoint stops its task, and a stop is two changes of hands. Where a task comes by one again and again, a jump takes the breakpoint's place; it
//! leads to a *gate*, which writes the registers on a board ([`skep_sys::board`]) and waits until the tracer, which looks at the board on another processor, has run
//! the programs. That takes less than a microsecond where a stop takes seven.
//!
//! A gate is as invisible as a breakpoint: all registers and flags are as before, nothing below the stack pointer that a function may use (the
//! 128 bytes of the System V ABI) is written, and no system call is made but gettid(2), by which the task says who it is. Nobody relies on the tracer: when it does not look,
//! when no slot is free, when it does not come within some microseconds, or does not understand, the task goes by the breakpoint that the gate has as well, and is
//! stopped as ever. A tracer that was killed in the middle of an answer holds the task up for about a second, once.
//!
//! ```text
//! code:   jmp gate                 gate:   rsp -= 128; push rcx         meet:   save registers
//!         ...                              rcx = address of the int3             nobody looks: stop
//!                                          call meet                            take a slot, fill it, post it
//!                                          rcx == 0: done                       wait, else withdraw: stop
//!                                          pop rcx; rsp += 128                  give the slot back
//!                                          int3            (the stop)           restore registers
//!                                          jmp copy                             rcx = 0, or 1 to be stopped
//!                                  done:   pop rcx; rsp += 128
//!                                  copy:   the instructions that the jump hides
//!                                          jmp behind them
//! ```

use skep_sys::board::{DONE, FREE_OFF, IDLE, LOOK_OFF, POSTED, REFUSED, SLOT_SHIFT, SLOTS_OFF, STATE_OFF, TID_OFF};
use skep_sys::patches::{BREAKPOINT, NOP};

use super::displace::{COPY_BYTES, Copy, displaced};
use super::span::Span;

/// Bytes of the jump to a gate.
pub(super) const JUMP_BYTES: u64 = 5;
/// Room for [`meet`].
pub(super) const MEET_BYTES: u64 = 512;
/// Room for a gate.
pub(super) const GATE_BYTES: u64 = 128;
/// Where the breakpoint is in a gate, and where the hidden instructions are.
const STOP_OFF: u64 = 32;
const COPY_OFF: u64 = 44;
/// What takes the place of [`meet`] where nobody ever looks: `mov ecx, 1; ret`.
pub(super) const ALONE: [u8; 6] = [0xb9, 1, 0, 0, 0, 0xc3];
/// How often a task looks for an answer before it withdraws: some microseconds.
const PATIENCE: u32 = 100;
/// And how often when the tracer is about to answer: about a second.
const LONG_PATIENCE: u32 = 1 << 24;
/// `gettid` of x86-64.
const GETTID: u32 = 186;

const _: () = assert!(COPY_OFF + COPY_BYTES <= GATE_BYTES);

/// A gate's code, and where its parts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gate {
    pub(super) code: Vec<u8>,
    /// Where its breakpoint is.
    pub(super) stop: u64,
    /// The hidden instructions.
    pub(super) copy: Copy,
}

/// The jump from one address to another, if it reaches.
pub(super) fn jump(from: u64, to: u64) -> Option<[u8; JUMP_BYTES as usize]> {
    let [a, b, c, d] = relative(from + JUMP_BYTES, to)?;
    Some([0xe9, a, b, c, d])
}

pub(super) fn relative(end: u64, to: u64) -> Option<[u8; 4]> {
    i32::try_from(to.wrapping_sub(end) as i64).ok().map(i32::to_le_bytes)
}

/// The gate at an address for the instructions at another one, with its [`meet`]; `None` if one of them cannot be reached.
pub(super) fn gate(at: u64, from: u64, span: &Span, meet: u64) -> Option<Gate> {
    const LEAVE: [u8; 9] = [0x59, 0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0]; // pop rcx; lea rsp, [rsp + 128]
    let mut code = vec![0x48, 0x8d, 0x64, 0x24, 0x80, 0x51]; // lea rsp, [rsp - 128]; push rcx
    let end = |code: &Vec<u8>| at + code.len() as u64 + 4;
    code.extend([0x48, 0x8d, 0x0d]); // lea rcx, [stop]
    code.extend(relative(end(&code), at + STOP_OFF)?);
    code.push(0xe8); // call meet
    code.extend(relative(end(&code), meet)?);
    code.extend([0xe3, (STOP_OFF + 3 - code.len() as u64 - 2) as u8]); // jrcxz done
    code.extend(LEAVE);
    code.resize(STOP_OFF as usize, 0x90);
    code.push(BREAKPOINT);
    code.extend([0xeb, (COPY_OFF - STOP_OFF - 3) as u8]); // jmp copy
    debug_assert_eq!(code.len() as u64 + LEAVE.len() as u64, COPY_OFF);
    code.extend(LEAVE);
    let copy = displaced(&span.bytes, &span.insns, from, at + COPY_OFF)?;
    code.extend_from_slice(&copy.code);
    Some(Gate { code, stop: at + STOP_OFF, copy })
}

/// Where the gate begins whose breakpoint is at an address.
pub(super) fn start(stop: u64) -> u64 {
    stop - STOP_OFF
}

/// What makes a mere detour of the gate whose breakpoint is at an address, and where that is written: its breakpoint does nothing, and its first instruction
/// becomes a jump to the copy.
pub(super) fn to_leave(stop: u64) -> [(u64, Vec<u8>); 2] {
    [(start(stop), vec![0xeb, (COPY_OFF - 2) as u8]), (stop, vec![NOP])]
}

/// Code with jumps to places that come later.
#[derive(Default)]
struct Asm {
    code: Vec<u8>,
    /// Where jumps of 32 bits end, and the label that each leads to.
    jumps: Vec<(usize, Label)>,
    labels: Vec<(Label, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    Claim,
    Wait,
    Again,
    Done,
    GiveBack,
    Stop,
    Leave,
}

impl Asm {
    fn put(&mut self, bytes: &[u8]) {
        self.code.extend_from_slice(bytes);
    }

    /// `mov` of a register to or from a word of the slot (`r8`) or of the stack.
    fn word(&mut self, opcode: &[u8], off: u32) {
        self.put(opcode);
        self.put(&off.to_le_bytes());
    }

    fn jump(&mut self, opcode: &[u8], to: Label) {
        self.put(opcode);
        self.put(&[0; 4]);
        self.jumps.push((self.code.len(), to));
    }

    fn label(&mut self, label: Label) {
        self.labels.push((label, self.code.len()));
    }

    /// Looks at the state of the slot (`r8`) so many times, until it is another one; `again` is here.
    fn wait(&mut self, times: u32, again: Label) {
        self.put(&[0xba]); // mov edx, times
        self.put(&times.to_le_bytes());
        self.label(again);
        self.word(&[0x41, 0x8b, 0x80], STATE_OFF as u32); // mov eax, [r8 + STATE]
        self.put(&[0x83, 0xf8, DONE as u8]); // cmp eax, DONE
        self.jump(&[0x0f, 0x84], Label::Done); // je
        self.put(&[0x83, 0xf8, REFUSED as u8]); // cmp eax, REFUSED
        self.put(&[0xb9, 1, 0, 0, 0]); // mov ecx, 1
        self.jump(&[0x0f, 0x84], Label::GiveBack); // je
        self.put(&[0xf3, 0x90, 0xff, 0xca]); // pause; dec edx
        self.jump(&[0x0f, 0x85], again); // jnz
    }

    fn finish(mut self) -> Vec<u8> {
        for (end, to) in self.jumps {
            let target = self.labels.iter().find(|(label, _)| *label == to).map_or(end, |(_, at)| *at);
            let by = target as i32 - end as i32;
            self.code[end - 4..end].copy_from_slice(&by.to_le_bytes());
        }
        self.code
    }
}

/// What all gates of an area call: `rcx` is the address of the gate's breakpoint; it becomes 0 when the programs have run, and 1 when the task has to be stopped.
/// All else is as before.
pub(super) fn meet(board: u64) -> Vec<u8> {
    // From `rsp` on, once all is saved: r8, rdx, rax, flags, where to return to, rcx, and 128 bytes that are the function's.
    const OF_R8: u32 = 0;
    const OF_RDX: u32 = 8;
    const OF_RAX: u32 = 16;
    const OF_FLAGS: u32 = 24;
    const OF_RCX: u32 = 40;
    const OF_FUNCTION: u32 = 48 + 128;
    // Where registers are in `struct pt_regs` that do not stay where they are.
    const R11: u32 = 48;
    let mut asm = Asm::default();
    asm.put(&[0x9c, 0x50, 0x52, 0x41, 0x50]); // pushfq; push rax; push rdx; push r8
    asm.put(&[0x48, 0xb8]); // mov rax, board
    asm.put(&board.to_le_bytes());
    asm.put(&[0x83, 0xb8]); // cmp dword [rax + LOOK], 0
    asm.put(&(LOOK_OFF as u32).to_le_bytes());
    asm.put(&[0]);
    asm.jump(&[0x0f, 0x84], Label::Stop); // je
    asm.label(Label::Claim);
    asm.word(&[0x48, 0x8b, 0x90], FREE_OFF as u32); // mov rdx, [rax + FREE]
    asm.put(&[0x4c, 0x0f, 0xbc, 0xc2]); // bsf r8, rdx
    asm.jump(&[0x0f, 0x84], Label::Stop); // jz: none is free
    asm.word(&[0xf0, 0x4c, 0x0f, 0xb3, 0x80], FREE_OFF as u32); // lock btr [rax + FREE], r8
    asm.jump(&[0x0f, 0x83], Label::Claim); // jnc: somebody else took it
    asm.put(&[0x49, 0xc1, 0xe0, SLOT_SHIFT]); // shl r8, SLOT_SHIFT
    asm.word(&[0x4e, 0x8d, 0x84, 0x00], SLOTS_OFF as u32); // lea r8, [rax + r8 + SLOTS]
    // `struct pt_regs` (arch/x86/include/asm/ptrace.h, Linux 6.18).
    for (register, opcode) in (0..).zip([
        [0x4d, 0x89, 0xb8], // r15
        [0x4d, 0x89, 0xb0], // r14
        [0x4d, 0x89, 0xa8], // r13
        [0x4d, 0x89, 0xa0], // r12
        [0x49, 0x89, 0xa8], // rbp
        [0x49, 0x89, 0x98], // rbx
        [0x4d, 0x89, 0x98], // r11
        [0x4d, 0x89, 0x90], // r10
        [0x4d, 0x89, 0x88], // r9
    ]) {
        asm.word(&opcode, 8 * register);
    }
    for (from, to) in [(OF_R8, 72), (OF_RAX, 80), (OF_RCX, 88), (OF_RDX, 96), (OF_FLAGS, 144)] {
        asm.word(&[0x48, 0x8b, 0x94, 0x24], from); // mov rdx, [rsp + from]
        asm.word(&[0x49, 0x89, 0x90], to); // mov [r8 + to], rdx
    }
    asm.word(&[0x49, 0x89, 0xb0], 104); // rsi
    asm.word(&[0x49, 0x89, 0xb8], 112); // rdi
    asm.word(&[0x49, 0x89, 0x88], 128); // rcx: which gate it is
    asm.word(&[0x48, 0x8d, 0x94, 0x24], OF_FUNCTION); // lea rdx, [rsp + ...]
    asm.word(&[0x49, 0x89, 0x90], 152);
    asm.put(&[0xb8]); // mov eax, GETTID; syscall
    asm.put(&GETTID.to_le_bytes());
    asm.put(&[0x0f, 0x05]);
    asm.word(&[0x4d, 0x8b, 0x98], R11); // mov r11, [r8 + ...]: the call took it
    asm.word(&[0x41, 0x89, 0x80], TID_OFF as u32); // mov [r8 + TID], eax
    asm.word(&[0x41, 0xc7, 0x80], STATE_OFF as u32); // mov dword [r8 + STATE], POSTED
    asm.put(&POSTED.to_le_bytes());
    asm.wait(PATIENCE, Label::Wait);
    // Nobody came: it withdraws, unless somebody comes right now.
    asm.put(&[0xb8]); // mov eax, POSTED
    asm.put(&POSTED.to_le_bytes());
    asm.put(&[0x31, 0xd2]); // xor edx, edx: IDLE
    const { assert!(IDLE == 0) };
    asm.word(&[0xf0, 0x41, 0x0f, 0xb1, 0x90], STATE_OFF as u32); // lock cmpxchg [r8 + STATE], edx
    asm.jump(&[0x0f, 0x84], Label::GiveBack); // je
    asm.wait(LONG_PATIENCE, Label::Again);
    // The tracer is dead: the slot is lost, the task goes on.
    asm.put(&[0x31, 0xc9]); // xor ecx, ecx
    asm.jump(&[0xe9], Label::Leave);
    asm.label(Label::Done);
    asm.put(&[0x31, 0xc9]); // xor ecx, ecx
    asm.label(Label::GiveBack);
    asm.word(&[0x41, 0xc7, 0x80], TID_OFF as u32); // mov dword [r8 + TID], 0
    asm.put(&[0; 4]);
    asm.word(&[0x41, 0xc7, 0x80], STATE_OFF as u32); // mov dword [r8 + STATE], IDLE
    asm.put(&IDLE.to_le_bytes());
    asm.put(&[0x48, 0xb8]); // mov rax, board
    asm.put(&board.to_le_bytes());
    asm.put(&[0x4c, 0x89, 0xc2]); // mov rdx, r8
    asm.put(&[0x48, 0x29, 0xc2]); // sub rdx, rax
    asm.word(&[0x48, 0x81, 0xea], SLOTS_OFF as u32); // sub rdx, SLOTS
    asm.put(&[0x48, 0xc1, 0xea, SLOT_SHIFT]); // shr rdx, SLOT_SHIFT
    asm.word(&[0xf0, 0x48, 0x0f, 0xab, 0x90], FREE_OFF as u32); // lock bts [rax + FREE], rdx
    asm.jump(&[0xe9], Label::Leave);
    asm.label(Label::Stop);
    asm.put(&[0xb9, 1, 0, 0, 0]); // mov ecx, 1
    asm.label(Label::Leave);
    asm.put(&[0x41, 0x58, 0x5a, 0x58, 0x9d, 0xc3]); // pop r8; pop rdx; pop rax; popfq; ret
    let code = asm.finish();
    debug_assert!(code.len() as u64 <= MEET_BYTES, "the room is large enough");
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_binary::decode::{Insn, Kind, decode};

    const AREA: u64 = 0x7f00_0000_0000;
    const FROM: u64 = AREA + 0x10_0000;

    /// Where the instructions of some code begin and what they are; all of it has to be code.
    fn insns(code: &[u8]) -> Vec<(usize, Insn)> {
        let mut all = Vec::new();
        let mut at = 0;
        while at < code.len() {
            let insn = decode(&code[at..]).unwrap_or_else(|unknown| panic!("{unknown} at {at}: {:x?}", &code[at..]));
            all.push((at, insn));
            at += usize::from(insn.len);
        }
        all
    }

    /// Where those of them lead that go elsewhere.
    fn targets(insns: &[(usize, Insn)]) -> Vec<i64> {
        let leads = |(at, insn): &(usize, Insn)| match insn.kind {
            Kind::Jump { by } | Kind::Branch { by, .. } | Kind::Loop { by, .. } | Kind::Call { by } => {
                Some(*at as i64 + i64::from(insn.len) + i64::from(by))
            }
            _ => None,
        };
        insns.iter().filter_map(leads).collect()
    }

    /// `mov eax, 1`, and `xor eax, eax; lea rdi, [rip + 16]; jne` to 32 bytes behind it.
    fn spans() -> [Span; 2] {
        let span = |bytes: &[u8]| Span {
            bytes: bytes.to_vec(),
            insns: insns(bytes).into_iter().map(|(_, insn)| insn).collect(),
        };
        [span(&[0xb8, 1, 0, 0, 0]), span(&[0x31, 0xc0, 0x48, 0x8d, 0x3d, 16, 0, 0, 0, 0x75, 32])]
    }

    #[test]
    fn jumps_at_the_board_lead_to_instructions() {
        let code = meet(0x7fff_1234_5000);
        assert!(code.len() as u64 <= MEET_BYTES, "{}", code.len());
        // `syscall` is no code that could be elsewhere.
        let call = code.windows(2).position(|pair| pair == [0x0f, 0x05]).expect("a task says who it is");
        let mut all = insns(&code[..call]);
        all.extend(insns(&code[call + 2..]).into_iter().map(|(at, insn)| (at + call + 2, insn)));
        let targets = targets(&all);
        assert_eq!(targets.len(), 12, "{targets:?}");
        let starts = |target: &i64| all.iter().any(|(at, _)| *at as i64 == *target);
        assert!(targets.iter().all(starts), "{targets:?}");
        // All ways end where what was saved comes back.
        let leave = [0x41, 0x58, 0x5a, 0x58, 0x9d, 0xc3];
        assert!(code.ends_with(&leave));
        let end = (code.len() - leave.len()) as i64;
        assert_eq!(targets.iter().filter(|target| **target == end).count(), 2, "{targets:?}");
        // What is pushed is popped.
        let pushes = code.iter().zip([0x9c, 0x50, 0x52, 0x41, 0x50]).filter(|(own, it)| **own == *it).count();
        assert_eq!(pushes, 5);
    }

    #[test]
    fn every_register_has_its_place_on_the_board() {
        let code = meet(0);
        let wrote = |opcode: [u8; 3], word: u32| {
            let mut store = opcode.to_vec();
            store.extend((word * 8).to_le_bytes());
            code.windows(store.len()).any(|bytes| bytes == store)
        };
        // By the number in ModRM, in the order of `struct pt_regs`: those that stay where they are, and those by way of `rdx`.
        let direct =
            [(15, 0), (14, 1), (13, 2), (12, 3), (5, 4), (3, 5), (11, 6), (10, 7), (9, 8), (6, 13), (7, 14), (1, 16)];
        for (number, word) in direct {
            let modrm = 0x80 | (number & 7) << 3;
            assert!(wrote([if number < 8 { 0x49 } else { 0x4d }, 0x89, modrm], word), "{number} at {word}");
        }
        for word in [9, 10, 11, 12, 18, 19] {
            assert!(wrote([0x49, 0x89, 0x90], word), "{word}");
        }
    }

    #[test]
    fn a_gate_leads_to_the_board_and_on() {
        for span in spans() {
            let (at, meet) = (AREA + MEET_BYTES, AREA);
            let gate = gate(at, FROM, &span, meet).expect("it is near");
            assert!(gate.code.len() as u64 <= GATE_BYTES, "{}", gate.code.len());
            assert_eq!(gate.stop, at + STOP_OFF);
            // `int3` is no code that could be elsewhere, nor is what the copy ends in: jumps with addresses behind them.
            let mut code = gate.code[..COPY_OFF as usize].to_vec();
            assert_eq!(std::mem::replace(&mut code[STOP_OFF as usize], NOP), BREAKPOINT);
            let all = insns(&code);
            let [call, done, copy] = targets(&all)[..] else { panic!("{all:?}") };
            assert_eq!(at.wrapping_add_signed(call), meet);
            assert_eq!(copy, COPY_OFF as i64);
            // With the same end: the stack is as it was before the copy, stop or not.
            let leave = &code[done as usize..COPY_OFF as usize];
            assert!(all.iter().any(|(start, _)| *start as i64 == done));
            assert_eq!(&code[all[5].0..][..leave.len()], leave);
            // It tells which gate it is.
            let (lea, insn) = all[2];
            let by = i32::from_le_bytes(code[lea + 3..lea + 7].try_into().expect("four bytes"));
            assert_eq!((at + lea as u64 + u64::from(insn.len)).wrapping_add_signed(by.into()), gate.stop);
            assert_eq!(gate.copy.code, gate.code[COPY_OFF as usize..]);
            assert_eq!(gate.copy.starts.len(), span.insns.len());
        }
    }

    #[test]
    fn what_nobody_looks_at_any_more_leads_past_the_board() {
        let [span, _] = spans();
        let at = AREA + MEET_BYTES;
        let mut gate = gate(at, FROM, &span, AREA).expect("it is near");
        for (addr, bytes) in to_leave(gate.stop) {
            let off = (addr - at) as usize;
            gate.code[off..off + bytes.len()].copy_from_slice(&bytes);
        }
        let all = insns(&gate.code[..2]);
        assert_eq!(targets(&all), [COPY_OFF as i64]);
        // Who is in it already meets no breakpoint.
        assert!(!gate.code[..COPY_OFF as usize].contains(&BREAKPOINT));
    }

    #[test]
    fn what_is_too_far_away_has_no_gate() {
        let [span, relative] = spans();
        let far = AREA + (3 << 30);
        assert_eq!(jump(far, AREA), None);
        assert_eq!(jump(AREA, far), None);
        assert_eq!(jump(AREA, AREA + JUMP_BYTES), Some([0xe9, 0, 0, 0, 0]));
        assert_eq!(jump(AREA, AREA), Some([0xe9, 0xfb, 0xff, 0xff, 0xff]));
        assert_eq!(gate(AREA, FROM, &span, far), None);
        // The code is near, but not what it names.
        let mut named = relative;
        named.bytes[5..9].copy_from_slice(&i32::MAX.to_le_bytes());
        assert!(gate(AREA + (1 << 30), AREA, &named, AREA).is_some());
        assert_eq!(gate(AREA - (1 << 30), AREA, &named, AREA), None);
    }
}

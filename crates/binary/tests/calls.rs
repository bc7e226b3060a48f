//! System calls of code: by rules on programs of a few bytes, and on the files of this machine with a disassembler as the oracle.

mod support;

use skep_binary::calls::{CallSite, Calls, Span, call_sites};
use support::Program;

/// `syscall`
const CALL: [u8; 2] = [0x0f, 0x05];
/// `cmp $-4096, %rax`
const COMPARE: [u8; 6] = [0x48, 0x3d, 0, 0xf0, 0xff, 0xff];
const RET: u8 = 0xc3;

/// What is said about one function of this code, with offsets from its start.
fn function(parts: &[&[u8]]) -> Calls {
    let code = parts.concat();
    let len = code.len() as u64;
    Program { code, symbols: vec![(0, len)], ..Program::default() }.calls()
}

/// A span as offset and length.
type Pair = Option<(u64, u8)>;

/// The number, and both spans, of the only site.
fn only(calls: &Calls) -> (Option<u32>, Pair, Pair) {
    assert_eq!((calls.sites.len(), calls.unknown.len()), (1, 0), "{calls:?}");
    let pair = |span: Option<Span>| span.map(|span| (span.off_bytes, span.len));
    let CallSite { nr, before, behind, .. } = calls.sites[0];
    (nr, pair(before), pair(behind))
}

fn number(parts: &[&[u8]]) -> Option<u32> {
    only(&function(parts)).0
}

fn before(parts: &[&[u8]]) -> Pair {
    only(&function(parts)).1
}

fn behind(parts: &[&[u8]]) -> Pair {
    only(&function(parts)).2
}

#[test]
fn a_call_as_compilers_write_it_has_it_all() {
    let calls = function(&[&[0xb8, 39, 0, 0, 0], &CALL, &COMPARE, &[RET]]);
    assert_eq!(calls.sites[0].off_bytes, 5);
    assert_eq!(only(&calls), (Some(39), Some((0, 5)), Some((7, 6))));
}

#[test]
fn the_number_is_that_of_the_straight_line() {
    // `mov $1, %eax; mov %rbx, %rdi; lea 8(%rsp), %rsi; xor %edx, %edx`
    let line: [&[u8]; 4] = [&[0xb8, 1, 0, 0, 0], &[0x48, 0x89, 0xdf], &[0x48, 0x8d, 0x74, 0x24, 8], &[0x31, 0xd2]];
    assert_eq!(number(&[&line.concat(), &CALL, &[RET]]), Some(1));
    // In all the ways to write it.
    assert_eq!(number(&[&[0x48, 0xc7, 0xc0, 0x3c, 0, 0, 0], &CALL]), Some(60));
    assert_eq!(number(&[&[0x31, 0xc0], &CALL]), Some(0));
    assert_eq!(number(&[&[0x48, 0xb8, 2, 1, 0, 0, 0, 0, 0, 0], &CALL]), Some(258));
    // What may write the register ends the line: `mov %ecx, %eax`, `pop %rax`, `movzbl (%rdi), %eax`, `mov $1, %ah`, `rdtsc`.
    let others: [&[u8]; 5] = [&[0x89, 0xc8], &[0x58], &[0x0f, 0xb6, 0x07], &[0xb4, 1], &[0x0f, 0x31]];
    for other in others {
        assert_eq!(number(&[&line.concat(), other, &CALL, &[RET]]), None, "{other:02x?}");
    }
    // So does a call, and what comes from elsewhere: `je .+3` to the `xor`.
    assert_eq!(number(&[&line.concat(), &[0xff, 0xd3], &CALL, &[RET]]), None);
    assert_eq!(number(&[&[0x74, 8 + 5], &line.concat(), &CALL, &[RET]]), None);
    // To the `mov` itself anything may come.
    assert_eq!(number(&[&[0x74, 0], &line.concat(), &CALL, &[RET]]), Some(1));
}

#[test]
fn a_number_is_known_where_all_ways_to_the_call_have_it() {
    // `mov $60, %edx; again: xor %edi, %edi; mov %edx, %eax; syscall; jmp again`, as the C library ends a thread.
    let code: [&[u8]; 4] = [&[0xba, 60, 0, 0, 0], &[0x31, 0xff, 0x89, 0xd0], &CALL, &[0xeb, 0xf8]];
    let calls = |code: &[&[u8]]| function(code).sites.iter().map(|site| site.nr).collect::<Vec<_>>();
    assert_eq!(calls(&code), [Some(60)]);
    // Without what sets it, and in registers that the kernel changes: `mov $60, %ecx`, `mov $60, %r11d`.
    assert_eq!(calls(&code[1..]), [None]);
    assert_eq!(calls(&[&[0xb9, 60, 0, 0, 0], &[0x31, 0xff, 0x89, 0xc8], &CALL, &[0xeb, 0xf8]]), [None]);
    assert_eq!(calls(&[&[0x41, 0xbb, 60, 0, 0, 0], &[0x44, 0x89, 0xd8], &CALL, &[0xeb, 0xf9]]), [None]);
    assert_eq!(calls(&[&[0xb8, 60, 0, 0, 0], &CALL, &[0xeb, 0xfc]]), [None]);
    // `_exit`: `mov $231, %esi; mov $60, %edx; jmp first; second: mov %edx, %eax; syscall; hlt; first: mov %esi, %eax; syscall; jbe second; ret`.
    let exit = |rest: u8| -> Vec<Vec<u8>> {
        vec![
            vec![0xbe, 231, 0, 0, 0, 0xba, 60, 0, 0, 0, 0xeb, 5],
            [&[0x89, 0xd0][..], &CALL, &[rest]].concat(),
            [&[0x89, 0xf0][..], &CALL, &[0x76, 0xf5], &[RET]].concat(),
        ]
    };
    let both = |rest| calls(&exit(rest).iter().map(Vec::as_slice).collect::<Vec<_>>());
    assert_eq!(both(0xf4), [Some(60), Some(231)]);
    // With `nop` for `hlt` there is another way, but the registers are the same on it; with `int3`, nobody knows.
    assert_eq!(both(0x90), [Some(60), Some(231)]);
    assert_eq!(both(0xcc), [None, None]);
    // Two ways with one number, and with two: `jne; mov $1, %eax; jmp; mov $1, %eax; syscall`.
    let two = |number| number_of_two(&[0x75, 7], number);
    assert_eq!([two(1), two(2)], [Some(1), None]);
    // A jump by a register may be another way: `jmp *%rcx`.
    assert_eq!(number_of_two(&[0x75, 9, 0xff, 0xe1], 1), None);
    // A label of a table that is in another function, as those of a `switch` are: `mov $60, %edx; jmp 2f; 1: xor %edi, %edi; 2: mov %edx, %eax; syscall; jmp 2b`.
    let labelled: [&[u8]; 5] = [&[0xba, 60, 0, 0, 0, 0xeb, 2], &[0x31, 0xff], &[0x89, 0xd0], &CALL, &[0xeb, 0xfa]];
    assert_eq!(calls(&labelled), [None]);
    // With `nop` in the place of the label it is padding.
    assert_eq!(calls(&[labelled[0], &[0x66, 0x90], labelled[2], labelled[3], labelled[4]]), [Some(60)]);
    // A part of another function, to the middle of which it jumps, may have such labels anywhere.
    let part = |back: u8| {
        let other = [0x90, 0x90, RET];
        let code = [&code.concat()[..], &[0x75, back], &other].concat();
        let symbols = vec![(0, code.len() as u64 - 3), (code.len() as u64 - 3, 3)];
        Program { code, symbols, ..Program::default() }.calls().sites.iter().map(|site| site.nr).collect::<Vec<_>>()
    };
    assert_eq!([part(0), part(1)], [[Some(60)], [None]]);
    // Another function comes to the loop, by a jump and by a call; and to the start of it, which is no way into it.
    for way in [0xe9, 0xe8] {
        let code = code.concat();
        let to = |place: i32| {
            let by = (place - code.len() as i32 - 5).to_le_bytes();
            let all = [&code[..], &[way], &by, &[RET]].concat();
            let symbols = vec![(0, code.len() as u64), (code.len() as u64, 6)];
            only(&Program { code: all, symbols, ..Program::default() }.calls()).0
        };
        assert_eq!([0, 5, 7, 9].map(to), [Some(60), None, None, None], "{way:02x}");
    }
}

/// `mov $1, %eax; jmp` and `mov`, `syscall; ret` behind some code.
fn number_of_two(start: &[u8], number: u8) -> Option<u32> {
    self::number(&[start, &[0xb8, 1, 0, 0, 0, 0xeb, 5, 0xb8, number, 0, 0, 0], &CALL, &[RET]])
}

#[test]
fn before_a_call_are_as_few_whole_instructions_as_a_jump_needs() {
    // `xor %edi, %edi; mov %ebx, %eax; mov %ecx, %edx`
    assert_eq!(before(&[&[0x90, 0x31, 0xff, 0x89, 0xd8, 0x89, 0xca], &CALL]), Some((1, 6)));
    // Not enough of them in the function.
    assert_eq!(before(&[&[0x31, 0xff, 0x89, 0xd8], &CALL]), None);
    // What never goes on, or calls, or asks the kernel itself: `ret`, `call *%rbx`, `jrcxz`, `hlt`, `ud2`, `jmp *%rax`, `int3`, `int $128`.
    let others: [&[u8]; 8] =
        [&[RET], &[0xff, 0xd3], &[0xe3, 4], &[0xf4], &[0x0f, 0x0b], &[0xff, 0xe0], &[0xcc], &[0xcd, 0x80]];
    for other in others {
        assert_eq!(before(&[&[0xb8, 1, 0, 0, 0], other, &[0x89, 0xca], &CALL]), None, "{other:02x?}");
    }
    // Memory that is named relative to the instruction is no matter: `mov 0x100(%rip), %edi`.
    assert_eq!(before(&[&[0x8b, 0x3d, 0, 1, 0, 0], &CALL]), Some((0, 6)));
}

#[test]
fn branches_may_be_in_what_is_before() {
    // As in the C library's `read`: `test %eax, %eax; je; xor %eax, %eax`, to what is behind the call.
    let code = |by| only(&function(&[&[0x85, 0xc0], &[0x74, by], &[0x31, 0xc0], &CALL, &COMPARE, &[RET]]));
    assert_eq!(code(4), (Some(0), Some((0, 6)), None));
    assert_eq!(code(10), (Some(0), Some((0, 6)), Some((8, 6))));
    // To the start of the span, and to its second instruction, the third, the system call, the middle of one.
    assert_eq!(code(-4i8 as u8).1, Some((0, 6)));
    assert_eq!([-2i8 as u8, 0, 2, 1].map(|by| code(by).1), [None; 4]);
    // The branch is the first: `jne; xor %eax, %eax` with 32 bits, and with two branches.
    assert_eq!(before(&[&[0x0f, 0x85, 4, 0, 0, 0], &[0x31, 0xc0], &CALL, &[RET]]), Some((0, 8)));
    assert_eq!(before(&[&[0x74, 8], &[0x74, 6], &[0x31, 0xc0], &CALL, &[RET, RET, RET, RET]]), Some((0, 6)));
    // Right before the system call.
    assert_eq!(before(&[&[0x31, 0xc0, 0x85, 0xff], &[0x75, 2], &CALL, &[RET]]), Some((0, 6)));
    // Where nobody knows the labels it is one instruction as ever.
    let jump = [0xff, 0xe1];
    assert_eq!(before(&[&jump, &[0x85, 0xc0], &[0x74, 4], &[0x31, 0xc0], &CALL, &[RET]]), None);
    assert_eq!(before(&[&jump, &[0x0f, 0x85, 2, 0, 0, 0], &CALL, &[RET]]), None);
}

#[test]
fn nothing_may_come_to_the_inside_of_what_is_before() {
    // `jne` to the first of two instructions, to the second, to the system call.
    let code = |by| before(&[&[0x75, by], &[0x8b, 0x7d, 0], &[0x89, 0xd8], &CALL, &[RET]]);
    assert_eq!(code(0), Some((2, 5)));
    assert_eq!(code(3), None);
    assert_eq!(code(5), None);
    // From another function, by a jump and by an address that it names: `lea 2(%rip), %rcx`.
    let pieces: [&[u8]; 2] = [&[0xe9, 5, 0, 0, 0], &[0x48, 0x8d, 0x0d, 5, 0, 0, 0]];
    for piece in pieces {
        let body = [&[0xb8, 1, 0, 0, 0], &CALL[..], &[RET]].concat();
        let (len, body_len) = (piece.len() as u64, body.len() as u64);
        let code = [piece, &body].concat();
        let calls = Program { code, symbols: vec![(0, len), (len, body_len)], ..Program::default() }.calls();
        assert_eq!(only(&calls).1, None, "{piece:02x?}");
    }
    // A symbol, and `endbr64`.
    let body = [&[0x8b, 0x7d, 0, 0x89, 0xd8], &CALL[..], &[RET]].concat();
    let calls = Program { code: body, symbols: vec![(0, 8), (3, 0)], ..Program::default() }.calls();
    assert_eq!(only(&calls).1, None);
    assert_eq!(before(&[&[0x90, 0x89, 0xd8], &[0xf3, 0x0f, 0x1e, 0xfa], &CALL]), None);
}

/// What is said when a function before or behind the one with the call has these bytes, the last of which are the distance to so many
/// bytes from the start of that; and when a whole instruction is around the bytes, so that they come to nothing.
fn from_outside(bytes: &[u8], width: usize, to: i64, is_before: bool) -> [Pair; 2] {
    [&[][..], &[0x48, 0xb8]].map(|around| {
        let body = [&[0xb8, 1, 0, 0, 0, 0x31, 0xff, 0x31, 0xf6], &CALL[..], &COMPARE, &[RET]].concat();
        let mut other = [&[0x90; 3], around, bytes, &vec![0; width]].concat();
        let from = other.len() as i64;
        // What is around takes eight bytes.
        other.resize(if around.is_empty() { other.len() } else { 3 + 2 + 8 }, 0x90);
        other.extend([0x90, 0x90, RET]);
        let (len, body_len) = (other.len(), body.len());
        let by = if is_before { len as i64 - from + to } else { to - body_len as i64 - from };
        other[from as usize - width..from as usize].copy_from_slice(&by.to_le_bytes()[..width]);
        let (code, starts) = match is_before {
            true => ([other, body].concat(), [(0, len as u64), (len as u64, body_len as u64)]),
            false => ([body, other].concat(), [(0, body_len as u64), (body_len as u64, len as u64)]),
        };
        let (_, before, _) = only(&Program { code, symbols: starts.to_vec(), ..Program::default() }.calls());
        before.map(|(at, span_len)| (at - if is_before { len as u64 } else { 0 }, span_len))
    })
}

#[test]
fn another_function_may_come_by_all_ways() {
    let whole = Some((0, 9));
    let ways: [(&[u8], usize); 12] = [
        (&[0xe9], 4),
        (&[0xe8], 4),
        (&[0xf2, 0xe9], 4),
        (&[0x0f, 0x80], 4),
        (&[0x0f, 0x8f], 4),
        (&[0x48, 0x8d, 0x3d], 4),
        (&[0x8d, 0x05], 4),
        (&[0xc7, 0xf8], 4),
        (&[0x70], 1),
        (&[0x7f], 1),
        (&[0xe3], 1),
        (&[0xeb], 1),
    ];
    for (way, width) in ways {
        for is_before in [false, true] {
            let to = |place| from_outside(way, width, place, is_before);
            // The span is `xor %esi, %esi` and what is before it: to the inside, to the system call, and to the middle of an instruction.
            for place in [7, 9, 16, 2] {
                let [from_insn, from_bytes] = to(place);
                assert_eq!(from_insn, None, "{way:02x?} to {place}, {is_before}");
                assert_eq!(from_bytes, whole, "{way:02x?} to {place}, {is_before}");
            }
            // To its start, as calls do, and to the end of the function.
            assert_eq!(to(0), [whole; 2], "{way:02x?}, {is_before}");
            assert_eq!(to(17), [whole; 2], "{way:02x?}, {is_before}");
        }
    }
}

/// Where the bytes are among others must not matter.
#[test]
fn another_function_may_come_from_anywhere_in_it() {
    for len in 0..600usize {
        let body = [0x31, 0xff, 0x31, 0xf6, 0x90, CALL[0], CALL[1], RET];
        let by = (300i32 + 2).to_le_bytes();
        let other = [&vec![0x90; len][..], &[0x0f, 0x84], &by, &[RET; 300]].concat();
        let start = other.len() as u64;
        let program =
            Program { code: [&other[..], &body].concat(), symbols: vec![(0, start), (start, 8)], ..Program::default() };
        assert_eq!(only(&program.calls()).1, None, "{len}");
    }
}

#[test]
fn labels_that_nobody_knows_leave_one_instruction() {
    let jump = [0xff, 0xe1];
    // The number's own; two instructions; one that is not the number's.
    assert_eq!(before(&[&jump, &[0xb8, 1, 0, 0, 0], &CALL, &[RET]]), Some((2, 5)));
    assert_eq!(before(&[&jump, &[0x8b, 0x7d, 0], &[0x31, 0xc0], &CALL, &[RET]]), None);
    assert_eq!(before(&[&jump, &[0xbf, 1, 0, 0, 0], &CALL, &[RET]]), None);
    assert_eq!(behind(&[&jump, &CALL, &COMPARE, &[RET]]), Some((4, 6)));
    assert_eq!(behind(&[&jump, &CALL, &[0x48, 0x89, 0xc7], &COMPARE, &[RET]]), None);
    // The number is that of the instruction right before, or unknown.
    assert_eq!(number(&[&jump, &[0xb8, 1, 0, 0, 0], &[0x31, 0xff], &CALL, &[RET]]), None);
    // A jump by way of the table of other files' functions has none: `jmp *0x10(%rip)`.
    let jump = [0xff, 0x25, 0x10, 0, 0, 0];
    assert_eq!(before(&[&jump, &[0x8b, 0x7d, 0], &[0x31, 0xc0], &CALL, &[RET]]), Some((6, 5)));
    // Exceptions that are caught somewhere.
    let code = [&[0x8b, 0x7d, 0, 0x31, 0xc0], &CALL[..], &[RET]].concat();
    for (catches, expected) in [(false, Some((0, 5))), (true, None)] {
        let calls = Program { code: code.clone(), tables: vec![(0, 8, catches)], ..Program::default() }.calls();
        assert_eq!(only(&calls).1, expected);
    }
}

#[test]
fn behind_a_call_the_last_instruction_may_go_anywhere() {
    // `test %eax, %eax; mov %eax, %ebx` and a call, a jump, a branch, `ret` and more.
    let two: [u8; 4] = [0x85, 0xc0, 0x89, 0xc3];
    assert_eq!(behind(&[&CALL, &two, &[0xe8, 0, 0, 0, 0], &[RET]]), Some((2, 9)));
    assert_eq!(behind(&[&CALL, &two, &[0xff, 0xd3], &[RET]]), Some((2, 6)));
    assert_eq!(behind(&[&CALL, &two, &[0xeb, 0], &[RET]]), Some((2, 6)));
    assert_eq!(behind(&[&CALL, &two, &[0x79, 0], &[RET]]), Some((2, 6)));
    assert_eq!(behind(&[&CALL, &two, &[RET]]), Some((2, 5)));
    // In the middle only branches may be, and not to what is in it, nor to its start.
    assert_eq!(behind(&[&CALL, &[0x85, 0xc0], &[0x79, 4], &two, &[RET]]), Some((2, 6)));
    assert_eq!(behind(&[&CALL, &[0x79, 6], &[0x78, 4], &two, &[RET]]), Some((2, 6)));
    assert_eq!(
        [0, -2i8 as u8, -4i8 as u8].map(|by| behind(&[&CALL, &[0x85, 0xc0], &[0x79, by], &two, &[RET]])),
        [None; 3]
    );
    assert_eq!(behind(&[&CALL, &[0xff, 0xd3], &two, &[RET]]), None);
    // Behind the last one the function has to go on.
    assert_eq!(behind(&[&CALL, &[0x85, 0xc0], &[0x79, -6i8 as u8]]), None);
    // Nor may the code end, or the kernel be asked again.
    assert_eq!(behind(&[&CALL, &two]), None);
    assert_eq!(behind(&[&CALL, &two, &[0xf4]]), None);
    let twice = function(&[&CALL, &[0x31, 0xff], &CALL, &COMPARE, &[RET]]);
    assert_eq!(twice.sites.iter().map(|site| site.behind.is_some()).collect::<Vec<_>>(), [false, true]);
    // Nothing else may come to its start or its inside.
    assert_eq!(behind(&[&[0x74, 2], &CALL, &COMPARE, &[RET]]), None);
    assert_eq!(behind(&[&[0x74, 4], &CALL, &[0x85, 0xc0], &COMPARE, &[RET]]), None);
    assert_eq!(behind(&[&[0x74, 8], &CALL, &COMPARE, &[RET]]), Some((4, 6)));
}

#[test]
fn padding_makes_up_for_a_function_that_ends_early() {
    let body = [CALL[0], CALL[1], RET];
    let with = |padding: &[u8], next: &[u8]| {
        let code = [&body[..], padding, next].concat();
        let second = (3 + padding.len()) as u64;
        let calls = Program { code, symbols: vec![(0, 3), (second, next.len() as u64)], ..Program::default() }.calls();
        only(&calls).2
    };
    assert_eq!(with(&[0x90; 5], &[RET]), Some((2, 5)));
    assert_eq!(with(&[0xcc; 5], &[RET]), Some((2, 5)));
    assert_eq!(with(&[0; 5], &[RET]), Some((2, 5)));
    // `nopl 0(%rax, %rax)` in one piece.
    assert_eq!(with(&[0x0f, 0x1f, 0x44, 0, 0], &[RET]), Some((2, 6)));
    // Too short, code that nobody told of, and none at all.
    assert_eq!(with(&[0x90; 3], &[RET]), None);
    assert_eq!(with(&[0x90, 0x90, 0x90, 0x90, 0x58, RET], &[RET]), None);
    assert_eq!(with(&[], &[0x90, 0x90, 0x90, 0x90, RET]), None);
    // Within the function, where the next label is told.
    assert_eq!(behind(&[&[0x74, 8], &body, &[0x0f, 0x1f, 0x44, 0, 0], &[RET]]), Some((4, 6)));
    assert_eq!(behind(&[&[0x74, 3], &body, &[0x0f, 0x1f, 0x44, 0, 0], &[RET]]), None);
    // Only what never goes on is followed by padding.
    let code = [&CALL[..], &[0x85, 0xc0, 0xcc, 0xcc, 0xcc, 0xcc]].concat();
    assert_eq!(only(&Program { code, symbols: vec![(0, 4)], ..Program::default() }.calls()).2, None);
}

#[test]
fn what_is_in_no_function_is_unknown() {
    let code = [&[RET][..], &CALL, &[0xb8, 1, 0, 0, 0], &CALL, &[RET]].concat();
    let calls = Program { code, symbols: vec![(0, 1), (3, 8)], ..Program::default() }.calls();
    assert_eq!(calls.unknown, [1]);
    assert!(calls.sites[0].before.is_some());
}

#[test]
fn a_part_of_an_instruction_is_no_call() {
    // `mov $0x50f, %eax` and `lea 0x50f(%rip), %rdi`.
    let calls = function(&[&[0xb8, 0x0f, 0x05, 0, 0], &[0x48, 0x8d, 0x3d, 0x0f, 0x05, 0, 0], &[RET]]);
    assert_eq!(calls, Calls::default());
    // Something comes to its inside, so nobody knows.
    let calls = function(&[&[0x74, 1], &[0xb8, 0x0f, 0x05, 0, 0], &[RET]]);
    assert_eq!(calls, Calls { sites: vec![], unknown: vec![3] });
}

#[test]
fn functions_that_are_not_understood_prove_nothing() {
    let good = [&[0xb8, 1, 0, 0, 0], &CALL[..], &COMPARE].concat();
    // An instruction that there is not, with a call behind it.
    let calls = function(&[&good, &[0x06], &CALL, &[RET]]);
    let site = CallSite { off_bytes: 5, nr: None, before: None, behind: None };
    assert_eq!(calls, Calls { sites: vec![site], unknown: vec![14] });
    // The function ends in an instruction.
    assert_eq!(function(&[&good, &[0x48, 0x8d]]).sites, [site]);
    // Two that overlap.
    let code = [&good[..], &[RET]].concat();
    let calls = Program { code, tables: vec![(0, 14, false), (5, 9, false)], ..Program::default() }.calls();
    assert_eq!(calls.sites, [site]);
}

#[test]
fn a_table_may_end_in_the_middle_of_a_line() {
    // As in the C library's `clone`: `mov $56, %eax`, and the end; `syscall; test %rax, %rax; jl; ret` behind it.
    let code = [&[0xb8, 56, 0, 0, 0], &CALL[..], &[0x48, 0x85, 0xc0, 0x7c, 1, RET], &[0x58, RET]].concat();
    let calls =
        Program { code: code.clone(), tables: vec![(0, 5, false), (13, 2, false)], ..Program::default() }.calls();
    assert_eq!(only(&calls), (Some(56), Some((0, 5)), Some((7, 5))));
    // What never goes on has nothing behind it.
    let code = [&[0xb8, 56, 0, 0, 0, RET], &code[5..]].concat();
    let calls = Program { code, tables: vec![(0, 6, false), (14, 2, false)], ..Program::default() }.calls();
    assert_eq!(calls, Calls { sites: vec![], unknown: vec![6] });
}

#[test]
fn the_table_of_a_signals_return_begins_a_byte_early() {
    let code = [&[0x00, 0x48, 0xc7, 0xc0, 15, 0, 0, 0], &CALL[..], &[0x0f, 0x1f, 0x40, 0]].concat();
    let calls = Program { code, signals: vec![(0, 10)], ..Program::default() }.calls();
    assert_eq!(only(&calls), (Some(15), Some((1, 7)), None));
}

#[test]
fn data_in_a_segment_with_code_is_told_by_sections() {
    let code = [&[0xb8, 39, 0, 0, 0], &CALL[..], &[RET], &CALL].concat();
    let program = Program { code, symbols: vec![(0, 8)], ..Program::default() };
    assert_eq!(program.calls().unknown, [8]);
    assert_eq!(Program { text_len: Some(8), ..program }.calls().unknown, []);
}

#[test]
fn other_files_are_errors() {
    assert!(call_sites(b"#!/bin/sh").is_err());
    assert!(call_sites(&[]).is_err());
    let mut file = Program { code: CALL.to_vec(), ..Program::default() }.file();
    assert!(call_sites(&file).is_ok());
    // arm64.
    file[18] = 0xb7;
    assert!(call_sites(&file).unwrap_err().to_string().contains("x86-64"));
}

#[test]
fn broken_files_have_an_answer() {
    let code = [&[0xff, 0xe1, 0xb8, 1, 0, 0, 0], &CALL[..], &COMPARE, &[RET]].concat();
    let len = code.len() as u64;
    let tables = vec![(0, len, true)];
    let file = Program { code, tables, symbols: vec![(0, len), (3, 2)], ..Program::default() }.file();
    assert_eq!(call_sites(&file).map(|calls| calls.sites.len()).ok(), Some(1));
    for len in 0..file.len() {
        let _ = call_sites(&file[..len]);
    }
    for at in (0..file.len()).filter(|at| !(0x200..0x1000).contains(at)) {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut file = file.clone();
            file[at] = value;
            if let Ok(calls) = call_sites(&file) {
                support::check_shape(&file, &calls);
            }
        }
    }
}

/// Each function's table may name one and the same kind, which may be as long as the file: it is read once, not once for each function.
#[test]
fn long_kinds_of_tables_are_read_once() {
    let mut program = Program { code: CALL.to_vec(), ..Program::default() };
    program.tables = vec![(0, 2, false); 200_000];
    program.kind_len = 4 << 20;
    let before = std::time::Instant::now();
    assert!(call_sites(&program.file()).is_ok());
    assert!(before.elapsed().as_secs() < 5, "{:?}", before.elapsed());
}

/// No file of this machine is understood otherwise than by a disassembler.
#[test]
fn a_disassembler_sees_the_same() {
    if !cfg!(target_arch = "x86_64") {
        println!("skipped: needs a machine whose files are for x86-64");
        return;
    }
    let mut files = vec![("the vDSO".to_owned(), support::vdso())];
    let names = [
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/lib64/ld-linux-x86-64.so.2",
        "/bin/bash",
        "/usr/bin/busybox",
        "/usr/lib/x86_64-linux-musl/libc.so",
    ];
    for name in names {
        files.push((name.to_owned(), std::fs::read(name).ok()));
    }
    let mut proven = 0;
    for (name, data) in files {
        let Some(data) = data else { continue };
        let calls = call_sites(&data).unwrap_or_else(|error| panic!("{name}: {error}"));
        support::check_shape(&data, &calls);
        let Some(disassembly) = support::disassemble(&data) else {
            println!("skipped: needs llvm-objdump or objdump");
            return;
        };
        disassembly.check(&name, &calls);
        proven += calls.sites.iter().filter(|site| site.before.is_some() && site.behind.is_some()).count();
    }
    assert!(proven > 0, "nothing was proven");
}

/// Whether a jump could be at each of these places of some functions, with their lengths.
fn closed(functions: &[&[u8]], starts: &[u64]) -> Vec<bool> {
    let mut symbols = Vec::new();
    let mut at = 0;
    for function in functions {
        symbols.push((at, function.len() as u64));
        at += function.len() as u64;
    }
    Program { code: functions.concat(), symbols, ..Program::default() }.closed(starts)
}

#[test]
fn a_jump_is_where_nobody_comes_to_its_inside() {
    // xor eax, eax; again: inc edi; cmp eax, edi; jne again; ret: the loop's own start may be gone to, nothing else.
    let code: &[u8] = &[0x31, 0xc0, 0xff, 0xc7, 0x39, 0xf8, 0x75, 0xfa, RET];
    assert_eq!(closed(&[code], &[0, 1, 2, 9]), [false, false, true, false]);
    // One that is not known to the end.
    assert_eq!(closed(&[&[0x31, 0xc0, 0xff, 0xc7, 0x39, 0xf8, 0x06]], &[0]), [false]);
    // Another function that comes to the second instruction, as mempcpy(3) does with memcpy(3): mov rax, rdi; add rax, 1; ret.
    let code: &[u8] = &[0x48, 0x89, 0xf8, 0x48, 0x83, 0xc0, 1, RET];
    let [to_start, to_second] = [0xf4, 0xf7].map(|by| [0x31, 0xc0, 0xeb, by]);
    assert_eq!(closed(&[code, &to_start], &[0, 3]), [true, true]);
    assert_eq!(closed(&[code, &to_second], &[0, 3]), [false, true]);
    // A jump by a table, which leads to nobody knows where: jmp [rdi]; xor eax, eax; lea rax, [rax + 1]; mov eax, 1; ret.
    let code: &[u8] = &[0xff, 0x27, 0x31, 0xc0, 0x48, 0x8d, 0x40, 1, 0xb8, 1, 0, 0, 0, RET];
    assert_eq!(closed(&[code], &[2, 8]), [false, true]);
}

//! `skep vm conformance`: the calls of the public suite's runner.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn conformance(args: &[&str], program: impl AsRef<[u8]>) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_skep"))
        .args(["vm", "conformance"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("skep starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(program.as_ref()).expect("skep reads all of it");
    drop(stdin);
    child.wait_with_output().expect("skep ends")
}

fn result(args: &[&str], program: &str) -> String {
    let output = conformance(args, program);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn r0_is_written_in_hex() {
    // r0 = -2; exit
    assert_eq!(result(&[], "b7 00 00 00 fe ff ff ff 95 00 00 00 00 00 00 00"), "fffffffffffffffe\n");
}

#[test]
fn the_input_is_at_r1_and_its_length_in_r2() {
    // r0 = *(u16 *)(r1 + 1); r0 += r2; exit
    let program = "69100100000000000f20000000000000 9500000000000000";
    assert_eq!(result(&["aa 01 02 bb", "--interpret"], program), "205\n");
    // r0 = r1; r0 |= r2; exit
    assert_eq!(result(&[], "bf100000000000004f200000000000009500000000000000"), "0\n");
}

#[test]
fn helper_5_gives_back_its_first_argument() {
    // r1 = 7; call 5; exit
    assert_eq!(result(&[], "b70100000700000085000000050000009500000000000000"), "7\n");
}

#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn compiled_programs_give_the_same() {
    // r0 = *(u16 *)(r1 + 1); r0 += r2; call 5; exit
    let program = "6910010000000000 0f20000000000000 bf01000000000000 8500000005000000 9500000000000000";
    assert_eq!(result(&["aa 01 02 bb", "--jit"], program), "205\n");
    // r0 = *(u8 *)(r1 + 4) of four bytes
    let program = "7110040000000000 9500000000000000";
    let [interpreted, compiled] = ["--interpret", "--jit"].map(|engine| conformance(&["aa 01 02 bb", engine], program));
    for output in [interpreted, compiled] {
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(message.contains("instruction 0: read of 1 byte(s) at 0x"), "{message}");
    }
}

#[test]
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn where_nothing_compiles_the_option_says_so() {
    let output = conformance(&["--jit"], "9500000000000000");
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("programs cannot be compiled on "), "{message}");
}

#[test]
fn what_is_refused_and_what_stops_are_messages_and_a_status() {
    let failure = |args: &[&str], program: &str| {
        let output = conformance(args, program);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        String::from_utf8(output.stderr).expect("text")
    };
    // exit with an offset
    let message = failure(&[], "9500010000000000");
    assert!(message.contains("instruction 0: off is 1, but opcode 0x95 does not use it"), "{message}");
    // r0 = *(u8 *)(r1 + 0) without an input
    let message = failure(&[], "71100000000000009500000000000000");
    assert!(message.contains("instruction 0: read of 1 byte(s) through a null pointer"), "{message}");
    let message = failure(&[], "9500");
    assert!(message.contains("2 byte(s) that are no whole instruction"), "{message}");
    let message = failure(&["xy"], "9500000000000000");
    assert!(message.contains("the input memory: `x` is no hex digit"), "{message}");
}

#[test]
fn programs_may_be_written_in_any_layout() {
    let lines = "B700000005000000\r\n9500000000000000\r\n";
    for program in [lines, "0xb700000005000000 9500000000000000\n", "\tb7 000000 05 000000\n\n95 00000000000000"] {
        assert_eq!(result(&[], program), "5\n", "{program:?}");
    }
    // r0 = r2; exit
    for (mem, len) in [("", "0\n"), ("0xaabb", "2\n"), ("AA Bb cc ", "3\n")] {
        assert_eq!(result(&[mem, "--interpret"], "bf20000000000000 9500000000000000"), len, "{mem:?}");
    }
}

#[test]
fn what_is_no_program_at_all_is_called_that() {
    let failure = |program: &[u8]| {
        let output = conformance(&[], program);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        String::from_utf8(output.stderr).expect("text")
    };
    for program in ["", "\n"] {
        let message = failure(program.as_bytes());
        assert!(message.starts_with("error: the program on standard input is empty"), "{message}");
        assert!(message.contains("give its bytes as hex digits"), "{message}");
    }
    // The bytes themselves: r0 = 5; exit
    let message = failure(b"\xb7\0\0\0\x05\0\0\0\x95\0\0\0\0\0\0\0");
    assert!(message.starts_with("error: the program on standard input is no text"), "{message}");
    let message = failure(b"95\x1b[2J");
    assert!(message.contains("`\\u{1b}` is no hex digit"), "{message}");
    // An exit, and so much behind it that not all is read.
    let mut long = b"9500000000000000".to_vec();
    long.resize((64 << 20) + 1, b' ');
    let message = failure(&long);
    assert!(message.contains("is longer than any: more than 67108864 bytes of text"), "{message}");
    let message = failure(&b"9500000000000000".repeat(1_000_001));
    assert!(message.starts_with("error: the program has 1000001 instructions, the limit is 1000000"), "{message}");
}

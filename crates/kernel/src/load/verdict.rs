//! From a verifier's log to what a person needs to know.
//!
//! A log of level 1 is the walk of the verifier: source lines (`; text @ file.c:12`), instructions (`5: (61) r1 = ...`) with
//! what is known of registers behind them, and at the end the complaint, then statistics (`processed 6 insns ...`). Two lines
//! matter: the complaint, and the instruction before it. The source line comes from the object's own records, which kernels
//! before 6.6 do not print with a file name.
//!
//! Three complaints are not the truth but a consequence of what the loader did before: calls of helpers that no kernel has
//! stand for a CO-RE question without an answer, an absent kernel function and a map that is switched off. They are turned
//! back into their reasons.

use skep_engine::{Error, ErrorKind};
use skep_insn::InsnIdx;
use skep_spec::resolve::poison_reason;
use skep_spec::resolved::ResolvedProgram;
use skep_spec::{AttachType, Program, Spec};
use skep_sys::Errno;

use crate::features;
use crate::permission::{self, Tried};

/// The two lines of a log that matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Complaint<'a> {
    /// What the verifier says.
    text: Option<&'a str>,
    /// The instruction that it looked at last, with its text.
    insn: Option<(InsnIdx, &'a str)>,
}

/// Why a program did not load.
pub(crate) fn explain(spec: &Spec, program: &Program, resolved: &ResolvedProgram, errno: Errno, log: &str) -> Error {
    let complaint = complaint(log);
    let name = format!("program `{}` ({})", program.name, program.section);
    let place = complaint.insn.and_then(|(insn, _)| place(spec, resolved, insn));
    let at = place.as_ref().map(|place| format!(" at {place}")).unwrap_or_default();
    if let Some((helper, (insn, _))) = complaint.text.and_then(unknown_helper).zip(complaint.insn)
        && let Some(reason) = poison_reason(spec, &resolved.explanations, insn.0, helper)
    {
        return Error::new(format!("{name}{at}: {reason}")).with_log(log).with_source(errno);
    }
    if let Some(instead) = program.attach_type.and_then(newer)
        && errno == Errno::EINVAL
        && complaint.text.is_none_or(|text| text.contains("must provide btf_id"))
    {
        let section = program.section.split('/').next().unwrap_or_default();
        return Error::new(format!("this kernel cannot load {name}: `{section}` came after kernel 6.18"))
            .with_kind(ErrorKind::Unsupported)
            .with_hint(instead)
            .with_log(log)
            .with_source(errno);
    }
    let Some(text) = complaint.text else {
        let mut error = Error::new(format!("the kernel refuses {name}: {errno}")).with_source(errno);
        if !log.is_empty() {
            error = error.with_log(log);
        }
        return match errno {
            Errno::EPERM => permission::explained(error, Tried::Program(program.prog_type)),
            Errno::EINVAL if features::prog_type(program.prog_type) == Err(Errno::EINVAL) => {
                error.with_hint(format!("this kernel has no programs of type {}", program.prog_type))
            }
            Errno::E2BIG => {
                error.with_hint("it has more instructions than this kernel takes (4,096 before 5.2, else a million)")
            }
            _ => error,
        };
    };
    let instruction = match complaint.insn {
        Some((insn, code)) => format!(" (instruction {insn}: {code})"),
        None => String::new(),
    };
    let error =
        Error::new(format!("the verifier refuses {name}{at}: {text}{instruction}")).with_log(log).with_source(errno);
    match advice(text) {
        Some(advice) => error.with_hint(advice),
        None if errno == Errno::EPERM => permission::explained(error, Tried::Program(program.prog_type)),
        None => error,
    }
}

/// For attach types that are in no kernel up to 6.18: what to write until then.
fn newer(attach_type: AttachType) -> Option<&'static str> {
    match attach_type {
        AttachType::TRACE_FSESSION => Some("use `kprobe.session` (kernel 6.10), or one fentry and one fexit program"),
        AttachType::TRACE_FENTRY_MULTI | AttachType::TRACE_FEXIT_MULTI | AttachType::TRACE_FSESSION_MULTI => {
            Some("use `kprobe.multi` (kernel 5.18), or one fentry program for each function")
        }
        _ => None,
    }
}

/// Finds the lines that matter.
fn complaint(log: &str) -> Complaint<'_> {
    let mut found = Complaint::default();
    let mut lines = log.lines().rev().map(str::trim_end).filter(|line| !line.is_empty() && !is_statistics(line));
    for line in lines.by_ref().take(1) {
        if let Some(insn) = instruction(line) {
            found.insn = Some(insn);
        } else if !is_state(line) && !line.starts_with(';') {
            found.text = Some(line.trim());
        }
    }
    if found.insn.is_none() {
        found.insn = lines.find_map(instruction);
    }
    found
}

/// Lines that the verifier ends with, whatever happened, and states that it shows after a complaint.
fn is_statistics(line: &str) -> bool {
    ["processed ", "verification time ", "stack depth ", "mark_precise: ", "cur state:", "old state:"]
        .iter()
        .any(|start| line.starts_with(start))
}

/// `12: (61) r1 = *(u32 *)(r1 +0)   ; R1_w=scalar()`.
fn instruction(line: &str) -> Option<(InsnIdx, &str)> {
    let (number, rest) = line.split_once(": (")?;
    let number = number.trim().parse().ok()?;
    let (code, text) = rest.split_once(") ")?;
    if code.len() != 2 || u8::from_str_radix(code, 16).is_err() {
        return None;
    }
    // What is known of registers follows behind blanks.
    let text = text.split_once(" ; ").map_or(text, |(text, _)| text);
    Some((InsnIdx(number), text.trim()))
}

/// `0: R1=ctx() R10=fp0`, `from 5 to 7: R0=...`, `func#0 @0`: where the verifier stands, not what it thinks of it.
fn is_state(line: &str) -> bool {
    if line.starts_with("from ") || line.starts_with("func#") || line.starts_with("Live regs") {
        return true;
    }
    line.split_once(": ").is_some_and(|(number, rest)| {
        number.bytes().all(|b| b.is_ascii_digit()) && (rest.starts_with('R') || rest.starts_with("frame"))
    })
}

/// `invalid func unknown#195896080`.
fn unknown_helper(text: &str) -> Option<i32> {
    text.split_once("unknown#")?.1.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// `t.bpf.c:34 \`bpf_printk("%d", x);\``: the source line of an instruction.
fn place(spec: &Spec, resolved: &ResolvedProgram, insn: InsnIdx) -> Option<String> {
    let line = resolved.lines.iter().rev().find(|line| line.insn <= insn)?;
    let btf = spec.btf.as_ref()?;
    let file = btf.string_lossy(line.file_name_off).ok()?;
    let file = file.rsplit('/').next().unwrap_or_default();
    let text = btf.string_lossy(line.line_off).ok()?;
    let text = text.trim();
    let number = line.line();
    Some(if text.is_empty() { format!("{file}:{number}") } else { format!("{file}:{number} `{text}`") })
}

/// What to do about the complaints that people meet most.
fn advice(text: &str) -> Option<&'static str> {
    const ADVICE: [(&str, &str); 14] = [
        (
            "GPL",
            "the kernel gives this to programs under the GPL only: add `char LICENSE[] SEC(\"license\") = \"GPL\";`",
        ),
        (
            "invalid mem access 'scalar'",
            "this is a plain number to the verifier: read what it points to with bpf_probe_read_kernel or BPF_CORE_READ",
        ),
        ("invalid mem access 'inv'", "read what it points to with bpf_probe_read_kernel or BPF_CORE_READ"),
        ("map_value_or_null", "a lookup may find nothing: compare its result with NULL before using it"),
        (
            "outside of the packet",
            "compare with the packet's end first: `if ((void *)(header + 1) > (void *)(long)ctx->data_end) return ...;`",
        ),
        (
            "infinite loop detected",
            "the verifier sees no end: count with a bound that is a constant, or use `bpf_loop`",
        ),
        ("loop is not allowed", "loops need kernel 5.3: unroll it with `#pragma unroll`"),
        ("mem_or_null", "a reservation may fail: compare its result with NULL before using it"),
        ("unknown func", "this kernel has no such helper for programs of this type"),
        ("cannot use helper", "choose another program type, or another helper"),
        ("Unreleased reference", "release it on every way out of the program"),
        (
            "BPF program is too large",
            "the verifier walked a million instructions: bound the loops, or split the program",
        ),
        ("combined stack size", "a program has 512 bytes of stack: move large variables into a map"),
        ("back-edge from insn", "loops need kernel 5.3: unroll it with `#pragma unroll`"),
    ];
    ADVICE.iter().find(|(part, _)| text.contains(part)).map(|(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_complaint_and_its_instruction_are_found() {
        let log = "0: R1=ctx() R10=fp0\n; return *(int *)1; @ t.bpf.c:12\n0: (b7) r1 = 1                        ; R1_w=1\n\
                   1: (61) r0 = *(u32 *)(r1 +0)\nR1 invalid mem access 'scalar'\n\
                   processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0\n";
        let found = complaint(log);
        assert_eq!(found.text, Some("R1 invalid mem access 'scalar'"));
        assert_eq!(found.insn, Some((InsnIdx(1), "r0 = *(u32 *)(r1 +0)")));
    }

    #[test]
    fn states_after_a_complaint_are_passed_over() {
        let log = "2: (61) r1 = *(u32 *)(r10 -4)\ninfinite loop detected at insn 3\ncur state: R1=scalar() R10=fp0\n\
                   old state: R1=scalar() R10=fp0\nprocessed 9 insns (limit 1000000)\n";
        assert_eq!(complaint(log).text, Some("infinite loop detected at insn 3"));
    }

    #[test]
    fn a_log_without_complaint_has_none() {
        let log = "func#0 @0\n0: R1=ctx() R10=fp0\n0: (b7) r0 = 0                        ; R0_w=0\n\
                   processed 1 insns (limit 1000000) max_states_per_insn 0\n";
        assert_eq!(complaint(log), Complaint { text: None, insn: Some((InsnIdx(0), "r0 = 0")) });
        assert_eq!(complaint(""), Complaint::default());
    }

    #[test]
    fn a_complaint_before_any_instruction_stands_alone() {
        let found = complaint("Attach to unsupported func x\nprocessed 0 insns (limit 1000000)\n");
        assert_eq!(found, Complaint { text: Some("Attach to unsupported func x"), insn: None });
    }

    #[test]
    fn complaints_that_people_meet_have_advice() {
        let advised = |text| advice(text).unwrap_or_default();
        assert!(advised("R1 offset is outside of the packet").contains("data_end"));
        assert!(advised("infinite loop detected at insn 3").contains("bound"));
        assert_eq!(advice("misaligned stack access off 3"), None);
    }

    #[test]
    fn numbers_of_unknown_helpers_are_read() {
        assert_eq!(unknown_helper("invalid func unknown#195896080"), Some(195_896_080));
        assert_eq!(unknown_helper("invalid func"), None);
    }
}

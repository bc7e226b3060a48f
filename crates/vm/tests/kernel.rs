//! The cases of `tests/vm` on the running kernel: it takes those that do not say otherwise, and gives the same.

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;

use common::{Expected, Kernel, cases, kernel};
use skep_sys::version::KernelVersion;

#[test]
fn the_kernel_gives_the_same() {
    let Some(running) = kernel::version() else { return };
    let mut log = vec![0; 1 << 20];
    let mut wrong = Vec::new();
    let (mut same, mut faults) = (0, 0);
    for case in cases() {
        if running < KernelVersion::new(case.since.0, case.since.1, 0) {
            continue;
        }
        let found = match &case.packet {
            Some(packet) => kernel::run_on_packet(&case.insns, packet, &mut log).map(|r0| (r0.into(), Vec::new())),
            None => kernel::run(&case.insns, case.mem.as_deref(), &mut log),
        };
        let title = &case.title;
        match (&case.kernel, &case.expected, found) {
            (Kernel::Agrees, Expected::Result(wanted), Ok((result, after))) => {
                // Of a packet's program 32 bits are told.
                let wanted = if case.packet.is_some() { u64::from(*wanted as u32) } else { *wanted };
                if result != wanted || case.after.as_ref().is_some_and(|wanted| *wanted != after) {
                    wrong.push(format!("{title}: expected {wanted:#x}, the kernel gives {result:#x}, {after:x?}"));
                }
                same += 1;
            }
            (Kernel::Agrees, Expected::Result(_), Err(log)) => wrong.push(format!("{title}: {log}")),
            (Kernel::MayGive(fault), Expected::Result(wanted), Ok((result, _))) => {
                if result != *wanted && result != *fault {
                    wrong.push(format!("{title}: expected {wanted:#x} or {fault:#x}, the kernel gives {result:#x}"));
                }
                faults += u64::from(result != *wanted);
            }
            (Kernel::MayGive(_), Expected::Result(_), Err(log)) => wrong.push(format!("{title}: {log}")),
            (Kernel::Agrees | Kernel::MayGive(_), _, _) => wrong.push(format!("{title}: say what the kernel does")),
            (Kernel::Refuses(reason), _, Err(log)) => {
                if !log.contains(reason.as_str()) {
                    wrong.push(format!("{title}: refused for another reason: {log}"));
                }
            }
            (Kernel::Refuses(_), _, Ok(_)) => wrong.push(format!("{title}: the kernel takes it")),
            (Kernel::Differs, _, Ok(_)) => {}
            (Kernel::Differs, _, Err(log)) => wrong.push(format!("{title}: {log}")),
        }
    }
    println!("{same} cases were compared, {faults} show a known fault of this kernel");
    assert!(wrong.is_empty(), "{} of the cases are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(same > 1000, "only {same} cases were compared");
}

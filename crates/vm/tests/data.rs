//! The cases of `tests/vm`. The test binary `compiled` runs them once more, compiled.

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;

use common::{Expected, Outcome, Runner, cases};

#[test]
fn every_case_does_what_it_says() {
    let mut runner = Runner::new();
    // Enough for the longest loop of the cases.
    runner.cpu.set_fuel(1 << 26);
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() > 3000, "only {} cases", cases.len());
    for case in cases {
        let (outcome, after) = runner.run(&case.insns, case.mem.as_deref(), case.packet.as_deref());
        let right = match (&case.expected, &outcome) {
            (Expected::Result(wanted), Outcome::Result(found)) => wanted == found,
            (Expected::Error(wanted), Outcome::Trap(trap)) => trap.to_string().contains(wanted),
            (Expected::Refused(wanted), Outcome::Refused(error)) => error.to_string().contains(wanted),
            _ => false,
        };
        if !right {
            wrong.push(format!("{}: expected {:x?}, found {outcome:x?}", case.title, case.expected));
        }
        if case.after.as_ref().is_some_and(|wanted| *wanted != after) {
            wrong.push(format!("{}: the input is {after:x?} afterwards", case.title));
        }
    }
    assert!(wrong.is_empty(), "{} of the cases are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

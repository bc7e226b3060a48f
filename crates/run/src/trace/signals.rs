//! Names of signals.

/// Names by number as x86, arm and riscv have them (arch/*/include/uapi/asm/signal.h, asm-generic/signal.h); the first is 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// The first real-time signal of the kernel.
const RTMIN: u64 = 32;
/// The last one.
const RTMAX: u64 = 64;

/// The number of a signal, by its name with or without `SIG`, or as a number.
pub(super) fn number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=RTMAX as i32).contains(&number).then_some(number);
    }
    let short = name.strip_prefix("SIG").unwrap_or(name);
    NAMES.iter().position(|known| *known == short).map(|index| index as i32 + 1)
}

/// The name of a signal with `SIG`; `None` when the kernel has no such signal.
pub(super) fn name(number: u64) -> Option<String> {
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    match NAMES.get(index) {
        Some(name) => Some(format!("SIG{name}")),
        None if number == RTMIN => Some("SIGRTMIN".to_owned()),
        None if number <= RTMAX => Some(format!("SIGRTMIN+{}", number - RTMIN)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!((number("SIGUSR1"), number("KILL"), number("15")), (Some(10), Some(9), Some(15)));
        assert_eq!((number("SIGNOTHING"), number("0"), number("65")), (None, None, None));
        assert_eq!((name(31).as_deref(), name(34).as_deref()), (Some("SIGSYS"), Some("SIGRTMIN+2")));
        assert_eq!((name(0), name(65)), (None, None));
    }
}

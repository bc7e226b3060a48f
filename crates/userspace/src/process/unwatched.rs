//! What was not watched, and why.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Why a place or a return is not watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    Shared,
    Rules,
    NoRoom,
    NoMemory,
    Bytes,
    NotWritten,
    TooMany,
    TooManyReturns,
    ShadowStack,
    OtherStack,
    OtherTask,
    NoFilter,
    Handler,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Shared => "its code is shared with its file, where a breakpoint would be everybody's",
            Why::Rules => {
                "the process has rules of its own for system calls (`Seccomp` in /proc/PID/status), which may end it for the memory that a breakpoint needs"
            }
            Why::NoRoom => "there is no free memory near its code",
            Why::NoMemory => "the process could map no memory (`ulimit -v`, /proc/sys/vm/max_map_count)",
            Why::Bytes => "what is in memory there is no instruction that can be executed elsewhere: it was changed, or another tool's probe is there",
            Why::NotWritten => "its code could not be written",
            Why::TooMany => "too many breakpoints are set",
            Why::TooManyReturns => "too many functions ran at one time",
            Why::ShadowStack => {
                "the thread has a shadow stack (`x86_Thread_features` in /proc/PID/status), and would be ended for a return to elsewhere; probe the `ret` instructions of the function, as `uprobe` with `FUNCTION+OFFSET`"
            }
            Why::OtherStack => "the stack could not be written",
            Why::NoFilter => {
                "its system calls are not seen: its code is not understood, and a filter for them could not be put into it (`CONFIG_SECCOMP_FILTER`, `ulimit -v`)"
            }
            Why::Handler => "the handler of a signal came between a system call and its end",
            Why::OtherTask => "the function returned in another task than the one that called it",
        })
    }
}

/// A probe that something was not seen of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwatched {
    /// The probe, with its file and function; empty when nobody knows.
    pub probe: String,
    /// Why.
    pub why: String,
    /// How often.
    pub count: u64,
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Misses {
    counts: BTreeMap<(Option<Arc<str>>, Why), u64>,
    total: u64,
}

impl Misses {
    pub(super) fn add(&mut self, probes: &[Arc<str>], why: Why) {
        self.total += 1;
        if probes.is_empty() {
            *self.counts.entry((None, why)).or_default() += 1;
        }
        for probe in probes {
            *self.counts.entry((Some(Arc::clone(probe)), why)).or_default() += 1;
        }
    }

    pub(super) fn take_in(&mut self, other: Misses) {
        self.total += other.total;
        for (key, count) in other.counts {
            *self.counts.entry(key).or_default() += count;
        }
    }

    /// Places and returns.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Each probe with each reason once.
    pub(super) fn told(&self) -> Vec<Unwatched> {
        let told = |((probe, why), count): (&(Option<Arc<str>>, Why), &u64)| Unwatched {
            probe: probe.as_deref().unwrap_or_default().to_owned(),
            why: why.to_string(),
            count: *count,
        };
        self.counts.iter().map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_for_each_probe() {
        let (one, two): (Arc<str>, Arc<str>) = ("uprobe /a:b".into(), "uprobe /a:c".into());
        let mut misses = Misses::default();
        misses.add(&[one.clone(), two.clone()], Why::NoRoom);
        misses.add(std::slice::from_ref(&one), Why::NoRoom);
        misses.add(&[one], Why::Shared);
        misses.add(&[], Why::OtherTask);
        let mut all = Misses::default();
        all.take_in(misses.clone());
        all.take_in(misses);
        let told = all.told();
        let told: Vec<(&str, u64)> = told.iter().map(|it| (it.probe.as_str(), it.count)).collect();
        assert_eq!(told, [("", 2), ("uprobe /a:b", 2), ("uprobe /a:b", 4), ("uprobe /a:c", 2)]);
        assert_eq!(all.total(), 8);
    }
}

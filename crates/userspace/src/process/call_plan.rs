//! What is to be done at each system call of a process whose calls are seen at gates.

use skep_binary::calls::CallSite;

use super::call_gate::{Condition, STOP, TELL, Way};
use super::inject::number;
use super::sigtrap::SIGTRAP;
use super::{Calls, Wanted};

/// Numbers that the table has; a call with a higher one is none.
const NUMBERS: u32 = 1024;
const PROT_EXEC: u32 = 4;
/// Calls whose end a child comes out of as well, or nobody.
const FORKING: [&str; 5] = ["clone", "clone3", "fork", "vfork", "rt_sigreturn"];
/// Calls by which a task ends: it stops for its end in any case, which tells of the call as well. A thread of the C library's may not stop at the call itself, where it holds all signals
/// back, those of breakpoints too.
const ENDING: [&str; 2] = ["exit", "exit_group"];
/// A call behind which a thread may have no stack any more, which a gate needs.
const STACKLESS: &str = "munmap";
/// Calls by which children are waited for.
const WAITING: [&str; 2] = ["wait4", "waitid"];
/// Calls that may be the beginning of rules of the process's own for its calls, or of code that nobody maps as such.
const RULING: [&str; 2] = ["seccomp", "personality"];
/// Calls whose third argument says what may be done with memory.
const PROTECTING: [&str; 3] = ["mmap", "mprotect", "pkey_mprotect"];

/// What is to be seen, and what has to be.
#[derive(Clone, Debug)]
pub(super) struct CallPlan {
    enter: Calls,
    exit: Calls,
    /// Calls that are stops, and so are their ends.
    stops: Calls,
    /// Calls that are seen by the end of the task.
    ending: [u32; 2],
    /// Calls that are stops as they begin: then whoever has many children gets the filter. Not where it makes them, since that is where the C library holds all signals back.
    waiting: Calls,
    protecting: [u32; 3],
    /// What their third argument has to have to be one.
    protection: u32,
    action: u32,
}

impl CallPlan {
    /// For what is wanted; `changing` are the calls that change what is known of a task. `None` where all calls are wanted: a filter sees them at one place.
    pub(super) fn new(wanted: &Wanted, changing: &[&str], protection: u32) -> Option<CallPlan> {
        let (enter, exit) = (&wanted.enter, &wanted.exit);
        if *enter == Calls::All || *exit == Calls::All {
            return None;
        }
        let forking = FORKING.into_iter().map(number).filter(|nr| exit.has(*nr));
        let stackless = Some(number(STACKLESS)).filter(|nr| enter.has(*nr) || exit.has(*nr));
        let stops = changing.iter().chain(&RULING).chain(&["arch_prctl"]).map(|name| number(name));
        let stops = stops.chain(forking).chain(stackless);
        Some(CallPlan {
            enter: enter.clone(),
            exit: exit.clone(),
            stops: stops.collect(),
            ending: ENDING.map(number),
            waiting: WAITING.into_iter().map(number).collect(),
            protecting: PROTECTING.map(number),
            protection: protection | PROT_EXEC,
            action: number("rt_sigaction"),
        })
    }

    fn tells(&self, nr: u32) -> bool {
        !self.ending.contains(&nr) && (self.enter.has(nr) || self.exit.has(nr))
    }

    /// Whether any call is wanted that the end of a task tells of.
    pub(super) fn ends_tell(&self) -> bool {
        self.ending.iter().any(|nr| self.enter.has(*nr))
    }

    /// Whether a call is wanted that the end of a task tells of.
    pub(super) fn is_told_by_end(&self, nr: u32) -> bool {
        self.ending.contains(&nr) && self.enter.has(nr)
    }

    /// Whether a call with these arguments is one that has to be a stop.
    pub(super) fn stops_at(&self, nr: u32, args: &[u64; 6]) -> bool {
        self.stops.has(nr)
            || self.protecting.contains(&nr) && args[2] as u32 & self.protection != 0
            || nr == self.action && args[0] == SIGTRAP
    }

    /// What is done at a call, and whether behind it as well; `None`: nothing. `table` is the address of [`CallPlan::table`].
    pub(super) fn at(&self, site: &CallSite, table: u64) -> Option<(Way, bool)> {
        let possible = |(way, ends)| if site.before.is_some() { (way, ends) } else { (Way::Here, false) };
        let Some(nr) = site.nr else {
            let ends = !self.exit.is_empty() && site.behind.is_some();
            return Some(possible((Way::Look { table, marks: ends }, ends)));
        };
        let tells = self.tells(nr);
        let ends = self.exit.has(nr) && site.behind.is_some() && !self.stops.has(nr);
        let way = if self.ending.contains(&nr) {
            return None;
        } else if self.stops.has(nr) || self.waiting.has(nr) || self.exit.has(nr) && !ends {
            Way::Stop
        } else if self.protecting.contains(&nr) {
            Way::StopIf(Condition::Third(self.protection), tells)
        } else if nr == self.action {
            Way::StopIf(Condition::First(SIGTRAP as u8), tells)
        } else if tells {
            Way::Tell
        } else {
            return None;
        };
        Some(possible((way, ends)))
    }

    /// For each number of a call, what is done where the code does not tell it.
    pub(super) fn table(&self) -> Vec<u8> {
        let entry = |nr: u32| match nr {
            _ if self.stops.has(nr) || self.waiting.has(nr) || self.protecting.contains(&nr) || nr == self.action => {
                STOP
            }
            _ if self.tells(nr) => TELL,
            _ => 0,
        };
        (0..NUMBERS).map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_binary::calls::Span;

    fn site(nr: Option<&str>, before: bool, behind: bool) -> CallSite {
        let span = |there: bool| there.then_some(Span { off_bytes: 0, len: 5 });
        CallSite { off_bytes: 5, nr: nr.map(number), before: span(before), behind: span(behind) }
    }

    fn plan(enter: &[&str], exit: &[&str]) -> CallPlan {
        let calls = |names: &[&str]| names.iter().map(|name| number(name)).collect();
        let wanted = Wanted { enter: calls(enter), exit: calls(exit), ..Wanted::default() };
        CallPlan::new(&wanted, &["execve", "prctl"], 0).unwrap()
    }

    #[test]
    fn only_what_somebody_wants_is_told() {
        let plan = plan(&["openat"], &["read", "clone"]);
        let at = |name, before, behind| plan.at(&site(Some(name), before, behind), 0);
        assert_eq!(at("write", false, false), None);
        assert_eq!(at("openat", true, true), Some((Way::Tell, false)));
        assert_eq!(at("read", true, true), Some((Way::Tell, true)));
        // Its end is seen by a stop.
        assert_eq!(at("read", true, false), Some((Way::Stop, false)));
        assert_eq!(at("clone", true, true), Some((Way::Stop, false)));
        assert_eq!(at("prctl", true, true), Some((Way::Stop, false)));
        let ending = super::tests::plan(&["exit", "read"], &["munmap", "exit_group"]);
        assert_eq!(ending.at(&site(Some("munmap"), true, true), 0), Some((Way::Stop, false)));
        for (call, is_told) in [("exit", true), ("exit_group", false), ("read", false)] {
            assert_eq!(ending.is_told_by_end(number(call)), is_told, "{call}");
        }
        for call in ["exit", "exit_group"] {
            assert_eq!(ending.at(&site(Some(call), true, true), 0), None, "{call}");
            assert_eq!(ending.table()[number(call) as usize], 0, "{call}");
        }
        assert_eq!(at("openat", false, true), Some((Way::Here, false)));
        assert_eq!(at("mmap", true, true), Some((Way::StopIf(Condition::Third(PROT_EXEC), false), false)));
        assert_eq!(at("rt_sigaction", true, true), Some((Way::StopIf(Condition::First(5), false), false)));
    }

    #[test]
    fn calls_without_a_number_are_looked_up() {
        let plan = plan(&["openat"], &["read"]);
        assert_eq!(plan.at(&site(None, true, true), 64), Some((Way::Look { table: 64, marks: true }, true)));
        assert_eq!(plan.at(&site(None, true, false), 64), Some((Way::Look { table: 64, marks: false }, false)));
        assert_eq!(plan.at(&site(None, false, true), 64), Some((Way::Here, false)));
        let table = plan.table();
        let entry = |name| table[number(name) as usize];
        assert_eq!((entry("openat"), entry("read"), entry("write")), (TELL, TELL, 0));
        assert_eq!((entry("execve"), entry("mmap"), entry("rt_sigaction"), entry("wait4")), (STOP, STOP, STOP, STOP));
        let only_starts = super::tests::plan(&["openat"], &[]);
        let way = only_starts.at(&site(None, true, false), 64);
        assert_eq!(way, Some((Way::Look { table: 64, marks: false }, false)));
    }

    #[test]
    fn some_calls_are_stops_for_what_they_ask() {
        let plan = plan(&["mmap"], &[]);
        let mmap = number("mmap");
        assert!(plan.stops_at(mmap, &[0, 0, 5, 0, 0, 0]) && !plan.stops_at(mmap, &[0, 0, 3, 0, 0, 0]));
        let action = number("rt_sigaction");
        assert!(plan.stops_at(action, &[5, 0, 0, 0, 0, 0]) && !plan.stops_at(action, &[2, 0, 0, 0, 0, 0]));
        assert!(plan.stops_at(number("seccomp"), &[0; 6]));
    }
}

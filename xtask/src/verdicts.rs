//! What became of each test on each machine, and the one line that sums it up.
//!
//! A *machine* is the host or one of the virtual machines; the same test runs on several. A test that cannot run on a
//! machine says `skipped: needs <capability>` and counts as skipped there. Three numbers come out:
//! - passed and failed count runs, one per test and machine;
//! - skipped counts tests that ran on *no* machine. A skip on the host is nothing to worry about when a virtual machine
//!   ran the test.
//!
//! Under CI a skipped test is a failure, because a test that never runs proves nothing. The exception is a capability
//! spelled `kernel X.Y` when every machine at hand is older than that.

use std::collections::BTreeMap;

/// The outcome of one test on one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    /// With what it printed, where that was kept.
    Failed(String),
    /// With the capability it needs.
    Skipped(String),
}

/// One test on one machine.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) machine: String,
    /// The test binary: package and target, the same on every machine.
    pub(crate) suite: String,
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
}

/// All verdicts of one `cargo xtask test`.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) cases: Vec<Case>,
    /// Kernel versions of the machines that ran, for the `kernel X.Y` rule.
    pub(crate) kernels: Vec<(u32, u32)>,
}

impl Tally {
    pub(crate) fn add(&mut self, machine: &str, suite: &str, name: &str, verdict: Verdict) {
        self.cases.push(Case { machine: machine.into(), suite: suite.into(), name: name.into(), verdict });
    }

    /// Takes over what another one has counted.
    pub(crate) fn extend(&mut self, other: &Tally) {
        self.cases.extend(other.cases.iter().cloned());
        self.kernels.extend(&other.kernels);
    }

    /// Records one of our own checks, such as `cargo fmt --check`.
    pub(crate) fn add_check(&mut self, name: &str, result: anyhow::Result<()>) {
        let verdict = match result {
            Ok(()) => Verdict::Passed,
            Err(error) => Verdict::Failed(format!("{error:#}")),
        };
        self.add("host", "checks", name, verdict);
    }

    /// Prints failures and skips, then the closing line `N passed, N failed, N skipped`. True if all is well.
    pub(crate) fn close(&self, ci: bool) -> bool {
        let mut passed = 0;
        let mut failed = 0;
        // (suite, name) -> None if it ran somewhere, else what it lacked.
        let mut tests: BTreeMap<(&str, &str), Option<&str>> = BTreeMap::new();
        for case in &self.cases {
            let key = (case.suite.as_str(), case.name.as_str());
            match &case.verdict {
                Verdict::Passed => {
                    passed += 1;
                    tests.insert(key, None);
                }
                Verdict::Failed(_) => {
                    failed += 1;
                    println!("FAILED on {}: {} {}", case.machine, case.suite, case.name);
                    tests.insert(key, None);
                }
                Verdict::Skipped(needs) => {
                    tests.entry(key).or_insert(Some(needs));
                }
            }
        }
        let mut skipped = 0;
        let mut unserved = 0;
        for ((suite, name), needs) in &tests {
            let Some(needs) = needs else { continue };
            let excused = self.out_of_reach(needs);
            skipped += 1;
            unserved += usize::from(!excused);
            println!("skipped everywhere: {suite} {name}: needs {needs}");
        }
        if ci && unserved > 0 {
            println!("{unserved} tests ran on no machine: under CI that is a failure");
        }
        println!("{passed} passed, {failed} failed, {skipped} skipped");
        passed > 0 && failed == 0 && !(ci && unserved > 0)
    }

    /// True for a capability `kernel X.Y` that no machine here can have, and for programs that are no part of this
    /// repository (see [`paths::documents`](crate::paths::documents)).
    fn out_of_reach(&self, needs: &str) -> bool {
        if needs == "the documents' programs" {
            return !crate::paths::documents().is_dir();
        }
        let Some(wanted) = needs.strip_prefix("kernel ").and_then(kernel_version) else {
            return false;
        };
        self.kernels.iter().all(|&have| have < wanted)
    }
}

/// Reads the first two numbers of a version such as `6.12.117+deb12-amd64`.
pub(crate) fn kernel_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_that_another_machine_served_is_no_skip() {
        let mut tally = Tally::default();
        tally.add("host", "kernel", "kprobe", Verdict::Skipped("kprobes".into()));
        tally.add("6.1", "kernel", "kprobe", Verdict::Passed);
        assert!(tally.close(true));
    }

    #[test]
    fn a_test_that_ran_nowhere_fails_only_under_ci() {
        let mut tally = Tally::default();
        tally.add("host", "kernel", "other", Verdict::Passed);
        tally.add("host", "kernel", "kprobe", Verdict::Skipped("kprobes".into()));
        assert!(tally.close(false));
        assert!(!tally.close(true));
    }

    #[test]
    fn a_kernel_newer_than_every_machine_excuses_a_skip() {
        let mut tally = Tally { kernels: vec![(6, 1), (6, 18)], ..Tally::default() };
        tally.add("host", "kernel", "other", Verdict::Passed);
        tally.add("host", "kernel", "new", Verdict::Skipped("kernel 6.19".into()));
        assert!(tally.close(true));
        tally.add("host", "kernel", "old", Verdict::Skipped("kernel 6.6".into()));
        assert!(!tally.close(true));
    }

    #[test]
    fn no_test_at_all_is_a_failure() {
        assert!(!Tally::default().close(false));
    }

    #[test]
    fn versions_are_read_from_what_uname_prints() {
        assert_eq!(kernel_version("6.12.117+deb12-amd64"), Some((6, 12)));
        assert_eq!(kernel_version("6.18"), Some((6, 18)));
        assert_eq!(kernel_version("new"), None);
    }
}

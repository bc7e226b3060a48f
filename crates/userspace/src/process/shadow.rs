//! Shadow stacks: return addresses that the processor keeps a second time (`Documentation/arch/x86/shstk.rst`, Linux 6.18).
//!
//! A task that has one is ended when it returns to another address than it was called from, so returns of its functions are not looked at. It is a matter of each
//! task, switched on by arch_prctl(2) while it runs: it is asked once, and again when it makes that call.

use std::collections::HashMap;

/// `ARCH_SHSTK_ENABLE` (`arch/x86/include/uapi/asm/prctl.h`).
pub(super) const ENABLE: u32 = 0x5001;

/// Which tasks have one.
#[derive(Debug, Default)]
pub(super) struct ShadowStacks {
    possible: bool,
    tasks: HashMap<u32, bool>,
}

impl ShadowStacks {
    /// Nobody has one where the processor has none for programs.
    pub(super) fn of_machine() -> ShadowStacks {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        ShadowStacks { possible: processor_has(&text), tasks: HashMap::new() }
    }

    /// Whether a task has one.
    pub(super) fn has(&mut self, tid: u32) -> bool {
        let ask = || std::fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
        self.possible && *self.tasks.entry(tid).or_insert_with(|| task_has(&ask()))
    }

    /// A task ends, or is about to get one.
    pub(super) fn forget(&mut self, tid: u32) {
        self.tasks.remove(&tid);
    }
}

/// What `/proc/cpuinfo` says.
fn processor_has(text: &str) -> bool {
    let flags = text.lines().find_map(|line| line.strip_prefix("flags"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "user_shstk"))
}

/// What `/proc/PID/status` says.
fn task_has(status: &str) -> bool {
    let features = status.lines().find_map(|line| line.strip_prefix("x86_Thread_features:"));
    features.is_some_and(|features| features.split_whitespace().any(|feature| feature == "shstk"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_and_processors_tell() {
        assert!(processor_has("processor\t: 0\nflags\t\t: fpu user_shstk\nbugs\t\t: x\n"));
        assert!(!processor_has("flags\t\t: fpu shstk user_shstk_x\n"));
        assert!(task_has("Name:\tx\nx86_Thread_features:\tshstk wrss \nx86_Thread_features_locked:\t\n"));
        assert!(!task_has("Name:\tx\nx86_Thread_features:\t\nx86_Thread_features_locked:\tshstk \n"));
    }

    #[test]
    fn a_task_is_asked_again_when_it_gets_one() {
        let tid = std::process::id();
        let mut shadows = ShadowStacks { possible: true, tasks: HashMap::from([(tid, true)]) };
        assert!(shadows.has(tid));
        shadows.forget(tid);
        // Programs of this machine's compiler have none.
        assert!(!shadows.has(tid));
        assert!(!ShadowStacks { possible: false, tasks: HashMap::from([(tid, true)]) }.has(tid));
    }
}

//! Waiting for programs that run.
//!
//! BPF programs that cannot sleep run in read-side critical sections of RCU (kernel/trace/bpf_trace.c, net/core/filter.c, 6.18). `MEMBARRIER_CMD_GLOBAL`
//! of membarrier(2) is a call of `synchronize_rcu` (kernel/sched/membarrier.c): it returns when every section has ended that had
//! begun before.
//!
//! # Safety
//! One system call that takes numbers and no memory.

#![expect(unsafe_code, reason = "membarrier(2) has no safe wrapper")]

/// `MEMBARRIER_CMD_GLOBAL` (include/uapi/linux/membarrier.h, kernel 4.3).
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// Returns when every program that ran at the time of the call has ended: after a word that programs read was changed, none goes
/// by its old value any more. Takes some 10 ms. `false` where the kernel does not offer it (`nohz_full` processors): programs may
/// still run then.
pub fn wait_for_programs() -> bool {
    // SAFETY: the command, no flags and no processor are numbers.
    unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0 }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_waits_for_us() {
        // Kernels that were told to leave processors alone refuse.
        let alone = std::fs::read_to_string("/sys/devices/system/cpu/nohz_full").unwrap_or_default();
        let alone = alone.trim();
        assert_eq!(super::wait_for_programs(), alone.is_empty() || alone == "(null)");
    }
}

//! Names and numbers of system calls.

/// Runs of numbers without a gap: the first one, and the names from there on.
type Runs = &'static [(u64, &'static str)];

/// What every architecture has had since Linux 5.1, under the same numbers.
const SHARED: (u64, &str) = (
    424,
    "pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount fsopen \
     fsconfig fsmount fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise \
     epoll_pwait2 mount_setattr quotactl_fd landlock_create_ruleset landlock_add_rule \
     landlock_restrict_self memfd_secret process_mrelease futex_waitv set_mempolicy_home_node cachestat \
     fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue statmount listmount lsm_get_self_attr \
     lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat removexattrat \
     open_tree_attr file_getattr file_setattr",
);

/// arch/x86/entry/syscalls/syscall_64.tbl, Linux 6.18.
#[cfg(target_arch = "x86_64")]
const RUNS: Runs = &[
    (
        0,
        "read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction \
         rt_sigprocmask rt_sigreturn ioctl pread64 pwrite64 readv writev access pipe select sched_yield \
         mremap msync mincore madvise shmget shmat shmctl dup dup2 pause nanosleep getitimer alarm setitimer \
         getpid sendfile socket connect accept sendto recvfrom sendmsg recvmsg shutdown bind listen \
         getsockname getpeername socketpair setsockopt getsockopt clone fork vfork execve exit wait4 kill \
         uname semget semop semctl shmdt msgget msgsnd msgrcv msgctl fcntl flock fsync fdatasync truncate \
         ftruncate getdents getcwd chdir fchdir rename mkdir rmdir creat link unlink symlink readlink chmod \
         fchmod chown fchown lchown umask gettimeofday getrlimit getrusage sysinfo times ptrace getuid syslog \
         getgid setuid setgid geteuid getegid setpgid getppid getpgrp setsid setreuid setregid getgroups \
         setgroups setresuid getresuid setresgid getresgid getpgid setfsuid setfsgid getsid capget capset \
         rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend sigaltstack utime mknod uselib \
         personality ustat statfs fstatfs sysfs getpriority setpriority sched_setparam sched_getparam \
         sched_setscheduler sched_getscheduler sched_get_priority_max sched_get_priority_min \
         sched_rr_get_interval mlock munlock mlockall munlockall vhangup modify_ldt pivot_root _sysctl prctl \
         arch_prctl adjtimex setrlimit chroot sync acct settimeofday mount umount2 swapon swapoff reboot \
         sethostname setdomainname iopl ioperm create_module init_module delete_module get_kernel_syms \
         query_module quotactl nfsservctl getpmsg putpmsg afs_syscall tuxcall security gettid readahead \
         setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr \
         removexattr lremovexattr fremovexattr tkill time futex sched_setaffinity sched_getaffinity \
         set_thread_area io_setup io_destroy io_getevents io_submit io_cancel get_thread_area lookup_dcookie \
         epoll_create epoll_ctl_old epoll_wait_old remap_file_pages getdents64 set_tid_address \
         restart_syscall semtimedop fadvise64 timer_create timer_settime timer_gettime timer_getoverrun \
         timer_delete clock_settime clock_gettime clock_getres clock_nanosleep exit_group epoll_wait \
         epoll_ctl tgkill utimes vserver mbind set_mempolicy get_mempolicy mq_open mq_unlink mq_timedsend \
         mq_timedreceive mq_notify mq_getsetattr kexec_load waitid add_key request_key keyctl ioprio_set \
         ioprio_get inotify_init inotify_add_watch inotify_rm_watch migrate_pages openat mkdirat mknodat \
         fchownat futimesat newfstatat unlinkat renameat linkat symlinkat readlinkat fchmodat faccessat \
         pselect6 ppoll unshare set_robust_list get_robust_list splice tee sync_file_range vmsplice \
         move_pages utimensat epoll_pwait signalfd timerfd_create eventfd fallocate timerfd_settime \
         timerfd_gettime accept4 signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev \
         rt_tgsigqueueinfo perf_event_open recvmmsg fanotify_init fanotify_mark prlimit64 name_to_handle_at \
         open_by_handle_at clock_adjtime syncfs sendmmsg setns getcpu process_vm_readv process_vm_writev kcmp \
         finit_module sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create kexec_file_load \
         bpf execveat userfaultfd membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc \
         pkey_free statx io_pgetevents rseq uretprobe uprobe",
    ),
    SHARED,
];

/// scripts/syscall.tbl, Linux 6.18, which arm64, riscv and loongarch share.
#[cfg(not(target_arch = "x86_64"))]
const RUNS: Runs = &[
    (
        0,
        "io_setup io_destroy io_submit io_cancel io_getevents setxattr lsetxattr fsetxattr getxattr lgetxattr \
         fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr getcwd \
         lookup_dcookie eventfd2 epoll_create1 epoll_ctl epoll_pwait dup dup3 fcntl inotify_init1 \
         inotify_add_watch inotify_rm_watch ioctl ioprio_set ioprio_get flock mknodat mkdirat unlinkat \
         symlinkat linkat renameat umount2 mount pivot_root nfsservctl statfs fstatfs truncate ftruncate \
         fallocate faccessat chdir fchdir chroot fchmod fchmodat fchownat fchown openat close vhangup pipe2 \
         quotactl getdents64 lseek read write readv writev pread64 pwrite64 preadv pwritev sendfile pselect6 \
         ppoll signalfd4 vmsplice splice tee readlinkat newfstatat fstat sync fsync fdatasync sync_file_range \
         timerfd_create timerfd_settime timerfd_gettime utimensat acct capget capset personality exit \
         exit_group waitid set_tid_address unshare futex set_robust_list get_robust_list nanosleep getitimer \
         setitimer kexec_load init_module delete_module timer_create timer_gettime timer_getoverrun \
         timer_settime timer_delete clock_settime clock_gettime clock_getres clock_nanosleep syslog ptrace \
         sched_setparam sched_setscheduler sched_getscheduler sched_getparam sched_setaffinity \
         sched_getaffinity sched_yield sched_get_priority_max sched_get_priority_min sched_rr_get_interval \
         restart_syscall kill tkill tgkill sigaltstack rt_sigsuspend rt_sigaction rt_sigprocmask \
         rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigreturn setpriority getpriority reboot setregid \
         setgid setreuid setuid setresuid getresuid setresgid getresgid setfsuid setfsgid times setpgid \
         getpgid getsid setsid getgroups setgroups uname sethostname setdomainname getrlimit setrlimit \
         getrusage umask prctl getcpu gettimeofday settimeofday adjtimex getpid getppid getuid geteuid getgid \
         getegid gettid sysinfo mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr msgget \
         msgctl msgrcv msgsnd semget semctl semtimedop semop shmget shmctl shmat shmdt socket socketpair bind \
         listen accept connect getsockname getpeername sendto recvfrom setsockopt getsockopt shutdown sendmsg \
         recvmsg readahead brk munmap mremap add_key request_key keyctl clone execve mmap fadvise64 swapon \
         swapoff mprotect msync mlock munlock mlockall munlockall mincore madvise remap_file_pages mbind \
         get_mempolicy set_mempolicy migrate_pages move_pages rt_tgsigqueueinfo perf_event_open accept4 \
         recvmmsg",
    ),
    (
        260,
        "wait4 prlimit64 fanotify_init fanotify_mark name_to_handle_at open_by_handle_at clock_adjtime syncfs \
         setns sendmmsg process_vm_readv process_vm_writev kcmp finit_module sched_setattr sched_getattr \
         renameat2 seccomp getrandom memfd_create bpf execveat userfaultfd membarrier mlock2 copy_file_range \
         preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx io_pgetevents rseq kexec_file_load",
    ),
    SHARED,
];

/// The calls whose tracepoints have another name: that of the function in the kernel (`SYSCALL_DEFINE`), where it was given a new one
/// beside an old call.
const TRACEPOINTS: &[(&str, &str)] = &[
    ("fstat", "newfstat"),
    ("lstat", "newlstat"),
    ("sendfile", "sendfile64"),
    ("stat", "newstat"),
    ("umount2", "umount"),
    ("uname", "newuname"),
];

/// What the arguments of system calls are called, and their types: a line for each call, by the name of its tracepoints. As the `format` files of
/// Linux 6.18 on x86-64 have them, which only root may read.
const ARGUMENTS: &str = include_str!("syscalls.txt");

/// The name of system call `number`; `None` when this build knows none.
pub fn name(number: u64) -> Option<&'static str> {
    let (first, names) = RUNS.iter().rev().find(|(first, _)| *first <= number)?;
    names.split(' ').nth(usize::try_from(number - first).ok()?)
}

/// All system calls that this build knows, with their numbers.
pub fn all() -> impl Iterator<Item = (u32, &'static str)> {
    RUNS.iter().flat_map(|(first, names)| (*first as u32..).zip(names.split_whitespace()))
}

/// What `sys_enter_` and `sys_exit_` are followed by in the name of a system call's tracepoints.
pub fn tracepoint(name: &str) -> &str {
    TRACEPOINTS.iter().find(|(call, _)| *call == name).map_or(name, |(_, tracepoint)| tracepoint)
}

/// The declarations of a system call's arguments, in their order, by the name of its [tracepoints](tracepoint); `None` when this build
/// knows no such call.
pub fn arguments(tracepoint: &str) -> Option<impl Iterator<Item = &'static str> + use<>> {
    let mut lines = ARGUMENTS.lines().map(|line| line.split_once(' ').unwrap_or((line, "")));
    let (_, arguments) = lines.find(|(name, _)| *name == tracepoint)?;
    Some(arguments.split(", ").filter(|argument| !argument.is_empty()))
}

/// The `format` of a system call's tracepoint (`sys_enter_openat`), as tracefs has it, but for the event's number and its print
/// format; `None` when this build knows no such call.
pub fn format(event: &str) -> Option<String> {
    let fields: Vec<(&str, u8)> = match event.strip_prefix("sys_enter_") {
        Some(call) => arguments(call)?.map(|field| (field, 0)).collect(),
        None => arguments(event.strip_prefix("sys_exit_")?).map(|_| vec![("long ret", 1)])?,
    };
    let mut text = format!("name: {event}\nformat:\n");
    let head = [("unsigned short common_type", 0, 2, 0), ("unsigned char common_flags", 2, 1, 0)];
    let rest =
        [("unsigned char common_preempt_count", 3, 1, 0), ("int common_pid", 4, 4, 1), ("int __syscall_nr", 8, 4, 1)];
    let fields = fields.into_iter().enumerate().map(|(index, (field, signed))| (field, 16 + 8 * index, 8, signed));
    for (field, off, size, signed) in head.into_iter().chain(rest).chain(fields) {
        text.push_str(&format!("\tfield:{field};\toffset:{off};\tsize:{size};\tsigned:{signed};\n"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_names() {
        let (read, openat) = if cfg!(target_arch = "x86_64") { (0, 257) } else { (63, 56) };
        assert_eq!((name(read), name(openat)), (Some("read"), Some("openat")));
        assert_eq!((name(435), name(469)), (Some("clone3"), Some("file_setattr")));
        assert_eq!((name(470), name(400), name(u64::MAX)), (None, None, None));
        for (number, call) in all() {
            assert_eq!(name(number.into()), Some(call));
        }
        assert!(all().count() > 300);
    }

    /// The kernel is asked: each of its system call tracepoints belongs to a call here.
    #[test]
    fn tracepoints_are_named_as_the_kernel_does() {
        let Ok(events) = crate::tracefs::Tracefs::open().and_then(|tracefs| tracefs.events("syscalls")) else { return };
        let ours: Vec<String> = all().map(|(_, call)| format!("sys_enter_{}", tracepoint(call))).collect();
        let missing: Vec<_> = events.iter().filter(|e| e.starts_with("sys_enter_") && !ours.contains(e)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    /// The kernel is asked: what this build says of a call's events is what it says itself.
    #[test]
    fn formats_are_those_of_the_kernel() {
        use crate::version::KernelVersion;

        let Ok(tracefs) = crate::tracefs::Tracefs::open() else { return };
        let Ok(events) = tracefs.events("syscalls") else { return };
        let mut same = 0;
        for event in &events {
            let theirs = tracefs.format("syscalls", event).unwrap();
            let fields = |text: &str| -> Vec<String> {
                text.lines().filter(|line| line.starts_with("\tfield:")).map(str::to_owned).collect()
            };
            let ours = fields(&format(event).unwrap_or_default());
            // Other versions and architectures have other types here and there.
            if KernelVersion::running() >= KernelVersion::new(6, 18, 0) && cfg!(target_arch = "x86_64") {
                assert_eq!(ours, fields(&theirs), "{event}");
            }
            same += usize::from(ours == fields(&theirs));
        }
        assert!(same * 10 > events.len() * 8, "{same} of {}", events.len());
    }
}

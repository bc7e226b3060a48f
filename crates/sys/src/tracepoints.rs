//! Records of tracepoints that are known by heart, beside those of system calls ([`syscalls`](crate::syscalls)): the events of tasks, in the
//! layout of Linux 6.18. Other kernels tell theirs in tracefs, which only root may read, and in their types.

/// A member of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// As in `struct trace_event_raw_*`; `__data_loc_` stands before the name of a text behind the members.
    pub name: &'static str,
    /// Where it is.
    pub off_bytes: u32,
    /// How long it is.
    pub size_bytes: u32,
    /// How many elements an array has.
    pub elements: Option<u32>,
}

/// The events, as category and name.
pub const EVENTS: &[(&str, &str)] = &[
    ("raw_syscalls", "sys_enter"),
    ("raw_syscalls", "sys_exit"),
    ("sched", "sched_process_exec"),
    ("sched", "sched_process_exit"),
    ("sched", "sched_process_fork"),
    ("signal", "signal_deliver"),
];

/// The kernel's structures that may be the record of an event (`TRACE_EVENT`, include/trace/stages): the first that is there.
pub fn structs(event: &str) -> Vec<String> {
    // Before 6.16 an exit had the structure of a class of events.
    let class = (event == "sched_process_exit").then_some("sched_process_template");
    std::iter::once(event).chain(class).map(|name| format!("trace_event_raw_{name}")).collect()
}

/// The members of an event's record behind those that all records have (`struct trace_entry`); empty for an event that is not of
/// [`EVENTS`].
pub fn members(event: &str) -> Vec<Member> {
    let all: &[(&str, u32, u32, Option<u32>)] = match event {
        "sys_enter" => &[("id", 8, 8, None), ("args", 16, 48, Some(6))],
        "sys_exit" => &[("id", 8, 8, None), ("ret", 16, 8, None)],
        "sched_process_exec" => &[("__data_loc_filename", 8, 4, None), ("pid", 12, 4, None), ("old_pid", 16, 4, None)],
        "sched_process_exit" => {
            &[("comm", 8, 16, Some(16)), ("pid", 24, 4, None), ("prio", 28, 4, None), ("group_dead", 32, 1, None)]
        }
        "sched_process_fork" => &[
            ("__data_loc_parent_comm", 8, 4, None),
            ("parent_pid", 12, 4, None),
            ("__data_loc_child_comm", 16, 4, None),
            ("child_pid", 20, 4, None),
        ],
        "signal_deliver" => &[
            ("sig", 8, 4, None),
            ("errno", 12, 4, None),
            ("code", 16, 4, None),
            ("sa_handler", 24, 8, None),
            ("sa_flags", 32, 8, None),
        ],
        _ => &[],
    };
    let member = |&(name, off_bytes, size_bytes, elements)| Member { name, off_bytes, size_bytes, elements };
    all.iter().map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_members_that_do_not_overlap() {
        for (_, event) in EVENTS {
            let members = members(event);
            assert!(members.first().is_some_and(|first| first.off_bytes == 8), "{event}");
            assert!(members.windows(2).all(|two| two[0].off_bytes + two[0].size_bytes <= two[1].off_bytes), "{event}");
        }
        assert_eq!(members("sched_switch"), []);
    }
}

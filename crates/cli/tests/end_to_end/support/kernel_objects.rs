//! What a process holds in the kernel, and whether it is gone.
//!
//! Descriptors of BPF objects tell their ids in `/proc/PID/fdinfo`. An id is never given out twice, so "no program has this
//! id any more" says that nothing keeps the program: no attachment, no pin, no process. That holds whatever else runs on the
//! machine, which a comparison of all programs before and after does not.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use skep_sys::Errno;
use skep_sys::bpf::{LinkFd, LinkId, ProgFd, ProgId};
use skep_sys::tracefs::Tracefs;

use super::patience;

/// Ids of BPF objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct KernelObjects {
    pid: u32,
    pub(crate) programs: BTreeSet<u32>,
    pub(crate) links: BTreeSet<u32>,
    pub(crate) maps: BTreeSet<u32>,
}

impl KernelObjects {
    /// What a process holds now.
    pub(crate) fn of(pid: u32) -> KernelObjects {
        let mut found = KernelObjects { pid, ..KernelObjects::default() };
        let entries = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("the process lives");
        for entry in entries.flatten() {
            // A descriptor that was closed meanwhile.
            let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
            let id = |key: &str| {
                text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse::<u32>().ok())
            };
            if let Some(link) = id("link_id") {
                found.links.insert(link);
            } else if let Some(program) = id("prog_id") {
                found.programs.insert(program);
            }
            found.maps.extend(id("map_id"));
        }
        found
    }

    /// Fails when one of the programs or links still exists after a while, or the process left a trace instance.
    pub(crate) fn assert_gone(&self) {
        let end = Instant::now() + patience();
        loop {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "left behind: {}", left.join(", "));
            // The kernel frees programs after its CPUs have passed a quiet state.
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for &id in &self.programs {
            if !matches!(ProgFd::from_id(ProgId(id)), Err(Errno::ENOENT)) {
                left.push(format!("program {id}"));
            }
        }
        for &id in &self.links {
            if !matches!(LinkFd::from_id(LinkId(id)), Err(Errno::ENOENT)) {
                left.push(format!("link {id}"));
            }
        }
        // Both hold the process id in their names.
        let pid = self.pid.to_string();
        let ours =
            |name: &str| name.contains("skep") && name.split(|c: char| !c.is_ascii_digit()).any(|number| number == pid);
        if let Ok(tracefs) = Tracefs::open() {
            left.extend(tracefs.instances().unwrap_or_default().into_iter().filter(|name| ours(name)));
            for file in ["kprobe_events", "uprobe_events"] {
                let events = tracefs.read(file).unwrap_or_default();
                left.extend(events.lines().filter(|line| ours(line)).map(str::to_owned));
            }
        }
        left
    }
}

//! CPUs: how many there may ever be, and which are running.
//!
//! Per-CPU map values exist for every *possible* CPU, also those that are not plugged in; a perf event can only be opened on
//! one that is *online*. The two differ on most virtual machines.

use std::sync::OnceLock;

use crate::Errno;

/// The number of a CPU.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CpuId(pub u32);

/// How many CPUs are possible, the length of per-CPU values. It is fixed at boot, so it is read once. Where sysfs is
/// missing, the number of CPUs that the scheduler reports.
pub fn possible_count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        read_list("/sys/devices/system/cpu/possible")
            .ok()
            // The kernel sizes by the highest number, not by how many bits are set.
            .and_then(|cpus| cpus.last().map(|last| last.0 as usize + 1))
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()))
    })
}

/// The CPUs that run now, in order.
pub fn online() -> Result<Vec<CpuId>, Errno> {
    match read_list("/sys/devices/system/cpu/online") {
        Err(Errno::ENOENT) => Ok((0..possible_count() as u32).map(CpuId).collect()),
        other => other,
    }
}

fn read_list(path: &str) -> Result<Vec<CpuId>, Errno> {
    let text = std::fs::read_to_string(path)?;
    parse_list(&text).ok_or(Errno::EIO)
}

/// The kernel's list format: `0-3,5,8-9`. At most 65,536 CPUs, so that a wrong file cannot ask for gigabytes.
fn parse_list(text: &str) -> Option<Vec<CpuId>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > u32::from(u16::MAX) {
            return None;
        }
        cpus.extend((first..=last).map(CpuId));
    }
    (!cpus.is_empty()).then_some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Option<Vec<u32>> {
        parse_list(text).map(|cpus| cpus.into_iter().map(|cpu| cpu.0).collect())
    }

    #[test]
    fn lists_of_ranges_are_read() {
        assert_eq!(list("0-1\n"), Some(vec![0, 1]));
        assert_eq!(list("0-2,5,8-9"), Some(vec![0, 1, 2, 5, 8, 9]));
        assert_eq!(list(""), None);
        assert_eq!(list("3-1"), None);
        assert_eq!(list("0-4294967295"), None);
    }

    #[test]
    fn this_machine_has_a_cpu() {
        assert!(possible_count() >= 1);
        assert!(!online().unwrap().is_empty());
    }
}

//! What processes map, told by the kernel while it happens.
//!
//! A process that lives for a millisecond is gone before anybody has read `/proc/PID/maps`. perf(1) has the same trouble, and the
//! kernel the remedy: an event that counts nothing (`PERF_COUNT_SW_DUMMY`) may still ask for a record of each executable mapping,
//! each exec and each fork (include/uapi/linux/perf_event.h, `PERF_RECORD_MMAP2` and its neighbours). There is one
//! buffer for each CPU, and a process moves between them, so what is there is put in order by its times before it is believed.

use std::os::fd::{AsFd, OwnedFd};

use skep_sys::cpu;
use skep_sys::perf_event::{Attr, PERF_COUNT_SW_DUMMY, PERF_SAMPLE_TIME, PERF_TYPE_SOFTWARE, PerfEvent, flags};
use skep_sys::perf_ring::{PerfRecord, PerfRing, RECORD_COMM, RECORD_FORK, RECORD_MMAP2};

/// Pages of each CPU's buffer: some 2000 mappings, a few hundred starts of processes.
const PAGES: usize = 64;
/// `PERF_RECORD_MISC_COMM_EXEC`: the name changed by an exec, which has left nothing of the old mappings.
const COMM_EXEC: u16 = 1 << 13;

/// Something that happened to the mappings of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A file was mapped.
    Mapped { pid: u32, start: u64, len_bytes: u64, off_bytes: u64, path: String },
    /// Nothing of what it had is left.
    Exec { pid: u32 },
    /// It began with what its parent has.
    Fork { pid: u32, parent: u32 },
}

/// The buffers of all CPUs.
#[derive(Debug)]
pub(crate) struct Watch {
    // A buffer goes before its event.
    rings: Vec<(PerfRing, OwnedFd)>,
}

impl Watch {
    /// Begins to watch; `None` where the kernel does not let us.
    pub(crate) fn open() -> Option<Watch> {
        let mut attr = Attr::new(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_DUMMY).with_flags(
            flags::MMAP | flags::MMAP2 | flags::COMM | flags::COMM_EXEC | flags::TASK | flags::SAMPLE_ID_ALL,
        );
        attr.sample_type = PERF_SAMPLE_TIME;
        let mut rings = Vec::new();
        for cpu in cpu::online().ok()? {
            let event = PerfEvent::open(&attr, -1, i32::try_from(cpu.0).ok()?).ok()?.into_fd();
            rings.push((PerfRing::new(event.as_fd(), PAGES).ok()?, event));
        }
        Some(Watch { rings })
    }

    /// What has happened since the last call, in order.
    pub(crate) fn take(&mut self) -> Vec<Change> {
        let mut found: Vec<(u64, Change)> = Vec::new();
        for (ring, _) in &mut self.rings {
            ring.consume(|record| {
                found.extend(change(record));
                true
            });
        }
        // Stable: what one CPU tells stays in its order.
        found.sort_by_key(|(time, _)| *time);
        found.into_iter().map(|(_, change)| change).collect()
    }
}

/// Reads a record; with the time that stands at its end.
fn change(record: PerfRecord<'_>) -> Option<(u64, Change)> {
    let body = record.body;
    let word = |at: usize| body.get(at..at + 4)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    let long = |at: usize| body.get(at..at + 8)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes));
    let time = long(body.len().checked_sub(8)?)?;
    let pid = word(0)?;
    let change = match record.record_type {
        RECORD_MMAP2 => {
            // pid, tid, addr, len, pgoff, device, inode, generation, prot, flags, name.
            const NAME: usize = 64;
            let name = body.get(NAME..body.len() - 8)?;
            let len = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            let path = String::from_utf8_lossy(&name[..len]).into_owned();
            Change::Mapped { pid, start: long(8)?, len_bytes: long(16)?, off_bytes: long(24)?, path }
        }
        RECORD_COMM if record.misc & COMM_EXEC != 0 => Change::Exec { pid },
        // A thread has the process of the one that made it.
        RECORD_FORK => Change::Fork { pid, parent: word(4).filter(|parent| *parent != pid)? },
        _ => return None,
    };
    Some((time, change))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u64], name: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend(name);
        bytes.extend(99_u64.to_ne_bytes());
        bytes
    }

    #[test]
    fn records_are_read() {
        let pair = |low: u32, high: u32| {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&low.to_ne_bytes());
            bytes[4..].copy_from_slice(&high.to_ne_bytes());
            u64::from_ne_bytes(bytes)
        };
        let read = |record_type, misc, body: &[u8]| change(PerfRecord { record_type, misc, body });
        let body = bytes(&[pair(7, 8), 0x1000, 0x2000, 0x3000, 0, 0, 0, 0], b"/bin/x\0\0");
        let mapped =
            Change::Mapped { pid: 7, start: 0x1000, len_bytes: 0x2000, off_bytes: 0x3000, path: "/bin/x".into() };
        assert_eq!(read(RECORD_MMAP2, 0, &body), Some((99, mapped)));
        let body = bytes(&[pair(7, 8)], b"name\0\0\0\0");
        assert_eq!(read(RECORD_COMM, COMM_EXEC, &body), Some((99, Change::Exec { pid: 7 })));
        assert_eq!(read(RECORD_COMM, 0, &body), None);
        let task = |pid, parent, tid| bytes(&[pair(pid, parent), pair(tid, parent), 5], b"");
        assert_eq!(read(RECORD_FORK, 0, &task(9, 7, 9)), Some((99, Change::Fork { pid: 9, parent: 7 })));
        assert_eq!(read(RECORD_FORK, 0, &task(7, 7, 9)), None);
        assert_eq!(read(RECORD_MMAP2, 0, &[1, 2, 3]), None);
    }
}

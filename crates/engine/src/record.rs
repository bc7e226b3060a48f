//! What programs tell user space.

use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use skep_spec::MapId;

use crate::Error;

/// Where a record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A ring buffer or perf event array.
    Map(MapId),
    /// `bpf_printk`.
    Printk,
    /// Events that programs should have run for (the user-space engine's samples).
    Samples,
}

/// One record. The bytes are those of the buffer itself and last as long as the call that gave them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// An event that a program put into a buffer.
    Event {
        /// Which buffer.
        map: MapId,
        /// CPU for per-CPU buffers; `None` for ring buffers.
        cpu: Option<u32>,
        /// The event's bytes.
        data: &'a [u8],
    },
    /// A line that a program printed.
    Text {
        /// Name of the task that was running.
        comm: &'a str,
        /// Its thread id.
        tid: u32,
        /// CPU.
        cpu: u32,
        /// When, in nanoseconds of the trace clock.
        time_ns: u64,
        /// The text, without the line's end.
        text: &'a str,
    },
    /// Records that were lost.
    Lost {
        /// Where.
        source: Source,
        /// CPU for per-CPU buffers.
        cpu: Option<u32>,
        /// How many.
        count: u64,
    },
}

/// A stream of records from all buffers of a session. It may be read in another thread than the one that has the session.
pub trait RecordSource: Send {
    /// Waits at most `timeout` (`None`: for ever) for records, gives everything that is there to `sink`, and returns how
    /// many it gave. `sink` may break off: what it has not taken stays in the buffers.
    ///
    /// Returns early with 0 when a signal arrives.
    fn poll(
        &mut self,
        timeout: Option<Duration>,
        sink: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Result<usize, Error>;

    /// A descriptor that becomes readable when records are there, for event loops; `None` where there is none.
    fn as_fd(&self) -> Option<BorrowedFd<'_>>;
}

//! A stream of events.

use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use skep_engine::RecordSource;

use crate::{Error, Record};

/// Readers on one or more buffers.
pub struct Events {
    source: Box<dyn RecordSource>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    pub(crate) fn new(source: Box<dyn RecordSource>) -> Events {
        Events { source }
    }

    /// Waits at most `timeout` (`None`: for ever) and gives what is there to `sink`, without copying it. Returns how many
    /// records that was; 0 after the timeout or a signal.
    ///
    /// # Errors
    ///
    /// When waiting fails.
    pub fn poll(
        &mut self,
        timeout: Option<Duration>,
        mut sink: impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Result<usize, Error> {
        self.source.poll(timeout, &mut sink)
    }

    /// Gives every record to `sink` until it breaks off. Blocks.
    ///
    /// # Errors
    ///
    /// When waiting fails.
    pub fn for_each(&mut self, mut sink: impl FnMut(Record<'_>) -> ControlFlow<()>) -> Result<(), Error> {
        let mut flow = ControlFlow::Continue(());
        while flow.is_continue() {
            self.source.poll(None, &mut |record| {
                flow = sink(record);
                flow
            })?;
        }
        Ok(())
    }

    /// A descriptor that becomes readable when records are there, for event loops; `None` where there is none.
    ///
    /// An event loop waits for it and then polls without waiting. For tokio the feature `tokio` has that ready made: `into_async`. With
    /// any loop, here poll(2):
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::ops::ControlFlow;
    /// # use std::time::Duration;
    /// # let loaded = skep::Object::open("x.bpf.o")?.load()?;
    /// use rustix::event::{PollFd, PollFlags, poll};
    ///
    /// let mut events = loaded.events(&["events"])?;
    /// loop {
    ///     let fd = events.as_fd().expect("the kernel has one");
    ///     // And whatever else the loop waits for.
    ///     poll(&mut [PollFd::new(&fd, PollFlags::IN)], None)?;
    ///     events.poll(Some(Duration::ZERO), |record| {
    ///         println!("{record:?}");
    ///         ControlFlow::Continue(())
    ///     })?;
    /// }
    /// # }
    /// ```
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.source.as_fd()
    }
}

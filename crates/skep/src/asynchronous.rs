//! Events in a tokio runtime.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use skep_kernel::readers::{Next, PerfReader, PerfRecord, RingReader};
use skep_sys::ringbuf::RingRecord;
use tokio::io::unix::AsyncFd;

use crate::{Error, Events, Record};

/// [`Events`] whose waiting is a future. Made in a runtime with IO enabled.
#[derive(Debug)]
pub struct AsyncEvents {
    events: Events,
    readable: AsyncFd<OwnedFd>,
}

impl Events {
    /// For waiting in the tokio runtime that this is called in (feature `tokio`).
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), skep::Error> {
    /// use std::ops::ControlFlow;
    ///
    /// let loaded = skep::Object::open("execsnoop.bpf.o")?.load()?;
    /// let _links = loaded.attach_all()?;
    /// let mut events = loaded.events(&["events"])?.into_async()?;
    /// events
    ///     .for_each(|record| {
    ///         println!("{record:?}");
    ///         ControlFlow::Continue(())
    ///     })
    ///     .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the engine has no descriptor to wait for, or there is no runtime.
    ///
    /// # Panics
    ///
    /// In a runtime that was built without IO (`enable_io`, `enable_all`), as everything of tokio's that waits for descriptors.
    pub fn into_async(self) -> Result<AsyncEvents, Error> {
        let fd = self.as_fd().ok_or_else(|| Error::new("these events cannot be waited for in a runtime"))?;
        let readable = registered(fd)?;
        Ok(AsyncEvents { events: self, readable })
    }
}

impl AsyncEvents {
    /// Waits until there are records and gives those that are there to `sink`, without copying them; what `sink` does not take stays.
    /// Returns how many that was, at least 1. The sink should not block. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    ///
    /// When waiting fails.
    pub async fn poll(&mut self, mut sink: impl FnMut(Record<'_>) -> ControlFlow<()>) -> Result<usize, Error> {
        loop {
            let mut ready = self.readable.readable().await.map_err(waiting)?;
            match self.events.poll(Some(Duration::ZERO), &mut sink)? {
                0 => ready.clear_ready(),
                count => return Ok(count),
            }
        }
    }

    /// Gives every record to `sink` until it breaks off.
    ///
    /// # Errors
    ///
    /// When waiting fails.
    pub async fn for_each(&mut self, mut sink: impl FnMut(Record<'_>) -> ControlFlow<()>) -> Result<(), Error> {
        let mut flow = ControlFlow::Continue(());
        while flow.is_continue() {
            self.poll(|record| {
                flow = sink(record);
                flow
            })
            .await?;
            // Programs may write without pause; others of this thread's tasks want their turn.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// For waiting in this thread again.
    pub fn into_sync(self) -> Events {
        self.events
    }
}

/// A [`RingReader`] or [`PerfReader`] whose waiting is a future: [`AsyncReader::new`] takes either.
#[derive(Debug)]
pub struct AsyncReader<R> {
    reader: R,
    readable: AsyncFd<OwnedFd>,
}

impl<R: AsFd> AsyncReader<R> {
    /// For waiting in the tokio runtime that this is called in.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), skep::Error> {
    /// use skep::{AsyncReader, Next, PerfOptions, PerfRecord};
    ///
    /// let loaded = skep::Object::open("x.bpf.o")?.load()?;
    /// let mut reader = AsyncReader::new(loaded.map("events")?.perf_reader(&PerfOptions::default())?)?;
    /// loop {
    ///     match reader.read().await? {
    ///         Next::Record(PerfRecord::Event { cpu, data, .. }) => println!("CPU {cpu}: {} bytes", data.len()),
    ///         Next::Record(PerfRecord::Lost { count, .. }) => eprintln!("lost {count} events"),
    ///         Next::Flushed | Next::Deadline => return Ok(()),
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no runtime.
    ///
    /// # Panics
    ///
    /// In a runtime that was built without IO, as [`Events::into_async`].
    pub fn new(reader: R) -> Result<AsyncReader<R>, Error> {
        let readable = registered(reader.as_fd())?;
        Ok(AsyncReader { reader, readable })
    }

    /// The reader itself, to pause it or ask for its sizes. Its deadline counts for its own waiting alone; here
    /// `tokio::time::timeout` does.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.reader
    }

    /// For waiting in this thread again.
    pub fn into_inner(self) -> R {
        self.reader
    }
}

// A loan that is returned from a loop is one too many for the borrow checker: each looks first and lends afterwards.
impl AsyncReader<RingReader> {
    /// The next record, in the buffer itself, or [`Next::Flushed`]. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    ///
    /// When waiting fails.
    pub async fn read(&mut self) -> Result<Next<RingRecord<'_>>, Error> {
        while !self.reader.is_ready() {
            let mut ready = self.readable.readable().await.map_err(waiting)?;
            if !self.reader.is_ready() {
                ready.clear_ready();
            }
        }
        self.reader.try_read()
    }
}

impl AsyncReader<PerfReader> {
    /// The next record, or [`Next::Flushed`]. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    ///
    /// When waiting fails.
    pub async fn read(&mut self) -> Result<Next<PerfRecord<'_>>, Error> {
        while !self.reader.is_ready() {
            let mut ready = self.readable.readable().await.map_err(waiting)?;
            if !self.reader.is_ready() {
                ready.clear_ready();
            }
        }
        self.reader.try_read()
    }
}

fn registered(fd: BorrowedFd<'_>) -> Result<AsyncFd<OwnedFd>, Error> {
    let fd = fd.try_clone_to_owned().map_err(waiting)?;
    // Without a runtime tokio panics, which would be ours to explain.
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(Error::new("there is no tokio runtime to wait in")
            .with_hint("call this inside one: in a function under `#[tokio::main]`, or in `block_on`"));
    }
    #[expect(
        deprecated,
        reason = "its successor is unsafe, because of types whose descriptor may change; an `OwnedFd`'s does not"
    )]
    AsyncFd::with_interest(fd, tokio::io::Interest::READABLE).map_err(waiting)
}

fn waiting(cause: std::io::Error) -> Error {
    Error::new(format!("cannot wait for events: {cause}")).with_source(cause)
}

//! Commands under the kernel's eyes: ordinary children.

use std::io;
use std::process::{Child, Command, ExitStatus};

use skep_engine::{Error, HeldCommand, RunningCommand};
use skep_sys::child::HeldChild;

/// Starts a command that waits.
pub(crate) fn hold(command: Command) -> Result<Box<dyn HeldCommand>, Error> {
    let held = HeldChild::spawn(command);
    held.map(|held| Box::new(Held(held)) as Box<dyn HeldCommand>)
        .map_err(|cause| Error::new(skep_sys::io_text(&cause)).with_source(skep_sys::Errno::from(cause)))
}

#[derive(Debug)]
struct Held(HeldChild);

impl HeldCommand for Held {
    fn pid(&self) -> u32 {
        self.0.pid()
    }

    fn release(self: Box<Self>) -> io::Result<Box<dyn RunningCommand>> {
        Ok(Box::new(Running(self.0.release()?)))
    }
}

#[derive(Debug)]
struct Running(Child);

impl RunningCommand for Running {
    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }
}

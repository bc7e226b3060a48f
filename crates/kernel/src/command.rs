//! Commands under the kernel's eyes: ordinary children.

use std::io;
use std::process::{Child, ExitStatus};

use skep_engine::{HeldCommand, RunningCommand};
use skep_sys::child::HeldChild;

#[derive(Debug)]
pub(crate) struct Held(pub(crate) HeldChild);

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

//! Commands whose events are looked at.

use std::fmt;
use std::io;
use std::process::ExitStatus;

/// A command that was started, but waits before its exec, so that it is seen from its first instruction.
pub trait HeldCommand: fmt::Debug {
    /// Its process id.
    fn pid(&self) -> u32;

    /// Lets it run.
    ///
    /// # Errors
    ///
    /// When it cannot be executed: not found, no permission.
    fn release(self: Box<Self>) -> io::Result<Box<dyn RunningCommand>>;
}

/// A command that runs. Dropping it changes nothing for it.
pub trait RunningCommand: fmt::Debug {
    /// Its process id.
    fn pid(&self) -> u32;

    /// How it ended; `None` while it runs.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell.
    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>>;
}

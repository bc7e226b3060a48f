//! Standard output without a buffer, for who has one of his own.
//!
//! The standard library's buffer hands on whole lines and keeps what follows them: a record that does not end its line goes out in two
//! pieces, and whoever else writes to the same terminal or file may come between.

use std::io::{self, Write};

/// See the module's text. What is not written at once is tried again by [`Write::write_all`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stdout(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! Writing.

use std::io::{self, Write};

use super::{ETHERNET, MAGIC_NANOS, MAX_PACKET};

/// Writes a file of Ethernet frames, in this machine's byte order, with nanoseconds.
pub struct Writer<W: Write> {
    out: io::BufWriter<W>,
    packets: u64,
}

impl<W: Write> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("packets", &self.packets).finish_non_exhaustive()
    }
}

impl<W: Write> Writer<W> {
    /// Starts a file.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn new(out: W) -> io::Result<Writer<W>> {
        let mut out = io::BufWriter::with_capacity(256 << 10, out);
        out.write_all(&MAGIC_NANOS.to_ne_bytes())?;
        for half in [2u16, 4] {
            out.write_all(&half.to_ne_bytes())?;
        }
        for word in [0, 0, MAX_PACKET, ETHERNET] {
            out.write_all(&word.to_ne_bytes())?;
        }
        Ok(Writer { out, packets: 0 })
    }

    /// Adds a packet that was `len` bytes long on the wire.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&mut self, time_ns: u64, data: &[u8], len: u32) -> io::Result<()> {
        let captured = data.len() as u32;
        let seconds = u32::try_from(time_ns / 1_000_000_000).unwrap_or(u32::MAX);
        for word in [seconds, (time_ns % 1_000_000_000) as u32, captured, len.max(captured)] {
            self.out.write_all(&word.to_ne_bytes())?;
        }
        self.out.write_all(data)?;
        self.packets += 1;
        Ok(())
    }

    /// How many packets were written.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Writes what is left.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

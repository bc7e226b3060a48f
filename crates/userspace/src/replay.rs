//! Packets of a file, sent through the programs that are attached.
//!
//! They meet the programs as module `chain` describes. What is left is written to another file when one is given: passed packets, and those that a program
//! sends elsewhere (`TX`, `REDIRECT`, copies). A packet that all socket filters refuse is not written, and one that they cut is written cut.
//!
//! All runs in the thread that asks, one packet after the other, so that the same file gives the same result.

use std::io::Write;
use std::time::{Duration, Instant};

use skep_engine::{Error, Progress};

use crate::chain::{Chain, Fate, Outcome, Verdicts};
use crate::pcap::{Packet, Reader, Writer};
use crate::session::Shared;

/// How long one step may take before records are read.
const STEP: Duration = Duration::from_millis(20);
/// Packets between two looks at the clock.
const BATCH: usize = 64;
/// After so many records readers get their turn, before a buffer is full.
const RECORDS: u64 = 16;

/// A source of packets.
pub struct Replay {
    reader: Reader,
    writer: Option<Writer<Box<dyn Write + Send>>>,
    chain: Chain,
    packet: Packet,
    bytes: u64,
    took: Duration,
    done: bool,
}

/// What became of the packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many there were.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many were written.
    pub written: Option<u64>,
    /// How many were left out of each link layer that is not understood, by its number.
    pub left_out: Vec<(u32, u64)>,
    /// Time that reading, running and writing took.
    pub took: Duration,
    /// The programs that saw them.
    pub programs: Vec<Verdicts>,
}

impl Report {
    /// Packets in a second.
    pub fn packets_per_second(&self) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { self.packets as f64 / seconds } else { 0.0 }
    }
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("reader", &self.reader).finish_non_exhaustive()
    }
}

impl Replay {
    /// Packets that `reader` gives, to be written to `writer` when they pass.
    pub fn new(reader: Reader, writer: Option<Writer<Box<dyn Write + Send>>>) -> Replay {
        Replay {
            reader,
            writer,
            chain: Chain::new(|_| true),
            packet: Packet::default(),
            bytes: 0,
            took: Duration::ZERO,
            done: false,
        }
    }

    pub(crate) fn report(&self, shared: &Shared) -> Report {
        Report {
            packets: self.reader.packets(),
            bytes: self.bytes,
            written: self.writer.as_ref().map(Writer::packets),
            left_out: self.reader.left_out().collect(),
            took: self.took,
            programs: self.chain.verdicts(shared),
        }
    }

    /// Sends some packets through.
    pub(crate) fn advance(&mut self, shared: &Shared) -> Result<Progress, Error> {
        self.chain.look(shared)?;
        let start = Instant::now();
        let progress = self.step(shared, start);
        self.took += start.elapsed();
        progress
    }

    fn step(&mut self, shared: &Shared, start: Instant) -> Result<Progress, Error> {
        let bell = shared.machine().bell();
        let strokes = bell.strokes();
        while !self.done {
            for _ in 0..BATCH {
                let mut packet = std::mem::take(&mut self.packet);
                let more = self.reader.read(&mut packet)?;
                if !more {
                    self.done = true;
                    self.flush()?;
                    break;
                }
                self.bytes += packet.data.len() as u64;
                self.through(shared, &packet)?;
                self.packet = packet;
                if bell.strokes() - strokes >= RECORDS {
                    return Ok(Progress::More);
                }
            }
            if start.elapsed() >= STEP {
                break;
            }
        }
        Ok(if self.done { Progress::Done } else { Progress::More })
    }

    fn flush(&mut self) -> Result<(), Error> {
        match &mut self.writer {
            Some(writer) => writer.finish().map_err(cannot_write),
            None => Ok(()),
        }
    }

    fn through(&mut self, shared: &Shared, packet: &Packet) -> Result<(), Error> {
        let number = self.reader.packets();
        let wrong = |error: Error| error.about(format_args!("packet {number}"));
        let writer = &mut self.writer;
        let write = writer.is_some();
        let outcome = self.chain.through(shared, &packet.data, write, &mut |copy| match writer {
            Some(writer) => writer.write(packet.time_ns, copy, copy.len() as u32).map_err(cannot_write),
            None => Ok(()),
        });
        let Outcome { fate, changed, kept, .. } = outcome.map_err(wrong)?;
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if fate == Fate::Gone || kept == Some(0) {
            return Ok(());
        }
        let data = changed.as_deref().unwrap_or(&packet.data);
        // What the file had not of the packet is still missing.
        let missing = u64::from(packet.len).saturating_sub(packet.data.len() as u64);
        let len = u32::try_from(data.len() as u64 + missing).unwrap_or(u32::MAX);
        let data = &data[..data.len().min(kept.map_or(usize::MAX, |kept| kept as usize))];
        writer.write(packet.time_ns, data, len).map_err(cannot_write)
    }
}

fn cannot_write(error: std::io::Error) -> Error {
    Error::new("cannot write the packets").with_source(error)
}

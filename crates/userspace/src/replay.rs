//! Packets of a file, sent through the programs that are attached.
//!
//! A packet meets the XDP program first, then the tc programs in the order in which they were attached, then the socket filters. It goes
//! on as far as the verdicts let it, as changed as they leave it. What is left is written to another file when one is given: passed packets,
//! and those that a program sends elsewhere (`TX`, `REDIRECT`, copies). Socket filters see the packet from its Ethernet header on, as those of packet
//! sockets do; a packet that all of them refuse is not written, and one that they cut is written cut.
//!
//! All runs in the thread that asks, one packet after the other, so that the same file gives the same result.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_engine::{Error, Progress};
use skep_spec::ProgId;
use skep_vm::{Cpu, MAX_PACKET_BYTES, PacketBuffer, PacketKind, Program};

use crate::attach::Place;
use crate::context;
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
    stages: Vec<Stage>,
    changes: Option<u64>,
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
    /// Time that reading, running and writing took.
    pub took: Duration,
    /// The programs that saw them.
    pub programs: Vec<Verdicts>,
}

/// What a program said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Its name.
    pub program: String,
    /// Where it was, in a word or two: `xdp`, `tc ingress`.
    pub place: &'static str,
    /// How often it said what.
    pub counts: Vec<(String, u64)>,
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

/// A program that packets meet.
struct Stage {
    id: ProgId,
    place: Place,
    program: Arc<Program>,
    cpu: Cpu,
    ctx: u64,
    /// The usual verdicts, by number.
    counts: [u64; 16],
    others: BTreeMap<i32, u64>,
}

/// What becomes of a packet behind a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The next program sees it.
    Next,
    /// The programs behind tc see it.
    Passed,
    /// It leaves.
    Sent,
    Gone,
}

/// `XDP_*`.
const XDP: &[&str] = &["ABORTED", "DROP", "PASS", "TX", "REDIRECT"];
/// `TC_ACT_*`.
const TC: &[&str] = &["OK", "RECLASSIFY", "SHOT", "PIPE", "STOLEN", "QUEUED", "REPEAT", "REDIRECT", "TRAP"];

impl Stage {
    fn fate(&self, verdict: i32) -> Fate {
        match (&self.place, verdict) {
            (Place::Xdp, 2) => Fate::Next,
            (Place::Xdp, 3 | 4) => Fate::Sent,
            (Place::Xdp, _) => Fate::Gone,
            (Place::Tc { .. }, 2 | 4 | 5 | 8) => Fate::Gone,
            (Place::Tc { .. }, 7) => Fate::Sent,
            (Place::Tc { .. }, 0 | 1) => Fate::Passed,
            _ => Fate::Next,
        }
    }

    fn count(&mut self, verdict: i32) {
        match usize::try_from(verdict).ok().and_then(|index| self.counts.get_mut(index)) {
            Some(count) => *count += 1,
            None => *self.others.entry(verdict).or_default() += 1,
        }
    }

    fn verdicts(&self) -> Vec<(String, u64)> {
        let small = (0..).zip(self.counts);
        let all = self.others.iter().map(|(verdict, count)| (*verdict, *count)).chain(small);
        let mut verdicts: Vec<(String, u64)> = Vec::new();
        for (verdict, count) in all.filter(|(_, count)| *count != 0) {
            let names = if self.place == Place::Xdp { XDP } else { TC };
            let known = usize::try_from(verdict).ok().and_then(|index| names.get(index));
            let name = match (&self.place, known) {
                (Place::Socket, _) => if verdict == 0 { "refused" } else { "kept" }.to_owned(),
                (_, Some(name)) => (*name).to_owned(),
                (Place::Tc { .. }, None) if verdict == -1 => "UNSPEC".to_owned(),
                _ => format!("unknown {verdict}"),
            };
            match verdicts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += count,
                None => verdicts.push((name, count)),
            }
        }
        verdicts
    }
}

impl Replay {
    /// Packets that `reader` gives, to be written to `writer` when they pass.
    pub fn new(reader: Reader, writer: Option<Writer<Box<dyn Write + Send>>>) -> Replay {
        Replay {
            reader,
            writer,
            stages: Vec::new(),
            changes: None,
            packet: Packet::default(),
            bytes: 0,
            took: Duration::ZERO,
            done: false,
        }
    }

    pub(crate) fn report(&self, shared: &Shared) -> Report {
        let programs = self.stages.iter().map(|stage| Verdicts {
            program: shared.spec.program(stage.id).name.clone(),
            place: stage.place.word(),
            counts: stage.verdicts(),
        });
        Report {
            packets: self.reader.packets(),
            bytes: self.bytes,
            written: self.writer.as_ref().map(Writer::packets),
            took: self.took,
            programs: programs.collect(),
        }
    }

    /// Sends some packets through.
    pub(crate) fn advance(&mut self, shared: &Shared) -> Result<Progress, Error> {
        if self.changes != Some(shared.hooks.changes()) {
            self.changes = Some(shared.hooks.changes());
            self.set_up(shared)?;
        }
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

    /// A processor and a place for packets for each attached program. What was counted before stays.
    fn set_up(&mut self, shared: &Shared) -> Result<(), Error> {
        let rank = |place: &Place| match place {
            Place::Xdp => 0,
            Place::Tc { .. } => 1,
            _ => 2,
        };
        let mut wanted: Vec<_> = shared.hooks.all().iter().cloned().collect();
        wanted.retain(|it| matches!(it.place, Place::Xdp | Place::Tc { .. } | Place::Socket));
        wanted.sort_by_key(|it| rank(&it.place));
        let mut before = std::mem::take(&mut self.stages);
        for attached in wanted {
            if let Some(at) = before.iter().position(|stage| stage.id == attached.program) {
                self.stages.push(before.remove(at));
                continue;
            }
            let Some(ready) = shared.ready(attached.program) else { continue };
            let kind = if attached.place == Place::Xdp { PacketKind::Xdp } else { PacketKind::Link };
            let buffer = PacketBuffer::new(shared.machine().space(), kind);
            let buffer = buffer.map_err(|error| Error::new(format!("no memory for packets: {error}")))?;
            let ctx = buffer.ctx_addr();
            let mut cpu = shared.cpu()?;
            cpu.set_number(0);
            cpu.set_buffer(Some(Box::new(buffer)));
            cpu.set_event(skep_vm::Event { cookie: attached.cookie, func_ip: 0 });
            self.stages.push(Stage {
                id: attached.program,
                place: attached.place,
                program: ready.program.clone(),
                cpu,
                ctx,
                counts: [0; 16],
                others: BTreeMap::new(),
            });
        }
        Ok(())
    }

    fn through(&mut self, shared: &Shared, packet: &Packet) -> Result<(), Error> {
        let number = self.reader.packets();
        let wrong = |error: Error| error.about(format_args!("packet {number}"));
        let write = self.writer.is_some();
        let mut changed: Option<Vec<u8>> = None;
        let mut fate = Fate::Next;
        // Bytes that the socket filters let through.
        let mut kept: Option<u32> = None;
        let last = self.stages.len().saturating_sub(1);
        for (index, stage) in self.stages.iter_mut().enumerate() {
            if fate == Fate::Passed && matches!(stage.place, Place::Tc { .. }) {
                continue;
            }
            let data = changed.as_deref().unwrap_or(&packet.data);
            if data.len() < context::ETH_HLEN || data.len() > MAX_PACKET_BYTES {
                return Err(wrong(Error::new(format!(
                    "it has {} bytes, and programs see Ethernet frames of 14 to {MAX_PACKET_BYTES}",
                    data.len()
                ))));
            }
            let Some(buffer) = stage.cpu.buffer_mut() else { continue };
            context::arrive(buffer, data);
            let turn = shared.turn();
            let result = stage.cpu.run(&stage.program, [stage.ctx, 0]);
            drop(turn);
            let verdict = result.map_err(|trap| wrong(shared.trapped(stage.id, &trap)))? as i32;
            stage.count(verdict);
            if stage.place == Place::Socket {
                kept = Some(kept.unwrap_or(0).max(verdict as u32));
                continue;
            }
            fate = stage.fate(verdict);
            let Some(buffer) = stage.cpu.buffer() else { continue };
            if let Some(writer) = &mut self.writer {
                for copy in buffer.clones() {
                    writer.write(packet.time_ns, &copy.data, copy.data.len() as u32).map_err(cannot_write)?;
                }
            }
            if matches!(fate, Fate::Gone) {
                break;
            }
            // Only who looks at it next needs to have it.
            if write || index < last {
                changed = Some(buffer.frame());
            }
            if fate == Fate::Sent {
                break;
            }
        }
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

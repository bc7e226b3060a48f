//! The programs that a packet meets.
//!
//! The XDP program comes first, then the tc programs in the order in which they were attached, then the socket filters. A packet goes
//! on as far as the verdicts let it, as changed as they leave it. Socket filters see it from its Ethernet header on, as those of packet
//! sockets do.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_engine::Error;
use skep_spec::ProgId;
use skep_vm::{Cpu, MAX_PACKET_BYTES, PacketBuffer, PacketKind, Program};

use crate::attach::Place;
use crate::context;
use crate::session::Shared;

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

impl Verdicts {
    /// Adds what the same program said elsewhere.
    pub(crate) fn add(&mut self, other: Verdicts) {
        for (name, count) in other.counts {
            match self.counts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += count,
                None => self.counts.push((name, count)),
            }
        }
    }
}

/// Programs in the order in which packets meet them.
pub(crate) struct Chain {
    stages: Vec<Stage>,
    /// What those said that were detached.
    gone: Vec<Verdicts>,
    changes: Option<u64>,
    /// Which places packets pass.
    passes: fn(&Place) -> bool,
}

/// What became of a packet.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) fate: Fate,
    /// What it is now, if somebody may have changed it.
    pub(crate) changed: Option<Vec<u8>>,
    /// Bytes that the socket filters let through, if there are any.
    pub(crate) kept: Option<u32>,
    /// It leaves by another device.
    pub(crate) redirected: bool,
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
pub(crate) enum Fate {
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

    fn said(&self, shared: &Shared) -> Verdicts {
        let program = shared.spec.program(self.id).name.clone();
        Verdicts { program, place: self.place.word(), counts: self.verdicts() }
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

impl Chain {
    /// Of the attached programs at the places that `passes` says yes to.
    pub(crate) fn new(passes: fn(&Place) -> bool) -> Chain {
        Chain { stages: Vec::new(), gone: Vec::new(), changes: None, passes }
    }

    /// What the programs said so far.
    pub(crate) fn verdicts(&self, shared: &Shared) -> Vec<Verdicts> {
        self.gone.iter().cloned().chain(self.stages.iter().map(|stage| stage.said(shared))).collect()
    }

    /// Looks again who is attached, if something changed.
    pub(crate) fn look(&mut self, shared: &Shared) -> Result<(), Error> {
        if self.changes == Some(shared.hooks.changes()) {
            return Ok(());
        }
        self.changes = Some(shared.hooks.changes());
        self.set_up(shared)
    }

    /// A processor and a place for packets for each attached program. What was counted before stays.
    fn set_up(&mut self, shared: &Shared) -> Result<(), Error> {
        let rank = |place: &Place| match place {
            Place::Xdp => 0,
            Place::Tc { .. } => 1,
            _ => 2,
        };
        let mut wanted: Vec<_> = shared.hooks.all().iter().cloned().collect();
        wanted
            .retain(|it| matches!(it.place, Place::Xdp | Place::Tc { .. } | Place::Socket) && (self.passes)(&it.place));
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
            cpu.set_event(skep_vm::Event { cookie: attached.cookie, func_ip: 0, session: None });
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
        self.gone.extend(before.iter().map(|stage| stage.said(shared)));
        Ok(())
    }

    /// Sends one packet through; `write`: somebody wants what is left of it. `copy` gets what programs clone.
    ///
    /// # Errors
    ///
    /// When a program does wrong, the packet has no size that packets have, or `copy` says so.
    pub(crate) fn through(
        &mut self,
        shared: &Shared,
        packet: &[u8],
        write: bool,
        copy: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<Outcome, Error> {
        let mut outcome = Outcome { fate: Fate::Next, changed: None, kept: None, redirected: false };
        let last = self.stages.len().saturating_sub(1);
        for (index, stage) in self.stages.iter_mut().enumerate() {
            if outcome.fate == Fate::Passed && matches!(stage.place, Place::Tc { .. }) {
                continue;
            }
            let data = outcome.changed.as_deref().unwrap_or(packet);
            if data.len() < context::ETH_HLEN || data.len() > MAX_PACKET_BYTES {
                return Err(Error::new(format!(
                    "it has {} bytes, and programs see Ethernet frames of 14 to {MAX_PACKET_BYTES}",
                    data.len()
                )));
            }
            let Some(buffer) = stage.cpu.buffer_mut() else { continue };
            context::arrive(buffer, data);
            let turn = shared.turn();
            let result = stage.cpu.run(&stage.program, [stage.ctx, 0]);
            drop(turn);
            let verdict = result.map_err(|trap| shared.trapped(stage.id, &trap))? as i32;
            stage.count(verdict);
            if stage.place == Place::Socket {
                outcome.kept = Some(outcome.kept.unwrap_or(0).max(verdict as u32));
                continue;
            }
            outcome.fate = stage.fate(verdict);
            outcome.redirected = outcome.fate == Fate::Sent && (stage.place != Place::Xdp || verdict == 4);
            let Some(buffer) = stage.cpu.buffer() else { continue };
            for clone in buffer.clones() {
                copy(&clone.data)?;
            }
            if outcome.fate == Fate::Gone {
                break;
            }
            // Only who looks at it next needs to have it.
            if write || index < last {
                outcome.changed = Some(buffer.frame());
            }
            if outcome.fate == Fate::Sent {
                break;
            }
        }
        Ok(outcome)
    }
}

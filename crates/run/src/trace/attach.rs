//! Attaching a script's programs.
//!
//! The kernel runs the programs of one place in the order in which they were attached, or in the reverse order, by the kind of
//! place. So that they fire in the script's order, the kinds of the first sort are attached forwards, then the others backwards.

use std::collections::BTreeMap;
use std::path::PathBuf;

use skep_engine::{AttachOptions, Error, ErrorKind, Link, PerfEvent, ProgId, SampleRate, Session, Spot, Watch};
use skep_script::plan::{self, Attach, Missing, Plan, Program, Rate};
use skep_script::typed::Place;
use skep_spec::{AttachPoint, AttachType};

use super::Notice;

/// Attached programs.
#[derive(Default)]
pub(super) struct Attached {
    /// Each with the address that it watches.
    pub(super) links: Vec<(Option<u64>, Box<dyn Link>)>,
    /// At how many places.
    pub(super) probes: usize,
}

/// Attaches every program that is not run on request.
///
/// # Errors
///
/// When a place cannot be had, unless the script says that missing probes are no error.
pub(super) fn attach(
    session: &dyn Session,
    plan: &Plan,
    pid: Option<u32>,
    notice: &mut dyn FnMut(Notice<'_>),
) -> Result<Attached, Error> {
    let mut attached = Attached::default();
    let (forwards, backwards): (Vec<&Program>, Vec<&Program>) =
        plan.programs.iter().partition(|program| fires_in_order(session, program));
    for program in forwards.into_iter().chain(backwards.into_iter().rev()) {
        let own_session = Context { session, plan, pid, program };
        own_session.attach(&mut attached, notice)?;
    }
    Ok(attached)
}

/// Whether programs of this kind run in the order in which they were attached: tracepoints, raw tracepoints, perf events and
/// returns from kernel functions.
fn fires_in_order(session: &dyn Session, program: &Program) -> bool {
    let declared = session.spec().program(program.program);
    match declared.attach {
        AttachPoint::Tracepoint { .. } | AttachPoint::RawTracepoint { .. } | AttachPoint::BtfTracepoint { .. } => true,
        AttachPoint::PerfEvent => !program.places.iter().any(|place| is_counted_by_software(&place.attach)),
        AttachPoint::Kprobe { ret, .. } => ret,
        AttachPoint::KprobeMulti { when, .. } => when == skep_spec::program::MultiWhen::Return,
        _ => false,
    }
}

/// Events that the kernel counts itself: those of one kind are in a list whose newest comes first (`perf_swevent_add`,
/// kernel/events/core.c). Clocks, its first two numbers, are timers of their own.
fn is_counted_by_software(attach: &Attach) -> bool {
    const PERF_TYPE_SOFTWARE: u32 = 1;
    const PERF_COUNT_SW_TASK_CLOCK: u64 = 1;
    matches!(attach, Attach::Perf(event) if event.kind == PERF_TYPE_SOFTWARE && event.config > PERF_COUNT_SW_TASK_CLOCK)
}

struct Context<'a> {
    session: &'a dyn Session,
    plan: &'a Plan,
    pid: Option<u32>,
    program: &'a Program,
}

impl Context<'_> {
    fn attach(&self, attached: &mut Attached, notice: &mut dyn FnMut(Notice<'_>)) -> Result<(), Error> {
        if self.is_multi() {
            return self.attach_multi(attached, notice);
        }
        for (index, place) in self.program.places.iter().enumerate() {
            let mut watched = None;
            let options = match &place.attach {
                Attach::Begin | Attach::End | Attach::Signal(_) | Attach::Test { .. } => {
                    attached.probes += 1;
                    continue;
                }
                // Run or pinned by the caller.
                Attach::Iter { .. } => {
                    attached.probes += 1;
                    continue;
                }
                Attach::Section { target, binary, off_bytes } => AttachOptions {
                    target: target.clone(),
                    binary: binary.clone(),
                    off_bytes: *off_bytes,
                    pid: self.pid,
                    cookie: self.cookie(index),
                    ..AttachOptions::default()
                },
                Attach::Perf(event) => {
                    watched = event.watch.map(|_| event.config);
                    AttachOptions {
                        perf: Some(perf_event(*event)),
                        pid: self.pid,
                        cookie: self.cookie(index),
                        ..AttachOptions::default()
                    }
                }
            };
            if let Some(link) = self.one(&options, place, notice)? {
                attached.links.push((watched, link));
                attached.probes += 1;
            }
        }
        Ok(())
    }

    /// One link for all places of a binary, or of the kernel.
    fn attach_multi(&self, attached: &mut Attached, notice: &mut dyn FnMut(Notice<'_>)) -> Result<(), Error> {
        let mut groups: BTreeMap<Option<PathBuf>, (usize, Vec<Spot>)> = BTreeMap::new();
        for (index, place) in self.program.places.iter().enumerate() {
            let Attach::Section { target, binary, off_bytes } = &place.attach else { continue };
            let function = target.clone().unwrap_or_default();
            let spot = Spot { function, off_bytes: *off_bytes, cookie: self.cookie(index) };
            groups.entry(binary.clone()).or_insert((index, Vec::new())).1.push(spot);
        }
        for (binary, (first, places)) in groups {
            let count = places.len();
            let options = AttachOptions { binary, places, pid: self.pid, ..AttachOptions::default() };
            if let Some(link) = self.one(&options, &self.program.places[first], notice)? {
                attached.links.push((None, link));
                attached.probes += count;
            }
        }
        Ok(())
    }

    /// Attaches, or says what is missing as the script wants it.
    fn one(
        &self,
        options: &AttachOptions,
        place: &Place,
        notice: &mut dyn FnMut(Notice<'_>),
    ) -> Result<Option<Box<dyn Link>>, Error> {
        match self.session.attach(self.program.program, options) {
            Ok(link) => {
                for note in link.notes() {
                    notice(Notice::Warning { message: format!("{}: {note}", place.name), hint: None });
                }
                Ok(Some(link))
            }
            Err(error) => self.missing(error, place, notice).map(|()| None),
        }
    }

    fn missing(&self, error: Error, place: &Place, notice: &mut dyn FnMut(Notice<'_>)) -> Result<(), Error> {
        let absent = matches!(error.kind(), ErrorKind::Absent | ErrorKind::Unsupported);
        match self.plan.config.missing_probes {
            Missing::Ignore if absent => Ok(()),
            Missing::Warn if absent => {
                let message = format!("{}: not attached: {error}", place.name);
                notice(Notice::Warning { message, hint: error.hint().map(str::to_owned) });
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn cookie(&self, index: usize) -> u64 {
        self.program.cookies_from.map_or(0, |first| u64::from(first) + index as u64)
    }

    fn is_multi(&self) -> bool {
        let declared = self.session.spec().program(self.program.program);
        let places = &self.program.places;
        let named = places.iter().all(|place| matches!(place.attach, Attach::Section { .. }));
        let multi = [
            AttachType::TRACE_KPROBE_MULTI,
            AttachType::TRACE_KPROBE_SESSION,
            AttachType::TRACE_UPROBE_MULTI,
            AttachType::TRACE_UPROBE_SESSION,
        ];
        named
            && matches!(declared.attach, AttachPoint::KprobeMulti { .. } | AttachPoint::UprobeMulti { .. })
            && declared.attach_type.is_some_and(|attach_type| multi.contains(&attach_type))
    }
}

fn perf_event(event: plan::PerfEvent) -> PerfEvent {
    PerfEvent {
        kind: event.kind,
        config: event.config,
        rate: match event.rate {
            Rate::Hz(hz) => SampleRate::Hz(hz),
            Rate::Period(period) => SampleRate::Every(period),
        },
        one_cpu: event.one_cpu,
        watch: event.watch.map(|(len_bytes, access)| Watch { len_bytes, access }),
    }
}

/// Programs of the plan with a place that `wanted` takes, in the script's order.
pub(super) fn programs<'p>(
    plan: &'p Plan,
    wanted: impl Fn(&Attach) -> bool + 'p,
) -> impl Iterator<Item = (ProgId, &'p Attach)> {
    plan.programs.iter().flat_map(move |program| {
        let places: Vec<_> = program.places.iter().filter(|place| wanted(&place.attach)).collect();
        places.into_iter().map(|place| (program.program, &place.attach))
    })
}

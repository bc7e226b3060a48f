//! Programs that run as time passes: a script's `interval`, which in the kernel is a clock event on one processor, and the timers
//! that programs start themselves (`bpf_timer`).
//!
//! Ticks fall on multiples of the period from the moment of attaching. A program that takes longer than its period misses ticks, as
//! in the kernel, where a timer that is late is moved on (`hrtimer_forward_now`, kernel/events/core.c, 6.18).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use skep_engine::{AttachOptions, Error, PerfEvent, SampleRate};
use skep_spec::ProgId;
use skep_vm::Expired;

use crate::attach::{Attached, Place};
use crate::runner::{Payload, Runner};
use crate::session::Shared;

/// Bytes of `struct bpf_perf_event_data`: registers, which are none here, the period and an address.
const CONTEXT_BYTES: usize = 256;
/// `PERF_TYPE_SOFTWARE`.
const PERF_TYPE_SOFTWARE: u32 = 1;
/// `PERF_COUNT_SW_CPU_CLOCK`.
const PERF_COUNT_SW_CPU_CLOCK: u64 = 0;

/// The period of a clock that ticks on one processor only; `None` for events that sample what runs.
pub(crate) fn period(options: &AttachOptions) -> Option<Duration> {
    let PerfEvent { kind: PERF_TYPE_SOFTWARE, config: PERF_COUNT_SW_CPU_CLOCK, rate, one_cpu: true, .. } =
        options.perf?
    else {
        return None;
    };
    Some(match rate {
        SampleRate::Hz(hz) => Duration::from_nanos((1_000_000_000 / hz.max(1)).max(1)),
        SampleRate::Every(ns) => Duration::from_nanos(ns.max(1)),
    })
}

/// A program that runs once in a period, until this is dropped.
#[derive(Debug)]
pub(crate) struct Timer {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Timer {
    pub(crate) fn start(
        mut runner: Runner,
        program: ProgId,
        period: Duration,
        options: &AttachOptions,
    ) -> Result<Timer, Error> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let asked = Arc::clone(&stop);
        let attached = Attached::alone(program, Place::Interval { period }, options.cookie);
        let thread = std::thread::Builder::new().name("skep-timer".to_owned()).spawn(move || {
            let mut next = Instant::now() + period;
            loop {
                let (lock, bell) = &*asked;
                let mut stopped = lock.lock().unwrap_or_else(PoisonError::into_inner);
                while !*stopped && next > Instant::now() {
                    let wait = next.saturating_duration_since(Instant::now());
                    stopped = bell.wait_timeout(stopped, wait).unwrap_or_else(PoisonError::into_inner).0;
                }
                if *stopped {
                    return;
                }
                drop(stopped);
                if runner.fire(&attached, Payload::Record(&[0; CONTEXT_BYTES])).is_none() {
                    return;
                }
                next += period;
                let late = Instant::now().saturating_duration_since(next);
                next += period * u32::try_from(late.as_nanos() / period.as_nanos().max(1)).unwrap_or(u32::MAX);
            }
        });
        let thread = thread.map_err(|cause| Error::new("cannot start a thread").with_source(cause))?;
        Ok(Timer { stop, thread: Some(thread) })
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let (lock, bell) = &*self.stop;
        *lock.lock().unwrap_or_else(PoisonError::into_inner) = true;
        bell.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread that runs the callbacks of a session's timers, until this is dropped.
#[derive(Debug)]
pub(crate) struct Callbacks {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Callbacks {
    pub(crate) fn start(shared: &Arc<Shared>) -> Result<Callbacks, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let (asked, of) = (stop.clone(), shared.clone());
        let mut cpu = shared.cpu()?;
        let thread = std::thread::Builder::new().name("skep-callbacks".to_owned()).spawn(move || {
            let timers = of.machine().timers();
            loop {
                let seen = timers.bell().strokes();
                if asked.load(Ordering::Acquire) {
                    return;
                }
                let turn = of.turn();
                let expired = cpu.run_timer();
                drop(turn);
                match expired {
                    // Others get their turn, too.
                    Some(Expired { result: Ok(()), .. }) => std::thread::yield_now(),
                    Some(Expired { program, result: Err(trap) }) => {
                        let programs = of.objects.programs.iter().enumerate();
                        let mut same = programs.filter(|(_, ready)| {
                            ready.as_ref().is_some_and(|ready| Arc::ptr_eq(&ready.program, &program))
                        });
                        of.stop(match same.next() {
                            Some((id, _)) => of.trapped(ProgId(id as u32), &trap),
                            None => Error::new(trap.to_string()),
                        });
                        return;
                    }
                    None => {
                        timers.bell().wait(seen, timers.wait_time());
                    }
                }
            }
        });
        let thread = thread.map_err(|cause| Error::new("cannot start a thread").with_source(cause))?;
        Ok(Callbacks { shared: shared.clone(), stop, thread: Some(thread) })
    }
}

impl Drop for Callbacks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.shared.machine().timers().bell().ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_on_one_processor_is_a_timer() {
        let with = |perf| period(&AttachOptions { perf: Some(perf), ..AttachOptions::default() });
        let clock = PerfEvent { one_cpu: true, rate: SampleRate::Every(5_000_000), ..PerfEvent::default() };
        assert_eq!(with(clock), Some(Duration::from_millis(5)));
        assert_eq!(with(PerfEvent { rate: SampleRate::Hz(100), ..clock }), Some(Duration::from_millis(10)));
        assert_eq!(with(PerfEvent { one_cpu: false, ..clock }), None);
        assert_eq!(with(PerfEvent { config: 2, ..clock }), None);
        assert_eq!(period(&AttachOptions::default()), None);
    }
}

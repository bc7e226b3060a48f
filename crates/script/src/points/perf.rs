//! Events of perf: timers, counters, watchpoints.

use super::pattern::number;
use super::{Asked, Found, Point, Provider};
use crate::parser::literals::UNITS;
use crate::plan::{Attach, PerfEvent, Rate};
use crate::points::Resolver;
use crate::typed::{Context, Place};

/// `PERF_TYPE_*` (include/uapi/linux/perf_event.h).
const PERF_TYPE_HARDWARE: u32 = 0;
const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_TYPE_BREAKPOINT: u32 = 5;
/// `PERF_COUNT_SW_CPU_CLOCK`
const PERF_COUNT_SW_CPU_CLOCK: u64 = 0;

/// `HW_BREAKPOINT_*` (include/uapi/linux/hw_breakpoint.h).
const HW_BREAKPOINT_R: u32 = 1;
const HW_BREAKPOINT_W: u32 = 2;
const HW_BREAKPOINT_X: u32 = 4;

/// Name, alias, `PERF_COUNT_SW_*`, how many events make a sample unless the script says so.
const SOFTWARE: [(&str, &str, u64, u64); 11] = [
    ("cpu-clock", "cpu", 0, 1_000_000),
    ("task-clock", "", 1, 1),
    ("page-faults", "faults", 2, 100),
    ("context-switches", "cs", 3, 1000),
    ("cpu-migrations", "", 4, 1),
    ("minor-faults", "", 5, 100),
    ("major-faults", "", 6, 1),
    ("alignment-faults", "", 7, 1),
    ("emulation-faults", "", 8, 1),
    ("dummy", "", 9, 1),
    ("bpf-output", "", 10, 1),
];

/// As [`SOFTWARE`], of `PERF_COUNT_HW_*`.
const HARDWARE: [(&str, &str, u64, u64); 10] = [
    ("cpu-cycles", "cycles", 0, 1_000_000),
    ("instructions", "", 1, 1_000_000),
    ("cache-references", "", 2, 1_000_000),
    ("cache-misses", "", 3, 1_000_000),
    ("branch-instructions", "branches", 4, 100_000),
    ("branch-misses", "", 5, 100_000),
    ("bus-cycles", "", 6, 100_000),
    ("frontend-stalls", "", 7, 1_000_000),
    ("backend-stalls", "", 8, 1_000_000),
    ("ref-cycles", "", 9, 1_000_000),
];

/// Names of the events of `software` or `hardware`, each with its alias behind it when those are wanted; for `profile` and `interval` how a rate is given.
pub(crate) fn counter_names(provider: Provider, aliases: bool) -> Vec<&'static str> {
    let named = |(name, alias): (&'static str, &'static str)| {
        [name, alias].into_iter().take(if aliases { 2 } else { 1 }).filter(|it| !it.is_empty())
    };
    match provider {
        Provider::Software => SOFTWARE.iter().map(|row| (row.0, row.1)).flat_map(named).collect(),
        Provider::Hardware => HARDWARE.iter().map(|row| (row.0, row.1)).flat_map(named).collect(),
        _ => vec!["hz", "s", "ms", "us"],
    }
}

impl Resolver<'_> {
    /// `profile:hz:99`, `interval:s:1`, `interval:1s`, `interval:1000000`.
    pub(super) fn timer(&self, asked: Asked<'_>) -> Found {
        let positive = || asked.error(format!("{} frequency should be a positive integer", asked.provider.name()));
        let rate = match *asked.parts {
            [unit, count] => {
                let known = UNITS[..4].iter().find(|(name, _)| *name == unit);
                let count = number(count);
                match (unit, known) {
                    ("hz", _) => Rate::Hz(count.ok_or_else(positive)?),
                    (_, Some((_, ns))) => {
                        Rate::Period(count.and_then(|count| count.checked_mul(*ns)).ok_or_else(positive)?)
                    }
                    _ => {
                        let error = asked.error(format!("{unit} is not an accepted unit of time"));
                        return Err(Box::new(error.with_hint("units are hz, s, ms, us and ns")));
                    }
                }
            }
            [text] => Rate::Period(duration(text).ok_or_else(positive)?),
            _ => return Err(positive()),
        };
        if matches!(rate, Rate::Hz(0) | Rate::Period(0)) {
            return Err(positive());
        }
        // A period below a microsecond would leave the machine no time for anything else.
        if matches!(rate, Rate::Period(1..1000)) {
            let error = asked.error(format!("{} period is shorter than 1us", asked.provider.name()));
            return Err(Box::new(match *asked.parts {
                [bare] if bare.bytes().all(|byte| byte.is_ascii_digit()) => {
                    let word = asked.provider.name();
                    error.with_hint(format!("a bare number counts nanoseconds: write `{word}:s:{bare}` for seconds"))
                }
                _ => *error,
            }));
        }
        Ok(vec![event_point(
            asked,
            PerfEvent {
                kind: PERF_TYPE_SOFTWARE,
                config: PERF_COUNT_SW_CPU_CLOCK,
                rate,
                one_cpu: asked.provider == Provider::Interval,
                watch: None,
            },
            asked.parts.join(":"),
        )])
    }

    /// `software:faults:100`, `hardware:cache-misses:`.
    pub(super) fn counter(&self, asked: Asked<'_>) -> Found {
        let (kind, table) = match asked.provider {
            Provider::Software => (PERF_TYPE_SOFTWARE, &SOFTWARE[..]),
            _ => (PERF_TYPE_HARDWARE, &HARDWARE[..]),
        };
        let event = asked.parts[0];
        let Some((_, _, config, period)) = table.iter().find(|row| row.0 == event || row.1 == event) else {
            let error = asked.error(format!("{event} is not a {} probe", asked.provider.name()));
            let names = || table.iter().flat_map(|row| [row.0, row.1]).filter(|name| !name.is_empty());
            let mut error = super::with_near(*error, event, names());
            if error.hints.is_empty() {
                error = error.with_hint(format!("there are: {}", names().collect::<Vec<_>>().join(", ")));
            }
            return Err(Box::new(error));
        };
        let period = match asked.parts.get(1) {
            None => *period,
            Some(count) => number(count)
                .ok_or_else(|| asked.error(format!("Invalid count for {} probe: {count}", asked.provider.name())))?,
        };
        if period == 0 {
            return Err(asked.error(format!("{} count should be a positive integer", asked.provider.name())));
        }
        Ok(vec![event_point(
            asked,
            PerfEvent { kind, config: *config, rate: Rate::Period(period), one_cpu: false, watch: None },
            asked.parts.join(":"),
        )])
    }

    /// `watchpoint:0x10000000:8:rw`.
    pub(super) fn watchpoint(&self, asked: Asked<'_>) -> Found {
        let [address, length, mode] = *asked.parts else { return Err(asked.error("watchpoint needs three parts")) };
        let Some(address) = number(address) else {
            let error = asked.error(format!("Invalid function/address argument: {address}"));
            return Err(Box::new(error.with_hint("write the address as a number, such as 0xffffffff81234560")));
        };
        if address == 0 {
            return Err(asked.error("watchpoint must be attached to a non-zero address"));
        }
        let Some(length @ (1 | 2 | 4 | 8)) = number(length) else {
            return Err(asked.error("watchpoint length must be one of (1,2,4,8)"));
        };
        let mut bits = 0;
        for letter in mode.chars() {
            let bit = match letter {
                'r' => HW_BREAKPOINT_R,
                'w' => HW_BREAKPOINT_W,
                'x' => HW_BREAKPOINT_X,
                _ => return Err(asked.error("watchpoint mode must be combination of (r,w,x)")),
            };
            if bits & bit != 0 {
                return Err(asked.error("watchpoint modes may not be duplicated"));
            }
            bits |= bit;
        }
        // Processors watch either data or code.
        if bits & HW_BREAKPOINT_X != 0 && bits != HW_BREAKPOINT_X {
            return Err(asked.error(format!("invalid watchpoint mode: {mode}")));
        }
        Ok(vec![event_point(
            asked,
            PerfEvent {
                kind: PERF_TYPE_BREAKPOINT,
                config: address,
                rate: Rate::Period(1),
                one_cpu: false,
                watch: Some((length, bits)),
            },
            asked.parts.join(":"),
        )])
    }
}

fn event_point(asked: Asked<'_>, event: PerfEvent, rest: String) -> Point {
    Point {
        provider: asked.provider,
        place: Place { name: format!("{}:{rest}", asked.provider.name()), func: None, attach: Attach::Perf(event) },
        context: Context::PerfEvent,
        section: "perf_event".to_owned(),
        family: Some("perf_event"),
    }
}

/// `10ms` and bare nanoseconds, in nanoseconds.
fn duration(text: &str) -> Option<u64> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic() && c != 'e' && c != 'x').unwrap_or(text.len());
    let (count, unit) = match text.starts_with("0x") {
        true => (text, ""),
        false => text.split_at(unit),
    };
    let ns = if unit.is_empty() { 1 } else { UNITS.iter().find(|(name, _)| *name == unit)?.1 };
    number(count)?.checked_mul(ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("1s"), Some(1_000_000_000));
        assert_eq!(duration("1e6"), Some(1_000_000));
        assert_eq!(duration("5ms"), Some(5_000_000));
        assert_eq!(duration("0x10"), Some(16));
        assert_eq!((duration("5x"), duration("s"), duration("9999999999999d")), (None, None, None));
    }
}

//! Times of the kernel's clocks as text of the local zone.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use rustix::time::{ClockId, DynamicClockId, clock_gettime, clock_gettime_dynamic};
use skep_script::types::Clock;

/// What to add to each clock to get nanoseconds since 1970.
#[derive(Debug)]
pub(super) struct Times {
    boot: i64,
    monotonic: i64,
    tai: i64,
    /// Read when the first time is printed.
    zone: std::cell::OnceCell<TimeZone>,
}

impl Times {
    /// Compares the clocks.
    pub(super) fn now() -> Times {
        let ns = |clock| {
            let now = clock_gettime(clock);
            now.tv_sec * 1_000_000_000 + now.tv_nsec
        };
        let wall = ns(ClockId::Realtime);
        // Every kernel with BPF has it (3.10); without an answer the time is off by the leap seconds.
        let tai =
            clock_gettime_dynamic(DynamicClockId::Tai).map_or(wall, |now| now.tv_sec * 1_000_000_000 + now.tv_nsec);
        Times {
            boot: wall - ns(ClockId::Boottime),
            monotonic: wall - ns(ClockId::Monotonic),
            tai: wall - tai,
            zone: std::cell::OnceCell::new(),
        }
    }

    /// A moment of one of the kernel's clocks, in nanoseconds since 1970.
    pub(super) fn wall(&self, clock: Clock, ns: u64) -> i64 {
        let offset = match clock {
            Clock::Boot => self.boot,
            Clock::Monotonic => self.monotonic,
            Clock::Tai => self.tai,
        };
        (ns as i64).wrapping_add(offset)
    }

    /// A moment of one of the kernel's clocks by a format of strftime.
    pub(super) fn write(&self, format: &str, clock: Clock, ns: u64, out: &mut Vec<u8>) {
        self.write_wall(format, self.wall(clock, ns), out);
    }

    /// Now, by a format of strftime.
    pub(super) fn write_now(&self, format: &str, out: &mut Vec<u8>) {
        let wall_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64);
        self.write_wall(format, wall_ns, out);
    }

    fn write_wall(&self, format: &str, wall_ns: i64, out: &mut Vec<u8>) {
        let zone = self.zone.get_or_init(TimeZone::system);
        let Ok(moment) = Timestamp::from_nanosecond(wall_ns.into()) else { return };
        let text = strftime(format, &moment.to_zoned(zone.clone()));
        out.extend_from_slice(text.as_bytes());
    }
}

/// `%f` is microseconds in six digits; everything else is C's. A conversion that C does not know stands for itself.
fn strftime(format: &str, moment: &Zoned) -> String {
    let mut text = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        let conversion = conversion_len(&rest[at..]);
        let (conversion, behind) = rest[at..].split_at(conversion);
        match conversion {
            "%f" => text.push_str(&format!("{:06}", moment.subsec_nanosecond() / 1000)),
            "%n" => text.push('\n'),
            "%t" => text.push('\t'),
            _ => match jiff::fmt::strtime::format(conversion, moment) {
                Ok(part) => text.push_str(&part),
                Err(_) => text.push_str(conversion),
            },
        }
        rest = behind;
    }
    text.push_str(rest);
    text
}

/// Length of the conversion at the start of `text`: flags, a width, and a letter.
fn conversion_len(text: &str) -> usize {
    let flags = text[1..]
        .bytes()
        .take_while(|byte| matches!(byte, b'-' | b'_' | b'^' | b'#' | b'E' | b'O' | b'0'..=b'9' | b':'));
    let flags = flags.count() + 1;
    let letter = text[flags..].chars().next().map_or(0, char::len_utf8);
    flags + letter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_those_of_c_and_microseconds() {
        let moment = Timestamp::from_nanosecond(1_700_000_000_123_456_789).unwrap().to_zoned(TimeZone::UTC);
        assert_eq!(strftime("%H:%M:%S.%f %% %Y-%m-%d", &moment), "22:13:20.123456 % 2023-11-14");
        assert_eq!(strftime("no conversion", &moment), "no conversion");
        assert_eq!(strftime("%", &moment), "%");
        assert_eq!(strftime("%e %j", &moment), "14 318");
    }
}

//! Wall clock text, cheap enough for every line.

use std::io::Write as _;

/// Formats moments as text, and remembers the last second so that a burst of events pays for one conversion.
///
/// Moments are nanoseconds since 1970 (UTC); the local offset is given once.
#[derive(Clone, Debug)]
pub struct Clock {
    utc_offset_s: i64,
    boot_to_wall_ns: i64,
    second: i64,
    time: [u8; 8],
    date: Vec<u8>,
}

impl Clock {
    /// A clock for a zone `utc_offset_s` seconds east of UTC. `boot_to_wall_ns` is what to add to the kernel's
    /// `bpf_ktime_get_ns` to get nanoseconds since 1970.
    pub fn new(utc_offset_s: i32, boot_to_wall_ns: i64) -> Clock {
        Clock {
            utc_offset_s: i64::from(utc_offset_s),
            boot_to_wall_ns,
            second: i64::MIN,
            time: [0; 8],
            date: Vec::new(),
        }
    }

    /// Nanoseconds since 1970 of a kernel time stamp.
    pub fn wall_ns(&self, ktime_ns: u64) -> i64 {
        (ktime_ns as i64).wrapping_add(self.boot_to_wall_ns)
    }

    /// Writes local time as `HH:MM:SS`.
    pub fn write_time(&mut self, wall_ns: i64, out: &mut Vec<u8>) {
        self.settle(wall_ns);
        out.extend_from_slice(&self.time);
    }

    /// Writes UTC as RFC 3339 with nanoseconds: `2026-11-20T12:38:30.123456789Z`.
    pub fn write_rfc3339(&mut self, wall_ns: i64, out: &mut Vec<u8>) {
        self.settle(wall_ns);
        out.extend_from_slice(&self.date);
        let nanos = wall_ns.rem_euclid(1_000_000_000) as u32;
        let mut digits = *b".000000000Z";
        let mut rest = nanos;
        for digit in digits[1..10].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        out.extend_from_slice(&digits);
    }

    fn settle(&mut self, wall_ns: i64) {
        let second = wall_ns.div_euclid(1_000_000_000);
        if second == self.second {
            return;
        }
        self.second = second;
        self.time = hms((second + self.utc_offset_s).rem_euclid(86_400));
        let (year, month, day) = civil(second.div_euclid(86_400));
        self.date.clear();
        // Writing to a vector cannot fail.
        let _ = write!(self.date, "{year:04}-{month:02}-{day:02}T");
        self.date.extend_from_slice(&hms(second.rem_euclid(86_400)));
    }
}

fn hms(second_of_day: i64) -> [u8; 8] {
    let two = |n: i64| [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
    let ([h1, h2], [m1, m2], [s1, s2]) =
        (two(second_of_day / 3600), two(second_of_day / 60 % 60), two(second_of_day % 60));
    [h1, h2, b':', m1, m2, b':', s1, s2]
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
///
/// Years are counted from March, so that the leap day is a year's last; 400 years are always 146,097 days.
fn civil(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468; // days from 0000-03-01 to 1970-01-01
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * march_month + 2) / 5 + 1) as u32;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 } as u32;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rfc3339(wall_ns: i64) -> String {
        let mut out = Vec::new();
        Clock::new(0, 0).write_rfc3339(wall_ns, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn moments_print_as_rfc3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(951_782_400_000_000_007), "2000-02-29T00:00:00.000000007Z");
        assert_eq!(rfc3339(1_700_000_000_123_456_789), "2023-11-14T22:13:20.123456789Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn local_time_wraps_around_midnight() {
        let mut out = Vec::new();
        let mut clock = Clock::new(-3600, 0);
        clock.write_time(0, &mut out);
        clock.write_time(3_600_000_000_000, &mut out);
        assert_eq!(out, b"23:00:0000:00:00");
    }
}

//! What a run was asked to do.

use std::path::PathBuf;
use std::time::Duration;

use skep_engine::{AttachOptions, LoadOptions};

/// One run, as it was meant.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// C source or object.
    pub file: PathBuf,
    /// More of them, to be linked to it.
    pub linked: Vec<PathBuf>,
    /// Where to attach what the sections leave open. A process id here also limits observing programs to that process.
    pub attach: AttachOptions,
    /// Where programs go whose sections leave that open, such as `SEC("kprobe")`.
    pub attach_to: Option<String>,
    /// How the object is loaded.
    pub load: LoadOptions,
    /// Command to run while attached; the run ends with it.
    pub command: Option<String>,
    /// Ends the run.
    pub duration: Option<Duration>,
    /// Ends the run after so many events.
    pub max_events: Option<u64>,
    /// Text or JSON.
    pub format: Format,
    /// Whether maps are shown at the end.
    pub maps: MapsAtEnd,
    /// Programs to run, by name; empty means all that the object switches on.
    pub programs: Vec<String>,
    /// Values for `const volatile` globals, as text.
    pub globals: Vec<(String, String)>,
    /// More flags for the compiler (`-I`, `-D`).
    pub clang_flags: Vec<String>,
}

/// How records are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Rows under a header.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Whether maps are shown at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MapsAtEnd {
    /// If the programs have nothing else to tell.
    #[default]
    Auto,
    /// Never.
    Never,
    /// Always.
    Always,
}

/// Reads a time such as `500ms`, `5s`, `2m`, `1h`, or plain seconds.
///
/// # Errors
///
/// Text for people when it is not one.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{unit}` is not a unit of time; use ms, s, m or h")),
    };
    let number: f64 = number.parse().map_err(|_| format!("`{text}` is not a time; write it as `5s` or `500ms`"))?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| format!("`{text}` is too long"))
}

/// Reads a size such as `4096`, `64K`, `4M` (powers of 1024), in bytes.
///
/// # Errors
///
/// Text for people when it is not one, or is more than 1 GiB.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit.trim_end_matches("iB").trim_end_matches('B') {
        "" => 1,
        "k" | "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return Err(format!("`{unit}` is not a unit of size; use K or M")),
    };
    let number: usize = number.parse().map_err(|_| format!("`{text}` is not a size; write it as `64K` or `4M`"))?;
    number.checked_mul(scale).filter(|size| *size <= 1 << 30).ok_or_else(|| format!("`{text}` is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64K"), Ok(65536));
        assert_eq!(parse_size("4MiB"), Ok(4 << 20));
        assert!(parse_size("2G").unwrap_err().contains("too large"));
        assert!(parse_size("many").unwrap_err().contains("not a unit"));
        assert!(parse_size("").unwrap_err().contains("not a size"));
    }

    #[test]
    fn times_have_units() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("5 parsecs").is_err());
        assert!(parse_duration("-3s").is_err());
    }
}

//! The configuration that the running kernel was built with.
//!
//! It is in `/proc/config.gz` (CONFIG_IKCONFIG_PROC), else in a file that the distribution left in `/boot` or beside the
//! modules. The text is kept as it is, and searched: 250 kB, of which a program asks for a handful of lines.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// No configuration is larger than this when unpacked; today's are 250 kB.
const MAX_LEN_BYTES: u64 = 16 << 20;

/// A kernel's configuration.
#[derive(Debug, Clone)]
pub struct Kconfig {
    text: String,
    path: PathBuf,
}

impl Kconfig {
    /// Reads the running kernel's configuration. `NotFound` names the places that were tried.
    pub fn read() -> io::Result<Kconfig> {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy();
        let candidates = [
            PathBuf::from("/proc/config.gz"),
            PathBuf::from(format!("/boot/config-{release}")),
            PathBuf::from(format!("/lib/modules/{release}/config")),
            PathBuf::from(format!("/lib/modules/{release}/build/.config")),
        ];
        for path in &candidates {
            match Kconfig::read_file(path) {
                Ok(config) => return Ok(config),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("the kernel's configuration is neither in /proc/config.gz nor in /boot/config-{release}"),
        ))
    }

    /// Reads a configuration from a file, unpacking it if it is gzip.
    pub fn read_file(path: &Path) -> io::Result<Kconfig> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_LEN_BYTES).read_to_end(&mut bytes)?;
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(&bytes[..]).take(MAX_LEN_BYTES).read_to_end(&mut unpacked)?;
            bytes = unpacked;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Kconfig { text, path: path.to_owned() })
    }

    /// A configuration from its text.
    pub fn from_text(text: &str) -> Kconfig {
        Kconfig { text: text.to_owned(), path: PathBuf::new() }
    }

    /// The value after `NAME=`, as written: `y`, `m`, `250`, `0x10`, `"text"` with its quotes. `None` for an option
    /// that is not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut from = 0;
        while let Some(found) = self.text[from..].find(name) {
            let start = from + found;
            let end = start + name.len();
            let at_line_start = start == 0 || self.text.as_bytes()[start - 1] == b'\n';
            if at_line_start && self.text.as_bytes().get(end) == Some(&b'=') {
                return self.text[end + 1..].lines().next().map(str::trim_end);
            }
            from = end;
            if name.is_empty() {
                return None;
            }
        }
        None
    }

    /// Whether the option is built in (`y`) or a module (`m`).
    pub fn enabled(&self, name: &str) -> bool {
        matches!(self.get(name), Some("y" | "m"))
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where it was read from; empty if it came from a text.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_name_at_a_line_start_counts() {
        let config =
            Kconfig::from_text("# CONFIG_A is not set\nCONFIG_AB=y\nCONFIG_B=m\nCONFIG_HZ=250\nCONFIG_S=\"a=b\"\n");
        assert_eq!(config.get("CONFIG_A"), None);
        assert_eq!(config.get("CONFIG_AB"), Some("y"));
        assert_eq!(config.get("CONFIG_HZ"), Some("250"));
        assert_eq!(config.get("CONFIG_S"), Some("\"a=b\""));
        assert_eq!(config.get("AB"), None);
        assert_eq!(config.get(""), None);
        assert!(config.enabled("CONFIG_B") && !config.enabled("CONFIG_HZ"));
    }

    #[test]
    fn the_running_kernel_has_bpf() {
        match Kconfig::read() {
            Ok(config) => assert_eq!(config.get("CONFIG_BPF_SYSCALL"), Some("y")),
            Err(error) => eprintln!("skipped: needs the kernel's configuration ({error})"),
        }
    }
}

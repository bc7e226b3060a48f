//! Which kernel runs.
//!
//! Kernels before 5.0 compare a kprobe program's version with `LINUX_VERSION_CODE`, and programs read it through
//! `LINUX_KERNEL_VERSION`. `uname -r` is not it everywhere: Debian's says `6.1.0-18-amd64` for 6.1.76, whose true number is
//! in the version string; Ubuntu's is in `/proc/version_signature`.

use std::fmt;
use std::sync::OnceLock;

/// `major.minor.patch`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KernelVersion {
    /// The 6 in 6.18.44.
    pub major: u32,
    /// The 18.
    pub minor: u32,
    /// The 44.
    pub patch: u32,
}

impl KernelVersion {
    /// From its parts.
    pub const fn new(major: u32, minor: u32, patch: u32) -> KernelVersion {
        KernelVersion { major, minor, patch }
    }

    /// `LINUX_VERSION_CODE`: one byte for each of minor and patch, the patch held at 255 (since 4.9.255).
    pub fn code(self) -> u32 {
        (self.major << 16) + (self.minor << 8) + self.patch.min(255)
    }

    /// This machine's, read once. Zero only when `uname` makes no sense.
    pub fn running() -> KernelVersion {
        static RUNNING: OnceLock<KernelVersion> = OnceLock::new();
        *RUNNING.get_or_init(|| {
            let uname = rustix::system::uname();
            let signature = std::fs::read_to_string("/proc/version_signature").ok();
            let version = uname.version().to_string_lossy().into_owned();
            let release = uname.release().to_string_lossy().into_owned();
            detect(&release, &version, signature.as_deref()).unwrap_or(KernelVersion::new(0, 0, 0))
        })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The release, `uname -r`.
pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The machine, `uname -m`.
pub fn machine() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

fn detect(release: &str, version: &str, signature: Option<&str>) -> Option<KernelVersion> {
    // Ubuntu: "Ubuntu 5.15.0-91.101-generic 5.15.131".
    if let Some(last) = signature.and_then(|s| s.split_whitespace().last())
        && let Some(found) = parse(last)
    {
        return Some(found);
    }
    // Debian: "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)".
    if let Some((_, after)) = version.split_once("Debian ")
        && let Some(found) = parse(after)
    {
        return Some(found);
    }
    parse(release)
}

/// Numbers with dots at the start of the text; what follows is not looked at, a missing patch is 0.
fn parse(text: &str) -> Option<KernelVersion> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let mut parts = text[..end].split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    let patch = parts.next().and_then(|p| p.parse().ok()).unwrap_or(0);
    (major < 256 && minor < 256).then_some(KernelVersion { major, minor, patch })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_hide_the_number_in_different_places() {
        let d = |r, v, s| detect(r, v, s).map(|v| v.to_string());
        assert_eq!(d("6.18.44-fc-v595", "#1 SMP PREEMPT_DYNAMIC @0", None).as_deref(), Some("6.18.44"));
        assert_eq!(
            d("6.1.0-18-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)", None).as_deref(),
            Some("6.1.76")
        );
        assert_eq!(
            d("5.15.0-91-generic", "#101-Ubuntu SMP", Some("Ubuntu 5.15.0-91.101-generic 5.15.131\n")).as_deref(),
            Some("5.15.131")
        );
        assert_eq!(d("7.0-rc1", "", None).as_deref(), Some("7.0.0"));
        assert_eq!(d("nonsense", "", None), None);
    }

    #[test]
    fn the_code_holds_the_patch_in_a_byte() {
        assert_eq!(KernelVersion::new(6, 18, 44).code(), 0x06122c);
        assert_eq!(KernelVersion::new(4, 9, 300).code(), 0x0409ff);
    }
}

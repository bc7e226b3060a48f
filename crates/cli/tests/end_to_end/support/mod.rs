//! What the cases stand on: the binary under test, programs to give it, places to attach to, and the check that nothing is left.

pub(crate) mod cgroup;
pub(crate) mod disk;
pub(crate) mod kernel_objects;
pub(crate) mod needs;
pub(crate) mod network;
pub(crate) mod programs;
pub(crate) mod skep;

use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub(crate) use needs::needs;
pub(crate) use programs::{document, example};
pub(crate) use skep::{Outcome, Skep};

/// How long anything may take before a case gives up. Emulated machines are some ten times slower than real ones.
pub(crate) fn patience() -> Duration {
    static EMULATED: OnceLock<bool> = OnceLock::new();
    let emulated = *EMULATED.get_or_init(|| {
        std::fs::read_to_string("/sys/class/dmi/id/sys_vendor").is_ok_and(|vendor| vendor.trim() == "QEMU")
    });
    Duration::from_secs(if emulated { 60 } else { 20 })
}

/// Asks until there is an answer, or patience ends.
pub(crate) fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + patience();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process that writes once, and its id.
pub(crate) fn writer() -> u32 {
    let mut child =
        Command::new("/bin/sh").args(["-c", "echo x"]).stdout(Stdio::null()).spawn().expect("there is a shell");
    let pid = child.id();
    child.wait().expect("our own child can be waited for");
    pid
}

/// A folder of this test binary's own, `name` in it, empty at the start.
pub(crate) fn scratch(name: &str) -> std::path::PathBuf {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("the target folder can be written to");
    dir
}

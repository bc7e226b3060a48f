//! Tools: an executable that carries a script and needs nothing else.
//!
//! Compiling a script takes milliseconds and no compiler from outside, so a tool is skep's own executable with the *script* behind
//! it, not with its instructions: on every machine it is compiled for the kernel that is there, and everything that a script may do
//! works, struct members, parameters and options included.
//!
//! ```text
//!  skep's executable (ELF) │ HEAD │ payload: script, headers, imports, settings │ trailer
//!                          │ 16 B │ ([`payload`])                               │ length u64, checksum u64, MAGIC
//! ```
//!
//! A start looks at the last 32 bytes of the own file. When no trailer stands there, HEAD at the end of the ELF file tells a tool
//! that was cut off from skep itself: a damaged tool refuses, it does not become another program.

mod payload;
mod target;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub use payload::Carried;
pub use target::WithFiles;

use crate::Error;
use skep_sys::io_text;

/// What stands between the executable and the payload.
const HEAD: &[u8; 16] = b"\0skep carries:\n\0";
/// The end of a tool.
const MAGIC: &[u8; 16] = b"\0skep tool, v1\n\0";
/// Length, checksum, [`MAGIC`].
const TRAILER_BYTES: u64 = 32;
/// No payload is larger: scripts have at most 16 MB, and so have the headers that people write.
const PAYLOAD_MAX: u64 = 256 << 20;

/// A script and what it was built with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tool {
    /// What messages call the script; what it imports is found from there.
    pub name: String,
    /// The script.
    pub text: String,
    /// `--unsafe` was given when it was built.
    pub allow_unsafe: bool,
    /// Settings that were given when it was built.
    pub config: Vec<(String, String)>,
    /// Folders for `#include`.
    pub include_dirs: Vec<PathBuf>,
    /// Files included before the script.
    pub includes: Vec<PathBuf>,
    /// What the compiler read beside the script.
    pub files: Carried,
}

impl Tool {
    /// The tool in this executable; `None` when it is skep itself.
    ///
    /// # Errors
    ///
    /// When it carries a tool that is damaged.
    pub fn of_executable(file: &File) -> Result<Option<Tool>, Error> {
        let damaged = |what: &str| {
            Err(Error::new(format!("this tool is damaged: {what}"))
                .with_hint("copy it again, or build it again with `skep build`"))
        };
        let cannot = |cause: std::io::Error| Error::new(format!("cannot read this tool: {}", io_text(&cause)));
        let len = file.metadata().map_err(cannot)?.len();
        let mut trailer = [0; TRAILER_BYTES as usize];
        let Some(trailer_off) = len.checked_sub(TRAILER_BYTES) else { return Ok(None) };
        file.read_exact_at(&mut trailer, trailer_off).map_err(cannot)?;
        if trailer[16..] != MAGIC[..] {
            return match elf_end(file).is_some_and(|end| carries(file, end)) {
                true => damaged("its end is missing"),
                false => Ok(None),
            };
        }
        let word = |at: usize| u64::from_le_bytes(trailer[at..at + 8].try_into().unwrap_or_default());
        let (payload_bytes, checksum) = (word(0), word(8));
        let start = trailer_off.checked_sub(payload_bytes).filter(|_| payload_bytes <= PAYLOAD_MAX);
        let Some(start) = start else { return damaged("the length of its script is wrong") };
        let mut bytes = vec![0; payload_bytes as usize];
        file.read_exact_at(&mut bytes, start).map_err(cannot)?;
        if hash(&bytes) != checksum {
            return damaged("its script has another checksum");
        }
        match Tool::from_bytes(&bytes) {
            Some(tool) => Ok(Some(tool)),
            None => damaged("its script cannot be read; another version of skep may have built it"),
        }
    }

    /// What an executable carries of it.
    pub fn to_bytes(&self) -> Vec<u8> {
        payload::encode(self)
    }

    /// The tool that an executable carries in these bytes; `None` when they make no sense.
    pub fn from_bytes(bytes: &[u8]) -> Option<Tool> {
        payload::decode(bytes)
    }

    /// Writes the tool to `path`: the executable `skep` with this script behind it. A file that was there is replaced at once,
    /// though it may be running.
    ///
    /// # Errors
    ///
    /// When the tool is too large to be carried, or the file cannot be written.
    pub fn write(&self, skep: &File, path: &Path) -> Result<(), Error> {
        let cannot =
            |cause: std::io::Error| Error::new(format!("cannot write `{}`: {}", path.display(), io_text(&cause)));
        let payload = self.to_bytes();
        if payload.len() as u64 > PAYLOAD_MAX {
            return Err(Error::new("the script and its headers are larger than 256 MB"));
        }
        let name = path.file_name().ok_or_else(|| Error::new(format!("`{}` names no file", path.display())))?;
        let part = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        let written = (|| {
            let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&part)?;
            copy(skep, &mut out)?;
            out.write_all(HEAD)?;
            out.write_all(&payload)?;
            out.write_all(&(payload.len() as u64).to_le_bytes())?;
            out.write_all(&hash(&payload).to_le_bytes())?;
            out.write_all(MAGIC)?;
            std::fs::rename(&part, path)
        })();
        written.map_err(|cause| {
            // Whatever is left of it is of no use.
            let _ = std::fs::remove_file(&part);
            cannot(cause)
        })
    }
}

/// From the start, wherever the file stands.
fn copy(from: &File, to: &mut File) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut off = 0;
    loop {
        let got = from.read_at(&mut buffer, off)?;
        if got == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..got])?;
        off += got as u64;
    }
}

/// Where an ELF64 file ends by its own account: behind the table of sections, which linkers write last.
fn elf_end(file: &File) -> Option<u64> {
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0).ok()?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let half = |at: usize| u64::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let table_off = u64::from_le_bytes(header[40..48].try_into().ok()?);
    table_off.checked_add(half(58) * half(60))
}

fn carries(file: &File, off: u64) -> bool {
    let mut head = [0; 16];
    file.read_exact_at(&mut head, off).is_ok() && head == *HEAD
}

/// FNV-1a, 64 bits: against accidents, not against enemies, who could change the executable as well.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8], name: &str) -> File {
        let path = std::env::temp_dir().join(format!("skep-tool-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file
    }

    /// An executable as small as the reader allows: a header whose table of sections is empty and stands behind it.
    fn skep() -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[40..48].copy_from_slice(&64u64.to_le_bytes());
        bytes
    }

    fn built() -> (Tool, Vec<u8>) {
        let tool = Tool { name: "a.bt".into(), text: "begin { exit(); }".into(), ..Tool::default() };
        let path = std::env::temp_dir().join(format!(
            "skep-tool-{}-built-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        tool.write(&file(&skep(), "skep"), &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        (tool, bytes)
    }

    #[test]
    fn what_was_built_is_found_again() {
        let (tool, bytes) = built();
        assert_eq!(Tool::of_executable(&file(&bytes, "whole")).unwrap(), Some(tool));
        assert_eq!(Tool::of_executable(&file(&skep(), "plain")).unwrap(), None);
        assert_eq!(Tool::of_executable(&file(b"", "empty")).unwrap(), None);
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
        let (_, bytes) = built();
        for len in 64 + HEAD.len()..bytes.len() {
            assert!(Tool::of_executable(&file(&bytes[..len], "cut")).is_err(), "{len}");
        }
        for at in 64 + HEAD.len()..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x20;
            assert!(Tool::of_executable(&file(&changed, "changed")).is_err(), "{at}");
        }
    }
}

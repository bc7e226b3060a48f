//! What a file is, by its content.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use skep_spec::loader::{self, LoaderProgram};
use skep_spec::{MAX_OBJECT_BYTES, elf};
use skep_sys::{file, io_text};

use crate::Error;

/// Something that can become a Spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A BPF object.
    Object {
        /// Name for messages and maps: the file's stem up to the first dot.
        name: String,
        /// The file, its DWARF left out.
        bytes: Vec<u8>,
    },
    /// C source.
    C {
        /// Where it stands, since includes are relative to it.
        path: PathBuf,
    },
}

/// `e_machine` of BPF (elf.h).
const EM_BPF: u16 = 247;

/// Reads `path` and tells what it is. Only for C that holds nothing but `#include` of other C the suffix counts too.
///
/// # Errors
///
/// When it cannot be read, or is nothing that skep runs: the message says what it looks like instead.
pub(crate) fn identify(path: &Path) -> Result<Input, Error> {
    let shown = path.display();
    let bytes = read(path)?;
    if bytes.is_empty() {
        return Err(Error::new(format!("`{shown}` is empty")));
    }
    if bytes.starts_with(b"\x7fELF") {
        let machine = bytes.get(18..20).map(|b| match bytes[5] {
            2 => u16::from_be_bytes([b[0], b[1]]),
            _ => u16::from_le_bytes([b[0], b[1]]),
        });
        return match machine {
            Some(EM_BPF) => Ok(Input::Object { name: object_name(path), bytes }),
            Some(machine) => Err(Error::new(format!("`{shown}` is an ELF file, but not for BPF (machine {machine})"))
                .with_hint("compile it with `clang -g -O2 -target bpf -c`, or give skep the C file")),
            None => Err(Error::new(format!("`{shown}` ends inside its ELF header"))),
        };
    }
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Err(Error::new(format!("`{shown}` is neither a BPF object nor text"))
            .with_hint("give skep a `.bpf.c` or a `.bpf.o` file"));
    };
    // A C file may take its programs from another one: `#include "other.bpf.c"`.
    let is_c = path.extension().is_some_and(|extension| extension == "c");
    let includes = || text.lines().any(|line| line.trim_start().starts_with("#include \""));
    if text.contains("SEC(") || (is_c && includes()) {
        // The compiler reads it again, and a pipe gives its content once.
        if !path.is_file() {
            return Err(Error::new(format!("`{shown}` is C source, but not a file"))
                .with_hint("save it to a file, since the compiler reads it again"));
        }
        return Ok(Input::C { path: path.to_owned() });
    }
    let looks = if text.trim_start().starts_with('{') {
        "JSON"
    } else if text.starts_with("#!") {
        "a script"
    } else {
        "text without a `SEC(...)` program"
    };
    Err(Error::new(format!("`{shown}` is {looks}, which skep does not run"))
        .with_hint("give skep a `.bpf.c` or a `.bpf.o` file"))
}

/// The loader program behind an object ([`skep_spec::loader`]); `None` when there is none.
///
/// # Errors
///
/// When the file cannot be read, or the loader program is damaged.
pub fn loader_of(path: &Path) -> Result<Option<LoaderProgram>, Error> {
    let shown = path.display();
    let cannot = |cause: std::io::Error| Error::new(format!("cannot read `{shown}`: {}", io_text(&cause)));
    // What is no file with an end (a pipe, a device) is an object at most.
    if !path.is_file() {
        return Ok(None);
    }
    let mut file = std::fs::File::open(path).map_err(cannot)?;
    let len = file.metadata().map_err(cannot)?.len();
    if len < loader::TRAILER as u64 || len > MAX_OBJECT_BYTES {
        return Ok(None);
    }
    let mut end = [0; loader::TRAILER];
    file.seek(SeekFrom::End(-(loader::TRAILER as i64))).and_then(|_| file.read_exact(&mut end)).map_err(cannot)?;
    if !loader::is_attached(&end) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(cannot)?;
    loader::detach(&bytes).map_err(|cause| Error::from(cause).about(format_args!("`{shown}`")))
}

/// As [`identify`], for one file of several: C that holds no program of its own is known by its suffix.
pub(crate) fn identify_part(path: &Path) -> Result<Input, Error> {
    if path.extension().is_some_and(|extension| extension == "c") && path.is_file() {
        return Ok(Input::C { path: path.to_owned() });
    }
    identify(path)
}

/// Whether `path` is something that becomes an object: C or an object itself. What cannot be read is not.
pub fn is_c_or_object(path: &Path) -> bool {
    if path.extension().is_some_and(|extension| extension == "bt") {
        return false;
    }
    path.extension().is_some_and(|extension| extension == "c")
        || read(path).is_ok_and(|bytes| {
            bytes.starts_with(b"\x7fELF") || std::str::from_utf8(&bytes).is_ok_and(|text| text.contains("SEC("))
        })
}

/// Reads a file that fits.
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let shown = path.display();
    let cannot = |cause: std::io::Error| {
        let error = Error::new(format!("cannot read `{shown}`: {}", io_text(&cause)));
        if path.is_dir() { error.with_hint("name the file inside") } else { error }
    };
    file::read_parts(path, MAX_OBJECT_BYTES, elf::read_needed).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::FileTooLarge => Error::new(format!(
            "`{shown}` has more than {} MB: no BPF object or source is that large",
            MAX_OBJECT_BYTES >> 20
        )),
        _ => cannot(cause),
    })
}

/// The file's stem up to the first dot, as libbpf names objects: `execsnoop` for `dir/execsnoop.bpf.o`.
pub(crate) fn object_name(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    file.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or("object").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identify_bytes(bytes: &[u8]) -> Result<Input, String> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("skep-input-{}-{n}.x", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let result = identify(&path).map_err(|error| error.to_string());
        std::fs::remove_file(&path).unwrap();
        result
    }

    #[test]
    fn content_decides_and_not_the_suffix() {
        let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1];
        elf.resize(18, 0);
        elf.extend(247u16.to_le_bytes());
        assert!(matches!(identify_bytes(&elf), Ok(Input::Object { .. })));
        elf[18] = 62;
        elf[19] = 0;
        assert!(identify_bytes(&elf).unwrap_err().contains("not for BPF (machine 62)"));
        assert!(identify_bytes(&elf[..12]).unwrap_err().contains("ends inside its ELF header"));
        assert!(matches!(identify_bytes(b"SEC(\"xdp\") int f() {}"), Ok(Input::C { .. })));
        assert!(identify_bytes(b"").unwrap_err().contains("is empty"));
        assert!(identify_bytes(b"{}").unwrap_err().contains("JSON"));
        assert!(identify_bytes(b"\xff\xfe").unwrap_err().contains("neither"));
    }

    #[test]
    fn what_never_ends_is_not_read_whole() {
        let error = identify(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "`/dev/zero` has more than 256 MB: no BPF object or source is that large");
    }

    #[test]
    fn c_from_a_pipe_is_refused_because_the_compiler_reads_it_again() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut writer, b"SEC(\"xdp\") int f() {}").unwrap();
        drop(writer);
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        let error = identify(Path::new(&path)).unwrap_err();
        assert!(error.to_string().contains("is C source, but not a file"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = identify(Path::new("/nonexistent/x.bpf.c")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read `/nonexistent/x.bpf.c`: no such file or directory");
    }
}

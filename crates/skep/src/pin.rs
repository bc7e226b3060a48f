//! Names in a bpffs.

use std::path::Path;

use skep_kernel::attach::Attachment;
use skep_kernel::map::{KernelMap, Pin, pinned};
use skep_kernel::program::KernelProgram;

use crate::{Error, Link, Map, Program};

/// What a name in a bpffs holds.
#[derive(Debug)]
pub enum Pinned {
    /// A map.
    Map(Map<'static>),
    /// A program.
    Program(Program<'static>),
    /// A link.
    Link(Box<dyn Link>),
}

/// Opens whatever is pinned at `path`.
///
/// ```no_run
/// use skep::Pinned;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// for entry in std::fs::read_dir("/sys/fs/bpf")? {
///     match skep::open_pinned(entry?.path()) {
///         Ok(Pinned::Map(map)) => println!("map {}", map.name()),
///         Ok(Pinned::Program(program)) => println!("program {}", program.name()),
///         Ok(Pinned::Link(link)) => println!("{}", link.describe()),
///         // A folder, or no right to it.
///         Err(_) => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// When there is nothing, or nothing of BPF.
pub fn open_pinned(path: impl AsRef<Path>) -> Result<Pinned, Error> {
    let path = path.as_ref();
    Ok(match pinned(path)? {
        Pin::Map => Pinned::Map(Map::of(KernelMap::from_pinned(path)?)),
        Pin::Program => Pinned::Program(Program::of(KernelProgram::from_pinned(path)?)),
        Pin::Link => Pinned::Link(Box::new(Attachment::from_pinned(path)?)),
    })
}

/// Takes the name at `path` in a bpffs away. What it held goes when nothing else holds it. A name that is not there is no error.
///
/// # Errors
///
/// When `path` is not in a bpffs, or the name cannot be removed.
pub fn unpin(path: impl AsRef<Path>) -> Result<(), Error> {
    let path = path.as_ref();
    let shown = path.display();
    if !skep_sys::bpffs::contains(path) {
        return Err(Error::new(format!("`{shown}` is not in a bpffs, so nothing is pinned there")));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::new(format!("cannot unpin `{shown}`: {error}")).with_source(error))
        }
        _ => Ok(()),
    }
}

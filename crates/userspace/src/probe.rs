//! Where a uprobe, uretprobe or USDT probe is: which file, which places in it.
//!
//! Names are looked up as for the kernel ([`skep_binary`]). A probe is then a set of offsets in a file, which a tracer turns into breakpoints wherever a
//! process maps that file ([`crate::process`]).

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use skep_binary::elf::Binary;
use skep_binary::usdt_args::SPEC_LEN_BYTES;
use skep_binary::usdt_specs::{self, Described, Lease, UsdtIds};
use skep_binary::{archive, search, usdt, with_offset};
use skep_engine::{AttachOptions, Error, ErrorKind, MapHandle};
use skep_spec::program::MultiWhen;
use skep_spec::{AttachPoint, Program, glob};

use crate::map::UserMap;
use crate::process::{MAX_INSN_BYTES, displaceable};

/// A file as mappings name it: the device's numbers, and the inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) inode: u64,
}

impl FileId {
    /// The file at a path.
    pub(crate) fn of(path: &Path) -> Option<FileId> {
        let facts = fs::metadata(path).ok()?;
        let (major, minor) = (rustix::fs::major(facts.dev()), rustix::fs::minor(facts.dev()));
        Some(FileId { major, minor, inode: facts.ino() })
    }
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// In the file, in bytes.
    pub off_bytes: u64,
    /// Of the counter that tells the program that somebody looks, in the file, in bytes.
    pub semaphore_off_bytes: Option<u64>,
    /// What the program gets from `bpf_get_attach_cookie`.
    pub cookie: u64,
}

/// A probe of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// As it is shown.
    pub described: String,
    /// The file.
    pub file: FileId,
    /// Its path.
    pub path: PathBuf,
    /// The places.
    pub spots: Vec<Spot>,
    /// When the program runs.
    pub when: MultiWhen,
}

impl Probe {
    /// Whether its program runs when a function begins.
    pub(crate) fn at_entry(&self) -> bool {
        self.when != MultiWhen::Return
    }

    /// Whether its program runs when a function returns.
    pub(crate) fn at_return(&self) -> bool {
        self.when != MultiWhen::Entry
    }
}

/// A probe, and what has to be kept while it is attached.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) leases: Vec<Lease>,
    pub(crate) notes: Vec<String>,
}

/// The map of `usdt.bpf.h`, if the object has it.
#[derive(Clone, Copy)]
pub(crate) struct UsdtMap<'a> {
    pub(crate) specs: &'a UserMap,
    pub(crate) ids: &'a UsdtIds,
}

/// The probe that a program's section and the caller mean; `None` for other kinds of programs.
pub(crate) fn probe(
    program: &Program,
    options: &AttachOptions,
    usdt: Option<UsdtMap<'_>>,
) -> Result<Option<(Probe, Kept)>, Error> {
    let request = Request { program, options };
    Ok(Some(match &program.attach {
        AttachPoint::Uprobe { path, function, off_bytes, ret } => {
            let (function, off_bytes) = match (function.as_str(), *off_bytes, options.off_bytes) {
                ("", 0, Some(off_bytes)) => (String::new(), off_bytes),
                ("", 1.., _) => (String::new(), *off_bytes),
                _ => (request.named(function, "function")?, *off_bytes),
            };
            let (function, off_bytes) = with_offset(&function, off_bytes);
            (request.function(path, function, off_bytes, *ret)?, Kept::default())
        }
        AttachPoint::UprobeMulti { path, pattern, when } => (request.multi(path, pattern, *when)?, Kept::default()),
        AttachPoint::Usdt { path, provider, name } => {
            let whole = if name.is_empty() { String::new() } else { format!("{provider}:{name}") };
            let whole = request.named(&whole, "USDT probe")?;
            let (provider, name) = whole.split_once(['/', ':']).unwrap_or(("", &whole));
            request.usdt(path, provider, name, usdt)?
        }
        _ => return Ok(None),
    }))
}

/// A program to attach.
struct Request<'a> {
    program: &'a Program,
    options: &'a AttachOptions,
}

impl Request<'_> {
    fn error(&self, why: impl std::fmt::Display) -> Error {
        Error::new(format!("cannot attach `{}` ({}): {why}", self.program.name, self.program.section))
    }

    /// Puts the program's name before an error about a file.
    fn about(&self, error: Error) -> Error {
        let out = self.error(&error).with_kind(error.kind());
        let out = match error.hint() {
            Some(hint) => out.with_hint(hint),
            None => out,
        };
        // Its own words stand in ours.
        out.with_source(error)
    }

    /// The name in the section, or the caller's where the section is bare.
    fn named(&self, name: &str, what: &str) -> Result<String, Error> {
        match (name, &self.options.target) {
            ("", Some(target)) => Ok(target.clone()),
            ("", None) => Err(self
                .error(format_args!("its section names no {what}"))
                .with_kind(ErrorKind::NeedsOption)
                .with_hint("name it with `--attach-to`")),
            (name, _) => Ok(name.to_owned()),
        }
    }

    fn binary(&self, path: &str) -> Result<PathBuf, Error> {
        let given = self.options.binary.as_deref().and_then(Path::to_str).unwrap_or(path);
        let found = match (given, self.options.pid) {
            ("/proc/self/exe" | "", Some(pid)) => search::resolve(&format!("/proc/{pid}/exe"), None),
            _ => search::resolve(given, self.options.pid),
        };
        found.map_err(|error| self.about(error))
    }

    fn open(&self, path: &Path) -> Result<Binary, Error> {
        Binary::open(path).map_err(|error| self.about(error))
    }

    fn function(&self, path: &str, function: &str, off_bytes: u64, ret: bool) -> Result<Probe, Error> {
        let path = self.binary(path)?;
        let binary = self.open(&path)?;
        let start = match function {
            "" => binary.start(),
            function => binary.find(function).map_err(|error| self.about(error))?.off_bytes,
        };
        let place = start.checked_add(off_bytes).ok_or_else(|| self.error("the offset is too large"))?;
        let word = if ret { "uretprobe" } else { "uprobe" };
        let described = match (function, off_bytes) {
            ("", _) => format!("{word} {}:{off_bytes:#x}", path.display()),
            (_, 0) => format!("{word} {}:{function}", path.display()),
            _ => format!("{word} {}:{function}+{off_bytes:#x}", path.display()),
        };
        let spot = Spot { off_bytes: place, semaphore_off_bytes: None, cookie: self.options.cookie };
        let when = if ret { MultiWhen::Return } else { MultiWhen::Entry };
        self.made(&binary, described, vec![spot], when)
    }

    fn multi(&self, path: &str, pattern: &str, when: MultiWhen) -> Result<Probe, Error> {
        let word = match when {
            MultiWhen::Entry => "uprobe.multi",
            MultiWhen::Return => "uretprobe.multi",
            MultiWhen::Session => "uprobe.session",
        };
        let path = self.binary(path)?;
        let binary = self.open(&path)?;
        let find = |function: &str| binary.find(function).map_err(|error| self.about(error));
        let (spots, what) = if self.options.places.is_empty() {
            let pattern = self.named(pattern, "function")?;
            let places = if glob::is_pattern(&pattern) {
                binary.matching(&pattern).map_err(|error| self.about(error))?
            } else {
                vec![find(&pattern)?]
            };
            let cookie = self.options.cookie;
            let spot = |off_bytes| Spot { off_bytes, semaphore_off_bytes: None, cookie };
            (places.iter().map(|place| spot(place.off_bytes)).collect(), format!(":{pattern}"))
        } else {
            let spot = |place: &skep_engine::Spot| {
                let off_bytes = match place.off_bytes {
                    Some(off_bytes) => off_bytes,
                    None => find(&place.function)?.off_bytes,
                };
                Ok(Spot { off_bytes, semaphore_off_bytes: None, cookie: place.cookie })
            };
            (self.options.places.iter().map(spot).collect::<Result<Vec<Spot>, Error>>()?, String::new())
        };
        let described = format!("{word} {}{what} ({} places)", path.display(), spots.len());
        self.made(&binary, described, spots, when)
    }

    fn usdt(&self, path: &str, provider: &str, name: &str, map: Option<UsdtMap<'_>>) -> Result<(Probe, Kept), Error> {
        let path = self.binary(path)?;
        let binary = self.open(&path)?;
        let sites = usdt::find(&binary, provider, name).map_err(|error| self.about(error))?;
        let described = match map {
            Some(UsdtMap { specs, ids }) => {
                let facts = specs.facts();
                let shape = (facts.value_size as usize, facts.max_entries);
                let write = |id: u32, bytes: &[u8; SPEC_LEN_BYTES]| specs.update(&id.to_ne_bytes(), bytes, 0);
                usdt_specs::describe(ids, shape, self.options.cookie, &sites, write)
                    .map_err(|error| self.about(error))?
            }
            // A program that reads no argument has no maps, and needs no numbers.
            None => Described { ids: vec![0; sites.len()], leases: Vec::new(), notes: Default::default() },
        };
        let spots = sites.iter().zip(&described.ids).map(|(site, id)| Spot {
            off_bytes: site.off_bytes,
            semaphore_off_bytes: site.semaphore_off_bytes,
            cookie: u64::from(*id),
        });
        let what = format!("usdt {}:{provider}:{name}", path.display());
        let what = if sites.len() == 1 { what } else { format!("{what} ({} places)", sites.len()) };
        let probe = self.made(&binary, what, spots.collect(), MultiWhen::Entry)?;
        Ok((probe, Kept { leases: described.leases, notes: described.notes.into_iter().collect() }))
    }

    /// Looks whether breakpoints can be there.
    fn made(&self, binary: &Binary, described: String, spots: Vec<Spot>, when: MultiWhen) -> Result<Probe, Error> {
        const KERNEL: &str = "`--engine kernel` attaches it, as root";
        if !cfg!(target_arch = "x86_64") {
            return Err(self
                .error("breakpoints of the user-space engine are made for x86-64 only")
                .with_kind(ErrorKind::Unsupported)
                .with_hint(KERNEL));
        }
        let path = archive::file_of(binary.path());
        if when != MultiWhen::Entry && binary.is_go().map_err(|error| self.about(error))? {
            return Err(self
                .error(format_args!(
                    "`{}` is a Go program: Go moves its stacks and reads the return addresses on them, and ends the program where it finds another",
                    path.display()
                ))
                .with_kind(ErrorKind::Unsupported)
                .with_hint("probe the `ret` instructions of the function: `uprobe` with `FUNCTION+OFFSET`, for each one that `objdump -d` shows"));
        }
        let cannot =
            |cause: std::io::Error| self.error(format_args!("cannot read `{}`", path.display())).with_source(cause);
        let file = File::open(&path).map_err(cannot)?;
        for spot in &spots {
            let mut bytes = [0; MAX_INSN_BYTES];
            let read = file.read_at(&mut bytes, spot.off_bytes).map_err(cannot)?;
            if let Err(why) = displaceable(&bytes[..read]) {
                let hex: Vec<String> = bytes[..read].iter().map(|byte| format!("{byte:02x}")).collect();
                return Err(self
                    .error(format_args!(
                        "{described}: no breakpoint at {:#x} of the file: {why} ({})",
                        spot.off_bytes,
                        hex.join(" ")
                    ))
                    .with_kind(ErrorKind::Unsupported)
                    .with_hint(format!("probe the instruction before or behind it, by offset; {KERNEL}")));
            }
        }
        let file = FileId::of(&path).ok_or_else(|| self.error(format_args!("`{}` is gone", path.display())))?;
        Ok(Probe { described, file, path, spots, when })
    }
}

//! One compile: flags, the compiler's run, and what becomes of its output.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use skep_spec::elf::without_dwarf;

use crate::cache::Cache;
use crate::compiler::Compiler;
use crate::deps::{Dep, absent_places, parse_rule};
use crate::hash::Hasher;
use crate::message::{self, Has};
use crate::object::{Entry, Object, is_system, load, store};
use crate::target::Target;
use crate::vmlinux::{Vmlinux, begins_with};
use crate::{Error, headers};

/// What to compile, and for which machine.
#[derive(Debug)]
pub struct Request<'a> {
    /// The C file.
    pub source: &'a Path,
    /// Where `vmlinux.h` comes from, usually `Some(Vmlinux::from(&kernel_btf))`; without it only a `vmlinux.h` of the user's own is found.
    pub vmlinux: Option<Vmlinux<'a>>,
    /// The machine that the program will run on.
    pub target: Target,
    /// Flags of the user's own (`-I`, `-D`, `-W`, `-mcpu=` ...); they come after ours and win.
    pub args: Vec<OsString>,
    /// Diagnostics in colour.
    pub color: bool,
}

impl<'a> Request<'a> {
    /// A compile for this machine, without vmlinux.h and without flags.
    pub fn new(source: &'a Path) -> Request<'a> {
        Request { source, vmlinux: None, target: Target::host(), args: Vec::new(), color: false }
    }
}

/// A compiler with a cache: the way from C to an object.
#[derive(Debug)]
pub struct Clang {
    cache: Cache,
    compiler: Compiler,
}

impl Clang {
    /// The compiler of this machine with the user's cache folder.
    ///
    /// # Errors
    ///
    /// When there is no compiler ([`Error::NoCompiler`] says how to get one), or no folder to write to.
    pub fn find() -> Result<Clang, Error> {
        let cache = Cache::open()?;
        let compiler = Compiler::find(&cache)?;
        Ok(Clang { cache, compiler })
    }

    /// A given compiler and cache.
    pub fn new(cache: Cache, compiler: Compiler) -> Clang {
        Clang { cache, compiler }
    }

    /// The compiler in use.
    pub fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// The cache in use.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Compiles a C file, or takes the object of an earlier compile if nothing has changed since.
    ///
    /// Blocks while clang runs: some 0.05 s for a small program, 0.5 s the first time that a kernel's vmlinux.h is needed.
    ///
    /// # Errors
    ///
    /// [`Error::Compile`] with clang's text; [`Error::Source`] for an unreadable file; [`Error::Cache`] for a cache that
    /// cannot be written, for instance on a full disk.
    pub fn compile(&self, request: &Request<'_>) -> Result<Object, Error> {
        let cannot_read = |cause| Error::Source { path: request.source.to_owned(), cause };
        let source = fs::canonicalize(request.source).map_err(cannot_read)?;
        fs::File::open(&source).map_err(cannot_read)?;
        let entry = self.cache.path("objects").join(self.key(&source, request).to_string());
        if let Some(object) = load(&entry, request.vmlinux.as_ref()) {
            return Ok(object);
        }
        let object = self.run(&source, request, &entry)?;
        self.cache.tidy();
        Ok(object)
    }

    /// Everything that is known before the first line is read. See [`crate::object`].
    fn key(&self, source: &Path, request: &Request<'_>) -> crate::hash::Digest {
        let mut hasher = Hasher::new()
            .part(self.compiler.id().to_string())
            .part(headers::digest().to_string())
            .part(source.as_os_str().as_bytes())
            // The spelling appears in messages and line information.
            .part(request.source.as_os_str().as_bytes())
            .part(format!("{:?} {}", request.target, request.color));
        for variable in ["CPATH", "C_INCLUDE_PATH"] {
            hasher = hasher.part(std::env::var_os(variable).unwrap_or_default().as_bytes());
        }
        // A relative -I depends on where we are.
        hasher = hasher.part(std::env::current_dir().unwrap_or_default().as_os_str().as_bytes());
        request.args.iter().fold(hasher, |hasher, arg| hasher.part(arg.as_bytes())).finish()
    }

    fn run(&self, source: &Path, request: &Request<'_>, entry: &Path) -> Result<Object, Error> {
        let started = SystemTime::now();
        let headers = headers::install(&self.cache)?;
        let own = own_folders(request);
        // A vmlinux.h of the user's own wins, also over <vmlinux.h>.
        let offered = request.vmlinux.as_ref().filter(|_| !own.iter().any(|folder| folder.join("vmlinux.h").exists()));
        // Making the header takes time, so it is made when the source names it, or when clang asks for it (an include that
        // only the preprocessor sees).
        let named = fs::read(source).is_ok_and(|text| text.windows(9).any(|word| word == b"vmlinux.h"));
        let named = named || begins_with(source, &own);
        let mut build = self.build(request, &headers, offered.filter(|_| named), begins_with(source, &own))?;
        if !named
            && offered.is_some()
            && let Err(text) = &build.outcome
            && text.contains("'vmlinux.h' file not found")
        {
            build = self.build(request, &headers, offered, false)?;
        }
        let Build { outcome, uses_vmlinux, files } = build;
        let (bytes, warnings) = match outcome {
            Ok(done) => done,
            Err(text) => return Err(self.failure(request, text)),
        };

        // Our own headers are part of the key.
        let files: Vec<PathBuf> = files.into_iter().filter(|file| !file.starts_with(self.cache.root())).collect();
        let mut places = files.clone();
        if uses_vmlinux {
            places.push(PathBuf::from("/vmlinux.h"));
        }
        let deps: Option<Vec<Dep>> = files.iter().map(|file| Dep::record(file, started)).collect();
        if let Some(deps) = deps {
            let vmlinux = offered.filter(|_| uses_vmlinux).map(|vmlinux| vmlinux.digest().to_string());
            let absent = absent_places(&places, &own);
            let parts = Entry { vmlinux, deps: &deps, absent: &absent, warnings: &warnings, object: &bytes };
            store(&self.cache, entry, &parts)?;
        }
        let sources = files.into_iter().filter(|path| !is_system(path)).collect();
        Ok(Object { bytes, warnings, cached: false, sources })
    }

    /// Runs clang, with vmlinux.h within reach and precompiled where that is asked for.
    fn build(
        &self,
        request: &Request<'_>,
        headers: &Path,
        vmlinux: Option<&Vmlinux<'_>>,
        comes_first: bool,
    ) -> Result<Build, Error> {
        let vmlinux = vmlinux.map(|vmlinux| vmlinux.install(&self.cache)).transpose()?;
        let precompiled = match &vmlinux {
            Some(folder) if comes_first => self.precompile(request, headers, folder),
            _ => None,
        };
        let object = self.cache.scratch("o");
        let rule = self.cache.scratch("d");
        let attempt = |precompiled: Option<&Path>| {
            let mut command = self.compiler.start();
            self.flags(&mut command, request, headers, vmlinux.as_deref());
            if let Some(precompiled) = precompiled {
                command.arg("-include-pch").arg(precompiled);
            }
            command.args(["-x", "c", "-c", "-MD", "-MF"]).arg(rule.path()).arg("-o").arg(object.path());
            command.args(&request.args).arg(request.source);
            command.output().map_err(|cause| Error::Start { command: self.compiler.command(), cause })
        };
        let mut output = attempt(precompiled.as_deref())?;
        if !output.status.success()
            && let Some(file) = &precompiled
        {
            // Perhaps only the precompiled header is at fault; the plain way decides, and prints the plain text.
            output = attempt(None)?;
            if output.status.success() {
                let _ = fs::remove_file(file);
            }
        }
        let text = message::clean(&output.stderr, headers, vmlinux.as_deref());
        if !output.status.success() {
            return Ok(Build { outcome: Err(text), uses_vmlinux: false, files: Vec::new() });
        }
        let bytes = fs::read(object.path()).map_err(Error::cache(object.path(), "read"))?;
        // BTF says what the kernel and skep want to know, in a twentieth of the space.
        let bytes = without_dwarf(&bytes);
        let files = parse_rule(&fs::read(rule.path()).map_err(Error::cache(rule.path(), "read"))?);
        let reads_header = vmlinux.as_ref().is_some_and(|folder| files.iter().any(|file| file.starts_with(folder)));
        Ok(Build { outcome: Ok((bytes, text)), uses_vmlinux: reads_header || precompiled.is_some(), files })
    }

    /// Clang said no. On a full disk that is not the source's fault.
    fn failure(&self, request: &Request<'_>, text: String) -> Error {
        if text.contains("No space left on device") || text.contains("Disk quota exceeded") {
            let cause = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Error::Cache { path: self.cache.root().to_owned(), doing: "write to", cause };
        }
        let has = match &request.vmlinux {
            None => Has::Nothing,
            Some(vmlinux) if vmlinux.is_short() => Has::Short,
            Some(_) => Has::Whole,
        };
        let hint = message::hint(&text, has);
        Error::Compile { path: request.source.to_owned(), text, hint }
    }

    /// vmlinux.h as clang's own dump for these flags, made if it is not there. `None` if it cannot be made: the plain header
    /// does as well.
    fn precompile(&self, request: &Request<'_>, headers: &Path, vmlinux: &Path) -> Option<PathBuf> {
        let hasher = Hasher::new().part(self.compiler.id().to_string()).part(headers.as_os_str().as_bytes());
        let hasher = hasher.part(format!("{:?}", request.target));
        let key = request.args.iter().fold(hasher, |hasher, arg| hasher.part(arg.as_bytes())).finish();
        let file = vmlinux.join(format!("{key}.pch"));
        if file.is_file() {
            return Some(file);
        }
        let scratch = self.cache.scratch("pch");
        let mut command = self.compiler.start();
        self.flags(&mut command, request, headers, Some(vmlinux));
        command.args(["-x", "c-header", "-o"]).arg(scratch.path());
        command.args(&request.args).arg(vmlinux.join("vmlinux.h"));
        let done = command.output().is_ok_and(|output| output.status.success());
        (done && scratch.move_to(&file).is_ok()).then_some(file)
    }

    /// The flags that do not depend on the source. The user's come after these.
    fn flags(&self, command: &mut Command, request: &Request<'_>, headers: &Path, vmlinux: Option<&Path>) {
        let target = request.target;
        command.args(["-target", target.triple(), "-g", "-O2", "-mcpu=v3"]);
        command.arg(format!("-D__TARGET_ARCH_{}", target.arch.define()));
        // Distributions turn the stack protector on by default; BPF has none.
        command.args(["-fno-stack-protector", "-Wno-unused-command-line-argument", "-fno-crash-diagnostics"]);
        command.arg(if request.color { "-fcolor-diagnostics" } else { "-fno-color-diagnostics" });
        // Paths of the cache stay out of line information, so that objects do not depend on where the cache is.
        for folder in std::iter::once(headers).chain(vmlinux) {
            let mut map = OsString::from("-ffile-prefix-map=");
            map.push(folder);
            map.push("/=skep:");
            command.arg(map);
        }
        for folder in headers::FOLDERS {
            command.arg("-isystem").arg(headers.join(folder));
        }
        if let Some(vmlinux) = vmlinux {
            command.arg("-isystem").arg(vmlinux);
        }
        // Whoever turns the machine's headers off means all of them.
        if !request.args.iter().any(|arg| arg == "-nostdlibinc" || arg == "-nostdinc") {
            for folder in target.system_folders(self.compiler.zig_headers().as_deref()) {
                command.arg("-idirafter").arg(folder);
            }
        }
        // `#include <own.h>` finds a file beside the source, if there is no other of that name.
        command.arg("-idirafter").arg(folder_of(request.source));
    }
}

/// What clang made of a source: the object and its warnings, or its errors.
struct Build {
    outcome: Result<(Vec<u8>, String), String>,
    uses_vmlinux: bool,
    files: Vec<PathBuf>,
}

fn folder_of(source: &Path) -> &Path {
    source.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The folders in which the user's own headers may be: the source's, then those of `-I`.
fn own_folders(request: &Request<'_>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = vec![folder_of(request.source).to_owned()];
    let mut args = request.args.iter();
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        for flag in ["-iquote", "-isystem", "-I"] {
            match bytes.strip_prefix(flag.as_bytes()) {
                Some(b"") => folders.extend(args.next().map(PathBuf::from)),
                Some(folder) => folders.push(PathBuf::from(OsStr::from_bytes(folder))),
                None => continue,
            }
            break;
        }
    }
    folders
}

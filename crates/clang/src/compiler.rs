//! Finding a compiler that knows the BPF target.
//!
//! In this order: `$SKEP_CLANG` (a name, a path or a command with arguments), `clang`, `clang-NN` with the highest number
//! first, `/usr/lib/llvm-NN/bin/clang`, and the clang inside the `ziglang` Python package (`python3 -m ziglang clang`) or
//! inside `zig`. The first one that lists a `bpf` target is taken.
//!
//! Asking a compiler costs two process starts (some 40 ms), asking Python where a package lies costs another 30 ms, so
//! answers are kept in the cache under a name made of the program's path, length and time of change; and which programs have
//! a number in their name is kept until a folder of the path changes: finding a compiler the second time is a few calls of
//! stat.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::Error;
use crate::cache::Cache;
use crate::hash::{Digest, Hasher};

/// A compiler for BPF.
#[derive(Clone, Debug)]
pub struct Compiler {
    program: PathBuf,
    args: Vec<OsString>,
    version: String,
    major: u32,
    id: Digest,
}

impl Compiler {
    /// The first compiler that can be used, in the order of the module's text.
    ///
    /// # Errors
    ///
    /// [`Error::NoCompiler`] with the command that installs one here, or [`Error::BadCompiler`] about `$SKEP_CLANG`.
    pub fn find(cache: &Cache) -> Result<Compiler, Error> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        find_in(cache, std::env::var_os("SKEP_CLANG"), &path, Path::new("/usr/lib"))
    }

    /// A compiler by name, path or command line, as in `$SKEP_CLANG`.
    ///
    /// # Errors
    ///
    /// [`Error::BadCompiler`] if it cannot be run or knows no bpf target.
    pub fn named(cache: &Cache, wanted: &str) -> Result<Compiler, Error> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        find_in(cache, Some(wanted.into()), &path, Path::new("/usr/lib"))
    }

    /// The command as a person would type it.
    pub fn command(&self) -> String {
        let words = std::iter::once(self.program.as_os_str()).chain(self.args.iter().map(OsString::as_os_str));
        words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    /// The first line of `--version`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The major version, or 0 if the version's text has none.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Changes whenever the program file changes.
    pub(crate) fn id(&self) -> Digest {
        self.id
    }

    /// The folder of Linux headers that a zig installation carries, for machines without their own.
    pub(crate) fn zig_headers(&self) -> Option<PathBuf> {
        let is_zig = self.args.first().is_some_and(|arg| arg == "clang");
        let lib = self.program.parent()?.join("lib");
        is_zig.then_some(lib.join("libc/include")).filter(|folder| folder.is_dir())
    }

    pub(crate) fn start(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        // Messages are parsed and shown as they are: no translation.
        command.env("LC_ALL", "C").stdin(Stdio::null());
        command
    }
}

/// A program that may be a compiler.
/// How long a folder must have been as it is before its names are remembered.
const SETTLED: Duration = Duration::from_secs(2);

/// A program that may be a compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    program: PathBuf,
    args: Vec<OsString>,
}

fn find_in(cache: &Cache, wanted: Option<OsString>, path: &OsStr, llvm: &Path) -> Result<Compiler, Error> {
    if let Some(wanted) = wanted.filter(|text| !text.is_empty()) {
        let bad = |reason: String| Error::BadCompiler { wanted: wanted.to_string_lossy().into_owned(), reason };
        let candidate = parse_wish(&wanted, path).ok_or_else(|| bad("is not a program that can be run".to_owned()))?;
        return ask(cache, &candidate)?.map_err(bad);
    }
    let mut refused = Vec::new();
    for candidate in candidates(cache, path, llvm) {
        match ask(cache, &candidate)? {
            Ok(compiler) => return Ok(compiler),
            Err(reason) => refused.push(format!("{} {reason}", candidate.program.display())),
        }
    }
    for python in ["python3", "python"].into_iter().filter_map(|name| search(name.as_ref(), path)) {
        let Some(zig) = zig_of_python(cache, &python)? else { continue };
        match ask(cache, &Candidate { program: zig, args: vec!["clang".into()] })? {
            Ok(compiler) => return Ok(compiler),
            Err(reason) => refused.push(format!("the clang of `{} -m ziglang` {reason}", python.display())),
        }
    }
    if let Some(zig) = search("zig".as_ref(), path)
        && let Ok(compiler) = ask(cache, &Candidate { program: zig, args: vec!["clang".into()] })?
    {
        return Ok(compiler);
    }
    Err(Error::NoCompiler { install: install_command(), refused })
}

/// `$SKEP_CLANG`: a program, or else a command line of words.
fn parse_wish(wanted: &OsStr, path: &OsStr) -> Option<Candidate> {
    let plain = |program: &OsStr| {
        if program.as_bytes().contains(&b'/') { runnable(Path::new(program)) } else { search(program, path) }
    };
    if let Some(program) = plain(wanted) {
        return Some(Candidate { program, args: Vec::new() });
    }
    let mut words = wanted
        .as_bytes()
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .map(|word| OsString::from_vec(word.to_vec()));
    let program = plain(&words.next()?)?;
    Some(Candidate { program, args: words.collect() })
}

/// `clang`, then `clang-NN` from the highest number down, then LLVM's own folders likewise. Folders are only listed when
/// somebody asks for more than the first.
fn candidates(cache: &Cache, path: &OsStr, llvm: &Path) -> impl Iterator<Item = Candidate> {
    let plain = search("clang".as_ref(), path);
    let rest = std::iter::once_with(move || numbered(cache, path, llvm)).flatten();
    plain
        .into_iter()
        .chain(rest.filter_map(|program| runnable(&program)))
        .map(|program| Candidate { program, args: Vec::new() })
}

/// The programs with a version in their name, in order. Listing every folder of the path takes longer than all the rest of a
/// search, so the names are remembered until a folder changes.
fn numbered(cache: &Cache, path: &OsStr, llvm: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::split_paths(path).filter(|folder| folder.is_absolute()).collect();
    folders.push(llvm.to_owned());
    let changes: Vec<_> = folders.iter().map(|folder| fs::metadata(folder).and_then(|it| it.modified()).ok()).collect();
    let mut place = Hasher::new();
    for (folder, change) in folders.iter().zip(&changes) {
        place = place.part(folder.as_os_str().as_bytes()).part(format!("{change:?}"));
    }
    let note = cache.path("compilers").join(format!("names-{}", place.finish()));
    if let Ok(known) = fs::read(&note) {
        return known
            .split(|&byte| byte == 0)
            .filter(|it| !it.is_empty())
            .map(|it| OsStr::from_bytes(it).into())
            .collect();
    }
    let found = list_numbered(&folders[..folders.len() - 1], llvm);
    // A folder may change twice within one tick of the clock that its time is taken from.
    let settled = |change: &SystemTime| change.elapsed().is_ok_and(|age| age > SETTLED);
    if changes.iter().flatten().all(settled) {
        let names: Vec<&[u8]> = found.iter().flat_map(|it| [it.as_os_str().as_bytes(), b"\0"]).collect();
        let _ = cache.put(&note, &names);
    }
    found
}

fn list_numbered(folders: &[PathBuf], llvm: &Path) -> Vec<PathBuf> {
    let mut numbered: Vec<(u32, usize, PathBuf)> = Vec::new();
    let names = |folder: &Path, prefix: &str| -> Vec<(u32, PathBuf)> {
        let Ok(listing) = fs::read_dir(folder) else { return Vec::new() };
        let number = |name: &OsStr| name.to_str()?.strip_prefix(prefix)?.parse().ok();
        listing.flatten().filter_map(|entry| Some((number(&entry.file_name())?, entry.path()))).collect()
    };
    for (place, folder) in folders.iter().enumerate() {
        numbered.extend(names(folder, "clang-").into_iter().map(|(number, program)| (number, place, program)));
    }
    let private =
        names(llvm, "llvm-").into_iter().map(|(number, home)| (number, folders.len(), home.join("bin/clang")));
    numbered.extend(private);
    numbered.sort_by_key(|(number, place, _)| (std::cmp::Reverse(*number), *place));
    numbered.into_iter().map(|(_, _, program)| program).collect()
}

fn runnable(path: &Path) -> Option<PathBuf> {
    let found = fs::metadata(path).ok()?;
    (found.is_file() && found.permissions().mode() & 0o111 != 0).then(|| path.to_owned())
}

fn search(name: &OsStr, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).filter(|folder| folder.is_absolute()).find_map(|folder| runnable(&folder.join(name)))
}

/// Which file this is, as far as stat can tell: its real path, length and time of change.
fn identity(program: &Path) -> Option<Digest> {
    let real = fs::canonicalize(program).ok()?;
    let found = fs::metadata(&real).ok()?;
    let changed = [found.len(), found.mtime() as u64, found.mtime_nsec() as u64].map(u64::to_le_bytes).concat();
    Some(Hasher::new().part(real.as_os_str().as_bytes()).part(changed).finish())
}

/// Whether a program compiles for BPF and how it calls itself; the inner error says why not.
fn ask(cache: &Cache, candidate: &Candidate) -> Result<Result<Compiler, String>, Error> {
    let Some(identity) = identity(&candidate.program) else {
        return Ok(Err("cannot be read".to_owned()));
    };
    let id = candidate.args.iter().fold(Hasher::new().part(identity.to_string()), |h, arg| h.part(arg.as_bytes()));
    let id = id.finish();
    let note = cache.path("compilers").join(id.to_string());
    let known = fs::read_to_string(&note).ok().and_then(|text| Answer::parse(&text));
    let answer = match known {
        Some(answer) => answer,
        None => {
            let answer = Answer::fetch(candidate);
            // A failed start may be a passing trouble. And not being able to remember an answer is no reason to fail here: a
            // full disk is reported when it matters.
            if !matches!(answer, Answer::Failed(_)) {
                let _ = cache.put(&note, &[answer.text().as_bytes()]);
            }
            answer
        }
    };
    Ok(match answer {
        Answer::Usable { version } => Ok(Compiler {
            program: candidate.program.clone(),
            args: candidate.args.clone(),
            major: major_of(&version),
            version,
            id,
        }),
        Answer::Refused(reason) | Answer::Failed(reason) => Err(reason),
    })
}

/// What a compiler said about itself, as kept in the cache.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Usable {
        version: String,
    },
    Refused(String),
    /// It could not be asked; not kept.
    Failed(String),
}

impl Answer {
    fn fetch(candidate: &Candidate) -> Answer {
        let run = |arg: &str| {
            Command::new(&candidate.program)
                .args(&candidate.args)
                .arg(arg)
                .env("LC_ALL", "C")
                .stdin(Stdio::null())
                .output()
        };
        let targets = match run("-print-targets") {
            Ok(output) if output.status.success() => output.stdout,
            Ok(output) => return Answer::Failed(format!("does not answer -print-targets ({})", output.status)),
            Err(cause) => return Answer::Failed(format!("does not start: {cause}")),
        };
        // Lines such as `    bpf        - BPF (host endian)`.
        let targets = String::from_utf8_lossy(&targets);
        if !targets.lines().any(|line| line.split_whitespace().next() == Some("bpf")) {
            return Answer::Refused("is built without the bpf target".to_owned());
        }
        match run("--version") {
            Ok(output) if output.status.success() => {
                let text = String::from_utf8_lossy(&output.stdout);
                Answer::Usable { version: text.lines().next().unwrap_or_default().trim().to_owned() }
            }
            Ok(output) => Answer::Failed(format!("does not answer --version ({})", output.status)),
            Err(cause) => Answer::Failed(format!("does not start: {cause}")),
        }
    }

    fn text(&self) -> String {
        match self {
            Answer::Usable { version } => format!("usable {version}\n"),
            Answer::Refused(reason) | Answer::Failed(reason) => format!("refused {reason}\n"),
        }
    }

    fn parse(text: &str) -> Option<Answer> {
        let line = text.strip_suffix('\n')?;
        let (kind, rest) = line.split_once(' ')?;
        match kind {
            "usable" => Some(Answer::Usable { version: rest.to_owned() }),
            "refused" => Some(Answer::Refused(rest.to_owned())),
            _ => None,
        }
    }
}

/// `Debian clang version 14.0.6` has the major version 14.
fn major_of(version: &str) -> u32 {
    let number = version.split_once("version ").map(|(_, rest)| rest).unwrap_or_default();
    number.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse().unwrap_or(0)
}

/// Where the `ziglang` package of this Python lies. Packages come and go without a trace in the interpreter's file, so only
/// a find is remembered.
fn zig_of_python(cache: &Cache, python: &Path) -> Result<Option<PathBuf>, Error> {
    let Some(identity) = identity(python) else { return Ok(None) };
    let place = Hasher::new().part(identity.to_string()).part(python.as_os_str().as_bytes()).finish();
    let note = cache.path("compilers").join(format!("python-{place}"));
    if let Ok(known) = fs::read(&note)
        && let Some(zig) = runnable(Path::new(OsStr::from_bytes(&known)))
    {
        return Ok(Some(zig));
    }
    // `find_spec` looks for the package without running it.
    let script = "import importlib.util as u; s = u.find_spec('ziglang'); print(list(s.submodule_search_locations)[0] if s else '')";
    let Ok(output) = Command::new(python).args(["-c", script]).stdin(Stdio::null()).output() else { return Ok(None) };
    let folder = output.stdout.trim_ascii();
    if folder.is_empty() {
        return Ok(None);
    }
    let Some(zig) = runnable(&Path::new(OsStr::from_bytes(folder)).join("zig")) else { return Ok(None) };
    let _ = cache.put(&note, &[zig.as_os_str().as_bytes()]);
    Ok(Some(zig))
}

/// The one command that brings a compiler, by what /etc/os-release says.
fn install_command() -> String {
    let text = fs::read_to_string("/etc/os-release").or_else(|_| fs::read_to_string("/usr/lib/os-release"));
    install_command_for(&text.unwrap_or_default())
}

fn install_command_for(os_release: &str) -> String {
    let value = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    let names = format!("{} {}", value("ID"), value("ID_LIKE"));
    let command = names.split_whitespace().find_map(|name| match name {
        "debian" | "ubuntu" => Some("apt install clang"),
        "fedora" | "rhel" | "centos" | "amzn" => Some("dnf install clang"),
        "arch" | "archlinux" => Some("pacman -S clang"),
        "alpine" => Some("apk add clang"),
        "suse" | "opensuse" | "opensuse-leap" | "opensuse-tumbleweed" | "sles" => Some("zypper install clang"),
        "gentoo" => Some("emerge llvm-core/clang"),
        "void" => Some("xbps-install clang"),
        "nixos" => Some("nix-shell -p clang"),
        _ => None,
    });
    command.unwrap_or("python3 -m pip install ziglang").to_owned()
}

#[cfg(test)]
mod tests;

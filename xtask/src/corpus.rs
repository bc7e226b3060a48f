//! The compiled test objects.
//!
//! Every `tests/corpus/NAME.bpf.c` is compiled by clang 14 and clang 19 for both byte orders, into
//!
//! ```text
//! $SKEP_TEST_OBJECTS/clang14-el/NAME.bpf.o     little endian
//! $SKEP_TEST_OBJECTS/clang14-eb/NAME.bpf.o     big endian
//! $SKEP_TEST_OBJECTS/clang19-el/NAME.bpf.o
//! $SKEP_TEST_OBJECTS/clang19-eb/NAME.bpf.o
//! ```
//!
//! against Debian's libbpf headers and a `vmlinux.h` that bpftool makes from the running kernel's BTF. Lines at the top
//! of a source say more:
//!
//! ```text
//! // compilers: 19          only this one (14 knows neither -mcpu=v4 nor arenas)
//! // cflags: -mcpu=v4       appended to the command line
//! // endian: el             only this byte order
//! ```
//!
//! C programs that the tests of `skep run` use are compiled in skep's own way, with its own headers, so that the virtual
//! machines, which have no compiler, can run them: every `.bpf.c` under `examples/` and `tests/programs/` becomes
//! `$SKEP_TEST_OBJECTS/examples/NAME.bpf.o` or `$SKEP_TEST_OBJECTS/tests/programs/PATH/NAME.bpf.o` before a machine boots. So
//! do the programs of the documents that the project was created from, where they are at hand:
//! `$SKEP_TEST_OBJECTS/documents/PATH/NAME.bpf.o`.
//!
//! An object of the corpus is made again when its source, the headers, the compiler or the command line changed: the stamp beside it
//! holds a hash of all four.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};

use crate::{paths, sh};

/// The clang versions, by the number in their program's name.
const COMPILERS: &[&str] = &["14", "19"];
const ENDIANS: &[&str] = &["el", "eb"];

/// One compiler run to make one object.
struct Job {
    source: PathBuf,
    object: PathBuf,
    compiler: &'static str,
    endian: &'static str,
    cflags: Vec<String>,
    vmlinux: bool,
}

/// Compiles what is new or changed.
pub(crate) fn compile() -> Result<()> {
    let jobs = jobs()?;
    if jobs.is_empty() {
        return Ok(());
    }
    let headers = paths::build_cache().join("headers");
    let headers_hash = vmlinux_h(&headers)?;
    let mut versions = Vec::new();
    for compiler in COMPILERS {
        let clang = format!("clang-{compiler}");
        let version = sh::output(Command::new(&clang).arg("--version")).context("run `cargo xtask setup`")?;
        versions.push(version);
    }
    let stale: Vec<(Job, u64)> = jobs
        .into_iter()
        .filter_map(|job| {
            let mut hasher = DefaultHasher::new();
            std::fs::read(&job.source).unwrap_or_default().hash(&mut hasher);
            (headers_hash, &versions, &job.cflags, VERSION).hash(&mut hasher);
            let hash = hasher.finish();
            let current = std::fs::read_to_string(stamp(&job.object)).unwrap_or_default();
            (current != hash.to_string() || !job.object.is_file()).then_some((job, hash))
        })
        .collect();
    if stale.is_empty() {
        return Ok(());
    }
    println!("setup: compiling {} test objects into {}", stale.len(), paths::objects().display());
    for compiler in COMPILERS {
        for endian in ENDIANS {
            precompile(&headers, compiler, endian, headers_hash)?;
        }
    }
    let failures = Mutex::new(Vec::new());
    parallel(&stale, |(job, hash)| {
        if let Err(error) = compile_one(job, *hash, &headers) {
            failures.lock().expect("no compile panics").push(format!("{error:#}"));
        }
    });
    let failures = failures.into_inner().expect("no compile panics");
    if !failures.is_empty() {
        bail!("{} test objects do not compile:\n{}", failures.len(), failures.join("\n"));
    }
    Ok(())
}

/// Changes when the command line of [`clang`] does.
const VERSION: u32 = 1;

/// The objects to make, by the sources' own directions.
fn jobs() -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for source in sources()? {
        let text = std::fs::read_to_string(&source)?;
        let direction = |name: &str| {
            let head = text.lines().take_while(|line| line.starts_with("//"));
            let prefix = format!("// {name}:");
            head.filter_map(|line| line.strip_prefix(&prefix)).map(str::trim).next()
        };
        let file = source.file_name().expect("a source has a name").to_string_lossy();
        let object = format!("{}.o", file.trim_end_matches(".c"));
        for &compiler in COMPILERS {
            if direction("compilers").is_some_and(|list| !list.split(' ').any(|c| c == compiler)) {
                continue;
            }
            for &endian in ENDIANS {
                if direction("endian").is_some_and(|only| only != endian) {
                    continue;
                }
                jobs.push(Job {
                    source: source.clone(),
                    object: paths::objects().join(format!("clang{compiler}-{endian}")).join(&object),
                    compiler,
                    endian,
                    cflags: direction("cflags").unwrap_or("").split_whitespace().map(str::to_owned).collect(),
                    vmlinux: text.contains("#include \"vmlinux.h\""),
                });
            }
        }
    }
    Ok(jobs)
}

/// Every compiled object of the corpus, sorted by path.
pub(crate) fn objects() -> Result<Vec<PathBuf>> {
    let mut objects: Vec<PathBuf> = jobs()?.into_iter().map(|job| job.object).collect();
    objects.sort();
    Ok(objects)
}

/// Compiles the C programs under `examples/`, `tests/programs/` and the documents' folder as `skep run` would; gives back the
/// objects.
pub(crate) fn programs() -> Result<Vec<PathBuf>> {
    let root = paths::root();
    let mut objects = as_run_does(&root, &["examples", "tests/programs"], &paths::objects())?;
    let documents = paths::documents();
    if documents.is_dir() {
        objects.extend(as_run_does(&documents, &[""], &paths::objects().join("documents"))?);
    }
    Ok(objects)
}

/// Compiles every program in some folders under `base` to the same place under `to`.
fn as_run_does(base: &Path, dirs: &[&str], to: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for dir in dirs {
        collect(&base.join(dir), &mut files)?;
    }
    let files: Vec<PathBuf> = files.iter().filter_map(|file| Some(file.strip_prefix(base).ok()?.to_owned())).collect();
    let mut command = sh::cargo();
    command.args(["run", "--quiet", "--package", "skep-clang", "--example", "objects", "--manifest-path"]);
    command.arg(paths::root().join("Cargo.toml")).arg("--").arg(to).args(&files).current_dir(base);
    sh::run(&mut command)?;
    Ok(files.into_iter().map(|file| to.join(file).with_extension("o")).collect())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.to_string_lossy().ends_with(".bpf.c") {
            files.push(path);
        }
    }
    Ok(())
}

fn sources() -> Result<Vec<PathBuf>> {
    let dir = paths::root().join("tests/corpus");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .with_context(|| format!("cannot list {}", dir.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.to_string_lossy().ends_with(".bpf.c"))
        .collect();
    files.sort();
    Ok(files)
}

/// Makes `vmlinux.h` if the kernel is another than last time; gives back a hash of it.
fn vmlinux_h(headers: &Path) -> Result<u64> {
    const BTF: &str = "/sys/kernel/btf/vmlinux";
    std::fs::create_dir_all(headers)?;
    let file = headers.join("vmlinux.h");
    let kernel = std::fs::read_to_string("/proc/version")?;
    let made_for = headers.join("vmlinux.h.kernel");
    if !file.is_file() || std::fs::read_to_string(&made_for).unwrap_or_default() != kernel {
        if !Path::new(BTF).exists() {
            bail!("this kernel has no {BTF}, from which vmlinux.h for the test objects is made");
        }
        let bpftool = sh::find("bpftool").context("bpftool is missing: run `cargo xtask setup`")?;
        let text = sh::bytes(Command::new(bpftool).args(["btf", "dump", "file", BTF, "format", "c"]))?;
        std::fs::write(&file, text)?;
        std::fs::write(&made_for, &kernel)?;
    }
    let mut hasher = DefaultHasher::new();
    std::fs::read(&file)?.hash(&mut hasher);
    Ok(hasher.finish())
}

/// Precompiles vmlinux.h, which is most of the time of a compile.
fn precompile(headers: &Path, compiler: &str, endian: &str, hash: u64) -> Result<()> {
    let pch = headers.join(format!("vmlinux-{compiler}-{endian}.pch"));
    if std::fs::read_to_string(stamp(&pch)).unwrap_or_default() == hash.to_string() && pch.is_file() {
        return Ok(());
    }
    let header = headers.join("vmlinux.h");
    sh::bytes(clang(compiler, endian, headers).args(["-x", "c-header", "-o"]).arg(&pch).arg(&header))?;
    std::fs::write(stamp(&pch), hash.to_string())?;
    Ok(())
}

fn compile_one(job: &Job, hash: u64, headers: &Path) -> Result<()> {
    std::fs::create_dir_all(job.object.parent().expect("objects lie in a folder"))?;
    let mut command = clang(job.compiler, job.endian, headers);
    // A precompiled header fits only the code generation flags that it was made with.
    if job.vmlinux && job.cflags.is_empty() {
        let pch = headers.join(format!("vmlinux-{}-{}.pch", job.compiler, job.endian));
        command.arg("-include-pch").arg(pch);
    }
    let partial = job.object.with_extension("partial");
    sh::bytes(command.args(&job.cflags).arg("-c").arg(&job.source).arg("-o").arg(&partial))?;
    std::fs::rename(&partial, &job.object)?;
    std::fs::write(stamp(&job.object), hash.to_string())?;
    Ok(())
}

/// The compiler with the flags that all objects share.
fn clang(compiler: &str, endian: &str, headers: &Path) -> Command {
    let mut command = Command::new(format!("clang-{compiler}"));
    command.current_dir(paths::root()).args(["-g", "-O2", "-Wall", "-Wno-unused-function"]);
    command.arg(format!("--target=bpf{endian}")).arg("-D__TARGET_ARCH_x86").arg("-I").arg(headers);
    // Where Debian keeps <asm/types.h>, which <linux/types.h> wants.
    command.arg("-idirafter/usr/include/x86_64-linux-gnu");
    command
}

fn stamp(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".stamp");
    name.into()
}

/// Calls `work` for each item on as many threads as there are processors.
pub(crate) fn parallel<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

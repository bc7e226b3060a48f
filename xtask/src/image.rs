//! The initramfs of a test machine: tests, tools, kernel modules, objects, and the files of the repository.
//!
//! Paths inside are the paths of this machine, so what a test was compiled with (`env!("CARGO_MANIFEST_DIR")`,
//! `env!("CARGO_BIN_EXE_skep")`) is right there too. Programs of this machine come with the libraries that `ldd` names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cpio::Archive;
use crate::kernels::Kernel;
use crate::{corpus, paths, setup, sh};

/// Packages whose tests want a kernel.
const PACKAGES: &[&str] =
    &["skep-sys", "skep-script", "skep-vm", "skep-kernel", "skep-userspace", "skep-run", "skep", "skep-cli"];

/// Programs of this machine that tests call, next to busybox.
const PROGRAMS: &[&str] =
    &["bash", "ip", "tc", "ping", "bpftool", "curl", "openssl", "nsenter", "unshare", "script", "mkfs.xfs"];

/// Modules that tests rely on; their dependencies come with them. A line that has one built in is fine.
const MODULES: &[&str] = &[
    // libcrc32c asks for it at run time, which `depends=` does not say.
    "crc32c_generic",
    "veth",
    "dummy",
    "tun",
    "ifb",
    "sch_ingress",
    "sch_clsact",
    "cls_bpf",
    "act_bpf",
    "nf_conntrack",
    "nf_tables",
    "x_tables",
    "tls",
    "tcp_bbr",
    "null_blk",
    "raid1",
    "xfs",
    // What zram compresses with is asked for at run time.
    "lzo_rle",
    "zram",
];

/// A compiled test binary.
pub(crate) struct Suite {
    /// As cargo names it in `target/.../deps`, without the hash.
    name: String,
    file: PathBuf,
    /// The folder of its package, where cargo would start it.
    dir: PathBuf,
}

/// What [`build`] puts into every image.
pub(crate) struct Binaries {
    guest: PathBuf,
    suites: Vec<Suite>,
    /// Programs that tests start, such as `skep` itself.
    programs: Vec<PathBuf>,
}

/// Compiles the tests and the guest's first process as static programs.
pub(crate) fn compile() -> Result<Binaries> {
    let mut command = sh::cargo();
    command.args(["test", "--no-run", "--target", setup::MUSL, "--message-format=json-render-diagnostics"]);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    command.stderr(Stdio::inherit());
    let out = command.stdin(Stdio::null()).output().context("cannot run cargo")?;
    if !out.status.success() {
        bail!("`{}` failed: {}", sh::line(&command), out.status);
    }
    let mut suites = Vec::new();
    let mut programs = Vec::new();
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let message: serde_json::Value = serde_json::from_str(line)?;
        let Some(file) = message["executable"].as_str().map(PathBuf::from) else { continue };
        if message["profile"]["test"] != true {
            programs.push(file);
            continue;
        }
        let manifest = Path::new(message["manifest_path"].as_str().context("cargo names every manifest")?);
        let stem = file.file_name().context("an executable has a name")?.to_string_lossy().into_owned();
        suites.push(Suite {
            name: stem.rsplit_once('-').map_or(stem.clone(), |(name, _)| name.to_owned()),
            dir: manifest.parent().context("a manifest lies in a folder")?.to_path_buf(),
            file,
        });
    }
    Ok(Binaries { guest: guest()?, suites, programs })
}

/// Compiles the first process alone.
fn guest() -> Result<PathBuf> {
    sh::run(sh::cargo().args(["build", "--quiet", "--package", "xtask", "--bin", "guest", "--target", setup::MUSL]))?;
    Ok(paths::target().join(setup::MUSL).join("debug/guest"))
}

/// A machine without tests.
pub(crate) fn bare() -> Result<Binaries> {
    Ok(Binaries { guest: guest()?, suites: Vec::new(), programs: Vec::new() })
}

/// Compiles `skep` itself as a static program.
pub(crate) fn skep() -> Result<PathBuf> {
    sh::run(sh::cargo().args(["build", "--quiet", "--package", "skep-cli", "--target", setup::MUSL]))?;
    Ok(paths::target().join(setup::MUSL).join("debug/skep"))
}

/// Writes the initramfs for one kernel. `extra` are further programs of this machine with the lines of the plan that run
/// them; with `tests` off nothing else runs.
pub(crate) fn build(kernel: &Kernel, binaries: &Binaries, filter: &str, extra: &Extra) -> Result<PathBuf> {
    let mut archive = Archive::default();
    base(&mut archive)?;
    archive.file("/init", 0o755, &stripped(&binaries.guest)?);
    for program in PROGRAMS {
        let file = sh::find(program).with_context(|| format!("{program} is missing: run `cargo xtask setup`"))?;
        dynamic(&mut archive, &file)?;
    }
    for file in &extra.programs {
        dynamic(&mut archive, file)?;
    }
    for (path, from) in &extra.files {
        archive.copy(path, from)?;
    }
    busybox(&mut archive)?;
    let mut plan = String::new();
    for (index, (name, data)) in modules(kernel)?.into_iter().enumerate() {
        let path = format!("/modules/{index:02}-{name}.ko");
        archive.file(&path, 0o644, &data);
        plan.push_str(&format!("module {path}\n"));
    }
    // Debian's kernels do not carry their configuration in /proc.
    let config = kernel.config()?;
    archive.copy(&format!("/boot/{}", config.file_name().unwrap_or_default().to_string_lossy()), &config)?;
    plan.push_str("env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin\nenv HOME=/root\nenv RUST_BACKTRACE=1\n");
    plan.push_str(&format!("env SKEP_TEST_OBJECTS={}\n", paths::objects().display()));
    plan.push_str("ready\n");
    if !filter.is_empty() {
        plan.push_str(&format!("filter {filter}\n"));
    }
    if extra.tests {
        repository(&mut archive, &paths::root())?;
        objects(&mut archive)?;
        scripts(&mut archive)?;
        for file in &binaries.programs {
            archive.file(&file.to_string_lossy(), 0o755, &stripped(file)?);
        }
        for suite in &binaries.suites {
            archive.file(&suite.file.to_string_lossy(), 0o755, &stripped(&suite.file)?);
            plan.push_str(&format!("suite {} {} {}\n", suite.name, suite.dir.display(), suite.file.display()));
        }
    }
    plan.push_str(&extra.plan);
    archive.file("/plan", 0o644, plan.as_bytes());
    let file = paths::build_cache().join(format!("initramfs-{}.cpio", kernel.name));
    std::fs::create_dir_all(paths::build_cache())?;
    std::fs::write(&file, archive.finish())?;
    Ok(file)
}

/// What one boot needs beyond the tests.
pub(crate) struct Extra {
    pub(crate) tests: bool,
    pub(crate) programs: Vec<PathBuf>,
    /// Path inside, file on this machine.
    pub(crate) files: Vec<(String, PathBuf)>,
    pub(crate) plan: String,
}

impl Default for Extra {
    fn default() -> Extra {
        Extra { tests: true, programs: Vec::new(), files: Vec::new(), plan: String::new() }
    }
}

/// The skeleton that every program expects.
fn base(archive: &mut Archive) -> Result<()> {
    for dir in ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "root", "dev", "proc", "sys", "tmp", "run", "var"]
    {
        archive.dir(dir);
    }
    for (link, target) in
        [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("var/tmp", "/tmp")]
    {
        archive.symlink(link, target);
    }
    archive.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n");
    archive.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n");
    archive.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n::1 localhost\n");
    archive.file("etc/nsswitch.conf", 0o644, b"passwd: files\ngroup: files\nhosts: files\n");
    let libraries = Path::new("/etc/ld.so.cache");
    if libraries.is_file() {
        archive.copy("etc/ld.so.cache", libraries)?;
    }
    Ok(())
}

/// busybox, under each of its names that no real program took.
fn busybox(archive: &mut Archive) -> Result<()> {
    let file = sh::find("busybox").context("busybox is missing: run `cargo xtask setup`")?;
    archive.copy("usr/bin/busybox", &file)?;
    for name in sh::output(Command::new(&file).arg("--list"))?.lines() {
        if !archive.contains(&format!("usr/sbin/{name}")) {
            archive.symlink(&format!("usr/bin/{name}"), "busybox");
        }
    }
    Ok(())
}

/// A program of this machine at its own path, with its libraries.
fn dynamic(archive: &mut Archive, file: &Path) -> Result<()> {
    place(archive, file)?;
    // A static program makes ldd fail.
    let Ok(list) = sh::output(Command::new("ldd").arg(file)) else { return Ok(()) };
    for word in list.split_whitespace().filter(|word| word.starts_with('/')) {
        place(archive, Path::new(word.trim_end_matches(':')))?;
    }
    Ok(())
}

/// Copies a file to its path, where `/bin`, `/sbin`, `/lib` and `/lib64` lie under `/usr`.
fn place(archive: &mut Archive, file: &Path) -> Result<()> {
    let text = file.to_string_lossy();
    let merged = ["/bin/", "/sbin/", "/lib/", "/lib64/"].iter().any(|dir| text.starts_with(dir));
    archive.copy(&if merged { format!("/usr{text}") } else { text.into_owned() }, file)
}

/// The bytes of a binary without what only a debugger reads; an initramfs lives in memory.
fn stripped(file: &Path) -> Result<Vec<u8>> {
    let scratch = paths::build_cache().join(format!("stripped.{}", std::process::id()));
    std::fs::create_dir_all(paths::build_cache())?;
    sh::run(Command::new("strip").arg("--strip-debug").arg("-o").arg(&scratch).arg(file))?;
    let bytes = std::fs::read(&scratch)?;
    std::fs::remove_file(&scratch)?;
    Ok(bytes)
}

/// Everything in the repository that is a source, not a product.
fn repository(archive: &mut Archive, dir: &Path) -> Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(dir)?.filter_map(Result::ok).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let path = entry.path();
        if name == "target" || name == ".git" || name == ".cache" || path == paths::target() {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            archive.dir(&path.to_string_lossy());
            repository(archive, &path)?;
        } else if kind.is_file() {
            archive.copy(&path.to_string_lossy(), &path)?;
        }
    }
    Ok(())
}

fn objects(archive: &mut Archive) -> Result<()> {
    for object in corpus::objects()?.into_iter().chain(corpus::programs()?) {
        archive.copy(&object.to_string_lossy(), &object)?;
    }
    Ok(())
}

/// Scripts that tests run and that are not in the repository: bpftrace's tools, as this machine has them installed, and those of
/// the documents.
fn scripts(archive: &mut Archive) -> Result<()> {
    let mut found = Vec::new();
    for (folder, place) in [(PathBuf::from("/usr/sbin"), PathBuf::from("/usr/sbin"))].into_iter().chain(
        folders(&paths::documents()).into_iter().map(|folder| {
            let place = paths::objects().join("documents").join(folder.file_name().unwrap_or_default());
            (folder, place)
        }),
    ) {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok);
        found.extend(entries.map(|entry| (place.join(entry.file_name()), entry.path())));
    }
    found.retain(|(_, file)| file.extension().is_some_and(|extension| extension == "bt"));
    found.sort();
    for (place, file) in found {
        archive.copy(&place.to_string_lossy(), &file)?;
    }
    Ok(())
}

/// The folders in a folder; none where it does not exist.
fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// The modules that tests need, in an order in which they can be loaded.
fn modules(kernel: &Kernel) -> Result<Vec<(String, Vec<u8>)>> {
    let mut index = BTreeMap::new();
    walk(&kernel.modules.join("kernel"), &mut index)?;
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for name in MODULES {
        add_module(name, &index, &mut seen, &mut order)?;
    }
    Ok(order)
}

fn add_module(
    name: &str,
    index: &BTreeMap<String, PathBuf>,
    seen: &mut BTreeSet<String>,
    order: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    // Not there: built in, or of another kernel line.
    let Some(path) = index.get(name) else { return Ok(()) };
    if !seen.insert(name.to_owned()) {
        return Ok(());
    }
    let data = if path.extension().is_some_and(|extension| extension == "xz") {
        let busybox = sh::find("busybox").context("busybox is missing: run `cargo xtask setup`")?;
        sh::bytes(Command::new(busybox).args(["xz", "-dc"]).arg(path))?
    } else {
        std::fs::read(path)?
    };
    for dependency in dependencies(&data) {
        add_module(&dependency, index, seen, order)?;
    }
    order.push((name.to_owned(), data));
    Ok(())
}

/// The names after `depends=` in a module's `.modinfo`.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = module[at + KEY.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(value);
    text.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

/// Module name to file; the name of `nf-a.ko.xz` is `nf_a`.
fn walk(dir: &Path, index: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            walk(&path, index)?;
        } else if let Some((stem, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            index.insert(stem.replace('-', "_"), path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_names_what_it_depends_on() {
        let module = b"junk\0license=GPL\0depends=nf_conntrack,nf-defrag-ipv6\0name=x\0";
        assert_eq!(dependencies(module), ["nf_conntrack", "nf_defrag_ipv6"]);
        assert!(dependencies(b"\0depends=\0").is_empty());
    }
}

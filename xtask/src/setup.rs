//! `cargo xtask setup`: installs what the tests need, from the package registries alone, and compiles the test objects.
//!
//! A second run finds everything in place and takes a second or two. Nothing is upgraded: what is installed is good enough.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{corpus, kernels, sh};

/// The target of the static binaries that run in the virtual machines and in releases.
pub(crate) const MUSL: &str = "x86_64-unknown-linux-musl";
/// The target of the binaries that run on an emulated processor.
pub(crate) const AARCH64: &str = "aarch64-unknown-linux-musl";

/// Debian's packages, with what they are for.
const PACKAGES: &[(&str, &str)] = &[
    ("clang-14", "Debian's own clang, compiles test objects"),
    ("clang-19", "the newest clang in Debian 12, compiles test objects"),
    ("llvm-14", "llvm-objdump and llvm-readelf to compare with"),
    ("llvm-19", "llvm-objdump and llvm-readelf to compare with"),
    ("bpftool", "to compare with; makes vmlinux.h for the test objects"),
    ("bpftrace", "to compare with"),
    ("libbpf-dev", "headers of the test objects; the loader to compare with"),
    ("libelf-dev", "for libbpf"),
    ("zlib1g-dev", "for libbpf"),
    ("linux-libc-dev", "kernel headers of the test objects"),
    ("gcc", "compiles the programs to compare with"),
    ("g++", "links fuzz targets"),
    ("libc6-dev", "for gcc"),
    ("make", "for gcc users"),
    ("binutils", "strip"),
    ("musl-tools", "links static binaries"),
    ("qemu-system-x86", "boots Debian's kernels"),
    ("qemu-user-static", "runs tests of compiled programs on aarch64"),
    ("busybox-static", "the commands in the virtual machines"),
    ("iproute2", "network namespaces and interfaces in tests"),
    ("iputils-ping", "traffic in tests"),
    ("curl", "traffic in tests"),
    ("python3-minimal", "an HTTP server in tests"),
    ("bash", "bash readline is a test's target"),
    ("openssl", "SSL_write is a test's target"),
    ("libssl3", "SSL_write is a test's target"),
    ("strace", "tests that count system calls"),
    ("util-linux", "nsenter, unshare and script in tests"),
    ("xfsprogs", "makes a file system in tests"),
    ("procps", "ps in tests"),
    ("ca-certificates", "for downloads"),
];

/// Installs and compiles everything; `--no-objects` leaves the objects out.
pub(crate) fn run(args: &[String]) -> Result<()> {
    packages()?;
    rust_target(MUSL)?;
    rust_target(AARCH64)?;
    for line in kernels::LINES {
        kernels::get(line)?;
    }
    if !args.iter().any(|arg| arg == "--no-objects") {
        corpus::compile()?;
    }
    Ok(())
}

/// Installs the missing ones of [`PACKAGES`]; asks dpkg first, so that nothing is fetched when nothing is missing.
fn packages() -> Result<()> {
    if sh::find("dpkg-query").is_none() {
        println!("setup: not a Debian machine; the tests look for clang, bpftool, qemu and others on PATH");
        return Ok(());
    }
    // dpkg-query fails when it does not know a name, but lists the others.
    let known = Command::new("dpkg-query")
        .args(["-W", "-f=${Package} ${db:Status-Status}\n"])
        .args(PACKAGES.iter().map(|(name, _)| name))
        .output()
        .context("cannot run `dpkg-query`")?;
    let known = String::from_utf8_lossy(&known.stdout).into_owned();
    let installed =
        |name: &str| known.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest == " installed"));
    let missing: Vec<&(&str, &str)> = PACKAGES.iter().filter(|(name, _)| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("setup: installing with apt-get:");
    for (name, purpose) in &missing {
        println!("  {name:16} {purpose}");
    }
    apt_update()?;
    sh::run(
        apt_get().args(["install", "-y", "-q", "--no-install-recommends"]).args(missing.iter().map(|(name, _)| name)),
    )
    .context("run `cargo xtask setup` as root, or install these packages yourself")
}

/// `apt-get`, asking nothing.
fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-o", "Dpkg::Use-Pty=0"]);
    command
}

/// Fetches the package lists. A source that fails is only a warning here; what is then missing says so itself.
pub(crate) fn apt_update() -> Result<()> {
    sh::run(apt_get().args(["update", "-q"])).context("are you root, and is the network up?")
}

/// Adds a target to the Rust toolchain.
pub(crate) fn rust_target(target: &str) -> Result<()> {
    let libdir = sh::output(Command::new("rustc").args(["--print", "target-libdir", "--target", target]))?;
    let installed = std::fs::read_dir(libdir.trim()).is_ok_and(|mut dir| dir.next().is_some());
    if installed {
        return Ok(());
    }
    println!("setup: adding the Rust target {target}");
    if sh::find("rustup").is_none() {
        bail!("the Rust target {target} is missing and there is no rustup: install the toolchain's part for it");
    }
    sh::run(Command::new("rustup").args(["target", "add", target]))
        .with_context(|| format!("type `rustup target add {target}` where the network is up"))
}

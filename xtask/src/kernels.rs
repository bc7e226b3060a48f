//! Debian's kernels for the virtual machines: downloaded by `apt-get download`, unpacked by `dpkg -x`, never installed.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{paths, setup, sh};

/// A kernel line that the tests run on.
#[derive(Debug)]
pub(crate) struct Line {
    /// What a person types after `--kernel`.
    pub(crate) name: &'static str,
    /// A regular expression for `apt-cache search`, which matches on package names.
    pattern: &'static str,
}

/// Debian 12's own kernel, and the newer one that it offers from its security archive.
pub(crate) const LINES: &[Line] = &[
    Line { name: "6.1", pattern: r"^linux-image-6\.1\.0-[0-9]+-amd64(-unsigned)?$" },
    Line { name: "6.12", pattern: r"^linux-image-6\.12\.[0-9]+\+deb12-amd64(-unsigned)?$" },
];

/// A kernel on disk.
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    pub(crate) image: PathBuf,
    /// The folder that holds `modules.order` and `kernel/`.
    pub(crate) modules: PathBuf,
}

impl Kernel {
    /// The configuration that it was built with, `config-RELEASE`.
    pub(crate) fn config(&self) -> Result<PathBuf> {
        let image = self.image.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let release = image.strip_prefix("vmlinuz-").context("Debian's kernels are called vmlinuz-RELEASE")?;
        Ok(self.image.with_file_name(format!("config-{release}")))
    }
}

/// Finds a kernel in the cache, or fetches the newest one of its line.
pub(crate) fn get(line: &Line) -> Result<Kernel> {
    let dir = paths::download_cache().join("kernels").join(line.name);
    if !dir.is_dir() {
        fetch(line, &dir).with_context(|| format!("cannot fetch Debian's {} kernel", line.name))?;
    }
    let only = |parent: PathBuf, prefix: &str| -> Result<PathBuf> {
        std::fs::read_dir(&parent)
            .with_context(|| format!("cannot list {}", parent.display()))?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
            .with_context(|| format!("nothing in {}: delete {} and try again", parent.display(), dir.display()))
    };
    Ok(Kernel {
        name: line.name,
        image: only(dir.join("boot"), "vmlinuz-")?,
        modules: only(dir.join("lib/modules"), "")?,
    })
}

fn fetch(line: &Line, dir: &PathBuf) -> Result<()> {
    let mut packages = candidates(line)?;
    if packages.is_empty() {
        setup::apt_update()?;
        packages = candidates(line)?;
    }
    let parent = dir.parent().expect("the cache has a folder for kernels");
    let scratch = parent.join(format!("{}.partial.{}", line.name, std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let mut result = Err(anyhow::anyhow!("no package matches `{}`", line.pattern));
    for package in &packages {
        result = unpack(package, &scratch);
        if result.is_ok() {
            break;
        }
    }
    if result.is_ok() && !dir.is_dir() {
        std::fs::rename(&scratch, dir)?;
    }
    // On success the folder has moved away; after a failure or a lost race it has not.
    let _ = std::fs::remove_dir_all(&scratch);
    result
}

/// The packages of a line, newest first; the signed one of a version before the unsigned one.
fn candidates(line: &Line) -> Result<Vec<String>> {
    let found = sh::output(Command::new("apt-cache").args(["search", "--names-only", line.pattern]))?;
    let mut names: Vec<String> = found.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    names.sort_by_key(|name| (numbers(name), !name.ends_with("-unsigned")));
    names.reverse();
    Ok(names)
}

fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

fn unpack(package: &str, dir: &PathBuf) -> Result<()> {
    println!("setup: downloading {package}");
    let mut command = Command::new("apt-get");
    sh::output(command.current_dir(dir).args(["download", "-q", "-o", "APT::Sandbox::User=root", package]))?;
    let deb = std::fs::read_dir(dir)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let Some(deb) = deb else { bail!("`apt-get download {package}` left no file") };
    sh::run(Command::new("dpkg").arg("-x").arg(&deb).arg(dir))?;
    std::fs::remove_file(deb)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_comes_first_by_number() {
        let mut names = [
            "linux-image-6.12.9+deb12-amd64",
            "linux-image-6.12.117+deb12-amd64-unsigned",
            "linux-image-6.12.117+deb12-amd64",
        ];
        names.sort_by_key(|name| (numbers(name), !name.ends_with("-unsigned")));
        names.reverse();
        assert_eq!(names[0], "linux-image-6.12.117+deb12-amd64");
        assert_eq!(names[2], "linux-image-6.12.9+deb12-amd64");
    }
}

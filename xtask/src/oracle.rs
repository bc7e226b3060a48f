//! libbpf, compiled from the source that the crate `libbpf-sys` carries: newer than Debian's, and only for tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{paths, sh};

/// A libbpf that C programs can be linked with.
pub(crate) struct Libbpf {
    archive: PathBuf,
    include: PathBuf,
}

/// Fetches and compiles libbpf unless the cache has it.
pub(crate) fn libbpf() -> Result<Libbpf> {
    let manifest = paths::root().join("tests/oracle/Cargo.toml");
    let metadata = |offline: bool| {
        let mut command = sh::cargo();
        command.args(["metadata", "--format-version", "1", "--locked"]);
        command.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
        if offline {
            command.arg("--offline");
        }
        sh::output(command.arg("--manifest-path").arg(&manifest))
    };
    let text = metadata(true).or_else(|_| metadata(false)).context("cannot fetch libbpf's source with cargo")?;
    let metadata: serde_json::Value = serde_json::from_str(&text)?;
    let package = metadata["packages"]
        .as_array()
        .and_then(|packages| packages.iter().find(|package| package["name"] == "libbpf-sys"))
        .context("tests/oracle depends on libbpf-sys")?;
    let version = package["version"].as_str().context("a package has a version")?;
    let source = Path::new(package["manifest_path"].as_str().context("a package has a manifest")?);
    let source = source.parent().context("a manifest lies in a folder")?.join("libbpf");

    let dir = paths::download_cache().join(format!("libbpf-{version}"));
    let archive = dir.join("libbpf.a");
    if !archive.is_file() {
        build(&source, &dir).context("cannot compile libbpf")?;
    }
    Ok(Libbpf { archive, include: dir.join("include") })
}

/// Compiles to a folder of its own first, so that an interrupted run leaves no half of an archive.
fn build(source: &Path, dir: &Path) -> Result<()> {
    println!("setup: compiling libbpf, to compare with");
    let scratch = dir.with_extension(format!("partial.{}", std::process::id()));
    std::fs::create_dir_all(scratch.join("include/bpf"))?;
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(source.join("src"))? {
        let path = entry?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("c") => sources.push(path),
            Some("h") => {
                let name = path.file_name().context("a header has a name")?;
                std::fs::copy(&path, scratch.join("include/bpf").join(name))?;
            }
            _ => {}
        }
    }
    sources.sort();
    sh::bytes(
        Command::new("gcc")
            .current_dir(&scratch)
            .args(["-O2", "-g0", "-c", "-D_LARGEFILE64_SOURCE", "-D_FILE_OFFSET_BITS=64", "-w"])
            .arg("-I")
            .arg(source.join("include"))
            .arg("-I")
            .arg(source.join("include/uapi"))
            .args(&sources),
    )?;
    let objects = sources.iter().map(|path| Path::new(path.file_stem().unwrap_or_default()).with_extension("o"));
    sh::bytes(Command::new("ar").current_dir(&scratch).args(["rcs", "libbpf.a"]).args(objects))?;
    copy_uapi(&source.join("include/uapi/linux"), &scratch.join("include/linux"))?;
    let _ = std::fs::remove_dir_all(dir);
    std::fs::rename(&scratch, dir)?;
    Ok(())
}

/// The kernel headers that go with this libbpf know map types that Debian's do not.
fn copy_uapi(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for name in ["bpf.h", "bpf_common.h", "btf.h"] {
        let file = from.join(name);
        if file.is_file() {
            std::fs::copy(&file, to.join(name))?;
        }
    }
    Ok(())
}

impl Libbpf {
    /// Compiles one of our C programs against it, again only when the program changed.
    pub(crate) fn program(&self, source: &str, statically: bool) -> Result<PathBuf> {
        let source = paths::root().join(source);
        let name = source.file_stem().context("a source has a name")?;
        let dir = paths::build_cache().join("oracle");
        std::fs::create_dir_all(&dir)?;
        let program = dir.join(name);
        let newer = |file: &Path| -> Option<bool> {
            Some(std::fs::metadata(&program).ok()?.modified().ok()? > std::fs::metadata(file).ok()?.modified().ok()?)
        };
        if newer(&source) == Some(true) && newer(&self.archive) == Some(true) {
            return Ok(program);
        }
        let mut command = Command::new("gcc");
        command.args(["-O2", "-Wall", "-Wno-deprecated-declarations", "-o"]).arg(&program).arg("-I").arg(&self.include);
        if statically {
            command.arg("-static");
        }
        sh::bytes(command.arg(&source).arg(&self.archive).args(["-lelf", "-lz"]))?;
        Ok(program)
    }
}

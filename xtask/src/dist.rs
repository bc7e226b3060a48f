//! `cargo xtask dist`: the release binary, static, in `target/dist/skep`.

use anyhow::{Context, Result};

use crate::{paths, setup, sh};

/// Builds the static binary and says how large it is.
pub(crate) fn run(_args: &[String]) -> Result<()> {
    setup::rust_target(setup::MUSL)?;
    sh::run(sh::cargo().args(["build", "--release", "--package", "skep-cli", "--target", setup::MUSL]))?;
    let built = paths::target().join(setup::MUSL).join("release/skep");
    let dir = paths::target().join("dist");
    std::fs::create_dir_all(&dir)?;
    let file = dir.join("skep");
    let len_bytes = std::fs::copy(&built, &file)
        .with_context(|| format!("cannot copy {} to {}", built.display(), file.display()))?;
    println!("{}: {len_bytes} bytes ({:.1} MB)", file.display(), len_bytes as f64 / 1e6);
    Ok(())
}

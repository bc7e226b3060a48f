//! Where things lie: the repository, cargo's target folder, and the two caches.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository").to_path_buf()
}

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// What this tree's own sources were made into: test objects, headers, initramfs images. Safe to delete.
pub(crate) fn build_cache() -> PathBuf {
    root().join(".cache")
}

/// What came from outside and is the same for every checkout: kernels and the oracle's libbpf. `$SKEP_DEV_CACHE`, or
/// `skep-dev` in the user's cache folder. Safe to delete.
pub(crate) fn download_cache() -> PathBuf {
    if let Some(dir) = std::env::var_os("SKEP_DEV_CACHE") {
        return root().join(dir);
    }
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .unwrap_or_else(build_cache);
    base.join("skep-dev")
}

/// The compiled test objects, as tests see them through `SKEP_TEST_OBJECTS`.
pub(crate) fn objects() -> PathBuf {
    build_cache().join("objects")
}

/// The programs of the documents that the project was created from, if somebody has put them there: `$SKEP_DOCUMENTS`, or beside
/// the repository.
pub(crate) fn documents() -> PathBuf {
    match std::env::var_os("SKEP_DOCUMENTS") {
        Some(dir) => root().join(dir),
        None => root().join("../shared/seeds/programs"),
    }
}

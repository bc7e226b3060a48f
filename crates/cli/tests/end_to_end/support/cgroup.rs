//! Cgroups of our own.

use std::path::{Path, PathBuf};

/// Where cgroup v2 is mounted.
pub(crate) fn mount() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let path = words.next()?;
        (words.next()? == "cgroup2").then(|| PathBuf::from(path))
    })
}

/// A cgroup that goes when this does.
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    pub(crate) fn new(name: &str) -> Cgroup {
        let path = mount().expect("the case asked for cgroup v2").join(name);
        std::fs::create_dir_all(&path).expect("root can make a cgroup");
        Cgroup { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Processes that are just ending still count as members.
        let mut dir = self.path.clone();
        let root = mount().unwrap_or_default();
        for _ in 0..200 {
            while dir != root && std::fs::remove_dir(&dir).is_ok() {
                let Some(parent) = dir.parent() else { return };
                dir = parent.to_owned();
            }
            if dir == root || !dir.starts_with(&self.path) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

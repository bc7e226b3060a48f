//! The archive format of an initramfs: cpio "newc", as in the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.
//!
//! Each entry is a 110-byte header of hexadecimal text, the name with a NUL, and the data; name and data are padded to
//! four bytes. Folders must come before what lies in them; [`Archive`] sees to that.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use anyhow::{Context, Result};

/// An archive under construction, in memory.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    names: BTreeSet<String>,
}

impl Archive {
    /// True if the path is there already.
    pub(crate) fn contains(&self, path: &str) -> bool {
        self.names.contains(path.trim_start_matches('/'))
    }

    /// Adds a folder and those above it.
    pub(crate) fn dir(&mut self, path: &str) {
        let mut name = String::new();
        for part in Path::new(path).components() {
            let Component::Normal(part) = part else { continue };
            if !name.is_empty() {
                name.push('/');
            }
            name.push_str(&part.to_string_lossy());
            if !self.names.contains(&name) {
                self.entry(&name.clone(), 0o40755, &[]);
            }
        }
    }

    /// Adds a file with these bytes; a path that is there already stays as it is.
    pub(crate) fn file(&mut self, path: &str, mode: u32, data: &[u8]) {
        self.leaf(path, 0o100_000 | mode, data);
    }

    /// Adds a symbolic link; a path that is there already stays as it is.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) {
        self.leaf(path, 0o120_777, target.as_bytes());
    }

    /// Adds a file of this machine under `path`, with its permissions.
    pub(crate) fn copy(&mut self, path: &str, from: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let data = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        let mode = std::fs::metadata(from)?.permissions().mode() & 0o777;
        self.file(path, mode, &data);
        Ok(())
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn leaf(&mut self, path: &str, mode: u32, data: &[u8]) {
        let name = path.trim_start_matches('/');
        if self.names.contains(name) {
            return;
        }
        if let Some((parent, _)) = name.rsplit_once('/') {
            self.dir(parent);
        }
        self.entry(name, mode, data);
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.inode += 1;
        self.names.insert(name.to_owned());
        let links = 1;
        let len_bytes = u32::try_from(data.len()).expect("no file of an initramfs has 4 GiB");
        let name_len = u32::try_from(name.len() + 1).expect("names are short");
        // magic, then ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check.
        let fields = [self.inode, mode, 0, 0, links, 0, len_bytes, 0, 0, 0, 0, name_len, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_first_and_once_and_everything_is_aligned() {
        let mut archive = Archive::default();
        archive.file("/a/b/c", 0o755, b"12345");
        archive.symlink("a/b/d", "c");
        archive.file("/a/b/c", 0o644, b"not this");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let at = |name: &str| text.find(name).unwrap_or_else(|| panic!("no {name}"));
        assert!(at("a\0") < at("a/b\0") && at("a/b\0") < at("a/b/c\0"));
        assert_eq!(text.matches("a/b\0").count(), 1);
        assert!(text.contains("12345") && !text.contains("not this"));
        assert!(text.contains("TRAILER!!!\0"));
    }

    #[test]
    fn busybox_unpacks_what_we_wrote() {
        use std::io::Write;
        let Some(busybox) = crate::sh::find("busybox") else { panic!("run `cargo xtask setup`: busybox is missing") };
        let mut archive = Archive::default();
        archive.file("/dir/file", 0o640, b"text");
        let mut list = std::process::Command::new(busybox)
            .args(["cpio", "-t"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        list.stdin.take().unwrap().write_all(&archive.finish()).unwrap();
        let out = list.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "dir\ndir/file\n");
    }
}

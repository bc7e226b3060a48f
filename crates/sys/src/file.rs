//! Files of people, who may name a device or a pipe by mistake.

use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Fills a buffer from an offset in a file.
pub type ReadAt<'f> = dyn FnMut(u64, &mut [u8]) -> Result<(), Error> + 'f;

/// Reads a file of at most `limit` bytes, whether or not it tells its length. When it does, `read` gets the length and decides
/// which parts of the file to read; else it is read whole.
///
/// # Errors
///
/// Those of opening and reading; [`ErrorKind::FileTooLarge`] when there is more.
pub fn read_parts(
    path: &Path,
    limit: u64,
    read: impl FnOnce(usize, &mut ReadAt<'_>) -> Result<Vec<u8>, Error>,
) -> Result<Vec<u8>, Error> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.len() > limit {
        return Err(ErrorKind::FileTooLarge.into());
    }
    if metadata.is_file() && metadata.len() > 0 {
        let len = usize::try_from(metadata.len()).map_err(|_| ErrorKind::FileTooLarge)?;
        return read(len, &mut |at, buf| file.read_exact_at(buf, at));
    }
    // Devices, pipes and files of /proc do not tell their length.
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str, limit: u64) -> Result<Vec<u8>, Error> {
        read_parts(Path::new(path), limit, |len, read_at| {
            let mut bytes = vec![0; len];
            read_at(0, &mut bytes).map(|()| bytes)
        })
    }

    #[test]
    fn what_never_ends_is_not_read_whole() {
        assert_eq!(read("/dev/zero", 100).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read("/dev/null", 0).unwrap(), b"");
        assert_eq!(
            read(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), 10).unwrap_err().kind(),
            ErrorKind::FileTooLarge
        );
        assert!(read("/proc/self/comm", 100).unwrap().ends_with(b"\n"));
    }

    #[test]
    fn only_the_wanted_parts_are_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let bytes = read_parts(&path, 1 << 20, |_, read_at| {
            let mut word = vec![0; 7];
            read_at(1, &mut word).map(|()| word)
        });
        assert_eq!(bytes.unwrap(), b"package");
    }
}

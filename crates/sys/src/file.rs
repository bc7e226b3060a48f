//! Files of people, who may name a device or a pipe by mistake.

use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::path::Path;

/// Reads a whole file of at most `limit` bytes, whether or not it tells its length.
///
/// # Errors
///
/// Those of opening and reading; [`ErrorKind::FileTooLarge`] when there is more.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    if file.metadata()?.len() <= limit {
        // Devices and pipes do not tell their length.
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 <= limit {
            return Ok(bytes);
        }
    }
    Err(ErrorKind::FileTooLarge.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_is_not_read_whole() {
        assert_eq!(read(Path::new("/dev/zero"), 100).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read(Path::new("/dev/null"), 0).unwrap(), b"");
    }
}

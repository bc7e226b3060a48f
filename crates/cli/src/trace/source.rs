//! Where a script's text comes from.

use std::io::Read;
use std::path::Path;

use skep_engine::Error;

/// The largest script: nobody writes one, and `/dev/zero` has no end.
const MOST_BYTES: u64 = 16 << 20;

/// Name and text of a script file; `-` is standard input.
pub(crate) fn file(path: &Path) -> Result<(String, String), Error> {
    let cannot = |why: &dyn std::fmt::Display| Error::new(format!("cannot read `{}`: {why}", path.display()));
    let mut text = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MOST_BYTES + 1).read_to_end(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut text))
    };
    read.map_err(|cause| cannot(&skep_sys::io_text(&cause)))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(cannot(&"no script is larger than 16 MB"));
    }
    let text = String::from_utf8(text).map_err(|_| cannot(&"it is not text (UTF-8)"))?;
    let name = if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() };
    Ok((name, text))
}

/// Whether a word of the command line is the name of a script.
pub(crate) fn is_script(word: &std::ffi::OsStr) -> bool {
    let path = Path::new(word);
    path.extension().is_some_and(|extension| extension == "bt") || starts_with_shebang(path)
}

/// A file that is run by its own first line: `#!/usr/bin/env -S skep`.
fn starts_with_shebang(path: &Path) -> bool {
    let mut start = [0; 64];
    let got = std::fs::File::open(path).and_then(|mut file| file.read(&mut start)).unwrap_or(0);
    let line = start[..got].split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    line.starts_with("#!") && (line.contains("skep") || line.contains("bpftrace"))
}

/// Behind `--`: `--name=value` and bare `--name`, for `getopt`; everything else is positional.
pub(crate) fn split_params(words: Vec<String>) -> (Vec<String>, Vec<(String, Option<String>)>) {
    let (mut params, mut named) = (Vec::new(), Vec::new());
    for word in words {
        match word.strip_prefix("--") {
            Some(name) if !name.is_empty() => named.push(match name.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (name.to_owned(), None),
            }),
            _ => params.push(word),
        }
    }
    (params, named)
}

/// Settings of the environment: `BPFTRACE_MAX_STRLEN=64` is `max_strlen`.
pub(crate) fn settings() -> Vec<(String, String)> {
    let mut settings: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| {
            let key = name.to_str()?.strip_prefix("BPFTRACE_")?.to_lowercase();
            // Other variables may begin like that: `BPFTRACE_COLOR`, or somebody's own.
            Some((key, value.into_string().ok()?)).filter(|(key, _)| skep_script::check::is_setting(key))
        })
        .collect();
    settings.sort();
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_positional_or_named() {
        let words = ["1", "--flag", "x y", "--top=5", "--"].map(str::to_owned).to_vec();
        let (params, named) = split_params(words);
        assert_eq!(params, ["1", "x y", "--"]);
        assert_eq!(named, [("flag".to_owned(), None), ("top".to_owned(), Some("5".to_owned()))]);
    }

    #[test]
    fn scripts_are_known_by_their_name() {
        assert!(is_script("tools/execsnoop.bt".as_ref()));
        assert!(!is_script("run".as_ref()) && !is_script("/proc/self/exe".as_ref()));
    }
}

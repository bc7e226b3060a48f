//! The bytes of a tool's script: strings, each behind its length (u32, little endian), and lists, each behind its number.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Tool;

/// Files and folders as the compiler found them where the tool was built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Text of each file; `Err` holds why it could not be read, so that a header that was not there is not found elsewhere.
    pub files: BTreeMap<PathBuf, Result<String, String>>,
    /// Files of each folder; `None` where a path is no folder.
    pub folders: BTreeMap<PathBuf, Option<Vec<PathBuf>>>,
}

/// Version of what follows.
const VERSION: u32 = 1;

pub(super) fn encode(tool: &Tool) -> Vec<u8> {
    let mut out = VERSION.to_le_bytes().to_vec();
    string(&mut out, &tool.name);
    string(&mut out, &tool.text);
    number(&mut out, usize::from(tool.allow_unsafe));
    number(&mut out, tool.config.len());
    for (key, value) in &tool.config {
        string(&mut out, key);
        string(&mut out, value);
    }
    paths(&mut out, &tool.include_dirs);
    paths(&mut out, &tool.includes);
    number(&mut out, tool.files.files.len());
    for (name, text) in &tool.files.files {
        path(&mut out, name);
        number(&mut out, usize::from(text.is_ok()));
        let (Ok(text) | Err(text)) = text;
        string(&mut out, text);
    }
    number(&mut out, tool.files.folders.len());
    for (name, files) in &tool.files.folders {
        path(&mut out, name);
        number(&mut out, usize::from(files.is_some()));
        paths(&mut out, files.as_deref().unwrap_or_default());
    }
    out
}

fn number(out: &mut Vec<u8>, value: usize) {
    out.extend((value as u32).to_le_bytes());
}

fn string(out: &mut Vec<u8>, text: &str) {
    number(out, text.len());
    out.extend(text.as_bytes());
}

fn path(out: &mut Vec<u8>, path: &Path) {
    // A script names files in UTF-8.
    string(out, &path.to_string_lossy());
}

fn paths(out: &mut Vec<u8>, list: &[PathBuf]) {
    number(out, list.len());
    list.iter().for_each(|item| path(out, item));
}

/// `None` when the bytes mean nothing.
pub(super) fn decode(bytes: &[u8]) -> Option<Tool> {
    let mut input = Input(bytes);
    if input.number()? != VERSION {
        return None;
    }
    let mut tool = Tool { name: input.string()?, text: input.string()?, ..Tool::default() };
    tool.allow_unsafe = input.number()? != 0;
    for _ in 0..input.number()? {
        tool.config.push((input.string()?, input.string()?));
    }
    tool.include_dirs = input.paths()?;
    tool.includes = input.paths()?;
    for _ in 0..input.number()? {
        let (name, read) = (input.string()?, input.number()? != 0);
        let text = input.string()?;
        tool.files.files.insert(name.into(), if read { Ok(text) } else { Err(text) });
    }
    for _ in 0..input.number()? {
        let (name, folder) = (input.string()?, input.number()? != 0);
        let files = input.paths()?;
        tool.files.folders.insert(name.into(), folder.then_some(files));
    }
    input.0.is_empty().then_some(tool)
}

/// What is still to be read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn number(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    fn string(&mut self) -> Option<String> {
        let len = self.number()? as usize;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(std::str::from_utf8(bytes).ok()?.to_owned())
    }

    /// Grows with what is there, not with the number that the bytes claim.
    fn paths(&mut self) -> Option<Vec<PathBuf>> {
        (0..self.number()?).map(|_| self.string().map(PathBuf::from)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_is_the_inverse_of_encoding() {
        let mut tool = Tool {
            name: "tools/a.bt".into(),
            text: "import \"lib\"; begin {}".into(),
            allow_unsafe: true,
            config: vec![("max_strlen".into(), "64".into())],
            include_dirs: vec!["inc".into()],
            includes: vec!["x.h".into()],
            files: Carried::default(),
        };
        tool.files.files.insert("tools/lib/b.bt".into(), Ok("macro b() { 1 }".into()));
        tool.files.files.insert("inc/x.h".into(), Err("no such file".into()));
        tool.files.folders.insert("tools/lib".into(), Some(vec!["tools/lib/b.bt".into()]));
        tool.files.folders.insert("inc".into(), None);
        let bytes = encode(&tool);
        assert_eq!(decode(&bytes), Some(tool));
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None, "{len}");
        }
        assert_eq!(decode(&[bytes, vec![0]].concat()), None);
    }

    #[test]
    fn a_list_that_claims_to_be_huge_is_refused_at_once() {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        bytes.extend([0; 12]);
        bytes.extend([0xff; 4]);
        assert_eq!(decode(&bytes), None);
    }
}

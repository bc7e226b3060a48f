//! What built tools carry: whatever is read is written as the same bytes again.

use skep_run::tool::Tool;

/// A tool of each script.
pub(crate) fn payloads(file: &[u8]) -> Vec<Vec<u8>> {
    let tool = |text: Vec<u8>| {
        let text = String::from_utf8(text).ok()?;
        let config = vec![("max_map_keys".to_owned(), "10".to_owned())];
        let mut tool = Tool { name: "a.bt".into(), text, config, ..Tool::default() };
        tool.files.files.insert("/a.h".into(), Ok("#define A 1".into()));
        tool.files.files.insert("/b.h".into(), Err("no such file".into()));
        tool.files.folders.insert("/a".into(), Some(vec!["/a/b.bt".into()]));
        Some(tool.to_bytes())
    };
    crate::script::scripts(file).into_iter().filter_map(tool).collect()
}

/// Any bytes as what a tool carries.
pub(crate) fn payload(data: &[u8]) {
    let Some(tool) = Tool::from_bytes(data) else { return };
    let again = tool.to_bytes();
    assert_eq!(Tool::from_bytes(&again), Some(tool), "what was written is read");
    assert!(again.len() <= data.len(), "{} bytes became {}", data.len(), again.len());
}

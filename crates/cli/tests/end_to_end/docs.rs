//! What the documentation shows.

use std::path::Path;

use crate::support::needs;
use crate::support::needs::Need::Root;
use crate::support::skep::call;

#[test]
fn every_script_of_the_language_page_loads() {
    if !needs(&[Root]) {
        return;
    }
    let page = include_str!("../../../../docs/language.md");
    let scripts: Vec<&str> = page.split("```bt\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(scripts.len() > 8, "{}", scripts.len());
    for script in scripts {
        let out = call(&["trace", "--dry-run", "--unsafe", script]);
        assert!(out.status.success(), "{script}\n{}", out.stderr);
    }
}

#[test]
fn the_tools_stand_in_their_list_with_their_first_comment() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        // A machine that has only this binary.
        return;
    };
    let list = include_str!("../../../../tools/README.md");
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.ends_with(".bt"));
    for name in &names {
        let text = std::fs::read_to_string(folder.join(name)).expect("a readable tool");
        let comments = text.lines().filter_map(|line| line.strip_prefix("//"));
        let first = comments.map(str::trim).find(|line| !line.is_empty()).expect("a tool says what it is for");
        let row = format!("| [{name}]({name}) | {first} |\n");
        assert!(list.contains(&row), "missing in tools/README.md:\n{row}");
    }
    assert_eq!(list.matches("| [").count(), names.len(), "tools/README.md lists a tool that is not there");
}

//! Who comes from whom, by `/proc`.

use std::collections::HashMap;

/// The processes that come from `root`, itself not counted, as far as `/proc` shows them.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (pid, parent) in processes() {
        children.entry(parent).or_default().push(pid);
    }
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        // Each process has one parent, so none is met twice.
        let below = children.remove(&pid).unwrap_or_default();
        found.extend(&below);
        open.extend(below);
    }
    found
}

/// Every process with its parent.
fn processes() -> Vec<(u32, u32)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, parent(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))).collect()
}

/// The parent in a line of `/proc/PID/stat`; the name before it may hold anything, blanks and brackets too.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_anything() {
        assert_eq!(parent("12 (a) b (x) S 7 12 12 0"), Some(7));
        assert_eq!(parent("nonsense"), None);
    }

    #[test]
    fn children_of_children_are_found() {
        // Jobs in the background read from nowhere, unless they are told otherwise: this one ends when we let go.
        let mut shell = std::process::Command::new("/bin/sh")
            .args(["-c", "exec 3<&0; cat <&3 & wait"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let me = std::process::id();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        // Other tests of this process have children, too.
        let cat = || descendants(shell.id()).into_iter().find(|pid| descendants(me).contains(pid));
        while cat().is_none() {
            assert!(std::time::Instant::now() < end, "the shell has started nothing");
        }
        assert!(descendants(me).contains(&shell.id()));
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }
}

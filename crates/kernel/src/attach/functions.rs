//! The kernel's functions, as far as they can be probed.

use std::collections::HashMap;
use std::ops::ControlFlow;

use skep_engine::Error;
use skep_sys::kallsyms;
use skep_sys::tracefs::Tracefs;

use skep_spec::glob;

use crate::near;

/// Adds the nearest functions to an error about one that is not there.
pub(super) fn near(function: &str, error: Error) -> Error {
    if let Some(list) = traceable() {
        return near::hint(error, function, list.lines().filter_map(name_of));
    }
    let mut names = Vec::new();
    // An unreadable file only means that there is no hint.
    let _ = kallsyms::for_each(|symbol| {
        if symbol.is_code()
            && let Ok(name) = std::str::from_utf8(symbol.name)
        {
            names.push(name.to_owned());
        }
        ControlFlow::Continue(())
    });
    near::hint(error, function, names.iter().map(String::as_str))
}

/// `available_filter_functions`: what ftrace can stop at. Absent without dynamic ftrace.
fn traceable() -> Option<String> {
    Tracefs::open().ok()?.read("available_filter_functions").ok()
}

/// Every function that can be probed, as (module, name), sorted and without repeats; `vmlinux` is the kernel's own module.
/// What ftrace can stop at; without ftrace, all that the kernel's symbols call code.
pub(crate) fn all() -> Result<Vec<(String, String)>, std::io::Error> {
    let own = || "vmlinux".to_owned();
    let mut functions: Vec<(String, String)> = Vec::new();
    if let Some(list) = traceable() {
        functions.extend(list.lines().filter_map(|line| {
            let module = line.split_once(" [").and_then(|(_, rest)| rest.strip_suffix(']'));
            Some((module.map_or_else(own, str::to_owned), name_of(line)?.to_owned()))
        }));
    } else {
        kallsyms::for_each(|symbol| {
            if symbol.is_code()
                && let Ok(name) = std::str::from_utf8(symbol.name)
                && !name.contains(['.', '$'])
            {
                let module = symbol.module.map(|module| String::from_utf8_lossy(module).into_owned());
                functions.push((module.unwrap_or_else(own), name.to_owned()));
            }
            ControlFlow::Continue(())
        })?;
    }
    functions.sort_unstable();
    functions.dedup();
    Ok(functions)
}

/// A line is `NAME` or `NAME [MODULE]`; functions that ftrace has forgotten the name of are `__ftrace_invalid_address___N`.
fn name_of(line: &str) -> Option<&str> {
    let name = line.split_ascii_whitespace().next()?;
    (!name.starts_with("__ftrace_invalid_address___")).then_some(name)
}

/// The addresses of every function that ftrace can stop at and whose name matches the pattern; sorted.
///
/// Kernel 6.5 has a file with the addresses. Before, names have to be looked up, and a name that several functions have is
/// left out: not every one of them need be traceable, and one that is not makes the kernel refuse them all.
pub(super) fn matching(pattern: &str) -> Result<Vec<u64>, std::io::Error> {
    if let Ok(list) = Tracefs::open().and_then(|tracefs| tracefs.read("available_filter_functions_addrs")) {
        let mut addresses: Vec<u64> = list
            .lines()
            .filter_map(|line| {
                let (address, rest) = line.split_once(' ')?;
                let name = name_of(rest)?;
                let address = u64::from_str_radix(address, 16).ok()?;
                glob::matches(pattern, name).then_some(address)
            })
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        return Ok(addresses);
    }
    let list = traceable().ok_or_else(|| {
        std::io::Error::new(std::io::ErrorKind::NotFound, "tracefs has no list of functions (CONFIG_DYNAMIC_FTRACE)")
    })?;
    // How often ftrace has the name, then the addresses that the kernel gives it.
    let mut names: HashMap<&str, (usize, Vec<u64>)> = HashMap::new();
    for name in list.lines().filter_map(name_of).filter(|name| glob::matches(pattern, name)) {
        names.entry(name).or_default().0 += 1;
    }
    kallsyms::for_each(|symbol| {
        if symbol.is_code()
            && let Ok(name) = std::str::from_utf8(symbol.name)
            && let Some((_, addresses)) = names.get_mut(name)
        {
            addresses.push(symbol.address);
        }
        ControlFlow::Continue(())
    })?;
    let mut addresses: Vec<u64> = names
        .into_values()
        .filter(|(count, addresses)| *count == addresses.len())
        .flat_map(|(_, addresses)| addresses)
        .filter(|address| *address != 0)
        .collect();
    addresses.sort_unstable();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_function_list() {
        assert_eq!(name_of("do_unlinkat"), Some("do_unlinkat"));
        assert_eq!(name_of("ext4_sync [ext4]"), Some("ext4_sync"));
        assert_eq!(name_of("__ftrace_invalid_address___12"), None);
        assert_eq!(name_of(""), None);
    }
}

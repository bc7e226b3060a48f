//! Functions and marked places of processes: uprobe, uretprobe, USDT.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::mangled::{Language, matches_demangled};
use super::pattern::{number, split_offset};
use super::tracepoint::spaced;
use super::{Arg, ArgAt, Args, Asked, Declared, Found, Numbered, Point, Provider, Return, is_pattern, matches};
use crate::diagnostic::Diagnostic;
use crate::dwarf::At;
use crate::plan::Attach;
use crate::points::Resolver;
use crate::structs::UserPrototype;
use crate::target::{UsdtProbe, UserFunction};
use crate::typed::{Context, Place};
use crate::types::{Space, Type};
use skep_spec::nearest::did_you_mean;

impl Resolver<'_> {
    pub(super) fn uprobe(&self, asked: Asked<'_>, out: &mut Vec<Diagnostic>) -> Found {
        if let [binary, place @ ..] = asked.parts
            && let Some((binary, source)) = binary.rsplit_once('@')
            && let Some(found) = self.source_line(asked, binary, source, place)
        {
            return found.and_then(|lines| self.at_line(asked, lines, out));
        }
        let (binary, language, function) = match *asked.parts {
            [function] => (None, None, function),
            [binary, function] => (Some(binary), None, function),
            [binary, language, function] => {
                let known = Language::of(language).ok_or_else(|| {
                    let error = asked.error(format!("Invalid language: {language}"));
                    Box::new(error.with_hint("write cpp or rust before a demangled name"))
                })?;
                (Some(binary), Some(known), function)
            }
            _ => return Err(super::wrong_count(asked.provider, asked.span, asked.parts.len()).into()),
        };
        if asked.provider == Provider::Uretprobe && function.contains('+') {
            return Err(asked.error("Offset not allowed"));
        }
        let mut found = Vec::new();
        for path in self.binaries(asked, binary, out)? {
            match self.functions(asked, &path, language, function, &mut found) {
                // Of many files, some may be none that can be probed.
                Err(_) if binary.is_some_and(is_pattern) => {}
                other => other?,
            }
        }
        if found.is_empty() && !out.iter().any(|it| it.span == Some(asked.span)) {
            let hint = self.near_function(asked, binary, function);
            let name = asked.parts.join(":");
            self.missing(asked, format!("No matches for {} probe {name}", asked.provider.name()), hint, out);
        }
        Ok(found)
    }

    /// What `BINARY@FILE:LINE[:COLUMN]` says; `None` when it is a file whose name has an `@`.
    fn source_line<'p>(
        &self,
        asked: Asked<'p>,
        binary: &str,
        source: &'p str,
        place: &[&str],
    ) -> Option<Result<SourceLine<'p>, Box<Diagnostic>>> {
        let found = |name: &str| self.target.binary(name, self.options.pid).ok().flatten();
        if found(asked.parts[0]).is_some() {
            return None;
        }
        let path = found(binary)?;
        let form = || {
            let error = asked.error(format!("Invalid source line: {}", place.join(":")));
            Box::new(error.with_hint("write BINARY@FILE:LINE or BINARY@FILE:LINE:COLUMN"))
        };
        let numbers: Option<Vec<u64>> = place.iter().map(|part| part.parse().ok().filter(|it| *it > 0)).collect();
        Some(match numbers.as_deref() {
            Some([line]) if !source.is_empty() => Ok(SourceLine { path, source, line: *line, column: None }),
            Some([line, column]) if !source.is_empty() => {
                Ok(SourceLine { path, source, line: *line, column: Some(*column) })
            }
            _ => Err(form()),
        })
    }

    /// The places where a line begins: one in each function that it is part of, inlined ones included.
    fn at_line(&self, asked: Asked<'_>, wanted: SourceLine<'_>, out: &mut Vec<Diagnostic>) -> Found {
        let SourceLine { path, source, line, column } = wanted;
        let shown = path.display();
        let unreadable =
            |error: &dyn std::fmt::Display| asked.error(format!("cannot read the lines of {shown}: {error}"));
        if asked.provider == Provider::Uretprobe {
            let error = asked.error("A source line has no return");
            return Err(Box::new(error.with_hint("write uprobe for the line, or uretprobe with a function")));
        }
        let known = self.structs.user_lines(&path, source, line, column).map_err(|error| unreadable(&error))?;
        let Some(known) = known else {
            let error = asked.error(format!("{shown} has no debugging information (DWARF), so no lines are known"));
            return Err(Box::new(
                error.with_hint("build it with -g, or write a function, function+OFFSET or an address"),
            ));
        };
        let mut name = format!("{}:{shown}@{source}:{line}", asked.provider.name());
        if let Some(column) = column {
            name.push_str(&format!(":{column}"));
        }
        if known.places.is_empty() {
            let list = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" and ");
            let hint = match (known.file, known.columns.as_slice(), known.near.as_slice()) {
                (false, ..) => Some(format!("no source file of {shown} is called {source}")),
                (_, columns @ [_, ..], _) => {
                    Some(format!("statements of line {line} begin at column {}", list(columns)))
                }
                (_, _, near @ [_, ..]) => Some(format!("the nearest lines with code are {}", list(near))),
                _ => None,
            };
            self.missing(asked, format!("No code for {name}"), hint, out);
            return Ok(Vec::new());
        }
        let several = known.places.len() > 1;
        let mut found = Vec::new();
        for place in known.places {
            let off = self.target.file_offset(&path, place.address).map_err(|error| unreadable(&error))?;
            // A line of code that was not linked.
            let Some(off) = off else { continue };
            let mut point = offset_point(asked.provider, &path, place.address, off);
            point.place.name = if several { format!("{name}+{:#x}", place.address) } else { name.clone() };
            point.place.func = Some(place.function).filter(|it| !it.is_empty());
            found.push(point);
        }
        Ok(found)
    }

    /// The places of one binary that `function` means.
    fn functions(
        &self,
        asked: Asked<'_>,
        path: &Path,
        language: Option<Language>,
        function: &str,
        found: &mut Vec<Point>,
    ) -> Result<(), Box<Diagnostic>> {
        let unreadable = |error: &dyn std::fmt::Display| {
            asked.error(format!("cannot read the functions of {}: {error}", path.display()))
        };
        if language.is_some() || is_pattern(function) {
            if function.contains('+') && language.is_none() {
                return Err(asked.error("No wildcards allowed with an offset"));
            }
            let is_it = |it: &UserFunction| match language {
                Some(language) => matches_demangled(language, function, &it.name),
                None => matches(function, &it.name),
            };
            let all = self.target.user_functions(path).map_err(|error| unreadable(&error))?;
            // Several names of one place are one place.
            let mut seen = HashSet::new();
            let matching = all.iter().filter(|it| is_it(it)).filter(|it| self.every_name || seen.insert(it.off_bytes));
            found.extend(matching.map(|it| uprobe_point(asked.provider, path, &it.name, 0)));
            return Ok(());
        }
        if function.starts_with(|c: char| c.is_ascii_digit()) {
            let address = number(function)
                .ok_or_else(|| asked.error(format!("Invalid function/address argument: {function}")))?;
            let off = self.target.file_offset(path, address).map_err(|error| unreadable(&error))?;
            let Some(off) = off else {
                return Err(asked.error(format!("Could not resolve address: {}:{address:#x}", path.display())));
            };
            found.push(offset_point(asked.provider, path, address, off));
            return Ok(());
        }
        let (name, off) = split_offset(function);
        let off = match off {
            None => 0,
            Some(Ok(off)) => off,
            Some(Err(text)) => return Err(asked.error(format!("Invalid offset: {text}"))),
        };
        if let Some(symbol) = self.target.user_symbol(path, name).map_err(|error| unreadable(&error))? {
            if symbol.size_bytes > 0 && off >= symbol.size_bytes {
                let size = symbol.size_bytes;
                return Err(asked.error(format!("Offset outside the function bounds ('{name}' size is {size:#x})")));
            }
            self.not_inside_of_instruction(asked, path, name, symbol.address, off)?;
            found.push(uprobe_point(asked.provider, path, name, off));
        }
        Ok(())
    }

    /// A breakpoint behind the first byte of an instruction makes another one of it, and ends the program.
    fn not_inside_of_instruction(
        &self,
        asked: Asked<'_>,
        path: &Path,
        function: &str,
        address: u64,
        off: u64,
    ) -> Result<(), Box<Diagnostic>> {
        if off == 0 || self.options.allow_unsafe {
            return Ok(());
        }
        let start = self.target.instruction_at(path, address, off);
        match start.map_err(|error| asked.error(format!("cannot read {}: {error}", path.display())))? {
            Some(start) if start != off => {
                let (kind, path) = (asked.provider.name(), path.display());
                let text = format!("Could not add {kind} into middle of instruction: {path}:{function}+{off}");
                let mut diagnostic = asked.error(text);
                let hint = format!("the instruction begins at +{start}; `objdump -d` shows where the others do");
                diagnostic.hints.push(hint);
                Err(diagnostic)
            }
            _ => Ok(()),
        }
    }

    /// The arguments of a function, where its program has debugging information.
    pub(super) fn uprobe_args(&self, point: &Point) -> Result<Args, String> {
        let (path, function) = function_of(point)?;
        let shown = path.display();
        let Some(prototype) = self.user_prototype(path, function)? else {
            return Err(if self.structs.has_debug_info(path) {
                format!(
                    "The debugging information of {shown} says nothing of {function}, so its arguments have no names"
                )
            } else {
                format!(
                    "{shown} has no debugging information (DWARF), so the arguments of {function} have no names: build it with -g, or write arg0, arg1 and so on"
                )
            });
        };
        let fields = prototype.params.iter().enumerate().map(|(n, (name, ty, at))| {
            let name = if name.is_empty() { format!("arg{n}") } else { name.clone() };
            Arg {
                declared: Declared(format!("{} {name}", prototype.spelled.0[n])),
                name,
                ty: spaced(ty.clone(), Space::User),
                at: match *at {
                    At::Slot(slot) => ArgAt::Argument { slot, nullable: false },
                    At::Pointee(slot) => ArgAt::Pointee { slot },
                    At::Absent(why) => ArgAt::Absent(why),
                },
            }
        });
        Ok(Args {
            fields: fields.collect(),
            numbered: Numbered::Registers,
            name: format!("struct {function}_args"),
            ..Args::default()
        })
    }

    /// What a function returns; a number where nothing tells.
    pub(super) fn uretprobe_args(&self, point: &Point) -> Args {
        let known = function_of(point).and_then(|(path, function)| self.user_prototype(path, function));
        let known = known.ok().flatten();
        let declared = known.as_ref().map(|known| Declared(format!("{} retval", known.spelled.1)));
        let ty = match known.map(|known| known.ret.clone()) {
            Some(ty) if ty.is_scalar() => spaced(ty, Space::User),
            _ => Type::U64,
        };
        let ret = Return { ty, arguments: 0, declared: declared.unwrap_or_default() };
        Args { ret: Some(ret), ..Args::default() }
    }

    fn user_prototype(&self, path: &Path, function: &str) -> Result<Option<Rc<UserPrototype>>, String> {
        let unreadable = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
        let symbol = self.target.user_symbol(path, function).map_err(|error| unreadable(&error))?;
        let Some(symbol) = symbol else { return Ok(None) };
        self.structs.user_function(path, symbol.address).map_err(|error| unreadable(&error))
    }

    fn near_function(&self, asked: Asked<'_>, binary: Option<&str>, function: &str) -> Option<String> {
        /// Libraries that glibc 2.34 made a part of libc; empty ones of these names are left.
        const NOW_LIBC: [&str; 5] = ["libpthread", "libdl", "librt", "libutil", "libanl"];
        if is_pattern(function) {
            return None;
        }
        let path = self.binaries(asked, binary, &mut Vec::new()).ok()?.into_iter().next()?;
        let file = path.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
        let stem = file.split(['.', '-']).next().unwrap_or_default();
        if NOW_LIBC.contains(&stem)
            && let Ok(Some(libc)) = self.target.binary("libc", self.options.pid)
            && self.target.user_symbol(&libc, function).is_ok_and(|found| found.is_some())
        {
            let kind = asked.provider.name();
            return Some(format!("since glibc 2.34 it is a function of libc: write {kind}:libc:{function}"));
        }
        let all = self.target.user_functions(&path).ok()?;
        let (name, _) = split_offset(function);
        // A C++ name is asked for in the words of its source.
        let mangled = all.iter().any(|it| matches_demangled(Language::Cpp, name, &it.name));
        if mangled {
            return Some(format!(
                "for a C++ function, write {}:{}:cpp:\"{name}\"",
                asked.provider.name(),
                path.display()
            ));
        }
        did_you_mean(name, all.iter().map(|it| it.name.as_str()))
    }

    pub(super) fn usdt(&self, asked: Asked<'_>, out: &mut Vec<Diagnostic>) -> Found {
        let (binary, provider, name) = match *asked.parts {
            [name] => (None, None, name),
            [binary, name] => (Some(binary), None, name),
            [binary, provider, name] => (Some(binary), Some(provider), name),
            _ => return Err(super::wrong_count(asked.provider, asked.span, asked.parts.len()).into()),
        };
        let (binary, provider) = (binary.filter(|it| !it.is_empty()), provider.filter(|it| !it.is_empty()));
        // Without a binary, the process: its libraries have such places, too.
        let binary = binary.or(self.options.pid.map(|_| "*"));
        let mut found = Vec::new();
        let mut near = Vec::new();
        for path in self.binaries(asked, binary, out)? {
            let all = match self.target.usdt_probes(&path) {
                Ok(all) => all,
                // Of many files, some may be none.
                Err(_) if binary.is_none_or(is_pattern) => continue,
                Err(error) => {
                    return Err(asked.error(format!("cannot read the probes of {}: {error}", path.display())));
                }
            };
            let is_it = |it: &&UsdtProbe| {
                matches(name, &it.name) && provider.is_none_or(|provider| matches(provider, &it.provider))
            };
            found.extend(all.iter().filter(is_it).map(|it| usdt_point(&path, it)));
            near.extend(all);
        }
        if found.is_empty() && !out.iter().any(|it| it.span == Some(asked.span)) {
            let full = |it: &UsdtProbe| format!("{}:{}", it.provider, it.name);
            let names: Vec<String> = near.iter().map(full).collect();
            let wanted = provider.map_or_else(|| name.to_owned(), |provider| format!("{provider}:{name}"));
            let elsewhere = near.iter().find(|it| it.name == name).map(|it| format!("did you mean `{}`?", full(it)));
            let hint = elsewhere
                .or_else(|| did_you_mean(&wanted, names.iter().map(String::as_str)))
                .or_else(|| did_you_mean(name, near.iter().map(|it| it.name.as_str())))
                .or_else(|| near.is_empty().then(|| "no USDT probes are in the file".to_owned()));
            let shown = asked.parts.join(":");
            self.missing(asked, format!("No matches for usdt probe {shown}"), hint, out);
        }
        Ok(found)
    }

    /// Numbered arguments, as many as the probe's note says.
    pub(super) fn usdt_args(&self, point: &Point) -> Args {
        let known = match &point.place.attach {
            Attach::Section { target: Some(target), binary: Some(binary), .. } => {
                let all = self.target.usdt_probes(binary).unwrap_or_default();
                let (provider, name) = target.split_once(':').unwrap_or(("", target));
                all.into_iter().find(|it| it.provider == provider && it.name == name)
            }
            _ => None,
        };
        Args { numbered: Numbered::Usdt(known.map_or(0, |it| it.args)), ..Args::default() }
    }

    /// The files that the binary's part means: one, those of a pattern, or all that a process has mapped.
    fn binaries(
        &self,
        asked: Asked<'_>,
        binary: Option<&str>,
        out: &mut Vec<Diagnostic>,
    ) -> Result<Vec<PathBuf>, Box<Diagnostic>> {
        let unreadable =
            |name: &str, error: &dyn std::fmt::Display| asked.error(format!("cannot look for {name}: {error}"));
        let kind = asked.provider.name();
        let name = match (binary, self.options.pid, &self.options.command) {
            (Some("*"), Some(pid), _) => return self.mapped(pid).map_err(|error| unreadable("*", &error)),
            (Some("*"), None, None) => {
                let error = asked.error(format!("{kind} probe with `*` for the binary needs a process"));
                return Err(Box::new(error.with_hint("name the process with -p, or start it with -c")));
            }
            (Some("*") | None, None, Some(command)) => {
                command.split_ascii_whitespace().next().unwrap_or_default().to_owned()
            }
            (Some(name), ..) => name.to_owned(),
            (None, Some(pid), _) => format!("/proc/{pid}/exe"),
            (None, None, None) => {
                return Err(Box::new(super::wrong_count(asked.provider, asked.span, asked.parts.len())));
            }
        };
        if is_pattern(&name) {
            let (folder, file) = name.rsplit_once('/').unwrap_or((".", &name));
            let mut files = Vec::new();
            for folder in self.folders(if folder.is_empty() { "/" } else { folder }) {
                files.extend(
                    self.target.list_dir(&folder).map_err(|error| unreadable(&name, &error))?.unwrap_or_default(),
                );
            }
            let is_it = |path: &PathBuf| path.file_name().is_some_and(|it| matches(file, &it.to_string_lossy()));
            return Ok(files.into_iter().filter(is_it).collect());
        }
        match self.target.binary(&name, self.options.pid).map_err(|error| unreadable(&name, &error))? {
            Some(path) => Ok(vec![path]),
            None => {
                let message = format!("{kind} target file '{name}' does not exist or is not executable");
                self.missing(asked, message, None, out);
                Ok(Vec::new())
            }
        }
    }

    /// The folders that a path means, with `*` anywhere in it.
    fn folders(&self, path: &str) -> Vec<PathBuf> {
        let mut found = vec![PathBuf::from(if path.starts_with('/') { "/" } else { "" })];
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if !is_pattern(part) {
                found.iter_mut().for_each(|folder| folder.push(part));
                continue;
            }
            let is_it = |path: &PathBuf| path.file_name().is_some_and(|it| matches(part, &it.to_string_lossy()));
            let here = |folder: PathBuf| if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
            found =
                found.into_iter().flat_map(|folder| self.target.list_folders(&here(folder))).filter(is_it).collect();
        }
        found
    }

    /// Executable files in the memory of a process, as `/proc/PID/maps` lists them, sorted.
    fn mapped(&self, pid: u32) -> Result<Vec<PathBuf>, String> {
        let maps = self.target.read_file(Path::new(&format!("/proc/{pid}/maps"))).map_err(|error| error.to_string())?;
        let mut files: Vec<PathBuf> = maps.lines().filter_map(mapped_file).collect();
        files.sort_unstable();
        files.dedup();
        // What the process calls so may be elsewhere for us, or out of reach.
        let found = |path: PathBuf| self.target.binary(&path.to_string_lossy(), Some(pid)).ok().flatten();
        Ok(files.into_iter().filter_map(found).collect())
    }
}

/// The file of a line such as `7f00-7f10 r-xp 00000000 08:01 123   /usr/lib/libc.so.6`, when it is code.
fn mapped_file(line: &str) -> Option<PathBuf> {
    let mut words = line.split_ascii_whitespace();
    let code = words.nth(1)?.as_bytes().get(2) == Some(&b'x');
    let path = &line[line.find('/')?..];
    (code && !path.ends_with(" (deleted)")).then(|| PathBuf::from(path))
}

/// A line of a source file.
struct SourceLine<'p> {
    /// The program or library.
    path: PathBuf,
    /// End of the source file's path.
    source: &'p str,
    line: u64,
    column: Option<u64>,
}

/// The binary and the function of a place at the function's entry (or return).
fn function_of(point: &Point) -> Result<(&Path, &str), String> {
    let name = &point.place.name;
    let Attach::Section { target: Some(function), binary: Some(path), .. } = &point.place.attach else {
        return Err(format!("{name} is a place in code: arguments are known only where a function begins"));
    };
    if function.contains('+') {
        return Err(format!("{name} is inside a function: arguments are known only where it begins"));
    }
    // `f.isra.0` and the like: not all arguments of the source are passed, and some in other ways.
    if let Some((source, _)) = function.split_once('.') {
        return Err(format!(
            "{name} is a part or a variant of {source} that the compiler made: where its arguments are is not known"
        ));
    }
    Ok((path, function))
}

fn uprobe_point(provider: Provider, path: &Path, function: &str, off: u64) -> Point {
    let target = if off == 0 { function.to_owned() } else { format!("{function}+{off}") };
    let kind = provider.name();
    Point {
        provider,
        section: format!("{kind}/{}:{target}", path.display()),
        place: Place {
            name: format!("{kind}:{}:{target}", path.display()),
            func: Some(function.to_owned()),
            attach: Attach::Section { target: Some(target), binary: Some(path.to_owned()), off_bytes: None },
        },
        context: Context::Registers,
        family: Some(kind),
    }
}

fn offset_point(provider: Provider, path: &Path, address: u64, off: u64) -> Point {
    let kind = provider.name();
    Point {
        provider,
        section: format!("{kind}/{}:{off:#x}", path.display()),
        place: Place {
            name: format!("{kind}:{}:{address:#x}", path.display()),
            func: None,
            attach: Attach::Section { target: None, binary: Some(path.to_owned()), off_bytes: Some(off) },
        },
        context: Context::Registers,
        family: Some(kind),
    }
}

fn usdt_point(path: &Path, probe: &UsdtProbe) -> Point {
    let target = format!("{}:{}", probe.provider, probe.name);
    Point {
        provider: Provider::Usdt,
        section: format!("usdt/{}:{target}", path.display()),
        place: Place {
            name: format!("usdt:{}:{target}", path.display()),
            func: None,
            attach: Attach::Section { target: Some(target), binary: Some(path.to_owned()), off_bytes: None },
        },
        context: Context::Registers,
        family: Some("usdt"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_name_the_files_of_a_process() {
        let file = |line: &str| mapped_file(line).map(|path| path.display().to_string());
        let lib = "7f00-7f10 r-xp 00001000 08:01 12     /usr/lib/my lib.so";
        assert_eq!(file(lib).as_deref(), Some("/usr/lib/my lib.so"));
        assert_eq!(file(&lib.replace("r-xp", "r--p")), None);
        assert_eq!(file(&format!("{lib} (deleted)")), None);
        assert_eq!((file("7f00-7f10 r-xp 0 0 0 [vdso]"), file(""), file("x")), (None, None, None));
    }
}

//! Places of source lines, from the line tables (DWARF 5, 6.2).
//!
//! A unit's table is a list of rows in the order of addresses: "from this address on, code is of this file, line and column".
//! A debugger stops where a line *begins*, and that is not every row that names it:
//!
//! - Only rows that are marked `is_stmt` count: compilers mark the instructions at which what came before is done, and leave
//!   the mark off where scheduling moved a piece of the line in between others.
//! - Of rows of one line behind each other only the first counts; the others are its further columns, or its loops' views. A row
//!   that ends a sequence belongs to no line, and what follows it begins anew. When a column is wanted, each row that has it counts.
//! - A line's code may lie in several pieces, which the optimizer cut apart. Of those in one function only the first, that of the lowest
//!   address, is a place, so that a probe counts a line once.
//! - A line of a function that was inlined is in each function that it was put into. The innermost scope around an
//!   address (`DW_TAG_subprogram` or `DW_TAG_inlined_subroutine`) tells these copies apart: one place for each. Where no scope is
//!   known (files with line tables alone) each address is a place.
//!
//! # Bounds
//!
//! Rows, places and steps are counted over all units, since tables are a few bytes for each row: what has more than any program
//! is an error, not a wait.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::{Dwarf, Error, Unit, UnitKey, View, key_of};

/// How many rows of line tables one question reads. Browsers have a hundred million.
const MAX_ROWS: u64 = 1 << 28;

/// How many rows may begin the wanted line. Lines of templates are put into some ten thousand functions.
const MAX_BEGINNINGS: usize = 1 << 18;

/// How many other columns are named where the wanted one is not there; they are only read by people.
const MAX_COLUMNS: usize = 64;

/// A place where a line begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Its address, as linked.
    pub address: u64,
    /// Name of the function around it, in the source; empty when the file does not tell.
    pub function: String,
}

/// What is known about a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Where it begins, once for each function that it is part of, also by being put into another; sorted.
    pub places: Vec<Location>,
    /// A source file of this name is known.
    pub file: bool,
    /// The nearest lines before and after that have code, where it has none itself.
    pub near: Vec<u64>,
    /// The columns at which statements of the line begin, where the wanted one is not among them.
    pub columns: Vec<u64>,
}

impl Dwarf {
    /// The places of a line (and column) of a source file. `file` is the end of its path: `main.c` and `src/main.c` both mean
    /// `/home/me/src/main.c`.
    ///
    /// # Errors
    ///
    /// When the DWARF is broken before the line is found.
    pub fn lines(&self, file: &str, line: u64, column: Option<u64>) -> Result<Lines, Error> {
        self.with(|view| {
            let mut found = Search { line, column, ..Search::default() };
            let mut units = view.dwarf.units();
            while let Some(header) = units.next()? {
                view.count()?;
                let Ok(unit) = view.unit(header) else { continue };
                view.lines_of(&unit, file, &mut found)?;
            }
            let near = [found.before, found.after].into_iter().flatten().collect();
            let mut places: Vec<Location> = found.places.into_values().collect();
            places.sort_by_key(|place| place.address);
            places.dedup_by_key(|place| place.address);
            Ok(Lines {
                near: if places.is_empty() { near } else { Vec::new() },
                places,
                file: found.file,
                columns: found.columns.into_iter().collect(),
            })
        })
    }
}

#[derive(Default)]
struct Search {
    line: u64,
    column: Option<u64>,
    file: bool,
    before: Option<u64>,
    after: Option<u64>,
    columns: BTreeSet<u64>,
    /// The first place in each scope.
    places: BTreeMap<Scope, Location>,
    rows: u64,
    /// Rows that began the line.
    beginnings: usize,
}

/// What tells the copies of a line apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    /// The innermost function around it, which may be an inlined one: its unit and entry.
    Function(UnitKey, usize),
    /// No function is known: the address alone.
    Address(u64),
}

impl<'a> View<'a> {
    fn lines_of(&self, unit: &Rc<Unit<'a>>, file: &str, found: &mut Search) -> Result<(), Error> {
        let Some(program) = unit.line_program.clone() else { return Ok(()) };
        let header = program.header();
        // By number, which begin with 1 before version 5.
        let mut wanted = vec![false; usize::from(header.version() < 5)];
        for _ in header.file_names() {
            self.count()?;
            wanted.push(self.is_file(unit, header, wanted.len() as u64, file));
        }
        if !wanted.contains(&true) {
            return Ok(());
        }
        let is_wanted = |file: u64| usize::try_from(file).ok().and_then(|at| wanted.get(at)) == Some(&true);
        found.file = true;
        let mut rows = program.rows();
        let mut addresses = BTreeSet::new();
        // The row before: a line begins where the table comes to it from another.
        let mut last: Option<(u64, u64)> = None;
        while let Some((_, row)) = rows.next_row()? {
            found.rows += 1;
            if found.rows > MAX_ROWS {
                return Err(Error("its line tables are too long".to_owned()));
            }
            if row.end_sequence() {
                last = None;
                continue;
            }
            let (file, line) = (row.file_index(), row.line().map_or(0, u64::from));
            let column = match row.column() {
                gimli::ColumnType::LeftEdge => 0,
                gimli::ColumnType::Column(column) => column.get(),
            };
            let before = last.replace((file, line));
            if !row.is_stmt() || !is_wanted(file) {
                continue;
            }
            if line != found.line {
                if line > 0 && line < found.line {
                    found.before = found.before.max(Some(line));
                } else if line > found.line {
                    found.after = Some(found.after.map_or(line, |it| it.min(line)));
                }
                continue;
            }
            match found.column {
                Some(wanted) if wanted != column => {
                    if found.columns.len() < MAX_COLUMNS {
                        found.columns.insert(column);
                    }
                    continue;
                }
                None if before == Some((file, line)) => continue,
                _ => {}
            }
            if addresses.insert(row.address()) {
                found.beginnings += 1;
                if found.beginnings > MAX_BEGINNINGS {
                    return Err(Error("the line begins in too many places".to_owned()));
                }
            }
        }
        if addresses.is_empty() {
            return Ok(());
        }
        let addresses: Vec<u64> = addresses.into_iter().collect();
        let mut scopes = self.scopes(unit, &addresses)?;
        for address in addresses {
            let known =
                scopes.remove(&address).map(|(entry, name)| (Scope::Function(key_of(&unit.header), entry), name));
            let (scope, function) = known.unwrap_or((Scope::Address(address), ""));
            // Addresses rise: the first of a scope stays.
            found.places.entry(scope).or_insert_with(|| Location { address, function: function.to_owned() });
        }
        Ok(())
    }

    /// The innermost function, inlined ones included, around each address: its entry and name.
    fn scopes(&self, unit: &Rc<Unit<'a>>, addresses: &[u64]) -> Result<HashMap<u64, (usize, &'a str)>, Error> {
        let mut scopes = HashMap::new();
        let mut cursor = unit.entries();
        while let Some(entry) = cursor.next_dfs()? {
            self.count()?;
            if !matches!(entry.tag(), gimli::DW_TAG_subprogram | gimli::DW_TAG_inlined_subroutine) {
                continue;
            }
            let Ok(mut ranges) = self.ranges(unit, entry) else { continue };
            let die = super::Die { unit: unit.clone(), entry: entry.clone() };
            let mut name = None;
            while let Ok(Some(range)) = ranges.next() {
                self.count()?;
                let from = addresses.partition_point(|address| *address < range.begin);
                for address in addresses[from..].iter().take_while(|address| **address < range.end) {
                    self.count()?;
                    if name.is_none() {
                        name = self.inherited(&die, |die| self.text(die, gimli::DW_AT_name))?;
                    }
                    // Depth first: what comes later is further inside.
                    scopes.insert(*address, (die.entry.offset().0, name.unwrap_or_default()));
                }
            }
        }
        Ok(scopes)
    }

    /// Whether a line table's file ends in the components of `wanted`.
    fn is_file(
        &self,
        unit: &Rc<Unit<'a>>,
        header: &gimli::LineProgramHeader<super::Slice<'a>>,
        at: u64,
        wanted: &str,
    ) -> bool {
        let Some(file) = header.file(at) else { return false };
        let text = |value: gimli::AttributeValue<super::Slice<'a>>| {
            let bytes = self.dwarf.attr_string(unit, value).ok()?;
            std::str::from_utf8(bytes.slice()).ok()
        };
        let Some(name) = text(file.path_name()) else { return false };
        // Most files are told apart by their last component.
        if name.rsplit('/').next() != wanted.rsplit('/').next() {
            return false;
        }
        let mut path = name.to_owned();
        if !path.starts_with('/')
            && let Some(folder) = file.directory(header).and_then(text)
        {
            path = format!("{folder}/{path}");
        }
        if !path.starts_with('/')
            && let Some(folder) = unit.comp_dir.and_then(|it| std::str::from_utf8(it.slice()).ok())
        {
            path = format!("{folder}/{path}");
        }
        ends_with_path(&path, wanted)
    }
}

/// Whether `path` ends in the components of `wanted`; `.` is nothing, and `a/..` neither.
fn ends_with_path(path: &str, wanted: &str) -> bool {
    let components = |path: &str| {
        let mut all: Vec<String> = Vec::new();
        for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
            match part {
                ".." if all.last().is_some_and(|it| it != "..") => {
                    all.pop();
                }
                part => all.push(part.to_owned()),
            }
        }
        all
    };
    let (path_parts, wanted_parts) = (components(path), components(wanted));
    if wanted.starts_with('/') { path_parts == wanted_parts } else { path_parts.ends_with(&wanted_parts) }
}

#[cfg(test)]
mod tests {
    use super::super::forged;
    use super::*;

    /// A unit of version 4 whose line table has one file, `a.c`, and one row for each byte that `address` rises.
    fn rows(count: usize) -> Dwarf {
        let mut table: Vec<u8> = Vec::new();
        // Instructions of 1 byte, statements; special opcodes from 10 on: line + 0, address + (opcode - 10).
        table.extend([1, 1, 1, 0, 1, 10, 0, 1, 1, 1, 1, 0, 0, 0, 1]);
        // No folders; the file, its folder, time and length; no more.
        table.extend(b"\0a.c\0\0\0\0\0");
        let mut line = [&[4, 0][..], &(table.len() as u32).to_le_bytes(), &table].concat();
        // The address (extended opcode 2); column 7.
        line.extend([0, 9, 2, 0, 0, 0x40, 0, 0, 0, 0, 0, 5, 7]);
        line.resize(line.len() + count, 11);
        line.extend([0, 1, 1]);
        forged::dwarf(&[
            // A compile unit without children, whose only attribute is DW_AT_stmt_list (DW_FORM_sec_offset).
            (".debug_abbrev", vec![1, 0x11, 0, 0x10, 0x17, 0, 0, 0]),
            (".debug_info", forged::unit(&[1, 0, 0, 0, 0])),
            (".debug_line", forged::with_length(&line)),
        ])
    }

    #[test]
    fn a_line_begins_once_until_another_comes() {
        let found = rows(100).lines("a.c", 1, None).unwrap();
        assert_eq!(found.places, [Location { address: 0x40_0001, function: String::new() }]);
        // Each row of the wanted column counts, and without functions each is a place.
        assert_eq!(rows(100).lines("a.c", 1, Some(7)).unwrap().places.len(), 100);
        let other = rows(100).lines("a.c", 1, Some(8)).unwrap();
        assert_eq!((other.places.len(), other.columns), (0, vec![7]));
        assert_eq!(rows(100).lines("a.c", 3, None).unwrap().near, [1]);
    }

    #[test]
    fn places_without_end_are_refused() {
        let error = rows(MAX_BEGINNINGS + 1).lines("a.c", 1, Some(7)).unwrap_err();
        assert_eq!(error.to_string(), "the line begins in too many places");
        assert_eq!(rows(MAX_BEGINNINGS + 1).lines("a.c", 1, None).unwrap().places.len(), 1);
    }

    #[test]
    fn a_file_is_named_by_the_end_of_its_path() {
        assert!(ends_with_path("/home/me/src/../src/./main.c", "src/main.c"));
        assert!(ends_with_path("/a/main.c", "main.c") && ends_with_path("/a/main.c", "/a/main.c"));
        assert!(!ends_with_path("/a/domain.c", "main.c") && !ends_with_path("/a/b/main.c", "/b/main.c"));
    }
}

//! Places of source lines, from the line tables.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::{Dwarf, Error, Unit, View};

/// How many rows of line tables one question reads.
const MAX_ROWS: u64 = 1 << 30;

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
            found.columns.sort_unstable();
            found.columns.dedup();
            Ok(Lines {
                near: if places.is_empty() { near } else { Vec::new() },
                places,
                file: found.file,
                columns: found.columns,
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
    columns: Vec<u64>,
    /// By unit and innermost function, which may be an inlined one.
    places: BTreeMap<(usize, usize), Location>,
    rows: u64,
}

impl<'a> View<'a> {
    fn lines_of(&self, unit: &Rc<Unit<'a>>, file: &str, found: &mut Search) -> Result<(), Error> {
        let Some(program) = unit.line_program.clone() else { return Ok(()) };
        let header = program.header();
        let matches: Vec<u64> = {
            let first = u64::from(header.version() < 5);
            let count = header.file_names().len() as u64;
            (first..first + count).filter(|at| self.is_file(unit, header, *at, file)).collect()
        };
        if matches.is_empty() {
            return Ok(());
        }
        found.file = true;
        let mut rows = program.rows();
        let mut addresses = Vec::new();
        // The row before: a line begins where the table comes to it from another.
        let mut last: Option<(u64, u64, u64)> = None;
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
            let before = last.replace((file, line, column));
            if !row.is_stmt() || !matches.contains(&file) {
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
                Some(wanted) if wanted != column => found.columns.push(column),
                Some(_) => addresses.push(row.address()),
                None if before.is_some_and(|(f, l, _)| (f, l) == (file, line)) => {}
                None => addresses.push(row.address()),
            }
        }
        if addresses.is_empty() {
            return Ok(());
        }
        addresses.sort_unstable();
        addresses.dedup();
        let scopes = self.scopes(unit, &addresses)?;
        for address in addresses {
            let (scope, function) = scopes.get(&address).cloned().unwrap_or_default();
            // Without functions every place counts; with them, the first of each.
            let scope = if scope == 0 { usize::MAX - address as usize } else { scope };
            let place = found.places.entry((unit.header.offset().0, scope));
            place.or_insert(Location { address, function });
        }
        Ok(())
    }

    /// The innermost function, inlined ones included, around each address: its entry and name.
    fn scopes(&self, unit: &Rc<Unit<'a>>, addresses: &[u64]) -> Result<HashMap<u64, (usize, String)>, Error> {
        let mut scopes = HashMap::new();
        let mut cursor = unit.entries();
        while let Some(entry) = cursor.next_dfs()? {
            self.count()?;
            if !matches!(entry.tag(), gimli::DW_TAG_subprogram | gimli::DW_TAG_inlined_subroutine) {
                continue;
            }
            let Ok(mut ranges) = self.dwarf.die_ranges(unit, entry) else { continue };
            let die = super::Die { unit: unit.clone(), entry: entry.clone() };
            let mut name = None;
            while let Ok(Some(range)) = ranges.next() {
                self.count()?;
                let from = addresses.partition_point(|address| *address < range.begin);
                for address in addresses[from..].iter().take_while(|address| **address < range.end) {
                    if name.is_none() {
                        name = self.inherited(&die, |die| self.text(die, gimli::DW_AT_name))?;
                    }
                    // Depth first: what comes later is further inside.
                    scopes.insert(*address, (entry_at(&die), name.unwrap_or_default().to_owned()));
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
        let last = |path: &str| path.rsplit('/').next().map(str::to_owned);
        if last(name) != last(wanted) {
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

fn entry_at(die: &super::Die<'_>) -> usize {
    die.entry.offset().0
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
    use super::*;

    #[test]
    fn a_file_is_named_by_the_end_of_its_path() {
        assert!(ends_with_path("/home/me/src/../src/./main.c", "src/main.c"));
        assert!(ends_with_path("/a/main.c", "main.c") && ends_with_path("/a/main.c", "/a/main.c"));
        assert!(!ends_with_path("/a/domain.c", "main.c") && !ends_with_path("/a/b/main.c", "/b/main.c"));
    }
}

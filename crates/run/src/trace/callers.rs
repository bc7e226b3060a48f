//! Telling programs the callers of functions, for `dw_ustack`: the tables of files become rows in the maps of [`skep_script::unwinding`].
//!
//! Known before anything runs: the files that named processes have mapped, and those that the command and the probed programs are
//! going to. Others are told when programs have met them; stacks before that end there.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use skep_binary::unwind_rows::{self, Cfa, Row, Rule};
use skep_binary::{libraries, search, unwind};
use skep_engine::{Entry, MapId, Session};
use skep_script::plan::{Attach, Plan};
use skep_script::unwinding::{AT_ITSELF, IN_REGISTER, MAX_PAGES, PAGE_ROWS, RULE_BYTES, Unwinding, kind};
use skep_spec::Spec;

use super::{Notice, Options};
use crate::Error;
use crate::command::split_command;

/// Pages for files that are met later: a million rows, 8 MiB.
const SPARE_PAGES: u32 = 2048;

/// A file as programs know it: inode number and size.
type FileKey = [u64; 2];

/// What programs were told, and are to be told.
#[derive(Debug)]
pub(super) struct Callers {
    maps: Unwinding,
    known: HashSet<FileKey>,
    rules: HashMap<Rule, u32>,
    /// Pages in use, and how many there are once the maps are made.
    pages: u32,
    most_pages: Option<u32>,
    most_rules: u32,
    most_files: usize,
    /// What is to be written, in this order: who finds a file finds its rows.
    left: Vec<(MapId, Entry)>,
    /// Files that had no room.
    dropped: bool,
}

impl Callers {
    /// When the script wants them: of the files that are known now. The maps get room for these.
    pub(super) fn collect(spec: &mut Spec, plan: &Plan, options: &Options) -> Option<Callers> {
        let maps = plan.unwinding?;
        let most = |map: MapId| spec.maps[map.0 as usize].max_entries;
        let (most_rules, most_files) = (most(maps.rules), most(maps.files) as usize);
        let mut callers = Callers {
            maps,
            known: HashSet::new(),
            // The first rule is that nothing is known, which the empty map says.
            rules: HashMap::from([(Rule::Unknown, 0)]),
            pages: 0,
            most_pages: None,
            most_rules,
            most_files,
            left: Vec::new(),
            dropped: false,
        };
        for pid in options.pid.iter().chain(&options.dwarf_pids) {
            for mapping in mappings(*pid) {
                callers.add(&mapping.path, None);
            }
        }
        let command = options.command.as_deref().and_then(|line| split_command(line).ok());
        let command = command.and_then(|words| search::resolve(words.first()?, None).ok());
        let places = plan.programs.iter().flat_map(|program| &program.places);
        let probed = places.filter_map(|place| match &place.attach {
            Attach::Section { binary, .. } => binary.clone(),
            _ => None,
        });
        let programs: HashSet<PathBuf> = command.into_iter().chain(probed).collect();
        for path in programs.iter().flat_map(|program| libraries::of_program(program)) {
            callers.add(&path, None);
        }
        let most_pages = callers.pages + SPARE_PAGES;
        spec.maps[maps.pages.0 as usize].max_entries = most_pages;
        callers.most_pages = Some(most_pages);
        Some(callers)
    }

    /// Tells what is left to be told, and what programs have asked for meanwhile.
    pub(super) fn tell(&mut self, session: &dyn Session, notice: &mut dyn FnMut(Notice<'_>)) -> Result<(), Error> {
        if let Some(wanted) = session.map(self.maps.wanted) {
            for (key, value) in wanted.entries()? {
                self.meet(&key, &value);
                wanted.delete(&key)?;
            }
        }
        let left = std::mem::take(&mut self.left);
        for of_map in left.chunk_by(|a, b| a.0 == b.0) {
            let entries: Vec<Entry> = of_map.iter().map(|(_, entry)| entry.clone()).collect();
            if let Some(map) = session.map(of_map[0].0) {
                map.update_many(&entries, 0)?;
            }
        }
        if std::mem::take(&mut self.dropped) && self.most_files > 0 {
            self.most_files = 0;
            let message = "there is no more room for tables of callers: stacks of `dw_ustack` end early in some files";
            let hint = Some("name the processes with `-p`, or limit the script to one program".to_owned());
            notice(Notice::Warning { message: message.to_owned(), hint });
        }
        Ok(())
    }

    /// A file that a program has met: a process, an address in it.
    fn meet(&mut self, key: &[u8], value: &[u8]) {
        let words = |bytes: &[u8]| -> Option<[u64; 2]> {
            let [first, second] = bytes.as_chunks::<8>().0 else { return None };
            Some([first, second].map(|word| u64::from_ne_bytes(*word)))
        };
        let (Some(key), Some([pid, address])) = (words(key), words(value)) else { return };
        let mappings = mappings(pid as u32);
        // A process that has ended is no loss for others: they will ask again.
        if let Some(mapping) = mappings.iter().find(|it| (it.start..it.end).contains(&address)) {
            self.add(&mapping.path, Some(key));
        }
    }

    /// Adds a file, under another key than its own where the kernel has one: on file systems made of others.
    fn add(&mut self, path: &Path, key: Option<FileKey>) {
        let Ok(facts) = fs::metadata(path) else { return };
        let key = key.unwrap_or([facts.ino(), facts.size()]);
        if !facts.is_file() || self.known.contains(&key) {
            return;
        }
        let tables = path.to_str().and_then(unwind::tables);
        let rows = tables.map(|tables| tables.rows()).unwrap_or_default();
        let count = rows.len().div_ceil(PAGE_ROWS) as u32;
        let is_full = self.most_pages.is_some_and(|most| self.pages + count > most);
        if self.known.len() >= self.most_files || is_full || count > MAX_PAGES {
            self.dropped = true;
            return;
        }
        self.known.insert(key);
        let first = self.pages;
        self.pages += count;
        let mut pages = Vec::new();
        for (number, rows) in (first..).zip(rows.chunks(PAGE_ROWS)) {
            pages.push((self.maps.pages, (number.to_ne_bytes().to_vec(), self.page(rows))));
        }
        self.left.extend(pages);
        let key = key.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let value = [first, count].iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.left.push((self.maps.files, (key, value)));
    }

    fn page(&mut self, rows: &[Row]) -> Vec<u8> {
        let mut page = Vec::with_capacity(PAGE_ROWS * 8);
        for (at, rule) in rows {
            page.extend_from_slice(&at.to_ne_bytes());
            page.extend_from_slice(&self.rule(rule).to_ne_bytes());
        }
        // Nothing is behind the greatest place.
        page.resize(PAGE_ROWS * 8, 0xff);
        page
    }

    /// The number of a rule. When there are too many, the rare ones that come last are unknown.
    fn rule(&mut self, rule: &Rule) -> u32 {
        if let Some(number) = self.rules.get(rule) {
            return *number;
        }
        let number = self.rules.len() as u32;
        if number == self.most_rules {
            return 0;
        }
        self.rules.insert(*rule, number);
        self.left.push((self.maps.rules, (number.to_ne_bytes().to_vec(), rule_bytes(rule))));
        number
    }
}

fn rule_bytes(rule: &Rule) -> Vec<u8> {
    let (kind, distances) = match rule {
        Rule::Unknown => (kind::UNKNOWN, [0; 3]),
        Rule::End => (kind::END, [0; 3]),
        Rule::Signal => (kind::SIGNAL, [0; 3]),
        Rule::Frame { cfa, frame_pointer, return_address } => {
            let (kind, distance) = match *cfa {
                Cfa::StackPointer(distance) => (kind::STACK_POINTER, distance),
                Cfa::FramePointer(distance) => (kind::FRAME_POINTER, distance),
                Cfa::AtFramePointer(distance) => (kind::AT_FRAME_POINTER, distance),
                Cfa::Linkage(distance) => (kind::LINKAGE, distance),
            };
            let frame_pointer = match *frame_pointer {
                None => IN_REGISTER,
                Some(unwind_rows::AT_ITSELF) => AT_ITSELF,
                Some(distance) => distance,
            };
            (kind, [distance, frame_pointer, return_address.unwrap_or(IN_REGISTER)])
        }
    };
    let mut bytes = Vec::with_capacity(RULE_BYTES as usize);
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend(distances.iter().flat_map(|distance| distance.to_ne_bytes()));
    bytes
}

/// Code of a file that a process has mapped.
struct Mapping {
    start: u64,
    end: u64,
    /// Where the file is found, whatever the process's root is and whether it was deleted.
    path: PathBuf,
}

fn mappings(pid: u32) -> Vec<Mapping> {
    let text = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().filter_map(|line| mapping(pid, line)).collect()
}

/// `START-END PERMS OFFSET DEV INODE   PATH`
fn mapping(pid: u32, line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let range = fields.next()?;
    let (start, end) = range.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    let executes = fields.next()?.contains('x');
    let path = fields.nth(3)?.trim_start();
    (executes && path.starts_with('/')).then_some(())?;
    let direct = PathBuf::from(format!("/proc/{pid}/map_files/{range}"));
    let path = if fs::metadata(&direct).is_ok() { direct } else { format!("/proc/{pid}/root{path}").into() };
    Some(Mapping { start: address(start)?, end: address(end)?, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_is_looked_at() {
        let ours = mappings(std::process::id());
        let exe = fs::metadata("/proc/self/exe").unwrap();
        let is_exe = |it: &Mapping| fs::metadata(&it.path).is_ok_and(|facts| facts.ino() == exe.ino());
        let here = only_code_of_files_is_looked_at as *const () as u64;
        assert!(ours.iter().any(|it| is_exe(it) && (it.start..it.end).contains(&here)));
        let line = "7f00-7f10 rw-p 00000000 fe:01 1234                       /tmp/data";
        assert!(mapping(1, line).is_none());
        assert!(mapping(1, "7f00-7f10 r-xp 00000000 00:00 0                       [vdso]").is_none());
    }

    #[test]
    fn rules_are_four_numbers() {
        let rule = Rule::Frame { cfa: Cfa::FramePointer(16), frame_pointer: None, return_address: Some(-8) };
        let words: Vec<i32> = rule_bytes(&rule).as_chunks().0.iter().map(|word| i32::from_ne_bytes(*word)).collect();
        assert_eq!(words, [2, 16, IN_REGISTER, -8]);
        assert_eq!(rule_bytes(&Rule::Unknown), [0; 16]);
    }
}

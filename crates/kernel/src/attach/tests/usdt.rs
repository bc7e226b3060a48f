//! USDT probes of a program that is written here byte by byte, so that no compiler is needed.
#![cfg(target_arch = "x86_64")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use skep_engine::Link as _;
use skep_spec::{AttachPoint, AttachType, ProgType};
use skep_sys::bpf::{MapCreate, MapFd};
use skep_sys::version::KernelVersion;

use super::super::{Options, UsdtIds, UsdtMaps};
use super::{Recipe, detached, root, skip, wait_until, words};
use crate::uprobe::archive;
use crate::uprobe::elf::Binary;
use crate::uprobe::usdt;
use crate::uprobe::usdt_args::{Args, Machine, SPEC_LEN_BYTES};

const TEXT: u64 = 0x40_0000;
const DATA: u64 = 0x40_1000;
const FIRST: &str = "-4@%edi 8@$7";
const SECOND: &str = "8@$9 8f@%xmm0";

/// `mov edi, 5`, the two places of the probe `skep:start`, then an exit whose status is the probe's semaphore.
const CODE: &[u8] = &[
    0xbf, 0x05, 0x00, 0x00, 0x00, // mov edi, 5
    0x90, // nop
    0x90, // nop
    0x0f, 0xb7, 0x3c, 0x25, 0x00, 0x10, 0x40, 0x00, // movzx edi, word [DATA]
    0xb8, 0x3c, 0x00, 0x00, 0x00, // mov eax, 60
    0x0f, 0x05, // syscall
];
const CODE_AT: u64 = 0x100;

fn note(address: u64, args: &str) -> Vec<u8> {
    let mut desc = Vec::new();
    for word in [address, 0, DATA] {
        desc.extend_from_slice(&word.to_le_bytes());
    }
    for text in ["skep", "start", args] {
        desc.extend_from_slice(text.as_bytes());
        desc.push(0);
    }
    let mut note = Vec::new();
    for word in [8, desc.len() as u32, 3] {
        note.extend_from_slice(&word.to_le_bytes());
    }
    note.extend_from_slice(b"stapsdt\0");
    note.extend(desc);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

/// A static ELF program: one piece of code, one of data, and a section of notes.
fn program() -> Vec<u8> {
    let mut notes = note(TEXT + CODE_AT + 5, FIRST);
    notes.extend(note(TEXT + CODE_AT + 6, SECOND));
    let names = b"\0.note.stapsdt\0.shstrtab\0";
    let (notes_at, names_at, sections_at, data_at) = (0x200u64, 0x380u64, 0x400u64, 0x1000u64);
    let mut file = vec![0u8; 0x1010];
    let mut put = |at: u64, bytes: &[u8]| file[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    let words = |half: &[u16], word: &[u32], long: &[u64]| -> Vec<u8> {
        let mut bytes: Vec<u8> = half.iter().flat_map(|x| x.to_le_bytes()).collect();
        bytes.extend(word.iter().flat_map(|x| x.to_le_bytes()));
        bytes.extend(long.iter().flat_map(|x| x.to_le_bytes()));
        bytes
    };
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &words(&[2, 62], &[1], &[TEXT + CODE_AT, 64, sections_at])); // ET_EXEC, EM_X86_64
    put(48, &words(&[], &[0], &[]));
    put(52, &words(&[64, 56, 2, 64, 3, 2], &[], &[]));
    put(64, &words(&[], &[1, 5], &[0, TEXT, TEXT, 0x500, 0x500, 0x1000])); // PT_LOAD, read and execute
    put(120, &words(&[], &[1, 6], &[data_at, DATA, DATA, 0x10, 0x10, 0x1000])); // PT_LOAD, read and write
    put(CODE_AT, CODE);
    put(notes_at, &notes);
    put(names_at, names);
    let section = |name: u32, kind: u32, at: u64, len: usize| {
        let mut bytes = words(&[], &[name, kind], &[0, 0, at, len as u64]);
        bytes.extend(words(&[], &[0, 0], &[4, 0]));
        bytes
    };
    put(sections_at + 64, &section(1, 7, notes_at, notes.len())); // SHT_NOTE
    put(sections_at + 128, &section(15, 3, names_at, names.len())); // SHT_STRTAB
    file
}

/// The program as a file, which goes away with this.
struct Probed(PathBuf);

impl Probed {
    fn new(name: &str) -> Probed {
        let path = std::env::temp_dir().join(format!("skep-usdt-{}-{name}", std::process::id()));
        fs::write(&path, program()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Probed(path)
    }

    /// Runs it; its exit code is its semaphore.
    fn run(&self) -> i32 {
        let mut status = None;
        wait_until("the program to be executable", || {
            match Command::new(&self.0).status() {
                Ok(ended) => status = Some(ended),
                // Another thread forked while the file was still open for writing, and has not yet called exec.
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
                Err(error) => panic!("{error}"),
            }
            status.is_some()
        });
        status.and_then(|status| status.code()).unwrap()
    }
}

impl Drop for Probed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn recipe(path: &Path) -> Recipe {
    let point =
        AttachPoint::Usdt { path: path.display().to_string(), provider: "skep".to_owned(), name: "start".to_owned() };
    Recipe::new("usdt/x", ProgType::KPROBE, point).reading_cookie()
}

fn maps() -> (MapFd, MapFd) {
    let specs = MapCreate {
        map_type: 2,
        key_size: 4,
        value_size: SPEC_LEN_BYTES as u32,
        max_entries: 3,
        ..MapCreate::default()
    };
    let ips = MapCreate { map_type: 1, key_size: 8, value_size: 4, max_entries: 4, ..MapCreate::default() };
    (specs.create().unwrap(), ips.create().unwrap())
}

#[test]
fn the_sites_of_a_file_are_listed() {
    let probed = Probed::new("list");
    let sites = usdt::sites(&Binary::open(&probed.0).unwrap()).unwrap();
    let lines: Vec<String> = sites
        .iter()
        .map(|site| {
            let semaphore = site.semaphore_off_bytes.unwrap();
            format!("{}:{} {:#x} {semaphore:#x} {}", site.provider, site.name, site.off_bytes, site.args)
        })
        .collect();
    assert_eq!(lines, [format!("skep:start 0x105 0x1000 {FIRST}"), format!("skep:start 0x106 0x1000 {SECOND}"),]);
}

/// Attaches, runs the program, and checks all that the kernel and the maps were told.
fn check(recipe: Recipe, name: &str, places: usize) {
    let probed = Probed::new(name);
    let mut recipe = recipe;
    if let AttachPoint::Usdt { path, .. } = &mut recipe.point {
        *path = probed.0.display().to_string();
    }
    let counter = recipe.load();
    assert_eq!(probed.run(), 0, "the semaphore is up before anybody asks");
    let (specs, ip_to_spec_id) = maps();
    let ids = UsdtIds::default();
    let usdt = Some(UsdtMaps { specs: &specs, ip_to_spec_id: &ip_to_spec_id, ids: &ids });
    let options = Options { usdt, cookie: 0xabc, ..Options::default() };
    let attachment = counter.attached(&options);
    // One link and one lease for each description, or two links.
    assert_eq!(attachment.places(), places);
    assert_eq!(attachment.notes(), ["skep:start: argument 1 (`8f@%xmm0`) is in a place that BPF cannot read"]);
    assert!(probed.run() > 0, "the semaphore is not up");
    assert_eq!((counter.runs(), counter.cookie()), (2, 1));
    for (id, args) in [(0u32, FIRST), (1, SECOND)] {
        let mut value = [0; SPEC_LEN_BYTES];
        specs.lookup(&id.to_ne_bytes(), &mut value, 0).unwrap();
        assert_eq!(value, Args::parse(Machine::X86_64, args).encode(0xabc), "{args}");
    }
    // There are three places for descriptions, and two are taken.
    let error = counter.refused(&options);
    assert!(error.hint().is_some_and(|hint| hint.contains("BPF_USDT_MAX_SPEC_CNT")), "{}", words(&error));
    detached(attachment);
    assert_eq!(probed.run(), 0, "the semaphore stays up");
    assert_eq!(counter.runs(), 2);
    detached(counter.attached(&options));
}

#[test]
fn a_usdt_probe_runs_at_each_of_its_places() {
    if !root() {
        return;
    }
    check(recipe(Path::new("")), "single", 2);
}

#[test]
fn a_usdt_probe_is_one_link_where_the_kernel_can() {
    if !root() {
        return;
    }
    if KernelVersion::running() < KernelVersion::new(6, 6, 0) {
        return skip("kernel 6.6 (uprobe.multi)");
    }
    check(recipe(Path::new("")).attach_type(AttachType::TRACE_UPROBE_MULTI), "multi", 1);
}

#[test]
fn an_absent_probe_names_what_there_is() {
    if !root() {
        return;
    }
    let probed = Probed::new("absent");
    let point = |name: &str| AttachPoint::Usdt {
        path: probed.0.display().to_string(),
        provider: "skep".to_owned(),
        name: name.to_owned(),
    };
    for (name, hint) in [("strat", "`skep:start`"), ("something_else", "skep:start")] {
        let error = Recipe::new("usdt/x", ProgType::KPROBE, point(name)).load().refused(&Options::default());
        assert!(error.hint().is_some_and(|text| text.contains(hint)), "{}", words(&error));
    }
    let none = Options { binary: Some(Path::new("/proc/self/exe")), ..Options::default() };
    let error = Recipe::new("usdt/x", ProgType::KPROBE, point("start")).load().refused(&none);
    assert!(error.to_string().contains("USDT"), "{}", words(&error));
}

/// A probe of a library that is mapped straight out of an archive is one of the archive, further back.
#[test]
fn places_in_a_member_of_an_archive_count_from_its_start() {
    if !root() {
        return;
    }
    let zip = std::env::temp_dir().join(format!("skep-usdt-{}.zip", std::process::id()));
    fs::write(&zip, archive::stored(&[("readme", b"x"), ("bin/program", &program())], 4096)).unwrap();
    let member = PathBuf::from(format!("{}!/bin/program", zip.display()));
    let sites = usdt::sites(&Binary::open(&member).unwrap()).unwrap();
    let places: Vec<(u64, Option<u64>)> = sites.iter().map(|site| (site.off_bytes, site.semaphore_off_bytes)).collect();
    assert_eq!(places, [(0x2105, Some(0x3000)), (0x2106, Some(0x3000))]);
    let attachment = recipe(&member).load().attached(&Options::default());
    assert_eq!(attachment.describe(), format!("usdt {}:skep:start (2 places)", member.display()));
    detached(attachment);
    // By an offset in the member, which is not the one in the archive; the end of the archive is no code.
    let uprobe = |off_bytes: u64| {
        let path = member.display().to_string();
        let point = AttachPoint::Uprobe { path, function: String::new(), off_bytes, ret: false };
        Recipe::new("uprobe/x", ProgType::KPROBE, point).load()
    };
    // Where no semaphore is counted: the kernel refuses a second probe of a place that names another semaphore than the first, and
    // a process that another test just forked may hold the first one open for a moment longer.
    let attachment = uprobe(0x107).attached(&Options::default());
    assert_eq!(attachment.describe(), format!("uprobe {}:0x107", member.display()));
    detached(attachment);
    uprobe(1 << 40).refused(&Options::default());
    let missing = format!("{}!/bin/prog", zip.display());
    let error = recipe(Path::new(&missing)).load().refused(&Options::default());
    assert!(error.to_string().contains("no `bin/prog` in `"), "{}", words(&error));
    fs::remove_file(zip).unwrap();
}

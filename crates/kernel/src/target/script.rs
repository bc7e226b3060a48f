//! What scripts ask of the live kernel: probes, binaries, cgroups, files.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use skep_btf::Btf;
use skep_script::target::{BpfFunction, DebugInfo, KernelFunction, Target, UsdtProbe, UserFunction, UserSymbol};
use skep_spec::target::TargetError;
use skep_sys::tracefs::Tracefs;
use skep_sys::{Errno, cpu};

use super::{LiveTarget, formats, programs};
use crate::attach::functions;
use crate::uprobe::elf::{self, Binary};
use crate::uprobe::{debug, search, usdt};

/// The largest file that a script may include or import: nobody writes one, and `/dev/zero` has no end.
const FILE_LEN_BYTES: u64 = 64 << 20;

impl Target for LiveTarget {
    fn tracepoint_format(&self, category: &str, event: &str) -> Result<Option<String>, TargetError> {
        let tracefs = match tracefs() {
            Ok(tracefs) => tracefs,
            // What a tracer without rights can see can be told without them, too.
            Err(refused) => return known_format(self, category, event).map(Some).ok_or(refused),
        };
        match tracefs.format(category, event) {
            Ok(text) => Ok(Some(text)),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::EACCES | Errno::EPERM) => match known_format(self, category, event) {
                Some(text) => Ok(Some(text)),
                None => Err(format!("cannot read the format of tracepoint {category}:{event}: only root may").into()),
            },
            Err(errno) => Err(format!("cannot read the format of tracepoint {category}:{event}: {errno}").into()),
        }
    }

    fn tracepoints(&self) -> Result<Vec<String>, TargetError> {
        let list = tracefs().and_then(|tracefs| {
            let list = tracefs.read("available_events");
            list.map_err(|errno| format!("cannot list the kernel's tracepoints: {errno}").into())
        });
        let mut names: Vec<String> = match list {
            Ok(list) => list.lines().map(str::to_owned).collect(),
            Err(_) => formats::names(),
        };
        names.sort_unstable();
        Ok(names)
    }

    fn kernel_functions(&self) -> Result<Vec<KernelFunction>, TargetError> {
        let listed = self.0.functions.get_or_init(|| match functions::all() {
            Ok(list) => Ok(list.into_iter().map(|(module, name)| KernelFunction { module, name }).collect()),
            Err(error) => Err(format!("cannot list the kernel's functions: {error}")),
        });
        listed.clone().map_err(Into::into)
    }

    fn user_functions(&self, binary: &Path) -> Result<Vec<UserFunction>, TargetError> {
        let places = Binary::open(binary)?.functions()?;
        Ok(places.into_iter().map(|place| UserFunction { name: place.name, off_bytes: place.off_bytes }).collect())
    }

    fn usdt_probes(&self, binary: &Path) -> Result<Vec<UsdtProbe>, TargetError> {
        let sites = usdt::sites(&Binary::open(binary)?)?;
        let mut probes: Vec<UsdtProbe> = sites
            .into_iter()
            .map(|site| UsdtProbe {
                args: skep_binary::usdt_args::count(&site.args),
                provider: site.provider,
                name: site.name,
            })
            .collect();
        // The place with the most arguments stands last, and stays.
        probes.sort_unstable_by(|a, b| b.cmp(a));
        probes.dedup_by(|next, first| (&next.provider, &next.name) == (&first.provider, &first.name));
        probes.reverse();
        Ok(probes)
    }

    fn binary(&self, name: &str, pid: Option<u32>) -> Result<Option<PathBuf>, TargetError> {
        // What a process runs has a path of its own, which people know it by.
        if let Some(pid) = pid.filter(|pid| name == format!("/proc/{pid}/exe"))
            && let Ok(path) = fs::read_link(name)
            && let Ok(found) = search::resolve(&path.to_string_lossy(), Some(pid))
        {
            return Ok(Some(found));
        }
        Ok(search::resolve(name, pid).ok())
    }

    fn user_symbol(&self, binary: &Path, name: &str) -> Result<Option<UserSymbol>, TargetError> {
        let binary = Binary::open(binary)?;
        let Some((address, size_bytes)) = binary.symbol(name)? else { return Ok(None) };
        let code_start = match binary.is_relocated()? {
            true => binary.segments()?.iter().filter(|segment| segment.executable).map(|segment| segment.address).min(),
            false => None,
        };
        Ok(Some(UserSymbol { address, size_bytes, code_start }))
    }

    fn file_offset(&self, binary: &Path, address: u64) -> Result<Option<u64>, TargetError> {
        let binary = Binary::open(binary)?;
        let found = elf::file_offset(&binary.segments()?, address);
        // Segments count from the start of an archive, attaching from that of its member.
        Ok(found.filter(|(_, code)| *code).map(|(off, _)| off.saturating_sub(binary.start())))
    }

    fn instruction_at(&self, binary: &Path, address: u64, off: u64) -> Result<Option<u64>, TargetError> {
        Ok(Binary::open(binary)?.instruction_at(address, off)?)
    }

    fn debug_info(&self, binary: &Path) -> Result<Option<Rc<dyn DebugInfo>>, TargetError> {
        Ok(debug::find(binary)?.map(|found| Rc::new(found) as Rc<dyn DebugInfo>))
    }

    fn bpf_functions(&self) -> Result<Vec<BpfFunction>, TargetError> {
        programs::functions()
    }

    fn bpf_program_btf(&self, program: u32) -> Result<Option<Btf>, TargetError> {
        programs::btf(program)
    }

    fn cgroup_id(&self, path: &Path) -> Result<u64, TargetError> {
        const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
        let shown = path.display();
        let folder = fs::File::open(path).map_err(|error| format!("cannot open cgroup `{shown}`: {error}"))?;
        let kind = rustix::fs::fstatfs(&folder).map_err(|error| format!("cannot look at `{shown}`: {error}"))?;
        if kind.f_type as i64 != CGROUP2_SUPER_MAGIC {
            return Err(format!("`{shown}` is no folder of a cgroup v2 file system").into());
        }
        Ok(folder.metadata().map_err(|error| format!("cannot look at `{shown}`: {error}"))?.ino())
    }

    fn read_file(&self, path: &Path) -> Result<String, TargetError> {
        use std::io::Read;
        let shown = path.display();
        let cannot = |why: &dyn std::fmt::Display| format!("cannot read `{shown}`: {why}");
        let mut text = String::new();
        let file = fs::File::open(path).map_err(|error| cannot(&skep_sys::io_text(&error)))?;
        let read = file.take(FILE_LEN_BYTES + 1).read_to_string(&mut text);
        read.map_err(|error| cannot(&skep_sys::io_text(&error)))?;
        if text.len() as u64 > FILE_LEN_BYTES {
            return Err(cannot(&"it has more than 64 MB").into());
        }
        Ok(text)
    }

    fn list_dir(&self, path: &Path) -> Result<Option<Vec<PathBuf>>, TargetError> {
        let cannot = |error: std::io::Error| format!("cannot list `{}`: {error}", path.display());
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), ErrorKind::NotADirectory | ErrorKind::NotFound) => return Ok(None),
            Err(error) => return Err(cannot(error).into()),
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(cannot)?.path();
            if path.is_file() {
                files.push(path);
            }
        }
        files.sort_unstable();
        Ok(Some(files))
    }

    fn list_folders(&self, path: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(path).into_iter().flatten();
        let mut folders: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
        folders.sort_unstable();
        folders
    }

    fn possible_cpus(&self) -> u32 {
        cpu::possible_count() as u32
    }

    fn has_helper(&self, helper: u32) -> bool {
        self.features().has_helper(helper)
    }
}

fn known_format(target: &LiveTarget, category: &str, event: &str) -> Option<String> {
    formats::format(skep_spec::Target::btf(target).ok()?.as_ref(), category, event)
}

fn tracefs() -> Result<&'static Tracefs, TargetError> {
    Tracefs::shared().map_err(|errno| match errno {
        Errno::EPERM | Errno::EACCES => {
            "only root may look at tracefs; `skep list 'tracepoint:*'` shows those that are known without it".into()
        }
        errno => format!("cannot look at tracefs: {errno}").into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_tell_their_functions_and_symbols() {
        let target = LiveTarget::shared();
        let me = std::env::current_exe().unwrap();
        let functions = target.user_functions(&me).unwrap();
        assert!(functions.is_sorted());
        assert!(functions.iter().any(|function| function.name == "main"), "{}", functions.len());
        let main = target.user_symbol(&me, "main").unwrap().expect("every program has one");
        assert!(main.address > 0 && main.size_bytes > 0);
        let in_file = functions.iter().find(|function| function.name == "main").map(|function| function.off_bytes);
        assert_eq!(target.file_offset(&me, main.address).unwrap(), in_file);
        assert_eq!(target.file_offset(&me, u64::MAX).unwrap(), None);
        assert_eq!(target.user_symbol(&me, "no_such_symbol").unwrap(), None);
        assert_eq!(target.binary("no-such-binary", None).unwrap(), None);
        assert!(target.user_functions(Path::new("/etc/passwd")).is_err());
    }

    #[test]
    fn files_are_read_up_to_a_bound() {
        let target = LiveTarget::shared();
        assert!(target.read_file(Path::new("/proc/self/status")).unwrap().starts_with("Name:"));
        assert!(target.read_file(Path::new("/no/such/file")).unwrap_err().to_string().contains("/no/such/file"));
        assert!(target.read_file(Path::new("/dev/zero")).is_err());
        assert!(target.list_dir(Path::new("/proc/self")).unwrap().unwrap().contains(&"/proc/self/status".into()));
        assert_eq!(target.list_dir(Path::new("/proc/self/status")).unwrap(), None);
        assert!(target.cgroup_id(Path::new("/")).unwrap_err().to_string().contains("no folder of a cgroup"));
    }

    #[test]
    fn tracepoints_are_listed_and_described() {
        let target = LiveTarget::shared();
        let Ok(names) = target.tracepoints() else {
            println!("skipped: needs tracefs");
            return;
        };
        assert!(names.is_sorted() && names.iter().any(|name| name == "sched:sched_switch"));
        assert!(target.tracepoint_format("sched", "sched_switch").unwrap().unwrap().contains("next_pid"));
        assert_eq!(target.tracepoint_format("sched", "no_such_event").unwrap(), None);
        assert!(target.kernel_functions().unwrap().iter().any(|function| function.module == "vmlinux"));
    }
}

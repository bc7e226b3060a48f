//! Running loader programs ([`skep_spec::loader`]): the kernel makes the maps and loads the programs of an object by itself.
//!
//! What is left for user space: one map with the data, one program, one run, and taking the descriptors over. Before that the
//! data is fitted to the machine where the loader program leaves room for it: sizes of maps that depend on pages and CPUs,
//! values of the kernel's configuration, and the first values of globals, which a user may have set.
//!
//! Needs kernel 5.14, and 5.17 for objects with CO-RE records.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;

use skep_engine::{Engine, Error, ErrorKind, HeldCommand, LoadOptions, Loaded, Session};
use skep_insn::Endian;
use skep_spec::digest::program_digest;
use skep_spec::loader::{CTX_FDS, CTX_LOG, LoaderProgram, Step};
use skep_spec::map::MapOrigin;
use skep_spec::{MapId, MapType, ProgType, Spec};
use skep_sys::bpf::{LoaderRun, Log, LogLevel, MapCreate, MapFd, ProgFd, ProgLoad};
use skep_sys::version::KernelVersion;
use skep_sys::{Errno, memlock};

use crate::command;
use crate::load::maps::known;
use crate::load::shape::{Shape, kernel_name};
use crate::load::{Objects, bind_rodata, unresolved, verdict};
use crate::map::failed;
use crate::permission::{self, Tried};
use crate::session::KernelSession;
use crate::target::LiveTarget;

/// The running kernel, which loads one object by the loader program that was made of it.
#[derive(Clone, Debug)]
pub struct LoaderEngine {
    loader: LoaderProgram,
    keyring: i32,
    target: LiveTarget,
}

/// The keyring of the session (`KEY_SPEC_SESSION_KEYRING`, include/uapi/linux/keyctl.h), to which everybody may add certificates.
pub const SESSION_KEYRING: i32 = -3;

/// Room for the verifier's log of the program that is refused.
const LOG_BYTES: usize = 1 << 20;

impl LoaderEngine {
    /// For the object that `loader` was made of.
    pub fn new(loader: LoaderProgram) -> LoaderEngine {
        LoaderEngine { loader, keyring: SESSION_KEYRING, target: LiveTarget::shared() }
    }

    /// Has the signature checked against another keyring than that of the session: one by its number, or 0, 1 and 2 for the kernel's own:
    /// with which it was built, with what was added to them, and those of the platform.
    #[must_use]
    pub fn with_keyring(self, keyring: i32) -> LoaderEngine {
        LoaderEngine { keyring, ..self }
    }

    /// Runs the loader program. Of the options only the size of perf buffers means something here. `spec` says what programs and maps are called and where they attach, and has the first values of
    /// globals; its instructions are not looked at.
    ///
    /// # Errors
    ///
    /// When the kernel is too old, a right is missing, or any step fails: a loader program loads all or nothing. Also when
    /// `spec` is another object than the loader program was made of.
    pub fn load(&self, spec: Spec, options: &LoadOptions) -> Result<KernelSession, Error> {
        let data = self.fit(&spec)?;
        let blob = self.blob(&data)?;
        let program = self.program(&blob)?;
        let run = self.run(&program, None)?;
        if run.run.retval < 0 {
            // Nothing is left of the first attempt when the second begins.
            drop(run.run.fds);
            return Err(self.explain(&spec, &data, run.step, Errno::from_raw(-run.run.retval)));
        }
        drop((blob, program));
        self.session(spec, run.run.fds, options.perf_buffer_bytes)
    }

    /// The data as this machine wants it.
    fn fit(&self, spec: &Spec) -> Result<Vec<u8>, Error> {
        let other = || Error::new("the loader program was made of another object").with_hint("build the file again");
        if self.loader.maps.len() != spec.maps.len() || self.loader.programs as usize != spec.programs.len() {
            return Err(other());
        }
        if self.loader.seal.is_some() {
            return self.sealed(spec);
        }
        let mut data = self.loader.data.clone();
        let configuration = self.configuration(spec)?;
        let mut put = |at: u32, bytes: &[u8]| {
            let at = at as usize;
            data.get_mut(at..at + bytes.len()).map(|place| place.copy_from_slice(bytes)).ok_or_else(other)
        };
        for ((id, map), place) in spec.maps().zip(&self.loader.maps) {
            let Some(place) = place else { continue };
            let shape = Shape::of(map);
            let words = [shape.map_type.0, shape.key_size, shape.value_size, shape.max_entries, shape.flags];
            for (at, word) in (place.attr_off..).step_by(4).zip(words) {
                put(at, &word.to_ne_bytes())?;
            }
            let mut name = [0; 16];
            for (to, byte) in name[..15].iter_mut().zip(kernel_name(&spec.name, map).bytes()) {
                *to = if byte.is_ascii_alphanumeric() || byte == b'.' { byte } else { b'_' };
            }
            put(place.attr_off + 28, &name)?;
            if let Some((at, len)) = place.value {
                let known = configuration.iter().find(|(of, _)| *of == id).map(|(_, value)| value.clone());
                let mut value = known.or_else(|| map.initial_value()).unwrap_or_default();
                if len != map.value_size {
                    return Err(other());
                }
                value.resize(len as usize, 0);
                put(at, &value)?;
            }
        }
        Ok(data)
    }

    /// The data as it was sealed, if that is what is asked for.
    fn sealed(&self, spec: &Spec) -> Result<Vec<u8>, Error> {
        if KernelVersion::running() < KernelVersion::new(6, 18, 0) {
            return Err(Error::new("the loader program is sealed, which needs kernel 6.18")
                .with_kind(ErrorKind::Unsupported)
                .with_hint("build it without a seal, or load the object that it was made of"));
        }
        for ((_, map), place) in spec.maps().zip(&self.loader.maps) {
            let Some((at, len)) = place.and_then(|place| place.value) else { continue };
            let mut value = map.initial_value().unwrap_or_default();
            value.resize(len as usize, 0);
            let sealed = self.loader.data.get(at as usize..at as usize + len as usize);
            if sealed != Some(&value) {
                return Err(Error::new(format!(
                    "the loader program is sealed: values of `{}` cannot be set",
                    map.name
                ))
                .with_hint("build it without a seal, or with these values in the source"));
            }
        }
        Ok(self.loader.data.clone())
    }

    /// The values of this kernel's configuration that the object asks for, by their map.
    fn configuration(&self, spec: &Spec) -> Result<Vec<(MapId, Vec<u8>)>, Error> {
        if !spec.maps.iter().any(|map| map.autocreate && map.origin == MapOrigin::Kconfig) {
            return Ok(Vec::new());
        }
        let resolved = skep_spec::resolve::resolve(spec, &self.target);
        // All or nothing: a program that lacks a value would read zero.
        match resolved.programs.into_iter().find_map(|(_, program)| program.err()) {
            Some(reason) => Err(unresolved(reason)),
            None => Ok(resolved.contents),
        }
    }

    fn blob(&self, data: &[u8]) -> Result<MapFd, Error> {
        let only = self.loader.seal.is_some().then(|| program_digest(&self.loader.insns));
        let create = MapCreate {
            map_type: MapType::ARRAY.0,
            key_size: 4,
            value_size: data.len() as u32,
            max_entries: 1,
            name: "__loader.map",
            // Nobody else may change what was sealed.
            exclusive_hash: only.as_ref(),
            ..MapCreate::default()
        };
        let mut made = create.create();
        if matches!(made, Err(Errno::EPERM)) && memlock::is_counted() && memlock::lift().is_ok() {
            made = create.create();
        }
        let what =
            |errno| permission::explained(failed("cannot make the data of the loader program", errno), Tried::Map);
        let map = made.map_err(what)?;
        map.update(&0u32.to_ne_bytes(), data, 0).map_err(what)?;
        if self.loader.seal.is_some() {
            // The program compares what the kernel computes now.
            map.freeze().and_then(|()| map.digest()).map_err(what)?;
        }
        Ok(map)
    }

    fn program(&self, blob: &MapFd) -> Result<ProgFd, Error> {
        const SLEEPABLE: u32 = 1 << 4;
        let insns = skep_insn::slots_to_bytes(&self.loader.insns, Endian::NATIVE);
        let fds = [blob.as_fd().as_raw_fd()];
        let signature = self.loader.seal.as_ref().map_or(&[][..], |seal| &seal.signature);
        let attempt = |log: Option<Log<'_>>| {
            ProgLoad {
                prog_type: ProgType::SYSCALL.0,
                insns: &insns,
                license: c"GPL",
                name: "__loader.prog",
                prog_flags: SLEEPABLE,
                fd_array: &fds,
                signature,
                keyring: self.keyring,
                log,
                ..ProgLoad::default()
            }
            .load()
            .0
        };
        attempt(None).map_err(|errno| {
            if KernelVersion::running() < KernelVersion::new(5, 14, 0) {
                return failed("cannot load the loader program", errno)
                    .with_kind(ErrorKind::Unsupported)
                    .with_hint("loader programs need kernel 5.14: load the object itself");
            }
            if !signature.is_empty()
                && let Some(error) = self.unverified(errno)
            {
                return error;
            }
            let mut buf = vec![0; LOG_BYTES];
            let _ = attempt(Some(Log { level: LogLevel::BRIEF, buf: &mut buf }));
            let error = failed("cannot load the loader program", errno).with_log(text(&buf));
            if errno == Errno::EPERM { permission::explained(error, Tried::Program(ProgType::SYSCALL)) } else { error }
        })
    }

    /// What the kernel means that was given a signature; `None` when that need not be the reason.
    fn unverified(&self, errno: Errno) -> Option<Error> {
        let error = failed("the kernel does not take the signature of the loader program", errno);
        let add = "add it with `keyctl padd asymmetric '' @s < CERT.der`, or name another keyring with `--keyring`";
        Some(match errno {
            Errno::EOPNOTSUPP => error.with_kind(ErrorKind::Unsupported).with_hint(
                "it was built without CONFIG_SYSTEM_DATA_VERIFICATION: load the object, or seal it without a signature",
            ),
            Errno::ENOKEY => error.with_hint(format!("no keyring has the signer's certificate: {add}")),
            Errno::EKEYREJECTED | Errno::EBADMSG => error.with_hint(
                "it is of other instructions, or by another key: sign what `--to-sign` writes, and build again",
            ),
            Errno::ENOPKG => error
                .with_hint("it uses an algorithm that this kernel was built without: RSA with SHA-256 is everywhere"),
            _ => return None,
        })
    }

    fn run(&self, program: &ProgFd, log: Option<Log<'_>>) -> Result<Run, Error> {
        let mut ctx = vec![0; self.loader.context_len()];
        // No step was begun, and there is no descriptor.
        ctx[..4].fill(0xff);
        ctx[CTX_FDS as usize..].fill(0xff);
        let run = program
            .run_loader(&mut ctx, CTX_LOG as usize, CTX_FDS as usize, log)
            .map_err(|errno| failed("cannot run the loader program", errno))?;
        let step = ctx.first_chunk().map_or(0, |step| u32::from_ne_bytes(*step));
        Ok(Run { run, step })
    }

    /// Why a step failed. A program that is refused is loaded once more, with a log.
    fn explain(&self, spec: &Spec, data: &[u8], step: u32, errno: Errno) -> Error {
        let map = |what: &str, id: skep_spec::MapId| {
            let name = spec.maps.get(id.0 as usize).map_or("", |map| map.name.as_str());
            failed(&format!("{what} map `{name}`"), errno)
        };
        let program = |id: skep_spec::ProgId| spec.programs.get(id.0 as usize);
        match self.loader.steps.get(step as usize) {
            Some(Step::Types) => failed("the kernel refuses the object's types", errno),
            Some(Step::Map(id)) => map("cannot create", *id),
            Some(Step::Contents(id)) => map("cannot fill", *id),
            Some(Step::Slot(id)) => map("cannot fill a slot of", *id),
            Some(Step::Extern(id)) => {
                let name = spec.externs.get(id.0 as usize).map_or("", |it| it.name.as_str());
                failed(&format!("extern `{name}`: this kernel has no such symbol"), errno)
            }
            Some(Step::Place(id)) => {
                let (name, section) = program(*id).map_or(("", ""), |it| (&it.name, &it.section));
                failed(
                    &format!("program `{name}` ({section}): this kernel has nothing of that name to attach to"),
                    errno,
                )
            }
            Some(Step::Program(id)) => {
                let mut log = vec![0; LOG_BYTES];
                if let Ok(blob) = self.blob(data)
                    && let Ok(loader) = self.program(&blob)
                {
                    let _ = self.run(&loader, Some(Log { level: LogLevel::BRIEF, buf: &mut log }));
                }
                let resolved = skep_spec::resolve::resolve(spec, &self.target);
                let known = resolved.programs.into_iter().find(|(other, _)| other == id);
                match (program(*id), known) {
                    (Some(program), Some((_, Ok(resolved)))) => {
                        verdict::explain(spec, program, &resolved, errno, &text(&log))
                    }
                    (Some(program), _) => failed(&format!("the kernel refuses program `{}`", program.name), errno),
                    (None, _) => failed("the kernel refuses a program", errno),
                }
            }
            None if self.loader.seal.is_some() => {
                failed("the loader program is sealed, and its data is not what it was", errno)
                    .with_hint("build it again")
            }
            None => failed("the loader program fails", errno),
        }
    }

    /// What was made, as a session.
    fn session(&self, spec: Spec, fds: Vec<Option<OwnedFd>>, perf_bytes: usize) -> Result<KernelSession, Error> {
        let mut fds = fds.into_iter();
        let mut objects = Objects::default();
        for (map, place) in spec.maps.iter().zip(&self.loader.maps) {
            let fd = fds.next().flatten().filter(|_| place.is_some());
            let fd =
                fd.map(MapFd::from_fd).transpose().map_err(|errno| failed("the loader program made no map", errno))?;
            objects.maps.push(fd.map(|fd| known(fd, map)).transpose()?);
        }
        for (id, program) in spec.programs() {
            let fd = fds.next().flatten();
            let fd = fd
                .map(ProgFd::from_fd)
                .transpose()
                .map_err(|errno| failed("the loader program made no program", errno))?;
            if let Some(fd) = &fd {
                bind_rodata(&spec, &objects.maps, fd);
                let slots = spec.function(program.entry).insns.len() as u32;
                objects.loaded.push(Loaded { program: id, result: Ok(slots), log: None });
            }
            objects.programs.push(fd);
        }
        Ok(KernelSession::new(spec, self.target.clone(), objects, perf_bytes))
    }
}

/// A run, and the step that it came to.
struct Run {
    run: LoaderRun,
    step: u32,
}

fn text(log: &[u8]) -> String {
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    String::from_utf8_lossy(&log[..end]).into_owned()
}

impl Engine for LoaderEngine {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn load(&self, spec: Spec, options: &LoadOptions) -> Result<Box<dyn Session>, Error> {
        Ok(Box::new(LoaderEngine::load(self, spec, options)?))
    }

    fn hold(&self, command: Command) -> Result<Box<dyn HeldCommand>, Error> {
        command::hold(command)
    }

    fn watch(&self, _: u32) -> Result<(), Error> {
        Ok(())
    }
}

//! A loaded program.

use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use skep_engine::{ErrorKind, ProgId, Session};
use skep_kernel::info::{ProgramCode, ProgramInfo};
use skep_kernel::program::{self, KernelProgram};
use skep_spec::ProgType;

use crate::{AttachOptions, Error, Link, Map, ProgramStats, TestRun, TestRunOutput};

/// A program of a [`Loaded`](crate::Loaded) object, or one that is in the kernel already.
#[derive(Clone)]
pub struct Program<'a> {
    place: Place<'a>,
}

#[derive(Clone)]
enum Place<'a> {
    Session(&'a dyn Session, ProgId),
    Kernel(Arc<KernelProgram>),
}

impl std::fmt::Debug for Program<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Program").field(&self.name()).finish()
    }
}

impl Program<'static> {
    /// A program that is pinned in a bpffs.
    ///
    /// ```no_run
    /// use skep::{AttachOptions, Program};
    ///
    /// # fn main() -> Result<(), skep::Error> {
    /// let program = Program::from_pinned("/sys/fs/bpf/my_filter")?;
    /// let options = AttachOptions { interface: Some("eth0".into()), ..AttachOptions::default() };
    /// let link = program.attach_as("xdp", &options)?;
    /// # drop(link);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When there is nothing at `path`, or something else.
    pub fn from_pinned(path: impl AsRef<Path>) -> Result<Program<'static>, Error> {
        KernelProgram::from_pinned(path.as_ref()).map(Program::of)
    }

    /// As [`Program::from_pinned`], and of this type.
    ///
    /// # Errors
    ///
    /// As [`Program::from_pinned`], and when it is of another type.
    pub fn from_pinned_as(path: impl AsRef<Path>, prog_type: ProgType) -> Result<Program<'static>, Error> {
        let path = path.as_ref();
        let program = KernelProgram::from_pinned(path)?;
        let there = program.prog_type();
        if there == prog_type {
            return Ok(Program::of(program));
        }
        let (path, name) = (path.display(), program.name());
        Err(Error::new(format!("program `{name}`, pinned at {path}, is of type {there} and not {prog_type}")))
    }

    /// A program by a descriptor from elsewhere: another process, a parent.
    ///
    /// # Errors
    ///
    /// When it is no program.
    pub fn from_fd(fd: OwnedFd) -> Result<Program<'static>, Error> {
        KernelProgram::from_fd(fd).map(Program::of)
    }

    /// A program by its id, as `bpftool prog` numbers them. Needs `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    ///
    /// When there is none of that id, or the right is missing.
    pub fn from_id(id: u32) -> Result<Program<'static>, Error> {
        KernelProgram::from_id(id).map(Program::of)
    }

    /// Every program on the machine, in the order of ids, whoever loaded it. Needs `CAP_SYS_ADMIN`. What goes away while it is
    /// listed is passed over.
    pub fn all() -> impl Iterator<Item = Result<Program<'static>, Error>> {
        program::all().map(|program| program.map(Program::of))
    }

    pub(crate) fn of(program: KernelProgram) -> Program<'static> {
        Program { place: Place::Kernel(Arc::new(program)) }
    }
}

impl<'a> Program<'a> {
    pub(crate) fn new(session: &'a dyn Session, id: ProgId) -> Result<Program<'a>, Error> {
        match session.programs().iter().find(|loaded| loaded.program == id).map(|loaded| &loaded.result) {
            Some(Ok(_)) => Ok(Program { place: Place::Session(session, id) }),
            Some(Err(error)) => Err(error.clone()),
            None => {
                let name = &session.spec().program(id).name;
                Err(Error::new(format!("program `{name}` was switched off before the object was loaded")))
            }
        }
    }

    /// Its name. The kernel keeps 15 bytes of it, and those are what a program has that was pinned.
    pub fn name(&self) -> &str {
        match &self.place {
            Place::Session(session, id) => &session.spec().program(*id).name,
            Place::Kernel(program) => program.name(),
        }
    }

    /// Its number, when it is one of this session.
    pub(crate) fn id_in(&self, session: &dyn Session) -> Option<ProgId> {
        match &self.place {
            Place::Session(own, id) if std::ptr::addr_eq(*own, session) => Some(*id),
            _ => None,
        }
    }

    /// Its descriptor.
    ///
    /// # Errors
    ///
    /// When the engine has no descriptors.
    pub fn fd(&self) -> Result<BorrowedFd<'_>, Error> {
        let fd = match &self.place {
            Place::Session(session, id) => session.program_fd(*id),
            Place::Kernel(program) => Some(std::os::fd::AsFd::as_fd(&**program)),
        };
        fd.ok_or_else(|| Error::new(format!("program `{}` is not in the kernel", self.name())))
    }

    /// Attaches it where its section says.
    ///
    /// # Errors
    ///
    /// When the section leaves something open ([`ErrorKind::NeedsOption`]), the place does not exist ([`ErrorKind::Absent`])
    /// or the kernel refuses.
    pub fn attach(&self) -> Result<Box<dyn Link>, Error> {
        self.attach_with(&AttachOptions::default())
    }

    /// Attaches it where its section and `options` say.
    ///
    /// # Errors
    ///
    /// As [`Program::attach`].
    pub fn attach_with(&self, options: &AttachOptions) -> Result<Box<dyn Link>, Error> {
        match &self.place {
            Place::Session(session, id) => session.attach(*id, options),
            Place::Kernel(_) => Err(Error::new(format!("program `{}` does not say where it goes", self.name()))
                .with_kind(ErrorKind::NeedsOption)
                .with_hint("a loaded program has no section: name one with `attach_as`")),
        }
    }

    /// Attaches a program that was pinned, or found by its id, where `section` (such as `xdp` or `tp/sched/sched_switch`) and
    /// `options` say.
    ///
    /// # Errors
    ///
    /// When the section is for programs of another type, and as [`Program::attach`]. A program of an object has its section:
    /// use [`Program::attach_with`].
    pub fn attach_as(&self, section: &str, options: &AttachOptions) -> Result<Box<dyn Link>, Error> {
        match &self.place {
            Place::Session(session, id) => Err(Error::new(format!(
                "program `{}` goes where its section says: {}",
                self.name(),
                session.spec().program(*id).section
            ))
            .with_hint("change that before it is loaded, with `Object::program_mut`")),
            Place::Kernel(program) => Ok(Box::new(program.attach_as(section, options)?)),
        }
    }

    /// Runs an iterator program once over all that it is for; what it prints is read from the result, until its end (kernel 5.8).
    ///
    /// ```no_run
    /// use std::io::Read;
    ///
    /// use skep::AttachOptions;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let loaded = skep::Object::open("tasks.bpf.o")?.load()?;
    /// let mut text = String::new();
    /// loaded.program("dump_task")?.iterate(&AttachOptions::default())?.read_to_string(&mut text)?;
    /// print!("{text}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When it is no iterator, or `options` lack what it walks (a map, a cgroup).
    pub fn iterate(&self, options: &AttachOptions) -> Result<Box<dyn Read>, Error> {
        match &self.place {
            Place::Session(session, id) => session.iterate(*id, options),
            Place::Kernel(_) => Err(Error::new(format!("program `{}` does not say what it walks", self.name()))
                .with_kind(ErrorKind::NeedsOption)
                .with_hint("use the program of the object that it was loaded with")),
        }
    }

    /// Takes the place of the program that `link` holds, without a moment in which there is none.
    ///
    /// ```no_run
    /// use skep::{AttachOptions, Object};
    ///
    /// # fn main() -> Result<(), skep::Error> {
    /// let options = AttachOptions { interface: Some("eth0".into()), ..AttachOptions::default() };
    /// let old = Object::open("filter.bpf.o")?.load()?;
    /// let link = old.program("filter")?.attach_with(&options)?;
    /// // No packet goes past both.
    /// let new = Object::open("filter2.bpf.o")?.load()?;
    /// new.program("filter")?.replace_at(&*link)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When this kind of attachment cannot be updated: XDP, tc, cgroup, network namespace, netkit and iterator links can.
    pub fn replace_at(&self, link: &dyn Link) -> Result<(), Error> {
        link.update(self.fd()?)
    }

    /// As [`Program::replace_at`], only if `old` is the program that is there now: of two that want to be next, one wins.
    ///
    /// # Errors
    ///
    /// As [`Program::replace_at`], and when another one is there (`EPERM`).
    pub fn replace_at_if(&self, link: &dyn Link, old: &Program<'_>) -> Result<(), Error> {
        link.exchange(old.fd()?, self.fd()?)
    }

    /// Gives it a name in a bpffs, where it outlives this process.
    ///
    /// # Errors
    ///
    /// When the path is not in a bpffs, or taken.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        program::pin_program(self.fd()?, self.name(), path.as_ref())
    }

    /// The same program, apart from the object that it came with: it may be kept when that is gone, and given to other threads. It no
    /// longer knows its section: [`Program::attach_as`] attaches it.
    ///
    /// # Errors
    ///
    /// When it is not in the kernel, or there are too many open files.
    pub fn to_owned(&self) -> Result<Program<'static>, Error> {
        if let Place::Kernel(program) = &self.place {
            return Ok(Program { place: Place::Kernel(Arc::clone(program)) });
        }
        let name = self.name();
        let fd = self.fd()?.try_clone_to_owned();
        let fd = fd.map_err(|cause| Error::new(format!("cannot open program `{name}` again: {cause}")))?;
        KernelProgram::named(fd, name).map(Program::of)
    }

    /// What the kernel tells about it: type, tag, when and by whom it was loaded, its maps, what was counted.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), skep::Error> {
    /// let info = skep::Program::from_id(42)?.info()?;
    /// println!("{} ({}), uses {} maps, loaded by user {}", info.name, info.prog_type, info.map_ids.len(), info.uid);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the kernel does not tell.
    pub fn info(&self) -> Result<ProgramInfo, Error> {
        ProgramInfo::of(self.fd()?, self.name())
    }

    /// Its code as the kernel has it: instructions after the verifier's rewriting, machine code, functions with their addresses, and
    /// lines of source.
    ///
    /// ```no_run
    /// use skep::insn::text::{Printer, Spelling};
    ///
    /// # fn main() -> Result<(), skep::Error> {
    /// let code = skep::Program::from_pinned("/sys/fs/bpf/filter")?.code()?;
    /// print!("{}", Printer::new(Spelling::Kernel).listing(&code.instructions));
    /// for line in &code.lines {
    ///     println!("{}: {}:{} {}", line.insn, line.file, line.line, line.text);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the kernel does not tell. What it hides for want of rights is empty.
    pub fn code(&self) -> Result<ProgramCode, Error> {
        ProgramCode::of(self.fd()?, self.name())
    }

    /// Lets it hold a map that none of its instructions names: the map lives as long as the program, and tools find it there (kernel
    /// 5.10). That is where metadata goes, or a map that only user space reads.
    ///
    /// # Errors
    ///
    /// When the kernel is older, or one of the two is not in the kernel.
    pub fn bind_map(&self, map: &Map<'_>) -> Result<(), Error> {
        program::bind_map(self.fd()?, self.name(), map.fd()?)
    }

    /// What the kernel counted about it. Runs and their time are counted only while statistics are on.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), skep::Error> {
    /// # let loaded = skep::Object::open("x.bpf.o")?.load()?;
    /// let program = loaded.program("handle")?;
    /// let _counting = skep::Statistics::enable()?;
    /// let _link = program.attach()?;
    /// std::thread::sleep(std::time::Duration::from_secs(1));
    /// let stats = program.stats()?;
    /// println!("{} runs, {:?} in all", stats.runs, stats.run_time);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the kernel does not tell.
    pub fn stats(&self) -> Result<ProgramStats, Error> {
        program::stats(self.fd()?, self.name())
    }

    /// Runs it on given input (`BPF_PROG_TEST_RUN`, kernel 4.12 for packets).
    ///
    /// ```no_run
    /// use skep::{Object, TestRun};
    ///
    /// # fn main() -> Result<(), skep::Error> {
    /// let loaded = Object::open("xdp.bpf.o")?.load()?;
    /// let packet = [0; 64];
    /// let output = loaded.program("drop")?.test_run(&TestRun { data: &packet, repeat: 1000, ..TestRun::default() })?;
    /// println!("returned {}, {:?} a run", output.retval, output.duration);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the kernel has no test run for its type, or the input does not fit.
    pub fn test_run(&self, input: &TestRun<'_>) -> Result<TestRunOutput, Error> {
        match &self.place {
            Place::Session(session, id) => session.test_run(*id, input),
            Place::Kernel(program) => program.test_run(input),
        }
    }
}

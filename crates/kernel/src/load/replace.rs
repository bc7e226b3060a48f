//! The program whose functions freplace programs replace.
//!
//! An extension is verified against the function that it stands in for: the kernel wants the target program and the
//! function's number in that program's types (`attach_prog_fd` and `attach_btf_id`; kernel/bpf/verifier.c,
//! `bpf_check_attach_target`). So the target must be loaded, with types, before the extension is.

use skep_btf::{Btf, Kind, Type};
use skep_engine::{Error, ErrorKind};
use skep_spec::nearest::did_you_mean;
use skep_spec::{AttachPoint, ProgType, Program, Spec};
use skep_sys::Errno;
use skep_sys::bpf::{self, BtfFd, ProgFd};

use crate::map::failed;
use crate::permission::{self, Tried};

/// A loaded program with its types.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) fd: ProgFd,
    id: u32,
    name: String,
    btf: Btf,
}

impl Target {
    /// The program that `id` names, if an object has programs that need one.
    pub(super) fn find(spec: &Spec, id: Option<u32>) -> Result<Option<Target>, Error> {
        match id {
            Some(id) if spec.programs.iter().any(extends) => Target::open(id).map(Some),
            _ => Ok(None),
        }
    }

    fn open(id: u32) -> Result<Target, Error> {
        let refused = |what: &str, errno: Errno| {
            let error = failed(&format!("cannot {what} of program {id}"), errno);
            match errno {
                Errno::EPERM => permission::explained(error, Tried::Program(ProgType::EXT)),
                _ => error,
            }
        };
        let fd = ProgFd::from_id(bpf::ProgId(id)).map_err(|errno| match errno {
            Errno::ENOENT => Error::new(format!("there is no BPF program with id {id}"))
                .with_kind(ErrorKind::Absent)
                .with_source(errno)
                .with_hint("`bpftool prog` lists those that are loaded"),
            _ => refused("take hold", errno),
        })?;
        let info = fd.info().map_err(|errno| refused("read the name", errno))?;
        if info.btf_id.0 == 0 {
            return Err(Error::new(format!("program {id} (`{}`) was loaded without types", info.name))
                .with_source(Errno::EINVAL)
                .with_hint("its functions can be replaced when it is compiled with -g"));
        }
        let bytes = BtfFd::from_id(info.btf_id).and_then(|fd| fd.data());
        let bytes = bytes.map_err(|errno| refused("read the types", errno))?;
        let btf = Btf::parse(bytes).map_err(|error| Error::new(format!("the types of program {id}: {error}")))?;
        Ok(Target { fd, id, name: info.name, btf })
    }

    /// The number of the function that `program` replaces.
    pub(super) fn function(&self, program: &Program) -> Result<u32, Error> {
        let AttachPoint::Freplace { function } = &program.attach else { return Ok(0) };
        let about = format!("program `{}` ({})", program.name, program.section);
        if function.is_empty() {
            return Err(Error::new(format!("{about}: its section names no function"))
                .with_kind(ErrorKind::NeedsOption)
                .with_source(Errno::EINVAL)
                .with_hint("write it as `SEC(\"freplace/FUNCTION\")`, or name it with `--attach-to FUNCTION`"));
        }
        if let Some(id) = self.btf.find(function, Kind::FUNC) {
            return Ok(id.0);
        }
        let functions = self.btf.types().filter_map(|(_, of)| match of {
            Type::Func(it) => Some(it.name()),
            _ => None,
        });
        let error = Error::new(format!("{about}: program {} (`{}`) has no function `{function}`", self.id, self.name))
            .with_kind(ErrorKind::Absent)
            .with_source(Errno::ENOENT);
        Err(match did_you_mean(function, functions) {
            Some(hint) => error.with_hint(hint),
            None => error,
        })
    }
}

/// Whether a program replaces a function of another.
pub(super) fn extends(program: &Program) -> bool {
    program.prog_type == ProgType::EXT && program.autoload
}

/// Why an extension cannot be loaded without its target.
pub(super) fn nameless(program: &Program) -> Error {
    Error::new(format!(
        "program `{}` ({}) replaces a function of another program, and none is named",
        program.name, program.section
    ))
    .with_kind(ErrorKind::NeedsOption)
    .with_source(Errno::EINVAL)
    .with_hint("name it by its id with `--replace-in PROG_ID`; `bpftool prog` lists those that are loaded")
}

/// The target's descriptor and the function's number, for a program that needs them.
pub(super) fn place<'t>(target: Option<&'t Target>, program: &Program) -> Result<Option<(&'t Target, u32)>, Error> {
    if program.prog_type != ProgType::EXT {
        return Ok(None);
    }
    let target = target.ok_or_else(|| nameless(program))?;
    Ok(Some((target, target.function(program)?)))
}

//! `skep build`: tools of scripts, objects of C files and objects, and the types that objects need.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use skep_btf::core::{Minimal, Relo};
use skep_btf::{Btf, CoreReloKind};
use skep_engine::Error;
use skep_insn::Endian;
use skep_kernel::LiveTarget;
use skep_run::options::Options;
use skep_spec::loader::{LoaderProgram, Seal};
use skep_spec::{Spec, elf, loader};
use skep_sys::io_text;

use crate::args::{BuildArgs, SealArgs};
use crate::{report, run, trace};

pub(crate) fn build(args: BuildArgs) -> Result<ExitCode, Error> {
    if !skep_run::is_c_or_object(&args.file) {
        return trace::tool::build(args);
    }
    let of_scripts = [
        ("--elsewhere", args.elsewhere),
        ("--unsafe", args.what.allow_unsafe),
        ("--include", !args.what.include.is_empty()),
        ("--config", !args.what.config.is_empty()),
    ];
    if let Some((flag, _)) = of_scripts.iter().find(|(_, given)| *given) {
        return Err(Error::new(format!("`{flag}` is for scripts, and `{}` is none", args.file.display())));
    }
    if let Some(option) = args.options.first() {
        return Err(Error::new(format!("`{option}` is for scripts, and `{}` is none", args.file.display())));
    }
    let includes = args.what.include_dir.iter().map(|dir| format!("-I{}", dir.display()));
    let defines = args.define.iter().map(|define| format!("-D{define}"));
    let files: Vec<PathBuf> = std::iter::once(args.file.clone()).chain(args.more.iter().map(PathBuf::from)).collect();
    let options = |file: &Path, linked: &[PathBuf]| Options {
        file: file.to_owned(),
        linked: linked.to_vec(),
        clang_flags: includes.clone().chain(defines.clone()).collect(),
        ..Options::default()
    };
    let machine = LiveTarget::shared();
    let link = |options: &Options| skep_run::link(options, &machine, &mut |notice| run::tell(notice, false));
    if let (Some(kernel), Some(output)) = (&args.min_btf, &args.output) {
        // Each for itself: objects for one kernel need not fit together.
        let specs = files.iter().map(|file| link(&options(file, &[]))).collect::<Result<Vec<_>, _>>()?;
        let base = args.base_btf.as_deref().map(|base| read_btf(base, None)).transpose()?;
        let types = read_btf(kernel, base.as_ref())?;
        write(output, &minimal(kernel, &types, &files, &specs)?, &files)?;
        return Ok(ExitCode::SUCCESS);
    }
    let output = match (args.output, &files[..]) {
        (Some(output), _) => output,
        (None, [only]) if only.extension().is_some_and(|extension| extension == "c") => only.with_extension("o"),
        (None, _) => {
            return Err(Error::new("the object needs a name").with_hint("name it with `-o FILE.bpf.o`"));
        }
    };
    let spec = link(&options(&files[0], &files[1..]))?;
    // A library's only function would be a program, if it were run.
    for warning in spec.warnings.iter().filter(|it| !it.message.contains("`.text`")) {
        report::warning(&format!("`{}`: {}", warning.subject, warning.message), warning.hint.as_deref());
    }
    for external in spec.externs.iter().filter(|it| it.kind.is_of_object() && !it.weak) {
        report::warning(
            &format!("`{}` is defined in none of the files", external.name),
            Some("programs that need it do not load; link the result with an object that defines it"),
        );
    }
    let object = elf::write(&spec)?;
    if args.loader {
        // Of the object as it will be read: its numbers count.
        let spec = Spec::parse(&object, &spec.name)?;
        let program = loader_program(&spec, &args.seal, &output, &files)?;
        write(&output, &loader::attach(&object, &program), &files)?;
    } else {
        write(&output, &object, &files)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The object's loader program, sealed if that is wanted.
fn loader_program(spec: &Spec, args: &SealArgs, output: &Path, files: &[PathBuf]) -> Result<LoaderProgram, Error> {
    if !args.seal && args.to_sign.is_none() && args.signature.is_none() {
        return Ok(loader::generate(spec)?);
    }
    let mut program = loader::seal(spec)?;
    if let Some(file) = &args.to_sign {
        if file == output {
            return Err(Error::new(format!("`{}` cannot be the object and what is to be signed", file.display()))
                .with_hint("name another file after `--to-sign`"));
        }
        write(file, &skep_insn::slots_to_bytes(&program.insns, Endian::NATIVE), files)?;
    }
    if let Some(file) = &args.signature {
        let shown = file.display();
        let signature =
            std::fs::read(file).map_err(|cause| Error::new(format!("cannot read `{shown}`: {}", io_text(&cause))))?;
        // A sequence, as every message is in DER; text would begin with dashes.
        if signature.first() != Some(&0x30) {
            return Err(Error::new(format!("`{shown}` is no signature in DER"))
                .with_hint("make one with `openssl cms -sign -binary -noattr -nocerts -outform DER ...`"));
        }
        program.seal = Some(Seal { signature });
    }
    Ok(program)
}

/// The machine, with types from `btf` for CO-RE.
pub(crate) fn target(btf: Option<&Path>) -> Result<LiveTarget, Error> {
    Ok(match btf {
        Some(path) => LiveTarget::with_btf(read_btf(path, None)?),
        None => LiveTarget::shared(),
    })
}

/// The types in a file, which continue those of `base` when they are a module's.
fn read_btf(path: &Path, base: Option<&Btf>) -> Result<Btf, Error> {
    let shown = path.display();
    let bytes =
        std::fs::read(path).map_err(|cause| Error::new(format!("cannot read `{shown}`: {}", io_text(&cause))))?;
    if bytes.starts_with(b"\x7fELF") {
        return Err(Error::new(format!("`{shown}` is an ELF file, and not the types alone"))
            .with_hint(format!("take them out: `objcopy -O binary --only-section=.BTF {shown} kernel.btf`")));
    }
    // Those of a module alone are nothing whole.
    if base.is_some() && Btf::parse(bytes.clone()).is_ok() {
        return Err(Error::new(format!("`{shown}` holds the types of a kernel, not those of a module"))
            .with_hint("leave out `--base-btf`, or name a module's types after `--min-btf`: /sys/kernel/btf/MODULE"));
    }
    let parsed = match base {
        Some(base) => Btf::parse_split(bytes, base),
        None => Btf::parse(bytes),
    };
    parsed.map_err(|cause| {
        let hint = match base {
            Some(_) => "it must be of a module of the kernel after `--base-btf`",
            None => {
                "a running kernel has its own in /sys/kernel/btf/vmlinux; a module's go with `skep build --min-btf \
                 MODULE --base-btf KERNEL`"
            }
        };
        Error::new(format!("`{shown}` holds no types (BTF): {cause}")).with_hint(hint)
    })
}

fn minimal(kernel: &Path, types: &Btf, files: &[PathBuf], specs: &[Spec]) -> Result<Vec<u8>, Error> {
    let mut minimal = Minimal::new(types);
    for (file, spec) in files.iter().zip(specs) {
        let Some(local) = &spec.btf else { continue };
        let records = spec.functions.iter().flat_map(|function| &function.core_relos);
        let relos: Vec<Relo<'_>> =
            records.map(|it| Relo { type_id: it.type_id, access: &it.access, kind: CoreReloKind(it.kind) }).collect();
        let complete = minimal.add(local, &relos).map_err(|cause| {
            Error::new(format!("`{}`: its CO-RE records cannot be followed: {cause}", file.display()))
        })?;
        if !complete {
            report::warning(
                &format!(
                    "`{}` asks for the number of a kernel type (bpf_core_type_id_kernel), which only the kernel's own types tell",
                    file.display()
                ),
                None,
            );
        }
    }
    minimal.finish().map_err(|cause| Error::new(format!("`{}`: {cause}", kernel.display())))
}

fn write(output: &Path, bytes: &[u8], inputs: &[PathBuf]) -> Result<(), Error> {
    let same = |input: &PathBuf| input.canonicalize().ok().is_some_and(|it| output.canonicalize().ok() == Some(it));
    if inputs.iter().any(same) {
        return Err(Error::new(format!("`{}` is one of the inputs", output.display()))
            .with_hint("name another file with `-o FILE`"));
    }
    std::fs::write(output, bytes)
        .map_err(|cause| Error::new(format!("cannot write `{}`: {}", output.display(), io_text(&cause))))
}

//! Against the machine that the test runs on: its types, its tracepoints.

use skep_kernel::LiveTarget;
use skep_script::ast::{AttachPoint, Tag};
use skep_script::plan::Config;
use skep_script::points::{ArgAt, Resolver};
use skep_script::structs::Structs;
use skep_script::types::{Space, Type};
use skep_script::{Options, Sources, Span, Target};
use skep_spec::Target as _;

fn ask(test: impl FnOnce(&LiveTarget, &Structs<'_>, Resolver<'_>)) {
    let target = LiveTarget::shared();
    if !target.btf().is_ok_and(|btf| btf.is_some()) {
        println!("skipped: needs kernel BTF");
        return;
    }
    let (options, config) = (Options::default(), Config::default());
    let (structs, diagnostics) = Structs::new(&target, &options, &Sources::default(), &[]);
    assert!(diagnostics.is_empty());
    test(
        &target,
        &structs,
        Resolver { target: &target, structs: &structs, options: &options, config: &config, every_name: false },
    );
}

fn point(text: &str) -> AttachPoint {
    let parts = text.split(':').map(str::to_owned).collect();
    AttachPoint { parts, text: text.to_owned(), span: Span::default() }
}

/// The type behind `path` of members and arrows, from a struct.
fn chain(structs: &Structs<'_>, start: &str, path: &str) -> String {
    let mut ty = structs.tagged(Tag::Struct, start).expect("a struct of the kernel");
    for name in path.split('.') {
        if let Type::Pointer { to, .. } = &ty {
            ty = to.as_ref().clone();
        }
        let Type::Struct(of) = &ty else { panic!("{path}: {ty} has no members") };
        ty = structs.field(of, name).unwrap_or_else(|| panic!("{path}: {ty} has no `{name}`")).ty;
    }
    ty.to_string()
}

#[test]
fn members_of_the_kernels_structs_have_types() {
    ask(|_, structs, _| {
        assert_eq!(chain(structs, "task_struct", "comm"), "string[16]");
        assert_eq!(chain(structs, "task_struct", "real_parent.tgid"), "int32");
        assert_eq!(chain(structs, "task_struct", "mm.pgd"), chain(structs, "task_struct", "active_mm.pgd"));
        // Members of anonymous structs and unions.
        assert_eq!(chain(structs, "task_struct", "mm.mmap_base"), "uint64");
        assert_eq!(chain(structs, "sock", "__sk_common.skc_daddr"), "uint32");
        assert_eq!(chain(structs, "file", "f_path.dentry.d_name.name"), "uint8 *");
        assert_eq!(chain(structs, "dentry", "d_name.len"), "uint32");
        // A bit-field.
        let Some(Type::Struct(task)) = structs.tagged(Tag::Struct, "task_struct") else { panic!("no task_struct") };
        let bits = structs.field(&task, "in_execve").and_then(|field| field.bits).expect("in_execve is one bit");
        assert_eq!(bits.width, 1);
        assert_eq!(
            (task.name.as_ref(), structs.field(&task, "no_such_member").is_some()),
            ("struct task_struct", false)
        );
        assert!(structs.field_names(&task).len() > 100);
        assert_eq!(structs.type_name("pid_t").map(|ty| ty.to_string()).as_deref(), Some("int32"));
        assert_eq!(
            structs.type_name("const struct task_struct *").map(|ty| ty.to_string()).as_deref(),
            Some("struct task_struct *")
        );
        let established = structs.constant("TCP_ESTABLISHED").expect("an enum of the kernel");
        assert_eq!(established.value, 1);
        assert!(structs.constant("NO_SUCH_CONSTANT_ANYWHERE").is_none());
    });
}

#[test]
fn every_tracepoint_of_this_machine_has_a_readable_layout() {
    ask(|target, structs, resolver| {
        let Ok(all) = target.tracepoints() else {
            println!("skipped: needs tracefs");
            return;
        };
        let mut odd = Vec::new();
        for name in &all {
            let mut diagnostics = Vec::new();
            let points = resolver.resolve(&point(&format!("tracepoint:{name}")), &mut diagnostics);
            assert!(diagnostics.is_empty(), "{name}: {diagnostics:?}");
            let args = resolver.args(&points[0], Span::default()).unwrap_or_else(|error| panic!("{name}: {error:?}"));
            let text = target.tracepoint_format(
                name.split_once(':').expect("two parts").0,
                name.split_once(':').expect("two parts").1,
            );
            let fields = text.ok().flatten().unwrap_or_default().matches("field:").count();
            assert_eq!(args.fields.len() + 4, fields, "{name}");
            for arg in &args.fields {
                if let ArgAt::Field { off, .. } = arg.at {
                    assert!(off + arg.ty.size() <= args.size, "{name}.{}: {} at {off}", arg.name, arg.ty);
                }
                if matches!(&arg.ty, Type::Array { elem, .. } if elem.size() == 1 && !arg.ty.to_string().starts_with("uint8["))
                {
                    odd.push(format!("{name}.{}: {}", arg.name, arg.ty));
                }
            }
            let record = resolver.record(&args);
            structs.shown(&Type::Struct(record));
        }
        println!("{} tracepoints, odd: {odd:#?}", all.len());
        assert!(all.len() > 300);
    });
}

#[test]
fn every_raw_tracepoint_of_this_machine_has_named_arguments() {
    ask(|_, _, resolver| {
        let mut diagnostics = Vec::new();
        let config = Config { max_probes: u64::MAX, ..Config::default() };
        let resolver = Resolver { config: &config, ..resolver };
        let points = resolver.resolve(&point("rawtracepoint:*"), &mut diagnostics);
        assert!(points.len() > 300, "{} {diagnostics:?}", points.len());
        let unnamed = points.iter().filter(|point| {
            let args =
                resolver.args(point, Span::default()).unwrap_or_else(|error| panic!("{}: {error:?}", point.place.name));
            args.fields.iter().any(|arg| arg.name.starts_with("arg") && arg.name != "arg" && arg.name != "args")
        });
        let unnamed: Vec<&str> = unnamed.map(|point| point.place.name.as_str()).collect();
        println!("{} raw tracepoints, without names: {unnamed:?}", points.len());
        assert!(unnamed.len() * 10 < points.len());
    });
}

#[test]
fn arguments_of_system_calls_are_the_processs() {
    ask(|_, _, resolver| {
        let points = resolver.resolve(&point("tracepoint:syscalls:sys_enter_openat"), &mut Vec::new());
        let [one] = &points[..] else { panic!("one tracepoint") };
        let args = resolver.args(one, Span::default()).expect("a format");
        let filename = args.fields.iter().find(|arg| arg.name == "filename").expect("an argument of openat");
        assert!(matches!(filename.ty, Type::Pointer { space: Space::User, .. }));
        assert_eq!((filename.ty.to_string().as_str(), filename.at), ("int8 *", ArgAt::Field { off: 24, bits: None }));
        // Stored in 8 bytes, but an int.
        let dfd = args.fields.iter().find(|arg| arg.name == "dfd").expect("an argument of openat");
        assert_eq!(dfd.ty.to_string(), "int32");
    });
}

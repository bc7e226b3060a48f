//! Types of C, of the script's own part and of the machine.

#[allow(dead_code, reason = "other tests use the rest")]
mod common;
mod kernel;

use std::fmt::Write;

use kernel::Kernel;
use skep_script::ast::{Expr, ExprKind};
use skep_script::structs::Structs;
use skep_script::types::Type;
use skep_script::{Options, Sources, Span, dump, parser, render};

/// C text with questions between: lines `? type T`, `? fields struct X`, `? field struct X.a.b`, `? const C`, `? macro M(a)`.
/// `@@ path` begins the text of a file, `@@` ends it. Answers come in order, behind what is wrong with the text.
fn answer(file: &str, input: &str) -> String {
    let mut kernel = if file == "without_btf" { Kernel::without_btf() } else { Kernel::new() };
    let (mut text, mut questions, mut path) = (String::new(), Vec::new(), None);
    for line in input.lines() {
        match (line.strip_prefix("@@"), line.strip_prefix("? "), &path) {
            (Some(""), ..) => path = None,
            (Some(name), ..) => path = Some(name.trim().to_owned()),
            (_, _, Some(path)) => {
                let text = kernel.files.entry(path.into()).or_default();
                text.push_str(line);
                text.push('\n');
            }
            (_, Some(question), None) => questions.push(question.to_owned()),
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    let mut sources = Sources::default();
    let id = sources.add("/src/a.bt", text);
    let (script, diagnostics) = parser::parse(&sources, id);
    let mut out = render::bpftrace(&sources, &diagnostics);
    let options = Options { include_dirs: vec!["/include".into()], ..Options::default() };
    let (structs, diagnostics) = Structs::new(&kernel, &options, &sources, &script.c_parts);
    out.push_str(&render::bpftrace(&sources, &diagnostics));
    for question in questions {
        let (kind, what) = question.split_once(' ').expect("a question has two words");
        let answer = match kind {
            "type" => structs.type_name(what).map(|ty| format!("{ty} ({} bytes, aligned {})", ty.size(), ty.align())),
            "fields" => structs.type_name(what).map(|ty| fields(&structs, &ty)),
            "field" => Some(field(&structs, what)),
            "const" => structs.constant(what).map(|it| format!("{} {}", it.ty, it.value)),
            "macro" => Some(expand(&structs, what)),
            "function" => structs.function(None, what).map(|it| {
                let params: Vec<String> = it.params.iter().map(|(name, ty)| format!("{ty} {name}")).collect();
                format!("{}: {} ({})", it.module, it.ret, params.join(", "))
            }),
            _ => panic!("no question {kind}"),
        };
        let _ = writeln!(out, "{question}: {}", answer.unwrap_or_else(|| "unknown".to_owned()));
    }
    out
}

fn fields(structs: &Structs<'_>, ty: &Type) -> String {
    let Type::Struct(of) = ty else { return format!("{ty} has no members") };
    let mut out = format!("{ty}, {} bytes, aligned {}", of.size, of.align);
    for name in structs.field_names(of) {
        let field = structs.field(of, &name).expect("it is one of the names");
        let bits = field.bits.map_or_else(String::new, |bits| format!(" : {} << {}", bits.width, bits.shift));
        let _ = write!(out, "\n  {:>3} {} {name}{bits}", field.off, field.ty);
    }
    out
}

fn field(structs: &Structs<'_>, path: &str) -> String {
    let (start, path) = path.split_once('.').expect("a struct and members");
    let mut ty = structs.type_name(start).expect("a struct");
    for name in path.split('.') {
        if let Type::Pointer { to, .. } = &ty {
            ty = to.as_ref().clone();
        }
        let Type::Struct(of) = &ty else { return format!("{ty} has no members") };
        match structs.field(of, name) {
            Some(field) => ty = field.ty,
            None => return format!("{ty} has no member {name}"),
        }
    }
    match &ty {
        Type::Pointer { space, .. } => format!("{ty} ({space:?})"),
        _ => ty.to_string(),
    }
}

fn expand(structs: &Structs<'_>, call: &str) -> String {
    let expr = |text: &str| {
        let kind = match text.parse() {
            Ok(value) => ExprKind::Int { value, duration: false },
            Err(_) if text.starts_with('$') => ExprKind::Var(text.to_owned()),
            Err(_) => ExprKind::Ident(text.to_owned()),
        };
        Expr { kind, span: Span::default() }
    };
    let (name, args) = match call.strip_suffix(')').and_then(|call| call.split_once('(')) {
        Some((name, args)) => (name, Some(args.split(',').map(|arg| expr(arg.trim())).collect::<Vec<_>>())),
        None => (call, None),
    };
    match structs.expand(name, args.as_deref(), Span::default()) {
        None => "no macro".to_owned(),
        Some(Ok(tree)) => dump::dump_expr(&tree),
        Some(Err(error)) => error.message,
    }
}

#[test]
fn types_of_c_have_members_and_sizes() {
    common::check("cpart", answer);
}

#[test]
fn what_is_shown_has_its_members_and_nothing_else() {
    let kernel = Kernel::new();
    let (structs, _) = Structs::new(&kernel, &Options::default(), &Sources::default(), &[]);
    let task = structs.type_name("struct task_struct").expect("a struct of the kernel");
    let Type::Struct(of) = &task else { panic!("a struct") };
    let parent = structs.field(of, "parent").expect("a member").ty;
    // A forward declaration is the struct that it announces.
    assert_eq!(parent, task.clone().pointer(skep_script::types::Space::None));
    structs.type_name("struct pair").expect("a struct of the kernel");
    let big = structs.type_name("struct big").expect("a struct of the kernel");
    structs.shown(&Type::Array { elem: big.into(), count: 2 });
    let all = structs.into_structs();
    let shown: Vec<String> = all.iter().map(|it| format!("{} {}", it.name, it.fields.len())).collect();
    assert_eq!(shown, ["struct task_struct 0", "struct pair 2", "struct big 2"]);
    assert_eq!(all[2].fields[0].ty.to_string(), "struct pair");
}

#[test]
fn hostile_text_ends_without_a_panic() {
    let nest = |open: &str, close: &str, n: usize| format!("{}{}", open.repeat(n), close.repeat(n));
    let texts = [
        format!("{}int x;{}", "struct a {".repeat(5000), "} b;".repeat(5000)),
        format!("struct a {{ int x[{}1{}]; }};", "(".repeat(5000), ")".repeat(5000)),
        format!("struct a {{ int {}x{}; }};", "(".repeat(5000), ")".repeat(5000)),
        format!("struct a {{ int {}x; }};", "*".repeat(5000)),
        format!("#if {}1{}\n#endif", "(".repeat(5000), ")".repeat(5000)),
        format!("#if {}1\n#endif", "-".repeat(5000)),
        format!("{}\n", "#if 1\n".repeat(5000)),
        "typedef int a[sizeof(a)];\nstruct b { a x; };".to_owned(),
        "struct a { int x[sizeof(struct a)]; };".to_owned(),
        "struct a { struct b x; };\nstruct b { struct a x; };".to_owned(),
        "typedef a b; typedef b a; struct c { a x; };".to_owned(),
        (0..200).map(|n| format!("struct s{n} {{ struct s{} x[1000]; }};\n", n + 1)).collect(),
        (0..64).map(|n| format!("#define m{n} m{} m{}\n", n + 1, n + 1)).collect::<String>() + "struct a { m0 };",
        "#define f(x) x x\n#define g(x) f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(x))))))))))))))))\nstruct a { int y[g(g())]; };"
            .to_owned(),
        format!("#define f(x) x\nstruct a {{ int y[{}]; }};", nest("f(", ")", 3000)),
        "struct a { int x : 70; int y : -1; char z : 3; };".to_owned(),
        "struct a { char x[99999999999]; char y[-1]; };".to_owned(),
        "enum e { A = 1 << 100, B = 1 / 0, C };".to_owned(),
        "#include \"self.h\"\n".to_owned(),
        "#define\n#define 1\n#define F(\n#undef\n#ifdef\n#if\n#endif\n#elif\n#else x\n#foo\n#include\n#include <".to_owned(),
    ];
    for text in texts {
        let mut kernel = Kernel::new();
        kernel.files.insert("/src/self.h".into(), "#include \"self.h\"\nstruct x { int y; };".to_owned());
        let mut sources = Sources::default();
        let id = sources.add("/src/a.bt", text.clone());
        let parts =
            [skep_script::ast::CPart { kind: skep_script::ast::CKind::Header, span: Span::new(id, 0, text.len()) }];
        let (structs, _) = Structs::new(&kernel, &Options::default(), &sources, &parts);
        for name in ["struct a", "struct b", "struct c", "struct s0", "a", "b"] {
            if let Some(Type::Struct(of)) = structs.type_name(name) {
                structs.field(&of, "x");
                structs.shown(&Type::Struct(of));
            }
        }
        structs.expand("m0", None, Span::default());
        structs.expand("g", Some(&[]), Span::default());
        structs.into_structs();
    }
}

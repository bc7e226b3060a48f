//! The least of a kernel's types that an object needs, held against all of them.

use skep_btf::core::{Answer, Minimal, Relo, Resolver};
use skep_btf::{Btf, CoreReloKind, NeededNames};
use skep_spec::Spec;

use crate::support;

fn relos(spec: &Spec) -> Vec<Relo<'_>> {
    let all = spec.functions.iter().flat_map(|function| &function.core_relos);
    all.map(|it| Relo { type_id: it.type_id, access: &it.access, kind: CoreReloKind(it.kind) }).collect()
}

/// The answers to all records, in their order, which matters: candidates that did not do are forgotten.
fn answers(local: &Btf, relos: &[Relo<'_>], kernel: &Btf) -> Vec<Result<Answer, String>> {
    let mut resolver = Resolver::new(local);
    let mut names = NeededNames::new().with_flavours();
    resolver.need(relos.iter().copied(), &mut names);
    resolver.offer(kernel, &kernel.find_all(&names));
    let answer = |relo| resolver.resolve(relo).map(|it| it.answer).map_err(|_| "refused".to_owned());
    relos.iter().map(answer).collect()
}

#[test]
fn the_small_btf_answers_as_the_kernels_own() {
    let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        println!("skipped: needs the kernel's types");
        return;
    };
    let kernel = Btf::parse(bytes).unwrap();
    let mut together = Minimal::new(&kernel);
    let (mut records, mut bytes, mut asks_ids) = (0, 0, 0);
    let mut opened = Vec::new();
    for path in support::corpus() {
        let spec = Spec::parse(&std::fs::read(&path).unwrap(), "x.bpf.o").unwrap();
        let Some(local) = spec.btf.clone() else { continue };
        let relos = relos(&spec);
        let mut minimal = Minimal::new(&kernel);
        // Damaged records are in the corpus, too.
        let (Ok(complete), Ok(_)) = (minimal.add(&local, &relos), together.add(&local, &relos)) else {
            assert!(answers(&local, &relos, &kernel).iter().any(Result::is_err), "{}", path.display());
            continue;
        };
        asks_ids += u32::from(!complete);
        let small = minimal.finish().unwrap();
        bytes += small.len();
        let small = Btf::parse(small).unwrap();
        small.validate().unwrap_or_else(|err| panic!("{}: {err}", path.display()));
        check(&path.display().to_string(), &local, &relos, &kernel, &small);
        records += relos.len();
        opened.push((path, spec.clone()));
    }
    // One for all of them.
    let small = Btf::parse(together.finish().unwrap()).unwrap();
    small.validate().unwrap();
    for (path, spec) in &opened {
        check(&path.display().to_string(), spec.btf.as_ref().unwrap(), &relos(spec), &kernel, &small);
    }
    println!("{records} records of {} objects: {bytes} bytes, together {}", opened.len(), small.as_bytes().len());
    assert!(opened.is_empty() || records > 400 && asks_ids > 0, "{records} records, {asks_ids}");
    assert!(small.as_bytes().len() < kernel.as_bytes().len() / 50);
}

fn check(what: &str, local: &Btf, relos: &[Relo<'_>], kernel: &Btf, small: &Btf) {
    let (all, least) = (answers(local, relos, kernel), answers(local, relos, small));
    for ((relo, full), least) in relos.iter().zip(all).zip(least) {
        if relo.kind != CoreReloKind::TYPE_ID_TARGET {
            assert_eq!(full, least, "{what}: {relo:?}");
        }
    }
}

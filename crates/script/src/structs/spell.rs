//! Types as C writes them: what a listing shows, with the names that the sources have.

use skep_btf::{Btf, Type, TypeId};

/// How deep a type may nest; deeper ones are cut.
const MAX_LEVELS: u32 = 32;

/// The type `id`: `const char *`, `struct task_struct *`, `char[16]`.
pub(crate) fn c_type(btf: &Btf, id: TypeId) -> String {
    spelled(btf, id, 0)
}

fn spelled(btf: &Btf, id: TypeId, level: u32) -> String {
    let Ok(ty) = btf.type_by_id(id) else { return "void".to_owned() };
    if level > MAX_LEVELS {
        return "...".to_owned();
    }
    let inner = |id: TypeId| spelled(btf, id, level + 1);
    let tagged = |tag: &str, name: &str| format!("{tag} {}", if name.is_empty() { "(anonymous)" } else { name });
    match ty {
        Type::Void => "void".to_owned(),
        Type::Int(it) => it.name().to_owned(),
        Type::Float(it) => it.name().to_owned(),
        Type::Typedef(it) => it.name().to_owned(),
        Type::Struct(it) => tagged("struct", it.name()),
        Type::Union(it) => tagged("union", it.name()),
        Type::Enum(it) | Type::Enum64(it) => tagged("enum", it.name()),
        Type::Fwd(it) => tagged(if it.is_union() { "union" } else { "struct" }, it.name()),
        Type::Ptr(it) => match btf.type_by_id(it.type_id()) {
            Ok(Type::FuncProto(proto)) => {
                let params: Vec<String> = proto
                    .params()
                    .map(|param| if param.type_id == TypeId::VOID { "...".to_owned() } else { inner(param.type_id) })
                    .collect();
                let params = if params.is_empty() { "void".to_owned() } else { params.join(", ") };
                format!("{} (*)({params})", inner(proto.result()))
            }
            _ => {
                let to = inner(it.type_id());
                let space = if to.ends_with('*') { "" } else { " " };
                format!("{to}{space}*")
            }
        },
        Type::Const(it) => qualified(btf, it.type_id(), "const", &inner(it.type_id())),
        Type::Volatile(it) => qualified(btf, it.type_id(), "volatile", &inner(it.type_id())),
        Type::Restrict(it) => qualified(btf, it.type_id(), "restrict", &inner(it.type_id())),
        Type::Array(it) => format!("{}[{}]", inner(it.element()), it.len()),
        Type::TypeTag(it) => inner(it.type_id()),
        _ => "void".to_owned(),
    }
}

/// A qualifier of a pointer stands behind its star.
fn qualified(btf: &Btf, of: TypeId, word: &str, inner: &str) -> String {
    match btf.type_by_id(of) {
        Ok(Type::Ptr(_)) => format!("{inner} {word}"),
        _ => format!("{word} {inner}"),
    }
}

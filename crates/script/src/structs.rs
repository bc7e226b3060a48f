//! The types of C that a script may name: those of its own C part first, then the machine's (BTF).
//!
//! Nothing is read before it is asked for. A struct's members are looked at where they lie in the kernel's BTF; only what is
//! shown to people is turned into [`typed::Struct`]s as a whole.
//!
//! # Whose memory
//!
//! A pointer's [`Space`](crate::types::Space) comes from its type tag: `__user` is `User`; `__percpu`, `__rcu` and other tags
//! of the kernel are `Kernel`. Compilers of many distributions leave tags out, so a pointer without one is `None`: it points
//! into the memory that it was itself read from, and the checker says so when it reads one through another.

use crate::diagnostic::Diagnostic;
use crate::options::Options;
use crate::source::Sources;
use crate::target::Target;
use crate::types::{StructRef, Type};
use crate::{Span, ast, typed};

/// Types by name, and the structs that were met.
pub struct Structs<'t> {
    target: &'t dyn Target,
}

/// A named number of C: an enum's constant, or a constant of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constant {
    /// Its value.
    pub value: i128,
    /// The enum's type, or an integer's.
    pub ty: Type,
}

impl<'t> Structs<'t> {
    /// The types of `target` and of a script's C part.
    pub fn new(
        target: &'t dyn Target,
        options: &Options,
        sources: &Sources,
        c_parts: &[ast::CPart],
    ) -> (Structs<'t>, Vec<Diagnostic>) {
        let _ = (options, sources, c_parts);
        (Structs { target }, Vec::new())
    }

    /// `struct name`, `union name`, `enum name`.
    pub fn tagged(&self, tag: ast::Tag, name: &str) -> Option<Type> {
        let _ = (self.target, tag, name);
        None
    }

    /// A type by one word or several: `int`, `unsigned long`, `uint64_t`, `pid_t`, `sector_t`, `struct task_struct`. The
    /// language's own names (`int32`, `string`) are the checker's.
    pub fn type_name(&self, name: &str) -> Option<Type> {
        let _ = name;
        None
    }

    /// The member `name` of a struct or union, its own or one of an anonymous member inside; offsets count from the start of
    /// `of`.
    pub fn field(&self, of: &StructRef, name: &str) -> Option<typed::Field> {
        let _ = (of, name);
        None
    }

    /// Names of all members, those of anonymous members included, in order: for hints.
    pub fn field_names(&self, of: &StructRef) -> Vec<String> {
        let _ = of;
        Vec::new()
    }

    /// What stands behind a pointer's or array's struct when the pointer was declared before the struct was known; `ty`
    /// itself otherwise. A struct that is known by name only has size 0.
    pub fn complete(&self, ty: &Type) -> Type {
        ty.clone()
    }

    /// An enum's constant or a constant of a UAPI header (`EPERM`, `AF_INET`) by name. The kernel's BTF is searched once, when
    /// a name is first asked that is nowhere else.
    pub fn constant(&self, name: &str) -> Option<Constant> {
        let _ = name;
        None
    }

    /// What `#define name` of the script's C part stands for, with `args` put in for the parameters of a macro like a
    /// function; other macros inside are expanded. Every node of the result is at `span`. `None` when there is no such macro.
    pub fn expand(
        &self,
        name: &str,
        args: Option<&[ast::Expr]>,
        span: Span,
    ) -> Option<Result<ast::Expr, Box<Diagnostic>>> {
        let _ = (name, args, span);
        None
    }

    /// Adds a struct that is nobody's C: a tracepoint's record, so that `args` can be stored and printed.
    pub fn add(&self, made: typed::Struct, align: u32) -> StructRef {
        StructRef { id: 0, name: made.name.clone(), size: made.size, align }
    }

    /// Notes that values of `ty` are shown to people, so that [`Structs::into_structs`] knows the members of the structs
    /// inside.
    pub fn shown(&self, ty: &Type) {
        let _ = ty;
    }

    /// Everything that was met, by [`StructRef::id`]. Those that are shown have all their members, others none.
    pub fn into_structs(self) -> Vec<typed::Struct> {
        Vec::new()
    }
}

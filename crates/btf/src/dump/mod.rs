//! Types as C, in the text of `bpftool btf dump file F format c`.
//!
//! C wants definitions before uses; BTF has no order. A type *strongly* needs another when C must know its size: a member, an
//! element of an array, an anonymous struct behind anything. Through a pointer a named struct is needed only *weakly*: a
//! forward declaration does. The dump takes the types by number and for each does two things:
//!
//! 1. **Order** (`order`). A depth-first walk along strong needs appends what has a definition of its own (named structs,
//!    unions and enumerations, forward declarations, typedefs) to a queue, needs first. A typedef reached through a pointer waits
//!    when what it names is needed only weakly. Meeting a type again while its needs are walked is a cycle that C cannot express,
//!    unless a pointer to a named struct leads there.
//! 2. **Emit** (`emit`). Each queued type is written once. Before a struct, a walk over its members writes the forward
//!    declarations that are still missing, and typedefs whose definition can serve as one.
//!
//! Declarations are turned inside out (`declare`): BTF's chain "array of pointers to functions" becomes `(*name[3])(int)`. Offsets
//! that C would not arrive at by itself get unnamed bit-fields as padding, or the whole struct becomes packed (`layout`). Two
//! types of one name are told apart by `___2` behind the second, which CO-RE ignores.
//!

mod declare;
mod emit;
mod layout;
mod order;

use std::collections::HashMap;
use std::fmt::{self, Write};

use crate::types::Type;
use crate::{Btf, Error, TypeId};

/// What can stop a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DumpError {
    /// The types are wrong, or unfold into too much text.
    Btf(Error),
    /// The writer failed.
    Write,
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DumpError::Btf(err) => err.fmt(f),
            DumpError::Write => f.write_str("cannot write the C text"),
        }
    }
}

impl std::error::Error for DumpError {}

impl From<Error> for DumpError {
    fn from(err: Error) -> DumpError {
        DumpError::Btf(err)
    }
}

impl From<fmt::Error> for DumpError {
    fn from(_: fmt::Error) -> DumpError {
        DumpError::Write
    }
}

/// How far the ordering of a type has come.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Order {
    #[default]
    New,
    Walking,
    Done,
}

/// How far the writing of a type has come.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Emit {
    #[default]
    New,
    Writing,
    Done,
}

#[derive(Clone, Copy, Default)]
struct State {
    order: Order,
    emit: Emit,
    /// A forward declaration was written, or a typedef before its time.
    declared: bool,
    /// Another type refers to it.
    referenced: bool,
    /// 0: the name is not decided; 1: as it is; n: with `___n` behind.
    name: u32,
    /// In bytes, when it was asked for.
    align: Option<u8>,
}

/// Writes types as C, each one once, however often and in whatever order they are asked for.
pub struct Dumper<'a, W> {
    btf: &'a Btf,
    out: W,
    sized_enums: bool,
    pointer_size: u32,
    states: Vec<State>,
    /// How many structs, unions and enumerations have a name.
    tags: HashMap<&'a str, u32>,
    /// How many typedefs and enumerators have a name.
    idents: HashMap<&'a str, u32>,
    queue: Vec<TypeId>,
    /// The chains of the declarations that are being written.
    chain: Vec<TypeId>,
    levels: u32,
    steps: u64,
}

/// How deep types may nest on the way to a definition.
const MAX_LEVELS: u32 = 512;

/// The whole BTF (of a split one, its own types and what they need) with bpftool's header and footer around it.
pub fn dump_c(btf: &Btf, out: impl Write) -> Result<(), DumpError> {
    Dumper::new(btf, out).dump_all()
}

/// These types and what they need, without header and footer.
pub fn dump_types(btf: &Btf, ids: &[TypeId], out: impl Write) -> Result<(), DumpError> {
    let mut dumper = Dumper::new(btf, out);
    ids.iter().try_for_each(|&id| dumper.dump(id))
}

impl<'a, W: Write> Dumper<'a, W> {
    /// Nothing is written yet.
    pub fn new(btf: &'a Btf, out: W) -> Dumper<'a, W> {
        let mut states = vec![State::default(); btf.len() as usize];
        mark_referenced(btf, &mut states);
        states[0] = State { order: Order::Done, emit: Emit::Done, ..State::default() };
        let words = chain_of(btf).map(|it| it.type_bytes().len() as u64 / 4).sum::<u64>();
        Dumper {
            btf,
            out,
            sized_enums: false,
            pointer_size: btf.pointer_size() as u32,
            states,
            tags: HashMap::new(),
            idents: HashMap::new(),
            queue: Vec::new(),
            chain: Vec::new(),
            levels: 0,
            steps: (1 << 16) + 64 * words,
        }
    }

    /// Gives enumerations whose size is not that of `int` the attribute that makes the compiler use it. bpftool 7.1 does not, so
    /// that a struct that holds one has another layout than the kernel's; later versions do.
    pub fn sized_enums(mut self, wanted: bool) -> Self {
        self.sized_enums = wanted;
        self
    }

    /// Header, all types (of a split BTF, its own and what they need), footer.
    pub fn dump_all(&mut self) -> Result<(), DumpError> {
        self.header()?;
        for id in self.btf.first_id().0..self.btf.len() {
            self.dump(TypeId(id))?;
        }
        self.footer()
    }

    /// What bpftool writes first: the guard, and the pragma that makes every access to a struct relocatable.
    pub fn header(&mut self) -> Result<(), DumpError> {
        self.out.write_str(
            "#ifndef __VMLINUX_H__\n#define __VMLINUX_H__\n\n\
             #ifndef BPF_NO_PRESERVE_ACCESS_INDEX\n\
             #pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)\n\
             #endif\n\n",
        )?;
        Ok(())
    }

    /// What bpftool writes last.
    pub fn footer(&mut self) -> Result<(), DumpError> {
        self.out.write_str(
            "#ifndef BPF_NO_PRESERVE_ACCESS_INDEX\n#pragma clang attribute pop\n#endif\n\n#endif /* __VMLINUX_H__ */\n",
        )?;
        Ok(())
    }

    /// Writes the definition of a type, after those that it needs; nothing when it was written or has none.
    pub fn dump(&mut self, id: TypeId) -> Result<(), DumpError> {
        self.queue.clear();
        self.levels = 0;
        self.order(id, false)?;
        for index in 0..self.queue.len() {
            self.levels = 0;
            self.emit(self.queue[index], TypeId::VOID)?;
        }
        Ok(())
    }

    fn state(&mut self, id: TypeId) -> Result<&mut State, Error> {
        let len = self.states.len() as u32;
        self.states.get_mut(id.0 as usize).ok_or(Error::NoType { id, len })
    }

    /// Counts a step into a type. Hostile types can nest without end or unfold into exponentially much text.
    fn enter(&mut self, id: TypeId) -> Result<(), Error> {
        self.levels += 1;
        if self.levels > MAX_LEVELS {
            return Err(Error::TooDeep { id });
        }
        self.steps =
            self.steps.checked_sub(1).ok_or(Error::TooBig { what: "the types unfold into too much C text" })?;
        Ok(())
    }

    fn leave(&mut self) {
        self.levels -= 1;
    }
}

fn chain_of(btf: &Btf) -> impl Iterator<Item = &Btf> {
    std::iter::successors(Some(btf), |it| it.base())
}

/// Marks what others refer to. Anonymous enumerations that nothing refers to are definitions of their own.
fn mark_referenced(btf: &Btf, states: &mut [State]) {
    let mut mark = |id: TypeId| {
        if let Some(state) = states.get_mut(id.0 as usize) {
            state.referenced = true;
        }
    };
    for (_, it) in btf.types() {
        if let Some(target) = it.target() {
            mark(target);
        }
        match it {
            Type::Array(array) => {
                mark(array.element());
                mark(array.index());
            }
            Type::Struct(body) | Type::Union(body) => body.members().for_each(|it| mark(it.type_id())),
            Type::FuncProto(proto) => proto.params().for_each(|it| mark(it.type_id)),
            Type::Datasec(section) => section.vars().for_each(|it| mark(it.type_id)),
            _ => {}
        }
    }
}

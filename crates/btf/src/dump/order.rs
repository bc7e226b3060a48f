//! The order of definitions.

use std::fmt::Write;

use super::{Dumper, Order};
use crate::types::Type;
use crate::{Error, TypeId};

impl<W: Write> Dumper<'_, W> {
    /// Queues what has to be defined before `id` can be used, and `id` itself. Tells whether the need is a strong one, which
    /// lets typedefs on the way know that they can be written.
    pub(super) fn order(&mut self, id: TypeId, through_pointer: bool) -> Result<bool, Error> {
        self.enter(id)?;
        let strong = self.order_in(id, through_pointer);
        self.leave();
        strong
    }

    fn order_in(&mut self, id: TypeId, through_pointer: bool) -> Result<bool, Error> {
        let order = self.state(id)?.order;
        if order == Order::Done {
            return Ok(true);
        }
        let found = self.btf.type_by_id(id)?;
        if order == Order::Walking {
            let is_declarable = matches!(found, Type::Struct(_) | Type::Union(_)) && !found.name().is_empty();
            if is_declarable && through_pointer {
                return Ok(false);
            }
            return Err(Error::BadType { id, what: "it contains itself" });
        }
        let strong = match found {
            Type::Ptr(it) => {
                let strong = self.order(it.type_id(), true)?;
                self.state(id)?.order = Order::Done;
                return Ok(strong);
            }
            Type::Array(it) => return self.order(it.element(), false),
            Type::Volatile(it) | Type::Const(it) | Type::Restrict(it) | Type::TypeTag(it) => {
                return self.order(it.type_id(), through_pointer);
            }
            Type::FuncProto(proto) => {
                let mut strong = self.order(proto.result(), through_pointer)?;
                for param in proto.params() {
                    strong |= self.order(param.type_id, through_pointer)?;
                }
                return Ok(strong);
            }
            Type::Struct(body) | Type::Union(body) => {
                if through_pointer && body.name_off() != 0 {
                    return Ok(false);
                }
                self.state(id)?.order = Order::Walking;
                for member in body.members() {
                    self.order(member.type_id(), false)?;
                }
                if body.name_off() != 0 {
                    self.queue.push(id);
                }
                true
            }
            Type::Enum(_) | Type::Enum64(_) | Type::Fwd(_) => {
                if !found.name().is_empty() || !self.state(id)?.referenced {
                    self.queue.push(id);
                }
                true
            }
            Type::Typedef(it) => {
                let strong = self.order(it.type_id(), through_pointer)?;
                if through_pointer && !strong {
                    return Ok(false);
                }
                self.queue.push(id);
                true
            }
            // Numbers need no definition, and functions, variables, sections and tags get none.
            _ => false,
        };
        self.state(id)?.order = Order::Done;
        Ok(strong)
    }
}

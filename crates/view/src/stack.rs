//! Stacks beside their ids.
//!
//! A program keeps a stack in a map of its own (`BPF_MAP_TYPE_STACK_TRACE`) and puts the number of its place there into an event
//! or a key, by custom as a member called `kern_stack_id`, `ustackid` and the like. Whoever knows the machine gives the frames.

use skep_insn::Endian;

use crate::Layout;
use crate::cell::read;
use crate::json::write_string;

/// Who knows stacks.
pub trait Stacks {
    /// The frames of a stack, innermost first; nothing when it is not known. `task` is the process that ran, when the record names it.
    fn frames(&self, id: u32, task: Option<u32>) -> Vec<String>;
}

/// Nobody knows any.
impl Stacks for () {
    fn frames(&self, _: u32, _: Option<u32>) -> Vec<String> {
        Vec::new()
    }
}

/// A member that is the id of a stack: offsets and sizes in bytes.
#[derive(Clone, Debug)]
pub(crate) struct StackId {
    /// As in [`crate::layout::Column::name`].
    pub(crate) name: String,
    /// As in [`crate::layout::Column::title`].
    pub(crate) title: String,
    pub(crate) place: (usize, u32),
    /// The member that tells the process.
    pub(crate) task: Option<(usize, u32)>,
}

impl StackId {
    /// Its frames in a record; helpers answer with a negative number where there was no stack.
    fn frames(&self, data: &[u8], endian: Endian, stacks: &dyn Stacks) -> Vec<String> {
        let number = |(off, size): (usize, u32)| read(data, off, size, endian);
        let Some(id) = number(self.place) else { return Vec::new() };
        if id > i32::MAX as u64 {
            return Vec::new();
        }
        stacks.frames(id as u32, self.task.and_then(number).map(|task| task as u32))
    }
}

/// Whether a member of this name is the id of a stack.
pub(crate) fn is_stack_id(name: &str) -> bool {
    ["stack_id", "stackid", "stack"].iter().any(|end| name.ends_with(end))
}

/// Writes the frames of a record's stacks below its row; their titles only where there are several stacks.
pub(crate) fn write_below(layout: &Layout, data: &[u8], stacks: &dyn Stacks, out: &mut Vec<u8>) {
    for stack in &layout.stacks {
        let frames = stack.frames(data, layout.endian, stacks);
        if layout.stacks.len() > 1 && !frames.is_empty() {
            out.extend_from_slice(b"    ");
            out.extend_from_slice(stack.title.as_bytes());
            out.push(b'\n');
        }
        for frame in frames {
            out.extend_from_slice(b"        ");
            crate::write_text(frame.as_bytes(), out);
            out.push(b'\n');
        }
    }
}

/// Writes `,"stacks":{"kern_stack_id":["f+1",..]}` into an open object, when there are any.
pub(crate) fn write_member(layouts: &[(&Layout, &[u8])], stacks: &dyn Stacks, out: &mut Vec<u8>) {
    let mut between: &[u8] = b",\"stacks\":{";
    for (layout, data) in layouts {
        for stack in &layout.stacks {
            let frames = stack.frames(data, layout.endian, stacks);
            if frames.is_empty() {
                continue;
            }
            out.extend_from_slice(between);
            write_string(stack.name.as_bytes(), out);
            out.extend_from_slice(b":[");
            for (index, frame) in frames.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(frame.as_bytes(), out);
            }
            out.push(b']');
            between = b",";
        }
    }
    if between == b"," {
        out.push(b'}');
    }
}

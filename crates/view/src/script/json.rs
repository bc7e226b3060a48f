//! A value as JSON.

use skep_script::Type;
use skep_script::typed::Struct;

use super::number::{read_int, write_decimal};
use super::text::{bit_field, buffer, write_float};
use super::{ScriptView, read, read_u64, slice};

/// Integers up to here are exact in a double, which is what most readers of JSON have.
const EXACT: u128 = 1 << 53;

impl ScriptView<'_> {
    /// Writes the value of type `ty` at the start of `bytes` as JSON: numbers that a double cannot hold as strings, enums and
    /// pointers as numbers, buffers as arrays of bytes, structs as objects, what has a name as that name.
    pub fn json(&self, ty: &Type, bytes: &[u8], out: &mut Vec<u8>) {
        match ty {
            Type::Void => out.extend_from_slice(b"null"),
            Type::Int { size, signed } => write_number(read_int(bytes, usize::from(*size), *signed), out),
            Type::Enum(names) => write_number(read_int(bytes, usize::from(names.size), names.signed), out),
            Type::Pointer { .. } => write_number(i128::from(read_u64(bytes, 0)), out),
            Type::Bool => out.extend_from_slice(if read::<1>(bytes, 0)[0] != 0 { b"true" } else { b"false" }),
            Type::Float { size } => {
                let value = match size {
                    4 => f64::from(f32::from_ne_bytes(read(bytes, 0))),
                    _ => f64::from_ne_bytes(read(bytes, 0)),
                };
                // JSON has no word for infinity, nor for what is no number.
                if value.is_finite() { write_float(*size, bytes, out) } else { out.extend_from_slice(b"null") }
            }
            Type::Buffer { size } => {
                out.push(b'[');
                for (index, byte) in buffer(*size, bytes).iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    write_decimal(i128::from(*byte), out);
                }
                out.push(b']');
            }
            Type::Array { elem, count } => {
                out.push(b'[');
                let size = elem.size() as usize;
                for index in 0..*count as usize {
                    if index > 0 {
                        out.push(b',');
                    }
                    self.json(elem, slice(bytes, index * size, size), out);
                }
                out.push(b']');
            }
            Type::Tuple(_) => {
                out.push(b'[');
                for (index, (off, ty)) in ty.fields().into_iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    self.json(ty, slice(bytes, off as usize, ty.size() as usize), out);
                }
                out.push(b']');
            }
            Type::Record(names) => {
                out.extend_from_slice(b"{");
                for (index, (off, ty)) in ty.fields().into_iter().enumerate() {
                    self.name(index, &names[index].0, out);
                    self.json(ty, slice(bytes, off as usize, ty.size() as usize), out);
                }
                out.extend_from_slice(b"}");
            }
            Type::Struct(it) => match self.plan.structs.get(it.id as usize) {
                Some(it) => self.json_struct(it, bytes, out),
                None => out.extend_from_slice(b"null"),
            },
            _ => {
                let mut text = Vec::new();
                self.text(ty, bytes, &mut text);
                crate::json::write_string(&text, out);
            }
        }
    }

    fn json_struct(&self, it: &Struct, bytes: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"{");
        for (index, field) in it.fields.iter().enumerate() {
            self.name(index, &field.name, out);
            let bytes = slice(bytes, field.off as usize, field.ty.size() as usize);
            match field.bits {
                Some(bits) => write_number(bit_field(&field.ty, bits, bytes), out),
                None => self.json(&field.ty, bytes, out),
            }
        }
        out.extend_from_slice(b"}");
    }

    fn name(&self, index: usize, name: &str, out: &mut Vec<u8>) {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        crate::json::write_string(name.as_bytes(), out);
        out.extend_from_slice(b": ");
    }
}

fn write_number(value: i128, out: &mut Vec<u8>) {
    if value.unsigned_abs() <= EXACT {
        write_decimal(value, out);
    } else {
        out.push(b'"');
        write_decimal(value, out);
        out.push(b'"');
    }
}

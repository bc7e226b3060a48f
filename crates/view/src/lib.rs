//! Records and maps to what people look at: text, tables, JSON.

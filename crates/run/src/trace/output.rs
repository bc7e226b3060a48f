//! Where a script's text goes: collected, and handed on in large pieces.

use std::io::{self, Write};

use skep_view::json_string;
use skep_view::script::guard;

use super::{Buffering, Format};
use crate::Error;
use skep_sys::io_text;

/// When text is handed on in the middle of a burst, in bytes.
const FLUSH_BYTES: usize = 64 << 10;

/// The output.
pub(super) struct Output<'a> {
    out: &'a mut dyn Write,
    /// What was not handed on yet.
    pub(super) text: Vec<u8>,
    pub(super) format: Format,
    buffering: Buffering,
    /// The text goes to a terminal.
    terminal: bool,
    /// Text is kept for whoever asks for it, and the form that is meant for everything else.
    kept: Option<Format>,
    /// Failure to write, kept until someone asks.
    broken: Option<io::Error>,
}

impl<'a> Output<'a> {
    pub(super) fn new(out: &'a mut dyn Write, format: Format, buffering: Buffering, terminal: bool) -> Output<'a> {
        let text = Vec::with_capacity(2 * FLUSH_BYTES);
        Output { out, text, format, buffering, terminal, kept: None, broken: None }
    }

    /// Whether text goes to a terminal as it is: JSON has its own way to write control characters.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal && self.kept.is_none() && self.format != Format::Json
    }

    /// Makes text of the machine since `start` safe, on a terminal.
    pub(super) fn guard(&mut self, start: usize) {
        if self.is_terminal() {
            guard(start, &mut self.text);
        }
    }

    /// A piece of text as it is, or as a line of JSON of this type.
    pub(super) fn piece(&mut self, kind: &str, start: usize) {
        if self.format == Format::Json {
            let piece = self.text.split_off(start);
            self.text.extend_from_slice(b"{\"type\": \"");
            self.text.extend_from_slice(kind.as_bytes());
            self.text.extend_from_slice(b"\", \"data\": ");
            json_string(&String::from_utf8_lossy(&piece), &mut self.text);
            self.text.extend_from_slice(b"}\n");
        }
    }

    /// After each record.
    pub(super) fn after_record(&mut self) {
        if self.text.len() >= FLUSH_BYTES || self.buffering == Buffering::None {
            self.flush();
        }
    }

    /// When there is nothing more to print at the moment.
    pub(super) fn idle(&mut self) {
        if self.buffering != Buffering::Full {
            self.flush();
        }
    }

    /// From here on text is kept, and as bare text.
    pub(super) fn keep(&mut self) {
        self.flush();
        self.kept = Some(std::mem::replace(&mut self.format, Format::Text));
    }

    /// What was kept; from here on text is handed on again.
    pub(super) fn take_kept(&mut self) -> Vec<u8> {
        if let Some(format) = self.kept.take() {
            self.format = format;
        }
        std::mem::take(&mut self.text)
    }

    /// Hands on what is there.
    pub(super) fn flush(&mut self) {
        if self.kept.is_some() {
            return;
        }
        if self.broken.is_none() && !self.text.is_empty() {
            self.broken = self.out.write_all(&self.text).and_then(|()| self.out.flush()).err();
        }
        self.text.clear();
    }

    /// Whether somebody still reads.
    ///
    /// # Errors
    ///
    /// When the output cannot be written for another reason than that nobody wants it.
    pub(super) fn is_open(&self) -> Result<bool, Error> {
        match &self.broken {
            None => Ok(true),
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Some(error) => Err(Error::new(format!("cannot write the output: {}", io_text(error)))),
        }
    }
}

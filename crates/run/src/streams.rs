//! What programs write to their streams, and what the kernel reports there about them (kernel 6.17).
//!
//! Nothing wakes a reader of a stream, so each is asked about once a second and once more after the end. Kernels without
//! streams are found out by the first question, which is then the last.

use std::collections::HashMap;

use skep_engine::{ProgId, ProgramStream, Session};

use crate::{Error, Notice};

/// The streams of a run's programs.
#[derive(Debug)]
pub(crate) struct Streams {
    /// Programs that are asked; empty when the kernel has no streams.
    programs: Vec<ProgId>,
    /// Lines that were not ended yet.
    begun: HashMap<(ProgId, ProgramStream), Vec<u8>>,
}

impl Streams {
    /// Those of the programs that were loaded.
    pub(crate) fn of(session: &dyn Session) -> Streams {
        let loaded = session.programs().iter().filter(|it| it.result.is_ok()).map(|it| it.program);
        Streams { programs: loaded.collect(), begun: HashMap::new() }
    }

    /// Tells every line that was ended since the last time.
    pub(crate) fn read(&mut self, session: &dyn Session, notice: &mut dyn FnMut(Notice<'_>)) {
        self.pass(&|program, stream| session.read_stream(program, stream), &mut telling(session, notice));
    }

    /// As [`Streams::read`], for the last time: tells lines without an end, too.
    pub(crate) fn finish(mut self, session: &dyn Session, notice: &mut dyn FnMut(Notice<'_>)) {
        self.read(session, notice);
        self.rest(&mut telling(session, notice));
    }

    fn pass(
        &mut self,
        ask: &dyn Fn(ProgId, ProgramStream) -> Result<Vec<u8>, Error>,
        tell: &mut dyn FnMut(ProgId, ProgramStream, &[u8]),
    ) {
        for at in 0..self.programs.len() {
            let program = self.programs[at];
            for stream in [ProgramStream::Stdout, ProgramStream::Stderr] {
                let Ok(text) = ask(program, stream) else {
                    self.programs.clear();
                    return;
                };
                if text.is_empty() {
                    continue;
                }
                let begun = self.begun.entry((program, stream)).or_default();
                begun.extend(text);
                let ended = begun.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
                for line in begun[..ended].split_inclusive(|&byte| byte == b'\n') {
                    tell(program, stream, &line[..line.len() - 1]);
                }
                begun.drain(..ended);
            }
        }
    }

    fn rest(self, tell: &mut dyn FnMut(ProgId, ProgramStream, &[u8])) {
        let mut rest: Vec<_> = self.begun.into_iter().filter(|(_, line)| !line.is_empty()).collect();
        rest.sort_by_key(|((program, stream), _)| (program.0, *stream as u32));
        for ((program, stream), line) in rest {
            tell(program, stream, &line);
        }
    }
}

/// Makes notices of lines, safe for a terminal.
fn telling<'s>(
    session: &'s dyn Session,
    notice: &'s mut dyn FnMut(Notice<'_>),
) -> impl FnMut(ProgId, ProgramStream, &[u8]) + 's {
    move |program, stream, line| {
        let mut safe = Vec::new();
        skep_view::write_text(line, &mut safe);
        let program = &session.spec().program(program).name;
        notice(Notice::Stream { program, stream, line: &String::from_utf8_lossy(&safe) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_whole_and_the_rest_at_the_end() {
        let mut streams = Streams { programs: vec![ProgId(0), ProgId(3)], begun: HashMap::new() };
        let mut told = Vec::new();
        let mut tell = |program: ProgId, stream, line: &[u8]| {
            told.push((program.0, stream, String::from_utf8_lossy(line).into_owned()));
        };
        let first = |program: ProgId, stream: ProgramStream| {
            Ok(match (program.0, stream) {
                (0, ProgramStream::Stderr) => b"one\n\ntw".to_vec(),
                (3, ProgramStream::Stdout) => b"no end".to_vec(),
                _ => Vec::new(),
            })
        };
        streams.pass(&first, &mut tell);
        let second = |program: ProgId, stream: ProgramStream| {
            Ok(if (program.0, stream) == (0, ProgramStream::Stderr) { b"o\n".to_vec() } else { Vec::new() })
        };
        streams.pass(&second, &mut tell);
        streams.rest(&mut tell);
        let line = |program, stream, text: &str| (program, stream, text.to_owned());
        let stderr = |text| line(0, ProgramStream::Stderr, text);
        assert_eq!(told, [stderr("one"), stderr(""), stderr("two"), line(3, ProgramStream::Stdout, "no end")]);
    }

    #[test]
    fn a_kernel_without_streams_is_asked_once() {
        let mut streams = Streams { programs: vec![ProgId(0), ProgId(1)], begun: HashMap::new() };
        let asked = std::cell::Cell::new(0);
        for _ in 0..2 {
            let refuse = |_, _| {
                asked.set(asked.get() + 1);
                Err(Error::new("no streams"))
            };
            streams.pass(&refuse, &mut |_, _, _| panic!("nothing to tell"));
        }
        assert_eq!(asked.get(), 1);
    }
}

//! What each record asks for.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use skep_engine::{Link, Session};
use skep_script::plan::{Action, Format as Pattern, Plan, Site, Value};
use skep_script::typed::FormatKind;
use skep_script::types::Clock;
use skep_script::{Diagnostic, Severity, Sources, Span, Type};
use skep_sys::signal::SignalPipe;
use skep_view::script::{Names as _, ScriptView, guard};

use super::maps::{self, Generation};
use super::names::MachineNames;
use super::output::Output;
use super::{Format, HelperErrors, Notice, Options, Terminals};
use crate::Error;

/// What a batch ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Go on.
    On,
    /// The script ended itself, with this code; what stood behind in the buffer came later.
    Exit(i32),
}

/// Which commands of `system` are run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Commands {
    /// All, even when the end was asked for: those of `END`.
    pub(super) always: bool,
    /// How many were left out.
    pub(super) left_out: u64,
}

/// Does what records ask for.
pub(super) struct Performer<'a, 'o> {
    pub(super) session: &'a dyn Session,
    pub(super) plan: &'a Plan,
    pub(super) sources: &'a Sources,
    pub(super) names: &'a MachineNames<'a>,
    pub(super) output: Output<'o>,
    pub(super) helper_errors: HelperErrors,
    terminals: Terminals,
    bpftrace: bool,
    pub(super) links: Vec<(Option<u64>, Box<dyn Link>)>,
    generations: Vec<Generation>,
    /// Actions whose values have addresses of processes: these are looked at while they still run.
    pids: Vec<Vec<u32>>,
    captures: Vec<(String, Option<std::fs::File>)>,
    /// Messages that were told: each once.
    told: HashSet<(u32, String)>,
    /// Commands of `system` that are still in the buffer when somebody asks for the end are left out: each takes milliseconds,
    /// and may itself make the next one.
    pub(super) commands: Commands,
    /// A map of this number was cleared with its printing already.
    cleared: Option<u32>,
}

impl<'a, 'o> Performer<'a, 'o> {
    pub(super) fn new(
        session: &'a dyn Session,
        (plan, sources): (&'a Plan, &'a Sources),
        names: &'a MachineNames<'a>,
        output: Output<'o>,
        options: &Options,
    ) -> Performer<'a, 'o> {
        Performer {
            session,
            plan,
            sources,
            names,
            output,
            helper_errors: options.helper_errors,
            terminals: options.terminals,
            bpftrace: options.bpftrace,
            links: Vec::new(),
            generations: vec![Generation::default(); plan.maps.len()],
            pids: plan.actions.iter().map(pid_offsets).collect(),
            captures: Vec::new(),
            told: HashSet::new(),
            commands: Commands::default(),
            cleared: None,
        }
    }

    /// Does what the records of a batch ask for, in order.
    ///
    /// # Errors
    ///
    /// When the output cannot be written any more, or a map not be read.
    pub(super) fn batch(
        &mut self,
        batch: &super::reader::Batch,
        notice: &mut dyn FnMut(Notice<'_>),
    ) -> Result<Flow, Error> {
        for record in batch.iter() {
            let flow = self.record(record, notice)?;
            if flow != Flow::On {
                return Ok(flow);
            }
            self.output.after_record();
        }
        Ok(Flow::On)
    }

    fn record(&mut self, record: &[u8], notice: &mut dyn FnMut(Notice<'_>)) -> Result<Flow, Error> {
        let plan = self.plan;
        let number = word(record, 0) as usize;
        let Some(action) = plan.actions.get(number) else { return Ok(Flow::On) };
        for off in &self.pids[number] {
            match word(record, *off as usize) {
                0 => {}
                pid => self.names.see(pid),
            }
        }
        match action {
            Action::Format { kind, format, args, span } => self.format(*kind, format, args, *span, record, notice),
            Action::PrintValue(value) => self.print_value(value, record),
            Action::PrintMap { map, top, div, cleared } => {
                let clears = *cleared && plan.maps[*map as usize].other.is_some();
                self.print_map(*map, (*top, *div), clears)?;
            }
            Action::PrintMapElement { map, key } => self.print_element(*map, key, record),
            Action::Clear(map) => {
                if self.cleared.take() != Some(*map) {
                    let index = *map as usize;
                    maps::clear(self.session, &plan.maps[index], &mut self.generations[index])?;
                }
            }
            Action::Zero(map) => {
                maps::zero(self.session, &plan.maps[*map as usize], &self.generations[*map as usize])?;
            }
            Action::Join { separator } => self.join(separator, record),
            Action::Time(format) => {
                let start = self.output.text.len();
                if let Some(format) = plan.time_formats.get(*format as usize) {
                    self.names.times().write_now(format, &mut self.output.text);
                }
                self.output.piece("time", start);
            }
            Action::Exit(value) => {
                let code = word(record, value.off as usize) as i32;
                return Ok(Flow::Exit(code));
            }
            Action::SkbOutput { path } => self.packet(path, record, notice),
            Action::Unwatch(value) => {
                let address = long(record, value.off as usize);
                self.links.retain(|(watched, _)| *watched != Some(address));
            }
            Action::RuntimeError { message, span, ends } => {
                // bpftrace calls both warnings.
                let severity = if *ends && !self.bpftrace { Severity::Error } else { Severity::Warning };
                self.runtime_error(severity, message, *span, notice);
            }
            Action::HelperError => {
                let site = word(record, 8);
                let retcode = long(record, 16) as i64;
                if let Some(found) = plan.sites.get(site as usize) {
                    self.helper_error(site, found, retcode, notice);
                }
            }
        }
        Ok(Flow::On)
    }

    fn view(&self) -> ScriptView<'a> {
        ScriptView::new(self.plan, self.names).for_terminal(self.output.is_terminal())
    }

    fn format(
        &mut self,
        kind: FormatKind,
        format: &Pattern,
        args: &[Value],
        span: Span,
        record: &[u8],
        notice: &mut dyn FnMut(Notice<'_>),
    ) {
        let view = self.view();
        let start = self.output.text.len();
        if kind == FormatKind::Printf {
            view.format(format, args, record, &mut self.output.text);
            self.output.piece("printf", start);
            return;
        }
        // Names of files and commands are no text for people.
        let shown = match kind {
            FormatKind::Cat | FormatKind::System => false,
            FormatKind::Errorf | FormatKind::Warnf if self.output.format != Format::Json => self.terminals.messages,
            _ => self.output.is_terminal(),
        };
        let mut text = Vec::new();
        view.for_terminal(shown).format(format, args, record, &mut text);
        match kind {
            FormatKind::Printf => {}
            FormatKind::Debugf => self.output.text.extend_from_slice(&text),
            FormatKind::Cat => self.cat(&text, notice),
            FormatKind::System => self.system(&text, notice),
            FormatKind::Errorf | FormatKind::Warnf => {
                let message = String::from_utf8_lossy(&text).trim_end_matches('\n').to_owned();
                let (word, severity) = match kind {
                    FormatKind::Errorf => ("errorf", Severity::Error),
                    _ => ("warnf", Severity::Warning),
                };
                match self.output.format {
                    Format::Json => self.json_message(word, &message, "", span),
                    _ => {
                        self.output.flush();
                        let diagnostic = Diagnostic { severity, ..Diagnostic::error(span, message) };
                        notice(Notice::Diagnostic(&diagnostic));
                    }
                }
            }
        }
    }

    fn print_value(&mut self, value: &Value, record: &[u8]) {
        let view = self.view();
        let bytes = record.get(value.off as usize..).unwrap_or_default();
        match self.output.format {
            Format::Json => {
                self.output.text.extend_from_slice(b"{\"type\": \"value\", \"data\": ");
                view.json(&value.ty, bytes, &mut self.output.text);
                self.output.text.extend_from_slice(b"}\n");
            }
            Format::Text | Format::Csv => {
                view.text(&value.ty, bytes, &mut self.output.text);
                self.output.text.push(b'\n');
            }
        }
    }

    fn print_map(&mut self, number: u32, shape: (u32, u32), clears: bool) -> Result<(), Error> {
        let plan = self.plan;
        let index = number as usize;
        let map = &plan.maps[index];
        let before = self.generations[index];
        if clears {
            // From here on programs count in the other map, so that this one holds still.
            self.generations[index].swap(self.session, map)?;
        }
        let mut entries = maps::read(self.session, map, &before)?;
        maps::write(self.view(), self.output.format, map, &mut entries, shape, &mut self.output.text);
        if clears {
            maps::clear_one(self.session, map, before.current(map))?;
            self.cleared = Some(number);
        }
        Ok(())
    }

    fn print_element(&mut self, number: u32, key: &Value, record: &[u8]) {
        let plan = self.plan;
        let map = &plan.maps[number as usize];
        let end = (key.off + key.ty.size()) as usize;
        // What is missing at the end of a record is zero.
        let mut bytes = record.get(key.off as usize..record.len().min(end)).unwrap_or_default().to_vec();
        bytes.resize(key.ty.size() as usize, 0);
        let Some(value) = maps::element(self.session, map, &self.generations[number as usize], &bytes) else { return };
        let view = self.view();
        match self.output.format {
            Format::Json => {
                self.output.text.extend_from_slice(b"{\"type\": \"value\", \"data\": ");
                view.total_json(&map.value, &value, 0, &mut self.output.text);
                self.output.text.extend_from_slice(b"}\n");
            }
            Format::Text | Format::Csv => view.total_text(&map.value, &value, 0, &mut self.output.text),
        }
    }

    /// Prints every map that holds something, and two empty lines before the first one.
    pub(super) fn print_all_maps(&mut self, always_lines: bool) -> Result<(), Error> {
        let mut first = true;
        let lines = |output: &mut Output<'_>| {
            if output.format == Format::Text {
                output.text.extend_from_slice(b"\n\n");
            }
        };
        if always_lines {
            lines(&mut self.output);
            first = false;
        }
        self.maps(&mut |output| {
            if std::mem::take(&mut first) {
                lines(output);
            }
        })
    }

    /// Prints every map that holds something.
    pub(super) fn print_maps(&mut self) -> Result<(), Error> {
        self.maps(&mut |_| {})
    }

    /// Prints every map that holds something, `before` each: in the order of the script, or as bpftrace by their names.
    fn maps(&mut self, before: &mut dyn FnMut(&mut Output<'_>)) -> Result<(), Error> {
        let plan = self.plan;
        let mut maps: Vec<_> = plan.maps.iter().enumerate().collect();
        if self.bpftrace {
            maps.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
        }
        for (index, map) in maps {
            let mut entries = maps::read(self.session, map, &self.generations[index])?;
            if entries.is_empty() {
                continue;
            }
            before(&mut self.output);
            maps::write(self.view(), self.output.format, map, &mut entries, (0, 0), &mut self.output.text);
            self.output.after_record();
        }
        Ok(())
    }

    fn join(&mut self, separator: &[u8], record: &[u8]) {
        let start = self.output.text.len();
        let count = word(record, 8) as usize;
        let mut rest = record.get(16..).unwrap_or_default();
        for index in 0..count {
            let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
            if index > 0 {
                self.output.text.extend_from_slice(separator);
            }
            self.output.text.extend_from_slice(&rest[..end]);
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        self.output.guard(start);
        if self.output.format != Format::Json {
            self.output.text.push(b'\n');
        }
        self.output.piece("join", start);
    }

    /// The beginning of a file.
    fn cat(&mut self, path: &[u8], notice: &mut dyn FnMut(Notice<'_>)) {
        let path = String::from_utf8_lossy(path).into_owned();
        let start = self.output.text.len();
        let most = self.plan.config.max_cat_bytes;
        let read = std::fs::File::open(&path).and_then(|file| file.take(most).read_to_end(&mut self.output.text));
        if let Err(error) = read {
            let text = skep_sys::strerror(&error);
            let mut message = format!("failed to open file '{path}': {text}").into_bytes();
            if self.terminals.messages {
                guard(0, &mut message);
            }
            notice(Notice::Failure { message: String::from_utf8_lossy(&message).into_owned() });
        }
        self.output.guard(start);
        self.output.piece("cat", start);
    }

    /// A command's output. It may write to the terminal itself, so everything before it is handed on first.
    fn system(&mut self, command: &[u8], notice: &mut dyn FnMut(Notice<'_>)) {
        if !self.commands.always && SignalPipe::is_end_asked() {
            self.commands.left_out += 1;
            return;
        }
        let command = String::from_utf8_lossy(command).into_owned();
        self.output.flush();
        let start = self.output.text.len();
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(&command).stdin(Stdio::null()).stderr(Stdio::inherit());
        skep_sys::front::join_job(&mut shell);
        match shell.output() {
            Ok(done) => self.output.text.extend_from_slice(&done.stdout),
            Err(error) => {
                let message = format!("cannot run `{command}`: {}", skep_sys::io_text(&error));
                notice(Notice::Warning { message, hint: None });
            }
        }
        self.output.piece("syscall", start);
    }

    /// Adds a packet to a capture file, which is made at the first one.
    fn packet(&mut self, path: &str, record: &[u8], notice: &mut dyn FnMut(Notice<'_>)) {
        let ns = self.names.times().wall(Clock::Boot, long(record, 8));
        let (whole, here) = (word(record, 16), word(record, 20));
        let data = record.get(24..).unwrap_or_default();
        let data = &data[..data.len().min(here as usize)];
        let index = match self.captures.iter().position(|(known, _)| known == path) {
            Some(index) => index,
            None => {
                let header = capture_header(link_type(data));
                let file = std::fs::File::create(path).and_then(|mut file| file.write_all(&header).map(|()| file));
                if let Err(error) = &file {
                    let message = format!("cannot write `{path}`: {}", skep_sys::io_text(error));
                    notice(Notice::Warning { message, hint: None });
                }
                self.captures.push((path.to_owned(), file.ok()));
                self.captures.len() - 1
            }
        };
        let Some(file) = &mut self.captures[index].1 else { return };
        let mut bytes = Vec::with_capacity(16 + data.len());
        for part in [(ns / 1_000_000_000) as u32, (ns % 1_000_000_000) as u32, data.len() as u32, whole] {
            bytes.extend_from_slice(&part.to_ne_bytes());
        }
        bytes.extend_from_slice(data);
        // A full disk shows in the file's length; the trace goes on.
        let _ = file.write_all(&bytes);
    }

    fn runtime_error(&mut self, severity: Severity, message: &str, span: Span, notice: &mut dyn FnMut(Notice<'_>)) {
        match self.output.format {
            Format::Json => self.json_message("runtime_error", message, "", span),
            _ => {
                self.output.flush();
                notice(Notice::Diagnostic(&Diagnostic { severity, ..Diagnostic::warning(span, message) }));
            }
        }
    }

    fn helper_error(&mut self, number: u32, site: &Site, retcode: i64, notice: &mut dyn FnMut(Notice<'_>)) {
        let told = match self.helper_errors {
            HelperErrors::Never => false,
            HelperErrors::Important => !site.quiet,
            HelperErrors::All => true,
        };
        let message = self.helper_message(site, retcode);
        if !told || !self.told.insert((number, message.clone())) {
            return;
        }
        if self.output.format == Format::Json {
            let more = format!("\"helper\": \"{}\", \"retcode\": {retcode}, ", site.helper);
            self.json_message("helper_error", &message, &more, site.span);
            return;
        }
        self.output.flush();
        let probe = self.plan.probe_names.get(site.probe as usize).map_or("", String::as_str);
        // Scripts look for bpftrace's words.
        let words = if self.bpftrace { "Additional Info - " } else { "" };
        let diagnostic = Diagnostic::warning(site.span, message)
            .with_hint(format!("{words}helper: {}, retcode: {retcode}, probe: {probe}", site.helper));
        notice(Notice::Diagnostic(&diagnostic));
    }

    /// What a helper's refusal means for the script.
    fn helper_message(&self, site: &Site, retcode: i64) -> String {
        /// `E2BIG`, `ENOENT` (include/uapi/asm-generic/errno-base.h).
        const E2BIG: i64 = 7;
        const ENOENT: i64 = 2;
        match (site.helper.as_str(), -retcode) {
            ("map_update_elem", E2BIG) => {
                "Map full; can't update element. Try increasing max_map_keys config or manually \
                setting the max entries in a map declaration e.g. `let @a = hash(5000)`"
                    .to_owned()
            }
            ("map_delete_elem", ENOENT) => "Can't delete map element because it does not exist.".to_owned(),
            ("map_lookup_elem", _) => "Can't lookup map element because it does not exist.".to_owned(),
            _ => {
                let mut text = Vec::new();
                self.names.word(skep_script::types::Word::Errno, retcode.unsigned_abs(), &mut text);
                String::from_utf8_lossy(&text).into_owned()
            }
        }
    }

    /// A number about the run itself, in JSON; in text it is told beside the output.
    pub(super) fn count(&mut self, kind: &str, name: &str, count: u64) {
        if self.output.format == Format::Json {
            let out = &mut self.output.text;
            let _ = writeln!(out, "{{\"type\": \"{kind}\", \"count\": {count}, \"data\": {{\"{name}\": {count}}}}}");
        }
    }

    fn json_message(&mut self, kind: &str, message: &str, more: &str, span: Span) {
        let source = self.sources.get(span.source);
        let at = self.sources.start(span);
        let out = &mut self.output.text;
        let _ = write!(out, "{{\"type\": \"{kind}\", \"msg\": ");
        skep_view::json_string(message, out);
        let _ = write!(out, ", {more}\"filename\": ");
        skep_view::json_string(&source.name, out);
        let _ = writeln!(out, ", \"line\": {}, \"col\": {}}}", at.line, at.col);
    }
}

/// Where in an action's record process ids stand that addresses belong to.
fn pid_offsets(action: &Action) -> Vec<u32> {
    let values: Vec<&Value> = match action {
        Action::Format { args, .. } => args.iter().collect(),
        Action::PrintValue(value) => vec![value],
        _ => return Vec::new(),
    };
    let mut found = Vec::new();
    for value in values {
        pids_in(&value.ty, value.off, &mut found);
    }
    found
}

/// `Usym` and `Stack` have their process at byte 8.
/// Whether anything that a script prints or keeps holds addresses of processes.
pub(super) fn has_user_addresses(plan: &Plan) -> bool {
    let of_map = |ty: &Type| {
        let mut found = Vec::new();
        pids_in(ty, 0, &mut found);
        !found.is_empty()
    };
    plan.actions.iter().any(|action| !pid_offsets(action).is_empty())
        || plan.maps.iter().any(|map| map.key.as_ref().is_some_and(of_map) || of_map(&map.value))
}

fn pids_in(ty: &Type, off: u32, found: &mut Vec<u32>) {
    match ty {
        Type::Usym => found.push(off + 8),
        Type::Stack(stack) if stack.user => found.push(off + 8),
        Type::Tuple(_) | Type::Record(_) => {
            for (at, ty) in ty.fields() {
                pids_in(ty, off + at, found);
            }
        }
        _ => {}
    }
}

/// What the packets of a file begin with, which its header says once, by the first of them (LINKTYPE_ETHERNET, LINKTYPE_RAW): the
/// bytes of a packet begin where the kernel is with it, at the frame or already at the IP header behind.
fn link_type(packet: &[u8]) -> u32 {
    const ETHERNET: u32 = 1;
    const RAW: u32 = 101;
    // IPv4, IPv6, ARP, and the tags of VLANs (include/uapi/linux/if_ether.h).
    let kind = packet.get(12..14).map_or(0, |kind| u16::from_be_bytes([kind[0], kind[1]]));
    let frame = matches!(kind, 0x0800 | 0x86dd | 0x0806 | 0x8100 | 0x88a8);
    let header = match packet.first().map(|byte| byte >> 4) {
        Some(4) => packet.first().is_some_and(|byte| byte & 15 >= 5),
        Some(6) => true,
        _ => false,
    };
    if header && !frame { RAW } else { ETHERNET }
}

/// The header of a capture with times in nanoseconds (draft-ietf-opsawg-pcap-04, section 4).
fn capture_header(link_type: u32) -> Vec<u8> {
    const MAGIC_NS: u32 = 0xa1b2_3c4d;
    const VERSION: u32 = if cfg!(target_endian = "big") { 2 << 16 | 4 } else { 4 << 16 | 2 };
    const MOST_BYTES: u32 = 65535;
    [MAGIC_NS, VERSION, 0, 0, MOST_BYTES, link_type].iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// The u32 at `off`; what is missing is zero.
fn word(record: &[u8], off: usize) -> u32 {
    record.get(off..off + 4).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// The u64 at `off`; what is missing is zero.
fn long(record: &[u8], off: usize) -> u64 {
    record.get(off..off + 8).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

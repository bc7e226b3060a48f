//! A loaded program.

use skep_engine::{ProgId, Session};

use crate::{AttachOptions, Error, Link, TestRun, TestRunOutput};

/// A program of a [`Loaded`](crate::Loaded) object.
#[derive(Clone, Copy)]
pub struct Program<'a> {
    session: &'a dyn Session,
    id: ProgId,
}

impl std::fmt::Debug for Program<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Program").field(&self.name()).finish()
    }
}

impl<'a> Program<'a> {
    pub(crate) fn new(session: &'a dyn Session, id: ProgId) -> Result<Program<'a>, Error> {
        match session.programs().iter().find(|loaded| loaded.program == id).map(|loaded| &loaded.result) {
            Some(Ok(_)) => Ok(Program { session, id }),
            Some(Err(error)) => Err(error.clone()),
            None => {
                let name = &session.spec().program(id).name;
                Err(Error::new(format!("program `{name}` was switched off before the object was loaded")))
            }
        }
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.session.spec().program(self.id).name
    }

    pub(crate) fn id(&self) -> ProgId {
        self.id
    }

    /// Attaches it where its section says.
    ///
    /// # Errors
    ///
    /// When the section leaves something open ([`ErrorKind::NeedsOption`](crate::ErrorKind)), the place does not exist
    /// ([`ErrorKind::Absent`](crate::ErrorKind)) or the kernel refuses.
    pub fn attach(&self) -> Result<Box<dyn Link>, Error> {
        self.attach_with(&AttachOptions::default())
    }

    /// Attaches it where its section and `options` say.
    ///
    /// # Errors
    ///
    /// As [`Program::attach`].
    pub fn attach_with(&self, options: &AttachOptions) -> Result<Box<dyn Link>, Error> {
        self.session.attach(self.id, options)
    }

    /// Runs it on given input (`BPF_PROG_TEST_RUN`, kernel 4.12 for packets).
    ///
    /// # Errors
    ///
    /// When the kernel has no test run for its type, or the input does not fit.
    pub fn test_run(&self, input: &TestRun<'_>) -> Result<TestRunOutput, Error> {
        self.session.test_run(self.id, input)
    }
}

//! What a verb reads, prints and ends with.

use std::io::{self, ErrorKind, Read, Write};

/// The streams and the environment of one command. Tests put their own in.
pub(crate) struct Io<'a> {
    pub(crate) out: &'a mut dyn Write,
    pub(crate) err: &'a mut dyn Write,
    pub(crate) input: &'a mut dyn Read,
    pub(crate) env: &'a dyn Fn(&str) -> Option<String>,
}

/// An exit code, or why there is none.
pub(crate) type Done = Result<u8, Failure>;

/// Why a verb did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A sentence for a person.
    Message(String),
    /// The command line is wrong: a sentence, followed by a hint at the help.
    Usage(String),
    /// Not a failure: the help was asked for.
    Help(String),
    /// The output cannot be written.
    Output(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

impl Failure {
    /// A failure with Consul's words in front of the error.
    pub(crate) fn because<E: std::fmt::Display>(prefix: &str) -> impl FnOnce(E) -> Failure {
        move |error| Failure::Message(format!("{prefix}: {error}"))
    }
}

impl Io<'_> {
    /// Prints what is left to say and gives the exit code.
    pub(crate) fn finish(&mut self, verb: &str, result: Done) -> u8 {
        let result = match result {
            Err(Failure::Help(text)) => self.out.write_all(text.as_bytes()).map(|()| 0),
            Err(Failure::Output(error)) => Err(error),
            Err(Failure::Message(text)) => return self.fail(text),
            Err(Failure::Usage(text)) => {
                return self.fail(format!("{text}\nRun 'agent {verb} -help' for its flags."));
            }
            Ok(code) => Ok(code),
        };
        match result.and_then(|code| self.out.flush().map(|()| code)) {
            Ok(code) => code,
            // The reader has seen enough: `agent kv get -recurse | head`.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => 0,
            Err(error) => self.fail(format!("cannot write the output: {error}")),
        }
    }

    /// Prints a sentence to the error stream; the exit code of a failure.
    pub(crate) fn fail(&mut self, text: impl AsRef<str>) -> u8 {
        // With no place left to complain to, the exit code must do.
        let _ = writeln!(self.err, "{}", text.as_ref());
        1
    }
}

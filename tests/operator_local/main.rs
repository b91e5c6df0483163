//! `operator local` with real agents: the manual sequence from a file, and everything that may come in between.

mod faults;
mod local;
mod recovery;
mod refusals;
mod saved;
mod sequence;

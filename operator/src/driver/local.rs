//! Agents as child processes of this machine, each on a loopback address of its own.

pub mod address;

//! The driver against OPC UA servers nobody here wrote: async-opcua's in process, asyncua as a process.

mod machine;
mod peer;
mod support;
#[path = "../../../../examples/testbed/src/machine/mod.rs"]
mod testbed;

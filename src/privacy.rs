//! What the operating system is asked so that the memory of the daemon, with its secrets in it, stays its own.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tracing::warn;

/// No core dump, neither as a file nor through a program of the system, and no reading of the memory by other
/// processes of the same user.
pub fn keep_memory_private() {
    // core(5): a dump that is piped to a program ignores the limit, so both are needed.
    let limit = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let dumpable = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if let Err(error) = limit.and(dumpable) {
        warn!(%error, "core dumps can not be switched off; one would hold the secrets");
    }
}

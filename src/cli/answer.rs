//! What a person or a script sees of a gateway's answer, and the exit status that goes with it.

use super::failed;
use super::terminal::say;
use crate::doors::local::Refused;
use serde_json::{Value as Json, json};
use std::process::ExitCode;

/// Exit status 1: there is an answer, and it is no.
pub(super) fn show(json: bool, asked: anyhow::Result<Json>, shown: impl FnOnce(&Json) -> String) -> ExitCode {
    let error = match asked {
        Ok(answer) => {
            say(&if json { format!("{answer}\n") } else { shown(&answer) });
            return ExitCode::SUCCESS;
        }
        Err(error) => error,
    };
    let refused = error.downcast_ref::<Refused>();
    if let Some(refused) = refused.filter(|_| json) {
        say(&format!("{}\n", json!({ "error": { "code": refused.code, "message": refused.message } })));
    }
    let answered = refused.is_some();
    let status = failed(&error);
    if answered { ExitCode::FAILURE } else { status }
}

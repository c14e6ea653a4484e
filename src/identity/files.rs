//! A certificate and its key in two files of the configuration, read anew for each connection: whoever renews them
//! only writes them.

use super::Certificates;
use crate::config::ClientFiles;
use crate::model::identity::{ClientCertificate, Failed};
use driver::Answer;
use serde_json::{Value as Json, json};

/// The only pair there is.
const SLOT: u32 = 0;

/// Two files.
#[derive(Clone, Debug)]
pub struct Files(pub ClientFiles);

impl Certificates for Files {
    fn current(&self) -> Answer<'_, Result<ClientCertificate, String>> {
        Box::pin(async { self.0.load(SLOT) })
    }

    fn tried(&self, _slot: u32, outcome: Result<(), Failed>) {
        // There is no other to turn to; the link shows the reason.
        if let Err(Failed { certificate_to_blame: true, reason, .. }) = outcome {
            tracing::debug!(file = %self.0.certificate.display(), reason, "the client certificate is not taken");
        }
    }

    fn better(&self) -> Answer<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn status(&self) -> Json {
        json!({ "file": self.0.certificate })
    }
}

//! The client certificate: what is kept, and asking for another one now.

use super::Operation;

pub(super) const SHOW: Operation =
    Operation { name: "certificate", run: |gateway, _| Box::pin(async move { gateway.certificate() }) };

pub(super) const RENEW: Operation =
    Operation { name: "certificate_renew", run: |gateway, _| gateway.renew_certificate() };
